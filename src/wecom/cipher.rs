//! The cipher: how a message is framed inside its ciphertext (documents 90968 and 91144).
//!
//! ```text
//! random (16) | length of message, u32 big-endian | message | receive id | padding (1 to 32)
//! ```
//!
//! under AES-256-CBC with the first half of the key as IV, padded to a multiple of 32 bytes.
//! It does not authenticate anything: the signature does, and is checked first.

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use super::credential::EncodingAesKey;

/// Padding fills up to a multiple of this, twice the cipher's own block.
const PAD_BLOCK: usize = 32;
/// Random bytes and length field before the message.
const HEAD: usize = 20;

/// A ciphertext as it travels: canonical base64 of a positive multiple of 32 bytes.
#[derive(Debug, Clone)]
pub struct Ciphertext {
    text: String,
    bytes: Vec<u8>,
}

impl Ciphertext {
    /// Takes the base64 text. `None` unless it is canonical (standard alphabet, padded, spare
    /// bits zero, no blanks) and holds at least 32 bytes and a multiple of 32.
    ///
    /// The strictness keeps characters from moving between the signed parts: with it the smallest
    /// piece that could leave the text for the nonce is longer than any nonce may be.
    pub fn parse(text: String) -> Option<Self> {
        let bytes = STANDARD.decode(&text).ok()?;
        (!bytes.is_empty() && bytes.len().is_multiple_of(PAD_BLOCK)).then_some(Self { text, bytes })
    }

    /// The base64 text, as signed.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// What a ciphertext held.
#[derive(Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// The message, byte for byte; wiped on drop.
    pub message: Zeroizing<Vec<u8>>,
    /// Whom it is addressed to: everything after the message.
    pub receive_id: Vec<u8>,
}

/// Why a ciphertext did not open. Outside, all of them look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CipherError {
    /// Not a whole number of cipher blocks.
    #[error("ciphertext length")]
    CiphertextLength,
    /// The padding is not n times the byte n, with n from 1 to 32.
    #[error("padding")]
    Padding,
    /// Less than random bytes and length field remain.
    #[error("plaintext length")]
    PlaintextLength,
    /// The message would end after the plaintext.
    #[error("message length")]
    MessageLength,
}

/// Decrypts and takes apart. Whether the receive id is the right one is for the caller to say.
///
/// # Errors
/// [`CipherError`]; under a wrong key, nearly always [`CipherError::Padding`].
pub fn open(key: &EncodingAesKey, ciphertext: &Ciphertext) -> Result<Plaintext, CipherError> {
    let mut buffer = Zeroizing::new(ciphertext.bytes.clone());
    let plain = cbc::Decryptor::inner_iv_init(key.cipher(), key.iv())
        .decrypt_padded::<NoPadding>(&mut buffer)
        .map_err(|_| CipherError::CiphertextLength)?;

    let padding = plain.last().copied().map_or(0, usize::from);
    if !(1..=PAD_BLOCK).contains(&padding) {
        return Err(CipherError::Padding);
    }
    let (plain, filler) =
        plain.len().checked_sub(padding).and_then(|len| plain.split_at_checked(len)).ok_or(CipherError::Padding)?;
    if !filler.iter().all(|&byte| usize::from(byte) == padding) {
        return Err(CipherError::Padding);
    }

    let (head, rest) = plain.split_at_checked(HEAD).ok_or(CipherError::PlaintextLength)?;
    let length = head.last_chunk::<4>().ok_or(CipherError::PlaintextLength)?;
    // Compared, never added: on a 32-bit target 20 + 0xffffffff would wrap to 19.
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CipherError::MessageLength)?;
    let (message, receive_id) = rest.split_at_checked(length).ok_or(CipherError::MessageLength)?;
    Ok(Plaintext { message: Zeroizing::new(message.to_vec()), receive_id: receive_id.to_vec() })
}

/// Frames and encrypts; gives the base64 text.
///
/// `random` must come from a cryptographic generator: key and IV never change, so nothing else
/// keeps equal messages from giving equal ciphertexts. `None` only if the message is larger than
/// its length field can say.
pub fn seal(key: &EncodingAesKey, random: [u8; 16], message: &[u8], receive_id: &[u8]) -> Option<String> {
    let length = u32::try_from(message.len()).ok()?;
    let mut buffer = Zeroizing::new(Vec::with_capacity(
        HEAD.checked_add(message.len())?.checked_add(receive_id.len())?.checked_add(PAD_BLOCK)?,
    ));
    buffer.extend_from_slice(&random);
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(message);
    buffer.extend_from_slice(receive_id);
    let padded = buffer.len().checked_add(1)?.checked_next_multiple_of(PAD_BLOCK)?;
    let filler = u8::try_from(padded.checked_sub(buffer.len())?).ok()?;
    buffer.resize(padded, filler);

    let encryptor = cbc::Encryptor::inner_iv_init(key.cipher(), key.iv());
    let sealed = encryptor.encrypt_padded::<NoPadding>(&mut buffer, padded).ok()?;
    Some(STANDARD.encode(sealed))
}

impl std::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plaintext({} bytes)", self.message.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn key() -> EncodingAesKey {
        EncodingAesKey::parse("jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C").unwrap()
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn every_message_length_comes_back() {
        for length in 0..100 {
            let message = vec![b'x'; length];
            let text = seal(&key(), [7; 16], &message, b"2000000000000001").unwrap();
            let ciphertext = Ciphertext::parse(text).unwrap();
            let plaintext = open(&key(), &ciphertext).unwrap();
            assert_eq!(*plaintext.message, message);
            assert_eq!(plaintext.receive_id, b"2000000000000001");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn only_canonical_base64_of_whole_blocks_is_a_ciphertext() {
        let good = seal(&key(), [7; 16], b"{}", b"id").unwrap();
        assert!(Ciphertext::parse(good.clone()).is_some());
        for bad in [
            String::new(),
            "AAAA".to_owned(),                                // 3 bytes
            STANDARD.encode([0; 16]),                         // one AES block
            STANDARD.encode([0; 48]),                         // padded to 16
            good.trim_end_matches('=').to_owned(),            // unpadded
            format!("{good}\n"),                              // blanks
            good.replace(['+', '/'], "-"),                    // another alphabet, or unchanged …
            format!("{}B=", &STANDARD.encode([0; 32])[..42]), // spare bits set
        ] {
            assert!(bad == good || Ciphertext::parse(bad.clone()).is_none(), "{bad:?}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn any_ciphertext_opens_or_fails_without_a_trap() {
        for seed in 0..=255_u8 {
            let bytes: Vec<u8> = (0..64_u8).map(|i| i.wrapping_mul(seed).wrapping_add(seed)).collect();
            let ciphertext = Ciphertext::parse(STANDARD.encode(bytes)).unwrap();
            let _ = open(&key(), &ciphertext);
        }
    }
}
