//! What a panic in the filter costs. No input can cause one, so a module built with the feature `trap`
//! panics when a header tells it to, which kills the worker's virtual machine. Requests in progress on
//! that worker get an answer that is not an approval, the worker recovers by itself, the other worker
//! is not affected, and the table of records survives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use testbed::backend::Behaviour;
use testbed::edge::{PATH, Setup};
use testbed::module;
use testbed::waiting::until;
use testbed::wecom::{Answer, Client, Event, Request, send_raw};
use tokio::task::JoinHandle;

const HEADER: &str = "x-trap";

/// `max_stream_duration` in `envoy.yaml`, plus a margin for slow machines.
const ANSWER_LIMIT: Duration = Duration::from_secs(4 + 2);

/// The worker that is made to panic, and the other one.
const TRAPPED: usize = 0;
const OTHER: usize = 1;

#[test]
fn the_shipped_module_has_no_trap() {
    let holds = |module| std::fs::read(module).unwrap().windows(HEADER.len()).any(|bytes| bytes == HEADER.as_bytes());
    assert!(holds(module::built_with_trap().unwrap()));
    assert!(!holds(module::built().unwrap()));
}

#[tokio::test]
async fn a_panic_in_a_callback_of_the_request_costs_one_worker_for_a_moment() {
    let mut edge = Edge::start().await;
    let unread = |callback| Trap { callback, verdict: false, asked: 0, retry: 0, asked_in_all: 1 };
    edge.spring(unread("on_request_headers"), Edge::send_trapped).await;
    edge.spring(unread("on_request_body"), Edge::send_trapped).await;
    edge.spring(unread("on_request_trailers"), async |edge, request| {
        // Envoy gives the new connection to the worker that has fewer.
        let body = request.body_bytes();
        let mut bytes = format!(
            "POST {PATH}?{} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n{HEADER}: on_request_trailers\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n",
            request.query_text(),
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        bytes.extend(b"\r\n0\r\nx-checksum: 1\r\n\r\n");
        send_raw(edge.envoy.address(), &bytes).await.unwrap()
    })
    .await;
    // The answer has been sent before `on_log` is called.
    let answered = Trap { callback: "on_log", verdict: true, asked: 1, retry: 0, asked_in_all: 1 };
    edge.spring(answered, Edge::send_trapped).await;
    edge.assert_nothing_else_panicked(4).await;
}

#[tokio::test]
async fn a_panic_in_a_callback_of_the_root_costs_one_worker_for_a_moment() {
    let mut edge = Edge::start().await;
    // Nobody has opened it, so its retry is the first.
    let unread = Trap { callback: "on_queue_ready", verdict: false, asked: 0, retry: 0, asked_in_all: 1 };
    edge.spring(unread, Edge::send_trapped).await;
    // The bind is already on record, so its retry is never sent upstream.
    let claimed = |callback, asked| Trap { callback, verdict: false, asked, retry: 7, asked_in_all: asked };
    edge.spring(claimed("on_http_call_response", 1), Edge::send_trapped).await;
    edge.spring(claimed("on_tick", 1), async |edge, mut request| {
        // A tick may come at any time, so the trap is set only when the bind is waiting.
        request.headers.remove(HEADER);
        edge.backend.on_device("sn-on_tick", Behaviour::hang());
        let waiting = edge.sending(TRAPPED, &request);
        until("the backend was asked", async || edge.asked("sn-on_tick") == 1).await.unwrap();
        let setter = edge.account.seal(Event::bind("sn-setter")).with_method("PUT").with_header(HEADER, b"on_tick");
        assert_eq!(edge.send(TRAPPED, &setter).await.status, 405);
        waiting.await.unwrap()
    })
    .await;
    edge.assert_nothing_else_panicked(3).await;
}

/// A callback of the module to panic in, and what becomes of the bind that causes the panic.
struct Trap {
    callback: &'static str,
    /// Whether the bind is answered with its verdict; otherwise with an error.
    verdict: bool,
    /// How often the backend has received the bind by then.
    asked: usize,
    /// The verdict that WeCom's retry gets.
    retry: u32,
    /// How often the backend has received the bind after the retry.
    asked_in_all: usize,
}

/// The fixture with one backend and the module that panics on demand, and connections to each of
/// Envoy's workers.
struct Edge {
    fixture: testbed::edge::Edge,
    clients: [Client; 2],
    _spare: Client,
    reloads: u64,
}

impl Deref for Edge {
    type Target = testbed::edge::Edge;

    fn deref(&self) -> &Self::Target {
        &self.fixture
    }
}

impl Edge {
    async fn start() -> Self {
        let setup = Setup::example().unwrap().one_backend();
        let fixture = setup.start_with(|bootstrap| {
            bootstrap
                .module(module::built_with_trap().unwrap())
                .balanced()
                .edit_hcm(|hcm| hcm["http_protocol_options"] = json!({ "enable_trailers": true }))
        });
        let fixture = fixture.await.unwrap();
        let clients = fixture.one_client_per_worker().await.unwrap();
        let spare = fixture.envoy.connect(OTHER, &fixture.url()).await.unwrap();
        let held = async || fixture.envoy.connections_held().await.unwrap() == [1, 2];
        until("one worker had one connection and the other had two", held).await.unwrap();
        Self { fixture, clients, _spare: spare, reloads: 0 }
    }

    /// Causes the panic with `send` while other callbacks are in progress on both workers, and asserts
    /// what becomes of all of them.
    async fn spring(&mut self, trap: Trap, send: impl AsyncFnOnce(&Self, Request) -> Answer) {
        let Trap { callback, verdict, asked, retry, asked_in_all } = trap;
        let device_sn = format!("sn-{callback}");
        let (decided, waiting, elsewhere) =
            (Event::bind("sn-decided"), Event::bind("sn-waiting"), Event::bind("sn-elsewhere"));
        self.backend.forget();
        self.backend.on_device("sn-decided", Behaviour::verdict(3));
        self.backend.on_device("sn-waiting", Behaviour::hang());
        self.backend.on_device("sn-elsewhere", Behaviour::verdict(4).after(Duration::from_millis(700)));
        assert_eq!(self.errcode(&self.send(TRAPPED, &self.account.seal(&decided)).await), Some(3));
        let steady = self.steady_traffic();
        let neighbour = self.sending(TRAPPED, &self.account.seal(&waiting));
        until("the neighbour waited", async || self.asked("sn-waiting") == 1).await.unwrap();
        let copy = self.sending(OTHER, &self.account.seal(&waiting));
        let first_elsewhere = self.sending(OTHER, &self.account.seal(&elsewhere));
        until("the other worker's first waited", async || self.asked("sn-elsewhere") == 1).await.unwrap();
        let copy_of_elsewhere = self.sending(TRAPPED, &self.account.seal(&elsewhere));

        let bind = Event::bind(&device_sn);
        let request = self.account.seal(&bind).with_header(HEADER, callback.as_bytes());
        let answer = send(self, request).await;
        assert!(answer.elapsed < ANSWER_LIMIT, "{callback}: {:?}", answer.elapsed);
        if verdict {
            assert_eq!(self.errcode(&answer), Some(0), "{callback}");
        } else {
            assert_eq!(answer.status, 503, "{callback}: {answer:?}");
        }
        // A tick may have come just before, and opened it.
        let ticked = callback == "on_queue_ready" && self.asked(&device_sn) == 1;
        let (asked, retry) = if ticked { (1, 7) } else { (asked, retry) };
        assert_eq!(self.asked(&device_sn), asked, "{callback}");
        self.envoy.wait_for_log(&format!("the trap in {callback}")).await.unwrap();

        // Errors while the virtual machine is dead, then verdicts again.
        until("the worker served again", async || {
            let answer = self.send(TRAPPED, &self.account.seal(Event::bind("sn-next"))).await;
            assert!(answer.status == 503 || self.errcode(&answer) == Some(0), "{callback}: {answer:?}");
            let other = self.clients[TRAPPED].get(&self.envoy.url("/other")).await.unwrap();
            assert_eq!(other.status, 200, "{callback}: other paths do not enter the virtual machine");
            answer.status == 200
        })
        .await
        .unwrap();
        self.reloads += 1;
        assert_eq!(self.reloads().await, self.reloads, "{callback}: only one worker restarted");

        for worker in [TRAPPED, OTHER] {
            let answer = self.send(worker, &self.account.seal(&decided)).await;
            assert_eq!(self.errcode(&answer), Some(3), "{callback}: the record survives");
            let answer = self.send(worker, &self.account.seal(&bind)).await;
            assert_eq!(self.errcode(&answer), Some(retry), "{callback}");
        }
        assert_eq!(self.asked("sn-decided"), 1, "{callback}");
        assert_eq!(self.asked(&device_sn), asked_in_all, "{callback}");

        let neighbour = neighbour.await.unwrap();
        assert_eq!(neighbour.status, 503, "{callback}: {neighbour:?}");
        assert!(neighbour.elapsed < ANSWER_LIMIT, "{callback}: {:?}", neighbour.elapsed);
        assert_eq!(self.errcode(&copy.await.unwrap()), Some(7), "{callback}: the other worker gets no verdict");
        for worker in [TRAPPED, OTHER] {
            assert_eq!(self.errcode(&self.send(worker, &self.account.seal(&waiting)).await), Some(7), "{callback}");
        }
        assert_eq!(self.asked("sn-waiting"), 1, "{callback}");

        // The other worker's verdict is announced to the dead worker as well, which does no harm.
        assert_eq!(self.errcode(&first_elsewhere.await.unwrap()), Some(4), "{callback}");
        let copy = copy_of_elsewhere.await.unwrap();
        assert!(copy.status == 503 || self.errcode(&copy) == Some(4), "{callback}: {copy:?}");
        assert_eq!(self.errcode(&self.send(TRAPPED, &self.account.seal(&elsewhere)).await), Some(4), "{callback}");
        assert_eq!(self.asked("sn-elsewhere"), 1, "{callback}");
        assert!(steady.stop().await > 0, "{callback}");
    }

    async fn send_trapped(&self, request: Request) -> Answer {
        self.send(TRAPPED, &request).await
    }

    async fn send(&self, worker: usize, request: &Request) -> Answer {
        self.clients[worker].send(&self.url(), request).await.unwrap()
    }

    fn sending(&self, worker: usize, request: &Request) -> JoinHandle<Answer> {
        let (client, url, request) = (self.clients[worker].clone(), self.url(), request.clone());
        tokio::spawn(async move { client.send(&url, &request).await.unwrap() })
    }

    /// Binds on the other worker, one after the other, each of which must be decided.
    fn steady_traffic(&self) -> Steady {
        let (client, url, account) = (self.clients[OTHER].clone(), self.url(), self.account.clone());
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let task = tokio::spawn(async move {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.send(&url, &account.seal(Event::bind("sn-steady"))).await.unwrap();
                assert_eq!(answer.decrypt(&account).unwrap().errcode(), Some(0));
                served += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            served
        });
        Steady { stopping, task }
    }

    fn errcode(&self, answer: &Answer) -> Option<u32> {
        answer.decrypt(&self.account).unwrap_or_else(|error| panic!("{error:#}")).errcode()
    }

    fn asked(&self, device_sn: &str) -> usize {
        self.backend.requests_for(device_sn).len()
    }

    async fn reloads(&self) -> u64 {
        let stats = self.envoy.stats().await.unwrap();
        stats.iter().filter(|(name, _)| name.ends_with("vm_reload_success")).map(|(_, count)| count).sum()
    }

    /// Asserts what `Envoy::assert_clean` does, except for the panics that the test caused.
    async fn assert_nothing_else_panicked(&self, traps: usize) {
        let log = self.envoy.log();
        assert_eq!(log.matches("panicked").count(), traps, "{log}");
        assert_eq!(log.matches("the trap in").count(), traps, "{log}");
        assert!(!log.contains("restricted"), "{log}");
        assert_eq!(self.reloads().await, u64::try_from(traps).unwrap());
    }
}

/// Traffic that continues until it is stopped.
struct Steady {
    stopping: Arc<AtomicBool>,
    task: JoinHandle<u32>,
}

impl Steady {
    /// Stops it and returns how many binds were served.
    async fn stop(self) -> u32 {
        self.stopping.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
