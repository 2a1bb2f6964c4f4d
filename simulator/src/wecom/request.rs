//! A callback as it is sent: sealed and signed, and changed afterwards.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::account::{Account, Message};
use super::fresh::{random_nonce, unix_now};

/// How an account makes requests.
impl Account {
    /// Seals a message as a POST of this moment.
    pub fn seal(&self, message: impl Message) -> Request {
        self.seal_at(message, unix_now(), &random_nonce())
    }

    /// Seals a message as a POST with this timestamp (Unix seconds) and nonce.
    pub fn seal_at(&self, message: impl Message, timestamp: u64, nonce: &str) -> Request {
        let encrypt = self.encrypt(&message.bytes(self));
        let envelope = serde_json::json!({ "tousername": self.receive_id(), "encrypt": encrypt });
        Request {
            method: "POST".to_owned(),
            timestamp: timestamp.to_string(),
            nonce: nonce.to_owned(),
            msg_signature: self.sign(&timestamp.to_string(), nonce, &encrypt),
            encrypt,
            headers: HeaderMap::from_iter([(
                HeaderName::from_static("content-type"),
                HeaderValue::from_static("application/json"),
            )]),
            query: None,
            body: Body::Whole(envelope.to_string().into_bytes()),
        }
    }

    /// The GET that WeCom's console sends when the form with the URL is saved. The right answer is
    /// `echo` and nothing else.
    pub fn verify_url(&self, echo: &str) -> Request {
        self.seal(echo).into_get()
    }
}

/// A request as it will be sent. The public parts may be changed at will: the signature then no
/// longer holds, unless [`Request::resign`] makes it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The query's `timestamp`.
    pub timestamp: String,
    /// The query's `nonce`.
    pub nonce: String,
    /// The query's `msg_signature`.
    pub msg_signature: String,
    /// The ciphertext, in the body of a POST or the `echostr` of a GET.
    pub encrypt: String,
    /// Further headers.
    pub headers: HeaderMap,
    /// If set, the whole query after `?`, sent in place of the one made from the fields above.
    pub query: Option<String>,
    /// The body.
    pub body: Body,
}

/// How a body is sent.
#[derive(Debug, Clone)]
pub enum Body {
    /// At once, its length announced.
    Whole(Vec<u8>),
    /// In pieces, each after a pause, its length not announced.
    Pieces(Vec<(Duration, Vec<u8>)>),
    /// Not at all.
    Nothing,
}

impl Request {
    /// Signs the request as it is now.
    #[must_use]
    pub fn resign(mut self, account: &Account) -> Self {
        self.msg_signature = account.sign(&self.timestamp, &self.nonce, &self.encrypt);
        self
    }

    /// Breaks the signature, and nothing else.
    #[must_use]
    pub fn forged(mut self) -> Self {
        let first = if self.msg_signature.starts_with('0') { "1" } else { "0" };
        self.msg_signature.replace_range(..1, first);
        self
    }

    /// Swaps timestamp and nonce. The signature still holds: it is made of the sorted parts.
    #[must_use]
    pub fn swapped(mut self) -> Self {
        std::mem::swap(&mut self.timestamp, &mut self.nonce);
        self
    }

    /// Another timestamp, under the same signature.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: &str) -> Self {
        self.timestamp = timestamp.to_owned();
        self
    }

    /// Another method.
    #[must_use]
    pub fn with_method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    /// A further header.
    ///
    /// # Panics
    /// If it is no header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a header name"),
            HeaderValue::from_bytes(value).expect("a header value"),
        );
        self
    }

    /// Another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Whole(body.into());
        self
    }

    /// The same body in pieces of that many bytes, its length not announced, `pause` before each.
    #[must_use]
    pub fn in_pieces(mut self, length: usize, pause: Duration) -> Self {
        let pieces = self.body_bytes().chunks(length).map(|piece| (pause, piece.to_vec())).collect();
        self.body = Body::Pieces(pieces);
        self
    }

    /// Sends this as the whole query after `?`.
    #[must_use]
    pub fn with_query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }

    /// The same signature as a GET verification, the ciphertext as its echo.
    #[must_use]
    pub fn into_get(mut self) -> Self {
        "GET".clone_into(&mut self.method);
        self.headers.clear();
        self.body = Body::Nothing;
        self
    }

    /// The query as it will be sent, percent-encoded.
    pub fn query_text(&self) -> String {
        if let Some(query) = &self.query {
            return query.clone();
        }
        let mut query = format!(
            "msg_signature={}&timestamp={}&nonce={}",
            encode(&self.msg_signature),
            encode(&self.timestamp),
            encode(&self.nonce)
        );
        if self.method == "GET" {
            query.push_str(&format!("&echostr={}", encode(&self.encrypt)));
        }
        query
    }

    /// The body's bytes.
    pub fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Pieces(pieces) => pieces.iter().flat_map(|(_, piece)| piece.clone()).collect(),
            Body::Nothing => Vec::new(),
        }
    }
}

/// The characters besides letters and digits that WeCom does not encode in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encode(value: &str) -> String {
    utf8_percent_encode(value, QUERY).to_string()
}
