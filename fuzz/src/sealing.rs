//! Both sides of the seal under known keys: what the targets' inputs are sealed with, and how their
//! replies are opened.

use std::rc::Rc;

use wecom_callback_filter::wecom::cipher;
use wecom_callback_filter::wecom::credential::{Credential, EncodingAesKey, Token};
use wecom_callback_filter::wecom::envelope::parse_request;
use wecom_callback_filter::wecom::freshness::Freshness;
use wecom_callback_filter::wecom::message::Signed;
use wecom_callback_filter::wecom::query::SignedQuery;
use wecom_callback_filter::wecom::signature::Signature;

/// What the secrets of every target's inputs begin with, to look for where they must not be.
pub const SECRET: &str = "S3CRET";

/// Two keys and their tokens. Public: they seal nothing but inputs to these targets.
pub(crate) const CREDENTIALS: [(&str, &str); 2] = [
    ("S3CRETnew", "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"),
    ("S3CRETold", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"),
];

/// The ids that are accepted behind a message.
pub(crate) const RECEIVE_IDS: [&str; 2] = ["2000000000000001", "ww1234"];

/// Times are not checked.
pub(crate) fn ageless() -> Freshness {
    Freshness::new(0, 0)
}

/// The credential of that index.
pub(crate) fn credential(index: usize) -> Rc<Credential> {
    let (token, key) = CREDENTIALS[index];
    Rc::new(Credential {
        token: Token::parse(token).expect("a token"),
        encoding_aes_key: EncodingAesKey::parse(key).expect("a key"),
    })
}

/// What WeCom reads in a reply: message and receive id, if this credential sealed it.
pub(crate) fn opened_reply(reply: &[u8], credential: &Rc<Credential>) -> Option<(Vec<u8>, String)> {
    let read: serde_json::Value = serde_json::from_slice(reply).ok()?;
    let timestamp = read["timestamp"].as_str().map_or_else(|| read["timestamp"].to_string(), str::to_owned);
    let (signature, nonce) = (read["msgsignature"].as_str()?, read["nonce"].as_str()?);
    let query = format!("msg_signature={signature}&timestamp={timestamp}&nonce={nonce}");
    let query = SignedQuery::parse(query.as_bytes()).ok()?;
    let ciphertext = parse_request(reply).ok()?;
    let credentials = [Rc::clone(credential)];
    let signed = Signed::verify(&query, &ciphertext, &credentials).ok()?;
    let opened = signed.fresh(ageless()).ok()?.open(&RECEIVE_IDS.map(str::to_owned)).ok()?;
    Some((opened.message().to_vec(), opened.sealer().receive_id().to_owned()))
}

/// A message to the first of the receive ids: its ciphertext, and the query that signs it.
pub(crate) fn sealed(credential: &Credential, message: &[u8]) -> (String, SignedQuery) {
    let text = cipher::seal(&credential.encoding_aes_key, [7; 16], message, RECEIVE_IDS[0].as_bytes()).expect("sealed");
    let query = signed_query(credential, &text);
    (text, query)
}

/// A query that signs the text at a fixed time.
pub(crate) fn signed_query(credential: &Credential, text: &str) -> SignedQuery {
    let signature = Signature::sign(&credential.token, "1658332800", "n1", text).to_hex();
    let query = format!("msg_signature={signature}&timestamp=1658332800&nonce=n1");
    SignedQuery::parse(query.as_bytes()).expect("a query")
}
