//! The published and the made vectors, natively and in a Wasm engine.
//!
//! `vectors.json` has WeCom's own samples (V…), those of other libraries, and hand-made ones for
//! what no sample covers (S…), with their malformed siblings (N…).
#![allow(clippy::restriction, missing_docs)]

use std::rc::Rc;

use serde::Deserialize;
use wasm_bindgen_test::wasm_bindgen_test;
use wecom_callback_filter::wecom::cipher::{self, CipherError, Ciphertext};
use wecom_callback_filter::wecom::credential::{Credential, EncodingAesKey, Token};
use wecom_callback_filter::wecom::freshness::Freshness;
use wecom_callback_filter::wecom::message::{OpenError, Signed};
use wecom_callback_filter::wecom::query::SignedQuery;
use wecom_callback_filter::wecom::signature::Signature;

#[derive(Deserialize)]
struct Vector {
    name: String,
    token: String,
    encoding_aes_key: String,
    timestamp: String,
    nonce: String,
    encrypt: String,
    signature: String,
    signature_verifies: bool,
    correct_signature: Option<String>,
    random_hex: Option<String>,
    message: Option<String>,
    receive_id: Option<String>,
    configured_receive_id: String,
    expectation: String,
}

impl Vector {
    fn credential(&self) -> Rc<Credential> {
        Rc::new(Credential {
            token: Token::parse(&self.token).unwrap(),
            encoding_aes_key: EncodingAesKey::parse(&self.encoding_aes_key).unwrap(),
        })
    }

    fn query(&self, signature: &str) -> SignedQuery {
        let query = format!("msg_signature={signature}&timestamp={}&nonce={}", self.timestamp, self.nonce);
        SignedQuery::parse(query.as_bytes()).unwrap()
    }

    /// Everything the filter checks of a message, in its order; the words are those of `expectation`.
    fn open(&self, signature: &str) -> Result<Vec<u8>, &'static str> {
        let credentials = [self.credential()];
        let ciphertext = Ciphertext::parse(self.encrypt.clone()).ok_or("ciphertext_length")?;
        let query = self.query(signature);
        let signed = Signed::verify(&query, &ciphertext, &credentials).map_err(|_| "signature")?;
        let fresh = signed.fresh(Freshness::new(0, 0)).map_err(|_| "stale")?;
        match fresh.open(std::slice::from_ref(&self.configured_receive_id)) {
            Ok(opened) => Ok(opened.message().to_vec()),
            Err(OpenError::ReceiveId(_)) => Err("receive_id"),
            Err(OpenError::Cipher(CipherError::CiphertextLength)) => Err("ciphertext_length"),
            Err(OpenError::Cipher(CipherError::Padding)) => Err("padding"),
            Err(OpenError::Cipher(CipherError::PlaintextLength)) => Err("plaintext_length"),
            Err(OpenError::Cipher(CipherError::MessageLength)) => Err("message_length"),
        }
    }
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert_eq!(vectors.len(), 23);
    vectors
}

#[wasm_bindgen_test(unsupported = test)]
fn every_vector_with_a_valid_signature_opens_and_every_other_is_refused() {
    for vector in vectors() {
        let expected = match vector.expectation.strip_prefix("reject:") {
            None => Ok(vector.message.clone().unwrap().into_bytes()),
            Some(reason) => Err(reason),
        };
        assert_eq!(vector.open(&vector.signature), expected, "{}", vector.name);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn signatures_are_those_published_or_known_to_be_wrong() {
    for vector in vectors() {
        let ours =
            Signature::sign(&Token::parse(&vector.token).unwrap(), &vector.timestamp, &vector.nonce, &vector.encrypt);
        let expected = vector.correct_signature.as_ref().unwrap_or(&vector.signature);
        assert_eq!(&ours.to_hex(), expected, "{}", vector.name);
        assert_eq!(vector.signature_verifies, vector.correct_signature.is_none(), "{}", vector.name);
        if !vector.signature_verifies {
            assert_eq!(vector.open(&vector.signature), Err("signature"), "{}", vector.name);
            assert_eq!(vector.open(expected).unwrap(), vector.message.unwrap().into_bytes(), "{}", vector.name);
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn what_opens_is_sealed_again_byte_for_byte() {
    let mut sealed = 0;
    for vector in
        vectors().into_iter().filter(|vector| !vector.expectation.starts_with("reject:") || vector.name == "V6c")
    {
        let random = hex::decode(vector.random_hex.as_ref().unwrap()).unwrap().try_into().unwrap();
        let (message, receive_id) = (vector.message.as_ref().unwrap(), vector.receive_id.as_ref().unwrap());
        let key = &vector.credential().encoding_aes_key;
        let again = cipher::seal(key, random, message.as_bytes(), receive_id.as_bytes()).unwrap();
        assert_eq!(again, vector.encrypt, "{}", vector.name);
        sealed += 1;
    }
    assert_eq!(sealed, 16);
}

/// The signature has no separators: timestamp and nonce swap, and digits move between them. The
/// shapes of the query leave no other reading than those that freshness then refuses.
#[wasm_bindgen_test(unsupported = test)]
fn no_other_split_of_a_signed_query_is_a_query_of_the_same_time() {
    for vector in vectors().into_iter().filter(|vector| vector.signature_verifies) {
        let digits = format!("{}{}", vector.timestamp, vector.nonce);
        let swapped = format!("{}{}", vector.nonce, vector.timestamp);
        for joined in [digits, swapped] {
            for at in 1..joined.len() {
                let (timestamp, nonce) = joined.split_at(at);
                let query = format!("msg_signature={}&timestamp={timestamp}&nonce={nonce}", vector.signature);
                let Ok(query) = SignedQuery::parse(query.as_bytes()) else { continue };
                let same = (query.timestamp() == vector.timestamp) && (query.nonce() == vector.nonce);
                let age = query.unix_seconds().abs_diff(vector.timestamp.parse().unwrap());
                assert!(
                    same || age > 600 || query.timestamp() == vector.timestamp,
                    "{}: {timestamp} {nonce}",
                    vector.name
                );
            }
        }
    }
}
