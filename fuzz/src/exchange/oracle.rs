//! What must hold of everything that the workers do, told from what was sent, what the upstreams
//! answered, and the clock alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use model::{Call, Finished, Process, WorkerId};
use serde_json::json;
use wecom_callback_filter::callout::Received;
use wecom_callback_filter::config::Config;
use wecom_callback_filter::dedup::{record, table};
use wecom_callback_filter::exchange::{ANSWER_WITHIN_MS, Answer, CALL_GRACE_MS, FIRST_BYTE_MS};
use wecom_callback_filter::host::{CallId, StreamId};
use wecom_callback_filter::outcome::Outcome;
use wecom_callback_filter::report::Report;
use wecom_callback_filter::wecom::callback::EventType;

use super::request::{Fate, Identity, PATHS, Sent};
use super::responses::{RESPONSES, Relayed, Says, Scripted};
use super::step::{Step, trouble};
use crate::sealing::{CREDENTIALS, RECEIVE_IDS, SECRET, opened_reply};

/// How many requests a worker opens at a time.
const BATCH: usize = 32;

const START_MS: u64 = 1_658_332_800_000;
/// The last of them has a newer configuration.
const WORKERS: usize = 3;

/// A request, and what must become of it.
struct Request {
    sent: Rc<Sent>,
    worker: WorkerId,
    began_ms: u64,
    body_began: bool,
    /// As far as that is decided.
    fate: Option<Fate>,
    /// Whether its whole body was there.
    complete: bool,
    /// When it was opened, and authentic.
    claimed: Option<Moment>,
    called: bool,
    finished: bool,
    /// How it ended.
    outcome: Option<Outcome>,
}

/// A complete request, and the status that its body's shape gets.
type Arrived = (StreamId, Result<(), u32>);

/// A moment, by the clock and by the order of things.
#[derive(Debug, Clone, Copy)]
struct Moment {
    order: u64,
    ms: u64,
    /// The latest that the clock had ever shown, in seconds.
    latest_s: u64,
}

impl Moment {
    fn seconds(self) -> u64 {
        self.ms / 1000
    }
}

/// One life of a record that had a call: from its claim to its expiry or release.
struct Life {
    event: EventType,
    claimed: Moment,
    /// By what second it has expired at the soonest, if it is not settled.
    unsettled_until_s: u64,
    /// When it was settled, and by what second it has expired at the soonest, then.
    settled: Option<(u64, u64)>,
    /// When it was given up.
    released: Option<u64>,
    verdict: Option<u32>,
    relayed: Relayed,
}

impl Life {
    /// Whether it was over when a later one was claimed.
    fn is_over_by(&self, later: Moment) -> bool {
        let until_s = match self.settled {
            Some((order, until_s)) if order < later.order => until_s,
            _ => self.unsettled_until_s,
        };
        self.released.is_some_and(|order| order < later.order) || until_s <= later.latest_s
    }
}

/// A process of the filter's workers, and all that is known of it.
pub(super) struct Oracle {
    process: Process,
    /// The configuration of every worker that was ever started.
    configs: Vec<Rc<Config>>,
    /// The workers that run.
    workers: [WorkerId; WORKERS],
    /// Whether one has died.
    killed: bool,
    /// Workers that do nothing but wait.
    crowd: Vec<WorkerId>,
    requests: BTreeMap<StreamId, Request>,
    streams_of: BTreeMap<String, StreamId>,
    /// Those that each worker has not opened.
    arrived: BTreeMap<WorkerId, VecDeque<Arrived>>,
    lives: BTreeMap<Identity, Vec<Life>>,
    identities: BTreeSet<Identity>,
    calls: BTreeMap<CallId, (StreamId, usize)>,
    calls_known: usize,
    /// The choices behind the requests so far.
    sent: BTreeSet<u8>,
    order: u64,
    latest_s: u64,
    /// Whether the clock was ever set back: to a worker, at least as much time has passed as it shows.
    set_back: bool,
    store_failed: bool,
    /// How many answers could not be sealed.
    unsealed: usize,
}

impl Oracle {
    pub(super) fn new([choices, ttl, newer_ttl, capacity]: [u8; 4]) -> Self {
        let process = Process::new(START_MS);
        if choices & 4 != 0 {
            process.end_at_once();
        }
        let configs: Vec<_> = [ttl, ttl, newer_ttl].map(|ttl| configuration(choices, ttl, capacity)).into();
        let workers = [0, 1, 2].map(|place| process.start_worker(Config::clone(&configs[place])));
        Self {
            process,
            configs,
            workers,
            killed: false,
            crowd: Vec::new(),
            requests: BTreeMap::new(),
            streams_of: BTreeMap::new(),
            arrived: BTreeMap::new(),
            lives: BTreeMap::new(),
            identities: BTreeSet::new(),
            calls: BTreeMap::new(),
            calls_known: 0,
            sent: BTreeSet::new(),
            order: 0,
            latest_s: START_MS / 1000,
            set_back: false,
            store_failed: false,
            unsealed: 0,
        }
    }

    /// One thing happens.
    pub(super) fn step(&mut self, step: Step) {
        let place = |worker: u8| usize::from(worker) % WORKERS;
        match step {
            Step::Arrive { worker, what, flaw } => {
                if let Some(id) = self.arrives(self.workers[place(worker)], what, flaw) {
                    self.body(id, worker);
                }
            }
            Step::ArriveWithoutBody { worker, what, flaw } => {
                self.arrives(self.workers[place(worker)], what, flaw);
            }
            Step::Complete { stream, body } => {
                if let Some(id) = self.open_stream(stream) {
                    self.body(id, body);
                }
            }
            Step::Buffer { stream, blocks } => {
                if let Some(id) = self.open_stream(stream) {
                    self.buffered(id, usize::from(blocks) * 32);
                }
            }
            Step::Leave { stream } => {
                if let Some(id) = self.open_stream(stream) {
                    self.process.leave(id);
                }
            }
            Step::Tick { workers } if workers % 4 == 3 => self.workers.into_iter().for_each(|w| self.tick(w)),
            Step::Tick { workers } => self.tick(self.workers[usize::from(workers % 4)]),
            Step::Pass { unit, count } => {
                self.clock(self.process.now_ms() + u64::from(count) * [1, 10, 50, 200][usize::from(unit % 4)]);
            }
            Step::Leap { direction, seconds } => {
                let (now_ms, by_ms) = (self.process.now_ms(), u64::from(seconds) * 1000);
                self.clock(match direction % 4 {
                    0 => now_ms + by_ms,
                    1 => now_ms + 16 * by_ms,
                    2 => now_ms - by_ms / 16,
                    _ => now_ms - by_ms,
                });
            }
            Step::ReadQueue { worker, all } => {
                self.read_queue(self.workers[place(worker)], if all % 2 == 0 { 1 } else { usize::MAX });
            }
            Step::EndCall { call, response } => {
                let calls: Vec<_> = self.process.calls().into_iter().map(|(id, _)| id).collect();
                if let Some(call) = chosen(&calls, call) {
                    self.call_ends(call, &RESPONSES[usize::from(response) % RESPONSES.len()]);
                }
            }
            Step::Trouble { kind, extent } => self.trouble(kind, extent),
            Step::Kill { worker } => {
                let worker = &mut self.workers[place(worker)];
                self.process.kill_worker(*worker);
                let config = Rc::clone(&self.configs[*worker]);
                *worker = self.process.start_worker(Config::clone(&config));
                self.configs.push(config);
                self.killed = true;
            }
            Step::ReadAllQueues => self.read_all_queues(),
        }
        self.watch();
    }

    /// All troubles end, and nobody may be left without an answer.
    pub(super) fn end(&mut self) {
        self.process.trouble(|troubles| *troubles = model::Troubles::default());
        for (_, id) in self.process.open() {
            self.body(id, 0);
        }
        self.nobody_waits_longer();
        for (call, _) in self.process.calls() {
            self.call_ends(call, &RESPONSES[1]);
        }
        // Whatever has happened: a copy that comes now is no second call while the record lives.
        for what in std::mem::take(&mut self.sent) {
            if let Some(id) = self.arrives(self.workers[0], what, 0) {
                self.body(id, 0);
            }
        }
        self.nobody_waits_longer();
        for (_, line) in self.process.log() {
            assert!(!line.contains(SECRET), "{line}");
        }
    }

    fn nobody_waits_longer(&mut self) {
        self.read_all_queues();
        self.everyone().into_iter().for_each(|worker| self.tick(worker)); // wake-ups may have been lost
        self.watch();
        let open = self.requests.values().filter(|request| !request.finished && request.claimed.is_some());
        let last = open.map(|request| request.began_ms + ANSWER_WITHIN_MS).max();
        self.clock(self.process.now_ms().max(last.unwrap_or(0)));
        for worker in self.everyone() {
            self.tick(worker);
        }
        self.watch();
        let open = self.process.open();
        assert!(open.iter().all(|(_, id)| self.process.is_lost(*id)), "somebody waits for ever: {open:?}");
        let waiting = self.process.counted("copies waiting");
        assert!(waiting == 0 || self.killed && waiting > 0, "{waiting} copies are counted as waiting");
    }

    fn everyone(&self) -> Vec<WorkerId> {
        self.workers.iter().chain(&self.crowd).copied().collect()
    }

    fn read_all_queues(&mut self) {
        self.everyone().into_iter().for_each(|worker| self.read_queue(worker, usize::MAX));
    }

    fn read_queue(&mut self, worker: WorkerId, at_most: usize) {
        if self.process.waiting_messages(worker) > 0 {
            self.opens(worker, BATCH);
            self.process.read_queue(worker, at_most);
        }
    }

    fn now(&mut self) -> Moment {
        self.order += 1;
        Moment { order: self.order, ms: self.process.now_ms(), latest_s: self.latest_s }
    }

    fn clock(&mut self, ms: u64) {
        self.set_back |= ms < self.process.now_ms();
        self.process.set_clock(ms);
        self.latest_s = self.latest_s.max(ms / 1000);
    }

    fn open_stream(&self, choice: u8) -> Option<StreamId> {
        let open: Vec<_> = self.process.open().into_iter().map(|(_, id)| id).collect();
        chosen(&open, choice)
    }

    // ---- What happens.

    fn arrives(&mut self, worker: WorkerId, what: u8, flaw: u8) -> Option<StreamId> {
        let now = self.now();
        let sent = Rc::new(Sent::new(what, flaw, now.seconds(), self.streams_of.len()));
        // Known before it arrives, since it may be answered at once.
        let fate = sent.fate_of_head(now.seconds(), &self.configs[0]);
        let answered_at_once = fate.is_some();
        let arrived = self.process.arrive(worker, sent.path.as_bytes(), &sent.head());
        assert_eq!(arrived.is_none(), sent.passes(), "one of ours passes, or another's is taken");
        let id = arrived?;
        self.sent.insert(what);
        self.streams_of.insert(sent.request_id.clone(), id);
        let request = Request {
            sent,
            worker,
            began_ms: now.ms,
            body_began: false,
            fate,
            complete: false,
            claimed: None,
            called: false,
            finished: false,
            outcome: None,
        };
        self.requests.insert(id, request);
        self.watch();
        assert_eq!(self.requests[&id].finished, answered_at_once);
        Some(id)
    }

    /// The whole body is there, if it has not been yet.
    fn body(&mut self, id: StreamId, choice: u8) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if self.process.is_lost(id) || request.finished {
            return;
        }
        let (body, shape) = request.sent.body(choice);
        let worker = request.worker;
        if !std::mem::replace(&mut request.complete, true) {
            request.body_began = true;
            self.arrived.entry(worker).or_default().push_back((id, shape));
        }
        self.woken_or_opened(worker, |process| process.complete(id, &body));
        self.watch();
    }

    /// Something happens that wakes a worker. Where it cannot be woken, it opens everything at once; says
    /// whether it did.
    fn woken_or_opened(&mut self, worker: WorkerId, happens: impl FnOnce(&Process)) -> bool {
        let could_fail = self.process.troubles().sends;
        happens(&self.process);
        let failed = self.process.troubles().sends < could_fail;
        if failed {
            self.opens(worker, usize::MAX);
        }
        failed
    }

    /// A worker opens what has arrived: what becomes of it is decided by the time that it is now.
    fn opens(&mut self, worker: WorkerId, at_most: usize) {
        let now = self.now();
        let arrived = self.arrived.entry(worker).or_default();
        for (id, shape) in arrived.drain(..arrived.len().min(at_most)).collect::<Vec<_>>() {
            let request = self.requests.get_mut(&id).expect("known");
            if request.finished {
                continue;
            }
            let fate = match shape {
                Ok(()) => request.sent.fate(now.seconds(), &self.configs[0]),
                Err(status) => Fate::Refused(status),
            };
            let too_late = request.began_ms + ANSWER_WITHIN_MS <= now.ms;
            request.fate = Some(match fate {
                Fate::Claimed if too_late => Fate::Failed,
                Fate::Claimed => {
                    request.claimed = Some(now);
                    self.identities.insert(request.sent.identity.clone());
                    Fate::Claimed
                }
                fate => fate,
            });
        }
    }

    fn buffered(&mut self, id: StreamId, size: usize) {
        let max = self.configs[0].max_body_bytes();
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !request.complete && !self.process.is_lost(id) {
            request.body_began = true;
            if size > max {
                request.fate = Some(Fate::Refused(413));
            }
        }
        self.process.buffered(id, size);
    }

    fn call_ends(&mut self, call: CallId, scripted: &Scripted) {
        let now = self.now();
        let (id, life) = self.calls[&call];
        let request = &self.requests[&id];
        let (request_worker, identity) = (request.worker, request.sent.identity.clone());
        let strict = request.sent.endpoint == 1;
        let (verdict, relayed) = match (request.sent.event, scripted.verdict) {
            (EventType::Bind, Says::Code(code)) => (Some(code), Relayed::Failed),
            (EventType::Bind, Says::Nothing) => ((!strict).then_some(0), Relayed::Failed),
            (EventType::Bind, Says::Unreadable) => (None, Relayed::Failed),
            _ => (None, scripted.relayed),
        };
        let kept = request.sent.event == EventType::Bind
            || relayed != Relayed::Failed
            || request.sent.is_command && scripted.unknown;
        let until_s = now.seconds() + u64::from(self.configs[request.worker].dedup().ttl_seconds());
        let undisturbed = self.process.troubles().contended == 0;
        let latest_s = self.latest_s;
        let lives = self.lives.get_mut(&request.sent.identity).expect("known");
        // Nobody wrote in between, it has not expired, and no older one can stand before it.
        let sure = undisturbed && lives.len() == 1 && lives[life].unsettled_until_s > latest_s;
        let own = &mut lives[life];
        (own.verdict, own.relayed) = (verdict, relayed);
        if kept {
            own.settled = Some((now.order, if sure { until_s } else { until_s.min(own.unsettled_until_s) }));
        } else {
            lives.iter_mut().for_each(|life| life.released = Some(now.order));
        }
        // Then who came first gets just that.
        let told = sure && !request.finished && self.process.is_open(id) && !self.process.is_lost(id);

        let response = scripted.response.map(|response| Received::new(response.headers(), response.body.to_vec()));
        let worker = request_worker;
        let concluded = self.woken_or_opened(worker, |process| process.tell_end(call, response))
            || self.process.waiting_messages(worker) > 0;
        self.read_queue(worker, usize::MAX);
        if !concluded {
            // Its wake-up was lost: it is concluded later, nobody knows when.
            self.lives.get_mut(&identity).expect("known")[life].settled = None;
        }
        let finished = self.process.take_finished();
        if told && concluded {
            let own = finished.iter().find(|finished| finished.stream == id).expect("the first is not told");
            if own.report.outcome != Outcome::SealFailed && self.requests[&id].sent.event == EventType::Bind {
                assert_eq!(own.report.facts.errcode, Some(verdict.unwrap_or(7)));
            }
        }
        self.finished(finished);
    }

    fn tick(&mut self, worker: WorkerId) {
        if self.process.is_ticking(worker) {
            self.opens(worker, BATCH);
        }
        self.watch();
        let now_ms = self.process.now_ms();
        let due = self.requests.iter().filter(|(id, request)| {
            let until_ms = match request.claimed {
                Some(claimed) => {
                    let upstream = self.configs[worker].endpoints()[request.sent.endpoint].upstream(request.sent.event);
                    let latest_ms = request.began_ms + ANSWER_WITHIN_MS;
                    Some((claimed.ms + upstream.timeout_ms() + CALL_GRACE_MS).min(latest_ms))
                }
                None => (!request.body_began).then_some(request.began_ms + FIRST_BYTE_MS),
            };
            request.worker == worker
                && !request.finished
                && !self.process.is_lost(**id)
                && until_ms.is_some_and(|until_ms| until_ms <= now_ms)
        });
        let due: Vec<_> = due.map(|(id, _)| *id).collect();
        self.process.tick(worker);
        self.watch();
        // Those of a worker that has died are answered by the host.
        let left = due.iter().filter(|id| !self.requests[id].finished && self.process.is_open(**id));
        assert_eq!(left.count(), 0, "its time is over, and no answer");
    }

    fn trouble(&mut self, kind: u8, extent: u8) {
        let few = u32::from(extent % 4);
        match kind % trouble::COUNT {
            trouble::NO_RANDOM => self.process.trouble(|troubles| troubles.random = few),
            trouble::CONTENDED => {
                self.process.trouble(|troubles| troubles.contended = u32::from(extent % 80));
                self.store_failed = true;
            }
            trouble::NOT_SENT => self.process.trouble(|troubles| troubles.sends = few),
            trouble::NO_CALL => self.process.trouble(|troubles| troubles.calls = few),
            trouble::LOST_STREAM => {
                if let Some(id) = self.open_stream(extent) {
                    self.process.lose(id);
                }
            }
            trouble::CROWD => self.crowd(extent),
            trouble::LOST_MESSAGE => self.process.trouble(|troubles| troubles.lost_messages = few),
            _ => {
                let calls: Vec<_> = self.process.calls().into_iter().map(|(id, _)| id).collect();
                if let Some(call) = chosen(&calls, extent) {
                    self.process.cancel_call(call);
                }
            }
        }
    }

    /// A copy of one request on more workers than its record has room for.
    fn crowd(&mut self, choice: u8) {
        let Some(id) = self.open_stream(choice) else { return };
        let Some(what) = self.requests.get(&id).map(|request| request.sent.what) else { return };
        if self.crowd.is_empty() {
            let config = Rc::clone(&self.configs[0]);
            self.crowd =
                (0..=table::MAX_LISTENERS).map(|_| self.process.start_worker(Config::clone(&config))).collect();
            self.configs.extend(self.crowd.iter().map(|_| Rc::clone(&config)));
        }
        for worker in self.crowd.clone() {
            if let Some(id) = self.arrives(worker, what, 0) {
                self.body(id, 0);
            }
        }
    }

    // ---- What must hold.

    /// Looks at everything that the workers have done since this was last asked.
    fn watch(&mut self) {
        if self.process.calls_made() > self.calls_known {
            for (id, call) in self.process.calls() {
                if !self.calls.contains_key(&id) {
                    self.called(id, &call);
                    self.calls_known += 1;
                }
            }
            assert_eq!(self.process.calls_made(), self.calls_known, "a call that nobody saw");
        }
        self.finished(self.process.take_finished());
    }

    fn called(&mut self, id: CallId, call: &Call) {
        let stream = call.header("x-request-id").and_then(|id| self.streams_of.get(id)).expect("a call for nobody");
        let request = self.requests.get_mut(stream).expect("known");
        let claimed = request.claimed.expect("a call for a request that is not authentic");
        assert!(!std::mem::replace(&mut request.called, true), "called twice");
        let told = request.outcome.is_none_or(|o| !matches!(o, Outcome::Duplicate | Outcome::DuplicateInFlight));
        assert!(told, "a call for a request that was answered as another's copy");
        let sent = &request.sent;
        let config = &self.configs[request.worker];
        let upstream = config.endpoints()[sent.endpoint].upstream(sent.event);
        assert_eq!((call.body.as_slice(), call.cluster.as_str()), (sent.message.as_slice(), upstream.cluster()));
        let left_ms = (request.began_ms + ANSWER_WITHIN_MS).saturating_sub(call.began_ms);
        assert!(left_ms > 0, "a call for a callback whose time is over");
        let most_ms = upstream.timeout_ms().min(left_ms);
        assert!(call.timeout_ms == most_ms || self.set_back && call.timeout_ms < most_ms, "{} ms", call.timeout_ms);
        for (name, value) in &call.headers {
            let fit = (1..=128).contains(&value.len()) && value.bytes().all(|b| (b' '..=b'~').contains(&b));
            assert!(fit && !value.contains(SECRET), "{name}: {value:?}");
        }
        let ttl_seconds = u64::from(config.dedup().ttl_seconds());
        let deadline_s = (claimed.ms + upstream.timeout_ms()) / 1000 + 1;
        let life = Life {
            event: sent.event,
            claimed,
            unsettled_until_s: (claimed.seconds() + ttl_seconds).max(deadline_s + 1),
            settled: None,
            released: None,
            verdict: None,
            relayed: Relayed::Failed,
        };
        let lives = self.lives.entry(sent.identity.clone()).or_default();
        for other in lives.iter() {
            let (earlier, later) = if other.claimed.order < claimed.order { (other, &life) } else { (&life, other) };
            assert!(earlier.is_over_by(later.claimed), "a second call for one record");
        }
        lives.push(life);
        self.calls.insert(id, (*stream, lives.len() - 1));
    }

    fn finished(&mut self, finished: Vec<Finished>) {
        for Finished { stream, report, answer, at_ms } in finished {
            let request = self.requests.get_mut(&stream).expect("known");
            assert!(!std::mem::replace(&mut request.finished, true), "finished twice");
            request.outcome = Some(report.outcome);
            if !request.body_began
                && request.claimed.is_none()
                && report.outcome == Outcome::NoBody
                && (self.set_back || request.began_ms + FIRST_BYTE_MS <= at_ms)
            {
                request.fate = Some(Fate::Refused(503));
            }
            assert!(!report.to_string().contains(SECRET), "{report}");
            match answer {
                Some(answer) => self.answered(stream, &report, &answer),
                None if request.fate == Some(Fate::Reset) => assert_eq!(report.outcome, Outcome::GrpcRequest),
                None => assert_eq!(report.outcome, Outcome::ClientGone),
            }
        }
    }

    fn answered(&mut self, stream: StreamId, report: &Report, answer: &Answer) {
        let request = &self.requests[&stream];
        let sent = &request.sent;
        assert!(!answer.body.is_empty(), "an empty body");
        if report.outcome == Outcome::SealFailed {
            self.unsealed += 1;
            assert!(self.unsealed <= self.process.random_failures(), "cannot be sealed, with random numbers");
            is_rejection(sent, report.outcome.name(), answer, 503);
            return;
        }
        if request.claimed.is_none() {
            match &request.fate {
                Some(Fate::Echoed) => {
                    assert_eq!((answer.status, answer.body.as_slice()), (200, sent.message.as_slice()));
                }
                Some(Fate::Refused(status)) => is_rejection(sent, report.outcome.name(), answer, *status),
                Some(Fate::BadMessage) => is_rejection(sent, "bad_message", answer, 403),
                Some(Fate::Failed) => {
                    assert_eq!(report.outcome, Outcome::Deadline);
                    match sent.event.refusal() {
                        Some(refusal) => {
                            let (plaintext, _) = opened_reply(&answer.body, &sent.credential).expect("sealed");
                            assert_eq!((answer.status, plaintext.as_slice()), (200, refusal.as_bytes()));
                        }
                        None => is_rejection(sent, "deadline", answer, 503),
                    }
                }
                fate => panic!("{fate:?}, but {answer:?}"),
            }
            return;
        }
        match report.outcome {
            Outcome::RecordFull => {
                let least = self.configs[0].dedup().capacity().min(64) as usize;
                assert!(self.identities.len() > least, "full of fewer than {least}");
            }
            Outcome::RecordUnavailable => assert!(self.store_failed, "nothing is wrong with the store"),
            _ => {}
        }

        let none = Vec::new();
        let lives = self.lives.get(&sent.identity).unwrap_or(&none).iter();
        let sealed = opened_reply(&answer.body, &sent.credential).map(|(plaintext, receive_id)| {
            assert_eq!((answer.status, receive_id.as_str()), (200, sent.receive_id));
            plaintext
        });
        assert_eq!(report.facts.event, sent.event);
        if sent.event == EventType::Bind {
            let plaintext = sealed.unwrap_or_else(|| panic!("a bind is answered unsealed: {answer:?}"));
            let read: serde_json::Value = serde_json::from_slice(&plaintext).expect("JSON");
            let code = read["errcode"].as_u64().and_then(|code| u32::try_from(code).ok()).expect("a code");
            assert_eq!(report.facts.errcode, Some(code));
            // Whom a call was made for is told by that call, and by no other life of the record.
            let own = |life: &&Life| !request.called || life.claimed.order == request.claimed.map_or(0, |c| c.order);
            let mut said = lives.filter(own).filter(|life| life.event == EventType::Bind);
            assert!(code == 7 || said.any(|life| life.verdict == Some(code)), "nobody said {code}");
            return;
        }
        let mut said = lives.filter(|life| life.event != EventType::Bind).map(|life| (life.event, life.relayed));
        match (sealed, sent.event.refusal()) {
            (Some(plaintext), refusal) => {
                let own = refusal.is_some_and(|refusal| refusal.as_bytes() == plaintext);
                assert!(
                    own || said.any(|(_, relayed)| matches!(relayed, Relayed::Object(object) if object == plaintext)),
                    "nobody said so"
                );
            }
            (None, _) if answer.status == 200 => {
                assert_eq!(answer.body, b"success");
                // What the record keeps of an object goes by the type that was decided, whatever its copies are.
                let unsaid = |(decided, relayed): (EventType, Relayed)| match relayed {
                    Relayed::Taken => false,
                    Relayed::Object(object) => object.len() < record::MAX_REPLY_LEN || decided.refusal().is_some(),
                    Relayed::Failed => true,
                };
                assert!(!said.all(unsaid), "nobody took it");
            }
            (None, refusal) => {
                assert!(refusal.is_none(), "it has a refusal of its own");
                is_rejection(sent, report.outcome.name(), answer, 503);
            }
        }
    }
}

/// A rejection says its word, and no more than that.
fn is_rejection(sent: &Sent, word: &str, answer: &Answer, status: u32) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body, json!({ "error": word, "request_id": sent.request_id }));
}

fn chosen<T: Copy>(all: &[T], choice: u8) -> Option<T> {
    usize::from(choice).checked_rem(all.len()).and_then(|index| all.get(index)).copied()
}

/// Two endpoints: one that takes silence for approval, and one that does not.
fn configuration(choices: u8, ttl: u8, capacity: u8) -> Rc<Config> {
    thread_local! {
        static KNOWN: RefCell<BTreeMap<[u64; 4], Rc<Config>>> = const { RefCell::new(BTreeMap::new()) };
    }
    let freshness = if choices & 1 == 0 { 600 } else { 0 };
    let ttl = match freshness {
        0 => [1, 5, 60, 1261][usize::from(ttl % 4)],
        _ => [1201, 1261][usize::from(ttl % 2)],
    };
    let capacity = [1, 2, 4, 64, 200][usize::from(capacity % 5)];
    let form = u64::from(choices >> 1 & 1);
    let known = KNOWN.with_borrow(|known| known.get(&[freshness, ttl, capacity, form]).cloned());
    known.unwrap_or_else(|| {
        let credentials = CREDENTIALS.map(|(token, key)| json!({ "token": token, "encoding_aes_key": key }));
        let endpoint = |path, decision| {
            json!({
                "path": path,
                "receive_ids": RECEIVE_IDS,
                "verify_receive_ids": ["wwverify"],
                "credentials": credentials,
                "decision": decision,
                "events": { "cluster": "backend", "timeout_ms": 500 },
            })
        };
        let strict = json!({ "cluster": "decision", "timeout_ms": 2800, "empty_is_success": false });
        let config = json!({
            "endpoints": [endpoint(PATHS[0], json!({ "cluster": "decision" })), endpoint(PATHS[1], strict)],
            "max_body_bytes": 4096,
            "freshness_seconds": freshness,
            "dedup": { "ttl_seconds": ttl, "capacity": capacity },
            "reply_timestamp": if form == 0 { "string" } else { "number" },
        });
        let config = Rc::new(Config::parse(config.to_string().as_bytes(), &|_| None).expect("a configuration"));
        KNOWN.with_borrow_mut(|known| known.insert([freshness, ttl, capacity, form], Rc::clone(&config)));
        config
    })
}
