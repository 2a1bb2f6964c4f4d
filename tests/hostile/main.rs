//! Hostile and malformed traffic to the callback's URL, against a real Envoy. One file per kind.
//!
//! Whatever is sent, the same must hold: nobody gets a 200 that is empty or says `success`, nothing
//! unsigned reaches an upstream, Envoy keeps running, and the next callback is served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod bodies;
mod crowds;
mod headers;
mod impersonation;
mod methods;
mod mutations;
mod padding_oracle;
mod query;
mod secrets;
mod token_alone;
mod vectors;
mod wire;

use std::ops::Deref;

use testbed::backend::Behaviour;
use testbed::edge::{PATH, Setup};
use testbed::envoy::Bootstrap;
use testbed::wecom::{Account, Answer, Client, Event, Message, Request, random_id};

use wire::Wire;

/// The fixture. The decision endpoint approves everything, so that whatever reaches it shows.
struct Edge(testbed::edge::Edge);

impl Deref for Edge {
    type Target = testbed::edge::Edge;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A valid, fresh bind, for tests to corrupt.
struct Bind {
    device_sn: String,
    message: Vec<u8>,
    request: Request,
}

/// What must come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The decision endpoint's verdict, encrypted. The endpoint received exactly this message, once.
    Bound,
    /// The filter's own rejection, with this status and word. No backend received anything.
    Refused(u16, &'static str),
    /// Envoy's own rejection, with this status. No backend received anything.
    Envoy(u16),
}
use Expected::{Bound, Refused};

impl Edge {
    /// Starts everything, the configuration as it is shipped.
    async fn start() -> Self {
        Self::start_with(|bootstrap| bootstrap).await
    }

    /// Starts everything, the configuration changed.
    async fn start_with(change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        Self::start_for(Account::demo(), change).await
    }

    /// The same with another account's secrets.
    async fn start_for(account: Account, change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        let edge = Setup::example().unwrap().account(account).start_with(change).await.unwrap();
        edge.decision.always(Behaviour::verdict(0));
        Self(edge)
    }

    fn bind(&self) -> Bind {
        self.bind_with(|event| event)
    }

    fn bind_with(&self, change: impl FnOnce(Event) -> Event) -> Bind {
        let device_sn = format!("sn-{}", random_id());
        let event = change(Event::bind(&device_sn));
        Bind { device_sn, message: event.bytes(&self.account), request: self.account.seal(&event) }
    }

    /// Sends bytes on a connection of their own; `None` if it is closed without an answer.
    async fn send(&self, bytes: &[u8]) -> Option<Answer> {
        Wire::open(self.envoy.address()).await.ask(bytes).await
    }

    /// Asserts that the answer and the backends are as expected.
    fn check(&self, what: &str, bind: &Bind, answer: Option<&Answer>, expected: Expected) {
        let saw = self.decision.requests_for(&bind.device_sn);
        let Some(answer) = answer else { panic!("{what}: closed without an answer, instead of {expected:?}") };
        let got = format!("{what}: {} {:?} instead of {expected:?}", answer.status, answer.text());
        match expected {
            Bound => {
                let reply = answer.decrypt(&self.account).unwrap_or_else(|error| panic!("{got}: {error:#}"));
                assert_eq!(reply.errcode(), Some(0), "{got}");
                assert_eq!(saw.len(), 1, "{what}: the decision endpoint was asked {} times", saw.len());
                assert!(saw[0].body == bind.message, "{what}: the decision endpoint got another message");
            }
            Refused(status, word) => {
                assert_eq!((answer.status, answer.rejection().as_deref()), (status, Some(word)), "{got}");
                assert_eq!(saw.len(), 0, "{what}: it reached the decision endpoint");
            }
            Expected::Envoy(status) => {
                assert_eq!((answer.status, answer.rejection()), (status, None), "{got}");
                assert_eq!(saw.len(), 0, "{what}: it reached the decision endpoint");
            }
        }
        assert_eq!(self.backend.count(), 0, "{what}: it reached the backend of other paths");
    }

    /// Asserts that both workers still serve callbacks and that nothing went wrong, and stops everything.
    async fn end(self) {
        for _ in 0..6 {
            let bind = self.bind();
            let answer = Client::http1().send(&self.url(), &bind.request).await.unwrap(); // a new connection each
            self.check("a good bind afterwards", &bind, Some(&answer), Bound);
        }
        self.0.end().await.unwrap();
    }
}

impl Bind {
    /// Path and query.
    fn target(&self) -> String {
        format!("{PATH}?{}", self.request.query_text())
    }

    fn body(&self) -> Vec<u8> {
        self.request.body_bytes()
    }

    /// The whole request over HTTP/1.1, with these headers besides `host` and `content-length`.
    fn bytes(&self, headers: &[(&str, &[u8])]) -> Vec<u8> {
        wire::request("POST", self.target().as_bytes(), headers, &self.body())
    }
}
