//! Messages that are wrong in one way each: what the libraries do with them, and what the filter does.

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeEncrypt, InnerIvInit, KeyInit};
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{Engine, alphabet};
use serde::Serialize;
use serde_json::json;
use testbed::edge::Edge;
use testbed::wecom::{Account, Event, random_nonce, unix_now};

use crate::plan::{self, Plan};

/// Each by name, and what is wrong with it.
pub(crate) const PROBES: [(&str, &str); 11] = [
    ("signature", "the signature of another message"),
    ("unsigned", "no signature at all, to the library's own handler of POSTs"),
    ("receive_id", "addressed to another receive id"),
    ("stale", "a day old, the signature right"),
    ("padding_0", "padding whose last byte is 0"),
    ("padding_33", "padding whose last byte is 33"),
    ("padding_bytes", "padding whose bytes are not all the same"),
    ("block_16", "padded to a multiple of 16, not of 32"),
    ("short", "a ciphertext of 16 bytes"),
    ("length", "a message that claims to have 4 GiB"),
    ("base64", "base64 whose spare bits are not 0"),
];

/// One of them, addressed to the account with that number.
#[derive(Debug, Serialize)]
pub(crate) struct Probe {
    name: &'static str,
    account: usize,
    timestamp: String,
    nonce: String,
    encrypt: String,
    signature: String,
}

/// All of them, for the account with number 0.
pub(crate) fn all(account: &Account) -> Vec<Probe> {
    PROBES.into_iter().map(|(name, _)| probe(name, account)).collect()
}

/// What the filter answers to each of them.
pub(crate) async fn sent_to_the_filter(edge: &Edge, plan: &Plan) -> Vec<String> {
    let account = &plan.accounts()[0];
    let mut said = Vec::new();
    for probe in all(account) {
        let body = json!({ "tousername": account.receive_id(), "encrypt": probe.encrypt });
        let mut request = account.seal("").with_body(body.to_string());
        if probe.name == "unsigned" {
            request = request.with_query(&format!("timestamp={}&nonce={}", probe.timestamp, probe.nonce));
        }
        (request.timestamp, request.nonce, request.msg_signature) = (probe.timestamp, probe.nonce, probe.signature);
        let answer = edge.client.send(&edge.envoy.url(&plan::path(0)), &request).await.unwrap();
        assert!((400..500).contains(&answer.status), "{}: {} {}", probe.name, answer.status, answer.text());
        said.push(format!("{} `{}`", answer.status, answer.rejection().unwrap()));
    }
    assert_eq!(edge.backend.count(), 0);
    said
}

fn probe(name: &'static str, account: &Account) -> Probe {
    let message = message(account);
    let framed = frame(&message, account.receive_id());
    let encrypt = match name {
        "receive_id" => account.clone().with_receive_id("someone-else").encrypt(&message),
        "padding_0" => encrypt(account, framed, &[0; PADDING]),
        "padding_33" => encrypt(account, framed, &[33; PADDING]),
        "padding_bytes" => {
            let mut padding = [0xee; PADDING];
            padding[PADDING - 1] = 24;
            encrypt(account, framed, &padding)
        }
        "block_16" => encrypt(account, framed, &[8; PADDING - 16]),
        "short" => encrypt(account, Vec::new(), &[16; 16]),
        "length" => {
            let mut framed = framed;
            framed[16..20].fill(0xff);
            encrypt(account, framed, &[24; PADDING])
        }
        "base64" => with_spare_bits(&account.encrypt(&message)),
        _ => account.encrypt(&message),
    };
    let at = if name == "stale" { unix_now() - 86_400 } else { unix_now() };
    let (timestamp, nonce) = (at.to_string(), random_nonce());
    let signed = if name == "signature" { account.encrypt(b"{}") } else { encrypt.clone() };
    let signature = account.sign(&timestamp, &nonce, &signed);
    Probe { name, account: 0, timestamp, nonce, encrypt, signature }
}

/// How many bytes of padding [`message`] needs.
const PADDING: usize = 24;

/// A bind whose plaintext needs that many bytes of padding, and whose ciphertext's base64 has spare bits.
fn message(account: &Account) -> Vec<u8> {
    let messages = (0..96).map(|length| Event::bind("sn-probe").set("note", "x".repeat(length)));
    let messages = messages.map(|event| event.to_json(account.receive_id()));
    let fits = |message: &Vec<u8>| {
        let length = frame(message, account.receive_id()).len();
        length % 32 == 32 - PADDING && !(length + PADDING).is_multiple_of(3)
    };
    messages.into_iter().find(fits).unwrap()
}

fn frame(message: &[u8], receive_id: &str) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[b'r'; 16][..], &length.to_be_bytes(), message, receive_id.as_bytes()].concat()
}

/// Encrypts what is padded already, rightly or not.
fn encrypt(account: &Account, mut framed: Vec<u8>, padding: &[u8]) -> String {
    framed.extend_from_slice(padding);
    let lenient = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let lenient = GeneralPurpose::new(&alphabet::STANDARD, lenient);
    let key: [u8; 32] = lenient.decode(format!("{}=", account.encoding_aes_key())).unwrap().try_into().unwrap();
    let iv: [u8; 16] = key[..16].try_into().unwrap();
    let length = framed.len();
    let encryptor = cbc::Encryptor::inner_iv_init(aes::Aes256::new(&key.into()), &iv.into());
    STANDARD.encode(encryptor.encrypt_padded::<NoPadding>(&mut framed, length).unwrap())
}

/// The same bytes to a lenient decoder: the last character before the `=` is the next one.
fn with_spare_bits(encrypt: &str) -> String {
    let digits = encrypt.trim_end_matches('=');
    assert_ne!(digits, encrypt, "base64 without `=` has no spare bits");
    let mut bytes = encrypt.as_bytes().to_vec();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let last = &mut bytes[digits.len() - 1];
    *last = alphabet[alphabet.iter().position(|known| known == last).unwrap() + 1];
    String::from_utf8(bytes).unwrap()
}
