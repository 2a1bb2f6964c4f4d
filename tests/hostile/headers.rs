//! Header values that are not text, and headers that only the filter may set.

use testbed::wecom::Client;

use crate::wire::{self, Wire};
use crate::{Bound, Edge, Expected, Refused};

/// Headers that the filter reads, that Envoy reads, and that clients commonly send.
const NAMES: [&str; 22] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "content-type",
    "user-agent",
    "accept",
    "accept-encoding",
    "cookie",
    "authorization",
    "referer",
    "origin",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-envoy-original-path",
    "x-envoy-decorator-operation",
    "x-b3-traceid",
    "x-wecom-event",
    "idempotency-key",
    "via",
    "x-anything",
];

#[tokio::test]
async fn header_values_that_are_not_utf8_neither_break_the_filter_nor_reach_the_backend() {
    let edge = Edge::start().await;
    let mut wire = Wire::open(edge.envoy.address()).await;
    let mut values: Vec<Vec<u8>> = (0x80..=0xff).map(|byte| vec![byte]).collect();
    values.extend([b"\xff\xfe".to_vec(), b"ok \xc3\x28 \xff".to_vec(), b"\xf4\x90\x80\x80".to_vec()]);
    for value in &values {
        let bind = edge.bind();
        // In all of them at once, on one connection.
        let headers: Vec<_> = NAMES.iter().map(|name| (*name, value.as_slice())).collect();
        let answer = wire.ask(&bind.bytes(&headers)).await;
        edge.check(&format!("{value:x?} in every header"), &bind, answer.as_ref(), Bound);
    }
    for name in NAMES {
        let bind = edge.bind();
        let answer = wire.ask(&bind.bytes(&[(name, b"\xff\xfe")])).await;
        edge.check(&format!("fffe in {name}"), &bind, answer.as_ref(), Bound);
    }
    for request in edge.decision.requests() {
        for (name, value) in &request.headers {
            assert!(value.is_ascii(), "the decision endpoint got {name}: {value:x?}");
        }
    }

    // A rejection quotes the request's id, unless that is not valid text.
    let bind = edge.bind();
    let forged = wire::request(
        "POST",
        bind.target().replace("nonce=", "nonce=1").as_bytes(),
        &[("x-request-id", b"\xff\"}\xfe")],
        &bind.body(),
    );
    let answer = wire.ask(&forged).await;
    edge.check("a forged bind with an invalid request id", &bind, answer.as_ref(), Refused(403, "bad_signature"));
    edge.end().await;
}

#[tokio::test]
async fn invalid_headers_are_rejected_by_envoy() {
    let edge = Edge::start().await;
    for byte in (0x00..=0x08).chain(0x0b..=0x1f).chain([0x7f]).filter(|byte| *byte != b'\r') {
        let bind = edge.bind();
        let answer = edge.send(&bind.bytes(&[("x-request-id", &[b'a', byte, b'b'])])).await;
        edge.check(&format!("{byte:#x} in a header"), &bind, answer.as_ref(), Expected::Envoy(400));
    }
    for (name, value) in
        [("host", b"\xff\xfe".as_slice()), ("host", b"a b"), ("\u{e9}", b"1"), ("a b", b"1"), ("", b"1"), ("x\0", b"1")]
    {
        let bind = edge.bind();
        let answer = edge.send(&bind.bytes(&[(name, value)])).await;
        edge.check(&format!("{name:?}: {value:x?}"), &bind, answer.as_ref(), Expected::Envoy(400));
    }
    // Too many headers, and one that is too long.
    let bind = edge.bind();
    let many: Vec<(&str, &[u8])> = vec![("x-anything", b"1"); 200];
    let answer = edge.send(&bind.bytes(&many)).await;
    edge.check("200 headers", &bind, answer.as_ref(), Expected::Envoy(431));
    let answer = edge.send(&bind.bytes(&[("x-anything", &vec![b'a'; 100_000])])).await;
    edge.check("a header of 100 kB", &bind, answer.as_ref(), Expected::Envoy(431));
    edge.end().await;
}

#[tokio::test]
async fn headers_of_the_caller_are_not_trusted() {
    let edge = Edge::start().await;
    let claims: [(&str, &[u8]); 13] = [
        ("x-wecom-event", b"unbind"),
        ("x-wecom-req-id", b"another"),
        ("x-wecom-receive-id", b"another"),
        ("idempotency-key", b"another"),
        ("x-envoy-retry-on", b"5xx,reset,connect-failure"),
        ("x-envoy-max-retries", b"10"),
        ("x-envoy-upstream-rq-timeout-ms", b"1"),
        ("x-envoy-upstream-alt-stat-name", b"alt"),
        ("x-envoy-original-path", b"/elsewhere"),
        ("x-http-method-override", b"GET"),
        ("x-original-url", b"/elsewhere"),
        ("content-encoding", b"gzip"),
        ("cookie", b"secret=1"),
    ];
    let bind = edge.bind();
    let answer = edge.send(&bind.bytes(&claims)).await;
    edge.check("with claims", &bind, answer.as_ref(), Bound);
    let saw = edge.decision.requests_for(&bind.device_sn).remove(0);
    assert_eq!(saw.header_text("x-wecom-event"), Some("bind"));
    assert_eq!(saw.header_text("x-wecom-receive-id"), Some(edge.account.receive_id()));
    assert_eq!(saw.header_text("x-wecom-req-id"), saw.req_id().as_deref());
    assert_eq!(saw.header_text("idempotency-key"), saw.req_id().as_deref());
    for (name, value) in claims {
        assert!(saw.headers.iter().all(|header| *header != (name.to_owned(), value.to_vec())), "{name} was forwarded");
    }
    edge.end().await;
}

/// Envoy gives every answer to a request of gRPC, its own answers included, the status 200 and no body.
/// To WeCom that means "bound".
#[tokio::test]
async fn a_grpc_request_gets_no_answer_at_all() {
    let edge = Edge::start().await;
    for content_type in ["application/grpc", "application/grpc+proto", "APPLICATION/GRPC", "application/grpc-web-text"]
    {
        let bind = edge.bind();
        for mut request in [
            bind.request.clone(),
            bind.request.clone().forged(),
            bind.request.clone().with_method("PUT"),
            edge.account.verify_url("123"),
        ] {
            request.headers.remove("content-type");
            let request = request.with_header("content-type", content_type.as_bytes());
            for client in [Client::http1(), Client::http2()] {
                let answer = client.send(&edge.url(), &request).await;
                assert!(answer.is_err(), "{content_type} is answered: {answer:?}");
            }
        }
        assert!(edge.decision.requests_for(&bind.device_sn).is_empty());
        // Nothing was claimed: the very bind is decided when it comes as it should.
        let answer = edge.send(&bind.bytes(&[("content-type", b"application/json")])).await;
        edge.check(content_type, &bind, answer.as_ref(), Bound);
    }
    assert_eq!(edge.ended("other", "grpc_request").await.unwrap(), 32);
    edge.end().await;
}
