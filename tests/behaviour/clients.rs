//! When a client disconnects, its bind is decided and recorded all the same, and WeCom's retry gets
//! the verdict. A client that stays can reuse its connection.

use std::time::Duration;

use serde_json::Value;
use testbed::backend::Behaviour;
use testbed::waiting::until;
use testbed::wecom::{Client, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Edge, PATH, errcode, raw_head};

#[tokio::test]
async fn when_a_client_disconnects_its_bind_is_decided_all_the_same_and_its_retry_gets_the_verdict() {
    let edge = Edge::start().await;
    let mut decided = 0;
    // Over both protocols; the retry comes before the decision, or after it.
    for (http2, awaits_decision) in [(false, false), (true, false), (false, true), (true, true)] {
        decided += 1;
        let device_sn = format!("sn-{decided}");
        edge.decision.forget();
        edge.decision.on_device(&device_sn, Behaviour::verdict(3).after(Duration::from_millis(400)));
        let event = Event::bind(&device_sn);
        let request = edge.account.seal(&event);

        let client = if http2 { Client::http2() } else { Client::http1() };
        let url = edge.envoy.url(PATH);
        let leaving = tokio::spawn(async move { drop(client.send(&url, &request).await) });
        edge.decision.wait_for(1).await.unwrap();
        leaving.abort(); // which closes its connection
        let left = |line: &Value| line["req_id"] == event.req_id_text().unwrap() && line["outcome"] == "client_gone";
        edge.envoy.access_log_line(left).await.unwrap();
        if awaits_decision {
            let made = async || edge.envoy.stat("cluster.decision.upstream_rq_200").await.unwrap_or(0) >= decided;
            until("the decision was made", made).await.unwrap();
        }

        for _ in 0..2 {
            let retry = Client::http1().send(&edge.envoy.url(PATH), &edge.account.seal(&event)).await.unwrap();
            assert_eq!(errcode(&retry, &edge.account), 3, "{device_sn}");
        }
        assert_eq!(edge.decision.requests_for(&device_sn).len(), 1, "{device_sn}: asked once");
        // Counted with its verdict, and logged, though its client was not told.
        edge.until_ended("bind", "refused", decided).await.unwrap();
        edge.envoy
            .wait_for_log(&format!("refused endpoint=lock event=bind req_id={}", event.req_id_text().unwrap()))
            .await
            .unwrap();
    }
    assert_eq!(edge.ended("bind", "client_gone").await.unwrap(), 0);
    assert_eq!(edge.envoy.log().matches("its client had left").count(), 4);
    edge.end().await;
}

#[tokio::test]
async fn a_connection_serves_several_callbacks_in_turn() {
    let edge = Edge::start().await;
    let mut connection = TcpStream::connect(edge.envoy.address()).await.unwrap();
    for (index, verdict) in [0, 4, 7, 0].into_iter().enumerate() {
        let device_sn = format!("sn-{index}");
        edge.decision.on_device(&device_sn, Behaviour::verdict(verdict));
        let request = edge.account.seal(Event::bind(&device_sn));
        let body = request.body_bytes();
        let framing = format!("content-length: {}\r\n\r\n", body.len());
        connection.write_all(&[raw_head(&request, &framing), body].concat()).await.unwrap();
        let (head, body) = read_answer(&mut connection).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(!head.contains("connection: close"), "{head}");
        assert_eq!(edge.account.open_reply(&body).unwrap().errcode(), Some(verdict));
    }
    // All of them on the one connection.
    assert_eq!(edge.envoy.stat("http.edge.downstream_cx_total").await, Some(1));
    assert_eq!(edge.decision.count(), 4);
    edge.end().await;
}

/// Reads one answer, which must announce its length: its head and body.
async fn read_answer(connection: &mut TcpStream) -> (String, Vec<u8>) {
    let mut read = Vec::new();
    loop {
        assert_ne!(connection.read_buf(&mut read).await.unwrap(), 0, "closed: {}", String::from_utf8_lossy(&read));
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase().replacen("http", "HTTP", 1);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if read.len() - end - 4 >= length.parse().unwrap() {
            return (head.replacen(" ok", " OK", 1), read.split_off(end + 4));
        }
    }
}
