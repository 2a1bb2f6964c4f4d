//! Whoever has the token but not the key can sign any ciphertext, and so sends altered ones to learn
//! from the answers what they decrypt to. The answers tell nothing.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testbed::wecom::{Account, Client, Event, Request};

use crate::Edge;

/// An answer as an attacker sees it: without what differs in any case.
pub(crate) type Seen = (u16, String, String);

pub(crate) async fn seen(edge: &Edge, client: &Client, request: &Request) -> Seen {
    let answer = client.send(&edge.url(), request).await.unwrap();
    let id = answer.json().unwrap()["request_id"].as_str().unwrap().to_owned();
    let mut headers = answer.headers.clone();
    headers.remove("date");
    (answer.status, format!("{headers:?}"), answer.text().replace(&id, "ID"))
}

/// The request with another ciphertext, signed as the holder of the token can.
fn with_ciphertext(request: &Request, bytes: &[u8], token: &Account) -> Request {
    let mut request = request.clone();
    request.encrypt = STANDARD.encode(bytes);
    let body = serde_json::json!({ "tousername": "x", "encrypt": request.encrypt }).to_string();
    request.resign(token).with_body(body)
}

#[tokio::test]
async fn the_token_alone_reveals_nothing_of_a_captured_message() {
    let edge = Edge::start().await;
    let client = Client::http2();
    let captured = edge.account.seal(Event::bind("sn-captured"));
    let bytes = STANDARD.decode(&captured.encrypt).unwrap();
    let mut answers = BTreeSet::new();
    let altered = |at: usize, by: u8, cut: usize| {
        let mut bytes = bytes[..bytes.len() - cut].to_vec();
        bytes[at] ^= by;
        with_ciphertext(&captured, &bytes, &edge.account)
    };
    let last = bytes.len();
    let mut requests = Vec::new();
    // The classic attack: every value of the byte that changes the last byte of padding, on the whole
    // message and on its beginning alone, …
    for cut in [0, 32, 64] {
        requests.extend((1..=255).map(|by| altered(last - cut - 17, by, cut)));
    }
    // … and bits all over the message: ids, times, JSON, length.
    requests.extend((0..last - 48).map(|at| altered(at + 32, 0x20, 0)));
    requests.extend((16..20).map(|at| altered(at - 16, 1, 0)));
    // What is opened, but says nothing that is accepted.
    let other = edge.account.clone().with_receive_id("2000000000000009");
    requests.push(other.seal(Event::bind("sn-captured")));
    requests.push(edge.account.seal(Event::bind("sn-captured").createtime(1)));
    requests.push(edge.account.seal(Event::bind("sn-captured").without_base("createtime")));
    requests.push(edge.account.seal(Event::bind("sn-captured").model_id("another")));
    requests.push(edge.account.seal("no callback"));
    requests.push(edge.account.seal(b"\xff".to_vec()));
    for request in &requests {
        answers.insert(seen(&edge, &client, request).await);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    let (status, _, body) = answers.first().unwrap();
    assert_eq!((*status, body.as_str()), (403, r#"{"error":"bad_message","request_id":"ID"}"#));

    // The same as GET.
    let mut echoes = vec![captured.into_get(), other.verify_url("123"), edge.account.verify_url("no digits")];
    echoes.extend(requests.iter().take(300).map(|request| request.clone().into_get()));
    for request in &echoes {
        answers.insert(seen(&edge, &client, request).await);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(edge.decision.requests().is_empty(), "{:?}", edge.decision.requests());
    edge.end().await;
}
