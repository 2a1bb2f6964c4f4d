//! What is in progress on one worker: the callbacks of its streams, the calls it makes, and who waits
//! for which record.
//!
//! Generic over its [`Host`]: Envoy runs the very code that the tests and the fuzzer drive.
//!
//! There are two ways in, each held by the one who may use it. A [`Root`] belongs to one
//! configuration on one worker; it makes the calls and hears of their ends, of other workers, and of
//! time. A [`Stream`] belongs to one request and hears of its headers, its body and its end.
//!
//! Why the root makes the calls: a call that a stream makes ends with it, and the decision would be
//! lost when a client hangs up. So a stream leaves its request with the worker and wakes the root through
//! the worker's queue; the same queues carry settlements to copies that wait on other workers.
//!
//! One wake-up is for all that has arrived by then, and for all calls that have ended: the root first
//! concludes these, then opens and claims those, then makes the calls. Doing the same for many in a row
//! keeps the processor's caches warm; under load that is a seventh of a callback's whole cost.
//!
//! The host may call a [`Stream`] while it is told to finish another, so nothing here is borrowed
//! while it is asked for that.

mod budget;
mod life;
mod notice;
mod sharing;
mod streams;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::ControlFlow::{Break, Continue};
use std::rc::Rc;

use hashbrown::HashMap;
use log::Level;

use self::budget::{Budget, Budgets};
use self::notice::Notice;
use self::sharing::{Announcement, Exchange, Share, Sharing};
use self::streams::{Stage, Streams};
use crate::callout::{Conclusion, Job, Received};
use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::dedup::{Claim, Listener, NotConcluded, RecordKey, Records, Store, Ticket, record};
use crate::exchange::{Addressed, Claimed, Claiming, Ended, Ending, Head, Reading, Waiting};
use crate::host::{CallId, Count, Host, StreamId};
use crate::outcome::Outcome;
use crate::reply::Reply;
use crate::report::Report;

/// One configuration on one worker. To be used from the root's own callbacks only.
pub struct Root<H>(Rc<Worker<H>>);

/// One request. To be used from the request's own callbacks only.
pub struct Stream<H> {
    worker: Rc<Worker<H>>,
    id: StreamId,
}

impl<H: Host> Root<H> {
    /// A worker that listens to this queue, if it has one. Without a queue, or where the table of
    /// records cannot be opened, every callback fails closed; the log says so.
    pub fn new(host: H, config: Config, queue: Option<Listener>) -> Self {
        let dedup = config.dedup();
        let shared = queue.and_then(|queue| {
            let records = Records::open(&host, dedup.capacity(), dedup.ttl_seconds(), host.random())?;
            let sharing = match dedup.redis() {
                Some(redis) => {
                    let adopts = config.freshness_seconds() > 0;
                    Some(Sharing::new(redis, dedup.ttl_seconds(), adopts, replica_id(&host, host.random())?))
                }
                None => None,
            };
            Some((Shared { records, queue }, sharing))
        });
        let (shared, sharing) = shared.unzip();
        match &shared {
            None => host.log(
                Level::Error,
                format_args!(
                    "no random numbers, or no shared data: every callback will be refused; \
                     see the capabilities in envoy.yaml"
                ),
            ),
            Some(Shared { records, .. }) if records.capacity() != dedup.capacity() => host.log(
                Level::Warn,
                format_args!(
                    "dedup.capacity: stays {} until Envoy restarts, as the table already exists",
                    records.capacity()
                ),
            ),
            Some(_) => {}
        }
        let worker = Self(Rc::new(Worker {
            host,
            clock: Clock::default(),
            config: Rc::new(config),
            shared,
            sharing: sharing.flatten(),
            streams: RefCell::default(),
            arrived: RefCell::default(),
            woken: Cell::new(false),
            jobs: RefCell::default(),
            calls: RefCell::default(),
            ended: RefCell::default(),
            body_seen: Cell::new(false),
            noise: RefCell::default(),
            ticks: Cell::new(false),
            retiring: Cell::new(false),
        }));
        if worker.0.sharing.is_some() {
            worker.0.set_ticks(true); // Redis is greeted before the first callback
        }
        worker
    }

    /// A request that begins.
    pub fn stream(&self, id: StreamId) -> Stream<H> {
        Stream { worker: Rc::clone(&self.0), id }
    }

    /// Messages wait in the queue: wake-ups of this worker's own, settlements from other workers.
    pub fn queue_ready(&self) {
        self.0.work_off_queue();
        self.0.retire_if_done();
    }

    /// A call has ended: with a response or, if it broke off, without one. It is concluded with the next
    /// wake-up.
    pub fn call_ended(&self, call: CallId, response: Option<Received>) {
        self.0.call_ended(call, response);
        self.0.retire_if_done();
    }

    /// Time has passed. To be called as [`Host::tick`] asks for.
    pub fn tick(&self) {
        self.0.tick();
        self.0.retire_if_done();
    }

    /// The configuration is replaced, and its streams have ended. Whether it may go at once; if not, as
    /// calls are on their way or still to be made, [`Host::retired`] is told when they have ended, which
    /// is within their timeouts.
    #[must_use]
    pub fn retire(&self) -> bool {
        let counts = self.0.noise.borrow_mut().each(Budget::take_all);
        counts.into_iter().flatten().for_each(|count| self.0.say_kept_back(count));
        self.0.note_that_it_listens(0); // nobody waits here any more
        let done = self.0.is_done();
        if done {
            self.0.set_ticks(false);
        }
        self.0.retiring.set(!done);
        done
    }
}

impl<H: Host> Stream<H> {
    /// Whether this path, query included, is for one of our endpoints.
    pub fn addressed<'p>(&self, path: &'p [u8]) -> Option<Addressed<'p>> {
        Addressed::find(&self.worker.config, path)
    }

    /// The headers of a request for one of our endpoints are there.
    pub fn begin(&self, addressed: Addressed<'_>, head: &Head<'_>) {
        let now = self.worker.now();
        match addressed.begin(head, now) {
            Continue(reading) => self.worker.keep_reading(self.id, reading),
            Break(ended) => self.worker.answer(self.id, ended, now),
        }
    }

    /// More of the body is there: so many bytes in all.
    pub fn buffered(&self, size: usize) {
        self.worker.body_seen.set(true);
        let Some(reading) = self.worker.take_reading(self.id) else { return };
        match reading.buffered(size) {
            Continue(reading) => self.worker.keep_reading(self.id, reading),
            Break(ended) => self.worker.answer(self.id, ended, self.worker.now()),
        }
    }

    /// The request is complete. `read` is asked for so many bytes of its body, at most; trailers end
    /// it as well as a last piece of body, and it ends once.
    pub fn complete(&self, read: impl FnOnce(usize) -> Vec<u8>) {
        let Some(reading) = self.worker.take_reading(self.id) else { return };
        let body = read(reading.max_body_bytes().saturating_add(1));
        self.worker.arrived(self.id, reading, body);
    }

    /// The request has ended, answered or not. Nothing may be sent to it any more.
    pub fn ended(&self) {
        self.worker.forget(self.id);
    }
}

struct Worker<H> {
    host: H,
    clock: Clock,
    config: Rc<Config>,
    /// Missing where there were no random numbers: then nothing can be claimed, nor sealed.
    shared: Option<Shared>,
    /// The record that replicas share, if there is one.
    sharing: Option<Sharing>,
    streams: RefCell<Streams>,
    /// Complete requests that the root has not opened yet.
    arrived: RefCell<VecDeque<StreamId>>,
    /// Whether a message that wakes the root is on its way.
    woken: Cell<bool>,
    /// Claimed callbacks whose calls are still to be made.
    jobs: RefCell<VecDeque<Call>>,
    calls: RefCell<HashMap<CallId, InProgress>>,
    /// Calls that have ended, and have not been concluded yet.
    ended: RefCell<VecDeque<EndedCall>>,
    body_seen: Cell<bool>,
    /// What any stranger can cause is written to the log under this.
    noise: RefCell<Budgets>,
    /// Whether the host calls `tick`.
    ticks: Cell<bool>,
    /// Whether the configuration is replaced and stays for its calls.
    retiring: Cell<bool>,
}

/// What this worker has in common with the others.
struct Shared {
    records: Records,
    queue: Listener,
}

/// A call for a record: there is none without the ticket of its claim.
struct Call {
    ticket: Ticket,
    job: Job,
    /// The stream that it is made for, which may have left by now.
    first: StreamId,
    share: Share,
}

/// A call of the host's that has not ended.
enum InProgress {
    /// To an upstream.
    Call(CallMade),
    /// To Redis.
    Exchange(Exchange),
}

struct EndedCall {
    what: InProgress,
    response: Option<Received>,
    ended_ms: u64,
}

struct CallMade {
    call: Call,
    began_ms: u64,
    timeout_ms: u64,
}

impl<H: Host> Worker<H> {
    fn now(&self) -> Now {
        self.clock.now(self.host.now_ms())
    }

    fn take_reading(&self, id: StreamId) -> Option<Reading> {
        self.streams.borrow_mut().take_reading(id)
    }

    fn keep_reading(&self, id: StreamId, reading: Reading) {
        self.keep(id, Stage::Reading(reading));
    }

    fn keep(&self, id: StreamId, stage: Stage) {
        self.streams.borrow_mut().insert(id, stage);
        self.set_ticks(true);
    }

    /// Has the host tick while there are deadlines to look at: an idle worker costs nothing.
    fn set_ticks(&self, on: bool) {
        if self.ticks.replace(on) != on {
            self.host.tick(on);
        }
    }

    /// Whether nothing is left that only this configuration can bring to its end.
    fn is_done(&self) -> bool {
        let shares = self.sharing.as_ref().is_some_and(|sharing| !sharing.is_done());
        self.jobs.borrow().is_empty() && self.calls.borrow().is_empty() && self.ended.borrow().is_empty() && !shares
    }

    fn retire_if_done(&self) {
        if self.retiring.get() && self.is_done() {
            self.retiring.set(false);
            self.set_ticks(false);
            self.host.retired();
        }
    }

    fn claim(&self, id: StreamId, claiming: Claiming, now: Now) {
        let name = claiming.name();
        let share = match &self.sharing {
            Some(sharing) => Share::ToClaim(sharing.name(&name), claiming.until_ms(now.steady_ms)),
            None => Share::Nothing,
        };
        let claim = match &self.shared {
            Some(Shared { records, queue }) => {
                let key = records.key(&name);
                let deadline = seconds(now.unix_ms.saturating_add(claiming.call_within_ms())).saturating_add(1);
                records.claim(&self.host, key, seconds(now.unix_ms), deadline, *queue)
            }
            None => Claim::Unavailable,
        };
        match claiming.claimed(claim, now.steady_ms) {
            Claimed::Call { ticket, job, waiting } => {
                self.keep(id, Stage::Waiting(ticket.key(), waiting));
                self.jobs.borrow_mut().push_back(Call { ticket, job, first: id, share });
            }
            Claimed::Wait { key, waiting } => {
                self.keep(id, Stage::Waiting(key, waiting));
                self.note_that_it_listens(now.unix_ms);
                self.host.count(Count::CopyWaits);
            }
            Claimed::Ended(ended) => self.answer(id, ended, now),
        }
    }

    /// A request is complete: leaves it to the root.
    fn arrived(&self, id: StreamId, reading: Reading, body: Vec<u8>) {
        self.keep(id, Stage::Arrived(reading, body));
        self.arrived.borrow_mut().push_back(id);
        if self.wake() {
            return;
        }
        // Nobody would open it: here it is rejected as well, but no call can be made.
        self.open_arrived(usize::MAX);
        loop {
            let next = self.jobs.borrow_mut().pop_front();
            let Some(call) = next else { return };
            let mut conclusion = call.job.not_handed_over();
            // Other replicas know nothing of it, and may be asked next.
            conclusion.is_kept &= !matches!(call.share, Share::ToClaim(..));
            self.record_and_tell(call, conclusion);
        }
    }

    /// Has the root called soon, once for all that have arrived by then. Says whether it will be.
    fn wake(&self) -> bool {
        let Some(Shared { queue, .. }) = &self.shared else { return false };
        if !self.woken.get() {
            self.woken.set(self.host.send(*queue, &Notice::Wake.encode()));
        }
        self.woken.get()
    }

    fn work_off_queue(&self) {
        let Some(Shared { queue, .. }) = &self.shared else { return };
        // To its end, whatever it holds: a queue that was taken over may have messages of before.
        while let Some(message) = self.host.receive(*queue) {
            match Notice::decode(&message) {
                Some(Notice::Settled(key, reply)) => self.tell(key, &reply, None, self.now()),
                Some(Notice::Wake) | None => {}
            }
        }
        self.woken.set(false);
        self.work_off_batch();
    }

    /// Concludes the calls that have ended, opens and claims what has arrived, then makes the calls. What is
    /// left over waits for another wake-up, after whatever else Envoy has to do.
    fn work_off_batch(&self) {
        self.conclude_ended(BATCH);
        self.open_arrived(BATCH);
        self.make_calls();
        if !self.arrived.borrow().is_empty() || !self.ended.borrow().is_empty() {
            self.wake();
        }
    }

    fn open_arrived(&self, at_most: usize) {
        for _ in 0..at_most {
            let Some(id) = self.arrived.borrow_mut().pop_front() else { return };
            let arrived = self.streams.borrow_mut().take_arrived(id);
            let Some((reading, body)) = arrived else { continue }; // its client has left
            let now = self.now();
            match reading.complete(&body, now) {
                Continue(claiming) => self.claim(id, claiming, now),
                Break(ended) => self.answer(id, ended, now),
            }
        }
    }

    fn make_calls(&self) {
        loop {
            let next = self.jobs.borrow_mut().pop_front();
            let Some(mut call) = next else { return };
            match std::mem::replace(&mut call.share, Share::Nothing) {
                Share::ToClaim(name, until_ms) => self.claim_shared(call, name, until_ms),
                Share::Nothing | Share::Held(_) => self.decide(call),
            }
        }
    }

    /// Calls the upstream.
    fn decide(&self, call: Call) {
        let began_ms = self.now().steady_ms;
        let Some(request) = call.job.request(began_ms) else {
            let mut conclusion = call.job.too_late();
            // Nobody was asked, and other replicas need not fail with this one.
            conclusion.is_kept &= matches!(call.share, Share::Nothing);
            self.record_and_tell(call, conclusion);
            return;
        };
        let timeout_ms = request.timeout_ms;
        match self.host.call(&request) {
            Ok(id) => {
                self.calls.borrow_mut().insert(id, InProgress::Call(CallMade { call, began_ms, timeout_ms }));
            }
            Err(why) => {
                self.count_call(&call.job, 0);
                let conclusion = call.job.not_made(why);
                self.record_and_tell(call, conclusion);
            }
        }
    }

    /// A call has ended: it is concluded with all others that have ended by the time of the wake.
    fn call_ended(&self, id: CallId, response: Option<Received>) {
        let Some(what) = self.calls.borrow_mut().remove(&id) else { return };
        let ended_ms = self.now().steady_ms;
        self.ended.borrow_mut().push_back(EndedCall { what, response, ended_ms });
        self.set_ticks(true); // should the wake-up be lost
        if self.retiring.get() || !self.wake() {
            self.work_off_batch();
        }
    }

    fn conclude_ended(&self, at_most: usize) {
        for _ in 0..at_most {
            let Some(EndedCall { what, response, ended_ms }) = self.ended.borrow_mut().pop_front() else { return };
            let response = response.as_ref().map(Received::response);
            match what {
                InProgress::Call(CallMade { call, began_ms, timeout_ms }) => {
                    let elapsed_ms = ended_ms.saturating_sub(began_ms);
                    self.count_call(&call.job, elapsed_ms);
                    let conclusion = call.job.conclude(response, elapsed_ms, timeout_ms);
                    self.record_and_tell(call, conclusion);
                }
                InProgress::Exchange(exchange) => self.exchange_ended(exchange, response),
            }
        }
    }

    /// Puts a conclusion on record and tells everyone who waits for it, on whatever worker.
    fn record_and_tell(&self, call: Call, mut conclusion: Conclusion) {
        let Call { ticket, job, first, share } = call;
        let Some(Shared { records, .. }) = &self.shared else { return };
        let key = ticket.key();
        let now = seconds(self.now().unix_ms);
        let mut kept = record::kept(&conclusion.reply, job.event());
        let listeners = if conclusion.is_kept {
            records.settle(&self.host, ticket, &kept, now)
        } else {
            records.release(&self.host, ticket, now)
        };
        let listeners = match listeners {
            Ok(listeners) => listeners,
            // An answer that its copies would not be given is not given to the first either.
            Err(NotConcluded::Unavailable) => {
                let reason = "the table of records could not be written".into();
                let (reply, outcome) = (Reply::Failed, Outcome::RecordUnavailable);
                conclusion = Conclusion { reply, outcome, reason, ..conclusion };
                kept = Reply::Failed;
                Vec::new()
            }
            // Who waited for this call ends by its deadline. Other replicas are told all the same.
            Err(NotConcluded::Superseded) => {
                if let (Share::Held(held), true) = (share, conclusion.is_kept) {
                    self.settle_shared(held, &kept, None);
                }
                return;
            }
        };
        let is_kept = conclusion.is_kept;
        let announcement = Announcement { key, listeners, first, conclusion };
        match share {
            Share::Held(held) if is_kept => self.settle_shared(held, &kept, Some(announcement)),
            Share::Held(held) => {
                self.release_shared(&held);
                self.announce(announcement);
            }
            Share::Nothing | Share::ToClaim(..) => self.announce(announcement),
        }
    }

    /// Tells everyone who waits for a record how its call has ended, on whatever worker.
    fn announce(&self, announcement: Announcement) {
        let Announcement { key, listeners, first, conclusion } = announcement;
        let Some(Shared { queue, .. }) = &self.shared else { return };
        let now = self.now();
        for listener in listeners.into_iter().filter(|listener| listener != queue) {
            if self.listens(listener, now.unix_ms) {
                self.host.send(listener, &Notice::Settled(key, conclusion.reply.clone()).encode());
            }
        }
        let told = conclusion.reply.clone();
        self.tell(key, &told, Some((first, conclusion)), now);
    }

    /// Tells every stream of this worker that waits for a record how its call has ended; if the call
    /// was made here, the stream that it was made for is told its conclusion.
    fn tell(&self, key: RecordKey, reply: &Reply, mut own: Option<(StreamId, Conclusion)>, now: Now) {
        let waiting = self.streams.borrow_mut().take_waiting(key);
        for (id, waiting) in waiting {
            let is_copy = waiting.is_copy();
            let told = match own.take_if(|(first, _)| *first == id) {
                Some((_, conclusion)) => Break(waiting.concluded(conclusion)),
                None => waiting.settled(reply.clone()),
            };
            match told {
                Continue(waiting) => self.keep(id, Stage::Waiting(key, waiting)),
                Break(ended) => {
                    self.count_end_of_wait(is_copy);
                    self.answer(id, ended, now);
                }
            }
        }
    }

    fn tick(&self) {
        self.woken.set(false); // its message may have been lost
        self.work_off_batch();
        let now = self.now();
        let due = self.streams.borrow().due(now.steady_ms);
        for id in due {
            let stage = self.streams.borrow_mut().take(id);
            match stage {
                Some(Stage::Reading(reading)) => self.answer(id, reading.give_up(self.body_seen.get()), now),
                Some(Stage::Waiting(key, waiting)) => self.look_after(id, key, waiting, now),
                Some(arrived @ Stage::Arrived(..)) => self.keep(id, arrived),
                None => {} // ended while another was answered
            }
        }
        if self.streams.borrow().anybody_waits() {
            self.note_that_it_listens(now.unix_ms);
        }
        self.tick_shared(now.steady_ms);
        self.say_what_was_kept_back(now.unix_ms);
        let shares = self.sharing.as_ref().is_some_and(|sharing| !sharing.is_idle());
        let waits = !self.streams.borrow().is_empty()
            || !self.jobs.borrow().is_empty()
            || !self.ended.borrow().is_empty()
            || shares;
        if !waits && !self.noise.borrow().has_kept_back() {
            self.set_ticks(false);
        }
    }

    /// Notes the time until which others may send to this worker's queue.
    ///
    /// Envoy keeps a queue for good and calls the context that opened it, by its number. When a VM has died
    /// or was replaced, that number may be another's, and the call a trap. So nobody sends to a queue whose
    /// worker has not lately said that somebody waits there; a copy that is not told looks by itself.
    fn note_that_it_listens(&self, unix_ms: u64) {
        let Some(Shared { queue, .. }) = &self.shared else { return };
        let name = listening(*queue);
        let (_, number) = self.host.get(&name);
        self.host.set(&name, &unix_ms.to_be_bytes(), number);
    }

    fn listens(&self, listener: Listener, unix_ms: u64) -> bool {
        let (noted, _) = self.host.get(&listening(listener));
        let noted = noted.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        noted.abs_diff(unix_ms) <= LISTENS_MS
    }

    /// A copy looks once more before it gives up, and at every tick if nobody will tell it.
    fn look_after(&self, id: StreamId, key: RecordKey, waiting: Waiting, now: Now) {
        let shared = self.shared.as_ref().filter(|_| waiting.is_copy());
        let standing = shared.and_then(|shared| shared.records.look(&self.host, key, seconds(now.unix_ms)));
        let is_copy = waiting.is_copy();
        match waiting.told(standing, now.steady_ms) {
            Continue(waiting) => self.keep(id, Stage::Waiting(key, waiting)),
            Break(ended) => {
                self.count_end_of_wait(is_copy);
                self.answer(id, ended, now);
            }
        }
    }

    fn forget(&self, id: StreamId) {
        let stage = self.streams.borrow_mut().take(id);
        let report = match stage {
            Some(Stage::Reading(reading) | Stage::Arrived(reading, _)) => reading.gone(),
            Some(Stage::Waiting(key, waiting)) => {
                self.count_end_of_wait(waiting.is_copy());
                self.host.count(Count::ClientLeft { endpoint: waiting.endpoint() });
                match waiting.gone() {
                    Break(report) => report,
                    Continue((report, waiting)) => {
                        // Counted and logged when its call has ended; access log and trace end here.
                        if self.host.finish(id, &report, &Ending::Gone) {
                            self.keep(id, Stage::Waiting(key, waiting));
                        }
                        return;
                    }
                }
            }
            None => return,
        };
        if self.host.finish(id, &report, &Ending::Gone) {
            self.say(&report, self.now());
        }
    }

    fn count_end_of_wait(&self, is_copy: bool) {
        if is_copy {
            self.host.count(Count::CopyWaitsNoMore);
        }
    }

    /// Answers a stream, if its client is still there. One that the host no longer knows is neither
    /// counted nor logged.
    fn answer(&self, id: StreamId, ended: Ended, now: Now) {
        let left = ended.client_left();
        let (ending, report) = ended.seal(now.unix_ms, || self.host.random());
        if left || self.host.finish(id, &report, &ending) {
            self.say(&report, now);
        }
    }

    /// Counts a callback that has ended, and puts it into the log.
    fn say(&self, report: &Report, now: Now) {
        let Report { endpoint, facts, outcome, level, .. } = report;
        let (event, errcode) = (facts.event, facts.errcode);
        self.host.count(Count::Ended { endpoint, event, outcome: *outcome, errcode });
        self.say_what_was_kept_back(now.unix_ms);
        let noise = report.noise.filter(|_| *level <= Level::Warn);
        let is_admitted = noise.is_none_or(|noise| self.noise.borrow_mut().of(noise).admits(now.unix_ms));
        if is_admitted {
            self.host.log(*level, format_args!("{report}"));
        } else {
            self.set_ticks(true);
        }
    }

    fn say_what_was_kept_back(&self, unix_ms: u64) {
        let counts = self.noise.borrow_mut().each(|budget| budget.take_kept_back(unix_ms));
        counts.into_iter().flatten().for_each(|count| self.say_kept_back(count));
    }

    fn say_kept_back(&self, count: u64) {
        self.host.log(Level::Warn, format_args!("and {count} more rejected requests, which the counters have"));
    }

    fn count_call(&self, job: &Job, elapsed_ms: u64) {
        self.host.count(Count::Called { endpoint: job.endpoint(), event: job.event(), elapsed_ms });
    }
}

/// How many requests are opened before anything else has its turn.
const BATCH: usize = 32;

/// How long a worker counts as listening after it said so, in milliseconds: many ticks, and less than a
/// dead VM's record stays in flight.
const LISTENS_MS: u64 = 1_000;

/// The store's name of the time at which a worker last said that somebody waits there.
fn listening(queue: Listener) -> String {
    format!("wecom/v1/listens/{queue}")
}

/// Unix seconds of Unix milliseconds.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

/// Who this process is, among replicas: the same for all its workers. `None` if the store cannot be read
/// or written, or if there is none yet and none is given.
fn replica_id(store: &impl Store, random: Option<[u8; 16]>) -> Option<[u8; 16]> {
    const NAME: &str = "wecom/v1/replica";
    let (known, number) = store.get(NAME);
    let id = match known {
        Some(known) => known,
        None => {
            store.set(NAME, &random?, number); // or another worker did just now
            store.get(NAME).0?
        }
    };
    id.try_into().ok()
}
