//! The JSON that travels: around a request's ciphertext, and around a reply's (document 96062).

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

use super::cipher::Ciphertext;

/// Takes the ciphertext out of a request's body.
///
/// The key is `encrypt` or `Encrypt`; both, or one twice, only with the same value. All other
/// keys are ignored: `tousername` is not signed and proves nothing.
///
/// # Errors
/// [`EnvelopeError`], also if the string is not a [`Ciphertext`].
pub fn parse_request(body: &[u8]) -> Result<Ciphertext, EnvelopeError> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let Encrypt(text) = serde_json::from_slice(body).map_err(|_| EnvelopeError::Json)?;
    Ciphertext::parse(text).ok_or(EnvelopeError::Ciphertext)
}

/// Why a body is not an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// Not a JSON object with one string `encrypt`.
    #[error("the body is not a JSON object with one string under encrypt")]
    Json,
    /// `encrypt` is not canonical base64 of a positive multiple of 32 bytes.
    #[error("encrypt is not canonical base64 of a multiple of 32 bytes")]
    Ciphertext,
}

/// How the `timestamp` of a reply is written. WeCom's page on hardware callbacks says a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampForm {
    /// `"1658332801"`.
    #[default]
    String,
    /// `1658332801`, as some sister platforms have it.
    Number,
}

/// Writes a reply's body, byte for byte as documented: compact, in this order.
pub fn write_reply(
    encrypt: &str,
    signature: &str,
    timestamp: u64,
    nonce: &str,
    form: TimestampForm,
) -> Option<Vec<u8>> {
    #[derive(Serialize)]
    struct Reply<'a> {
        encrypt: &'a str,
        msgsignature: &'a str,
        timestamp: Timestamp,
        nonce: &'a str,
    }

    #[derive(Serialize)]
    #[serde(untagged)]
    enum Timestamp {
        String(String),
        Number(u64),
    }

    let timestamp = match form {
        TimestampForm::String => Timestamp::String(timestamp.to_string()),
        TimestampForm::Number => Timestamp::Number(timestamp),
    };
    serde_json::to_vec(&Reply { encrypt, msgsignature: signature, timestamp, nonce }).ok()
}

/// The string under `encrypt` or `Encrypt`.
struct Encrypt(String);

impl<'de> Deserialize<'de> for Encrypt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;

        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Encrypt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with encrypt")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Encrypt, A::Error> {
                let mut found: Option<String> = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "encrypt" && key != "Encrypt" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value: String = map.next_value()?;
                    if found.as_ref().is_some_and(|first| *first != value) {
                        return Err(A::Error::custom("encrypt twice, with different values"));
                    }
                    found = Some(value);
                }
                found.map(Encrypt).ok_or_else(|| A::Error::missing_field("encrypt"))
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    const TEXT: &str = "S/m2zVyYxCq6EHtPNkwV3FK+glE5nzISfcUI8mitqNA=";

    #[wasm_bindgen_test(unsupported = test)]
    fn both_key_cases_and_json_escapes_are_read() {
        for body in [
            format!(r#"{{"tousername":"1","encrypt":"{TEXT}"}}"#),
            format!(r#"{{"ToUserName":"1","AgentID":218,"Encrypt":"{TEXT}"}}"#),
            format!(r#"{{"encrypt":"{TEXT}","Encrypt":"{TEXT}"}}"#),
            format!("\u{feff} {{\"encrypt\":\"{}\"}}\n", TEXT.replace('/', r"\/").replace('+', r"\u002b")),
        ] {
            assert_eq!(parse_request(body.as_bytes()).unwrap().as_str(), TEXT, "{body}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_is_no_envelope_is_refused() {
        let other = TEXT.replace("S/", "T/");
        for (body, error) in [
            (String::new(), EnvelopeError::Json),
            (format!(r#"["{TEXT}"]"#), EnvelopeError::Json),
            (format!(r#""{TEXT}""#), EnvelopeError::Json),
            (r#"{"encrypt":1}"#.to_owned(), EnvelopeError::Json),
            (r#"{"encrypt":null}"#.to_owned(), EnvelopeError::Json),
            (r#"{"tousername":"1"}"#.to_owned(), EnvelopeError::Json),
            (format!(r#"{{"encrypt":"{TEXT}"}}x"#), EnvelopeError::Json),
            (format!(r#"{{"encrypt":"{TEXT}","Encrypt":"{other}"}}"#), EnvelopeError::Json),
            (format!(r#"{{"encrypt":"{TEXT}","encrypt":"{other}"}}"#), EnvelopeError::Json),
            (format!(r#"{{"encrypt":"{}"}}"#, "[".repeat(100)), EnvelopeError::Ciphertext),
            ("[".repeat(100_000), EnvelopeError::Json),
            (format!(r#"{{"x":{}"#, "[".repeat(100_000)), EnvelopeError::Json),
            (r#"{"encrypt":""}"#.to_owned(), EnvelopeError::Ciphertext),
        ] {
            assert_eq!(parse_request(body.as_bytes()).unwrap_err(), error);
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_reply_is_written_as_documented() {
        let reply = write_reply("a/+=", "00ff", 1_658_332_801, "380320359", TimestampForm::String).unwrap();
        assert_eq!(reply, br#"{"encrypt":"a/+=","msgsignature":"00ff","timestamp":"1658332801","nonce":"380320359"}"#);
        let reply = write_reply("a", "b", 1, "c", TimestampForm::Number).unwrap();
        assert_eq!(reply, br#"{"encrypt":"a","msgsignature":"b","timestamp":1,"nonce":"c"}"#);
    }
}
