//! The secrets of a callback URL, and what WeCom does with them.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wecom_callback_filter::wecom::cipher::{self, Ciphertext};
use wecom_callback_filter::wecom::credential::{Credential, EncodingAesKey, Token};
use wecom_callback_filter::wecom::signature::Signature;

use super::fresh::random;
use super::reply::Reply;

/// One callback URL as WeCom knows it: the two secrets and the id that messages are addressed to.
#[derive(Clone)]
pub struct Account {
    token: String,
    encoding_aes_key: String,
    receive_id: String,
    credential: Credential,
}

impl Account {
    /// An account with these values.
    ///
    /// # Errors
    /// If the token or the key does not have the format that WeCom issues.
    pub fn new(token: &str, encoding_aes_key: &str, receive_id: &str) -> Result<Self> {
        Ok(Self {
            token: token.to_owned(),
            encoding_aes_key: encoding_aes_key.to_owned(),
            receive_id: receive_id.to_owned(),
            credential: Credential {
                token: Token::parse(token).context("the token")?,
                encoding_aes_key: EncodingAesKey::parse(encoding_aes_key).context("the EncodingAESKey")?,
            },
        })
    }

    /// The sample values that WeCom publishes, with the receive id of the repository's `envoy.yaml`.
    pub fn demo() -> Self {
        Self::new("QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C", "2000000000000001")
            .expect("the published sample values are well-formed")
    }

    /// A second account, as after a rotation: other secrets, the same receive id as [`Account::demo`].
    pub fn rotated() -> Self {
        Self::new("rotated9Token", "kWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2D", "2000000000000001")
            .expect("these values are well-formed")
    }

    /// The same secrets, messages addressed to another id.
    #[must_use]
    pub fn with_receive_id(mut self, receive_id: &str) -> Self {
        self.receive_id = receive_id.to_owned();
        self
    }

    /// The token as typed.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The EncodingAESKey as typed.
    pub fn encoding_aes_key(&self) -> &str {
        &self.encoding_aes_key
    }

    /// The id behind every message.
    pub fn receive_id(&self) -> &str {
        &self.receive_id
    }

    /// The cipher alone: random bytes, length, message, receive id, padding, AES, base64.
    pub fn encrypt(&self, message: &[u8]) -> String {
        let key = &self.credential.encoding_aes_key;
        cipher::seal(key, random(), message, self.receive_id.as_bytes()).expect("the message is below 4 GiB")
    }

    /// The signature alone, 40 hex digits.
    pub fn sign(&self, timestamp: &str, nonce: &str, encrypt: &str) -> String {
        Signature::sign(&self.credential.token, timestamp, nonce, encrypt).to_hex()
    }

    /// Opens a reply as WeCom does: the envelope has its four members and no other, the signature
    /// holds, the cipher opens, the receive id is ours.
    ///
    /// # Errors
    /// If one of these does not hold; the error says which.
    pub fn open_reply(&self, body: &[u8]) -> Result<Reply> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Envelope {
            encrypt: String,
            msgsignature: String,
            timestamp: Value,
            nonce: String,
        }

        let envelope: Envelope = serde_json::from_slice(body)
            .with_context(|| format!("no encrypted reply: {}", String::from_utf8_lossy(body)))?;
        let timestamp = match envelope.timestamp {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => bail!("the reply's timestamp is {other}"),
        };
        let signature = Signature::from_hex(envelope.msgsignature.as_bytes()).context("msgsignature is no hex")?;
        let expected = Signature::sign(&self.credential.token, &timestamp, &envelope.nonce, &envelope.encrypt);
        ensure!(signature.matches(&expected), "the reply's signature does not hold");
        let ciphertext =
            Ciphertext::parse(envelope.encrypt).context("encrypt is not canonical base64 of whole blocks")?;
        let plaintext = cipher::open(&self.credential.encoding_aes_key, &ciphertext)
            .map_err(|error| anyhow::anyhow!("the reply does not open: {error}"))?;
        let receive_id = String::from_utf8_lossy(&plaintext.receive_id).into_owned();
        ensure!(receive_id == self.receive_id, "the reply is addressed to {receive_id:?}");
        Ok(Reply {
            plaintext: plaintext.message.to_vec(),
            timestamp: timestamp.parse().context("the reply's timestamp is no number")?,
            nonce: envelope.nonce,
            receive_id,
        })
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.receive_id)
    }
}

/// What can be sealed: an [`Event`](super::Event), or any bytes as they are.
pub trait Message {
    /// The plaintext, for a message of this account.
    fn bytes(&self, account: &Account) -> Vec<u8>;
}

impl Message for str {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Message for String {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Message for [u8] {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.to_vec()
    }
}

impl Message for Vec<u8> {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.clone()
    }
}

impl<T: Message + ?Sized> Message for &T {
    fn bytes(&self, account: &Account) -> Vec<u8> {
        (**self).bytes(account)
    }
}
