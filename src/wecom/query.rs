//! The signed query: `msg_signature`, `timestamp`, `nonce` and, on GET, `echostr`.
//!
//! Parameters are found by name; others are ignored, since the registered URL may have a query of
//! its own. Values are percent-decoded once and then kept as the very strings that are signed.

use thiserror::Error;

use super::cipher::Ciphertext;
use super::signature::Signature;

/// Longest nonce accepted, in characters. Observed are 8 to 16. The bound matters: the smallest
/// piece of a ciphertext that could be moved into the nonce without breaking the signature has 44.
pub const MAX_NONCE_LEN: usize = 40;

/// A query whose shape is right. Nothing in it is verified yet.
#[derive(Debug, Clone)]
pub struct SignedQuery {
    msg_signature: Signature,
    timestamp: String,
    nonce: String,
}

impl SignedQuery {
    /// Reads the query of a POST: everything after `?`, still percent-encoded.
    ///
    /// # Errors
    /// [`QueryError`] names the parameter that is missing, repeated or of the wrong shape.
    pub fn parse(query: &[u8]) -> Result<Self, QueryError> {
        let [msg_signature, timestamp, nonce] = parameters(query, ["msg_signature", "timestamp", "nonce"])?;
        Self::from_values(&msg_signature, timestamp, nonce)
    }

    /// Reads the query of a GET verification, which carries its ciphertext in `echostr`.
    ///
    /// # Errors
    /// As [`SignedQuery::parse`].
    pub fn parse_with_echo(query: &[u8]) -> Result<(Self, Ciphertext), QueryError> {
        let [msg_signature, timestamp, nonce, mut echo] =
            parameters(query, ["msg_signature", "timestamp", "nonce", "echostr"])?;
        // A form decoder on the way may have turned `+` into a blank, which base64 does not have.
        for byte in &mut echo {
            if *byte == b' ' {
                *byte = b'+';
            }
        }
        let echo = String::from_utf8(echo).ok().and_then(Ciphertext::parse).ok_or(QueryError::Malformed("echostr"))?;
        Ok((Self::from_values(&msg_signature, timestamp, nonce)?, echo))
    }

    /// What the sender says the signature is.
    pub fn msg_signature(&self) -> &Signature {
        &self.msg_signature
    }

    /// Unix time in seconds, exactly 10 digits, as signed.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// 1 to [`MAX_NONCE_LEN`] printable ASCII characters, as signed.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The timestamp as a number of seconds.
    pub fn unix_seconds(&self) -> u64 {
        self.timestamp.parse().unwrap_or(0) // ten digits always fit
    }

    fn from_values(msg_signature: &[u8], timestamp: Vec<u8>, nonce: Vec<u8>) -> Result<Self, QueryError> {
        let msg_signature = Signature::from_hex(msg_signature).ok_or(QueryError::Malformed("msg_signature"))?;
        let timestamp = String::from_utf8(timestamp)
            .ok()
            .filter(|text| text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit()))
            .ok_or(QueryError::Malformed("timestamp"))?;
        let nonce = String::from_utf8(nonce)
            .ok()
            .filter(|text| (1..=MAX_NONCE_LEN).contains(&text.len()))
            .filter(|text| text.bytes().all(|b| (0x20..0x7f).contains(&b)))
            .ok_or(QueryError::Malformed("nonce"))?;
        Ok(Self { msg_signature, timestamp, nonce })
    }
}

/// What is wrong with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The parameter is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The parameter is there more than once: which one counts would be anyone's guess.
    #[error("{0} is repeated")]
    Repeated(&'static str),
    /// The parameter's value is not of the accepted shape.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// The decoded values of the named parameters, each of which must be there exactly once.
fn parameters<const N: usize>(query: &[u8], names: [&'static str; N]) -> Result<[Vec<u8>; N], QueryError> {
    let mut values = [const { None }; N];
    find_parameters(query, &names, &mut values)?;
    Ok(values.map(Option::unwrap_or_default)) // all are there
}

/// Fills in the value of each name.
fn find_parameters(query: &[u8], names: &[&'static str], values: &mut [Option<Vec<u8>>]) -> Result<(), QueryError> {
    for pair in query.split(|&b| b == b'&') {
        let mut halves = pair.splitn(2, |&b| b == b'=');
        let name = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        // A name may be encoded too; one that cannot be decoded is not ours.
        let Some(name) = percent_decode(name) else { continue };
        for (wanted, slot) in names.iter().zip(&mut *values) {
            if wanted.as_bytes() != name {
                continue;
            }
            if slot.is_some() {
                return Err(QueryError::Repeated(wanted));
            }
            *slot = Some(percent_decode(value).ok_or(QueryError::Malformed(wanted))?);
        }
    }
    match names.iter().zip(values).find(|(_, value)| value.is_none()) {
        Some((missing, _)) => Err(QueryError::Missing(missing)),
        None => Ok(()),
    }
}

/// Undoes percent-encoding, once. A literal `+` stays one. `None` if an escape is malformed.
fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        let mut value = [byte];
        if byte == b'%' {
            hex::decode_to_slice([*bytes.next()?, *bytes.next()?], &mut value).ok()?;
        }
        decoded.extend(value);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    const SIGNATURE: &str = "825075c093249d5a60967fe4a613cae93146636b";

    #[wasm_bindgen_test(unsupported = test)]
    fn parameters_are_found_by_name_in_any_order_among_others() {
        let query = format!("x=1&nonce=a%2Bb+c&empty&=&msg_signature={SIGNATURE}&%zz=1&timestamp=1597998748");
        let parsed = SignedQuery::parse(query.as_bytes()).unwrap();
        assert_eq!(parsed.nonce, "a+b+c");
        assert_eq!(parsed.unix_seconds(), 1_597_998_748);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_captured_console_request_is_read() {
        let query = format!(
            "msg_signature={SIGNATURE}&timestamp=1597998748&nonce=1597483820&echostr=neLB8CftccHiz19tluVb%2BUBnUVMT3xpUMZU8qvDdD17eH8XfEsbPYC%2FkJyPsZOOc6GdsCeu8jSIa2noSJ%2Fez2w%3D%3D"
        );
        let (_, echo) = SignedQuery::parse_with_echo(query.as_bytes()).unwrap();
        assert_eq!(
            echo.as_str(),
            "neLB8CftccHiz19tluVb+UBnUVMT3xpUMZU8qvDdD17eH8XfEsbPYC/kJyPsZOOc6GdsCeu8jSIa2noSJ/ez2w=="
        );
        let blanks = query.replace("%2B", "%20");
        let (_, echo) = SignedQuery::parse_with_echo(blanks.as_bytes()).unwrap();
        assert!(echo.as_str().contains('+'));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_is_missing_repeated_or_malformed_is_named() {
        use QueryError::{Malformed, Missing, Repeated};
        let base = format!("msg_signature={SIGNATURE}&timestamp=1597998748&nonce=1");
        for (query, error) in [
            (String::new(), Missing("msg_signature")),
            (base.replace("nonce", "Nonce"), Missing("nonce")),
            (format!("{base}&nonce=1"), Repeated("nonce")),
            (format!("{base}&%6eonce=1"), Repeated("nonce")),
            (base.replace("nonce=1", "nonce="), Malformed("nonce")),
            (base.replace("nonce=1", "nonce=%"), Malformed("nonce")),
            (base.replace("nonce=1", "nonce=%4"), Malformed("nonce")),
            (base.replace("nonce=1", "nonce=%g1"), Malformed("nonce")),
            (base.replace("nonce=1", "nonce=%+1"), Malformed("nonce")),
            (base.replace("nonce=1", "nonce=%ff"), Malformed("nonce")),
            (base.replace("nonce=1", "nonce=%00"), Malformed("nonce")),
            (base.replace("nonce=1", &format!("nonce={}", "1".repeat(41))), Malformed("nonce")),
            (base.replace("1597998748", "159799874"), Malformed("timestamp")),
            (base.replace("1597998748", "15979987480"), Malformed("timestamp")),
            (base.replace("1597998748", "+597998748"), Malformed("timestamp")),
            (base.replace(SIGNATURE, &SIGNATURE[1..]), Malformed("msg_signature")),
        ] {
            assert_eq!(SignedQuery::parse(query.as_bytes()).unwrap_err(), error, "{query}");
        }
        assert!(SignedQuery::parse(base.replace("nonce=1", &format!("nonce={}", "1".repeat(40))).as_bytes()).is_ok());
        assert_eq!(SignedQuery::parse_with_echo(base.as_bytes()).unwrap_err(), Missing("echostr"));
        let echo = format!("{base}&echostr=AAAA");
        assert_eq!(SignedQuery::parse_with_echo(echo.as_bytes()).unwrap_err(), Malformed("echostr"));
    }
}
