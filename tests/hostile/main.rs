//! Hostile traffic: what strangers send to the callback's URL, and what insiders get wrong, against
//! a real Envoy. One file per way to be hostile.
//!
//! Whatever comes in, the same must hold: nobody is told `success` or nothing at all under a 200,
//! nothing unsigned reaches an upstream, Envoy lives on, and the next callback is served.
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
mod methods;
mod mutations;
mod query;
mod secrets;
mod vectors;
mod wire;

use testbed::backend::{Backend, Behaviour};
use testbed::envoy::{Bootstrap, Envoy};
use testbed::wecom::{Account, Answer, Client, Event, Message, Request, random_id};

use wire::Wire;

/// Where callbacks go in the repository's `envoy.yaml`.
const PATH: &str = "/suite/receive";

/// An Envoy, the endpoint that decides about binds, and the backend behind all other paths.
struct Stage {
    envoy: Envoy,
    /// Answers everything with errcode 0: what gets through shows.
    decision: Backend,
    other: Backend,
    account: Account,
}

/// A good bind of this moment, to be spoilt.
struct Bind {
    device_sn: String,
    message: Vec<u8>,
    request: Request,
}

/// What must come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The sealed verdict of the decision endpoint, which saw the very message, once.
    Bound,
    /// The filter's own refusal, with this status and word; nobody else saw anything.
    Refused(u16, &'static str),
    /// Envoy's own refusal, with this status; nobody else saw anything.
    Envoy(u16),
}
use Expected::{Bound, Refused};

impl Stage {
    async fn set(change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        Self::set_for(Account::demo(), change).await
    }

    async fn set_for(account: Account, change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        let decision = Backend::start().await.unwrap();
        decision.always(Behaviour::verdict(0));
        let other = Backend::start().await.unwrap();
        let bootstrap = Bootstrap::example()
            .unwrap()
            .cluster("decision", decision.port())
            .cluster("backend", other.port())
            .account(&account);
        let envoy = Envoy::start(change(bootstrap)).await.unwrap();
        Self { envoy, decision, other, account }
    }

    fn url(&self) -> String {
        self.envoy.url(PATH)
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

    /// Insists that this came of it.
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
        assert_eq!(self.other.count(), 0, "{what}: it reached the backend of other paths");
    }

    /// The end of every scene: callbacks are still served, on both workers, and Envoy is well.
    async fn close(self) {
        for _ in 0..6 {
            let bind = self.bind();
            let answer = Client::http1().send(&self.url(), &bind.request).await.unwrap(); // a new connection each
            self.check("a good bind afterwards", &bind, Some(&answer), Bound);
        }
        self.envoy.assert_clean().await;
        self.envoy.stop().await.unwrap();
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
