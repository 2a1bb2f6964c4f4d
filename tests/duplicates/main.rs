//! At most once, against the real Envoy with two workers: whatever arrives twice, wherever and
//! however sealed, is asked upstream once, and every copy gets the first one's answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod after;
mod failed;
mod full;
mod in_flight;
mod memory;
mod update;

use std::time::{Duration, Instant};

use testbed::backend::Backend;
use testbed::envoy::{Bootstrap, Envoy};
use testbed::wecom::{Account, Answer, Client, Request};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

/// The path of the endpoint in `envoy.yaml`.
const PATH: &str = "/suite/receive";

/// How long anything is awaited.
const PATIENCE: Duration = Duration::from_secs(15);

/// Written to by the one test that takes the whole machine, read by those that have to do with time.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Envoy with two workers, the backend behind it, WeCom's account before it.
struct Edge {
    envoy: Envoy,
    backend: Backend,
    account: Account,
    url: String,
}

impl Edge {
    /// `envoy.yaml`, both of its clusters at one backend, changed in any way.
    async fn start(change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        let backend = Backend::start().await.unwrap();
        let bootstrap = Bootstrap::example()
            .unwrap()
            .cluster("decision", backend.port())
            .cluster("backend", backend.port())
            .balanced();
        let envoy = Envoy::start(change(bootstrap)).await.unwrap();
        let url = envoy.url(PATH);
        Self { envoy, backend, account: Account::demo(), url }
    }

    /// A connection to each worker.
    async fn one_per_worker(&self) -> [Client; 2] {
        [self.envoy.connect(0, &self.url).await.unwrap(), self.envoy.connect(1, &self.url).await.unwrap()]
    }

    async fn send(&self, client: &Client, request: &Request) -> Answer {
        client.send(&self.url, request).await.unwrap()
    }

    /// Sends and does not wait for the answer. Aborted, or dropped at the test's end, it hangs up.
    fn sending(&self, client: &Client, request: Request) -> JoinHandle<Answer> {
        let (client, url) = (client.clone(), self.url.clone());
        tokio::spawn(async move { client.send(&url, &request).await.unwrap() })
    }

    fn errcode(&self, answer: &Answer) -> Option<u32> {
        answer.decrypt(&self.account).unwrap_or_else(|error| panic!("{error:#}")).errcode()
    }

    /// How many callbacks of that type ended so.
    async fn ended(&self, event: &str, outcome: &str) -> u64 {
        let name = format!("wasmcustom.wecom.endpoint=lock.event={event}.outcome={outcome}.callbacks_total");
        self.envoy.stat(&name).await.unwrap_or_else(|| panic!("no counter {name}"))
    }

    async fn until_ended(&self, event: &str, outcome: &str, count: u64) {
        until(&format!("{count} {event} end as {outcome}"), async || self.ended(event, outcome).await == count).await;
    }

    /// Waits until that many copies wait for a first one's verdict.
    async fn until_waiting(&self, count: u64) {
        let waiting = async || self.envoy.stat("wasmcustom.wecom.duplicates_waiting").await;
        until(&format!("{count} copies wait"), async || waiting().await == Some(count)).await;
    }

    /// Nothing is left over, nothing went wrong.
    async fn assert_clean(&self) {
        self.until_waiting(0).await;
        self.envoy.assert_clean().await;
    }
}

/// An upstream limit far beyond everything that is measured here.
fn patient(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.edit_plugin_value(|value| {
        for upstream in ["decision", "events"] {
            value["endpoints"][0][upstream]["timeout_ms"] = 2500.into();
        }
    })
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited {} s until {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
