//! The filter recognizes the end of a request's body however it arrives, in one packet or many, with
//! or without trailers, over HTTP/1.1 and HTTP/2; and it answers when a body never ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use testbed::backend::Behaviour;
use testbed::wecom::{Answer, Event, Request, send_raw, send_raw_pieces};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Edge, PATH, assert_rejected, errcode, raw_head, together};

/// The pause between two pieces, so that they arrive separately.
const PAUSE: Duration = Duration::from_millis(15);

/// What must come of a request.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The message reaches the decision endpoint, byte for byte.
    Served,
    /// There was no body in it.
    NoEnvelope,
}

/// Asserts that a request ended like that, and that the backend of other paths received nothing.
fn assert_end(edge: &Edge, title: &str, event: &Event, answer: &Answer, end: End) {
    let told = edge.decision.requests_for(&device_of(event));
    match end {
        End::Served => {
            assert_eq!(errcode(answer, &edge.account), 0, "{title}");
            assert_eq!(told.len(), 1, "{title}");
            assert_eq!(told[0].body, event.to_json(edge.account.receive_id()), "{title}");
        }
        End::NoEnvelope => {
            assert_rejected(answer, 400, "bad_envelope");
            assert_eq!(told.len(), 0, "{title}");
        }
    }
    assert!(edge.backend.requests().is_empty(), "{title}: a raw callback reached a backend");
}

fn device_of(event: &Event) -> String {
    let message: serde_json::Value = serde_json::from_slice(&event.to_json("")).unwrap();
    message["base_info"]["device_sn"].as_str().unwrap().to_owned()
}

/// The cases for HTTP/1.1: a title, the framing headers, the body in pieces, of which the first is sent
/// together with the head, and what must come of it.
fn http1_rows(body: &[u8]) -> Vec<(&'static str, String, Vec<Vec<u8>>, End)> {
    use End::{NoEnvelope, Served};
    let length = format!("content-length: {}\r\n", body.len());
    let chunked = "transfer-encoding: chunked\r\n".to_owned();
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let last = b"0\r\n\r\n".to_vec();
    let (half, rest) = body.split_at(body.len() / 2);
    let (one, two) = rest.split_at(1);
    let trailers = b"0\r\nx-checksum: 1\r\nx-note: end\r\n\r\n".to_vec();
    vec![
        ("in one packet", length.clone(), vec![body.to_vec()], Served),
        ("behind its head", length.clone(), vec![vec![], body.to_vec()], Served),
        ("in pieces", length, vec![half.to_vec(), one.to_vec(), two.to_vec()], Served),
        ("chunked, in one packet", chunked.clone(), vec![[chunk(body), last.clone()].concat()], Served),
        ("in chunks", chunked.clone(), vec![vec![], chunk(half), chunk(one), chunk(two), last.clone()], Served),
        (
            "in chunks, the last with the end",
            chunked.clone(),
            vec![chunk(half), [chunk(rest), last.clone()].concat()],
            Served,
        ),
        (
            "a chunk in halves",
            chunked.clone(),
            {
                let whole = chunk(body);
                let (half, rest) = whole.split_at(whole.len() / 2);
                vec![half.to_vec(), rest.to_vec(), last.clone()]
            },
            Served,
        ),
        ("with trailers", chunked.clone(), vec![[chunk(body), trailers.clone()].concat()], Served),
        ("with trailers on their own", chunked.clone(), vec![chunk(body), trailers.clone()], Served),
        ("trailers alone", chunked.clone(), vec![trailers], NoEnvelope),
        ("chunked, empty", chunked.clone(), vec![last.clone()], NoEnvelope),
        ("chunked, empty, later", chunked, vec![vec![], last], NoEnvelope),
        ("of length 0", "content-length: 0\r\n".to_owned(), vec![vec![]], NoEnvelope),
        ("of no length", String::new(), vec![vec![]], NoEnvelope),
    ]
}

async fn every_http1_end(edge: &Arc<Edge>) {
    let rows = http1_rows(b"{}").len();
    together((0..rows).map(|row| {
        let edge = Arc::clone(edge);
        async move {
            let event = Event::bind(&format!("sn-{row}"));
            let request = edge.account.seal(&event);
            let (title, framing, mut pieces, end) = http1_rows(&request.body_bytes()).swap_remove(row);
            let head = raw_head(&request, &format!("connection: close\r\n{framing}\r\n"));
            pieces[0] = [head, pieces[0].clone()].concat();
            let answer = send_raw_pieces(edge.envoy.address(), &pieces, PAUSE).await.unwrap();
            assert_end(&edge, title, &event, &answer, end);
        }
    }))
    .await;
}

#[tokio::test]
async fn every_end_of_an_http1_body_is_seen() {
    let edge = Arc::new(Edge::start().await);
    every_http1_end(&edge).await;
    Arc::into_inner(edge).unwrap().end().await;
}

#[tokio::test]
async fn trailers_are_an_end_too_where_the_codec_lets_them_through() {
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_hcm(|hcm| hcm["http_protocol_options"]["enable_trailers"] = true.into())
    })
    .await;
    let edge = Arc::new(edge);
    every_http1_end(&edge).await;
    Arc::into_inner(edge).unwrap().end().await;
}

/// What an HTTP/2 client sends behind its HEADERS.
enum Frame {
    Data(Vec<u8>),
    Trailers,
}

/// Sends a request frame by frame. The last frame ends the stream; if there is none, HEADERS does.
async fn send_frames(address: SocketAddr, request: &Request, frames: Vec<Frame>) -> Answer {
    let began = std::time::Instant::now();
    let connection = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(connection).await.unwrap();
    let driver = tokio::spawn(connection);
    let head = http::Request::builder()
        .method("POST")
        .uri(format!("http://edge{PATH}?{}", request.query_text()))
        .body(())
        .unwrap();
    let (response, mut sending) = client.ready().await.unwrap().send_request(head, frames.is_empty()).unwrap();
    let last = frames.len().saturating_sub(1);
    for (index, frame) in frames.into_iter().enumerate() {
        tokio::time::sleep(PAUSE).await;
        match frame {
            Frame::Data(bytes) => sending.send_data(Bytes::from(bytes), index == last).unwrap(),
            Frame::Trailers => {
                let trailer = (HeaderName::from_static("x-checksum"), HeaderValue::from_static("1"));
                sending.send_trailers(HeaderMap::from_iter([trailer])).unwrap();
            }
        }
    }
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        read.extend_from_slice(&data.unwrap());
    }
    driver.abort();
    Answer { status: head.status.as_u16(), headers: head.headers, body: read, elapsed: began.elapsed() }
}

#[tokio::test]
async fn every_end_of_an_http2_body_is_seen() {
    use End::{NoEnvelope, Served};
    use Frame::{Data, Trailers};
    type Frames = fn(&[u8]) -> Vec<Frame>;
    let table: [(&str, Frames, End); 9] = [
        ("one DATA", |body| vec![Data(body.to_vec())], Served),
        ("several DATA", |body| body.chunks(100).map(|piece| Data(piece.to_vec())).collect(), Served),
        ("an empty DATA behind it", |body| vec![Data(body.to_vec()), Data(Vec::new())], Served),
        ("an empty DATA before it", |body| vec![Data(Vec::new()), Data(body.to_vec())], Served),
        ("trailers", |body| vec![Data(body.to_vec()), Trailers], Served),
        (
            "several DATA and trailers",
            |body| body.chunks(100).map(|piece| Data(piece.to_vec())).chain([Trailers]).collect(),
            Served,
        ),
        ("HEADERS alone", |_| Vec::new(), NoEnvelope),
        ("an empty DATA alone", |_| vec![Data(Vec::new())], NoEnvelope),
        ("trailers alone", |_| vec![Trailers], NoEnvelope),
    ];
    let edge = Arc::new(Edge::start().await);
    together(table.into_iter().enumerate().map(|(row, (title, frames, end))| {
        let edge = Arc::clone(&edge);
        async move {
            let event = Event::bind(&format!("sn-{row}"));
            let request = edge.account.seal(&event);
            let answer = send_frames(edge.envoy.address(), &request, frames(&request.body_bytes())).await;
            assert_end(&edge, title, &event, &answer, end);
        }
    }))
    .await;
    Arc::into_inner(edge).unwrap().end().await;
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let edge = Edge::start().await;
    let event = Event::bind("sn");
    let request = edge.account.seal(&event);
    let body = request.body_bytes();
    let mut connection = TcpStream::connect(edge.envoy.address()).await.unwrap();
    let framing = format!("connection: close\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len());
    connection.write_all(&raw_head(&request, &framing)).await.unwrap();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut told = vec![0; go_on.len()];
    connection.read_exact(&mut told).await.unwrap();
    assert_eq!(told, go_on);
    connection.write_all(&body).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();

    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let end_of_head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(edge.account.open_reply(&answer[end_of_head..]).unwrap().errcode(), Some(0));
    assert_eq!(edge.decision.count(), 1);
    edge.end().await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_answered_and_reaches_nobody() {
    let edge = Edge::start().await;
    let request = edge.account.seal(Event::bind("sn"));
    let body = request.body_bytes();
    let length = format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let half = |end: &[u8]| [raw_head(&request, &length), end.to_vec()].concat();
    let address = edge.envoy.address();

    // The body stalls half-way: Envoy's own limits end the request.
    let (stalled, nothing) = (half(&body[..100]), half(b""));
    let (stalled, nothing) = tokio::join!(send_raw(address, &stalled), send_raw(address, &nothing));
    let (stalled, nothing) = (stalled.unwrap(), nothing.unwrap());
    assert!([408, 504].contains(&stalled.status), "{}", stalled.text());
    assert!(!stalled.body.is_empty());
    // The body never begins: the filter itself ends the request.
    assert_rejected(&nothing, 503, "no_body");
    // The client disconnects: nobody is left to answer.
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&half(&body[..100])).await.unwrap();
    drop(connection);
    edge.envoy.access_log_line(|line| line["outcome"] == "client_gone").await.unwrap();

    edge.assert_nobody_was_asked();
    assert_eq!(edge.bind("sn").await, 0);
    edge.end().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_408_at_the_request_timeout() {
    let edge = Edge::start_with(|bootstrap| bootstrap.edit_hcm(|hcm| hcm["request_timeout"] = "0.5s".into())).await;
    let request = edge.account.seal(Event::bind("sn"));
    let stalled = raw_head(&request, "content-length: 500\r\n\r\n{\"encrypt\":");
    let answer = send_raw(edge.envoy.address(), &stalled).await.unwrap();
    assert_eq!(answer.status, 408);
    assert!(!answer.body.is_empty());
    edge.assert_nobody_was_asked();

    // That timeout no longer runs while the filter waits for the decision.
    edge.decision.always(Behaviour::verdict(3).after(Duration::from_millis(700)));
    assert_eq!(edge.bind("sn").await, 3);
    edge.end().await;
}

/// Sends a bind with nothing but its headers, and the body only after that pause.
async fn send_slowly(edge: &Edge, bind: &Event, pause: Duration) -> Answer {
    let request = edge.account.seal(bind);
    let body = request.body_bytes();
    let head = raw_head(&request, &format!("connection: close\r\ncontent-length: {}\r\n\r\n{{", body.len()));
    let pieces = [head, body[1..].to_vec()];
    send_raw_pieces(edge.envoy.address(), &pieces, pause).await.unwrap()
}

#[tokio::test]
async fn a_slow_body_leaves_the_call_less_time_and_never_makes_the_answer_late() {
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| plugin["endpoints"][0]["decision"]["timeout_ms"] = 2000.into())
    })
    .await;
    edge.decision.always(Behaviour::hang());
    let answer = send_slowly(&edge, &Event::bind("sn-slow"), Duration::from_millis(1800)).await;
    assert_eq!(errcode(&answer, &edge.account), 7); // and before WeCom gives up
    assert_eq!(edge.decision.count(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_bind_that_is_complete_too_late_is_refused_and_never_delivered() {
    let edge = Edge::start().await;
    edge.decision.always(Behaviour::verdict(0));
    let bind = Event::bind("sn-late");
    let answer = send_slowly(&edge, &bind, Duration::from_millis(3100)).await;
    assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(7));
    assert_eq!(edge.decision.count(), 0);
    // It was not even claimed: WeCom's retry is decided.
    assert_eq!(errcode(&edge.send(&edge.account.seal(&bind)).await, &edge.account), 0);
    edge.stop().await;
}
