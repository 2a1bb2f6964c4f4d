//! Request bodies: the ciphertext is the one that stands there, and canonical.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wecom_callback_filter::wecom::envelope::{EnvelopeError, parse_request};

use crate::target::{Seed, Target, seed};
use crate::vectors::{self, text};

/// Bytes of a request's body.
pub(crate) struct Envelope;

impl Target for Envelope {
    fn name(&self) -> &'static str {
        "envelope"
    }

    fn run(&self, data: &[u8]) {
        envelope(data);
    }

    fn seeds(&self) -> Vec<Seed> {
        let mut seeds = vectors::seeds(|vector| {
            let encrypt = text(vector, "encrypt")?;
            let body = match text(vector, "kind") {
                Some("json_post") => json!({ "ToUserName": "x", "AgentID": 218, "Encrypt": encrypt }),
                _ => json!({ "tousername": "x", "encrypt": encrypt }),
            };
            Some(body.to_string().into_bytes())
        });
        seeds.extend(variants());
        seeds
    }
}

fn envelope(data: &[u8]) {
    let parsed = parse_request(data);
    if let Ok(ciphertext) = &parsed {
        let bytes = STANDARD.decode(ciphertext.as_str()).expect("no base64");
        assert_eq!(STANDARD.encode(&bytes), ciphertext.as_str(), "not canonical");
        assert!(!bytes.is_empty() && bytes.len() % 32 == 0, "{} bytes", bytes.len());
    }
    let bare = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    // Where the second reader refuses, such as for a number too large in a key that is ignored,
    // it has nothing to say.
    let Ok(read) = serde_json::from_slice::<Value>(bare) else { return };
    let texts: Vec<_> = ["encrypt", "Encrypt"].iter().filter_map(|key| read.get(key)).collect();
    match parsed {
        Ok(ciphertext) => {
            assert!(!texts.is_empty() && texts.iter().all(|text| **text == ciphertext.as_str()), "from nowhere");
        }
        Err(EnvelopeError::Ciphertext) => assert!(texts.iter().any(|text| text.is_string()), "from nowhere"),
        Err(EnvelopeError::Json) => {}
    }
    // Written by the second reader there is no duplicate key, and both must agree on what it is.
    let one_string = texts.first().is_some_and(|text| text.is_string()) && texts.iter().all(|text| *text == texts[0]);
    let again = parse_request(read.to_string().as_bytes());
    assert_eq!(one_string, !matches!(again, Err(EnvelopeError::Json)), "{read}");
}

/// Ciphertexts twice, and in every other way of writing base64.
fn variants() -> Vec<Seed> {
    const TEXT: &str = "S/m2zVyYxCq6EHtPNkwV3FK+glE5nzISfcUI8mitqNA=";
    const OTHER: &str = "T/m2zVyYxCq6EHtPNkwV3FK+glE5nzISfcUI8mitqNA=";
    let twice = |first: &str, second: &str| json!({ "Encrypt": first, "encrypt": second }).to_string();
    let mut seeds = vec![seed("twice", twice(TEXT, TEXT)), seed("two", twice(TEXT, OTHER))];
    let spare_bits = TEXT.replace("A=", "B=");
    let ways: [&str; 4] = [&format!("{TEXT}\n"), TEXT.trim_end_matches('='), &spare_bits, &TEXT.replace('/', "_")];
    seeds.extend(
        ways.iter().enumerate().map(|(n, text)| seed(&format!("way-{n}"), json!({ "encrypt": text }).to_string())),
    );
    seeds
}
