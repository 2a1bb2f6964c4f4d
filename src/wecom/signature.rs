//! The signature: SHA-1 over four sorted strings (document 90968).
//!
//! The construction has neither separators nor roles: characters can move between its parts and
//! a message of one direction verifies as one of the other. What closes those gaps is the shapes
//! that [`super::query`] and [`super::envelope`] insist on, and the checks after decryption.

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::credential::Token;

/// A signature: 20 bytes, written as 40 hex digits.
#[derive(Debug, Clone, Copy)]
pub struct Signature([u8; 20]);

impl Signature {
    /// Computes the signature of `encrypt`, the base64 text as it travels, with the timestamp and
    /// nonce exactly as they stand in the query or the reply.
    pub fn sign(token: &Token, timestamp: &str, nonce: &str, encrypt: &str) -> Self {
        let mut parts = [token.as_bytes(), timestamp.as_bytes(), nonce.as_bytes(), encrypt.as_bytes()];
        parts.sort_unstable();
        let mut hash = Sha1::new();
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Reads 40 hex digits of either case. `None` for anything else.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut bytes = [0_u8; 20];
        hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }

    /// The 40 lower-case hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn hex_is_read_in_either_case_and_nothing_else_is() {
        let text = "667ca7490754e14389a0c7ac683db8d9f6cc4c2e";
        let signature = Signature::from_hex(text.as_bytes()).unwrap();
        assert_eq!(signature.to_hex(), text);
        assert!(Signature::from_hex(text.to_uppercase().as_bytes()).unwrap().matches(&signature));
        for bad in ["", &text[..38], &text[..39], &format!("{text}00"), &text.replace('6', "g")] {
            assert!(Signature::from_hex(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_parts_are_sorted_as_bytes() {
        let token = Token::parse("QDG6eK").unwrap();
        let one = Signature::sign(&token, "1409659813", "1372623149", "abc=");
        let swapped = Signature::sign(&token, "1372623149", "1409659813", "abc=");
        assert!(one.matches(&swapped), "the construction has no roles; freshness must not rest on it");
        assert!(!one.matches(&Signature::sign(&token, "1409659813", "1372623148", "abc=")));
    }
}
