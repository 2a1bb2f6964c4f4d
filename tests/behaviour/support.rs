//! Envoy with the filter, a decision endpoint and a backend behind it, and what tests ask of the
//! three. Whatever a test starts here ends with it.

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::backend::Backend;
use testbed::envoy::{Bootstrap, Envoy};
use testbed::wecom::{Account, Answer, Client, Event, Request};
use tokio::task::JoinSet;
use wecom_callback_filter::wecom::verdict::ERRCODES;

/// The callback's path in `envoy.yaml`.
pub(crate) const PATH: &str = "/suite/receive";

/// How long WeCom waits for the answer to a bind (document 95987). No bind may take longer.
pub(crate) const WECOM_WAITS: Duration = Duration::from_secs(3);

/// An Envoy of the repository's own configuration, its two clusters scripted.
pub(crate) struct Edge {
    pub(crate) account: Account,
    /// Who decides about binds.
    pub(crate) decision: Backend,
    /// The backend that was already there, which also gets the other callback types.
    pub(crate) backend: Backend,
    pub(crate) envoy: Envoy,
    pub(crate) client: Client,
}

impl Edge {
    /// Starts everything, the configuration as it is shipped.
    pub(crate) async fn start() -> Self {
        Self::start_with(|bootstrap| bootstrap).await
    }

    /// Starts everything, the configuration changed.
    pub(crate) async fn start_with(change: impl FnOnce(Bootstrap) -> Bootstrap) -> Self {
        let (decision, backend) = (Backend::start().await.unwrap(), Backend::start().await.unwrap());
        let bootstrap =
            Bootstrap::example().unwrap().cluster("decision", decision.port()).cluster("backend", backend.port());
        let envoy = Envoy::start(change(bootstrap)).await.unwrap();
        Self { account: Account::demo(), decision, backend, envoy, client: Client::http1() }
    }

    /// Sends a request to the callback's path.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        self.send_to(PATH, request).await
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

    /// Insists that no backend has seen anything at all.
    pub(crate) fn assert_nobody_was_asked(&self) {
        for backend in [&self.decision, &self.backend] {
            assert!(backend.requests().is_empty(), "a backend saw {:?}", backend.requests());
        }
    }

    /// Insists that nothing went wrong, and ends everything.
    pub(crate) async fn end(self) {
        self.envoy.assert_clean().await;
        self.envoy.stop().await.unwrap();
    }
}

/// The verdict in an encrypted reply that WeCom would have waited for, its text checked against the
/// documented one.
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

/// Insists on a rejection: that status, that word, the request's id, and nothing else.
#[track_caller]
pub(crate) fn assert_rejected(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json().unwrap();
    let id = body["request_id"].as_str().unwrap_or_default();
    assert_eq!(body, json!({ "error": word, "request_id": id }));
    assert!(!id.is_empty(), "no request id: {body}");
}

/// A further endpoint for the configuration: that path, these members in place of the first one's.
pub(crate) fn endpoint(first: &Value, path: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut endpoint = first.clone();
    endpoint["path"] = path.into();
    endpoint["name"] = path.trim_start_matches('/').replace('/', "_").into();
    change(&mut endpoint);
    endpoint
}

/// Runs everything at once and waits for all of it. A panic in one is a panic of the test.
pub(crate) async fn together<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    tasks.into_iter().collect::<JoinSet<_>>().join_all().await
}

/// The head of a raw HTTP/1.1 request to the callback's path, up to the headers that `rest` begins with.
pub(crate) fn raw_head(request: &Request, rest: &str) -> Vec<u8> {
    format!("{} {PATH}?{} HTTP/1.1\r\nhost: edge\r\n{rest}", request.method, request.query_text()).into_bytes()
}
