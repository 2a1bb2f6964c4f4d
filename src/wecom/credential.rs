//! Token and EncodingAESKey: the two secrets of a callback URL.
//!
//! Both hide in `Debug` and are wiped when dropped.

use std::fmt;

use aes::Aes256;
use aes::cipher::KeyInit;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;
use zeroize::Zeroizing;

/// One pair of secrets, as WeCom's console shows them for one callback URL.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Signs requests and replies.
    pub token: Token,
    /// Encrypts requests and replies.
    pub encoding_aes_key: EncodingAesKey,
}

/// The signing secret: 1 to 32 letters and digits (document 90930).
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Longest token that WeCom's console accepts, in characters.
    pub const MAX_LEN: usize = 32;

    /// Takes a token as typed; blanks around it are dropped.
    ///
    /// # Errors
    /// [`CredentialError::Token`] unless 1 to 32 ASCII letters and digits remain.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let text = text.trim();
        let legal = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if legal { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(CredentialError::Token) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// The AES-256 key, decoded from its 43 characters, and expanded: doing that anew for every message would be a
/// tenth of its cost. Wiped on drop.
#[derive(Clone)]
pub struct EncodingAesKey {
    cipher: Aes256,
    iv: Zeroizing<[u8; 16]>,
}

impl EncodingAesKey {
    /// Length of the text form, in characters.
    pub const TEXT_LEN: usize = 43;

    /// Takes a key as typed; blanks around it and a 44th `=` are dropped.
    ///
    /// 43 base64 characters hold 258 bits, two more than the key has. WeCom fills the spare two
    /// at random, so a strict decoder refuses three of four real keys; this one ignores them.
    ///
    /// # Errors
    /// [`CredentialError::EncodingAesKey`] unless 43 ASCII letters and digits remain (document 90930).
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let text = text.trim();
        let text = text.strip_suffix('=').unwrap_or(text);
        if text.len() != Self::TEXT_LEN || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(CredentialError::EncodingAesKey);
        }
        // The decoder insists on room for its estimate, 33 bytes, of which the last stays unused.
        let mut bytes = Zeroizing::new([0_u8; 33]);
        let mut key = Zeroizing::new([0_u8; 32]);
        match KEY_BASE64.decode_slice(text, bytes.as_mut_slice()) {
            Ok(32) => {
                for (to, from) in key.iter_mut().zip(bytes.iter()) {
                    *to = *from;
                }
                let (iv, _) = key.split_first_chunk::<16>().ok_or(CredentialError::EncodingAesKey)?;
                Ok(Self { cipher: Aes256::new((&*key).into()), iv: Zeroizing::new(*iv) })
            }
            _ => Err(CredentialError::EncodingAesKey),
        }
    }

    /// The cipher under this key.
    pub(super) fn cipher(&self) -> &Aes256 {
        &self.cipher
    }

    /// The initialisation vector, which WeCom makes of the key's first half.
    pub(super) fn iv(&self) -> &aes::Block {
        (&*self.iv).into()
    }
}

impl fmt::Debug for EncodingAesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodingAesKey(redacted)")
    }
}

/// Why a secret was refused. Never holds the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// Not a token.
    #[error("must be 1 to 32 letters and digits")]
    Token,
    /// Not an EncodingAESKey.
    #[error("must be exactly 43 letters and digits")]
    EncodingAesKey,
}

const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use crate::wecom::cipher;
    use wasm_bindgen_test::wasm_bindgen_test;

    const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";

    /// Tells keys apart.
    fn sealed(key: &EncodingAesKey) -> String {
        cipher::seal(key, [7; 16], b"{}", b"id").unwrap()
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn keys_that_differ_in_the_spare_bits_are_the_same_key() {
        // The last character carries four bits of key and two spare ones: A, B, C and D agree.
        let of = |last: char| sealed(&EncodingAesKey::parse(&format!("{}{last}", &KEY[..42])).unwrap());
        assert_eq!(of('A'), of('B'));
        assert_eq!(of('A'), of('C'));
        assert_eq!(of('A'), of('D'));
        assert_ne!(of('A'), of('E'));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_may_carry_blanks_and_its_padding() {
        let plain = EncodingAesKey::parse(KEY).unwrap();
        assert_eq!(sealed(&EncodingAesKey::parse(&format!(" {KEY}=\n")).unwrap()), sealed(&plain));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn other_lengths_and_characters_are_refused() {
        for bad in ["", "=", &KEY[..42], &format!("{KEY}A"), &format!("{}+", &KEY[..42]), &"密".repeat(43)] {
            assert!(EncodingAesKey::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", " ", "a b", "tök", &"a".repeat(33)] {
            assert!(Token::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Token::parse(&"a".repeat(32)).is_ok());
    }

    /// A feature of the crate `aes` that is off would not be seen otherwise.
    #[wasm_bindgen_test(unsupported = test)]
    fn an_expanded_key_is_wiped_on_drop() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        is_wiped(EncodingAesKey::parse(KEY).unwrap().cipher());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn secrets_do_not_show_in_debug() {
        let credential = Credential {
            token: Token::parse("QDG6eK").unwrap(),
            encoding_aes_key: EncodingAesKey::parse(KEY).unwrap(),
        };
        let shown = format!("{credential:?}");
        assert!(!shown.contains("QDG6eK") && !shown.contains("jWmY"), "{shown}");
    }
}
