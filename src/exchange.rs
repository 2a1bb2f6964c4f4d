//! One callback, from its headers to its answer, as a chain of types without I/O.
//!
//! ```text
//!             headers           whole body            claim
//! Addressed ──────────▶ Reading ──────────▶ Claiming ─┬─ won ───────▶ Waiting ── conclusion ──▶ Ended
//!     │                    │                          ├─ in flight ─▶ Waiting ── settlement ──▶ Ended
//!     └── GET, or wrong ───┴── wrong ──▶ Ended        └─ settled, full ───────────────────────▶ Ended
//! ```
//!
//! Each step consumes the one before it, so nothing can happen to a callback twice or out of order,
//! and nothing comes after its answer. Time and randomness are arguments; a `now_ms` is that of the
//! steady clock, unless it says otherwise. Whoever drives it reads bytes and sends them, and decides
//! nothing.
//!
//! The answer to a claim may come later than it was asked for: [`Claiming`] keeps. The call to the
//! upstream belongs to the record, not to the exchange: when the client leaves, the exchange is over,
//! and the call goes on for the copies and for WeCom's retry.

use std::borrow::Cow;
use std::ops::ControlFlow::{self, Break, Continue};
use std::rc::Rc;

use log::Level;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::callout::{Conclusion, Headers, Job, Origin, TRACE_HEADERS, header, is_printable};
use crate::clock::Now;
use crate::config::{Config, Endpoint};
use crate::dedup::{Claim, RecordKey, Standing, Ticket};
use crate::outcome::{Kind, Noise, Outcome};
use crate::reply::{Relayed, Reply};
use crate::report::{Facts, Report};
use crate::wecom::callback::{Authentic, Callback, EventType, NotACallback, NotAuthentic};
use crate::wecom::cipher::Ciphertext;
use crate::wecom::envelope::{self, EnvelopeError};
use crate::wecom::freshness::{Freshness, Stale};
use crate::wecom::message::{NotSigned, OpenError, Opened, Sealer, SealingRandom, Signed};
use crate::wecom::query::{QueryError, SignedQuery};
use crate::wecom::verdict::Verdict;

/// How long to wait for the first byte of the body, in milliseconds. WeCom itself gives up at 3000.
pub const FIRST_BYTE_MS: u64 = 2_000;

/// How much longer than its call the first copy waits, in milliseconds: the call's own timer
/// comes first, this is for calls that were never made.
pub const CALL_GRACE_MS: u64 = 250;

/// By when an authentic callback is answered, in milliseconds from its headers: WeCom counts from
/// there, and gives up at 3000. The next tick may be 50 later.
pub const ANSWER_WITHIN_MS: u64 = 2_850;

/// A request for one of our endpoints. Only its path has been looked at.
pub struct Addressed<'p> {
    config: Rc<Config>,
    endpoint: Rc<Endpoint>,
    query: &'p [u8],
}

impl<'p> Addressed<'p> {
    /// Finds the endpoint of a path, query included. `None` if it is none of ours.
    pub fn find(config: &Rc<Config>, path: &'p [u8]) -> Option<Self> {
        let mut halves = path.splitn(2, |&byte| byte == b'?');
        let path = halves.next()?;
        let query = halves.next().unwrap_or_default();
        let endpoint = config.endpoints().iter().find(|endpoint| endpoint.path().as_bytes() == path)?;
        Some(Self { config: Rc::clone(config), endpoint: Rc::clone(endpoint), query })
    }

    /// Begins with the headers. A GET ends here, as does what is wrong; a POST goes on to its body.
    pub fn begin(self, head: &Head<'_>, now: Now) -> ControlFlow<Ended, Reading> {
        let printable = |value: &[u8]| std::str::from_utf8(value).ok().filter(|v| is_printable(v)).map(str::to_owned);
        let context = Box::new(Context {
            config: self.config,
            endpoint: self.endpoint,
            origin: Origin {
                request_id: head.request_id.and_then(printable).unwrap_or_default(),
                trace: head.trace.iter().filter_map(|(name, value)| Some((*name, printable(value)?))).collect(),
            },
            facts: Facts::UNKNOWN,
            until_ms: now.steady_ms.saturating_add(ANSWER_WITHIN_MS),
            client_left: false,
            too_late: false,
        });
        if head.is_grpc() {
            // Any answer, Envoy's own included, would arrive as an empty 200, which means "bound".
            return Break(context.end(Outcome::GrpcRequest, "content-type is application/grpc", Content::Reset));
        }
        let begun = match head.method {
            b"GET" => context.verify_url(self.query, now.unix_ms).map(Err),
            b"POST" => context.expect_body(self.query, head).map(Ok),
            _ => Err(Rejection::new(Outcome::BadMethod, "neither GET nor POST")),
        };
        match begun {
            Ok(Ok(query)) => {
                let first_byte_by_ms = Some(now.steady_ms.saturating_add(FIRST_BYTE_MS));
                Continue(Reading { context, query, first_byte_by_ms })
            }
            Ok(Err(digits)) => Break(context.end(Outcome::Verified, "", Content::Plain(digits))),
            Err(rejection) => Break(context.reject(rejection)),
        }
    }
}

/// What a request's headers say.
#[derive(Debug, Clone, Default)]
pub struct Head<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `content-length`, if there is one.
    pub content_length: Option<&'a [u8]>,
    /// `content-type`, if there is one.
    pub content_type: Option<&'a [u8]>,
    /// `x-request-id`, if there is one.
    pub request_id: Option<&'a [u8]>,
    /// Those of [`TRACE_HEADERS`] that are there.
    pub trace: Vec<(&'static str, &'a [u8])>,
    /// Whether the request ends with its headers.
    pub end_of_stream: bool,
}

impl<'a> Head<'a> {
    /// Finds what matters among the headers.
    pub fn new(headers: &'a Headers, end_of_stream: bool) -> Self {
        Self {
            method: header(headers, ":method").unwrap_or_default(),
            content_length: header(headers, "content-length"),
            content_type: header(headers, "content-type"),
            request_id: header(headers, "x-request-id"),
            trace: TRACE_HEADERS.into_iter().filter_map(|name| Some((name, header(headers, name)?))).collect(),
            end_of_stream,
        }
    }

    /// Whether Envoy would take the request for one of gRPC, or might.
    fn is_grpc(&self) -> bool {
        const GRPC: &[u8] = b"application/grpc";
        let content_type = self.content_type.unwrap_or_default().trim_ascii_start();
        content_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
    }
}

/// The headers of a POST are in, its body is not.
pub struct Reading {
    context: Box<Context>,
    query: SignedQuery,
    first_byte_by_ms: Option<u64>,
}

impl Reading {
    /// Largest body, in bytes.
    pub fn max_body_bytes(&self) -> usize {
        self.context.config.max_body_bytes()
    }

    /// More of the body has arrived: so many bytes in all.
    pub fn buffered(mut self, size: usize) -> ControlFlow<Ended, Self> {
        if size > self.max_body_bytes() {
            return Break(self.context.reject(TOO_LARGE));
        }
        self.first_byte_by_ms = None;
        Continue(self)
    }

    /// The request is complete, and this is its body.
    pub fn complete(mut self, body: &[u8], now: Now) -> ControlFlow<Ended, Claiming> {
        match self.context.open(&self.query, body, now.unix_ms) {
            Ok(callback) if self.context.until_ms <= now.steady_ms => {
                // WeCom has given up, or is about to: nobody may act on it any more.
                self.context.too_late = true;
                Break(self.context.fail(callback.into_sealer(), Outcome::Deadline, "it was complete too late"))
            }
            Ok(callback) => Continue(Claiming { context: self.context, callback }),
            Err(rejection) => Break(self.context.reject(rejection)),
        }
    }

    /// Whether it has waited for its first byte for too long.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.first_byte_by_ms.is_some_and(|by_ms| by_ms <= now_ms)
    }

    /// Ends it, since no body came. `seen_before` is whether any request had a body before it.
    pub fn give_up(self, seen_before: bool) -> Ended {
        self.context.reject(Rejection::new(Outcome::NoBody, if seen_before { NO_BODY } else { NEVER_A_BODY }))
    }

    /// The client has left, and nothing shows that it was WeCom.
    pub fn gone(self) -> Report {
        Report { level: Level::Debug, ..self.context.gone() }
    }
}

const NO_BODY: &str = "no body arrived within 2 s of the headers";
const NEVER_A_BODY: &str = "no body arrived within 2 s of the headers, nor has any reached this worker's filter yet; if every \
    POST ends so, set allow_on_headers_stop_iteration: true in its PluginConfig (Envoy 1.35 or later)";

/// An authentic callback that is to be claimed.
pub struct Claiming {
    context: Box<Context>,
    callback: Authentic,
}

impl Claiming {
    /// What the callback is recorded as: its receive id and its request id or, without one, its whole
    /// message. Only what is encrypted counts: not the URL, since two may accept the same message, and
    /// not timestamp and nonce, since the same signature holds for others.
    pub fn name(&self) -> Zeroizing<Vec<u8>> {
        let (kind, id): (&[u8], &[u8]) = match &self.callback.content().req_id {
            Some(req_id) => (b"req_id", req_id.as_bytes()),
            None => (b"message", self.callback.message()),
        };
        Zeroizing::new([self.callback.sealer().receive_id().as_bytes(), kind, id].join(&0))
    }

    /// By when a call for it would have ended, in milliseconds from now.
    pub fn call_within_ms(&self) -> u64 {
        self.patience_ms().saturating_add(CALL_GRACE_MS)
    }

    /// By when its verdict must be known if it is claimed at that time, both in steady milliseconds.
    pub fn until_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.patience_ms()).min(self.context.until_ms)
    }

    /// Takes what became of the claim.
    pub fn claimed(self, claim: Claim, now_ms: u64) -> Claimed {
        let until_ms = self.until_ms(now_ms);
        let Self { context, callback } = self;
        match claim {
            Claim::Won(ticket) => {
                // What a shared record takes to be settled, the call may not take.
                let call_until_ms = match context.config.dedup().redis() {
                    Some(redis) => until_ms.saturating_sub(redis.timeout_ms()),
                    None => context.until_ms,
                };
                let (job, sealer) = Job::new(Rc::clone(&context.endpoint), callback, &context.origin, call_until_ms);
                let until_ms = until_ms.saturating_add(CALL_GRACE_MS).min(context.until_ms);
                Claimed::Call { ticket, job, waiting: Waiting { context, sealer, until_ms, role: Role::First } }
            }
            Claim::InFlight { key, announced } => {
                let (sealer, role) = (callback.into_sealer(), Role::Copy { announced });
                Claimed::Wait { key, waiting: Waiting { context, sealer, until_ms, role } }
            }
            Claim::Settled(reply) => {
                Claimed::Ended(context.answer(callback.into_sealer(), reply, Outcome::Duplicate, AS_THE_FIRST.into()))
            }
            Claim::Full => {
                let reason = "the table has no room for another record; see dedup.capacity";
                Claimed::Ended(context.fail(callback.into_sealer(), Outcome::RecordFull, reason))
            }
            Claim::Unavailable => {
                let reason = "the table of records could not be read or written";
                Claimed::Ended(context.fail(callback.into_sealer(), Outcome::RecordUnavailable, reason))
            }
        }
    }

    /// How long its call may take, in milliseconds; with a shared record, the exchanges before and after
    /// it as well. The same on every replica, so that nobody gives up sooner than who came first.
    fn patience_ms(&self) -> u64 {
        let timeout_ms = self.context.endpoint.upstream(self.callback.content().event).timeout_ms();
        match self.context.config.dedup().redis() {
            Some(redis) => timeout_ms.saturating_add(redis.timeout_ms().saturating_mul(2)).min(ANSWER_WITHIN_MS),
            None => timeout_ms,
        }
    }
}

/// Why a copy was answered as failed, if it was.
const AS_THE_FIRST: &str = "answered as the first of its copies";

/// What is to be done about a callback after its claim.
pub enum Claimed {
    /// It is the first: make this call for it.
    Call {
        /// The right to make it.
        ticket: Ticket,
        /// What to call, and with what.
        job: Job,
        /// Who waits for its end.
        waiting: Waiting,
    },
    /// It is a copy of one whose call has not ended.
    Wait {
        /// The record that it waits for.
        key: RecordKey,
        /// Who waits.
        waiting: Waiting,
    },
    /// There is nothing to wait for.
    Ended(Ended),
}

/// A callback whose record has a call in flight: its own, or that of the first of its copies.
pub struct Waiting {
    context: Box<Context>,
    sealer: Sealer,
    until_ms: u64,
    role: Role,
}

#[derive(Clone, Copy)]
enum Role {
    /// The call is made for it.
    First,
    /// It waits for another's call, whose end this worker is told, or is not.
    Copy { announced: bool },
}

impl Waiting {
    /// Whose callback it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.context.endpoint
    }

    /// Whether it waits for the call of a copy that came before it.
    pub fn is_copy(&self) -> bool {
        matches!(self.role, Role::Copy { .. })
    }

    /// Whether time has come to look after it: its deadline is over, or nobody will tell it.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.until_ms <= now_ms || matches!(self.role, Role::Copy { announced: false })
    }

    /// Its own call has ended.
    pub fn concluded(self, conclusion: Conclusion) -> Ended {
        self.context.answer(self.sealer, conclusion.reply, conclusion.outcome, conclusion.reason)
    }

    /// The call of a copy that came before it has ended. The first is told by its own call alone: what
    /// it hears of another belongs to a claim that was given up, or has expired.
    pub fn settled(self, reply: Reply) -> ControlFlow<Ended, Self> {
        match self.role {
            Role::First => Continue(self),
            Role::Copy { .. } => {
                Break(self.context.answer(self.sealer, reply, Outcome::DuplicateInFlight, AS_THE_FIRST.into()))
            }
        }
    }

    /// Takes what its record says now, or `None` if that cannot be read; gives up if its deadline is
    /// over by then.
    pub fn told(self, standing: Option<Standing>, now_ms: u64) -> ControlFlow<Ended, Self> {
        match (self.role, standing) {
            (Role::Copy { .. }, Some(Standing::Settled(reply))) => self.settled(reply),
            (role, _) if self.until_ms <= now_ms => {
                let reason = match role {
                    Role::First => "its call had not ended by its deadline",
                    Role::Copy { .. } => "the call of the first of its copies had not ended by its deadline",
                };
                Break(self.context.fail(self.sealer, Outcome::Deadline, reason))
            }
            // Given up: the first one failed, and this copy was not told.
            (Role::Copy { .. }, Some(Standing::Absent)) => self.settled(Reply::Failed),
            _ => Continue(self),
        }
    }

    /// The client has left. A copy has ended with it, and this is said of it. The first goes on until its
    /// call has ended, since somebody decides about it; but it is not answered any more.
    pub fn gone(mut self) -> ControlFlow<Report, (Report, Self)> {
        match self.role {
            Role::Copy { .. } => Break(self.context.gone()),
            Role::First => {
                self.context.client_left = true;
                Continue((self.context.clone().gone(), self))
            }
        }
    }
}

/// A callback that has ended, and what is to be answered, not sealed yet.
pub struct Ended {
    context: Box<Context>,
    outcome: Outcome,
    reason: Cow<'static, str>,
    content: Content,
}

enum Content {
    /// Plain text.
    Plain(Vec<u8>),
    /// To be sealed: the plaintext, and the code of the verdict that it is, if it is one.
    Sealed { plaintext: Cow<'static, [u8]>, sealer: Sealer, errcode: Option<u32> },
    /// The outcome's word.
    Error,
    /// No answer: the request is reset.
    Reset,
}

/// How a request is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this answer.
    Answer(Answer),
    /// Without an answer, by a reset.
    Reset,
    /// It has ended: the client has left.
    Gone,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u32,
    /// HTTP headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// HTTP body, never empty.
    pub body: Vec<u8>,
}

const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const JSON_AND_METHODS: &[(&str, &str)] = &[("content-type", "application/json"), ("allow", "GET, POST")];

impl Ended {
    /// Whether its client had left before, so that nobody can be answered.
    pub fn client_left(&self) -> bool {
        self.context.client_left
    }

    /// Seals the answer, if it is one to be sealed. `random` is asked for then only, and may fail.
    pub fn seal(self, unix_ms: u64, random: impl FnOnce() -> Option<SealingRandom>) -> (Ending, Report) {
        let Self { mut context, mut outcome, mut reason, content } = self;
        if context.client_left {
            if let Content::Sealed { errcode, .. } = content {
                context.facts.errcode = errcode;
            }
            let reason = if reason.is_empty() {
                "its client had left".into()
            } else {
                format!("{reason}; its client had left").into()
            };
            return (Ending::Gone, Report { level: Level::Warn, ..context.report(outcome, reason) });
        }
        let answer = match content {
            Content::Plain(body) => Some(Answer { status: 200, headers: TEXT, body }),
            Content::Sealed { plaintext, sealer, errcode } => {
                let form = context.config.reply_timestamp();
                let sealed = random().and_then(|random| sealer.seal(&plaintext, unix_ms / 1000, random, form));
                match sealed {
                    Some(body) => {
                        context.facts.errcode = errcode;
                        Some(Answer { status: 200, headers: JSON, body })
                    }
                    None => {
                        outcome = Outcome::SealFailed;
                        reason = "the reply could not be sealed: no random numbers".into();
                        None
                    }
                }
            }
            Content::Error => None,
            Content::Reset => return (Ending::Reset, context.report(outcome, reason)),
        };
        let answer = answer.unwrap_or_else(|| error(outcome, &context.origin.request_id));
        (Ending::Answer(answer), context.report(outcome, reason))
    }
}

/// What is known of a request from its headers on.
#[derive(Clone)]
struct Context {
    config: Rc<Config>,
    endpoint: Rc<Endpoint>,
    origin: Origin,
    facts: Facts,
    /// By when it must be answered, in steady milliseconds.
    until_ms: u64,
    client_left: bool,
    /// Whether it was complete too late, as whoever holds a request of WeCom's can have it.
    too_late: bool,
}

impl Context {
    /// A GET: the digits that the console sent encrypted. Nothing else is ever echoed, or a captured
    /// POST, sent again as GET, would print its plaintext (document 90930).
    fn verify_url(&self, query: &[u8], unix_ms: u64) -> Result<Vec<u8>, Rejection> {
        let (query, echo) = SignedQuery::parse_with_echo(query)?;
        let opened = self.authenticate(&query, &echo, self.endpoint.verify_receive_ids(), unix_ms)?;
        let digits = opened.message();
        if !(1..=64).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Rejection::new(Outcome::NotAnEcho, "the echo is not 1 to 64 digits"));
        }
        Ok(digits.to_vec())
    }

    /// The headers of a POST.
    fn expect_body(&self, query: &[u8], head: &Head<'_>) -> Result<SignedQuery, Rejection> {
        let query = SignedQuery::parse(query)?;
        // Digits beyond any number are too large as well; Envoy itself refuses what is not a length.
        let limit = u64::try_from(self.config.max_body_bytes()).unwrap_or(u64::MAX);
        let announced = head.content_length.filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
        let announced = announced.and_then(|text| std::str::from_utf8(text).ok());
        if announced.is_some_and(|digits| digits.parse().map_or(true, |length: u64| length > limit)) {
            return Err(Rejection::new(Outcome::BodyTooLarge, "content-length is larger than max_body_bytes"));
        }
        if head.end_of_stream {
            return Err(Rejection::new(Outcome::BadEnvelope, "there is no body"));
        }
        Ok(query)
    }

    /// The body of a POST: envelope, then what a GET is checked for too, then its meaning.
    fn open(&mut self, query: &SignedQuery, body: &[u8], unix_ms: u64) -> Result<Authentic, Rejection> {
        if body.len() > self.config.max_body_bytes() {
            return Err(TOO_LARGE);
        }
        let ciphertext = envelope::parse_request(body)?;
        let opened = self.authenticate(query, &ciphertext, self.endpoint.receive_ids(), unix_ms)?;
        let callback = Callback::read(opened)?;
        self.facts = Facts::of(callback.content());
        Ok(callback.authenticate(self.freshness(unix_ms))?)
    }

    /// Signature, age, cipher and receive id, in this order: what GET and POST have in common.
    fn authenticate(
        &self,
        query: &SignedQuery,
        ciphertext: &Ciphertext,
        accepted: &[String],
        unix_ms: u64,
    ) -> Result<Opened, Rejection> {
        let signed = Signed::verify(query, ciphertext, self.endpoint.credentials())?;
        Ok(signed.fresh(self.freshness(unix_ms))?.open(accepted)?)
    }

    fn freshness(&self, unix_ms: u64) -> Freshness {
        Freshness::new(unix_ms / 1000, self.config.freshness_seconds())
    }

    /// Ends an authenticated callback with a reply. Nothing that is not a verdict answers a bind. The
    /// reason is said only if it is answered as failed.
    fn answer(self: Box<Self>, sealer: Sealer, reply: Reply, outcome: Outcome, reason: Cow<'static, str>) -> Ended {
        let event = self.facts.event;
        let (outcome, reason) = if outcome.applies_to(event) {
            (outcome, reason)
        } else {
            (Outcome::UpstreamReply, "its record is another type's, and says nothing about this one".into())
        };
        match event {
            EventType::Bind => self.answer_bind(sealer, reply.into_verdict(), outcome, reason),
            _ => self.answer_other(sealer, reply.into_relayed(), outcome, reason),
        }
    }

    /// Ends an authenticated callback about which nobody decided.
    fn fail(self: Box<Self>, sealer: Sealer, outcome: Outcome, reason: &'static str) -> Ended {
        self.answer(sealer, Reply::Failed, outcome, reason.into())
    }

    fn answer_bind(
        self: Box<Self>,
        sealer: Sealer,
        verdict: Option<Verdict>,
        outcome: Outcome,
        reason: Cow<'static, str>,
    ) -> Ended {
        let reason = if verdict.is_none() { reason } else { "".into() };
        let verdict = verdict.unwrap_or_else(Verdict::fail_closed);
        let plaintext = verdict.to_json().into();
        self.end(outcome, reason, Content::Sealed { plaintext, sealer, errcode: Some(verdict.errcode()) })
    }

    fn answer_other(
        self: Box<Self>,
        sealer: Sealer,
        relayed: Option<Relayed>,
        outcome: Outcome,
        reason: Cow<'static, str>,
    ) -> Ended {
        let sealed = |plaintext| Content::Sealed { plaintext, sealer, errcode: None };
        match relayed {
            Some(Relayed::Success) => self.end(outcome, "", Content::Plain(b"success".to_vec())),
            Some(Relayed::Object(object)) => self.end(outcome, "", sealed(object.into())),
            None => {
                let content = self.facts.event.refusal().map_or(Content::Error, |text| sealed(text.as_bytes().into()));
                self.end(outcome, reason, content)
            }
        }
    }

    /// Ends a request that is not one of our callbacks, or not yet known to be.
    fn reject(self: Box<Self>, rejection: Rejection) -> Ended {
        self.end(rejection.outcome, rejection.reason, Content::Error)
    }

    fn end(self: Box<Self>, outcome: Outcome, reason: impl Into<Cow<'static, str>>, content: Content) -> Ended {
        Ended { context: self, outcome, reason: reason.into(), content }
    }

    fn gone(self) -> Report {
        self.report(Outcome::ClientGone, "the client left before it was answered".into())
    }

    fn report(self, outcome: Outcome, reason: Cow<'static, str>) -> Report {
        let Self { endpoint, facts, origin, too_late, .. } = self;
        let (level, noise) = (outcome.level(), if too_late { Some(Noise::Holders) } else { outcome.noise() });
        Report { endpoint, facts, outcome, level, noise, request_id: origin.request_id, reason }
    }
}

/// Why a request is rejected.
struct Rejection {
    outcome: Outcome,
    reason: Cow<'static, str>,
}

const TOO_LARGE: Rejection =
    Rejection { outcome: Outcome::BodyTooLarge, reason: Cow::Borrowed("the body is larger than max_body_bytes") };

impl Rejection {
    fn new(outcome: Outcome, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, reason: reason.into() }
    }
}

impl From<QueryError> for Rejection {
    fn from(error: QueryError) -> Self {
        Self::new(Outcome::BadQuery, error.to_string())
    }
}

impl From<EnvelopeError> for Rejection {
    fn from(error: EnvelopeError) -> Self {
        Self::new(Outcome::BadEnvelope, error.to_string())
    }
}

impl From<NotSigned> for Rejection {
    fn from(error: NotSigned) -> Self {
        Self::new(Outcome::BadSignature, error.to_string())
    }
}

impl From<Stale> for Rejection {
    fn from(error: Stale) -> Self {
        Self::new(Outcome::Stale, error.to_string())
    }
}

impl From<OpenError> for Rejection {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Cipher(reason) => {
                let reason = format!("{reason}; most likely another EncodingAESKey than the one beside this token");
                Self::new(Outcome::BadCiphertext, reason)
            }
            OpenError::ReceiveId(seen) => {
                let seen = std::str::from_utf8(&seen).ok().filter(|seen| looks_like_an_id(seen));
                let seen = seen.unwrap_or("something that is not an id");
                Self::new(Outcome::BadReceiveId, format!("addressed to {seen}, which is not accepted here"))
            }
        }
    }
}

impl From<NotACallback> for Rejection {
    fn from(error: NotACallback) -> Self {
        Self::new(Outcome::NotACallback, error.to_string())
    }
}

impl From<NotAuthentic> for Rejection {
    fn from(error: NotAuthentic) -> Self {
        match error {
            NotAuthentic::OtherId => Self::new(Outcome::BadReceiveId, error.to_string()),
            NotAuthentic::Stale(_) => Self::new(Outcome::StaleMessage, error.to_string()),
        }
    }
}

/// Whether it is fit for the log: behind a wrong length field a piece of the message stands in the
/// place of the receive id.
fn looks_like_an_id(text: &str) -> bool {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(is_id)
}

/// An error with the word that the outcome lets the caller be told.
fn error(outcome: Outcome, request_id: &str) -> Answer {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a str,
        request_id: &'a str,
    }

    let status = match outcome.kind() {
        Kind::Rejected(status) | Kind::Failed(status) => status,
        Kind::BadMessage => 403,
        // A copy of a callback that failed and has no refusal of its own.
        Kind::Served | Kind::Unanswered => 503,
    };
    let body = serde_json::to_vec(&Error { error: outcome.told(), request_id });
    let headers = if outcome == Outcome::BadMethod { JSON_AND_METHODS } else { JSON };
    Answer { status, headers, body: body.unwrap_or_else(|_| outcome.told().into()) }
}

#[cfg(all(test, not(target_family = "wasm")))]
#[path = "exchange_tests.rs"]
pub(crate) mod tests;
