//! HTTP/1.1 as bytes on a connection, for requests that no client library would send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use testbed::wecom::Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer is waited for. Envoy gives up on a client after 5 s.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection to Envoy.
pub(crate) struct Wire {
    connection: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let connection = TcpStream::connect(address).await.unwrap();
        connection.set_nodelay(true).unwrap();
        Self { connection, read: Vec::new() }
    }

    /// Writes bytes. Returns false if the other side has closed the connection.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.connection.write_all(bytes).await.is_ok()
    }

    /// Writes a request and reads its answer.
    pub(crate) async fn ask(&mut self, bytes: &[u8]) -> Option<Answer> {
        self.write(bytes).await;
        if bytes.starts_with(b"HEAD ") { self.answer_of(false).await } else { self.answer().await }
    }

    /// Reads the next answer. `None` if the connection is closed before its end.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        self.answer_of(true).await
    }

    async fn answer_of(&mut self, with_body: bool) -> Option<Answer> {
        let start = Instant::now();
        let reading = tokio::time::timeout(LIMIT, async {
            let end = loop {
                if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                self.more().await?;
            };
            let head = String::from_utf8(self.read.drain(..end).collect()).expect("the answer's head is ASCII");
            let mut lines = head.split("\r\n");
            let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
            let mut headers = HeaderMap::new();
            for line in lines.filter(|line| !line.is_empty()) {
                let (name, value) = line.split_once(':')?;
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value.trim()).unwrap(),
                );
            }
            let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
            let length: usize = if with_body { length.expect("every answer announces its length") } else { 0 };
            while self.read.len() < length {
                self.more().await?;
            }
            let body = self.read.drain(..length).collect();
            Some(Answer { status, headers, body, elapsed: start.elapsed() })
        });
        reading.await.unwrap_or_else(|_| panic!("no answer in time, so far: {:?}", String::from_utf8_lossy(&self.read)))
    }

    async fn more(&mut self) -> Option<()> {
        let count = self.connection.read_buf(&mut self.read).await.unwrap_or(0);
        (count > 0).then_some(())
    }
}

/// A request with its `content-length`.
pub(crate) fn request(method: &str, target: &[u8], headers: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut bytes = head(method, target, headers);
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The head of a request, without framing headers and the empty line at its end.
pub(crate) fn head(method: &str, target: &[u8], headers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"].concat();
    if !headers.iter().any(|(name, _)| *name == "host") {
        bytes.extend_from_slice(b"host: edge.example\r\n");
    }
    for (name, value) in headers {
        bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes
}
