//! The host's side of the model.

use std::cell::RefCell;
use std::fmt;
use std::rc::Weak;

use log::Level;
use wecom_callback_filter::callout::{NotCalled, UpstreamRequest};
use wecom_callback_filter::dedup::{Listener, Store};
use wecom_callback_filter::exchange::Ending;
use wecom_callback_filter::host::{CallId, Count, Host, StreamId};
use wecom_callback_filter::report::Report;

use crate::{Call, Finished, State, WorkerId, within};

/// One worker's host.
pub struct ModelHost {
    /// The process owns its workers, and they their hosts.
    pub(crate) process: Weak<RefCell<State>>,
    pub(crate) worker: WorkerId,
}

impl ModelHost {
    fn called<T>(&self, name: &'static str, with: impl FnOnce(&mut State) -> T) -> T {
        let process = self.process.upgrade().expect("a worker ends with its process");
        let around = process.borrow().around_host;
        within(around, || {
            let mut state = process.borrow_mut();
            *state.host_calls.entry(name).or_default() += 1;
            with(&mut state)
        })
    }
}

impl State {
    fn copied(&mut self, name: &'static str, bytes: usize) {
        *self.host_bytes.entry(name).or_default() += bytes;
    }
}

/// Uses up one of so many failures.
fn fails(left: &mut u32) -> bool {
    let fails = *left > 0;
    *left = left.saturating_sub(1);
    fails
}

impl Host for ModelHost {
    fn now_ms(&self) -> u64 {
        self.called("now_ms", |state| state.now_ms)
    }

    fn random<const N: usize>(&self) -> Option<[u8; N]> {
        self.called("random", |state| {
            let fails = fails(&mut state.troubles.random);
            state.random_failures += usize::from(fails);
            (!fails).then(|| std::array::from_fn(|_| state.random.u8(..)))
        })
    }

    fn call(&self, request: &UpstreamRequest<'_>) -> Result<CallId, NotCalled> {
        self.called("call", |state| {
            assert!(state.in_root, "a call from a request's own callback ends with the request");
            for name in [":method", ":path", ":authority"] {
                assert!(request.headers.iter().any(|(known, _)| *known == name), "no {name}");
            }
            state.copied("call", request.body.len());
            assert!(request.timeout_ms > 0, "a call without a timeout may never end");
            if fails(&mut state.troubles.calls) {
                return Err(NotCalled::NoHost);
            }
            let id = CallId(state.next_call);
            state.next_call += 4; // as Envoy: unique, not consecutive
            *state.calls_made.entry(request.cluster.to_owned()).or_default() += 1;
            let call = Call {
                worker: self.worker,
                cluster: request.cluster.to_owned(),
                headers: request.headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
                body: request.body.to_vec(),
                timeout_ms: request.timeout_ms,
                began_ms: state.now_ms,
            };
            state.calls.insert(id, call);
            Ok(id)
        })
    }

    fn finish(&self, stream: StreamId, report: &Report, ending: &Ending) -> bool {
        let ended = self.called("finish", |state| {
            let silent = state.silent.contains(&stream);
            let request = state.streams.get(&stream).filter(|request| !request.lost && !silent);
            let Some(request) = request else {
                assert!(!silent, "{stream:?} is finished twice: {report}");
                return None;
            };
            assert_eq!(request.worker, self.worker, "another worker's request");
            let gone = *ending == Ending::Gone;
            assert_eq!(gone, state.in_log, "an answer from on_log ends the process; nothing else is gone");
            let handle = std::rc::Rc::clone(&request.stream);
            state.silent.insert(stream);
            let at_ms = state.now_ms;
            let answer = match ending {
                Ending::Answer(answer) => {
                    state.copied("finish", answer.body.len());
                    Some(answer.clone())
                }
                Ending::Reset | Ending::Gone => None,
            };
            state.finished.push(Finished { stream, report: report.clone(), answer, at_ms });
            let at_once = !gone && state.ends_at_once;
            if at_once {
                state.streams.remove(&stream);
            }
            Some(at_once.then_some(handle))
        });
        match ended {
            None => false,
            Some(handle) => {
                if let Some(stream) = handle {
                    stream.ended();
                }
                true
            }
        }
    }

    fn send(&self, to: Listener, message: &[u8]) -> bool {
        self.called("send", |state| {
            state.copied("send", message.len());
            if fails(&mut state.troubles.sends) {
                return false;
            }
            if fails(&mut state.troubles.lost_messages) {
                return true;
            }
            match state.queues.get_mut(&to) {
                Some(queue) => {
                    queue.push_back(message.to_vec());
                    true
                }
                None => false,
            }
        })
    }

    fn receive(&self, from: Listener) -> Option<Vec<u8>> {
        self.called("receive", |state| {
            state.may_receive = state.may_receive.checked_sub(1)?;
            let message = state.queues.get_mut(&from)?.pop_front()?;
            state.copied("receive", message.len());
            Some(message)
        })
    }

    fn tick(&self, on: bool) {
        self.called("tick", |state| {
            let known = state.ticking.insert(self.worker, on).unwrap_or(false);
            assert_ne!(known, on, "asked for what is so already");
        });
    }

    fn retired(&self) {
        self.called("retired", |state| {
            assert!(state.in_root && state.retiring.remove(&self.worker), "nobody waits for it to go");
            state.workers[self.worker] = None;
            state.retired.insert(self.worker);
        });
    }

    fn count(&self, count: Count<'_>) {
        self.called("count", |state| {
            let (what, by) = match count {
                Count::Ended { endpoint, event, outcome, errcode } => {
                    assert!(outcome.applies_to(event), "{outcome:?} of {event:?}");
                    if let Some(errcode) = errcode {
                        *state.counts.entry(format!("{} errcode {errcode}", endpoint.name())).or_default() += 1;
                    }
                    (format!("{} {} {}", endpoint.name(), event.name(), outcome.name()), 1)
                }
                Count::Called { endpoint, event, elapsed_ms } => {
                    let ms = format!("ms of {} {}", endpoint.name(), event.name());
                    *state.counts.entry(ms).or_default() += i64::try_from(elapsed_ms).unwrap_or(i64::MAX);
                    (format!("{} {} called", endpoint.name(), event.name()), 1)
                }
                Count::ClientLeft { endpoint } => (format!("{} clients left", endpoint.name()), 1),
                Count::CopyWaits => ("copies waiting".to_owned(), 1),
                Count::CopyWaitsNoMore => ("copies waiting".to_owned(), -1),
                Count::Exchanged { what, .. } => (format!("redis {}", what.name()), 1),
                Count::DecidedLocally { endpoint } => (format!("{} decided locally", endpoint.name()), 1),
                Count::RepeatsWaiting(change) => ("repeats waiting".to_owned(), change),
                Count::SettlementDropped => ("settlements dropped".to_owned(), 1),
            };
            *state.counts.entry(what).or_default() += by;
        });
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        let line = line.to_string(); // the filter's own work
        self.called("log", |state| {
            state.copied("log", line.len());
            state.lines.push((level, line));
        });
    }
}

impl Store for ModelHost {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        self.called("get", |state| {
            let Some((value, number)) = state.values.get(key).cloned() else { return (None, None) };
            state.copied("get", value.len());
            (Some(value), Some(number))
        })
    }

    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        self.called("set", |state| {
            state.copied("set", value.len());
            let current = state.values.get(key).map(|(_, number)| *number);
            if fails(&mut state.troubles.contended) || (current.is_some() && current != number) {
                return false;
            }
            state.writes += 1;
            let number = state.writes;
            state.values.insert(key.to_owned(), (value.to_vec(), number));
            true
        })
    }
}
