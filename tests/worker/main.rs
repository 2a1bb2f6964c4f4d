//! The worker that Envoy runs, on a model of Envoy: every awkward order of events as a plain sequence.
//! What is sent and opened is WeCom's side of the test bed.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::restriction, missing_docs)]

mod bodies;
mod calls;
mod copies;
mod every_order;
mod freshness;
mod leaps;
mod replicas;
mod storm;
mod troubles;

use std::cell::RefCell;
use std::collections::BTreeMap;

use model::{Call, Finished, Process, WorkerId};
use serde_json::{Value, json};
use testbed::wecom::{Account, Event, Request, unix_now};
use wecom_callback_filter::callout::Received;
use wecom_callback_filter::config::Config;
use wecom_callback_filter::exchange::Head;
use wecom_callback_filter::host::{CallId, StreamId};

const PATH: &str = "/suite/receive";

/// How long a call may take, and what a copy waits, in milliseconds.
const TIMEOUT_MS: u64 = 900;

/// A process, WeCom before it, and what has finished in it.
struct Edge {
    process: Process,
    account: Account,
    finished: RefCell<BTreeMap<StreamId, Finished>>,
}

impl Edge {
    /// With two workers.
    fn new() -> Self {
        let edge = Self::without_workers();
        edge.start_worker(|_| {});
        edge.start_worker(|_| {});
        edge
    }

    fn without_workers() -> Self {
        Self::of(Process::new(unix_now() * 1000))
    }

    fn of(process: Process) -> Self {
        Self { process, account: Account::demo(), finished: RefCell::default() }
    }

    /// The usual configuration, changed in any way.
    fn config(&self, change: impl FnOnce(&mut Value)) -> Config {
        let (token, key) = (self.account.token(), self.account.encoding_aes_key());
        let mut config = json!({
            "endpoints": [{
                "path": PATH,
                "name": "lock",
                "receive_ids": [self.account.receive_id()],
                "credentials": [{ "token": token, "encoding_aes_key": key }],
                "decision": { "cluster": "decision", "timeout_ms": TIMEOUT_MS },
                "events": { "cluster": "backend", "timeout_ms": TIMEOUT_MS },
            }],
            "max_body_bytes": 4096,
        });
        change(&mut config);
        Config::parse(config.to_string().as_bytes(), &|_| None).unwrap()
    }

    fn start_worker(&self, change: impl FnOnce(&mut Value)) -> WorkerId {
        self.process.start_worker(self.config(change))
    }

    /// WeCom's request about an event, made at the model's time.
    fn seal(&self, event: Event) -> Request {
        let now = self.process.now_ms() / 1000;
        self.account.seal_at(event.createtime(now), now, "nonce")
    }

    /// The headers of a request arrive.
    fn headers(&self, worker: WorkerId, request: &Request) -> StreamId {
        let path = format!("{PATH}?{}", request.query_text());
        let head = Head { method: request.method.as_bytes(), request_id: Some(b"rid"), ..Head::default() };
        self.process.arrive(worker, path.as_bytes(), &head).expect("one of ours")
    }

    /// A request arrives whole, and its worker has not looked at it yet.
    fn sent(&self, worker: WorkerId, request: &Request) -> StreamId {
        let id = self.headers(worker, request);
        self.process.complete(id, &request.body_bytes());
        id
    }

    /// A request arrives whole, and its worker opens it.
    fn arrive(&self, worker: WorkerId, request: &Request) -> StreamId {
        let id = self.sent(worker, request);
        self.process.read_queue(worker, usize::MAX);
        id
    }

    /// The same, and its call is made.
    fn called(&self, worker: WorkerId, request: &Request) -> (StreamId, CallId) {
        (self.arrive(worker, request), self.the_call().0)
    }

    /// The one call that is being made.
    #[track_caller]
    fn the_call(&self) -> (CallId, Call) {
        let calls = self.process.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.into_iter().next().unwrap()
    }

    fn ends(&self, call: CallId, status: &str, body: &str) {
        self.process.end_call(call, Some(received(status, body)));
    }

    /// A call ends with a verdict.
    fn decides(&self, call: CallId, errcode: u32) {
        self.ends(call, "200", &json!({ "errcode": errcode }).to_string());
    }

    fn pass(&self, ms: u64) {
        self.process.set_clock(self.process.now_ms() + ms);
    }

    fn tick_all(&self) {
        (0..self.process.workers()).for_each(|worker| self.process.tick(worker));
    }

    /// What has become of a request, if anything.
    fn finished(&self, id: StreamId) -> Option<Finished> {
        let mut finished = self.finished.borrow_mut();
        for one in self.process.take_finished() {
            assert!(finished.insert(one.stream, one).is_none(), "finished twice");
        }
        finished.get(&id).cloned()
    }

    #[track_caller]
    fn waits(&self, id: StreamId) {
        assert!(self.finished(id).is_none(), "{:?}", self.finished(id));
    }

    /// Insists on a sealed verdict and an outcome.
    #[track_caller]
    fn verdict(&self, id: StreamId, errcode: u32, outcome: &str) {
        let finished = self.finished(id).expect("not answered");
        let answer = finished.answer.expect("nobody to answer");
        assert_eq!(finished.report.outcome.name(), outcome, "{}", finished.report);
        assert_eq!(answer.status, 200);
        let reply = self.account.open_reply(&answer.body).unwrap();
        assert_eq!((reply.errcode(), finished.report.facts.errcode), (Some(errcode), Some(errcode)));
    }

    /// Insists on an error or on plain `success`.
    #[track_caller]
    fn plain(&self, id: StreamId, status: u32, outcome: &str) {
        let finished = self.finished(id).expect("not answered");
        let answer = finished.answer.expect("nobody to answer");
        assert_eq!((answer.status, finished.report.outcome.name()), (status, outcome), "{}", finished.report);
        match status {
            200 => assert_eq!(answer.body, b"success"),
            _ => assert_eq!(
                serde_json::from_slice::<Value>(&answer.body).unwrap(),
                json!({ "error": outcome, "request_id": "rid" })
            ),
        }
    }

    /// Insists that a client left unanswered.
    #[track_caller]
    fn gone(&self, id: StreamId) {
        let finished = self.finished(id).expect("nothing is said of it");
        assert!(finished.answer.is_none());
        assert_eq!(finished.report.outcome.name(), "client_gone");
    }

    /// How many callbacks of that type ended so.
    fn ended(&self, event: &str, outcome: &str) -> i64 {
        self.process.counted(&format!("lock {event} {outcome}"))
    }

    /// Insists that nothing is left over: nobody waits, and nobody is counted as waiting.
    #[track_caller]
    fn is_quiet(&self) {
        assert!(self.process.open().is_empty(), "{:?}", self.process.open());
        assert_eq!(self.process.counted("copies waiting"), 0);
    }

    fn logged(&self, text: &str) -> usize {
        self.process.log().iter().filter(|(_, line)| line.contains(text)).count()
    }
}

fn bind() -> Event {
    Event::bind("sn").req_id("r1")
}

fn unbind() -> Event {
    Event::unbind("sn").req_id("r1")
}

/// What an upstream answers.
fn received(status: &str, body: &str) -> Received {
    let headers = [(":status", status), ("content-length", "1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    Received::new(headers.to_vec(), body.as_bytes().to_vec())
}
