//! The call to an upstream: what it is asked, and what its answer counts as.
//!
//! Pure, like the rest: a [`Job`] says what to send, a [`Response`] what came back, and the
//! [`Conclusion`] what the record keeps and every copy is answered with. Nothing else knows what the
//! request to an upstream looks like.

mod diagnosis;

use std::borrow::Cow;
use std::rc::Rc;

use serde::de::IgnoredAny;
use thiserror::Error;
use zeroize::Zeroizing;

use self::diagnosis::ByEnvoy;
use crate::config::{Endpoint, Upstream};
use crate::outcome::Outcome;
use crate::reply::{Relayed, Reply};
use crate::wecom::callback::{Authentic, EventType, MsgType};
use crate::wecom::message::Sealer;
use crate::wecom::verdict::Verdict;

/// Largest response that is read, in bytes. A verdict has a hundred.
pub const MAX_RESPONSE_BYTES: usize = 65_536;

/// How much sooner than its timeout a call may end and still count as timed out, in milliseconds:
/// Envoy's timers and its clock can disagree by some milliseconds.
const TIMER_SLACK_MS: u64 = 50;

/// Headers of the request that are passed on to the upstream as they came: they tie its spans to
/// the caller's.
pub const TRACE_HEADERS: [&str; 3] = ["traceparent", "tracestate", "b3"];

/// A list of HTTP headers, names in lower case. Values are bytes: Envoy passes on more than ASCII.
pub type Headers = [(String, Vec<u8>)];

/// The first value of a header, by its lower-case name.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
}

/// A call to be made, for an authentic callback.
pub struct Job {
    endpoint: Rc<Endpoint>,
    event: EventType,
    msg_type: MsgType,
    headers: Vec<(&'static str, String)>,
    body: Zeroizing<Vec<u8>>,
    until_ms: u64,
}

/// What is known of the request that brought a callback, and goes on to the upstream.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// `x-request-id`; empty if there is none.
    pub request_id: String,
    /// Those of [`TRACE_HEADERS`] that are there and printable.
    pub trace: Vec<(&'static str, String)>,
}

/// The request that a job makes.
pub struct UpstreamRequest<'a> {
    /// The Envoy cluster to send it to.
    pub cluster: &'a str,
    /// Its headers, pseudo-headers included.
    pub headers: Vec<(&'a str, &'a str)>,
    /// Its body.
    pub body: &'a [u8],
    /// How long the whole call may take, last byte included, in milliseconds.
    pub timeout_ms: u64,
}

/// What came back from a call that was made.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    status: &'a [u8],
    framed: bool,
    content_type: Option<&'a [u8]>,
    body: &'a [u8],
}

/// The same, kept for later.
#[derive(Debug, Clone)]
pub struct Received {
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Received {
    /// A response of those headers and that body; of one larger than [`MAX_RESPONSE_BYTES`], at least
    /// one byte more than that.
    pub fn new(headers: Vec<(String, Vec<u8>)>, body: Vec<u8>) -> Self {
        Self { headers, body }
    }

    /// What it says.
    pub fn response(&self) -> Response<'_> {
        Response::new(&self.headers, &self.body)
    }
}

/// Why a call could not even begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotCalled {
    /// Envoy has no cluster of that name.
    #[error("is not known to Envoy")]
    UnknownCluster,
    /// The cluster has no healthy host, or its circuit breaker is open.
    #[error("took no call: no healthy host, or an open circuit breaker")]
    NoHost,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// What everyone who waits for it is answered with.
    pub reply: Reply,
    /// How it counts.
    pub outcome: Outcome,
    /// Why it failed, in words, for the log; empty if it did not. Nothing of what the upstream said.
    pub reason: Cow<'static, str>,
    /// Whether the record keeps it. If not, the callback is delivered when WeCom sends it again.
    pub is_kept: bool,
}

/// What is known of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The upstream never got it: no host, connection refused, circuit breaker.
    NotDelivered,
    /// The upstream itself says that it failed.
    Answered,
    /// It may have got it, and acted: too late, reset, cut off.
    Unknown,
}

impl Job {
    /// The call for that callback, which must have ended by that steady millisecond, and what its reply is
    /// sealed with.
    pub fn new(endpoint: Rc<Endpoint>, callback: Authentic, origin: &Origin, until_ms: u64) -> (Self, Sealer) {
        let content = callback.content();
        let (event, msg_type) = (content.event, content.msg_type);
        let req_id = content.req_id.as_deref().unwrap_or_default();
        let of_message = [
            ("x-wecom-event", content.event_name.as_str()),
            ("x-wecom-req-id", req_id),
            ("x-wecom-receive-id", callback.sealer().receive_id()),
            ("idempotency-key", req_id),
        ];
        // A value that is not presentable is left out: it is in the body.
        let mut headers: Vec<_> =
            of_message.into_iter().filter_map(|(name, value)| Some((name, presentable(value)?))).collect();
        if !origin.request_id.is_empty() {
            headers.push(("x-request-id", origin.request_id.clone()));
        }
        headers.extend(origin.trace.iter().cloned());
        let (body, sealer) = callback.into_parts();
        (Self { endpoint, event, msg_type, headers, body, until_ms }, sealer)
    }

    /// Whose callback it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its type.
    pub fn event(&self) -> EventType {
        self.event
    }

    /// Whom to call.
    pub fn upstream(&self) -> &Upstream {
        self.endpoint.upstream(self.event)
    }

    /// What to send at that time. `None` if the callback's time is over: nobody may act on it any more.
    pub fn request(&self, now_ms: u64) -> Option<UpstreamRequest<'_>> {
        let left_ms = self.until_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)?;
        let upstream = self.upstream();
        let mut headers = vec![
            (":method", "POST"),
            (":path", upstream.path()),
            (":authority", upstream.authority()),
            ("content-type", "application/json"),
            // For Envoy, which does not pass it on: a cluster's own retry policy would deliver it again.
            ("x-envoy-max-retries", "0"),
        ];
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        headers.extend(upstream.headers().iter().map(|header| (header.name(), header.value())));
        Some(UpstreamRequest {
            cluster: upstream.cluster(),
            headers,
            body: &self.body,
            timeout_ms: upstream.timeout_ms().min(left_ms),
        })
    }

    /// What a call counts as that could not even begin.
    pub fn not_made(&self, why: NotCalled) -> Conclusion {
        self.failed(Outcome::UpstreamUnreachable, Failure::NotDelivered, format!("{} {why}", self.cluster()))
    }

    /// What a call counts as that the root never heard of.
    pub fn not_handed_over(&self) -> Conclusion {
        self.failed(Outcome::UpstreamUnreachable, Failure::NotDelivered, "the worker's own queue took no message")
    }

    /// What a call counts as whose callback's time was over before it could be made.
    pub fn too_late(&self) -> Conclusion {
        self.failed(Outcome::Deadline, Failure::NotDelivered, "its time was over before the call could be made")
    }

    /// What the call's end counts as: with a response, or without one if it broke off. `elapsed_ms` is
    /// how long it took of the `timeout_ms` it was given; both only tell the failures apart.
    pub fn conclude(&self, response: Option<Response<'_>>, elapsed_ms: u64, timeout_ms: u64) -> Conclusion {
        let timed_out = elapsed_ms.saturating_add(TIMER_SLACK_MS) >= timeout_ms;
        let after = |outcome, failure, what: &str| {
            self.failed(outcome, failure, format!("{} {what} after {elapsed_ms} ms", self.cluster()))
        };
        let Some(response) = response else {
            return if timed_out {
                after(Outcome::UpstreamTimeout, Failure::Unknown, "had begun to answer and not finished")
            } else {
                after(Outcome::UpstreamUnreachable, Failure::Unknown, "broke off its answer")
            };
        };
        if !matches!(response.status, [b'2', _, _]) {
            // Envoy answers for an upstream that does not: 504 in its place, 503, or 502.
            return match (response.status, diagnosis::by_envoy(response.body)) {
                (b"504", Some(ByEnvoy::TimedOut)) => {
                    after(Outcome::UpstreamTimeout, Failure::Unknown, "had not answered")
                }
                (b"503", Some(ByEnvoy::Broken { what, delivered })) => {
                    let failure = if delivered { Failure::Unknown } else { Failure::NotDelivered };
                    after(Outcome::UpstreamUnreachable, failure, what)
                }
                (b"502", Some(ByEnvoy::Broken { .. })) => {
                    after(Outcome::UpstreamStatus, Failure::Unknown, "answered what is no HTTP")
                }
                (status, _) => {
                    // These come from something in between, a proxy or Envoy itself, that gave up waiting.
                    let in_between = matches!(status, b"408" | b"502" | b"504");
                    let failure = if in_between { Failure::Unknown } else { Failure::Answered };
                    after(Outcome::UpstreamStatus, failure, &format!("answered with {}", diagnosis::status(status)))
                }
            };
        }
        let reply = match self.event {
            _ if response.body.len() > MAX_RESPONSE_BYTES => None,
            EventType::Bind => self.verdict(&response).map(Reply::Verdict),
            _ => relayed(&response).map(Reply::Relayed),
        };
        let Some(reply) = reply else {
            let what = match self.event {
                EventType::Bind => diagnosis::no_verdict(&response, self.endpoint.empty_is_success()),
                _ => diagnosis::no_object(&response),
            };
            let what = format!("answered with {}: {what},", diagnosis::status(response.status));
            // A 2xx says that something was done, whatever else it says.
            return after(Outcome::UpstreamReply, Failure::Unknown, &what);
        };
        let outcome = match &reply {
            Reply::Verdict(verdict) if verdict.errcode() == 0 => Outcome::Bound,
            Reply::Verdict(_) => Outcome::Refused,
            Reply::Relayed(_) | Reply::Failed => Outcome::Delivered,
        };
        Conclusion { reply, outcome, reason: Cow::Borrowed(""), is_kept: true }
    }

    fn cluster(&self) -> String {
        format!("cluster '{}'", self.upstream().cluster())
    }

    /// A bind that failed stays failed: even where it was not delivered, its copies are told what the
    /// first was told. An event that failed is to be delivered when WeCom sends it again; a command
    /// only if it surely has not been carried out: nobody got it, or the upstream itself says that it
    /// failed, by its status.
    fn failed(&self, outcome: Outcome, failure: Failure, reason: impl Into<Cow<'static, str>>) -> Conclusion {
        let is_kept = match (self.event, self.msg_type) {
            (EventType::Bind, _) => true,
            (_, MsgType::Event) => false,
            (_, MsgType::Command) => failure == Failure::Unknown,
        };
        Conclusion { reply: Reply::Failed, outcome, reason: reason.into(), is_kept }
    }

    fn verdict(&self, response: &Response<'_>) -> Option<Verdict> {
        if response.says_success() {
            return self.endpoint.empty_is_success().then(|| Verdict::new(0, None));
        }
        Verdict::from_json(response.body)
    }
}

impl<'a> Response<'a> {
    /// A response of those headers and that body; of one larger than [`MAX_RESPONSE_BYTES`], at least
    /// one byte more than that.
    pub fn new(headers: &'a Headers, body: &'a [u8]) -> Self {
        Self {
            status: header(headers, ":status").unwrap_or_default(),
            framed: header(headers, "content-length").is_some() || header(headers, "transfer-encoding").is_some(),
            content_type: header(headers, "content-type"),
            body,
        }
    }

    /// What came over a raw connection; `None` if there was none, which Envoy tells by another status.
    pub fn connected(&self) -> Option<&'a [u8]> {
        (self.status == b"200").then_some(self.body)
    }

    /// Whether a 2xx means approval the way WeCom itself reads it: an empty body, or `success`.
    ///
    /// Unlike a JSON object, neither shows whether it is whole, so the response must have said where
    /// its body ends, by `content-length` or chunks: a connection that merely closed may have been
    /// about to say anything.
    fn says_success(&self) -> bool {
        let framed = self.framed || self.status == b"204";
        framed && matches!(self.body, b"" | b"success")
    }
}

/// A value fit for a header and a log line: 1 to 128 printable ASCII characters, no blank at
/// either end.
pub fn presentable(value: &str) -> Option<String> {
    let fit = (1..=128).contains(&value.len()) && is_printable(value) && value.trim_ascii().len() == value.len();
    fit.then(|| value.to_owned())
}

/// Whether a value is printable ASCII throughout.
pub fn is_printable(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// What another callback's upstream said: an object, or that it took it.
fn relayed(response: &Response<'_>) -> Option<Relayed> {
    if response.says_success() {
        return Some(Relayed::Success);
    }
    let text = std::str::from_utf8(response.body).ok()?;
    let is_object = text.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    is_object.then(|| Relayed::Object(response.body.to_vec()))
}

#[cfg(test)]
#[path = "callout_tests.rs"]
mod tests;
