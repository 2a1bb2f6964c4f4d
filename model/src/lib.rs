//! A model of Envoy as the filter's workers see it: one process with a clock, a store, queues and
//! calls, and several workers in it that run the filter's own code.
//!
//! Nothing happens by itself. Whoever holds a [`Process`] lets requests arrive, calls end, queues be
//! read and time pass, in any order, and may let anything fail ([`Troubles`]). What the workers do is
//! written down: the calls they make ([`Call`]), what becomes of each request ([`Finished`]), what
//! they count and log. What the real host forbids, the model does not forgive: a call from a
//! request's own callback, a second answer, an answer to a client that has left.

mod host;
pub mod redis;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use log::Level;
use wecom_callback_filter::callout::Received;
use wecom_callback_filter::config::Config;
use wecom_callback_filter::dedup::Listener;
use wecom_callback_filter::exchange::{Answer, Head};
use wecom_callback_filter::host::{CallId, StreamId};
use wecom_callback_filter::report::Report;
use wecom_callback_filter::worker::{Root, Stream};

pub use self::host::ModelHost;

/// How often all queues are read before somebody must have stopped reading. A message leads to one
/// more at most.
const MAX_ROUNDS: usize = 100;

/// Everything that workers share, and that is known of them. Clones are the same process.
#[derive(Clone)]
pub struct Process(Rc<RefCell<State>>);

/// The number of a worker, as [`Process::start_worker`] gave it.
pub type WorkerId = usize;

/// Runs what it is given, once, with something before it and after it.
pub type Around = fn(&mut dyn FnMut());

/// What is to fail from now on. All counts are of further tries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Troubles {
    /// So many times there are no random numbers.
    pub random: u32,
    /// So many writes to the store find that another worker wrote just before.
    pub contended: u32,
    /// So many messages are not taken by a queue.
    pub sends: u32,
    /// So many messages are taken and never arrive.
    pub lost_messages: u32,
    /// So many calls cannot begin.
    pub calls: u32,
}

/// A call that a worker has made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who made it.
    pub worker: WorkerId,
    /// The cluster that it goes to.
    pub cluster: String,
    /// Its headers, pseudo-headers included.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// When it was made, in Unix milliseconds.
    pub began_ms: u64,
}

impl Call {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Which one.
    pub stream: StreamId,
    /// What is said of it.
    pub report: Report,
    /// What its client got; none if it had left, or was reset.
    pub answer: Option<Answer>,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

struct State {
    now_ms: u64,
    random: fastrand::Rng,
    troubles: Troubles,
    /// Whether a request's end is told while it is being answered, and not after that.
    ends_at_once: bool,
    values: HashMap<String, (Vec<u8>, u32)>,
    writes: u32,
    queues: BTreeMap<Listener, VecDeque<Vec<u8>>>,
    /// Messages that may still be read in this turn.
    may_receive: usize,
    workers: Vec<Option<Rc<Root<ModelHost>>>>,
    queue_of: Vec<Listener>,
    /// Whether a worker asked for ticks.
    ticking: HashMap<WorkerId, bool>,
    /// Replaced, and staying for what is in progress.
    retiring: BTreeSet<WorkerId>,
    /// Replaced and gone, by their own word.
    retired: BTreeSet<WorkerId>,
    streams: BTreeMap<StreamId, Request>,
    next_stream: u32,
    calls: BTreeMap<CallId, Call>,
    next_call: u32,
    /// How many calls were ever made, by cluster.
    calls_made: BTreeMap<String, usize>,
    finished: Vec<Finished>,
    /// Requests that must not be answered: answered, or their clients have left.
    silent: BTreeSet<StreamId>,
    /// Whether a root's callback is running.
    in_root: bool,
    /// Whether a request is told that it has ended.
    in_log: bool,
    random_failures: usize,
    counts: BTreeMap<String, i64>,
    lines: Vec<(Level, String)>,
    host_calls: BTreeMap<&'static str, usize>,
    host_bytes: BTreeMap<&'static str, usize>,
    /// Around the filter's code.
    around_filter: Around,
    /// Around the model's, where the filter calls it.
    around_host: Around,
}

struct Request {
    worker: WorkerId,
    stream: Rc<Stream<ModelHost>>,
    /// The host does not know it any more, and has not said so.
    lost: bool,
}

impl Process {
    /// A process without workers at that time, in Unix milliseconds.
    pub fn new(now_ms: u64) -> Self {
        Self::with_seed(now_ms, 0)
    }

    /// One whose random numbers begin with that seed: another process needs others.
    pub fn with_seed(now_ms: u64, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            now_ms,
            random: fastrand::Rng::with_seed(seed),
            troubles: Troubles::default(),
            ends_at_once: false,
            values: HashMap::new(),
            writes: 0,
            queues: BTreeMap::new(),
            may_receive: 0,
            workers: Vec::new(),
            queue_of: Vec::new(),
            ticking: HashMap::new(),
            retiring: BTreeSet::new(),
            retired: BTreeSet::new(),
            streams: BTreeMap::new(),
            next_stream: 1,
            calls: BTreeMap::new(),
            next_call: 1,
            calls_made: BTreeMap::new(),
            finished: Vec::new(),
            silent: BTreeSet::new(),
            in_root: false,
            in_log: false,
            random_failures: 0,
            counts: BTreeMap::new(),
            lines: Vec::new(),
            host_calls: BTreeMap::new(),
            host_bytes: BTreeMap::new(),
            around_filter: |turn| turn(),
            around_host: |turn| turn(),
        })))
    }

    /// Has the filter's code run within the one, and the model's within the other whenever the filter
    /// calls it: to measure the filter's alone.
    pub fn surround(&self, filter: Around, host: Around) {
        let mut state = self.0.borrow_mut();
        (state.around_filter, state.around_host) = (filter, host);
    }

    /// Tells a request's end while it is being answered, and not after that.
    pub fn end_at_once(&self) {
        self.0.borrow_mut().ends_at_once = true;
    }

    /// Starts a worker with that configuration; or a further root on the same worker, as after an
    /// update, which is no different here.
    pub fn start_worker(&self, config: Config) -> WorkerId {
        let id = self.0.borrow().workers.len();
        let queue = u32::try_from(id + 1).expect("few workers");
        self.0.borrow_mut().queues.insert(queue, VecDeque::new());
        let root = self.root(id, config, Some(queue));
        let mut state = self.0.borrow_mut();
        state.workers.push(Some(root));
        state.queue_of.push(queue);
        id
    }

    /// Starts a worker without a queue, as where the sandbox does not allow for one.
    pub fn start_worker_without_queue(&self, config: Config) -> WorkerId {
        let id = self.0.borrow().workers.len();
        let root = self.root(id, config, None);
        let mut state = self.0.borrow_mut();
        state.workers.push(Some(root));
        state.queue_of.push(0);
        id
    }

    fn root(&self, worker: WorkerId, config: Config, queue: Option<Listener>) -> Rc<Root<ModelHost>> {
        let host = ModelHost { process: Rc::downgrade(&self.0), worker };
        Rc::new(self.as_root(|| Root::new(host, config, queue)))
    }

    /// A worker dies, with all that it has in progress. Its queue stays, and nobody reads it.
    pub fn kill_worker(&self, worker: WorkerId) {
        let (root, streams) = {
            let mut state = self.0.borrow_mut();
            let root = state.workers.get_mut(worker).and_then(Option::take);
            let (dead, alive) =
                std::mem::take(&mut state.streams).into_iter().partition(|(_, request)| request.worker == worker);
            state.streams = alive;
            state.calls.retain(|_, call| call.worker != worker);
            let dead: BTreeMap<StreamId, Request> = dead;
            (root, dead)
        };
        drop((root, streams));
    }

    /// A worker's configuration is replaced once its streams have ended, as Envoy does. Says whether it
    /// went at once; else it stays until it says itself that it may go.
    pub fn retire_worker(&self, worker: WorkerId) -> bool {
        assert!(self.open().iter().all(|(of, _)| *of != worker), "Envoy waits for its streams");
        let Some(root) = self.worker(worker) else { return true };
        let done = self.as_root(|| root.retire());
        let mut state = self.0.borrow_mut();
        assert!(!done || !state.ticking.get(&worker).copied().unwrap_or(false), "its timer goes on for ever");
        if done {
            state.workers[worker] = None;
            assert!(state.calls.values().all(|call| call.worker != worker), "its calls are cancelled");
        } else {
            state.retiring.insert(worker);
        }
        drop(state);
        done
    }

    /// Whether a worker whose configuration was replaced has said that it may go.
    pub fn has_retired(&self, worker: WorkerId) -> bool {
        self.0.borrow().retired.contains(&worker)
    }

    /// Whether a worker is there: neither killed nor gone with its configuration.
    pub fn is_running(&self, worker: WorkerId) -> bool {
        self.worker(worker).is_some()
    }

    /// Whether a worker has asked for ticks.
    pub fn is_ticking(&self, worker: WorkerId) -> bool {
        self.0.borrow().ticking.get(&worker).copied().unwrap_or(false)
    }

    /// A request arrives. `None` if it is for none of the endpoints and passes on.
    pub fn arrive(&self, worker: WorkerId, path: &[u8], head: &Head<'_>) -> Option<StreamId> {
        let root = self.worker(worker)?;
        let id = {
            let mut state = self.0.borrow_mut();
            let id = StreamId(state.next_stream);
            state.next_stream += 1;
            let stream = Rc::new(root.stream(id));
            state.streams.insert(id, Request { worker, stream, lost: false });
            id
        };
        let stream = self.stream(id)?;
        let is_ours = self.as_filter(|| {
            let addressed = stream.addressed(path);
            addressed.map(|addressed| stream.begin(addressed, head)).is_some()
        });
        if !is_ours {
            self.leave(id); // it ends some time, as all do
            return None;
        }
        self.bury();
        Some(id)
    }

    /// So many bytes of a request's body are there.
    pub fn buffered(&self, id: StreamId, size: usize) {
        if let Some(stream) = self.stream(id) {
            self.as_filter(|| stream.buffered(size));
            self.bury();
        }
    }

    /// A request is complete, with that body.
    pub fn complete(&self, id: StreamId, body: &[u8]) {
        if let Some(stream) = self.stream(id) {
            self.as_filter(|| stream.complete(|limit| body[..body.len().min(limit)].to_vec()));
            self.bury();
        }
    }

    /// A client leaves.
    pub fn leave(&self, id: StreamId) {
        let stream = self.0.borrow().streams.get(&id).map(|request| Rc::clone(&request.stream));
        let Some(stream) = stream else { return };
        self.0.borrow_mut().in_log = true;
        self.as_filter(|| stream.ended());
        let mut state = self.0.borrow_mut();
        state.in_log = false;
        state.streams.remove(&id);
        state.silent.insert(id);
    }

    /// The host forgets a request, and never says so.
    pub fn lose(&self, id: StreamId) {
        if let Some(request) = self.0.borrow_mut().streams.get_mut(&id) {
            request.lost = true;
        }
    }

    /// A worker reads its queue, up to that many messages. It is not called if there are none.
    pub fn read_queue(&self, worker: WorkerId, at_most: usize) {
        let Some(root) = self.worker(worker) else { return };
        if self.waiting_messages(worker) == 0 {
            return;
        }
        self.0.borrow_mut().may_receive = at_most;
        self.as_root(|| root.queue_ready());
        self.bury();
    }

    /// How many messages wait in a worker's queue.
    pub fn waiting_messages(&self, worker: WorkerId) -> usize {
        let state = self.0.borrow();
        state.queue_of.get(worker).and_then(|queue| state.queues.get(queue)).map_or(0, VecDeque::len)
    }

    /// A message from outside is put into a worker's queue.
    pub fn put_message(&self, worker: WorkerId, message: &[u8]) {
        let mut state = self.0.borrow_mut();
        let Some(queue) = state.queue_of.get(worker).copied() else { return };
        state.queues.entry(queue).or_default().push_back(message.to_vec());
    }

    /// A call ends, with a response or without. Its worker is told, and concludes it when it reads its queue.
    pub fn tell_end(&self, id: CallId, response: Option<Received>) {
        let Some(call) = self.0.borrow_mut().calls.remove(&id) else { return };
        let Some(root) = self.worker(call.worker) else { return };
        self.as_root(|| root.call_ended(id, response));
        self.bury();
    }

    /// The same, and its worker reads its queue at once.
    pub fn end_call(&self, id: CallId, response: Option<Received>) {
        let worker = self.0.borrow().calls.get(&id).map(|call| call.worker);
        self.tell_end(id, response);
        if let Some(worker) = worker {
            self.read_queue(worker, usize::MAX);
        }
    }

    /// An exchange over raw TCP ends: with what came until the other side closed the connection; or
    /// without, as it took too long or was reset, and what had come is lost.
    pub fn end_exchange(&self, id: CallId, answer: Option<&[u8]>) {
        self.end_call(id, answer.map(connected));
    }

    /// An exchange over raw TCP ends, as nobody took the connection.
    pub fn refuse_exchange(&self, id: CallId) {
        self.end_call(id, Some(not_connected()));
    }

    /// A call is cancelled: its end is never told.
    pub fn cancel_call(&self, id: CallId) {
        self.0.borrow_mut().calls.remove(&id);
    }

    /// A worker looks at its deadlines, if it asked to.
    pub fn tick(&self, worker: WorkerId) {
        let Some(root) = self.worker(worker) else { return };
        if !self.is_ticking(worker) {
            return;
        }
        self.as_root(|| root.tick());
        self.bury();
    }

    /// Reads all queues until they are empty.
    ///
    /// # Panics
    /// If they do not become empty: a worker does not read its queue, or messages beget messages.
    pub fn settle_messages(&self) {
        let waiting = || (0..self.workers()).any(|id| self.worker(id).is_some() && self.waiting_messages(id) > 0);
        for _ in 0..MAX_ROUNDS {
            if !waiting() {
                return;
            }
            (0..self.workers()).for_each(|worker| self.read_queue(worker, usize::MAX));
        }
        assert!(!waiting(), "the queues are not read to their ends");
    }

    /// The store loses everything, as it never should.
    pub fn empty_store(&self) {
        self.0.borrow_mut().values.clear();
    }

    /// Sets the clock, in Unix milliseconds.
    pub fn set_clock(&self, now_ms: u64) {
        self.0.borrow_mut().now_ms = now_ms;
    }

    /// Unix time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.0.borrow().now_ms
    }

    /// Lets things fail from now on.
    pub fn trouble(&self, change: impl FnOnce(&mut Troubles)) {
        change(&mut self.0.borrow_mut().troubles);
    }

    /// What is left of the troubles.
    pub fn troubles(&self) -> Troubles {
        self.0.borrow().troubles
    }

    /// How many workers were ever started.
    pub fn workers(&self) -> usize {
        self.0.borrow().workers.len()
    }

    /// The requests that are neither answered nor gone, with their workers.
    pub fn open(&self) -> Vec<(WorkerId, StreamId)> {
        self.0.borrow().streams.iter().map(|(id, request)| (request.worker, *id)).collect()
    }

    /// Whether a request is neither answered nor gone.
    pub fn is_open(&self, id: StreamId) -> bool {
        self.0.borrow().streams.contains_key(&id)
    }

    /// Whether the host has forgotten a request.
    pub fn is_lost(&self, id: StreamId) -> bool {
        self.0.borrow().streams.get(&id).is_some_and(|request| request.lost)
    }

    /// The calls that have not ended.
    pub fn calls(&self) -> Vec<(CallId, Call)> {
        self.0.borrow().calls.iter().map(|(id, call)| (*id, call.clone())).collect()
    }

    /// How many calls were ever made.
    pub fn calls_made(&self) -> usize {
        self.0.borrow().calls_made.values().sum()
    }

    /// The calls to a cluster that have not ended.
    pub fn calls_to(&self, cluster: &str) -> Vec<(CallId, Call)> {
        self.calls().into_iter().filter(|(_, call)| call.cluster == cluster).collect()
    }

    /// How many calls were ever made to a cluster.
    pub fn calls_made_to(&self, cluster: &str) -> usize {
        self.0.borrow().calls_made.get(cluster).copied().unwrap_or(0)
    }

    /// What has finished since this was last asked, in order.
    pub fn take_finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.0.borrow_mut().finished)
    }

    /// How often the source of randomness has failed.
    pub fn random_failures(&self) -> usize {
        self.0.borrow().random_failures
    }

    /// How often something was counted, by the words of [`Count`](wecom_callback_filter::host::Count).
    pub fn counted(&self, what: &str) -> i64 {
        self.0.borrow().counts.get(what).copied().unwrap_or(0)
    }

    /// The lines of the log, with their levels.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.0.borrow().lines.clone()
    }

    /// How often each function of the host was called since this was last asked.
    pub fn take_host_calls(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.0.borrow_mut().host_calls)
    }

    /// How many bytes each function of the host was given, or gave, since this was last asked: values, messages,
    /// bodies and lines. A sandbox copies them.
    pub fn take_host_bytes(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.0.borrow_mut().host_bytes)
    }

    fn worker(&self, worker: WorkerId) -> Option<Rc<Root<ModelHost>>> {
        self.0.borrow().workers.get(worker).cloned().flatten()
    }

    fn stream(&self, id: StreamId) -> Option<Rc<Stream<ModelHost>>> {
        let state = self.0.borrow();
        state.streams.get(&id).filter(|request| !request.lost).map(|request| Rc::clone(&request.stream))
    }

    fn as_root<T>(&self, callback: impl FnOnce() -> T) -> T {
        self.0.borrow_mut().in_root = true;
        let result = self.as_filter(callback);
        self.0.borrow_mut().in_root = false;
        result
    }

    fn as_filter<T>(&self, callback: impl FnOnce() -> T) -> T {
        let around = self.0.borrow().around_filter;
        within(around, callback)
    }

    /// Tells answered requests that they have ended.
    fn bury(&self) {
        let dead: Vec<_> = {
            let mut state = self.0.borrow_mut();
            let silent = std::mem::take(&mut state.silent);
            let dead = silent.iter().filter_map(|id| state.streams.remove(id)).collect();
            state.silent = silent;
            dead
        };
        dead.iter().for_each(|request: &Request| self.as_filter(|| request.stream.ended()));
    }
}

fn within<T>(around: Around, turn: impl FnOnce() -> T) -> T {
    let (mut turn, mut result) = (Some(turn), None);
    around(&mut || result = turn.take().map(|turn| turn()));
    result.expect("it was run")
}

/// What the host says of an exchange over raw TCP: that, until the other side closed the connection.
pub fn connected(answer: &[u8]) -> Received {
    Received::new(vec![(":status".to_owned(), b"200".to_vec())], answer.to_vec())
}

/// What the host says of an exchange over raw TCP where nobody took the connection.
pub fn not_connected() -> Received {
    let headers = [(":status", "503"), ("content-type", "text/plain")];
    let body = b"upstream connect error or disconnect/reset before headers. reset reason: connection failure";
    let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    Received::new(headers.to_vec(), body.to_vec())
}
