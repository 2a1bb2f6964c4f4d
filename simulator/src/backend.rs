//! A scriptable backend: it gives the answers it is told to, well-formed or not, and records every
//! request.
//!
//! An answer is a [`Behaviour`]: bytes and pauses written straight to the connection, since no HTTP
//! server library would send half a response. Requests are HTTP/1.1, and a connection stays open
//! after a proper response.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long requests are waited for. Far longer than anything here takes, even on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running backend. It ends, with all its connections, when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: Arc<JoinSet<()>>,
}

impl Backend {
    /// Starts one on a free port of the loopback address. Unscripted, it decides errcode 0 on `bind`
    /// and answers `success` to everything else.
    ///
    /// # Errors
    /// If no port is available.
    pub async fn start() -> Result<Self> {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts one on that address.
    ///
    /// # Errors
    /// If the address is not available.
    pub async fn listen(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: Arc::new(tasks) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Adds a rule. If several rules have an answer to a request, the newest one counts.
    pub fn script(&self, rule: impl Fn(&Received) -> Option<Behaviour> + Send + Sync + 'static) {
        self.shared.rules().push(Arc::new(rule));
    }

    /// How to answer whatever concerns that device.
    pub fn on_device(&self, device_sn: &str, behaviour: Behaviour) {
        let device_sn = device_sn.to_owned();
        self.script(move |request| (request.device_sn()? == device_sn).then(|| behaviour.clone()));
    }

    /// How to answer requests for that path, queries aside.
    pub fn on_path(&self, path: &str, behaviour: Behaviour) {
        let path = path.to_owned();
        self.script(move |request| (request.path() == path).then(|| behaviour.clone()));
    }

    /// How to answer every request from now on, earlier rules forgotten.
    pub fn always(&self, behaviour: Behaviour) {
        self.shared.rules().clear();
        self.script(move |_| Some(behaviour.clone()));
    }

    /// How to answer, one after the other; the last of them from then on. Earlier rules are forgotten.
    pub fn in_turn(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        let mut behaviours: Vec<_> = behaviours.into_iter().collect();
        behaviours.reverse();
        let left = Mutex::new(behaviours);
        self.shared.rules().clear();
        self.script(move |_| {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            if left.len() > 1 { left.pop() } else { left.last().cloned() }
        });
    }

    /// Every request received so far, in order of arrival.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.received().clone()
    }

    /// Those that concern that device.
    pub fn requests_for(&self, device_sn: &str) -> Vec<Received> {
        self.requests().into_iter().filter(|request| request.device_sn().as_deref() == Some(device_sn)).collect()
    }

    /// How many requests were received so far.
    pub fn count(&self) -> usize {
        self.shared.received().len()
    }

    /// Waits until at least that many have been received, and returns all of them.
    ///
    /// # Errors
    /// If they do not arrive within 20 s.
    pub async fn wait_for(&self, count: usize) -> Result<Vec<Received>> {
        let mut counts = self.shared.count.subscribe();
        let enough = counts.wait_for(|&now| now >= count);
        if tokio::time::timeout(PATIENCE, enough).await.is_err() {
            bail!("the backend waited {} s for {count} requests and got {}", PATIENCE.as_secs(), self.count());
        }
        Ok(self.requests())
    }

    /// Forgets every request received so far.
    pub fn forget(&self) {
        self.shared.received().clear();
        self.shared.count.send_replace(0);
    }
}

/// A port of the loopback address on which nobody listens.
///
/// # Errors
/// If the system has none.
pub async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port())
}

/// What a backend does with a request: steps, one after the other. After the last one it waits for
/// the connection's next request, unless that step ended the connection.
#[derive(Clone)]
pub struct Behaviour {
    name: String,
    steps: Vec<Step>,
}

/// A part of a [`Behaviour`].
#[derive(Debug, Clone)]
pub enum Step {
    /// Do nothing for that long.
    Wait(Duration),
    /// Write these bytes.
    Send(Vec<u8>),
    /// Write nothing more and keep the connection open until the other side closes it.
    Hang,
    /// Close the connection.
    Close,
    /// Reset the connection.
    Reset,
}

impl Behaviour {
    /// These steps.
    pub fn new(name: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        Self { name: name.to_owned(), steps: steps.into_iter().collect() }
    }

    /// These bytes, then the connection is closed.
    pub fn raw(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(name, [Step::Send(bytes.into()), Step::Close])
    }

    /// A proper response.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Self::new(&format!("status {status}, {} bytes", body.len()), [Step::Send(bytes)])
    }

    /// 200 with this JSON, well-formed or not.
    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::answer(200, JSON, body.as_ref()).named(&String::from_utf8_lossy(body.as_ref()))
    }

    /// A verdict without a text.
    pub fn verdict(errcode: u32) -> Self {
        Self::json(format!(r#"{{"errcode":{errcode}}}"#)).named(&format!("errcode {errcode}"))
    }

    /// A verdict with that text.
    pub fn verdict_with(errcode: u32, errmsg: &str) -> Self {
        let body = serde_json::json!({ "errcode": errcode, "errmsg": errmsg });
        Self::json(body.to_string()).named(&format!("errcode {errcode}, {errmsg}"))
    }

    /// 200 and a body whose announced length is 0.
    pub fn empty() -> Self {
        Self::answer(200, &[], "").named("empty 200")
    }

    /// 204, which has no body.
    pub fn no_content() -> Self {
        Self::new("204", [Step::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())])
    }

    /// 200 and the bare word `success`.
    pub fn success() -> Self {
        Self::answer(200, &[("content-type", "text/plain")], "success").named("success")
    }

    /// 200 and a chunked body without any bytes, properly terminated.
    pub fn empty_chunked() -> Self {
        Self::chunked_pieces(&[], b"0\r\n\r\n").named("empty 200, chunked")
    }

    /// 200, then the connection is closed. A backend that dies looks the same.
    pub fn empty_until_close() -> Self {
        Self::raw("empty 200, ended by closing", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    }

    /// 200 and this body, whose end is marked only by closing the connection.
    pub fn until_close(body: impl AsRef<[u8]>) -> Self {
        let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n".to_vec();
        bytes.extend_from_slice(body.as_ref());
        Self::raw("200, ended by closing", bytes)
    }

    /// 200 and this body in chunks of one byte.
    pub fn chunked(body: impl AsRef<[u8]>) -> Self {
        let pieces: Vec<_> = body.as_ref().chunks(1).collect();
        Self::chunked_pieces(&pieces, b"0\r\n\r\n").named("200, chunked")
    }

    /// 200, this body and trailers.
    pub fn with_trailers(body: impl AsRef<[u8]>) -> Self {
        Self::chunked_pieces(&[body.as_ref()], b"0\r\nx-checksum: 1\r\nx-note: end\r\n\r\n").named("200 with trailers")
    }

    /// The request is received, and then nothing happens.
    pub fn hang() -> Self {
        Self::new("hangs", [Step::Hang])
    }

    /// The headers of a verdict, and then nothing.
    pub fn headers_then_silence() -> Self {
        let mut bytes = head(200, JSON);
        bytes.extend_from_slice(b"content-length: 13\r\n\r\n");
        Self::new("hangs after the headers", [Step::Send(bytes), Step::Hang])
    }

    /// Half a verdict, and then nothing.
    pub fn half_then_silence() -> Self {
        let mut bytes = head(200, JSON);
        bytes.extend_from_slice(b"content-length: 13\r\n\r\n{\"errco");
        Self::new("hangs in mid-body", [Step::Send(bytes), Step::Hang])
    }

    /// A whole verdict, announced to be longer, and the connection closed.
    pub fn cut_off() -> Self {
        let mut bytes = head(200, JSON);
        bytes.extend_from_slice(b"content-length: 100\r\n\r\n{\"errcode\":0}");
        Self::raw("cut off in mid-body", bytes)
    }

    /// A whole verdict in a chunk, but no last chunk, and the connection closed.
    pub fn cut_off_chunked() -> Self {
        let mut cut = Self::chunked_pieces(&[b"{\"errcode\":0}"], b"").named("cut off between chunks");
        cut.steps.push(Step::Close);
        cut
    }

    /// An announced body of which no byte comes before the connection is closed.
    pub fn cut_off_empty() -> Self {
        let mut bytes = head(200, JSON);
        bytes.extend_from_slice(b"content-length: 13\r\n\r\n");
        Self::raw("cut off before the body", bytes)
    }

    /// The connection is closed without an answer.
    pub fn close() -> Self {
        Self::new("closes", [Step::Close])
    }

    /// The connection is reset without an answer.
    pub fn reset() -> Self {
        Self::new("resets", [Step::Reset])
    }

    /// Bytes that are not HTTP.
    pub fn garbage() -> Self {
        Self::raw("garbage", b"\x16\x03\x01\x00\xff\xfe garbage \x00\r\n\r\n".as_slice())
    }

    /// A status with a plain text.
    pub fn status(status: u16) -> Self {
        Self::answer(status, &[("content-type", "text/plain")], format!("status {status}\n"))
            .named(&format!("status {status}"))
    }

    /// A redirection to that place.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::answer(status, &[("location", location)], "").named(&format!("status {status} to {location}"))
    }

    /// 200 with a web page, like the catch-all page of a front end.
    pub fn html() -> Self {
        let page = "<!doctype html><html><body>success</body></html>";
        Self::answer(200, &[("content-type", "text/html")], page).named("a web page")
    }

    /// 200 with truncated JSON in a complete HTTP response.
    pub fn broken_json() -> Self {
        Self::json(r#"{"errcode":0,"errmsg""#).named("broken JSON")
    }

    /// A good verdict in a body of that many bytes.
    pub fn large(length: usize) -> Self {
        let around = br#"{"errcode":0,"padding":""}"#.len();
        let padding = "x".repeat(length.saturating_sub(around));
        Self::json(format!(r#"{{"errcode":0,"padding":"{padding}"}}"#)).named(&format!("{length} bytes"))
    }

    /// A good verdict, with a header whose value is not UTF-8.
    pub fn non_utf8_header() -> Self {
        let mut bytes = head(200, JSON);
        bytes.extend_from_slice(b"x-note: caf\xe9 \xff\r\ncontent-length: 13\r\n\r\n{\"errcode\":0}");
        Self::new("a header that is no UTF-8", [Step::Send(bytes)])
    }

    /// A good verdict, one byte at a time, with that pause before each.
    pub fn trickle(pause: Duration) -> Self {
        let mut bytes = head(200, JSON);
        bytes.extend_from_slice(b"content-length: 13\r\n\r\n{\"errcode\":0}");
        let steps = bytes.into_iter().flat_map(|byte| [Step::Wait(pause), Step::Send(vec![byte])]);
        Self::new("errcode 0, byte by byte", steps)
    }

    /// The same, but only after that long.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.steps.insert(0, Step::Wait(pause));
        self.name = format!("{} after {} ms", self.name, pause.as_millis());
        self
    }

    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    fn chunked_pieces(pieces: &[&[u8]], end: &[u8]) -> Self {
        let mut bytes = head(200, JSON);
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        for piece in pieces {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(end);
        Self::new("chunked", [Step::Send(bytes)])
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Behaviour({})", self.name)
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, values as bytes, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The trailers behind a chunked body, as [`Received::headers`].
    pub trailers: Vec<(String, Vec<u8>)>,
    /// When its last byte arrived.
    pub arrived: Instant,
    /// The other end of its connection.
    pub peer: SocketAddr,
}

impl Received {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The same, as text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The body as JSON, if it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The device in the message, where there is one.
    pub fn device_sn(&self) -> Option<String> {
        self.base("device_sn")
    }

    /// The request id in the message, where there is one.
    pub fn req_id(&self) -> Option<String> {
        self.base("req_id")
    }

    /// The callback's type in the message, where there is one.
    pub fn event(&self) -> Option<String> {
        let message = self.json()?;
        let name = message.pointer("/event/event_type").or_else(|| message.pointer("/command/command_type"))?;
        name.as_str().map(str::to_owned)
    }

    fn base(&self, name: &str) -> Option<String> {
        self.json()?.get("base_info")?.get(name)?.as_str().map(str::to_owned)
    }
}

type Rule = Arc<dyn Fn(&Received) -> Option<Behaviour> + Send + Sync>;

/// What the connections share.
#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request and finds out how to answer it.
    fn take(&self, request: Received) -> Behaviour {
        let rules = self.rules().clone(); // a rule may take its time, or look at the backend itself
        let behaviour = rules.iter().rev().find_map(|rule| rule(&request)).unwrap_or_else(|| {
            if request.event().as_deref() == Some("bind") { Behaviour::verdict(0) } else { Behaviour::success() }
        });
        let mut received = self.received();
        received.push(request);
        self.count.send_replace(received.len());
        behaviour
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} received", self.received().len())
    }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Status line and headers, without the framing headers.
fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.into_bytes()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // A peer that disconnects, or sends invalid HTTP, ends only its own connection.
                    let _ = serve(connection, &shared).await;
                });
            }
            // Most likely out of file descriptors, which passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut connection: TcpStream, shared: &Shared) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut connection, &mut buffer).await? {
        for step in shared.take(request).steps {
            match step {
                Step::Wait(pause) => tokio::time::sleep(pause).await,
                Step::Send(bytes) => connection.write_all(&bytes).await?,
                Step::Hang => {
                    while connection.read_buf(&mut buffer).await? > 0 {
                        buffer.clear();
                    }
                    return Ok(());
                }
                Step::Close => return Ok(connection.shutdown().await?),
                Step::Reset => {
                    connection.set_zero_linger()?;
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Reads one request. `buffer` holds bytes read beyond the previous one. `None` when the peer has closed
/// the connection.
async fn read_request(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Received>> {
    let peer = connection.peer_addr()?;
    let (mut request, head_len, framing) = loop {
        if let Some(parsed) = parse_head(buffer, peer)? {
            break parsed;
        }
        if connection.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    buffer.drain(..head_len);
    match framing {
        Framing::Length(length) => {
            while buffer.len() < length {
                more(connection, buffer).await?;
            }
            request.body = buffer.drain(..length).collect();
        }
        Framing::Chunked => loop {
            let (start, length) = loop {
                match httparse::parse_chunk_size(buffer) {
                    Ok(httparse::Status::Complete((start, length))) => break (start, usize::try_from(length)?),
                    Ok(httparse::Status::Partial) => more(connection, buffer).await?,
                    Err(_) => bail!("a chunk without a size"),
                }
            };
            let end = start.saturating_add(length).saturating_add(2); // the line's end behind the chunk
            if length == 0 {
                request.trailers = read_trailers(connection, buffer, start).await?;
                break;
            }
            while buffer.len() < end {
                more(connection, buffer).await?;
            }
            let chunk: Vec<u8> = buffer.drain(..end).collect();
            request.body.extend_from_slice(&chunk[start..end - 2]);
        },
    }
    request.arrived = Instant::now();
    Ok(Some(request))
}

/// Reads the trailers, if any, and the empty line after them.
async fn read_trailers(
    connection: &mut TcpStream,
    buffer: &mut Vec<u8>,
    last_chunk: usize,
) -> Result<Vec<(String, Vec<u8>)>> {
    buffer.drain(..last_chunk);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        match httparse::parse_headers(buffer, &mut headers)? {
            httparse::Status::Complete((end, trailers)) => {
                let trailers = lower_case(trailers);
                buffer.drain(..end);
                return Ok(trailers);
            }
            httparse::Status::Partial => more(connection, buffer).await?,
        }
    }
}

async fn more(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    if connection.read_buf(buffer).await? == 0 {
        bail!("the peer broke off in mid-request");
    }
    Ok(())
}

enum Framing {
    Length(usize),
    Chunked,
}

/// Parses the head of a request: the request without its body, the head's length, and how the body is
/// framed. `None` while the head is not complete.
fn parse_head(buffer: &[u8], peer: SocketAddr) -> Result<Option<(Received, usize, Framing)>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(buffer)? else { return Ok(None) };
    let request = Received {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        headers: lower_case(head.headers),
        body: Vec::new(),
        trailers: Vec::new(),
        arrived: Instant::now(),
        peer,
    };
    let framing = match request.header_text("content-length") {
        _ if request.header("transfer-encoding").is_some() => Framing::Chunked,
        Some(length) => Framing::Length(length.parse().context("content-length")?),
        None => Framing::Length(0),
    };
    Ok(Some((request, length, framing)))
}

fn lower_case(fields: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect()
}
