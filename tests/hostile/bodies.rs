//! Bodies of all sizes in valid and invalid framings, and JSON made to exhaust its parser.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;
use testbed::envoy::Bootstrap;
use testbed::wecom::Answer;
use tokio::net::TcpStream;

use crate::wire::{self, Wire};
use crate::{Bind, Bound, Edge, Expected, Refused};

/// Above the default, so that a message of depth 50 000 fits.
const MAX_BODY: usize = 200_000;

async fn start() -> Edge {
    Edge::start_with(|bootstrap: Bootstrap| {
        bootstrap.edit_plugin_value(|value| value["max_body_bytes"] = MAX_BODY.into()).edit_hcm(|hcm| {
            hcm["http_protocol_options"] = json!({ "enable_trailers": true });
        })
    })
    .await
}

/// A request with exactly these framing headers and body bytes.
fn framed(bind: &Bind, framing: &str, body: &[u8]) -> Vec<u8> {
    [wire::head("POST", bind.target().as_bytes(), &[]).as_slice(), framing.as_bytes(), b"\r\n", body].concat()
}

fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    body.chunks(size).flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).collect()
}

/// The bind's envelope, padded with blanks to that length.
fn padded(bind: &Bind, length: usize) -> Vec<u8> {
    let mut body = bind.body();
    body.resize(length, b' ');
    body
}

/// Sends a body over HTTP/2 in these frames, with or without trailers.
async fn over_http2(address: SocketAddr, bind: &Bind, frames: Vec<Bytes>, trailers: bool) -> Answer {
    let start = Instant::now();
    let exchange = async {
        let (mut sender, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = http::Request::post(format!("http://edge.example{}", bind.target())).body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        let last = frames.len().saturating_sub(1);
        let none = frames.is_empty() && !trailers;
        for (index, frame) in frames.into_iter().enumerate() {
            // Fails if the answer came before the end of the body; the answer is what counts then.
            let _ = body.send_data(frame, index == last && !trailers);
        }
        if none {
            body.send_data(Bytes::new(), true).unwrap();
        }
        if trailers {
            let trailers = HeaderMap::from_iter([("x-checksum".parse().unwrap(), "1".parse().unwrap())]);
            body.send_trailers(trailers).unwrap();
        }
        let response = response.await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (mut stream, mut body) = (response.into_body(), Vec::new());
        while let Some(piece) = stream.data().await {
            let piece = piece.unwrap();
            stream.flow_control().release_capacity(piece.len()).unwrap();
            body.extend_from_slice(&piece);
        }
        driver.abort();
        Answer { status, headers, body, elapsed: start.elapsed() }
    };
    tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("an answer in time")
}

fn frames(body: &[u8], size: usize) -> Vec<Bytes> {
    body.chunks(size).map(Bytes::copy_from_slice).collect()
}

const EMPTY: Expected = Refused(400, "bad_envelope");
const TOO_LARGE: Expected = Refused(413, "body_too_large");

#[tokio::test]
async fn a_body_in_any_valid_framing_is_read_to_its_end() {
    let edge = start().await;
    for trailers in ["", "x-checksum: 1\r\nx-note: end\r\n"] {
        for size in [1, 7, 100_000] {
            let bind = edge.bind();
            let body = [chunks(&bind.body(), size), format!("0\r\n{trailers}\r\n").into_bytes()].concat();
            let answer = edge.send(&framed(&bind, "transfer-encoding: chunked\r\n", &body)).await;
            edge.check(&format!("chunks of {size}, trailers {trailers:?}"), &bind, answer.as_ref(), Bound);
        }
        let bind = edge.bind();
        let body = format!("0\r\n{trailers}\r\n");
        let answer = edge.send(&framed(&bind, "transfer-encoding: chunked\r\n", body.as_bytes())).await;
        edge.check(&format!("no chunk, trailers {trailers:?}"), &bind, answer.as_ref(), EMPTY);
    }
    // Each byte in a packet of its own.
    let bind = edge.bind();
    let mut wire = Wire::open(edge.envoy.address()).await;
    for byte in bind.bytes(&[]) {
        wire.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    edge.check("byte by byte", &bind, wire.answer().await.as_ref(), Bound);

    for trailers in [false, true] {
        for size in [1, 7, 100_000] {
            let bind = edge.bind();
            let answer = over_http2(edge.envoy.address(), &bind, frames(&bind.body(), size), trailers).await;
            edge.check(&format!("DATA of {size}, trailers {trailers}"), &bind, Some(&answer), Bound);
        }
        let bind = edge.bind();
        let answer = over_http2(edge.envoy.address(), &bind, Vec::new(), trailers).await;
        edge.check(&format!("no DATA, trailers {trailers}"), &bind, Some(&answer), EMPTY);
        let bind = edge.bind();
        // No two empty frames in a row: Envoy treats those as an attack and closes the connection.
        let empty = frames(&bind.body(), 50).into_iter().flat_map(|frame| [Bytes::new(), frame]);
        let answer = over_http2(edge.envoy.address(), &bind, empty.collect(), trailers).await;
        edge.check(&format!("empty DATA in between, trailers {trailers}"), &bind, Some(&answer), Bound);
    }
    for (what, framing) in [("no framing", ""), ("a length of 0", "content-length: 0\r\n")] {
        let bind = edge.bind();
        let answer = edge.send(&framed(&bind, framing, b"")).await;
        edge.check(what, &bind, answer.as_ref(), EMPTY);
    }
    edge.end().await;
}

#[tokio::test]
async fn the_limit_on_bodies_is_exact() {
    // With the shipped configuration: a body of that size must fit into all of Envoy's buffers.
    let edge = Edge::start().await;
    for (length, expected) in [(65_536, Bound), (65_537, TOO_LARGE)] {
        let bind = edge.bind();
        let answer = edge.send(&wire::request("POST", bind.target().as_bytes(), &[], &padded(&bind, length))).await;
        edge.check(&format!("{length} bytes, announced"), &bind, answer.as_ref(), expected);

        let bind = edge.bind();
        let body = [chunks(&padded(&bind, length), 1000), b"0\r\n\r\n".to_vec()].concat();
        let answer = edge.send(&framed(&bind, "transfer-encoding: chunked\r\n", &body)).await;
        edge.check(&format!("{length} bytes, chunked"), &bind, answer.as_ref(), expected);

        for trailers in [false, true] {
            let bind = edge.bind();
            let pieces = frames(&padded(&bind, length), 10_000);
            let answer = over_http2(edge.envoy.address(), &bind, pieces, trailers).await;
            // A stream's window is as large as the limit, so Envoy may reject it before the filter does.
            let expected = match expected {
                TOO_LARGE if answer.rejection().is_none() => Expected::Envoy(413),
                expected => expected,
            };
            edge.check(&format!("{length} bytes over HTTP/2"), &bind, Some(&answer), expected);
        }
    }
    edge.end().await;
}

#[tokio::test]
async fn a_wrong_length_never_turns_half_a_body_into_a_bind() {
    let edge = start().await;
    let of = |bind: &Bind, change: fn(usize) -> String| {
        let body = bind.body();
        framed(bind, &change(body.len()), &body)
    };
    type Lie = fn(usize) -> String;
    let refused_by_envoy: [(&str, Lie); 10] = [
        ("negative", |_| "content-length: -1\r\n".to_owned()),
        ("with a sign", |n| format!("content-length: +{n}\r\n")),
        ("no number", |_| "content-length: many\r\n".to_owned()),
        ("hexadecimal", |n| format!("content-length: {n:#x}\r\n")),
        ("empty", |_| "content-length:\r\n".to_owned()),
        ("beyond 64 bits", |_| "content-length: 99999999999999999999999\r\n".to_owned()),
        ("two of them", |n| format!("content-length: {n}\r\ncontent-length: {}\r\n", n - 1)),
        ("a list", |n| format!("content-length: {n}, {}\r\n", n - 1)),
        ("beside chunked", |n| format!("content-length: {n}\r\ntransfer-encoding: chunked\r\n")),
        ("beside an unknown encoding", |n| format!("content-length: {n}\r\ntransfer-encoding: gzip\r\n")),
    ];
    for (what, lie) in refused_by_envoy {
        let bind = edge.bind();
        let answer = edge.send(&of(&bind, lie)).await.unwrap_or_else(|| panic!("{what}: closed"));
        // 501 for an encoding that Envoy does not have.
        assert!(matches!(answer.status, 400 | 413 | 501), "{what}: {} {}", answer.status, answer.text());
        edge.check(
            what,
            &bind,
            Some(&answer),
            match answer.rejection() {
                Some(_) => TOO_LARGE,
                None => Expected::Envoy(answer.status),
            },
        );
    }

    // Too short: the rest of the body is not a request.
    let bind = edge.bind();
    let mut wire = Wire::open(edge.envoy.address()).await;
    let answer = wire.ask(&of(&bind, |n| format!("content-length: {}\r\n", n - 10))).await;
    edge.check("too short", &bind, answer.as_ref(), EMPTY);
    if let Some(answer) = wire.answer().await {
        assert_eq!(answer.status, 400, "{}", answer.text());
    }

    // Too long: Envoy waits for the rest, and answers in time.
    let bind = edge.bind();
    let answer = edge.send(&of(&bind, |n| format!("content-length: {}\r\n", n + 1))).await.expect("an answer");
    edge.check("too long", &bind, Some(&answer), Expected::Envoy(answer.status));
    assert!(matches!(answer.status, 408 | 504), "{}", answer.status);

    // Invalid chunks.
    for end in ["", "5\r\nabc\r\n0\r\n\r\n", "-1\r\n\r\n", "zz\r\n\r\n", "ffffffffffffffffff\r\n"] {
        let bind = edge.bind();
        let body = [chunks(&bind.body(), 100), end.as_bytes().to_vec()].concat();
        let answer = edge.send(&framed(&bind, "transfer-encoding: chunked\r\n", &body)).await;
        if let Some(answer) = answer {
            assert!(matches!(answer.status, 400 | 408 | 504), "{end:?}: {}", answer.status);
            edge.check(end, &bind, Some(&answer), Expected::Envoy(answer.status));
        }
        assert_eq!(edge.decision.requests_for(&bind.device_sn).len(), 0, "{end:?}");
    }

    // Disconnected after each eighth of the body.
    for eighths in 0..8 {
        let bind = edge.bind();
        let (bytes, body) = (bind.bytes(&[]), bind.body().len());
        let mut wire = Wire::open(edge.envoy.address()).await;
        wire.write(&bytes[..bytes.len() - body + body * eighths / 8]).await;
        drop(wire);
        assert_eq!(edge.decision.requests_for(&bind.device_sn).len(), 0);
    }
    edge.end().await;
}

#[tokio::test]
async fn an_announced_length_beyond_32_bits_is_too_large_at_once() {
    let edge = start().await;
    for length in ["4294967296", "5000000000", "9223372036854775807"] {
        let bind = edge.bind();
        let answer = edge.send(&framed(&bind, &format!("content-length: {length}\r\n"), b"")).await;
        edge.check(length, &bind, answer.as_ref(), TOO_LARGE);
    }
    edge.end().await;
}

#[tokio::test]
async fn an_excessive_or_ambiguous_envelope_is_accepted_or_rejected_as_defined() {
    let edge = start().await;
    type Make = Box<dyn Fn(&str) -> String>;
    type Plain = fn(&str) -> String;
    let deep = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    let cases: Vec<(&str, Expected, Make)> = vec![
        (
            "depth 90 000 that nobody reads",
            Bound,
            Box::new(move |e| format!(r#"{{"x":{},"encrypt":"{e}"}}"#, deep("[", "]", 90_000))),
        ),
        (
            "objects in objects",
            Bound,
            Box::new(move |e| {
                format!(r#"{{"encrypt":"{e}","x":{}1{}}}"#, r#"{"a":"#.repeat(25_000), "}".repeat(25_000))
            }),
        ),
        ("depth 150 000 without an end", EMPTY, Box::new(|_| "[".repeat(150_000))),
        ("the same behind a key", EMPTY, Box::new(|_| format!(r#"{{"encrypt":{}"#, "[".repeat(150_000)))),
        (
            "depth in the place of the ciphertext",
            EMPTY,
            Box::new(move |_| format!(r#"{{"encrypt":{}}}"#, deep("[", "]", 90_000))),
        ),
        (
            "15 000 other members",
            Bound,
            Box::new(|e| {
                let others: String = (0..15_000).map(|n| format!("\"{n}\":1,")).collect();
                format!("{{{others}\"encrypt\":\"{e}\"}}")
            }),
        ),
        (
            "a number of 150 000 digits",
            Bound,
            Box::new(|e| format!(r#"{{"x":{},"encrypt":"{e}"}}"#, "1".repeat(150_000))),
        ),
        ("an exponent beyond all bounds", Bound, Box::new(|e| format!(r#"{{"x":1e999999999,"encrypt":"{e}"}}"#))),
        ("150 000 backslashes", Bound, Box::new(|e| format!(r#"{{"x":"{}","encrypt":"{e}"}}"#, r"\\".repeat(75_000)))),
        (
            "a key of 150 000 characters",
            Bound,
            Box::new(|e| format!(r#"{{"{}":1,"encrypt":"{e}"}}"#, "k".repeat(150_000))),
        ),
        (
            "every character escaped",
            Bound,
            Box::new(|e| {
                let escaped: String = e.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
                format!(r#"{{"encrypt":"{escaped}"}}"#)
            }),
        ),
        ("encrypt twice, the same", Bound, Box::new(|e| format!(r#"{{"encrypt":"{e}","encrypt":"{e}"}}"#))),
        ("encrypt twice, in two cases", Bound, Box::new(|e| format!(r#"{{"Encrypt":"{e}","encrypt":"{e}"}}"#))),
    ];
    let one_way: [(&str, Plain); 14] = [
        ("encrypt twice, another first", |e| format!(r#"{{"encrypt":"AAAA","encrypt":"{e}"}}"#)),
        ("encrypt twice, another last", |e| format!(r#"{{"encrypt":"{e}","Encrypt":"AAAA"}}"#)),
        ("encrypt twice, an escaped key", |e| format!(r#"{{"encrypt":"{e}","\u0065ncrypt":"AAAA"}}"#)),
        ("encrypt and null", |e| format!(r#"{{"encrypt":"{e}","encrypt":null}}"#)),
        ("a list", |e| format!(r#"["{e}"]"#)),
        ("inside a list", |e| format!(r#"[{{"encrypt":"{e}"}}]"#)),
        ("the bare ciphertext", str::to_owned),
        ("two envelopes", |e| format!(r#"{{"encrypt":"{e}"}}{{"encrypt":"{e}"}}"#)),
        ("a comment", |e| format!(r#"{{"encrypt":"{e}"/**/}}"#)),
        ("a comma at the end", |e| format!(r#"{{"encrypt":"{e}",}}"#)),
        ("single quotes", |e| format!("{{'encrypt':'{e}'}}")),
        ("XML", |e| format!("<xml><Encrypt><![CDATA[{e}]]></Encrypt></xml>")),
        ("a NUL at the end", |e| format!("{{\"encrypt\":\"{e}\"}}\0")),
        ("a line's end inside", |e| format!("{{\"encrypt\":\"{}\\n\"}}", e)),
    ];
    let one_way = one_way.into_iter().map(|(what, make)| -> (_, _, Make) { (what, EMPTY, Box::new(make)) });
    let cases = cases.into_iter().chain(one_way);
    for (what, expected, make) in cases {
        let bind = edge.bind();
        let body = make(&bind.request.encrypt);
        assert!(body.len() <= MAX_BODY, "{what}: {} bytes would be refused unread", body.len());
        let answer = edge.send(&wire::request("POST", bind.target().as_bytes(), &[], body.as_bytes())).await;
        edge.check(what, &bind, answer.as_ref(), expected);
    }
    edge.end().await;
}

#[tokio::test]
async fn a_signed_message_of_great_depth_costs_no_stack() {
    let edge = start().await;
    let account = &edge.account;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let insert = |at: &str, value: &str| {
        let mut bind = edge.bind();
        let message = String::from_utf8(bind.message.clone()).unwrap();
        bind.message = message.replacen(at, &format!("{at}{value},"), 1).into_bytes();
        assert!(bind.message.len() > message.len(), "{at} is there");
        bind.request = account.seal(&bind.message);
        bind
    };
    for (what, bind, expected) in [
        ("in the event", insert("\"event\":{", &format!("\"x\":{}", deep(50_000))), Bound),
        ("beside the event", insert("{", &format!("\"x\":{}", deep(50_000))), Bound),
        ("beside the request id", insert("\"base_info\":{", &format!("\"x\":{}", deep(50_000))), Bound),
        (
            "in a time",
            insert("\"base_info\":{", &format!("\"createtime\":{}", deep(50_000))),
            Refused(403, "bad_message"),
        ),
        ("in an id", insert("\"base_info\":{", &format!("\"model_id\":{}", deep(50_000))), Refused(403, "bad_message")),
    ] {
        let answer = edge.send(&bind.bytes(&[])).await;
        // The backend's JSON parser rejects such depth, so compare the bodies instead.
        let saw = edge.decision.requests().iter().filter(|request| request.body == bind.message).count();
        let answer = answer.unwrap_or_else(|| panic!("{what}: closed"));
        match expected {
            Refused(status, word) => {
                assert_eq!((answer.status, answer.rejection().as_deref(), saw), (status, Some(word), 0), "{what}");
            }
            _ => assert_eq!((answer.decrypt(account).unwrap().errcode(), saw), (Some(0), 1), "{what}"),
        }
    }
    edge.end().await;
}
