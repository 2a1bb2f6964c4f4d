//! Several Envoys that share their record of duplicates in a real redis-server, with the configuration of
//! deploy/replicas: a callback is sent upstream once, whichever of them its copies arrive on and whatever
//! becomes of Redis or of an Envoy meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod balancer;
mod copies;
mod cost;
mod forged;
mod metrics;
mod rotation;
mod server;
mod shipped;
mod storm;
mod troubles;

use std::time::{Duration, Instant};

use testbed::backend::Backend;
use testbed::edge::{Edge, Setup};
use testbed::envoy::Bootstrap;
use testbed::redis::{self, Link, Server};
use testbed::wecom::Event;
use tokio::sync::RwLock;

/// Locked for writing by the one test that needs the whole machine, for reading by all others: they
/// depend on timing.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Two Envoys, one backend and one Redis, each Envoy with a link of its own to it.
struct Replicas {
    one: Edge,
    other: Edge,
    backend: Backend,
    redis: Server,
    /// From `one`, and from `other`.
    links: [Link; 2],
}

impl Replicas {
    /// Starts everything; `None`, and a line that says so, where there is no redis-server.
    async fn start() -> Option<Self> {
        Self::start_with(|bootstrap| bootstrap).await
    }

    /// The same, both configurations changed.
    async fn start_with(change: impl Fn(Bootstrap) -> Bootstrap) -> Option<Self> {
        if !redis::is_there() {
            return None;
        }
        let redis = Server::start().await.unwrap();
        let backend = Backend::start().await.unwrap();
        let links = [Link::to(redis.port()).unwrap(), Link::to(redis.port()).unwrap()];
        let [one, other] = [
            replica(&backend, links[0].port(), &change).await, //
            replica(&backend, links[1].port(), &change).await,
        ];
        Some(Self { one, other, backend, redis, links })
    }

    /// Asserts that nobody is left waiting, that Envoy had no troubles, and that no log holds a secret.
    async fn end(self) {
        for edge in [self.one, self.other] {
            end(edge).await;
        }
    }
}

/// Starts one Envoy with that way to Redis.
async fn replica(backend: &Backend, redis_port: u16, change: impl Fn(Bootstrap) -> Bootstrap) -> Edge {
    let setup = Setup::of(Bootstrap::replica().unwrap()).served_by(backend);
    setup.start_with(|bootstrap| change(bootstrap.cluster("record", redis_port))).await.unwrap()
}

async fn end(edge: Edge) {
    edge.until_waiting(0).await.unwrap();
    let mut written = edge.envoy.log();
    for line in edge.envoy.access_log() {
        written.push_str(&line.to_string());
    }
    for secret in [redis::SECRET, redis::PASSWORD, edge.account.token(), edge.account.encoding_aes_key()] {
        assert!(!written.contains(secret), "a secret was written:\n{written}");
    }
    edge.end().await.unwrap();
}

/// Sends a bind and gives its verdict.
async fn verdict(edge: &Edge, event: &Event) -> u32 {
    let answer = edge.send(&edge.account.seal(event)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.decrypt(&edge.account).unwrap().errcode().unwrap()
}

/// The same, with the time that the answer took.
async fn timed_verdict(edge: &Edge, event: &Event) -> (u32, Duration) {
    let began = Instant::now();
    (verdict(edge, event).await, began.elapsed())
}

/// How many exchanges with Redis had that result.
async fn exchanged(edge: &Edge, result: &str) -> u64 {
    let name = format!("wasmcustom.wecom.result={result}.record_exchanges_total");
    edge.envoy.stat(&name).await.unwrap_or_else(|| panic!("no counter {name}"))
}

/// How many settlements wait to be written again.
async fn repeats_waiting(edge: &Edge) -> u64 {
    edge.envoy.stat("wasmcustom.wecom.record_repeats_waiting").await.unwrap()
}

/// Has Redis's failures decided by each replica alone.
fn alone(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.edit_plugin_value(|value| value["dedup"]["redis"]["on_error"] = "local".into())
}
