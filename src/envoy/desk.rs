//! Where everything in progress lies: the exchanges of the streams, the calls, and who waits for
//! which record. One per root context, so that an old configuration and a new one do not mix.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;

use super::host::{self, SharedData};
use super::metrics::Metrics;
use crate::callout::{Conclusion, Job, Reply, Response};
use crate::config::Config;
use crate::dedup::{Claim, Listener, RecordKey, Records};
use crate::exchange::{Answer, Effect, Event, Exchange, Surroundings};
use crate::outcome::Outcome;

/// What a message on a root's queue begins with.
const JOB_WAITS: u8 = 0;
const SETTLED: u8 = 1;

/// The desk of one root context and its streams.
pub(super) struct Desk {
    pub(super) config: Rc<Config>,
    pub(super) metrics: Metrics,
    /// Missing where there were no random numbers: then nothing can be claimed, nor sealed.
    record: Option<(Records<SharedData>, Listener)>,
    root: u32,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    streams: HashMap<u32, OnStream>,
    waiting: HashMap<RecordKey, Vec<u32>>,
    jobs: VecDeque<(Claimed, Job)>,
    calls: HashMap<u32, InCall>,
    body_seen: bool,
}

struct OnStream {
    exchange: Exchange,
    claimed: Option<Claimed>,
}

/// A record as one claim holds it.
#[derive(Clone, Copy)]
struct Claimed {
    key: RecordKey,
    deadline: u32,
}

struct InCall {
    claimed: Claimed,
    job: Job,
    began_ms: u64,
}

impl Desk {
    pub(super) fn new(
        root: u32,
        config: Rc<Config>,
        metrics: Metrics,
        record: Option<(Records<SharedData>, Listener)>,
    ) -> Self {
        Self { config, metrics, record, root, inner: RefCell::default() }
    }

    // ---- From a stream, which is acted on.

    /// Takes in a request that has begun, and the first thing to do about it.
    pub(super) fn begin(&self, stream: u32, exchange: Exchange, effect: Effect) {
        self.carry_out(stream, OnStream { exchange, claimed: None }, effect);
    }

    /// A piece of body has arrived, so the host does hand bodies over.
    pub(super) fn body_seen(&self) {
        self.inner.borrow_mut().body_seen = true;
    }

    /// Tells a stream's exchange what happened, and does what follows.
    pub(super) fn tell(&self, stream: u32, event: Event<'_>) {
        let taken = self.inner.borrow_mut().streams.remove(&stream);
        let Some(mut on_stream) = taken else { return };
        let effect = on_stream.exchange.handle(event, &around());
        self.carry_out(stream, on_stream, effect);
    }

    /// A stream has ended, answered or not. Nothing may be sent to it any more.
    pub(super) fn forget(&self, stream: u32) {
        let taken = self.inner.borrow_mut().streams.remove(&stream);
        let Some(mut on_stream) = taken else { return };
        self.stop_waiting(stream, &on_stream);
        on_stream.exchange.handle(Event::Gone, &around());
        self.report(&on_stream.exchange, Outcome::ClientGone, "the client left before its answer");
    }

    // ---- From the root, which is acted on again when these return.

    /// Works off the root's queue: jobs of its streams, settlements from other workers.
    pub(super) fn work_off_queue(&self) {
        let Some((_, queue)) = &self.record else { return };
        while let Some(message) = host::receive(*queue) {
            match message.split_first() {
                Some((&JOB_WAITS, _)) => self.make_calls(),
                Some((&SETTLED, settlement)) => {
                    if let Some((key, reply)) = settlement.split_first_chunk::<16>() {
                        let reply = Reply::decode(reply);
                        self.tell_all(RecordKey::from_bytes(*key), Event::Settled(&reply));
                    }
                }
                _ => {}
            }
        }
    }

    /// A call has ended: with a response, if it has headers.
    pub(super) fn call_ended(&self, token: u32, has_headers: bool) {
        let taken = self.inner.borrow_mut().calls.remove(&token);
        let Some(InCall { claimed, job, began_ms }) = taken else { return };
        let elapsed_ms = host::now_ms().saturating_sub(began_ms);
        let conclusion = if has_headers {
            let headers = host::call_response_headers();
            let body = host::call_response_body(crate::callout::MAX_RESPONSE_BYTES.saturating_add(1));
            let framed = host::header(&headers, "content-length").is_some()
                || host::header(&headers, "transfer-encoding").is_some();
            let status = host::header(&headers, ":status").unwrap_or_default();
            job.conclude(Some(Response { status, framed, body: &body }), elapsed_ms)
        } else {
            job.conclude(None, elapsed_ms)
        };
        self.metrics.called(&job.endpoint, job.event, elapsed_ms);
        self.conclude(claimed, &job, conclusion);
    }

    /// Lets time pass for every stream.
    pub(super) fn tick(&self) {
        let streams: Vec<u32> = self.inner.borrow().streams.keys().copied().collect();
        for stream in streams {
            if host::act_on(stream) {
                self.tell(stream, Event::Tick);
            } else {
                self.strike(stream);
            }
        }
        host::act_on(self.root);
    }

    // ---- Within.

    fn carry_out(&self, stream: u32, mut on_stream: OnStream, mut effect: Effect) {
        loop {
            let claim = match effect {
                Effect::Wait => {
                    if !on_stream.exchange.is_over() {
                        self.inner.borrow_mut().streams.insert(stream, on_stream);
                    }
                    return;
                }
                Effect::Answer(answer) => {
                    self.stop_waiting(stream, &on_stream);
                    self.send(&on_stream.exchange, &answer);
                    return;
                }
                Effect::Call(job) => {
                    if let Some(claimed) = on_stream.claimed {
                        self.hand_over(stream, on_stream, claimed, job);
                    }
                    return;
                }
                Effect::Claim { name, within_ms } => {
                    let claim = self.claim(stream, &mut on_stream, &name, within_ms);
                    effect = on_stream.exchange.handle(Event::Claimed(&claim), &around());
                    continue;
                }
                Effect::Look => self.look(&on_stream),
            };
            effect = on_stream.exchange.handle(Event::Looked(&claim), &around());
        }
    }

    fn claim(&self, stream: u32, on_stream: &mut OnStream, name: &[u8], within_ms: u64) -> Claim {
        let Some((records, queue)) = &self.record else { return Claim::Unavailable };
        let key = records.key(name);
        let now_ms = host::now_ms();
        let deadline = seconds(now_ms.saturating_add(within_ms)).saturating_add(1);
        let claim = records.claim(key, seconds(now_ms), deadline, *queue);
        if matches!(claim, Claim::First | Claim::InFlight | Claim::InFlightUnheard) {
            on_stream.claimed = Some(Claimed { key, deadline });
            self.inner.borrow_mut().waiting.entry(key).or_default().push(stream);
            if claim != Claim::First {
                self.metrics.waiting(1);
            }
        }
        claim
    }

    fn look(&self, on_stream: &OnStream) -> Claim {
        match (&self.record, on_stream.claimed) {
            (Some((records, _)), Some(claimed)) => records.look(claimed.key, seconds(host::now_ms())),
            _ => Claim::Unavailable,
        }
    }

    /// Lays a job down for the root and wakes it.
    fn hand_over(&self, stream: u32, on_stream: OnStream, claimed: Claimed, job: Job) {
        {
            let mut inner = self.inner.borrow_mut();
            inner.streams.insert(stream, on_stream);
            inner.jobs.push_back((claimed, job));
        }
        let woken = self.record.as_ref().is_some_and(|(_, queue)| host::send(*queue, &[JOB_WAITS]));
        if !woken {
            let last = self.inner.borrow_mut().jobs.pop_back();
            if let Some((claimed, job)) = last {
                self.conclude(claimed, &job, job.conclude(None, 0));
                host::act_on(stream);
            }
        }
    }

    fn make_calls(&self) {
        loop {
            let next = self.inner.borrow_mut().jobs.pop_front();
            let Some((claimed, job)) = next else { return };
            let began_ms = host::now_ms();
            match host::call(&job) {
                Some(token) => {
                    self.inner.borrow_mut().calls.insert(token, InCall { claimed, job, began_ms });
                }
                None => {
                    self.metrics.called(&job.endpoint, job.event, 0);
                    self.conclude(claimed, &job, job.conclude(None, 0));
                }
            }
        }
    }

    /// Puts a conclusion on record and tells everyone who waits for it, on whatever worker.
    fn conclude(&self, claimed: Claimed, job: &Job, mut conclusion: Conclusion) {
        let Claimed { key, deadline } = claimed;
        let Some((records, queue)) = &self.record else { return };
        let now = seconds(host::now_ms());
        let reply = conclusion.reply.encode();
        let listeners = if conclusion.is_kept(job.event) {
            records.settle(key, deadline, &reply, now)
        } else {
            records.release(key, deadline, now)
        };
        match listeners {
            // The record is another claim's by now. Who waited for this one ends by its deadline.
            Ok(None) => return,
            Ok(Some(listeners)) => {
                let message = [&[SETTLED], key.as_bytes().as_slice(), &reply].concat();
                for listener in listeners.into_iter().filter(|listener| listener != queue) {
                    host::send(listener, &message);
                }
            }
            // An answer that its copies would not be given is not given to the first either.
            Err(_) => conclusion = Conclusion { reply: Reply::Failed, outcome: Outcome::RecordUnavailable },
        }
        self.tell_all(key, Event::Concluded(&conclusion));
    }

    /// Tells every stream of this worker that waits for a record. Who goes on waiting stays listed.
    fn tell_all(&self, key: RecordKey, event: Event<'_>) {
        let mut streams = self.inner.borrow_mut().waiting.remove(&key).unwrap_or_default();
        for stream in &streams {
            if host::act_on(*stream) {
                self.tell(*stream, event);
            } else {
                self.strike(*stream);
            }
        }
        host::act_on(self.root);
        let mut inner = self.inner.borrow_mut();
        streams.retain(|stream| inner.streams.contains_key(stream));
        if !streams.is_empty() {
            inner.waiting.entry(key).or_default().extend(streams);
        }
    }

    /// Drops a stream that the host no longer knows: there is nothing left to say or count it at.
    fn strike(&self, stream: u32) {
        let taken = self.inner.borrow_mut().streams.remove(&stream);
        if let Some(on_stream) = taken {
            self.stop_waiting(stream, &on_stream);
        }
    }

    fn stop_waiting(&self, stream: u32, on_stream: &OnStream) {
        let Some(Claimed { key, .. }) = on_stream.claimed else { return };
        let mut inner = self.inner.borrow_mut();
        if let Some(streams) = inner.waiting.get_mut(&key) {
            streams.retain(|waiting| *waiting != stream);
            if streams.is_empty() {
                inner.waiting.remove(&key);
            }
        }
        if on_stream.exchange.is_copy() {
            self.metrics.waiting(-1);
        }
    }

    fn send(&self, exchange: &Exchange, answer: &Answer) {
        if answer.outcome == Outcome::NoBody && !self.inner.borrow().body_seen {
            log::error!(
                "no request body has reached this worker's filter yet; if every POST ends as no_body, \
                 set allow_on_headers_stop_iteration: true in its PluginConfig (Envoy 1.35 or later)"
            );
        }
        self.report(exchange, answer.outcome, &answer.reason);
        host::answer(answer);
    }

    /// Says how a callback ended, in metrics, filter state and log.
    fn report(&self, exchange: &Exchange, outcome: Outcome, reason: &str) {
        let facts = exchange.facts();
        self.metrics.ended(exchange.endpoint(), facts.event, outcome, facts.errcode);
        let errcode = facts.errcode.map(|code| code.to_string());
        for (name, value) in [
            ("wecom_outcome", Some(outcome.name())),
            ("wecom_event", Some(facts.event.name())),
            ("wecom_req_id", facts.req_id.as_deref()),
            ("wecom_device_sn", facts.device_sn.as_deref()),
            ("wecom_errcode", errcode.as_deref()),
        ] {
            if let Some(value) = value {
                host::set_filter_state(name, value);
            }
        }
        let level = outcome.level();
        log::log!(
            level,
            "{} endpoint={} event={} req_id={} errcode={} {reason}",
            outcome.name(),
            exchange.endpoint().name,
            facts.event.name(),
            facts.req_id.as_deref().unwrap_or("-"),
            errcode.as_deref().unwrap_or("-"),
        );
    }
}

fn around() -> Surroundings {
    Surroundings { now_ms: host::now_ms(), random: host::random }
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}
