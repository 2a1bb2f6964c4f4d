//! The headers that a configuration adds to a call, so that an upstream can know the filter.

use super::fields::Fields;
use super::{ConfigError, Env, Secret};

/// A header of a call to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    name: String,
    value: Secret,
}

impl Header {
    /// Its name, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value: printable ASCII, not empty, no blank at either end.
    pub fn value(&self) -> &str {
        self.value.expose()
    }
}

/// Beginnings of names that Envoy or this filter give a meaning of their own: `x-envoy-retry-on`, for
/// one, would have Envoy deliver a callback again.
const RESERVED: [&str; 2] = ["x-envoy-", "x-wecom-"];

/// What the filter itself sends, beside those that are reserved.
const SENT_ANYWAY: [&str; 6] = ["b3", "content-type", "idempotency-key", "traceparent", "tracestate", "x-request-id"];

/// Headers of one connection or of the message's framing, which are Envoy's to write (RFC 9110, 7.6.1).
const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn parse(fields: &mut Fields, env: Env<'_>) -> Result<Vec<Header>, ConfigError> {
    let mut headers = Vec::new();
    for name in fields.names() {
        if name.is_empty() || !name.bytes().all(is_name_byte) {
            return Err(fields.wrong(&name, "is not a header's name in lower case"));
        }
        if RESERVED.iter().any(|start| name.starts_with(start)) || SENT_ANYWAY.contains(&name.as_str()) {
            return Err(fields.wrong(&name, "is a header that the filter or Envoy sets itself"));
        }
        if OF_THE_CONNECTION.contains(&name.as_str()) {
            return Err(fields.wrong(&name, "is a header of the connection, not of the call"));
        }
        let value = fields.secret(&name, env)?;
        let text = value.expose();
        if text.is_empty()
            || !text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
            || text.trim_ascii().len() != text.len()
        {
            return Err(fields.wrong(&name, "must be printable ASCII, not empty, without blanks at either end"));
        }
        headers.push(Header { name, value });
    }
    Ok(headers)
}

/// What a header's name may hold (RFC 9110, 5.6.2), in the lower case that HTTP/2 asks for.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
