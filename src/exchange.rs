//! One callback, from its first byte to its answer, as a state machine without I/O.
//!
//! What happens comes in as [`Event`]s, what is to be done goes out as [`Effect`]s, one at a time;
//! time and randomness are arguments. Whoever drives it reads bytes and sends them, and decides
//! nothing. So every awkward order of events is a plain test.
//!
//! ```text
//!          headers          whole body         claim
//! (begin) ────────▶ Reading ──────────▶ Claiming ─┬─ first ──▶ Waiting ── conclusion ──▶ answer
//!    │                 │                          ├─ in flight ▶ Waiting ── settlement ──▶ answer
//!    └─ GET, or wrong ─┴─ wrong ─▶ answer         └─ recorded, full ────────────────────▶ answer
//! ```
//!
//! The call to the upstream belongs to the record, not to the exchange: when the client leaves,
//! the exchange is over, and the call goes on for the copies and for WeCom's retry.

use std::rc::Rc;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::callout::{Conclusion, Job, Reply};
use crate::config::{Config, Endpoint};
use crate::dedup::Claim;
use crate::outcome::{Kind, Outcome};
use crate::wecom::callback::{Callback, Createtime, EventType};
use crate::wecom::envelope;
use crate::wecom::message::{OpenError, Sealer, SealingRandom, Signed};
use crate::wecom::query::SignedQuery;
use crate::wecom::verdict::Verdict;

/// How long the body may let its first byte wait, in milliseconds. WeCom itself gives up at 3000.
pub const FIRST_BYTE_MS: u64 = 2_000;

/// How much longer than its call the first copy waits, in milliseconds: the call's own timer
/// comes first, this is for calls that were never made.
const CALL_GRACE_MS: u64 = 250;

/// The longest that anyone waits, in milliseconds: WeCom gives up at 3000.
const LONGEST_WAIT_MS: u64 = 2_900;

/// What a request's headers say.
#[derive(Debug, Clone, Default)]
pub struct Head<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:path`, query included.
    pub path: &'a [u8],
    /// `content-length`, if there is one.
    pub content_length: Option<&'a [u8]>,
    /// `x-request-id`, if there is one.
    pub request_id: Option<&'a [u8]>,
    /// `traceparent`, `tracestate` and `b3`, as far as there.
    pub trace: Vec<(&'static str, &'a [u8])>,
    /// Whether the request ends with its headers.
    pub end_of_stream: bool,
}

/// What happens to a callback once its headers are in.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// More of the body is there: so many bytes in all.
    Buffered(usize),
    /// The request is complete; this is its body.
    Body(&'a [u8]),
    /// The claim that was asked for has been made.
    Claimed(&'a Claim),
    /// The record that was to be looked at says this.
    Looked(&'a Claim),
    /// The call for this callback's record has ended.
    Concluded(&'a Conclusion),
    /// The record that this copy waits for has been settled or released.
    Settled(&'a Reply),
    /// Time has passed.
    Tick,
    /// The client has left.
    Gone,
}

/// What is to be done.
#[derive(Clone)]
pub enum Effect {
    /// Nothing yet.
    Wait,
    /// Claim the record of this name, and say what came of it with [`Event::Claimed`]. A call
    /// for it would have ended within so many milliseconds.
    Claim {
        /// The record's name: path and request id, or the message; wiped on drop.
        name: Zeroizing<Vec<u8>>,
        /// The longest its call can take, in milliseconds.
        within_ms: u64,
    },
    /// Look at the claimed record again, and say what it holds with [`Event::Looked`].
    Look,
    /// Make this call, for the record that was claimed.
    Call(Job),
    /// Send this answer. Nothing comes after it.
    Answer(Answer),
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u32,
    /// HTTP headers.
    pub headers: Vec<(&'static str, &'static str)>,
    /// HTTP body, never empty.
    pub body: Vec<u8>,
    /// How the callback ended.
    pub outcome: Outcome,
    /// Why, in words, for the log alone. Holds no secret and nothing of a plaintext but ids.
    pub reason: String,
}

/// What is known of a callback, for metrics, logs and traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its type; [`EventType::Other`] until it is authenticated.
    pub event: EventType,
    /// WeCom's id of the request, if it is fit to be shown.
    pub req_id: Option<String>,
    /// The device's serial number, if it is fit to be shown.
    pub device_sn: Option<String>,
    /// The code of the verdict that was sent.
    pub errcode: Option<u32>,
}

/// What an exchange needs from outside, each time.
#[derive(Clone, Copy)]
pub struct Surroundings {
    /// Unix time in milliseconds.
    pub now_ms: u64,
    /// A source of cryptographic randomness that may fail.
    pub random: fn() -> Option<SealingRandom>,
}

impl Surroundings {
    fn now_seconds(&self) -> u64 {
        self.now_ms / 1000
    }
}

/// One callback on its way.
pub struct Exchange {
    config: Rc<Config>,
    endpoint: Rc<Endpoint>,
    request_id: String,
    trace: Vec<(String, String)>,
    facts: Facts,
    copy: bool,
    state: State,
}

enum State {
    /// The headers are in, the body is not.
    Reading { query: SignedQuery, first_byte_by_ms: Option<u64> },
    /// The callback is authenticated, its claim has not been answered.
    Claiming { callback: Callback, message: Zeroizing<Vec<u8>>, sealer: Sealer },
    /// A call for its record is being made, by itself or by the first of its copies.
    Waiting { sealer: Sealer, until_ms: u64, first: bool, heard: bool },
    /// Answered, or nobody is left to be answered.
    Over,
}

impl Exchange {
    /// Whether a path, query included, is one of the endpoints'.
    pub fn is_ours(config: &Config, path: &[u8]) -> bool {
        endpoint_of(config, path).is_some()
    }

    /// Begins with the headers of a request. `None` if its path is no endpoint's: the request is
    /// not for us.
    pub fn begin(config: &Rc<Config>, head: &Head<'_>, around: &Surroundings) -> Option<(Self, Effect)> {
        let (endpoint, query) = endpoint_of(config, head.path)?;
        let carried =
            |value: &[u8]| std::str::from_utf8(value).ok().filter(|value| is_printable(value)).map(str::to_owned);
        let mut exchange = Self {
            config: Rc::clone(config),
            endpoint: Rc::clone(endpoint),
            request_id: head.request_id.and_then(carried).unwrap_or_default(),
            trace: head.trace.iter().filter_map(|(name, value)| Some(((*name).to_owned(), carried(value)?))).collect(),
            facts: Facts { event: EventType::Other, req_id: None, device_sn: None, errcode: None },
            copy: false,
            state: State::Over,
        };
        let effect = match head.method {
            b"GET" => exchange.verify_url(query, around),
            b"POST" => exchange.expect_body(query, head, around),
            _ => exchange.reject(Outcome::BadMethod, "neither GET nor POST"),
        };
        Some((exchange, effect))
    }

    /// Takes what happened, gives what to do about it. What no longer matters is ignored.
    pub fn handle(&mut self, event: Event<'_>, around: &Surroundings) -> Effect {
        match (std::mem::replace(&mut self.state, State::Over), event) {
            (State::Over, _) => Effect::Wait,
            (_, Event::Gone) => Effect::Wait, // and the state is Over

            (State::Reading { query, .. }, Event::Buffered(size)) => {
                if size > self.config.max_body_bytes {
                    return self.reject(Outcome::BodyTooLarge, "the body is larger than max_body_bytes");
                }
                self.state = State::Reading { query, first_byte_by_ms: None };
                Effect::Wait
            }
            (State::Reading { query, .. }, Event::Body(body)) => self.open(&query, body, around),
            (State::Reading { first_byte_by_ms: Some(by), .. }, Event::Tick) if by <= around.now_ms => {
                self.reject(Outcome::NoBody, "no body came behind the headers")
            }

            (State::Claiming { callback, message, sealer }, Event::Claimed(claim)) => {
                self.claimed(claim, callback, message, sealer, around)
            }

            (State::Waiting { sealer, first: true, .. }, Event::Concluded(conclusion)) => {
                self.answer(&sealer, conclusion.reply.clone(), conclusion.outcome, around)
            }
            (State::Waiting { sealer, first: false, .. }, Event::Concluded(conclusion)) => {
                // As the record keeps it: what copies on other workers and later ones are told.
                let reply = Reply::decode(&conclusion.reply.encode());
                self.answer(&sealer, reply, Outcome::DuplicateInFlight, around)
            }
            (State::Waiting { sealer, first: false, .. }, Event::Settled(reply)) => {
                self.answer(&sealer, reply.clone(), Outcome::DuplicateInFlight, around)
            }
            (State::Waiting { sealer, first: true, until_ms, .. }, Event::Tick) if until_ms <= around.now_ms => {
                self.answer(&sealer, Reply::Failed, Outcome::Deadline, around)
            }
            // A copy looks once more before it gives up, and at every tick if nobody will tell it.
            (State::Waiting { sealer, first: false, until_ms, heard }, Event::Tick)
                if until_ms <= around.now_ms || !heard =>
            {
                self.state = State::Waiting { sealer, first: false, until_ms, heard };
                Effect::Look
            }
            (State::Waiting { sealer, first: false, .. }, Event::Looked(Claim::Recorded(reply))) => {
                self.answer(&sealer, Reply::decode(reply), Outcome::DuplicateInFlight, around)
            }
            (State::Waiting { sealer, first: false, until_ms, .. }, Event::Looked(_)) if until_ms <= around.now_ms => {
                self.answer(&sealer, Reply::Failed, Outcome::Deadline, around)
            }
            // Released: the first one failed, and this copy was not told.
            (State::Waiting { sealer, first: false, .. }, Event::Looked(Claim::First)) => {
                self.answer(&sealer, Reply::Failed, Outcome::DuplicateInFlight, around)
            }

            (unmoved, _) => {
                self.state = unmoved;
                Effect::Wait
            }
        }
    }

    /// The endpoint whose callback it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What is known of it by now.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether it waits for, or was answered with, the answer to a copy that came before it.
    pub fn is_copy(&self) -> bool {
        self.copy
    }

    /// Whether it has been answered, or need not be any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// A GET: echo the digits that the console sent encrypted. Nothing else is ever echoed, or a
    /// captured POST, sent again as GET, would print its plaintext (document 90930).
    fn verify_url(&mut self, query: &[u8], around: &Surroundings) -> Effect {
        let (query, echo) = match SignedQuery::parse_with_echo(query) {
            Ok(parsed) => parsed,
            Err(error) => return self.reject(Outcome::BadQuery, error),
        };
        let endpoint = Rc::clone(&self.endpoint);
        let Some(signed) = Signed::verify(&query, &echo, &endpoint.credentials) else {
            return self.reject(Outcome::BadSignature, "the signature matches no credential");
        };
        if let Err(reason) = self.check_age("timestamp", query.unix_seconds(), around) {
            return self.reject(Outcome::Stale, reason);
        }
        let opened = match signed.open(&endpoint.verify_receive_ids) {
            Ok(opened) => opened,
            Err(error) => return self.reject_unopened(error),
        };
        let digits = opened.message.as_slice();
        if !(1..=64).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return self.reject(Outcome::NotAnEcho, "the echo is not 1 to 64 digits");
        }
        Effect::Answer(Answer {
            status: 200,
            headers: vec![("content-type", "text/plain")],
            body: digits.to_vec(),
            outcome: Outcome::Verified,
            reason: String::new(),
        })
    }

    fn expect_body(&mut self, query: &[u8], head: &Head<'_>, around: &Surroundings) -> Effect {
        let query = match SignedQuery::parse(query) {
            Ok(query) => query,
            Err(error) => return self.reject(Outcome::BadQuery, error),
        };
        // Digits beyond any number are too large as well; what is no length at all, Envoy refuses.
        let limit = u64::try_from(self.config.max_body_bytes).unwrap_or(u64::MAX);
        let announced = head.content_length.filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
        let announced = announced.and_then(|text| std::str::from_utf8(text).ok());
        if announced.is_some_and(|digits| digits.parse().map_or(true, |length: u64| length > limit)) {
            return self.reject(Outcome::BodyTooLarge, "content-length is larger than max_body_bytes");
        }
        if head.end_of_stream {
            return self.reject(Outcome::BadEnvelope, "there is no body");
        }
        let first_byte_by_ms = Some(around.now_ms.saturating_add(FIRST_BYTE_MS));
        self.state = State::Reading { query, first_byte_by_ms };
        Effect::Wait
    }

    /// The whole body is there: envelope, signature, age, cipher, meaning, in this order.
    fn open(&mut self, query: &SignedQuery, body: &[u8], around: &Surroundings) -> Effect {
        if body.len() > self.config.max_body_bytes {
            return self.reject(Outcome::BodyTooLarge, "the body is larger than max_body_bytes");
        }
        let ciphertext = match envelope::parse_request(body) {
            Ok(ciphertext) => ciphertext,
            Err(error) => return self.reject(Outcome::BadEnvelope, error),
        };
        let endpoint = Rc::clone(&self.endpoint);
        let Some(signed) = Signed::verify(query, &ciphertext, &endpoint.credentials) else {
            return self.reject(Outcome::BadSignature, "the signature matches no credential");
        };
        if let Err(reason) = self.check_age("timestamp", query.unix_seconds(), around) {
            return self.reject(Outcome::Stale, reason);
        }
        let opened = match signed.open(&endpoint.receive_ids) {
            Ok(opened) => opened,
            Err(error) => return self.reject_unopened(error),
        };
        let Some(callback) = Callback::parse(&opened.message) else {
            return self.reject(Outcome::NotACallback, "the message is no object with one event or command type");
        };
        self.facts.event = callback.event;
        self.facts.req_id = callback.req_id.as_deref().and_then(presentable);
        self.facts.device_sn = callback.device_sn.as_deref().and_then(presentable);
        if !callback.agrees_with(opened.sealer.receive_id()) {
            return self.reject(Outcome::BadReceiveId, "base_info names another id than the receive id");
        }
        if let Err(reason) = self.check_createtime(&callback, around) {
            return self.reject(Outcome::Stale, reason);
        }

        let name = record_name(&endpoint.path, &callback, &opened.message);
        let within_ms = endpoint.upstream(callback.event).timeout_ms.saturating_add(CALL_GRACE_MS);
        self.state = State::Claiming { callback, message: opened.message, sealer: opened.sealer };
        Effect::Claim { name, within_ms }
    }

    fn claimed(
        &mut self,
        claim: &Claim,
        callback: Callback,
        message: Zeroizing<Vec<u8>>,
        sealer: Sealer,
        around: &Surroundings,
    ) -> Effect {
        let timeout_ms = self.endpoint.upstream(callback.event).timeout_ms;
        let waiting = |sealer, grace_ms, first, heard| {
            let wait_ms = timeout_ms.saturating_add(grace_ms).min(LONGEST_WAIT_MS);
            let until_ms = around.now_ms.saturating_add(wait_ms);
            State::Waiting { sealer, until_ms, first, heard }
        };
        self.copy = matches!(claim, Claim::InFlight | Claim::InFlightUnheard | Claim::Recorded(_));
        match claim {
            Claim::First => {
                let headers = self.upstream_headers(&callback, sealer.receive_id());
                self.state = waiting(sealer, CALL_GRACE_MS, true, true);
                Effect::Call(Job {
                    endpoint: Rc::clone(&self.endpoint),
                    event: callback.event,
                    headers,
                    body: Rc::new(message),
                })
            }
            Claim::InFlight => {
                self.state = waiting(sealer, 0, false, true);
                Effect::Wait
            }
            Claim::InFlightUnheard => {
                self.state = waiting(sealer, 0, false, false);
                Effect::Wait
            }
            Claim::Recorded(reply) => self.answer(&sealer, Reply::decode(reply), Outcome::Duplicate, around),
            Claim::Full => self.answer(&sealer, Reply::Failed, Outcome::RecordFull, around),
            Claim::Unavailable => self.answer(&sealer, Reply::Failed, Outcome::RecordUnavailable, around),
        }
    }

    /// The headers an upstream gets. A value that is not presentable is left out: it is in the body.
    fn upstream_headers(&self, callback: &Callback, receive_id: &str) -> Vec<(String, String)> {
        let req_id = callback.req_id.as_deref().unwrap_or_default();
        let of_message = [
            ("x-wecom-event", callback.event_name.as_str()),
            ("x-wecom-req-id", req_id),
            ("x-wecom-receive-id", receive_id),
            ("idempotency-key", req_id),
        ];
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(of_message.into_iter().filter_map(|(name, value)| Some((name.to_owned(), presentable(value)?))));
        if !self.request_id.is_empty() {
            headers.push(("x-request-id".to_owned(), self.request_id.clone()));
        }
        headers.extend(self.trace.iter().cloned());
        headers
    }

    fn check_age(&self, what: &str, time: u64, around: &Surroundings) -> Result<(), String> {
        let limit = self.config.freshness_seconds;
        let distance = around.now_seconds().abs_diff(time);
        if limit == 0 || distance <= limit {
            return Ok(());
        }
        let direction = if time < around.now_seconds() { "behind" } else { "ahead of" };
        Err(format!("{what} is {distance} s {direction} the clock, more than {limit} s"))
    }

    fn check_createtime(&self, callback: &Callback, around: &Surroundings) -> Result<(), String> {
        match callback.createtime {
            _ if self.config.freshness_seconds == 0 => Ok(()),
            Createtime::At(time) => self.check_age("createtime", time, around),
            Createtime::Missing if callback.event != EventType::Bind => Ok(()),
            Createtime::Missing => Err("createtime is missing".to_owned()),
            Createtime::Malformed => Err("createtime is no unsigned integer".to_owned()),
        }
    }

    /// Answers an authenticated callback.
    fn answer(&mut self, sealer: &Sealer, reply: Reply, outcome: Outcome, around: &Surroundings) -> Effect {
        let event = self.facts.event;
        // Nothing that is not a verdict may look like one.
        let reply = match reply {
            Reply::Success | Reply::Object(_) if event == EventType::Bind => Reply::Failed,
            Reply::Verdict(_) if event != EventType::Bind => Reply::Failed,
            reply => reply,
        };
        // Under one id, but about another callback: it says nothing about this one.
        let outcome = if outcome.applies_to(event) { outcome } else { Outcome::UpstreamReply };
        let plaintext = match &reply {
            Reply::Verdict(verdict) => verdict.to_json(),
            Reply::Object(object) => Some(object.clone()),
            Reply::Failed => event.refusal().map(|text| text.as_bytes().to_vec()),
            Reply::Success => {
                return Effect::Answer(Answer {
                    status: 200,
                    headers: vec![("content-type", "text/plain")],
                    body: b"success".to_vec(),
                    outcome,
                    reason: String::new(),
                });
            }
        };
        let reason = match reply {
            Reply::Failed => format!("answered as failed: {}", outcome.name()),
            _ => String::new(),
        };
        let Some(plaintext) = plaintext else {
            return self.reject(outcome, reason);
        };
        let sealed = (around.random)()
            .and_then(|random| sealer.seal(&plaintext, around.now_seconds(), random, self.config.reply_timestamp));
        let Some(body) = sealed else {
            return self.reject(Outcome::SealFailed, "the reply could not be sealed: no random numbers");
        };
        self.facts.errcode = match event {
            EventType::Bind => Some(reply.errcode().unwrap_or(Verdict::fail_closed().errcode())),
            _ => None,
        };
        Effect::Answer(Answer {
            status: 200,
            headers: vec![("content-type", "application/json")],
            body,
            outcome,
            reason,
        })
    }

    fn reject_unopened(&mut self, error: OpenError) -> Effect {
        match error {
            OpenError::Cipher(reason) => self.reject(Outcome::BadCiphertext, reason.as_str()),
            OpenError::ReceiveId(seen) => {
                let seen = std::str::from_utf8(&seen).ok().and_then(presentable);
                let seen = seen.unwrap_or_else(|| "something unprintable".to_owned());
                self.reject(Outcome::BadReceiveId, format!("addressed to {seen}, which is not accepted here"))
            }
        }
    }

    /// Answers with an error that says the outcome's word. The reason is for the log.
    fn reject(&mut self, outcome: Outcome, reason: impl ToString) -> Effect {
        let status = match outcome.kind() {
            Kind::Rejected(status) | Kind::Failed(status) => status,
            // A copy of a callback that failed and has no refusal of its own.
            Kind::Served | Kind::Unanswered => 503,
        };
        let body = serde_json::to_vec(&Rejection { error: outcome.name(), request_id: &self.request_id });
        let mut headers = vec![("content-type", "application/json")];
        if outcome == Outcome::BadMethod {
            headers.push(("allow", "GET, POST"));
        }
        let body = body.unwrap_or_else(|_| outcome.name().into());
        Effect::Answer(Answer { status, headers, body, outcome, reason: reason.to_string() })
    }
}

/// What a rejected caller is told.
#[derive(Serialize)]
struct Rejection<'a> {
    error: &'a str,
    request_id: &'a str,
}

/// The endpoint of a path, and the query behind it.
fn endpoint_of<'a, 'p>(config: &'a Config, path: &'p [u8]) -> Option<(&'a Rc<Endpoint>, &'p [u8])> {
    let mut halves = path.splitn(2, |&byte| byte == b'?');
    let path = halves.next()?;
    let query = halves.next().unwrap_or_default();
    let endpoint = config.endpoints.iter().find(|endpoint| endpoint.path.as_bytes() == path)?;
    Some((endpoint, query))
}

/// What a callback is recorded as: its URL and its request id or, without one, its whole message.
/// Only what is encrypted counts. Timestamp and nonce do not: the same signature holds for others.
fn record_name(path: &str, callback: &Callback, message: &[u8]) -> Zeroizing<Vec<u8>> {
    let (kind, id): (&[u8], &[u8]) = match &callback.req_id {
        Some(req_id) => (b"req_id", req_id.as_bytes()),
        None => (b"message", message),
    };
    Zeroizing::new([path.as_bytes(), kind, id].join(&0))
}

/// A value fit for a header and a log line: 1 to 128 printable ASCII characters, no blank at
/// either end.
fn presentable(value: &str) -> Option<String> {
    let fit = (1..=128).contains(&value.len()) && is_printable(value) && value.trim_ascii().len() == value.len();
    fit.then(|| value.to_owned())
}

fn is_printable(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

#[cfg(all(test, not(target_family = "wasm")))]
#[path = "exchange_tests.rs"]
mod tests;
