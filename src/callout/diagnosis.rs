//! What was wrong with an upstream's answer, in words for the log: what kind of thing came, never its
//! bytes.

use serde_json::Value;

use super::{MAX_RESPONSE_BYTES, Response};

/// What Envoy says in its own answer for an upstream that gave none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByEnvoy {
    /// Nothing came in time.
    TimedOut,
    /// There was no connection, or it broke.
    Broken {
        /// How.
        what: &'static str,
        /// Whether the upstream may have got the request.
        delivered: bool,
    },
}

/// Reads the body of a status that may be Envoy's own. `None` if it is none of Envoy's.
pub(super) fn by_envoy(body: &[u8]) -> Option<ByEnvoy> {
    let text = std::str::from_utf8(body).ok()?;
    if text.starts_with("upstream request timeout") {
        return Some(ByEnvoy::TimedOut);
    }
    if !text.starts_with("upstream connect error") {
        return None;
    }
    let known = BROKEN.iter().find(|(reason, ..)| text.contains(reason));
    let (what, delivered) = known.map_or(("broke the connection", true), |(_, what, delivered)| (*what, *delivered));
    // An Envoy behind this one may have tried before: what it says is of its last try.
    Some(ByEnvoy::Broken { what, delivered: delivered || text.contains("retried") })
}

/// Envoy's reasons for a broken connection, what they mean, and whether the upstream may have got the
/// request.
const BROKEN: [(&str, &str, bool); 7] = [
    ("reset reason: remote connection failure", "took no connection (refused, or not reachable)", false),
    ("reset reason: local connection failure", "took no connection (refused, or not reachable)", false),
    ("reset reason: connection timeout", "took no connection in time", false),
    ("reset reason: overflow", "took no call, its circuit breaker being open,", false),
    ("reset reason: connection termination", "closed the connection without an answer", true),
    ("reset reason: remote reset", "reset the request", true),
    ("reset reason: protocol error", "answered what is no HTTP", true),
];

/// A status to be shown.
pub(super) fn status(status: &[u8]) -> String {
    match std::str::from_utf8(status) {
        Ok(digits) if digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()) => format!("status {digits}"),
        _ => "a status that is none".to_owned(),
    }
}

/// Why a 2xx is not a verdict.
pub(super) fn no_verdict(response: &Response<'_>, empty_is_success: bool) -> String {
    if is_empty_or_success(response) && response.says_success() && !empty_is_success {
        return "an empty body or success, where empty_is_success is off".to_owned();
    }
    let object = match object(response) {
        Ok(object) => object,
        Err(what) => return what,
    };
    let wrong = |name: &str, value: &Value| format!("{name} is {}", kind(value));
    match (object.get("errcode"), object.get("errmsg")) {
        (None, _) => "no errcode in the object".to_owned(),
        (Some(errcode), _) if !is_code(errcode) => wrong("errcode", errcode),
        (_, Some(errmsg)) if !errmsg.is_string() && !errmsg.is_null() => wrong("errmsg", errmsg),
        _ => "a key twice in the object".to_owned(),
    }
}

/// Why a 2xx is not an answer to another callback.
pub(super) fn no_object(response: &Response<'_>) -> String {
    object(response).err().unwrap_or_else(|| "no JSON object".to_owned())
}

/// The JSON object in a body, or what there is in its place.
fn object(response: &Response<'_>) -> Result<serde_json::Map<String, Value>, String> {
    if response.body.len() > MAX_RESPONSE_BYTES {
        return Err(format!("more than {MAX_RESPONSE_BYTES} bytes"));
    }
    if is_empty_or_success(response) {
        return Err("an empty body or success that only the end of its connection ended".to_owned());
    }
    match serde_json::from_slice(response.body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("JSON that is {}, not an object", kind(&other))),
        Err(_) => Err(format!("no JSON ({})", media_type(response.content_type))),
    }
}

fn is_empty_or_success(response: &Response<'_>) -> bool {
    matches!(response.body, b"" | b"success")
}

fn is_code(value: &Value) -> bool {
    value.as_u64().is_some_and(|code| u32::try_from(code).is_ok())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_u64() => "a number above 4294967295",
        Value::Number(number) if number.is_i64() => "a negative number",
        Value::Number(_) => "a number that is not whole",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A content type to be shown, if it is one of those that tell something: it may hold anything.
fn media_type(value: Option<&[u8]>) -> &'static str {
    let Some(value) = value else { return "without content-type" };
    let name = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let known = KNOWN_TYPES.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    known.unwrap_or("with another content-type")
}

const KNOWN_TYPES: [&str; 8] = [
    "application/json",
    "application/octet-stream",
    "application/problem+json",
    "application/xml",
    "text/html",
    "text/json",
    "text/plain",
    "text/xml",
];
