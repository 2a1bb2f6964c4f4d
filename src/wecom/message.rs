//! From a well-shaped request to the message inside it, and from a reply to what travels.
//!
//! [`Signed::verify`] → [`Fresh`] → [`Opened`]: the signature is checked before anything else, over
//! every credential of the URL, then the age, and only then is anything decrypted. Every key that
//! belongs to a matching token is tried, and only an accepted receive id ends the search. The pair
//! that opened a request is the one that seals its reply.

use std::rc::Rc;

use serde::de::IgnoredAny;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use super::cipher::{self, CipherError, Ciphertext};
use super::credential::Credential;
use super::envelope::{self, TimestampForm};
use super::freshness::{Freshness, Stale};
use super::json::Object;
use super::query::SignedQuery;
use super::signature::Signature;

/// A ciphertext whose signature holds under at least one credential.
#[derive(Debug)]
pub struct Signed<'a> {
    query: &'a SignedQuery,
    ciphertext: &'a Ciphertext,
    signers: Vec<&'a Rc<Credential>>,
}

impl<'a> Signed<'a> {
    /// Checks the signature against every credential.
    ///
    /// # Errors
    /// [`NotSigned`] if it matches none.
    pub fn verify(
        query: &'a SignedQuery,
        ciphertext: &'a Ciphertext,
        credentials: &'a [Rc<Credential>],
    ) -> Result<Self, NotSigned> {
        let signers: Vec<_> = credentials
            .iter()
            .filter(|credential| {
                Signature::sign(&credential.token, query.timestamp(), query.nonce(), ciphertext.as_str())
                    .matches(query.msg_signature())
            })
            .collect();
        if signers.is_empty() { Err(NotSigned) } else { Ok(Self { query, ciphertext, signers }) }
    }

    /// Checks the age of the signed timestamp.
    ///
    /// # Errors
    /// [`Stale`] says how far from now it is.
    pub fn fresh(self, freshness: Freshness) -> Result<Fresh<'a>, Stale> {
        freshness.check("timestamp", self.query.unix_seconds())?;
        Ok(Fresh(self))
    }
}

/// A signed ciphertext of an age that is accepted.
#[derive(Debug)]
pub struct Fresh<'a>(Signed<'a>);

impl Fresh<'_> {
    /// Decrypts with the key of each matching credential until one gives an accepted receive id.
    ///
    /// # Errors
    /// [`OpenError`]; of several, the one that got furthest.
    pub fn open(&self, accepted: &[String]) -> Result<Opened, OpenError> {
        let mut error = OpenError::Cipher(CipherError::Padding);
        for signer in &self.0.signers {
            match cipher::open(&signer.encoding_aes_key, self.0.ciphertext) {
                Ok(plaintext) => {
                    let known = accepted.iter().find(|id| id.as_bytes().ct_eq(&plaintext.receive_id).into());
                    if let Some(receive_id) = known {
                        return Ok(Opened {
                            message: plaintext.message,
                            sealer: Sealer { credential: Rc::clone(signer), receive_id: receive_id.clone() },
                        });
                    }
                    let seen = if is_whole(&plaintext.message) { plaintext.receive_id } else { Vec::new() };
                    error = OpenError::ReceiveId(seen);
                }
                Err(reason) => {
                    if !matches!(error, OpenError::ReceiveId(_)) {
                        error = OpenError::Cipher(reason);
                    }
                }
            }
        }
        Err(error)
    }
}

/// Whether a message is one that WeCom may have sent: an object, or the digits of an echo. Behind a wrong
/// length field, and by an altered ciphertext, a piece of it stands in the place of the receive id.
fn is_whole(message: &[u8]) -> bool {
    let is_echo = !message.is_empty() && message.iter().all(u8::is_ascii_digit);
    is_echo || serde_json::from_slice::<Object<IgnoredAny>>(message).is_ok()
}

/// The signature matches no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signature matches no credential")]
pub struct NotSigned;

/// Why a signed ciphertext did not open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Decryption or framing.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// It opened, but is addressed to this id, which is not accepted here. Ids are no secrets; empty if
    /// what stands there may be none.
    #[error("addressed to another id, which is not accepted here")]
    ReceiveId(Vec<u8>),
}

/// A message that is signed, fresh, decrypted and addressed to us.
pub struct Opened {
    message: Zeroizing<Vec<u8>>,
    sealer: Sealer,
}

impl Opened {
    /// The message, byte for byte.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Seals the reply.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The message, wiped on drop, and the sealer of its reply.
    pub fn into_parts(self) -> (Zeroizing<Vec<u8>>, Sealer) {
        (self.message, self.sealer)
    }
}

/// Random bytes that one sealed reply uses up: 16 for the cipher, 8 for the nonce.
pub type SealingRandom = [u8; 24];

/// What a reply is sealed with: the credential and the receive id that opened its request.
#[derive(Debug, Clone)]
pub struct Sealer {
    credential: Rc<Credential>,
    receive_id: String,
}

impl Sealer {
    /// The receive id that the request was addressed to.
    pub fn receive_id(&self) -> &str {
        &self.receive_id
    }

    /// Encrypts, signs and wraps a reply. `timestamp` is in Unix seconds; `random` must come
    /// from a cryptographic generator. `None` only for a message of 4 GiB.
    pub fn seal(&self, message: &[u8], timestamp: u64, random: SealingRandom, form: TimestampForm) -> Option<Vec<u8>> {
        let (block, nonce) = random.split_first_chunk::<16>()?;
        let nonce = hex::encode(nonce);
        let credential = &self.credential;
        let encrypt = cipher::seal(&credential.encoding_aes_key, *block, message, self.receive_id.as_bytes())?;
        let signature = Signature::sign(&credential.token, &timestamp.to_string(), &nonce, &encrypt);
        envelope::write_reply(&encrypt, &signature.to_hex(), timestamp, &nonce, form)
    }
}
