//! Requests for other paths reach the existing backend as if the filter were not there. Requests for
//! the callback's path never do, however it is spelled, with the filter or without it.

use std::time::Duration;

use testbed::backend::{Behaviour, Step};
use testbed::envoy::Bootstrap;
use testbed::files::repository;
use testbed::wecom::{Client, Event, send_raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Edge, PATH};

#[tokio::test]
async fn other_paths_reach_the_existing_backend_untouched() {
    let edge = Edge::start().await;
    let large: Vec<u8> = (0..1_u32 << 20).map(|index| ((index * 31) >> 3) as u8).collect();
    edge.backend.always(Behaviour::answer(203, &[("x-backend", "caf\u{e9}"), ("content-type", "a/b")], &large));
    for client in [Client::http1(), Client::http2()] {
        for (method, path, in_pieces, body) in [
            ("POST", "/upload?a=1&a=%2F", false, large.clone()),
            ("POST", "/upload?a=1&a=%2F", true, large.clone()),
            ("PUT", "/", false, b"x".to_vec()),
            ("DELETE", "/suite", false, Vec::new()),
            ("POST", "/suite/recei", false, b"{\"encrypt\":\"AAAA\"}".to_vec()),
            ("POST", "/v2/suite/receive", true, b"{\"encrypt\":\"AAAA\"}".to_vec()),
            ("OPTIONS", "/?/suite/receive", false, Vec::new()),
        ] {
            edge.backend.forget();
            let mut request = edge.account.seal("").with_method(method).with_body(body.clone());
            request = request.with_header("x-caller", b"caf\xe9").with_header("idempotency-key", b"1");
            if in_pieces {
                request = request.in_pieces(100_000, Duration::ZERO);
            }
            let answer = client.send(&edge.envoy.url(path), &request).await.unwrap();

            assert_eq!((answer.status, answer.header("content-type")), (203, Some("a/b")), "{method} {path}");
            assert_eq!(answer.headers["x-backend"].as_bytes(), "caf\u{e9}".as_bytes());
            assert!(answer.body == large, "the response to {method} {path}");
            let told = edge.backend.requests().remove(0);
            assert_eq!(told.method, method);
            let joint = if path.contains('?') { '&' } else { '?' };
            assert_eq!(told.target, format!("{path}{joint}{}", request.query_text()));
            assert!(told.body == body, "the body of {method} {path}");
            assert_eq!(told.header("x-caller"), Some(b"caf\xe9".as_slice()));
            assert_eq!(told.header("idempotency-key"), Some(b"1".as_slice()));
        }
    }
    assert!(edge.decision.requests().is_empty());
    edge.end().await;
}

#[tokio::test]
async fn a_response_on_another_path_streams_through() {
    let edge = Edge::start().await;
    // The backend never sends the rest, so a filter that waited for it would send nothing.
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n".to_vec();
    edge.backend.always(Behaviour::new("streams", [Step::Send(head), Step::Hang]));
    let mut connection = TcpStream::connect(edge.envoy.address()).await.unwrap();
    connection.write_all(b"GET /stream HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    let first = tokio::time::timeout(Duration::from_secs(3), async {
        while !read.windows(5).any(|window| window == b"first") {
            assert_ne!(connection.read_buf(&mut read).await.unwrap(), 0, "closed before the first piece");
        }
    });
    first.await.expect("the first piece comes before the last");
    assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"));
    drop(connection);
    edge.end().await;
}

/// Spellings of the callback's path, and paths below it that are no endpoint.
const SPELLINGS: [&str; 26] = [
    "/suite/receive",
    "//suite/receive",
    "/suite//receive",
    "/suite/receive/",
    "/suite/receive//",
    "/SUITE/RECEIVE",
    "/Suite/receive",
    "/suite/Receive",
    "/suite%2freceive",
    "/suite%2Freceive",
    "/suite/receive%2f",
    "/suite%5creceive",
    "/suite\\receive",
    "/suite/receive;x",
    "/suite/%72eceive",
    "/suite/receive.json",
    "/suite/receive/x",
    "/./suite/receive",
    "/suite/./receive",
    "/suite/receive/.",
    "/x/../suite/receive",
    "/suite/x/../receive",
    "/../suite/receive",
    "/suite/receive%20",
    "/suite/receive%3f",
    "/suite/receive%00",
];

/// Sends a bind to every spelling. A backend may only receive its plaintext, and only the decision
/// endpoint. Returns the status of each.
async fn no_spelling_reaches_a_backend(edge: &Edge) -> Vec<(&'static str, u16)> {
    let mut statuses = Vec::new();
    for (index, path) in SPELLINGS.into_iter().enumerate() {
        let event = Event::bind(&format!("sn-{index}"));
        let request = edge.account.seal(&event);
        let body = request.body_bytes();
        let head = format!(
            "POST {path}?{} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            request.query_text(),
            body.len()
        );
        let answer = send_raw(edge.envoy.address(), &[head.into_bytes(), body].concat()).await.unwrap();
        assert!(!answer.is_bare_success(), "{path}");
        if answer.status == 200 {
            assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0), "{path}");
        } else {
            assert!((400..600).contains(&answer.status), "{path}: {}", answer.status);
        }
        assert!(edge.backend.requests().is_empty(), "{path} reached the backend");
        let told = edge.decision.requests();
        assert_eq!(told.len(), usize::from(answer.status == 200), "{path}");
        assert!(told.iter().all(|told| told.body == event.to_json(edge.account.receive_id())), "{path}: raw");
        edge.decision.forget();
        statuses.push((path, answer.status));
    }
    statuses
}

#[tokio::test]
async fn no_spelling_of_the_callbacks_path_reaches_a_backend() {
    let edge = Edge::start().await;
    let statuses = no_spelling_reaches_a_backend(&edge).await;
    // Spellings that Envoy normalizes to the callback's path.
    for path in [PATH, "//suite/receive", "/suite//receive", "/./suite/receive", "/suite/x/../receive"] {
        assert!(statuses.contains(&(path, 200)), "{path}: {statuses:?}");
    }
    for path in ["/suite/receive/", "/SUITE/RECEIVE", "/suite/receive;x", "/suite/receive/x"] {
        assert!(statuses.contains(&(path, 503)), "{path}: {statuses:?}");
    }
    assert!(statuses.contains(&("/suite%2freceive", 400)), "{statuses:?}");
    edge.end().await;

    // Nor is the filter skipped by one, off as it is for other routes: where it is on for all, nothing differs.
    let edge = Edge::start_with(Bootstrap::always_on).await;
    assert_eq!(no_spelling_reaches_a_backend(&edge).await, statuses);
    edge.end().await;
}

#[tokio::test]
async fn without_the_filter_the_callbacks_path_ends_in_an_error_that_says_so() {
    let edge = Edge::start_with(|bootstrap| bootstrap.without_filter("wecom")).await;
    let statuses = no_spelling_reaches_a_backend(&edge).await;
    assert!(statuses.iter().all(|(_, status)| *status >= 400), "{statuses:?}");
    for client in [Client::http1(), Client::http2()] {
        for request in [edge.account.seal(Event::bind("sn")), edge.account.verify_url("12345")] {
            let answer = client.send(&edge.envoy.url(PATH), &request).await.unwrap();
            assert_eq!((answer.status, answer.rejection().as_deref()), (503, Some("filter_missing")));
            let page = answer.json().unwrap()["see"].as_str().unwrap().to_owned();
            let page = std::fs::read_to_string(repository().join(page)).unwrap();
            assert!(page.contains("filter_missing"), "the page says nothing about it");
        }
    }
    edge.assert_nobody_was_asked();
    assert_eq!(edge.client.get(&edge.envoy.url("/other")).await.unwrap().text(), "success");
    edge.end().await;
}
