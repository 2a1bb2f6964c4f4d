//! Sends requests over HTTP, or bytes as they are.

use std::net::SocketAddr;
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::Answer;
use super::request::{Body, Request};

/// Sends requests. It reuses its connections, uses no proxy and follows no redirects.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
}

/// How a [`Client`] connects.
#[derive(Debug, Clone, Default)]
pub struct Connecting {
    /// HTTP/2 from the first byte, instead of HTTP/1.1.
    pub http2: bool,
    /// Whose certificates are good.
    pub trust: Trust,
    /// A host, and the addresses to find it at instead of those that DNS has.
    pub addresses: Option<(String, Vec<SocketAddr>)>,
}

/// What a [`Client`] trusts.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Nothing: for http alone, on whatever machine.
    #[default]
    Nothing,
    /// The system's certificates.
    System,
    /// These alone, one or more in PEM.
    Only(Vec<u8>),
}

impl Client {
    /// Speaks HTTP/1.1, without TLS.
    pub fn http1() -> Self {
        Self::connecting(&Connecting::default()).expect("a client without files or proxies can always be built")
    }

    /// Speaks HTTP/2 from the first byte, without TLS.
    pub fn http2() -> Self {
        let how = Connecting { http2: true, ..Connecting::default() };
        Self::connecting(&how).expect("a client without files or proxies can always be built")
    }

    /// Speaks TLS, whatever version of HTTP the server then chooses, and trusts that certificate alone.
    ///
    /// # Errors
    /// If it is no certificate in PEM.
    pub fn https(certificate: &str) -> Result<Self> {
        let certificate = reqwest::Certificate::from_pem(certificate.as_bytes())?;
        Self::build(reqwest::Client::builder().tls_certs_only([certificate]).https_only(true))
    }

    /// Connects as told.
    ///
    /// # Errors
    /// If what is to be trusted holds no certificate in PEM, or the system has none.
    pub fn connecting(how: &Connecting) -> Result<Self> {
        let builder = reqwest::Client::builder();
        let mut builder = if how.http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
        builder = match &how.trust {
            Trust::Nothing => builder.tls_certs_only([]),
            Trust::System => builder,
            Trust::Only(pem) => {
                let certificates = reqwest::Certificate::from_pem_bundle(pem)?;
                ensure!(!certificates.is_empty(), "there is no certificate in it");
                builder.tls_certs_only(certificates)
            }
        };
        if let Some((host, addresses)) = &how.addresses {
            builder = builder.resolve_to_addrs(host, addresses);
        }
        Self::build(builder)
    }

    fn build(builder: reqwest::ClientBuilder) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        // An error only means that a provider is already installed.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let builder = builder.no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(20));
        Ok(Self { http: builder.build()? })
    }

    /// Sends a callback to that URL. If the URL has a query, the callback's is appended to it.
    ///
    /// # Errors
    /// If the URL is invalid, or no complete answer came within 20 s.
    pub async fn send(&self, url: &str, request: &Request) -> Result<Answer> {
        let joint = if url.contains('?') { '&' } else { '?' };
        let method = reqwest::Method::from_bytes(request.method.as_bytes())?;
        let builder =
            self.http.request(method, format!("{url}{joint}{}", request.query_text())).headers(request.headers.clone());
        let builder = match &request.body {
            Body::Whole(bytes) => builder.body(bytes.clone()),
            Body::Pieces(pieces) => builder.body(stream(pieces.clone())),
            Body::Nothing => builder,
        };
        self.execute(builder).await
    }

    /// A plain GET, as of any other client of the listener.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.execute(self.http.get(url)).await
    }

    /// A plain POST, as of any other client of the listener.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn post(&self, url: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
        self.execute(self.http.post(url).body(body.into())).await
    }

    async fn execute(&self, builder: reqwest::RequestBuilder) -> Result<Answer> {
        let start = Instant::now();
        let response = builder.send().await.map_err(reqwest::Error::without_url)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(reqwest::Error::without_url)?.to_vec();
        Ok(Answer { status, headers, body, elapsed: start.elapsed() })
    }
}

/// Sends bytes as they are and reads until the other side closes, so put `connection: close` into
/// them. It is for requests that no client library would send.
///
/// # Errors
/// If the connection fails, or if no complete HTTP/1.1 answer comes within 20 s.
pub async fn send_raw(address: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    send_raw_pieces(address, &[bytes], Duration::ZERO).await
}

/// The same in pieces, with a pause between two of them.
///
/// # Errors
/// As [`send_raw`].
pub async fn send_raw_pieces(address: SocketAddr, pieces: &[impl AsRef<[u8]>], pause: Duration) -> Result<Answer> {
    let start = Instant::now();
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            tokio::time::sleep(pause).await;
        }
        // The other side may answer and close before it has read everything.
        let _ = connection.write_all(piece.as_ref()).await;
    }
    let mut read = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), connection.read_to_end(&mut read)).await;
    let elapsed = start.elapsed();
    ensure!(reading.is_ok(), "no end after 20 s, so far: {}", String::from_utf8_lossy(&read));

    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(&read) {
        Ok(httparse::Status::Complete(length)) => length,
        _ => bail!("no HTTP answer: {:?}", String::from_utf8_lossy(&read)),
    };
    let mut map = HeaderMap::new();
    for header in response.headers.iter() {
        map.append(HeaderName::from_bytes(header.name.as_bytes())?, HeaderValue::from_bytes(header.value)?);
    }
    Ok(Answer {
        status: response.code.context("an answer without a status")?,
        headers: map,
        body: read.split_off(head),
        elapsed,
    })
}

/// A body that is sent piece by piece.
fn stream(pieces: Vec<(Duration, Vec<u8>)>) -> reqwest::Body {
    reqwest::Body::wrap_stream(futures_util::stream::iter(pieces).then(async |(pause, piece)| {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(piece)
    }))
}
