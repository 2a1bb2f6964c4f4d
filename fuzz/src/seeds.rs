//! Where the search begins: the vectors of `tests/`, and for each target what it should be given
//! and some of what it should not. Made rather than kept, so that they follow the formats.

use prost::Message;
use serde_json::{Value, json};

use crate::{CREDENTIALS, RECEIVE_IDS, callback, config, envelope, exchange, query};

/// An input with its name.
pub type Seed = (String, Vec<u8>);

/// The inputs that the search for that target begins with.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "query" => {
            let mut seeds = from_vectors(|vector| {
                let encoded: String = text(vector, "encrypt")?.bytes().map(|byte| format!("%{byte:02X}")).collect();
                let [signature, timestamp, nonce] =
                    ["signature", "timestamp", "nonce"].map(|field| vector[field].as_str().unwrap_or_default());
                let signed = format!("msg_signature={signature}&timestamp={timestamp}&nonce={nonce}");
                Some(format!("{signed}&echostr={encoded}").into_bytes())
            });
            seeds.extend(query::seeds());
            seeds
        }
        "envelope" => {
            let mut seeds = from_vectors(|vector| {
                let encrypt = text(vector, "encrypt")?;
                let body = match vector["kind"].as_str() {
                    Some("json_post") => json!({ "ToUserName": "x", "AgentID": 218, "Encrypt": encrypt }),
                    _ => json!({ "tousername": "x", "encrypt": encrypt }),
                };
                Some(body.to_string().into_bytes())
            });
            seeds.extend(envelope::seeds());
            seeds
        }
        "open" => {
            // As they are, to be padded, and as messages: the first byte says which.
            let mut seeds =
                from_vectors(|vector| Some([b"\0", bytes_of_hex(text(vector, "plaintext_hex")?).as_slice()].concat()));
            seeds.extend(from_vectors(|vector| Some([b"\x02", text(vector, "message")?.as_bytes()].concat())));
            let head = b"\x010123456789abcdef\0\0\0\x02{}";
            seeds.push(seed("to-be-padded", [head, RECEIVE_IDS[0].as_bytes()].concat()));
            seeds.push(seed("addressed", [b"\x17\x06", RECEIVE_IDS[1].as_bytes(), b"{}"].concat()));
            for choices in [6, 10, 14] {
                seeds.push(seed(&format!("rotated-{choices}"), vec![choices, b'{', b'}']));
            }
            seeds
        }
        "callback" => {
            let mut seeds = from_vectors(|vector| Some(text(vector, "message")?.as_bytes().to_vec()));
            seeds.extend(callback::seeds());
            seeds
        }
        "reply" => exchange::responses().map(|(n, bytes)| seed(&format!("response-{n}"), bytes)).collect(),
        "config" => configurations().into_iter().enumerate().flat_map(|(n, config)| both_forms(n, config)).collect(),
        "exchange" => exchange::seeds(),
        _ => Vec::new(),
    }
}

/// A seed of that name.
pub(crate) fn seed(name: &str, bytes: impl Into<Vec<u8>>) -> Seed {
    (name.to_owned(), bytes.into())
}

fn from_vectors(input: impl Fn(&Value) -> Option<Vec<u8>>) -> Vec<Seed> {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/vectors.json")).expect("a list of vectors");
    let named = vectors.iter().filter_map(|vector| Some((text(vector, "name")?.to_owned(), input(vector)?)));
    named.collect()
}

fn text<'a>(vector: &'a Value, field: &str) -> Option<&'a str> {
    vector[field].as_str()
}

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
}

fn configurations() -> Vec<Value> {
    let (token, key) = CREDENTIALS[1];
    let minimal = json!({ "endpoints": [{
        "path": "/a", "receive_ids": ["1"], "decision": { "cluster": "d" },
        "credentials": [{ "token": token, "encoding_aes_key": key }],
    }] });
    let full = json!({
        "endpoints": [
            {
                "path": "/suite/receive", "name": "lock",
                "receive_ids": RECEIVE_IDS, "verify_receive_ids": ["wwverify"],
                "credentials": [
                    { "token": { "env": "WECOM_TOKEN" }, "encoding_aes_key": key },
                    { "token": token, "encoding_aes_key": key },
                ],
                "decision": {
                    "cluster": "decision", "authority": "decision.internal", "path": "/bind?x",
                    "timeout_ms": 2800, "empty_is_success": false,
                },
                "events": { "cluster": "backend", "path": "/events", "timeout_ms": 1 },
            },
            minimal["endpoints"][0],
        ],
        "freshness_seconds": 300,
        "dedup": { "ttl_seconds": 601, "capacity": 1024 },
        "max_body_bytes": 4096,
        "reply_timestamp": "number",
    });
    let wrong = [
        ("/dedup/capacity", json!(token)),
        ("/dedup/ttl_seconds", json!(600)),
        ("/endpoints/1/path", json!("/suite/receive")),
        ("/endpoints/0/credentials/0/token", json!({ "file": token })),
        ("/endpoints/0/credentials/0/token", json!([token])),
        ("/endpoints/0/credentials/0/encoding_aes_key", json!(token)),
    ];
    let wrong = wrong.into_iter().map(|(pointer, value)| {
        let mut config = full.clone();
        *config.pointer_mut(pointer).expect("a field") = value;
        config
    });
    wrong.chain([minimal.clone(), full.clone()]).collect()
}

fn both_forms(n: usize, value: Value) -> [Seed; 2] {
    let json = value.to_string().into_bytes();
    let Value::Object(fields) = value else { panic!("no object") };
    [seed(&format!("{n}-json"), json), seed(&format!("{n}-struct"), config::to_struct(fields).encode_to_vec())]
}
