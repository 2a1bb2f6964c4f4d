//! The backend by itself: it answers as scripted, records what it was sent, and keeps connections
//! open.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::time::Duration;

use simulator::backend::{Backend, Behaviour};
use simulator::wecom::{Client, Event, Request, send_raw};

fn url(backend: &Backend, path: &str) -> String {
    format!("http://{}{path}", backend.address())
}

fn plain(body: Vec<u8>) -> Request {
    simulator::wecom::Account::demo().seal("").with_query("").with_body(body)
}

#[tokio::test]
async fn proper_answers_arrive_over_one_connection() {
    let backend = Backend::start().await.unwrap();
    let client = Client::http1();
    let verdict = r#"{"errcode":0}"#;
    for (behaviour, status, body) in [
        (Behaviour::verdict(0), 200, verdict),
        (Behaviour::empty(), 200, ""),
        (Behaviour::no_content(), 204, ""),
        (Behaviour::success(), 200, "success"),
        (Behaviour::empty_chunked(), 200, ""),
        (Behaviour::chunked(verdict), 200, verdict),
        (Behaviour::with_trailers(verdict), 200, verdict),
        (Behaviour::non_utf8_header(), 200, verdict),
        (Behaviour::trickle(Duration::from_millis(1)), 200, verdict),
        (Behaviour::status(503), 503, "status 503\n"),
        (Behaviour::redirect(302, "/elsewhere"), 302, ""),
        (Behaviour::verdict(0).after(Duration::from_millis(5)), 200, verdict),
    ] {
        backend.always(behaviour.clone());
        let answer = client.get(&url(&backend, "/bind")).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{behaviour}");
    }
    let peers: HashSet<_> = backend.requests().iter().map(|request| request.peer).collect();
    assert_eq!(peers.len(), 1);
    backend.always(Behaviour::large(3_000_000));
    assert_eq!(client.get(&url(&backend, "/")).await.unwrap().body.len(), 3_000_000);
    backend.always(Behaviour::until_close(verdict));
    assert_eq!(client.get(&url(&backend, "/")).await.unwrap().text(), verdict);
    backend.always(Behaviour::empty_until_close());
    assert_eq!(client.get(&url(&backend, "/")).await.unwrap().text(), "");
    assert_eq!(backend.count(), 15);
}

#[tokio::test]
async fn improper_answers_are_errors_to_any_client() {
    let backend = Backend::start().await.unwrap();
    for behaviour in [
        Behaviour::cut_off(),
        Behaviour::cut_off_chunked(),
        Behaviour::cut_off_empty(),
        Behaviour::close(),
        Behaviour::reset(),
        Behaviour::garbage(),
    ] {
        backend.always(behaviour.clone());
        assert!(Client::http1().get(&url(&backend, "/")).await.is_err(), "{behaviour}");
    }
    for behaviour in [Behaviour::hang(), Behaviour::headers_then_silence(), Behaviour::half_then_silence()] {
        backend.always(behaviour.clone());
        let waiting = Duration::from_millis(100);
        let client = Client::http1();
        assert!(tokio::time::timeout(waiting, client.get(&url(&backend, "/"))).await.is_err(), "{behaviour}");
    }
}

#[tokio::test]
async fn the_newest_rule_with_an_answer_counts() {
    let backend = Backend::start().await.unwrap();
    let client = Client::http1();
    backend.on_path("/bind", Behaviour::verdict(5));
    backend.on_device("sn-2", Behaviour::verdict(2));
    let bind = |sn: &str| plain(Event::bind(sn).to_json("m"));
    for (path, device_sn, body) in [
        ("/bind", "sn-1", r#"{"errcode":5}"#),
        ("/bind", "sn-2", r#"{"errcode":2}"#),
        ("/", "sn-1", r#"{"errcode":0}"#),
    ] {
        let answer = client.send(&url(&backend, path), &bind(device_sn)).await.unwrap();
        assert_eq!(answer.text(), body);
    }
    assert_eq!(
        client.send(&url(&backend, "/"), &plain(Event::unbind("x").to_json("m"))).await.unwrap().text(),
        "success"
    );
    backend.in_turn([Behaviour::verdict(1), Behaviour::verdict(2)]);
    for code in ["1", "2", "2"] {
        assert!(client.get(&url(&backend, "/")).await.unwrap().text().contains(code));
    }
}

#[tokio::test]
async fn requests_are_remembered_byte_for_byte() {
    let backend = Backend::start().await.unwrap();
    let body: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let request = plain(body.clone()).with_header("x-odd", b"caf\xe9").in_pieces(999, Duration::from_millis(1));
    let client = Client::http1();
    client.send(&url(&backend, "/a?b=c"), &request).await.unwrap();
    client.send(&url(&backend, "/a"), &plain(Event::bind("sn").req_id("r").to_json("m"))).await.unwrap();
    let received = backend.wait_for(2).await.unwrap();
    assert_eq!((received[0].path(), received[0].target.as_str()), ("/a", "/a?b=c&"));
    assert_eq!(received[0].header("x-odd"), Some(b"caf\xe9".as_slice()));
    assert_eq!(received[0].body, body);
    assert_eq!(received[1].event().as_deref(), Some("bind"));
    assert_eq!(received[1].req_id().as_deref(), Some("r"));
    assert_eq!(backend.requests_for("sn").len(), 1);
    backend.forget();
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn bytes_are_sent_as_they_are() {
    let backend = Backend::start().await.unwrap();
    backend.always(Behaviour::until_close("{}"));
    let answer = send_raw(backend.address(), b"BREW //pot?\x25 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    assert_eq!(backend.requests()[0].target, "//pot?%");
}
