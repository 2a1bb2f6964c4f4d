//! The plugin configuration: JSON, or the protobuf bytes of a `google.protobuf.Struct`, to [`Config`].
//!
//! Parse, don't validate: a [`Config`] that exists is right. Every refusal names the field by its
//! path (`endpoints[0].credentials[1].encoding_aes_key: …`) and quotes no value, since any value
//! may be a secret in the wrong place.

mod fields;
mod headers;
mod redis;
mod secret;

use std::rc::Rc;

use prost::Message;
use thiserror::Error;

use self::fields::Fields;
pub use self::headers::Header;
pub use self::redis::{OnError, Redis};
pub use self::secret::Secret;
use crate::wecom::callback::EventType;
use crate::wecom::credential::{Credential, EncodingAesKey, Token};
use crate::wecom::envelope::TimestampForm;

/// Looks up an environment variable by its name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Bounds and defaults, in one place. The README's table is held against them by a test.
pub mod limits {
    use std::ops::RangeInclusive;

    /// `timeout_ms`: a bind's verdict must be back at WeCom within 3000 ms.
    pub const TIMEOUT_MS: RangeInclusive<u64> = 1..=2800;
    /// Default of `timeout_ms`.
    pub const TIMEOUT_MS_DEFAULT: u64 = 900;
    /// `freshness_seconds`: off, up to a year.
    pub const FRESHNESS_SECONDS: RangeInclusive<u64> = 0..=31_536_000;
    /// Default of `freshness_seconds`: the life of an `auth_code`.
    pub const FRESHNESS_SECONDS_DEFAULT: u64 = 600;
    /// Longest `dedup.ttl_seconds`: twice the longest freshness, and a minute.
    pub const TTL_SECONDS_MAX: u64 = 63_072_060;
    /// What the default of `dedup.ttl_seconds` adds to twice the freshness.
    pub const TTL_MARGIN_SECONDS: u64 = 60;
    /// `dedup.capacity`: 256 bytes a record at most, so up to 256 MiB.
    pub const CAPACITY: RangeInclusive<u64> = 1..=1_048_576;
    /// Default of `dedup.capacity`.
    pub const CAPACITY_DEFAULT: u64 = 65_536;
    /// `dedup.redis.timeout_ms`: two exchanges and a call must fit into what WeCom waits.
    pub const REDIS_TIMEOUT_MS: RangeInclusive<u64> = 1..=1000;
    /// Default of `dedup.redis.timeout_ms`.
    pub const REDIS_TIMEOUT_MS_DEFAULT: u64 = 100;
    /// Default of `dedup.redis.key_prefix`.
    pub const KEY_PREFIX_DEFAULT: &str = "wecom:";
    /// Length of `dedup.redis.secret`, in bytes.
    pub const RECORD_SECRET_LEN: RangeInclusive<usize> = 32..=128;
    /// `max_body_bytes`.
    pub const MAX_BODY_BYTES: RangeInclusive<u64> = 1..=16_777_216;
    /// Default of `max_body_bytes`.
    pub const MAX_BODY_BYTES_DEFAULT: u64 = 65_536;
}

/// A configuration that is right. Made by [`Config::parse`] and by nothing else.
#[derive(Debug, Clone)]
pub struct Config {
    endpoints: Vec<Rc<Endpoint>>,
    freshness_seconds: u64,
    dedup: Dedup,
    max_body_bytes: usize,
    reply_timestamp: TimestampForm,
}

/// One callback URL registered with WeCom.
#[derive(Debug, Clone)]
pub struct Endpoint {
    index: usize,
    path: String,
    name: String,
    receive_ids: Vec<String>,
    verify_receive_ids: Vec<String>,
    credentials: Vec<Rc<Credential>>,
    decision: Upstream,
    empty_is_success: bool,
    events: Upstream,
}

impl Endpoint {
    /// Its place in the configuration, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Exact path, query excluded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Label in metrics and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ids accepted at the end of a POSTed message.
    pub fn receive_ids(&self) -> &[String] {
        &self.receive_ids
    }

    /// Ids accepted on URL verification: those and further ones.
    pub fn verify_receive_ids(&self) -> &[String] {
        &self.verify_receive_ids
    }

    /// Newest first.
    pub fn credentials(&self) -> &[Rc<Credential>] {
        &self.credentials
    }

    /// Whether a bind's 2xx that is empty, or `success`, is errcode 0.
    pub fn empty_is_success(&self) -> bool {
        self.empty_is_success
    }

    /// Who is called about a callback of that type.
    pub fn upstream(&self, event: EventType) -> &Upstream {
        match event {
            EventType::Bind => &self.decision,
            _ => &self.events,
        }
    }
}

/// Whom to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    cluster: String,
    authority: String,
    path: String,
    headers: Vec<Header>,
    timeout_ms: u64,
}

impl Upstream {
    /// An Envoy cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// `:authority` of the call.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// `:path` of the call.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Further headers of the call, by which the upstream can know the filter.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The whole call, last byte included, in milliseconds.
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }
}

/// The record of duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    ttl_seconds: u32,
    capacity: u32,
    redis: Option<Redis>,
}

impl Dedup {
    /// How long a record lives, in seconds: at least twice the freshness and one.
    pub fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    /// How many records live at a time.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The record shared by all replicas, if there is one.
    pub fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()
    }
}

impl Config {
    /// Reads a plugin configuration in either form. `env` looks up the environment variables that
    /// secrets may be given by.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn parse(bytes: &[u8], env: Env<'_>) -> Result<Self, ConfigError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ConfigError::new("configuration", "is empty"));
        }
        // The bytes of a Struct are never well-formed JSON: they name a field without quotes.
        let value = match (fields::from_json(bytes), prost_types::Struct::decode(bytes)) {
            (Ok(value), _) => value,
            (Err(_), Ok(decoded)) => fields::from_struct(decoded),
            (Err(error), Err(_)) => return Err(ConfigError::new("configuration", error.to_string())),
        };
        config(&mut Fields::top(value)?, env)
    }

    /// One per callback URL, paths unique.
    pub fn endpoints(&self) -> &[Rc<Endpoint>] {
        &self.endpoints
    }

    /// Largest distance of a timestamp from now, in seconds; 0 switches the check off.
    pub fn freshness_seconds(&self) -> u64 {
        self.freshness_seconds
    }

    /// The record of duplicates.
    pub fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    /// Largest request body, in bytes.
    pub fn max_body_bytes(&self) -> usize {
        self.max_body_bytes
    }

    /// How a reply's timestamp is written.
    pub fn reply_timestamp(&self) -> TimestampForm {
        self.reply_timestamp
    }
}

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// The field, as a path from the top: `endpoints[0].path`.
    pub field: String,
    /// What is wrong with it. Quotes no value.
    pub reason: String,
}

impl ConfigError {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

fn config(top: &mut Fields, env: Env<'_>) -> Result<Config, ConfigError> {
    let freshness_seconds =
        top.number("freshness_seconds", &limits::FRESHNESS_SECONDS, limits::FRESHNESS_SECONDS_DEFAULT)?;
    let max_body_bytes = top.number("max_body_bytes", &limits::MAX_BODY_BYTES, limits::MAX_BODY_BYTES_DEFAULT)?;
    let reply_timestamp = match top.text("reply_timestamp")?.as_deref() {
        None | Some("string") => TimestampForm::String,
        Some("number") => TimestampForm::Number,
        Some(_) => return Err(top.wrong("reply_timestamp", "must be string or number")),
    };
    let dedup = dedup(&mut top.object("dedup")?.unwrap_or_default(), freshness_seconds, env)?;
    let mut endpoints: Vec<Rc<Endpoint>> = Vec::new();
    for (index, mut fields) in top.objects("endpoints")?.into_iter().enumerate() {
        let endpoint = endpoint(index, &mut fields, env)?;
        if let Some(first) = endpoints.iter().position(|known| known.path == endpoint.path) {
            return Err(fields.wrong("path", &format!("is also the path of endpoints[{first}]")));
        }
        endpoints.push(Rc::new(endpoint));
    }
    top.finish()?;
    let max_body_bytes = usize::try_from(max_body_bytes).unwrap_or(usize::MAX);
    Ok(Config { endpoints, freshness_seconds, dedup, max_body_bytes, reply_timestamp })
}

fn dedup(fields: &mut Fields, freshness: u64, env: Env<'_>) -> Result<Dedup, ConfigError> {
    let twice = freshness.saturating_mul(2);
    let default = twice.saturating_add(limits::TTL_MARGIN_SECONDS);
    let ttl = fields.number("ttl_seconds", &(0..=limits::TTL_SECONDS_MAX), default)?;
    let least = twice.saturating_add(1);
    if ttl < least {
        let reason = format!("must be at least 2 x freshness_seconds + 1, which is {least}");
        return Err(fields.wrong("ttl_seconds", &reason));
    }
    let capacity = fields.number("capacity", &limits::CAPACITY, limits::CAPACITY_DEFAULT)?;
    let redis = fields.object("redis")?.map(|mut fields| redis::parse(&mut fields, env)).transpose()?;
    fields.finish()?;
    Ok(Dedup {
        redis,
        ttl_seconds: u32::try_from(ttl).unwrap_or(u32::MAX),
        capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
    })
}

fn endpoint(index: usize, fields: &mut Fields, env: Env<'_>) -> Result<Endpoint, ConfigError> {
    let path = fields.required_text("path")?;
    if !is_path(&path) || path.contains('?') {
        return Err(fields.wrong("path", "must begin with / and hold visible ASCII characters other than # and ?"));
    }
    if let Some(unreachable) = never_arrives(&path) {
        return Err(
            fields.wrong("path", &format!("holds {unreachable}, which no request has once Envoy normalised it"))
        );
    }
    let name = match fields.text("name")? {
        Some(name) if !name.is_empty() && name.bytes().all(is_name_byte) => name,
        Some(_) => return Err(fields.wrong("name", "must be one or more of a-z, 0-9, _ and -")),
        None => path.bytes().map(|b| if is_name_byte(b) { char::from(b) } else { '_' }).collect(),
    };
    let receive_ids = fields.texts("receive_ids")?;
    if receive_ids.is_empty() {
        return Err(fields.wrong("receive_ids", "must hold at least one id"));
    }
    let verify_receive_ids = receive_ids.iter().cloned().chain(fields.texts("verify_receive_ids")?).collect();
    let mut credentials = Vec::new();
    for mut pair in fields.objects("credentials")? {
        credentials.push(Rc::new(credential(&mut pair, env)?));
    }
    let mut decision_fields = fields.required_object("decision")?;
    let empty_is_success = decision_fields.flag("empty_is_success", true)?;
    let decision = upstream(&mut decision_fields, env)?;
    let events = match fields.object("events")? {
        Some(mut events) => upstream(&mut events, env)?,
        None => decision.clone(),
    };
    fields.finish()?;
    Ok(Endpoint { index, path, name, receive_ids, verify_receive_ids, credentials, decision, empty_is_success, events })
}

fn upstream(fields: &mut Fields, env: Env<'_>) -> Result<Upstream, ConfigError> {
    let cluster = fields.required_text("cluster")?;
    if cluster.is_empty() {
        return Err(fields.wrong("cluster", "must not be empty"));
    }
    let authority = fields.text("authority")?.unwrap_or_else(|| cluster.clone());
    if authority.is_empty() || !authority.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fields.wrong("authority", "must be visible ASCII characters"));
    }
    let path = fields.text("path")?.unwrap_or_else(|| "/".to_owned());
    if !is_path(&path) {
        return Err(fields.wrong("path", "must begin with / and hold visible ASCII characters other than #"));
    }
    let timeout_ms = fields.number("timeout_ms", &limits::TIMEOUT_MS, limits::TIMEOUT_MS_DEFAULT)?;
    let headers = headers::parse(&mut fields.object("headers")?.unwrap_or_default(), env)?;
    fields.finish()?;
    Ok(Upstream { cluster, authority, path, headers, timeout_ms })
}

fn credential(fields: &mut Fields, env: Env<'_>) -> Result<Credential, ConfigError> {
    let token = fields.secret("token", env)?;
    let token = Token::parse(token.expose()).map_err(|error| fields.wrong("token", &error.to_string()))?;
    let key = fields.secret("encoding_aes_key", env)?;
    let encoding_aes_key =
        EncodingAesKey::parse(key.expose()).map_err(|error| fields.wrong("encoding_aes_key", &error.to_string()))?;
    fields.finish()?;
    Ok(Credential { token, encoding_aes_key })
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// What in a path keeps every request from having it, since Envoy resolves or refuses it before the
/// filter: such a callback would go past the filter, to a backend.
fn never_arrives(path: &str) -> Option<&'static str> {
    let dots = |segment: &str| segment == "." || segment == "..";
    if path.contains("//") {
        return Some("//");
    }
    if path.split('/').any(dots) {
        return Some("a segment . or ..");
    }
    // Envoy encodes these, and no request may hold an encoded one.
    ["%", "\\", "{", "}", "\"", "|", "^", "<", ">", "`"].into_iter().find(|part| path.contains(part))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests;
