//! Query strings: what was read is what is there, and of the promised shape.

use wecom_callback_filter::wecom::query::{MAX_NONCE_LEN, SignedQuery};

use crate::target::{Seed, Target, seed};
use crate::vectors::{self, text};

/// Bytes behind a `?`.
pub(crate) struct Query;

impl Target for Query {
    fn name(&self) -> &'static str {
        "query"
    }

    fn run(&self, data: &[u8]) {
        query(data);
    }

    fn seeds(&self) -> Vec<Seed> {
        let mut seeds = vectors::seeds(|vector| {
            let encoded: String = text(vector, "encrypt")?.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let [signature, timestamp, nonce] =
                ["signature", "timestamp", "nonce"].map(|field| text(vector, field).unwrap_or_default());
            let signed = format!("msg_signature={signature}&timestamp={timestamp}&nonce={nonce}");
            Some(format!("{signed}&echostr={encoded}").into_bytes())
        });
        // Values that a second decoding would change.
        let signed = format!("x=1&&msg_signature={}&timestamp=0000000000&nonce=", "00".repeat(20));
        seeds.push(seed("encoded-twice", format!("{signed}a%252525+%20b")));
        seeds.push(seed("no-echo", format!("{signed}1&echostr=")));
        seeds
    }
}

fn query(data: &[u8]) {
    let plain = SignedQuery::parse(data);
    if let Ok(parsed) = &plain {
        holds(parsed);
        let again = SignedQuery::parse(written(parsed, "").as_bytes()).expect("its own values, encoded, are refused");
        assert!(same(parsed, &again), "encoding changes the values");
        let twice = format!("{}&nonce=1", written(parsed, ""));
        assert!(SignedQuery::parse(twice.as_bytes()).is_err(), "a repeated parameter passes");
    }
    if let Ok((parsed, echo)) = SignedQuery::parse_with_echo(data) {
        assert!(plain.is_ok_and(|plain| same(&plain, &parsed)), "the echo changes how the rest is read");
        let (again, echo_again) = SignedQuery::parse_with_echo(written(&parsed, echo.as_str()).as_bytes())
            .expect("its own values, encoded, are refused");
        assert!(same(&parsed, &again) && echo.as_str() == echo_again.as_str(), "encoding changes the values");
    }
}

fn holds(parsed: &SignedQuery) {
    let (timestamp, nonce) = (parsed.timestamp(), parsed.nonce());
    assert!(timestamp.len() == 10 && timestamp.bytes().all(|byte| byte.is_ascii_digit()), "{timestamp:?}");
    assert_eq!(format!("{:010}", parsed.unix_seconds()), timestamp);
    assert!((1..=MAX_NONCE_LEN).contains(&nonce.len()) && nonce.bytes().all(|b| (b' '..=b'~').contains(&b)));
}

fn same(one: &SignedQuery, other: &SignedQuery) -> bool {
    one.msg_signature().matches(other.msg_signature())
        && one.timestamp() == other.timestamp()
        && one.nonce() == other.nonce()
}

/// The query of those values, every byte encoded.
fn written(parsed: &SignedQuery, echo: &str) -> String {
    let encoded = |value: &str| value.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let (signature, timestamp) = (encoded(&parsed.msg_signature().to_hex()), encoded(parsed.timestamp()));
    let (nonce, echo) = (encoded(parsed.nonce()), encoded(echo));
    format!("msg_signature={signature}&timestamp={timestamp}&nonce={nonce}&echostr={echo}")
}
