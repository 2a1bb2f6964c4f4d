//! The call to an upstream: what it is asked, and what its answer counts as.
//!
//! Pure, like the rest: a [`Job`] says what to send, a [`Response`] what came back, and the
//! [`Conclusion`] what the record keeps and every copy is answered with. Nothing else knows what the
//! request to an upstream looks like.

use std::rc::Rc;

use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::config::{Endpoint, Upstream};
use crate::outcome::Outcome;
use crate::reply::{Relayed, Reply};
use crate::wecom::callback::{Authentic, EventType};
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
    headers: Vec<(&'static str, String)>,
    body: Zeroizing<Vec<u8>>,
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
    body: &'a [u8],
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// What everyone who waits for it is answered with.
    pub reply: Reply,
    /// How it counts.
    pub outcome: Outcome,
}

impl Job {
    /// The call for that callback, and what its reply is sealed with.
    pub fn new(endpoint: Rc<Endpoint>, callback: Authentic, origin: &Origin) -> (Self, Sealer) {
        let content = callback.content();
        let event = content.event;
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
        (Self { endpoint, event, headers, body }, sealer)
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

    /// What to send.
    pub fn request(&self) -> UpstreamRequest<'_> {
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
        UpstreamRequest { cluster: upstream.cluster(), headers, body: &self.body, timeout_ms: upstream.timeout_ms() }
    }

    /// What the call's end counts as: with a response, or without one if it could not be made or
    /// broke off. `elapsed_ms` is how long it took; it only tells the failures apart.
    pub fn conclude(&self, response: Option<Response<'_>>, elapsed_ms: u64) -> Conclusion {
        let failed = |outcome| Conclusion { reply: Reply::Failed, outcome };
        let timed_out = elapsed_ms.saturating_add(TIMER_SLACK_MS) >= self.upstream().timeout_ms();
        let Some(response) = response else {
            return failed(if timed_out { Outcome::UpstreamTimeout } else { Outcome::UpstreamUnreachable });
        };
        if !matches!(response.status, [b'2', _, _]) {
            // Envoy answers for an upstream that does not: 504 in its place, or 503.
            return failed(match response.status {
                b"504" if response.body.starts_with(b"upstream request timeout") => Outcome::UpstreamTimeout,
                b"503" if response.body.starts_with(b"upstream connect error") => Outcome::UpstreamUnreachable,
                _ => Outcome::UpstreamStatus,
            });
        }
        if response.body.len() > MAX_RESPONSE_BYTES {
            return failed(Outcome::UpstreamReply);
        }
        match self.event {
            EventType::Bind => match self.verdict(&response) {
                Some(verdict) => {
                    let outcome = if verdict.errcode() == 0 { Outcome::Bound } else { Outcome::Refused };
                    Conclusion { reply: Reply::Verdict(verdict), outcome }
                }
                None => failed(Outcome::UpstreamReply),
            },
            _ => match relayed(&response) {
                Some(relayed) => Conclusion { reply: Reply::Relayed(relayed), outcome: Outcome::Delivered },
                None => failed(Outcome::UpstreamReply),
            },
        }
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
            body,
        }
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

impl Conclusion {
    /// Whether the record keeps it. A bind's always: even where it failed, the upstream may have
    /// acted. Another callback that failed is to be delivered when WeCom sends it again.
    pub fn is_kept(&self, event: EventType) -> bool {
        event == EventType::Bind || self.reply != Reply::Failed
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
