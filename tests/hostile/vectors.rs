//! The test vectors as requests, each to an endpoint with its token, key and receive id.

use serde::Deserialize;
use serde_json::json;
use testbed::wecom::{Account, Answer};

use crate::{Edge, PATH, wire};

#[derive(Deserialize)]
struct Vector {
    name: String,
    kind: String,
    token: String,
    encoding_aes_key: String,
    timestamp: String,
    nonce: String,
    encrypt: String,
    signature: String,
    message: Option<String>,
    configured_receive_id: String,
    expectation: String,
}

impl Vector {
    fn path(&self) -> String {
        format!("{PATH}/vector/{}", self.name)
    }

    fn query(&self) -> String {
        format!("?msg_signature={}&timestamp={}&nonce={}", self.signature, self.timestamp, self.nonce)
    }

    async fn post(&self, edge: &Edge) -> Answer {
        let target = self.path() + &self.query();
        let body = json!({ "tousername": self.configured_receive_id, "encrypt": self.encrypt }).to_string();
        edge.send(&wire::request("POST", target.as_bytes(), &[], body.as_bytes())).await.expect(&self.name)
    }

    async fn get(&self, edge: &Edge) -> Answer {
        let echo = self.encrypt.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let target = format!("{}{}&echostr={echo}", self.path(), self.query());
        let bytes = [wire::head("GET", target.as_bytes(), &[]), b"\r\n".to_vec()].concat();
        edge.send(&bytes).await.expect(&self.name)
    }

    /// Status and word of the expected rejection.
    fn refusal(&self) -> Option<(u16, &'static str)> {
        Some(match self.expectation.strip_prefix("reject:")? {
            "signature" => (403, "bad_signature"),
            "padding" | "plaintext_length" | "message_length" => (403, "bad_message"),
            "receive_id" => (403, "bad_message"),
            "ciphertext_length" => (400, "ciphertext_shape"),
            other => panic!("{}: {other}", self.name),
        })
    }
}

#[tokio::test]
async fn every_vector_gets_the_expected_answer_and_only_the_bind_reaches_an_upstream() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../vectors.json")).unwrap();
    let endpoints: Vec<_> = vectors
        .iter()
        .map(|vector| {
            json!({
                "path": vector.path(),
                "receive_ids": [vector.configured_receive_id],
                "credentials": [{ "token": vector.token, "encoding_aes_key": vector.encoding_aes_key }],
                "decision": { "cluster": "decision" },
                "events": { "cluster": "backend" },
            })
        })
        .collect();
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|value| {
            value["freshness_seconds"] = 0.into(); // they are years old
            let own = value["endpoints"][0].take();
            value["endpoints"] = std::iter::once(own).chain(endpoints).collect();
        })
    })
    .await;

    let (mut negative, mut bound, mut echoed) = (0, 0, 0);
    for vector in &vectors {
        let (post, get) = (vector.post(&edge).await, vector.get(&edge).await);
        let seen = |answer: &Answer| (answer.status, answer.rejection().unwrap_or_default());
        // A malformed ciphertext makes the envelope, or the query, malformed.
        let (refused_post, refused_get) = match vector.refusal() {
            Some((400, _)) => (Some((400, "bad_envelope")), Some((400, "bad_query"))),
            refusal => (refusal, refusal),
        };
        match (vector.kind.as_str(), refused_post, refused_get) {
            (_, Some(post_word), Some(get_word)) => {
                assert_eq!(seen(&post), (post_word.0, post_word.1.to_owned()), "POST {}", vector.name);
                assert_eq!(seen(&get), (get_word.0, get_word.1.to_owned()), "GET {}", vector.name);
                negative += 1;
            }
            ("verify_url", ..) => {
                assert_eq!((get.status, Some(get.text())), (200, vector.message.clone()), "GET {}", vector.name);
                assert_eq!(seen(&post), (403, "bad_message".to_owned()), "POST {}", vector.name);
                echoed += 1;
            }
            ("bind", ..) => {
                let account =
                    Account::new(&vector.token, &vector.encoding_aes_key, &vector.configured_receive_id).unwrap();
                assert_eq!(post.decrypt(&account).unwrap().errcode(), Some(0), "POST {}", vector.name);
                assert_eq!(seen(&get), (403, "bad_message".to_owned()), "GET {}", vector.name);
                bound += 1;
            }
            // Messages of other APIs, and the filter's own replies: signed, but not callbacks.
            _ => {
                assert_eq!(seen(&post), (403, "bad_message".to_owned()), "POST {}", vector.name);
                assert_eq!(seen(&get), (403, "bad_message".to_owned()), "GET {}", vector.name);
            }
        }
    }
    assert_eq!((negative, bound, echoed), (8, 1, 4));

    let bind = vectors.iter().find(|vector| vector.kind == "bind").unwrap();
    let saw: Vec<_> = edge.decision.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(saw, [bind.message.clone().unwrap().into_bytes()]);
    assert_eq!(edge.backend.count(), 0);
    edge.end().await;
}
