//! The call to an upstream: what it is asked, and what its answer counts as.
//!
//! Pure, like the rest: a [`Job`] says what to send, a [`Response`] what came back, and the
//! [`Conclusion`] what the record keeps and every copy is answered with.

use std::rc::Rc;

use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::config::{Endpoint, Upstream};
use crate::outcome::Outcome;
use crate::wecom::callback::EventType;
use crate::wecom::verdict::Verdict;

/// Largest response that is read, in bytes. A verdict has a hundred.
pub const MAX_RESPONSE_BYTES: usize = 65_536;

/// How much sooner than its timeout a call may end and still count as timed out, in milliseconds:
/// Envoy's timers and its clock do not go by the same beat.
const TIMER_SLACK_MS: u64 = 50;

/// A call to be made.
#[derive(Clone)]
pub struct Job {
    /// Whose callback it is.
    pub endpoint: Rc<Endpoint>,
    /// Its type.
    pub event: EventType,
    /// The headers besides the pseudo-headers, printable ASCII.
    pub headers: Vec<(String, String)>,
    /// The decrypted message, byte for byte; wiped on drop.
    pub body: Rc<Zeroizing<Vec<u8>>>,
}

/// What came back from a call that was made.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// `:status`, as it came.
    pub status: &'a [u8],
    /// Whether the response said how long its body is: `content-length`, or chunked.
    pub framed: bool,
    /// The body; of one larger than [`MAX_RESPONSE_BYTES`], at least one byte more than that.
    pub body: &'a [u8],
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// What everyone who waits for it is answered with.
    pub reply: Reply,
    /// How it counts.
    pub outcome: Outcome,
}

/// The plaintext answer to a callback, before it is sealed for anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A verdict on a bind.
    Verdict(Verdict),
    /// An upstream's JSON object, to be sealed as it is.
    Object(Vec<u8>),
    /// Taken, nothing to say: plain `success`. Never for a bind.
    Success,
    /// Nobody decided. The type's own refusal, or an error.
    Failed,
}

impl Job {
    /// Whom to call.
    pub fn upstream(&self) -> &Upstream {
        self.endpoint.upstream(self.event)
    }

    /// What the call's end counts as: with a response, or without one if it could not be made or
    /// broke off. `elapsed_ms` is how long it took; it only tells the failures apart.
    pub fn conclude(&self, response: Option<Response<'_>>, elapsed_ms: u64) -> Conclusion {
        let failed = |outcome| Conclusion { reply: Reply::Failed, outcome };
        let timed_out = elapsed_ms.saturating_add(TIMER_SLACK_MS) >= self.upstream().timeout_ms;
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
        let reply = match self.event {
            EventType::Bind => self.verdict(&response),
            _ => relayed(&response),
        };
        match reply {
            Some(reply @ Reply::Verdict(_)) if reply.errcode() == Some(0) => {
                Conclusion { reply, outcome: Outcome::Bound }
            }
            Some(reply @ Reply::Verdict(_)) => Conclusion { reply, outcome: Outcome::Refused },
            Some(reply) => Conclusion { reply, outcome: Outcome::Delivered },
            None => failed(Outcome::UpstreamReply),
        }
    }

    fn verdict(&self, response: &Response<'_>) -> Option<Reply> {
        if says_success(response) {
            return self.endpoint.empty_is_success.then(|| Reply::Verdict(Verdict::new(0, None)));
        }
        Verdict::from_json(response.body).map(Reply::Verdict)
    }
}

impl Conclusion {
    /// Whether the record keeps it. A bind's always: even where it failed, the upstream may have
    /// acted. Another callback that failed is to be delivered when WeCom sends it again.
    pub fn is_kept(&self, event: EventType) -> bool {
        event == EventType::Bind || self.reply != Reply::Failed
    }
}

impl Reply {
    /// Longest encoding, in bytes: a tag, a code and a text; objects up to the same length.
    pub const MAX_ENCODED_LEN: usize = 101;

    /// The bytes that a record keeps. An object too long for it is kept as taken, and its copies
    /// are answered `success`.
    pub fn encode(&self) -> Vec<u8> {
        let (tag, content): (u8, Vec<u8>) = match self {
            Self::Failed => (0, Vec::new()),
            Self::Success => (1, Vec::new()),
            Self::Verdict(verdict) => {
                let code = verdict.errcode().to_be_bytes();
                (2, [&code, verdict.errmsg().as_bytes()].concat())
            }
            Self::Object(object) if object.len() < Self::MAX_ENCODED_LEN => (3, object.clone()),
            Self::Object(_) => (1, Vec::new()),
        };
        let mut bytes = vec![tag];
        bytes.extend(content);
        bytes
    }

    /// Reads what [`Reply::encode`] wrote. What is no such thing counts as failed.
    pub fn decode(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            Some((1, [])) => Self::Success,
            Some((2, content)) => match content.split_first_chunk::<4>() {
                Some((code, text)) => match std::str::from_utf8(text) {
                    Ok(text) => Self::Verdict(Verdict::new(u32::from_be_bytes(*code), Some(text.to_owned()))),
                    Err(_) => Self::Failed,
                },
                None => Self::Failed,
            },
            Some((3, object)) => Self::Object(object.to_vec()),
            _ => Self::Failed,
        }
    }

    /// The code of a verdict.
    pub fn errcode(&self) -> Option<u32> {
        match self {
            Self::Verdict(verdict) => Some(verdict.errcode()),
            _ => None,
        }
    }
}

/// What another callback's upstream said: an object, or that it took it.
fn relayed(response: &Response<'_>) -> Option<Reply> {
    if says_success(response) {
        return Some(Reply::Success);
    }
    let text = std::str::from_utf8(response.body).ok()?;
    let is_object = text.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    is_object.then(|| Reply::Object(response.body.to_vec()))
}

/// Whether a 2xx means approval the way WeCom itself reads it: an empty body, or `success`.
///
/// Unlike a JSON object, neither shows whether it is whole, so the response must have said where
/// its body ends: a connection that merely closed may have been about to say anything.
fn says_success(response: &Response<'_>) -> bool {
    let framed = response.framed || response.status == b"204";
    framed && matches!(response.body, b"" | b"success")
}

#[cfg(test)]
#[path = "callout_tests.rs"]
mod tests;
