//! Duplicates, against the real Envoy with two workers: a callback that arrives several times, on
//! either worker and however sealed, is sent upstream once, and every copy gets the same answer.
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
mod retries;
mod two_urls;
mod update;

use std::ops::Deref;
use std::time::{Duration, Instant};

use testbed::edge::{PATH, Setup};
use testbed::envoy::Bootstrap;
use testbed::waiting::until;
use testbed::wecom::{Account, Answer, Client, Request};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

/// Locked for writing by the one test that needs the whole machine, and for reading by the tests that
/// depend on timing, so that they do not run at the same time.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// The fixture with one backend behind both clusters. Envoy has two workers, which share new
/// connections evenly.
struct Edge(testbed::edge::Edge);

impl Deref for Edge {
    type Target = testbed::edge::Edge;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Edge {
    /// Starts everything, the configuration changed.
    async fn start(change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        let setup = Setup::example().unwrap().one_backend();
        Self(setup.start_with(|bootstrap| change(bootstrap.balanced())).await.unwrap())
    }

    async fn send(&self, client: &Client, request: &Request) -> Answer {
        client.send(&self.url(), request).await.unwrap()
    }

    /// Sends without waiting for the answer. Aborting the task cancels the request.
    fn sending(&self, client: &Client, request: Request) -> JoinHandle<Answer> {
        let (client, url) = (client.clone(), self.url());
        tokio::spawn(async move { client.send(&url, &request).await.unwrap() })
    }

    fn errcode(&self, answer: &Answer) -> Option<u32> {
        answer.decrypt(&self.account).unwrap_or_else(|error| panic!("{error:#}")).errcode()
    }

    /// Asserts that no duplicate is waiting any more and that nothing went wrong.
    async fn assert_clean(&self) {
        self.until_waiting(0).await.unwrap();
        self.envoy.assert_clean().await;
    }
}

/// Sets upstream timeouts far beyond every delay in these tests.
fn patient(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.edit_plugin_value(|value| {
        for upstream in ["decision", "events"] {
            value["endpoints"][0][upstream]["timeout_ms"] = 2500.into();
        }
    })
}
