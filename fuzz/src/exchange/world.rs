//! A model of the adapter: workers with a desk each, their queues, one shared store, a clock, and
//! everything that can fail; and beside it what is known of each record, to hold answers against.
//!
//! It does what `envoy/desk.rs` of the filter does, step by step, with the host's part scripted.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use serde_json::json;
use wecom_callback_filter::callout::{Conclusion, Job, Reply};
use wecom_callback_filter::config::Config;
use wecom_callback_filter::dedup::{Claim, HASH_KEY_LEN, Listener, RecordKey, Records, Store, table};
use wecom_callback_filter::exchange::{Answer, Effect, Event, Exchange, FIRST_BYTE_MS, Surroundings};
use wecom_callback_filter::outcome::Outcome;
use wecom_callback_filter::wecom::callback::EventType;
use wecom_callback_filter::wecom::envelope::TimestampForm;
use wecom_callback_filter::wecom::message::SealingRandom;

use super::letter::{Fate, Identity, Letter, PATHS};
use super::script::{Relayed, SCRIPT, Says, Scripted};
use crate::open::opened_reply;
use crate::{CREDENTIALS, RECEIVE_IDS, SECRET};

const START_MS: u64 = 1_658_332_800_000;
const WORKERS: usize = 3;
/// The most that the first copy waits beyond its call's timeout, in milliseconds.
const GRACE_MS: u64 = 250;

thread_local! {
    /// How often the source of randomness fails from now on. It is a plain function, without a self.
    static RANDOM_FAILS: Cell<u8> = const { Cell::new(0) };
    /// Whether it has failed since this was last asked.
    static RANDOM_FAILED: Cell<bool> = const { Cell::new(false) };
}

fn random() -> Option<SealingRandom> {
    let left = RANDOM_FAILS.get();
    RANDOM_FAILS.set(left.saturating_sub(1));
    RANDOM_FAILED.set(RANDOM_FAILED.get() || left > 0);
    (left == 0).then_some([3; 24])
}

// ---- The host's part.

/// The store that all workers share: a number per write, compared on the next.
#[derive(Debug, Default)]
struct Shared {
    values: HashMap<String, (Vec<u8>, u32)>,
    writes: u32,
    /// So many writes find that another worker wrote just before.
    contended: u8,
}

#[derive(Debug, Clone, Default)]
struct SharedData(Rc<RefCell<Shared>>);

impl Store for SharedData {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        let shared = self.0.borrow();
        shared.values.get(key).map_or((None, None), |(value, number)| (Some(value.clone()), Some(*number)))
    }

    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        let mut shared = self.0.borrow_mut();
        if shared.contended > 0 {
            shared.contended -= 1;
            return false;
        }
        if shared.values.get(key).is_some_and(|(_, current)| Some(*current) != number) {
            return false;
        }
        shared.writes += 1;
        let number = shared.writes;
        shared.values.insert(key.to_owned(), (value.to_vec(), number));
        true
    }
}

/// One root context of one worker: the desk, with the queue it listens to.
struct Worker {
    records: Records<SharedData>,
    ttl_seconds: u32,
    queue: Listener,
    messages: VecDeque<Message>,
    streams: BTreeMap<u32, Stream>,
    waiting: BTreeMap<RecordKey, Vec<u32>>,
    jobs: VecDeque<InCall>,
    calls: Vec<InCall>,
}

enum Message {
    JobWaits,
    Settled(RecordKey, Vec<u8>),
}

struct Stream {
    exchange: Exchange,
    letter: Rc<Letter>,
    began_ms: u64,
    body_began: bool,
    /// What must become of it, as far as that is decided.
    fate: Option<Fate>,
    name: Option<Vec<u8>>,
    key: Option<RecordKey>,
    deadline: u32,
    /// By when it must be answered, once it waits.
    until_ms: Option<u64>,
    called: bool,
    /// The host does not know it any more, and has not said so.
    lost: bool,
}

struct InCall {
    key: RecordKey,
    /// What its claim was made with, and is known by.
    deadline: u32,
    name: Vec<u8>,
    /// Which of the name's lives it is made for.
    life: usize,
    job: Job,
    began_ms: u64,
}

// ---- What is known.

/// One life of a record: from a claim to its expiry or release.
struct Life {
    event: EventType,
    until_s: u64,
    released: bool,
    calls: usize,
    verdict: Option<u32>,
    relayed: Relayed,
}

/// The workers, what they share, the clock, and what is known.
pub(super) struct World {
    config: Rc<Config>,
    capacity: u32,
    shared: SharedData,
    workers: Vec<Worker>,
    now_ms: u64,
    /// The latest that the clock has ever shown, in seconds.
    latest_s: u64,
    next_stream: u32,
    next_queue: Listener,
    lives: BTreeMap<Vec<u8>, Vec<Life>>,
    /// The names that callbacks were claimed under, and whose they are.
    names: BTreeMap<Vec<u8>, Identity>,
    /// The choices behind the letters so far.
    sent: BTreeSet<u8>,
    sends_fail: u8,
    calls_fail: u8,
}

impl World {
    pub(super) fn new([choices, ttl, newer_ttl, capacity]: [u8; 4]) -> Self {
        RANDOM_FAILS.set(0);
        RANDOM_FAILED.set(false);
        let config = configuration(choices);
        let seconds = |choice: u8| match config.freshness_seconds {
            0 => [1, 5, 60, 1261][usize::from(choice % 4)],
            _ => [1201, 1261][usize::from(choice % 2)],
        };
        let mut world = Self {
            capacity: [1, 2, 4, 64, 200][usize::from(capacity % 5)],
            shared: SharedData::default(),
            workers: Vec::new(),
            now_ms: START_MS,
            latest_s: START_MS / 1000,
            next_stream: 1,
            next_queue: 1,
            lives: BTreeMap::new(),
            names: BTreeMap::new(),
            sent: BTreeSet::new(),
            sends_fail: 0,
            calls_fail: 0,
            config: Rc::clone(&config),
        };
        // The last one has a newer configuration.
        for ttl_seconds in [seconds(ttl), seconds(ttl), seconds(newer_ttl)] {
            let worker = world.worker(ttl_seconds);
            world.workers.push(worker);
        }
        world
    }

    fn worker(&mut self, ttl_seconds: u32) -> Worker {
        let queue = self.next_queue;
        self.next_queue += 1;
        let hash_key = Some([5; HASH_KEY_LEN]);
        Worker {
            records: Records::open(self.shared.clone(), self.capacity, ttl_seconds, hash_key).expect("a record"),
            ttl_seconds,
            queue,
            messages: VecDeque::new(),
            streams: BTreeMap::new(),
            waiting: BTreeMap::new(),
            jobs: VecDeque::new(),
            calls: Vec::new(),
        }
    }

    /// One thing happens.
    pub(super) fn step(&mut self, [what, a, b, c]: [u8; 4]) {
        let w = usize::from(a) % WORKERS;
        match what % 16 {
            0..=2 => self.arrives(w, b, c, Some(a)),
            3 => self.arrives(w, b, c, None),
            4 => {
                if let Some((w, id)) = self.stream(a) {
                    self.body(w, id, b);
                }
            }
            5 => {
                if let Some((w, id)) = self.stream(a) {
                    self.buffered(w, id, usize::from(b) * 32);
                }
            }
            6 => {
                if let Some((w, id)) = self.stream(a) {
                    self.forget(w, id);
                }
            }
            7 if a % 4 == 3 => (0..WORKERS).for_each(|w| self.tick(w)),
            7 => self.tick(usize::from(a % 4)),
            8 => self.clock(self.now_ms + u64::from(b) * [1, 10, 50, 200][usize::from(a % 4)]),
            9 => {
                let by_ms = u64::from(b) * 1000;
                self.clock(match a % 4 {
                    0 => self.now_ms + by_ms,
                    1 => self.now_ms + 16 * by_ms,
                    2 => self.now_ms - by_ms / 16,
                    _ => self.now_ms - by_ms,
                });
            }
            10 => self.work_off_queue(w, if b % 2 == 0 { 1 } else { usize::MAX }),
            11 | 12 => {
                let calls: Vec<_> =
                    (0..WORKERS).flat_map(|w| (0..self.workers[w].calls.len()).map(move |call| (w, call))).collect();
                if let Some((w, call)) = chosen(&calls, a) {
                    self.call_ended(w, call, &SCRIPT[usize::from(b) % SCRIPT.len()]);
                }
            }
            13 => self.trouble(a, b),
            14 => self.dies(w),
            _ => (0..WORKERS).for_each(|w| self.work_off_queue(w, usize::MAX)),
        }
    }

    /// All troubles end, and nobody may be left without an answer.
    pub(super) fn end(&mut self) {
        RANDOM_FAILS.set(0);
        self.shared.0.borrow_mut().contended = 0;
        (self.sends_fail, self.calls_fail) = (0, 0);
        for (w, id) in self.streams() {
            self.body(w, id, 0);
        }
        self.nobody_waits_longer();
        for w in 0..WORKERS {
            while !self.workers[w].calls.is_empty() {
                self.call_ended(w, 0, &SCRIPT[1]);
            }
        }
        // Whatever has happened: a copy that comes now is no second call while the record lives.
        for what in std::mem::take(&mut self.sent) {
            self.arrives(0, what, 0, Some(0));
        }
        self.nobody_waits_longer();
    }

    fn nobody_waits_longer(&mut self) {
        for w in 0..WORKERS {
            self.work_off_queue(w, usize::MAX);
        }
        let streams = self.workers.iter().flat_map(|worker| worker.streams.values());
        let last = streams.filter_map(|stream| stream.until_ms).max();
        self.clock(self.now_ms.max(last.unwrap_or(0)));
        for w in 0..WORKERS {
            self.tick(w);
            let worker = &self.workers[w];
            assert!(worker.streams.is_empty() && worker.waiting.is_empty(), "somebody waits for ever");
        }
    }

    fn around(&self) -> Surroundings {
        Surroundings { now_ms: self.now_ms, random }
    }

    fn now_s(&self) -> u64 {
        self.now_ms / 1000
    }

    fn now_u32(&self) -> u32 {
        u32::try_from(self.now_s()).expect("before 2106")
    }

    fn clock(&mut self, ms: u64) {
        self.now_ms = ms;
        self.latest_s = self.latest_s.max(self.now_s());
    }

    fn streams(&self) -> Vec<(usize, u32)> {
        (0..WORKERS).flat_map(|w| self.workers[w].streams.keys().map(move |id| (w, *id))).collect()
    }

    fn stream(&self, choice: u8) -> Option<(usize, u32)> {
        chosen(&self.streams(), choice)
    }

    // ---- What happens.

    /// Headers arrive and, with a choice of how, the body right behind them.
    fn arrives(&mut self, w: usize, what: u8, flaw: u8, body: Option<u8>) {
        let letter = Rc::new(Letter::new(what, flaw, self.now_s()));
        let config = Rc::clone(&self.config);
        let Some((exchange, effect)) = Exchange::begin(&config, &letter.head(), &self.around()) else {
            assert!(letter.passes() && !Exchange::is_ours(&config, letter.head().path), "one of ours passes");
            return;
        };
        assert!(!letter.passes() && Exchange::is_ours(&config, letter.head().path), "none of ours is taken");
        self.sent.insert(what);
        let fate = letter.fate_of_head(self.now_s(), &config);
        assert_eq!(fate.is_none(), matches!(effect, Effect::Wait));
        let id = self.next_stream;
        self.next_stream += 1;
        let stream = Stream {
            exchange,
            letter,
            began_ms: self.now_ms,
            body_began: false,
            fate,
            name: None,
            key: None,
            deadline: 0,
            until_ms: None,
            called: false,
            lost: false,
        };
        self.carry_out(w, id, stream, effect);
        if let (Some(choice), true) = (body, self.workers[w].streams.contains_key(&id)) {
            self.body(w, id, choice);
        }
    }

    /// The whole body is there, if it has not been yet.
    fn body(&mut self, w: usize, id: u32, choice: u8) {
        let now = self.now_s();
        let Some(stream) = self.workers[w].streams.get_mut(&id) else { return };
        let (body, shape) = stream.letter.body(choice);
        if stream.name.is_none() {
            stream.fate = Some(match shape {
                Ok(()) => stream.letter.fate(now, &self.config),
                Err(status) => Fate::Refused(status),
            });
        }
        let first = stream.name.is_none();
        self.tell(w, id, Event::Body(&body));
        let left = self.workers[w].streams.get(&id);
        assert!(!first || left.is_none_or(|stream| stream.name.is_some()), "a whole body changes nothing");
    }

    fn buffered(&mut self, w: usize, id: u32, size: usize) {
        let max = self.config.max_body_bytes;
        let Some(stream) = self.workers[w].streams.get_mut(&id) else { return };
        if stream.name.is_none() {
            stream.body_began = true;
            if size > max {
                stream.fate = Some(Fate::Refused(413));
            }
        }
        self.tell(w, id, Event::Buffered(size));
    }

    fn trouble(&mut self, kind: u8, extent: u8) {
        match kind % 6 {
            0 => RANDOM_FAILS.set(extent % 4),
            1 => self.shared.0.borrow_mut().contended = extent % 80,
            2 => self.sends_fail = extent % 4,
            3 => self.calls_fail = extent % 4,
            4 => {
                if let Some((w, id)) = self.stream(extent)
                    && let Some(stream) = self.workers[w].streams.get_mut(&id)
                {
                    stream.lost = true;
                }
            }
            // As many workers wait for one record as it has room for.
            _ => {
                let Some((w, id)) = self.stream(extent) else { return };
                let worker = &self.workers[w];
                let Some(key) = worker.streams[&id].key else { return };
                let now = self.now_u32();
                for listener in (1_000..).take(table::MAX_LISTENERS) {
                    if worker.records.look(key, now) == Claim::InFlight {
                        worker.records.claim(key, now, now + 3, listener);
                    }
                }
            }
        }
    }

    /// A worker's VM dies, with all that it has in progress, and begins anew.
    fn dies(&mut self, w: usize) {
        let ttl_seconds = self.workers[w].ttl_seconds;
        self.workers[w] = self.worker(ttl_seconds);
    }

    // ---- What a desk does.

    fn tell(&mut self, w: usize, id: u32, event: Event<'_>) {
        let Some(mut stream) = self.workers[w].streams.remove(&id) else { return };
        let effect = stream.exchange.handle(event, &self.around());
        self.carry_out(w, id, stream, effect);
    }

    fn forget(&mut self, w: usize, id: u32) {
        let Some(mut stream) = self.workers[w].streams.remove(&id) else { return };
        self.stop_waiting(w, id, &stream);
        let effect = stream.exchange.handle(Event::Gone, &self.around());
        assert!(matches!(effect, Effect::Wait), "an answer to nobody");
        self.is_silent(&mut stream.exchange);
    }

    fn work_off_queue(&mut self, w: usize, most: usize) {
        for _ in 0..most {
            match self.workers[w].messages.pop_front() {
                Some(Message::JobWaits) => self.make_calls(w),
                Some(Message::Settled(key, reply)) => {
                    let reply = Reply::decode(&reply);
                    self.tell_all(w, key, Event::Settled(&reply));
                }
                None => return,
            }
        }
    }

    fn call_ended(&mut self, w: usize, call: usize, scripted: &Scripted) {
        let call = self.workers[w].calls.remove(call);
        let conclusion = call.job.conclude(scripted.response, self.now_ms.saturating_sub(call.began_ms));
        let (verdict, relayed) = match (call.job.event, scripted.verdict) {
            (EventType::Bind, Says::Code(code)) => (Some(code), Relayed::Failed),
            (EventType::Bind, Says::Nothing) => (call.job.endpoint.empty_is_success.then_some(0), Relayed::Failed),
            (EventType::Bind, Says::Unreadable) => (None, Relayed::Failed),
            _ => (None, scripted.relayed),
        };
        match &conclusion.reply {
            Reply::Verdict(read) => assert_eq!(Some(read.errcode()), verdict),
            Reply::Object(read) => assert!(matches!(relayed, Relayed::Object(said) if said == read)),
            Reply::Success => assert_eq!(relayed, Relayed::Taken),
            Reply::Failed => assert_eq!((verdict, relayed), (None, Relayed::Failed)),
        }
        self.conclude(w, call, conclusion, verdict, relayed);
    }

    fn tick(&mut self, w: usize) {
        let ids: Vec<u32> = self.workers[w].streams.keys().copied().collect();
        for id in ids {
            let now_ms = self.now_ms;
            let Some(stream) = self.workers[w].streams.get_mut(&id) else { continue };
            if stream.lost {
                self.strike(w, id);
                continue;
            }
            let due = match stream.until_ms {
                Some(until_ms) => until_ms <= now_ms,
                None => {
                    let due = !stream.body_began && stream.began_ms + FIRST_BYTE_MS <= now_ms;
                    if due {
                        stream.fate = Some(Fate::Refused(503));
                    }
                    due
                }
            };
            self.tell(w, id, Event::Tick);
            assert!(!due || !self.workers[w].streams.contains_key(&id), "its time is over, and no answer");
        }
    }

    fn carry_out(&mut self, w: usize, id: u32, mut stream: Stream, mut effect: Effect) {
        loop {
            effect = match effect {
                Effect::Wait => {
                    assert!(!stream.exchange.is_over(), "over without an answer");
                    self.workers[w].streams.insert(id, stream);
                    return;
                }
                Effect::Answer(answer) => {
                    self.stop_waiting(w, id, &stream);
                    self.answered(stream, &answer);
                    return;
                }
                Effect::Call(job) => {
                    self.hand_over(w, id, stream, job);
                    return;
                }
                Effect::Claim { name, within_ms } => {
                    assert!(stream.fate.take() == Some(Fate::Claimed) && stream.name.is_none(), "claimed unasked");
                    let claim = self.claim(w, id, &mut stream, &name, within_ms);
                    stream.exchange.handle(Event::Claimed(&claim), &self.around())
                }
                Effect::Look => {
                    let key = stream.key.expect("looks at what it has not claimed");
                    let claim = self.workers[w].records.look(key, self.now_u32());
                    stream.exchange.handle(Event::Looked(&claim), &self.around())
                }
            };
        }
    }

    fn claim(&mut self, w: usize, id: u32, stream: &mut Stream, name: &[u8], within_ms: u64) -> Claim {
        let contended = self.shared.0.borrow().contended;
        let (now, now_ms) = (self.now_u32(), self.now_ms);
        let deadline = u32::try_from((now_ms + within_ms) / 1000 + 1).expect("before 2106");
        let worker = &mut self.workers[w];
        let key = worker.records.key(name);
        let claim = worker.records.claim(key, now, deadline, worker.queue);

        let timeout_ms = self.config.endpoints[stream.letter.endpoint].upstream(stream.letter.event).timeout_ms;
        let identity = &stream.letter.identity;
        let whose = self.names.entry(name.to_vec()).or_insert_with(|| identity.clone());
        assert_eq!(whose, identity, "two callbacks under one name");
        let same = self.names.iter().filter(|(_, whose)| *whose == identity).count();
        assert_eq!(same, 1, "one callback under two names");
        assert!((timeout_ms..=timeout_ms + GRACE_MS).contains(&within_ms), "{within_ms}");
        let live_ones =
            self.lives.values().flatten().filter(|life| !life.released && life.until_s > now.into()).count();
        let lives = self.lives.entry(name.to_vec()).or_default();
        match claim {
            Claim::First => {
                let over = |life: &Life| life.released || life.until_s <= self.latest_s;
                assert!(lives.iter().all(over), "a second first while the record lives");
                let until_s = u64::from(now.saturating_add(worker.ttl_seconds).max(deadline + 1));
                let (event, relayed) = (stream.letter.event, Relayed::Failed);
                lives.push(Life { event, until_s, released: false, calls: 0, verdict: None, relayed });
            }
            Claim::Recorded(_) | Claim::InFlight | Claim::InFlightUnheard => {
                assert!(!lives.is_empty(), "a copy of nothing");
            }
            Claim::Full => assert!(live_ones >= self.capacity.min(64) as usize, "full of {live_ones}"),
            Claim::Unavailable => assert!(contended > 0, "nothing is wrong with the store"),
        }
        if matches!(claim, Claim::First | Claim::InFlight | Claim::InFlightUnheard) {
            stream.key = Some(key);
            stream.deadline = deadline;
            let grace_ms = if claim == Claim::First { GRACE_MS } else { 0 };
            stream.until_ms = Some(now_ms + timeout_ms + grace_ms);
            worker.waiting.entry(key).or_default().push(id);
        }
        stream.name = Some(name.to_vec());
        claim
    }

    fn hand_over(&mut self, w: usize, id: u32, mut stream: Stream, job: Job) {
        let (Some(key), Some(name)) = (stream.key, stream.name.clone()) else { panic!("a call without a claim") };
        assert!(!stream.called, "called twice");
        assert_eq!((job.event, job.body.as_slice()), (stream.letter.event, stream.letter.message.as_slice()));
        assert_eq!(job.endpoint.path, PATHS[stream.letter.endpoint]);
        for (name, value) in &job.headers {
            let fit = (1..=128).contains(&value.len()) && value.bytes().all(|b| (b' '..=b'~').contains(&b));
            assert!(fit && !value.contains(SECRET), "{name}: {value:?}");
        }
        stream.called = true;
        let deadline = stream.deadline;
        let life = self.lives[&name].len() - 1;
        let worker = &mut self.workers[w];
        worker.streams.insert(id, stream);
        worker.jobs.push_back(InCall { key, deadline, name, life, job, began_ms: 0 });
        let queue = worker.queue;
        if !self.send(queue, Message::JobWaits)
            && let Some(call) = self.workers[w].jobs.pop_back()
        {
            let conclusion = call.job.conclude(None, 0);
            self.conclude(w, call, conclusion, None, Relayed::Failed);
        }
    }

    fn make_calls(&mut self, w: usize) {
        while let Some(mut call) = self.workers[w].jobs.pop_front() {
            if self.calls_fail > 0 {
                self.calls_fail -= 1;
                let conclusion = call.job.conclude(None, 0);
                self.conclude(w, call, conclusion, None, Relayed::Failed);
                continue;
            }
            let life = &mut self.lives.get_mut(&call.name).expect("known")[call.life];
            life.calls += 1;
            assert_eq!(life.calls, 1, "a second call for one record");
            call.began_ms = self.now_ms;
            self.workers[w].calls.push(call);
        }
    }

    fn conclude(&mut self, w: usize, call: InCall, mut conclusion: Conclusion, verdict: Option<u32>, relayed: Relayed) {
        let InCall { key, deadline, name, life, job, .. } = call;
        let contended = self.shared.0.borrow().contended;
        let now = self.now_u32();
        let worker = &self.workers[w];
        let (queue, ttl_seconds) = (worker.queue, worker.ttl_seconds);
        let reply = conclusion.reply.encode();
        let kept = conclusion.is_kept(job.event);
        assert!(kept || job.event != EventType::Bind, "a bind is given up, and its upstream may have acted");
        let listeners = if kept {
            worker.records.settle(key, deadline, &reply, now)
        } else {
            worker.records.release(key, deadline, now)
        };
        let lives = self.lives.get_mut(&name).expect("known");
        match listeners {
            Ok(None) => {
                // It has expired, or a clock that was set back has brought an older one before it.
                let before = |other: &Life| !other.released && other.until_s > now.into();
                let shadowed = lives.iter().enumerate().any(|(n, other)| n != life && before(other));
                assert!(lives[life].until_s <= self.latest_s || shadowed, "not recorded, though its record lives");
                return;
            }
            Ok(Some(listeners)) => {
                let own = lives[life].until_s > now.into() && !lives[life].released;
                assert!(own, "the record of another claim is concluded");
                (lives[life].verdict, lives[life].relayed) = (verdict, relayed);
                if kept {
                    lives[life].until_s = u64::from(now.saturating_add(ttl_seconds));
                } else {
                    lives.iter_mut().for_each(|life| life.released = true);
                }
                let kept_as = if kept { Claim::Recorded(reply.clone()) } else { Claim::First };
                let found = self.workers[w].records.look(key, now);
                assert_eq!(found, kept_as, "concluded, but the record says otherwise");
                for listener in listeners.into_iter().filter(|listener| *listener != queue) {
                    self.send(listener, Message::Settled(key, reply.clone()));
                }
            }
            Err(_) => {
                assert!(contended > 0, "nothing is wrong with the store");
                conclusion = Conclusion { reply: Reply::Failed, outcome: Outcome::RecordUnavailable };
            }
        }
        self.tell_all(w, key, Event::Concluded(&conclusion));
        assert!(!self.workers[w].waiting.contains_key(&key), "concluded, and somebody still waits");
    }

    fn tell_all(&mut self, w: usize, key: RecordKey, event: Event<'_>) {
        for id in self.workers[w].waiting.get(&key).cloned().unwrap_or_default() {
            if self.workers[w].streams.get(&id).is_some_and(|stream| stream.lost) {
                self.strike(w, id);
            } else {
                self.tell(w, id, event);
            }
        }
    }

    fn strike(&mut self, w: usize, id: u32) {
        if let Some(stream) = self.workers[w].streams.remove(&id) {
            self.stop_waiting(w, id, &stream);
        }
    }

    fn stop_waiting(&mut self, w: usize, id: u32, stream: &Stream) {
        let Some(key) = stream.key else { return };
        let waiting = &mut self.workers[w].waiting;
        if let Some(streams) = waiting.get_mut(&key) {
            streams.retain(|waiting| *waiting != id);
            if streams.is_empty() {
                waiting.remove(&key);
            }
        }
    }

    fn send(&mut self, queue: Listener, message: Message) -> bool {
        if self.sends_fail > 0 {
            self.sends_fail -= 1;
            return false;
        }
        let worker = self.workers.iter_mut().find(|worker| worker.queue == queue);
        worker.map(|worker| worker.messages.push_back(message)).is_some()
    }

    // ---- What must hold.

    fn answered(&self, mut stream: Stream, answer: &Answer) {
        self.is_silent(&mut stream.exchange);
        assert!(!answer.body.is_empty(), "an empty body");
        assert!(!answer.reason.contains(SECRET), "{}", answer.reason);
        let facts = stream.exchange.facts();
        assert!(answer.outcome.applies_to(facts.event), "{:?} of {:?}", answer.outcome, facts.event);
        if answer.outcome == Outcome::SealFailed {
            assert!(RANDOM_FAILED.take(), "cannot be sealed, with random numbers");
            is_rejection(answer, 503);
            return;
        }
        let Some(name) = &stream.name else {
            match &stream.fate {
                Some(Fate::Echoed) => {
                    assert_eq!((answer.status, answer.body.as_slice()), (200, stream.letter.message.as_slice()));
                }
                Some(Fate::Refused(status)) => is_rejection(answer, *status),
                fate => panic!("{fate:?}, but {answer:?}"),
            }
            return;
        };

        let letter = &stream.letter;
        assert_eq!(facts.event, letter.event);
        let lives = self.lives[name].iter();
        let sealed = opened_reply(&answer.body, &letter.credential).map(|(plaintext, receive_id)| {
            assert_eq!((answer.status, receive_id.as_str()), (200, letter.receive_id));
            plaintext
        });
        if letter.event == EventType::Bind {
            let plaintext = sealed.unwrap_or_else(|| panic!("a bind is answered unsealed: {answer:?}"));
            let read: serde_json::Value = serde_json::from_slice(&plaintext).expect("JSON");
            let code = read["errcode"].as_u64().and_then(|code| u32::try_from(code).ok()).expect("a code");
            assert_eq!(facts.errcode, Some(code));
            let said = lives.clone().any(|life| life.event == EventType::Bind && life.verdict == Some(code));
            assert!(said || code == 7, "nobody said {code}");
            return;
        }
        let mut said = lives.filter(|life| life.event != EventType::Bind).map(|life| life.relayed);
        match (sealed, letter.event.refusal()) {
            (Some(plaintext), refusal) => {
                let own = refusal.is_some_and(|refusal| refusal.as_bytes() == plaintext);
                assert!(
                    own || said.any(|relayed| matches!(relayed, Relayed::Object(object) if object == plaintext)),
                    "nobody said so"
                );
            }
            (None, _) if answer.status == 200 => {
                assert_eq!(answer.body, b"success");
                let unsaid = |relayed| match relayed {
                    Relayed::Taken => false,
                    Relayed::Object(object) => object.len() < Reply::MAX_ENCODED_LEN,
                    Relayed::Failed => true,
                };
                assert!(!said.all(unsaid), "nobody took it");
            }
            (None, refusal) => {
                assert!(refusal.is_none(), "it has a refusal of its own");
                is_rejection(answer, 503);
            }
        }
    }

    /// Whatever still happens to it, nothing comes after an answer.
    fn is_silent(&self, exchange: &mut Exchange) {
        assert!(exchange.is_over());
        let conclusion = Conclusion { reply: Reply::Success, outcome: Outcome::Delivered };
        let claim = Claim::Recorded(Reply::Success.encode());
        for event in [
            Event::Buffered(9999),
            Event::Body(b""),
            Event::Claimed(&Claim::First),
            Event::Looked(&claim),
            Event::Concluded(&conclusion),
            Event::Settled(&Reply::Success),
            Event::Tick,
            Event::Gone,
        ] {
            assert!(matches!(exchange.handle(event, &self.around()), Effect::Wait), "a second answer to {event:?}");
        }
    }
}

/// A rejection says its word, and no more than that.
fn is_rejection(answer: &Answer, status: u32) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body, json!({ "error": answer.outcome.name(), "request_id": "rid-1" }));
}

fn chosen<T: Copy>(all: &[T], choice: u8) -> Option<T> {
    usize::from(choice).checked_rem(all.len()).and_then(|index| all.get(index)).copied()
}

/// Two endpoints: one that takes silence for approval, and one that does not.
fn configuration(choices: u8) -> Rc<Config> {
    thread_local! {
        static CONFIG: Config = {
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
            let one = endpoint(PATHS[0], json!({ "cluster": "decision" }));
            let two = json!({ "cluster": "decision", "timeout_ms": 2800, "empty_is_success": false });
            let config = json!({ "endpoints": [one, endpoint(PATHS[1], two)], "max_body_bytes": 4096 });
            Config::parse(config.to_string().as_bytes(), &|_| None).expect("a configuration")
        };
    }
    let mut config = CONFIG.with(Config::clone);
    config.freshness_seconds = if choices & 1 == 0 { 600 } else { 0 };
    config.reply_timestamp = if choices & 2 == 0 { TimestampForm::String } else { TimestampForm::Number };
    Rc::new(config)
}
