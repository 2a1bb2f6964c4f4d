//! The table of records has a fixed size, so memory does not grow with the number of callbacks.

use std::fs;

use testbed::backend::Behaviour;
use testbed::envoy::Launcher;
use testbed::wecom::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

const CONNECTIONS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_is_no_larger_after_two_hundred_thousand_callbacks_than_after_twenty_thousand() {
    let _machine = MACHINE.write().await;
    // Records live for a second, so that new ones have to replace expired ones.
    let edge = Edge::start(|bootstrap| {
        bootstrap.launcher(Launcher::Direct).edit_plugin_value(|value| {
            value["freshness_seconds"] = 0.into();
            value["dedup"] = serde_json::json!({ "ttl_seconds": 1 });
        })
    })
    .await;
    edge.backend.always(Behaviour::verdict(0));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(&edge).await);
    }

    edge.send_distinct(&mut connections, 0..20_000).await;
    let before = edge.resident_kib();
    edge.send_distinct(&mut connections, 20_000..200_000).await;
    let after = edge.resident_kib();
    println!("resident: {before} KiB after 20 000 callbacks, {after} KiB after 200 000");
    assert!(after <= before + before / 10, "{before} KiB have become {after} KiB");
    assert_eq!(edge.ended("bind", "bound").await.unwrap(), 200_000);
    edge.assert_clean().await;
}

impl Edge {
    /// Sends a bind for every number, over all connections.
    async fn send_distinct(&self, connections: &mut Vec<Connection>, numbers: std::ops::Range<u32>) {
        const BATCH: usize = 10_000;
        for start in numbers.clone().step_by(BATCH) {
            let end = numbers.end.min(start + u32::try_from(BATCH).unwrap());
            let step = connections.len();
            let mut sending = JoinSet::new();
            for (offset, mut connection) in connections.drain(..).enumerate() {
                let account = self.account.clone();
                sending.spawn(async move {
                    for number in (start..end).skip(offset).step_by(step) {
                        connection.bind(&account, number).await;
                    }
                    connection
                });
            }
            *connections = sending.join_all().await;
            self.backend.forget(); // its requests would fill this process's memory
        }
    }

    /// The size of Envoy's resident memory.
    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.envoy.process_id())).unwrap();
        assert!(status.starts_with("Name:\tenvoy"), "{status}");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")).unwrap();
        resident.trim().parse().unwrap()
    }
}

/// A persistent connection, without the overhead of an HTTP client.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(edge: &Edge) -> Self {
        let stream = TcpStream::connect(edge.envoy.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends a minimal bind whose request id is that number, and reads the answer.
    async fn bind(&mut self, account: &Account, number: u32) {
        let message = format!(r#"{{"base_info":{{"req_id":"{number}"}},"event":{{"event_type":"bind"}}}}"#);
        let request = account.seal(Event::bind("").raw(message));
        let body = request.body_bytes();
        let head = format!(
            "POST {PATH}?{} HTTP/1.1\r\nhost: edge\r\ncontent-length: {}\r\n\r\n",
            request.query_text(),
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();

        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "Envoy has hung up");
            let text = std::str::from_utf8(&self.buffer).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("HTTP/1.1 200"), "{text}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                assert!(body.starts_with(r#"{"encrypt":"#), "{text}");
                return;
            }
        }
    }
}
