//! All methods, and many spellings of the callback's path, each with an otherwise valid bind.

use testbed::wecom::Client;

use crate::wire::{self, Wire};
use crate::{Bound, Edge, Expected, PATH, Refused};

#[tokio::test]
async fn another_method_is_rejected_even_with_a_valid_bind() {
    let edge = Edge::start().await;
    for (method, expected) in [
        ("PUT", Refused(405, "bad_method")),
        ("DELETE", Refused(405, "bad_method")),
        ("OPTIONS", Refused(405, "bad_method")),
        ("TRACE", Refused(405, "bad_method")),
        ("PATCH", Refused(405, "bad_method")),
        ("GET", Refused(400, "bad_query")), // a body, but no echo
        ("post", Expected::Envoy(400)),
        ("Post", Expected::Envoy(400)),
        ("BIND", Refused(405, "bad_method")), // WebDAV has one
        ("NONSENSE", Expected::Envoy(400)),
        ("P\u{d6}ST", Expected::Envoy(400)),
    ] {
        let bind = edge.bind();
        let answer = edge.send(&wire::request(method, bind.target().as_bytes(), &[], &bind.body())).await;
        edge.check(method, &bind, answer.as_ref(), expected);
    }

    // The answer to HEAD has no body, so its status must be an error.
    let bind = edge.bind();
    let head = edge.send(&wire::request("HEAD", bind.target().as_bytes(), &[], b"")).await.unwrap();
    assert_eq!(head.status, 405);
    assert_eq!(head.header("allow"), Some("GET, POST"));

    // A request for a tunnel, which Envoy does not provide.
    for target in [PATH, "edge.example:443", &bind.target()] {
        let answer = edge.send(&wire::request("CONNECT", target.as_bytes(), &[], b"")).await;
        if let Some(answer) = answer {
            assert!(answer.status >= 400, "CONNECT {target}: {}", answer.status);
        }
    }

    // HTTP/2 allows any word as a method.
    for method in ["post", "Get", "BIND", "CONNECT-UDP"] {
        let bind = edge.bind();
        let answer = Client::http2().send(&edge.url(), &bind.request.clone().with_method(method)).await;
        match answer {
            Ok(answer) => {
                let expected = match answer.rejection() {
                    Some(_) => Refused(405, "bad_method"),
                    None => Expected::Envoy(400),
                };
                edge.check(method, &bind, Some(&answer), expected);
            }
            Err(_) => assert_eq!(edge.decision.requests_for(&bind.device_sn).len(), 0, "{method} over HTTP/2"),
        }
    }

    // A captured bind, sent again as a verification, does not return its plaintext.
    let bind = edge.bind();
    let answer = Client::http1().send(&edge.url(), &bind.request.clone().into_get()).await.unwrap();
    edge.check("a bind as GET", &bind, Some(&answer), Refused(403, "bad_message"));
    edge.end().await;
}

#[tokio::test]
async fn a_spelling_of_the_path_is_the_callbacks_or_reaches_no_backend() {
    let edge = Edge::start().await;
    const MISSED: Expected = Refused(503, "filter_missing"); // the route behind the filter
    const PARAMETERS: Expected = Refused(400, "path_parameters"); // servlet containers drop what follows a `;`
    for (path, expected) in [
        (PATH, Bound),
        // Spellings that Envoy normalizes before the filter sees them.
        ("//suite/receive", Bound),
        ("/suite//receive", Bound),
        ("/./suite/receive", Bound),
        ("/suite/./receive", Bound),
        ("/x/../suite/receive", Bound),
        ("/../suite/receive", Bound),
        ("/suite/receiv%65", Bound),
        ("/%73uite/receive", Bound),
        ("/x/%2e%2E/suite/receive", Bound),
        ("/suite/receive;x=/../receive", Bound),
        ("/suite\\receive", Bound),
        ("http://elsewhere.example/suite/receive", Bound),
        // Similar paths: not the callback's, and not routed to another backend either.
        ("/suite/receive/", MISSED),
        ("/suite/receive//", MISSED),
        ("/suite/receive/x", MISSED),
        ("/suite/receive;x", MISSED),
        ("/suite/receive%00", Expected::Envoy(400)),
        ("/suite/receive%20", MISSED),
        ("/suite/receive%3f", MISSED),
        ("/suite/receive%253f", MISSED),
        ("/suite/receive.", MISSED),
        ("/Suite/Receive", MISSED),
        ("/SUITE/RECEIVE", MISSED),
        ("/suite/receive/.", MISSED),
        ("/suite;x/receive", PARAMETERS),
        ("/suite;/receive", PARAMETERS),
        ("/;x/suite/receive", PARAMETERS),
        ("/x;/../y/../suite;x=1;y=2/receive", PARAMETERS),
        // Refused by Envoy.
        ("/suite%2freceive", Expected::Envoy(400)),
        ("/suite%5creceive", Expected::Envoy(400)),
        ("/suite/receive%2f", Expected::Envoy(400)),
        ("suite/receive", Expected::Envoy(400)),
        ("/suite/receive#x", Expected::Envoy(400)),
        ("*", Expected::Envoy(400)),
        ("/suite/receive%ff\u{ff}", Expected::Envoy(400)),
    ] {
        let bind = edge.bind();
        let target = format!("{path}?{}", bind.request.query_text());
        let mut wire = Wire::open(edge.envoy.address()).await;
        let answer = wire.ask(&wire::request("POST", target.as_bytes(), &[], &bind.body())).await;
        edge.check(path, &bind, answer.as_ref(), expected);
    }
    edge.end().await;
}
