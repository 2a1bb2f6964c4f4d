//! This suite's additions to the fixture, and its assertions on answers.

use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

use serde_json::{Value, json};
pub(crate) use testbed::edge::PATH;
use testbed::envoy::Bootstrap;
use testbed::wecom::{Account, Answer, Event, Request};
use tokio::task::JoinSet;
use wecom_callback_filter::wecom::verdict::ERRCODES;

/// How long WeCom waits for the answer to a bind (document 95987). No bind may take longer.
pub(crate) const WECOM_WAITS: Duration = Duration::from_secs(3);

/// The fixture, its errors unwrapped.
pub(crate) struct Edge(testbed::edge::Edge);

impl Deref for Edge {
    type Target = testbed::edge::Edge;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Edge {
    /// Starts everything, the configuration as it is shipped.
    pub(crate) async fn start() -> Self {
        Self(testbed::edge::Edge::start().await.unwrap())
    }

    /// Starts everything, the configuration changed.
    pub(crate) async fn start_with(change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        Self(testbed::edge::Edge::start_with(change).await.unwrap())
    }

    /// Sends a request to the callback's path.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        self.0.send(request).await.unwrap()
    }

    /// Sends a request to another path.
    pub(crate) async fn send_to(&self, path: &str, request: &Request) -> Answer {
        self.client.send(&self.envoy.url(path), request).await.unwrap()
    }

    /// Sends a bind of that device and opens its verdict.
    pub(crate) async fn bind(&self, device_sn: &str) -> u32 {
        self.bind_at(PATH, device_sn).await
    }

    /// The same at another endpoint.
    pub(crate) async fn bind_at(&self, path: &str, device_sn: &str) -> u32 {
        errcode(&self.send_to(path, &self.account.seal(Event::bind(device_sn))).await, &self.account)
    }

    /// Asserts that no backend received a request.
    pub(crate) fn assert_nobody_was_asked(&self) {
        for backend in [&self.decision, &self.backend] {
            assert!(backend.requests().is_empty(), "a backend received {:?}", backend.requests());
        }
    }

    /// Asserts that nothing went wrong, and stops everything.
    pub(crate) async fn end(self) {
        self.0.end().await.unwrap();
    }

    /// Stops everything, even if something went wrong.
    pub(crate) async fn stop(self) {
        self.0.envoy.stop().await.unwrap();
    }
}

/// The verdict in an encrypted reply. Asserts that it came before WeCom gives up, and that its text is
/// the documented one.
#[track_caller]
pub(crate) fn errcode(answer: &Answer, account: &Account) -> u32 {
    let reply = answer.decrypt(account).unwrap();
    let errcode = reply.errcode().unwrap_or_else(|| panic!("no verdict: {}", reply.text()));
    if let Some((_, text)) = ERRCODES.iter().find(|(code, _)| *code == errcode) {
        assert_eq!(reply.errmsg().as_deref(), Some(*text));
    }
    assert!(answer.elapsed < WECOM_WAITS, "errcode {errcode} only after {:?}", answer.elapsed);
    errcode
}

/// Asserts that a request was rejected with that status, and that the body has the outcome's word, the
/// request's id and nothing else.
#[track_caller]
pub(crate) fn assert_rejected(answer: &Answer, status: u16, outcome: &str) {
    let word = told(outcome);
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json().unwrap();
    let id = body["request_id"].as_str().unwrap_or_default();
    assert_eq!(body, json!({ "error": word, "request_id": id }));
    assert!(!id.is_empty(), "no request id: {body}");
}

/// The word that a caller is told of an outcome: one for everything that only the decrypted message
/// tells.
pub(crate) fn told(outcome: &str) -> &str {
    match outcome {
        "bad_ciphertext" | "bad_receive_id" | "not_a_callback" | "stale_message" | "not_an_echo" => "bad_message",
        other => other,
    }
}

/// A copy of the first endpoint of a configuration, at another path and changed.
pub(crate) fn endpoint(first: &Value, path: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut endpoint = first.clone();
    endpoint["path"] = path.into();
    endpoint["name"] = path.trim_start_matches('/').replace('/', "_").into();
    change(&mut endpoint);
    endpoint
}

/// Runs all tasks concurrently and waits for all of them. If one panics, the test panics.
pub(crate) async fn together<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    tasks.into_iter().collect::<JoinSet<_>>().join_all().await
}

/// The head of a raw HTTP/1.1 request to the callback's path, up to the headers that `rest` begins with.
pub(crate) fn raw_head(request: &Request, rest: &str) -> Vec<u8> {
    format!("{} {PATH}?{} HTTP/1.1\r\nhost: edge\r\n{rest}", request.method, request.query_text()).into_bytes()
}
