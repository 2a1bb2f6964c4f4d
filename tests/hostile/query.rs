//! Altered queries of an otherwise valid bind.

use crate::wire;
use crate::{Bind, Bound, Edge, Expected, Refused};

/// Sends a valid bind with the query that `bend` returns.
async fn send(edge: &Edge, bend: impl Fn(&Bind) -> Vec<u8>) -> (Bind, Option<testbed::wecom::Answer>) {
    let bind = edge.bind();
    let target = [crate::PATH.as_bytes(), b"?", &bend(&bind)].concat();
    let answer = edge.send(&wire::request("POST", &target, &[], &bind.body())).await;
    (bind, answer)
}

const BAD: Expected = Refused(400, "bad_query");
const FORGED: Expected = Refused(403, "bad_signature");

#[tokio::test]
async fn an_altered_query_means_the_same_or_is_rejected() {
    let edge = Edge::start().await;
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    type Bend = Box<dyn Fn(&Bind) -> String>;
    let with = |change: fn(&str) -> String| -> Bend { Box::new(move |bind| change(&bind.request.query_text())) };
    let cases: Vec<(&str, Expected, Bend)> = vec![
        // Equivalent queries.
        ("as it is", Bound, with(str::to_owned)),
        ("parameters of others", Bound, with(|q| format!("a=1&{q}&b&=&&c=%zz&%zz=1&echostr=1"))),
        ("in another order", Bound, with(|q| q.split('&').rev().collect::<Vec<_>>().join("&"))),
        ("a question mark inside", Bound, with(|q| format!("{q}&a=?b?"))),
        ("a fragment's encoding", Bound, with(|q| format!("{q}&a=%23"))),
        (
            "every character encoded",
            Bound,
            Box::new(move |b| {
                let q = b.request.query_text();
                q.split('&')
                    .map(|pair| pair.split('=').map(escaped).collect::<Vec<_>>().join("="))
                    .collect::<Vec<_>>()
                    .join("&")
            }),
        ),
        (
            "upper-case hex",
            Bound,
            Box::new(|b| {
                let signature = &b.request.msg_signature;
                b.request.query_text().replace(signature.as_str(), &signature.to_uppercase())
            }),
        ),
        // Missing, repeated and misnamed parameters.
        ("none", BAD, with(|_| String::new())),
        ("separators only", BAD, with(|_| "&&&=&=&".to_owned())),
        ("no signature", BAD, with(|q| q.replace("msg_signature=", "signature="))),
        ("no timestamp", BAD, with(|q| q.replace("timestamp=", "time="))),
        ("no nonce", BAD, with(|q| q.replace("nonce=", "Nonce="))),
        ("the whole of it twice", BAD, with(|q| format!("{q}&{q}"))),
        ("a second signature", BAD, with(|q| format!("{q}&msg_signature={}", "0".repeat(40)))),
        ("a second timestamp", BAD, with(|q| format!("timestamp=1&{q}"))),
        ("a second nonce, encoded", BAD, with(|q| format!("{q}&%6eonce=1"))),
        ("a second nonce, empty", BAD, with(|q| format!("{q}&nonce"))),
        ("separated by semicolons", BAD, with(|q| q.replace('&', ";"))),
        ("separators encoded", BAD, with(|q| q.replace('&', "%26"))),
        ("equals signs encoded", BAD, with(|q| q.replace('=', "%3d"))),
        ("encoded twice", BAD, with(|q| q.replace("nonce", "%256eonce"))),
        ("names as an array", BAD, with(|q| q.replace("nonce=", "nonce[]="))),
        // Malformed values.
        ("nonce empty", BAD, with(|q| q.replace("nonce=", "nonce=&x="))),
        ("nonce, a lone percent", BAD, with(|q| format!("{q}%"))),
        ("nonce, half an escape", BAD, with(|q| format!("{q}%4"))),
        ("nonce, no hex", BAD, with(|q| format!("{q}%zz"))),
        ("nonce, NUL", BAD, with(|q| format!("{q}%00"))),
        ("nonce, a line's end", BAD, with(|q| format!("{q}%0d%0aset-cookie:%20a=1"))),
        ("nonce, no ASCII", BAD, with(|q| format!("{q}%e5%af%86"))),
        ("nonce, no UTF-8", BAD, with(|q| format!("{q}%ff%fe"))),
        ("nonce, an overlong NUL", BAD, with(|q| format!("{q}%c0%80"))),
        ("nonce, 60 digits", BAD, with(|q| format!("{q}{}", "1".repeat(50)))),
        ("timestamp, a sign", BAD, with(|q| q.replace("timestamp=", "timestamp=%2B"))),
        ("timestamp, a blank", BAD, with(|q| q.replace("timestamp=", "timestamp=%20"))),
        ("timestamp, eleven digits", BAD, with(|q| q.replace("timestamp=", "timestamp=0"))),
        (
            "timestamp, other digits",
            BAD,
            Box::new(|b| {
                let time = &b.request.timestamp;
                let wide: String = time.bytes().map(|d| format!("%ef%bc%{:02x}", 0x90 + (d - b'0'))).collect();
                b.request.query_text().replace(&format!("timestamp={time}"), &format!("timestamp={wide}"))
            }),
        ),
        ("signature, 39 digits", BAD, with(|q| q.replacen("msg_signature=", "msg_signature=&x=", 1))),
        ("signature, 41 digits", BAD, with(|q| q.replacen("msg_signature=", "msg_signature=0", 1))),
        (
            "signature, no hex",
            BAD,
            Box::new(|b| b.request.query_text().replace(b.request.msg_signature.as_str(), &"g".repeat(40))),
        ),
        // Well-formed, but not what was signed.
        ("another nonce", FORGED, with(|q| format!("{q}0"))),
        ("a blank for a plus", FORGED, with(|q| format!("{q}+"))),
        (
            "a signature of zeros",
            FORGED,
            Box::new(|b| b.request.query_text().replace(b.request.msg_signature.as_str(), &"0".repeat(40))),
        ),
        (
            "another timestamp",
            FORGED,
            Box::new(|b| {
                let next = (b.request.timestamp.parse::<u64>().unwrap() + 1).to_string();
                b.request.query_text().replace(b.request.timestamp.as_str(), &next)
            }),
        ),
    ];
    for (what, expected, bend) in &cases {
        let (bind, answer) = send(&edge, |bind| bend(bind).into_bytes()).await;
        edge.check(what, &bind, answer.as_ref(), *expected);
    }
    edge.end().await;
}

#[tokio::test]
async fn control_and_non_ascii_bytes_in_a_query_are_rejected_by_envoy() {
    let edge = Edge::start().await;
    for byte in (0x80..=0xff).step_by(5).chain([0x00, 0x01, 0x0b, 0x7f, 0xfe, 0xff]) {
        let (bind, answer) = send(&edge, |bind| [bind.request.query_text().as_bytes(), &[byte]].concat()).await;
        edge.check(&format!("{byte:#x} in the query"), &bind, answer.as_ref(), Expected::Envoy(400));
    }
    edge.end().await;
}

#[tokio::test]
async fn long_queries_are_handled_up_to_envoys_limit() {
    let edge = Edge::start().await;
    let around = |filler: &str, count: usize| {
        let filler = filler.repeat(count);
        move |bind: &Bind| format!("{filler}{}", bind.request.query_text()).into_bytes()
    };
    // Envoy's own limit on a request's head is 60 KiB.
    for (what, bend, expected) in [
        ("50 000 separators", around("&", 50_000), Bound),
        ("12 000 parameters", around("a=1&", 12_000), Bound),
        ("16 000 escapes", around("%41", 16_000), BAD), // they become part of the first name
        ("a nonce of 50 kB", around("nonce=", 8_000), BAD),
        ("70 kB", around("a=1&", 17_500), Expected::Envoy(431)),
    ] {
        let (bind, answer) = send(&edge, bend).await;
        edge.check(what, &bind, answer.as_ref(), expected);
    }
    edge.end().await;
}
