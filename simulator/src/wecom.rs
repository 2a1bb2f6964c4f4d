//! The WeCom side: it seals and signs callbacks as WeCom does, or wrongly on purpose, sends them over
//! HTTP, and opens the replies.
//!
//! An [`Account`] seals an [`Event`] into a [`Request`], every part of which can be altered before
//! a [`Client`] sends it; the [`Answer`] is opened with the account once more.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wecom_callback_filter::wecom::callback::EventType;
use wecom_callback_filter::wecom::cipher::{self, Ciphertext};
use wecom_callback_filter::wecom::credential::{Credential, EncodingAesKey, Token};
use wecom_callback_filter::wecom::signature::Signature;

/// One callback URL as WeCom knows it: the two secrets and the id that messages are addressed to.
#[derive(Clone)]
pub struct Account {
    token: String,
    encoding_aes_key: String,
    receive_id: String,
    credential: Credential,
}

impl Account {
    /// An account with these values.
    ///
    /// # Errors
    /// If the token or the key does not have the format that WeCom issues.
    pub fn new(token: &str, encoding_aes_key: &str, receive_id: &str) -> Result<Self> {
        Ok(Self {
            token: token.to_owned(),
            encoding_aes_key: encoding_aes_key.to_owned(),
            receive_id: receive_id.to_owned(),
            credential: Credential {
                token: Token::parse(token).context("the token")?,
                encoding_aes_key: EncodingAesKey::parse(encoding_aes_key).context("the EncodingAESKey")?,
            },
        })
    }

    /// The sample values that WeCom publishes, with the receive id of the repository's `envoy.yaml`.
    pub fn demo() -> Self {
        Self::new("QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C", "2000000000000001")
            .expect("the published sample values are well-formed")
    }

    /// A second account, as after a rotation: other secrets, the same receive id as [`Account::demo`].
    pub fn rotated() -> Self {
        Self::new("rotated9Token", "kWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2D", "2000000000000001")
            .expect("these values are well-formed")
    }

    /// The same secrets, messages addressed to another id.
    #[must_use]
    pub fn with_receive_id(mut self, receive_id: &str) -> Self {
        self.receive_id = receive_id.to_owned();
        self
    }

    /// The token as typed.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The EncodingAESKey as typed.
    pub fn encoding_aes_key(&self) -> &str {
        &self.encoding_aes_key
    }

    /// The id behind every message.
    pub fn receive_id(&self) -> &str {
        &self.receive_id
    }

    /// Seals a message as a POST of this moment.
    pub fn seal(&self, message: impl Message) -> Request {
        self.seal_at(message, unix_now(), &random_nonce())
    }

    /// Seals a message as a POST with this timestamp (Unix seconds) and nonce.
    pub fn seal_at(&self, message: impl Message, timestamp: u64, nonce: &str) -> Request {
        let encrypt = self.encrypt(&message.bytes(self));
        let envelope = serde_json::json!({ "tousername": self.receive_id, "encrypt": encrypt });
        Request {
            method: "POST".to_owned(),
            timestamp: timestamp.to_string(),
            nonce: nonce.to_owned(),
            msg_signature: self.sign(&timestamp.to_string(), nonce, &encrypt),
            encrypt,
            headers: HeaderMap::from_iter([(
                HeaderName::from_static("content-type"),
                HeaderValue::from_static("application/json"),
            )]),
            query: None,
            body: Body::Whole(envelope.to_string().into_bytes()),
        }
    }

    /// The GET that WeCom's console sends when the form with the URL is saved. The right answer is
    /// `echo` and nothing else.
    pub fn verify_url(&self, echo: &str) -> Request {
        self.seal(echo).into_get()
    }

    /// The cipher alone: random bytes, length, message, receive id, padding, AES, base64.
    pub fn encrypt(&self, message: &[u8]) -> String {
        let key = &self.credential.encoding_aes_key;
        cipher::seal(key, random(), message, self.receive_id.as_bytes()).expect("the message is below 4 GiB")
    }

    /// The signature alone, 40 hex digits.
    pub fn sign(&self, timestamp: &str, nonce: &str, encrypt: &str) -> String {
        Signature::sign(&self.credential.token, timestamp, nonce, encrypt).to_hex()
    }

    /// Opens a reply as WeCom does: the envelope has its four members and no other, the signature
    /// holds, the cipher opens, the receive id is ours.
    ///
    /// # Errors
    /// If one of these does not hold; the error says which.
    pub fn open_reply(&self, body: &[u8]) -> Result<Reply> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Envelope {
            encrypt: String,
            msgsignature: String,
            timestamp: Value,
            nonce: String,
        }

        let envelope: Envelope = serde_json::from_slice(body)
            .with_context(|| format!("no encrypted reply: {}", String::from_utf8_lossy(body)))?;
        let timestamp = match envelope.timestamp {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => bail!("the reply's timestamp is {other}"),
        };
        let signature = Signature::from_hex(envelope.msgsignature.as_bytes()).context("msgsignature is no hex")?;
        let expected = Signature::sign(&self.credential.token, &timestamp, &envelope.nonce, &envelope.encrypt);
        ensure!(signature.matches(&expected), "the reply's signature does not hold");
        let ciphertext =
            Ciphertext::parse(envelope.encrypt).context("encrypt is not canonical base64 of whole blocks")?;
        let plaintext = cipher::open(&self.credential.encoding_aes_key, &ciphertext)
            .map_err(|error| anyhow::anyhow!("the reply does not open: {error}"))?;
        let receive_id = String::from_utf8_lossy(&plaintext.receive_id).into_owned();
        ensure!(receive_id == self.receive_id, "the reply is addressed to {receive_id:?}");
        Ok(Reply {
            plaintext: plaintext.message.to_vec(),
            timestamp: timestamp.parse().context("the reply's timestamp is no number")?,
            nonce: envelope.nonce,
            receive_id,
        })
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.receive_id)
    }
}

/// What can be sealed: an [`Event`], or any bytes as they are.
pub trait Message {
    /// The plaintext, for a message of this account.
    fn bytes(&self, account: &Account) -> Vec<u8>;
}

impl Message for Event {
    fn bytes(&self, account: &Account) -> Vec<u8> {
        self.to_json(account.receive_id())
    }
}

impl Message for str {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Message for String {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Message for [u8] {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.to_vec()
    }
}

impl Message for Vec<u8> {
    fn bytes(&self, _: &Account) -> Vec<u8> {
        self.clone()
    }
}

impl<T: Message + ?Sized> Message for &T {
    fn bytes(&self, account: &Account) -> Vec<u8> {
        (**self).bytes(account)
    }
}

/// A builder of a callback's plaintext. Its members are in the order of WeCom's documentation.
#[derive(Debug, Clone)]
pub struct Event {
    kind: &'static str,
    event_type: String,
    base_info: Members,
    payload: Members,
    raw: Option<Vec<u8>>,
}

impl Event {
    /// A callback of that type, of this moment, with a request id of its own and the members that
    /// WeCom's documentation shows for the type.
    pub fn of(event: EventType, device_sn: &str) -> Self {
        let kind = match event {
            EventType::Bind
            | EventType::Unbind
            | EventType::ContactChange
            | EventType::ModelTicket
            | EventType::VerifyDevice
            | EventType::Other => "event",
            EventType::UpdateFirmware
            | EventType::FetchDeviceStatus
            | EventType::UserScan
            | EventType::EnterPage
            | EventType::ExitPage
            | EventType::RemoteOpenDoor
            | EventType::DeleteBioInfo
            | EventType::PrinterJobSubmit
            | EventType::PrinterJobTrans
            | EventType::PrinterJobDel => "command",
        };
        let mut new = Self::named(kind, event.name(), device_sn);
        match event {
            EventType::ModelTicket => {
                new = new.without_base("device_sn").without_base("auth_corpid");
            }
            EventType::VerifyDevice => {
                new = new.without_base("device_sn").without_base("model_id");
            }
            _ => {}
        }
        for (name, value) in payload(event) {
            new = new.set(name, value);
        }
        new
    }

    /// A callback of any name, known or not; `kind` is `event` or `command`.
    pub fn named(kind: &'static str, event_type: &str, device_sn: &str) -> Self {
        let mut base_info = Members::default();
        base_info.set("req_id", random_id().into());
        base_info.set("device_sn", device_sn.into());
        base_info.set("createtime", unix_now().into());
        base_info.set("model_id", Value::Null); // the account's receive id, once that is known
        base_info.set("auth_corpid", "wwauthcorp0001".into());
        base_info.set("service_corpid", "wwservicecorp0001".into());
        Self { kind, event_type: event_type.to_owned(), base_info, payload: Members::default(), raw: None }
    }

    /// A company binds a device.
    pub fn bind(device_sn: &str) -> Self {
        Self::of(EventType::Bind, device_sn)
    }

    /// A company has unbound a device.
    pub fn unbind(device_sn: &str) -> Self {
        Self::of(EventType::Unbind, device_sn)
    }

    /// A user opens a door remotely.
    pub fn remote_open_door(device_sn: &str) -> Self {
        Self::of(EventType::RemoteOpenDoor, device_sn)
    }

    /// The request id, by default a random one.
    #[must_use]
    pub fn req_id(self, req_id: &str) -> Self {
        self.base("req_id", req_id)
    }

    /// When it happened, in Unix seconds; by default when it was made.
    #[must_use]
    pub fn createtime(self, unix_seconds: u64) -> Self {
        self.base("createtime", unix_seconds)
    }

    /// The device model's id, by default the account's receive id.
    #[must_use]
    pub fn model_id(self, model_id: &str) -> Self {
        self.base("model_id", model_id)
    }

    /// Sets any member of `base_info`, to any JSON.
    #[must_use]
    pub fn base(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.base_info.set(name, value.into());
        self
    }

    /// Leaves a member of `base_info` out.
    #[must_use]
    pub fn without_base(mut self, name: &str) -> Self {
        self.base_info.remove(name);
        self
    }

    /// Sets any member of the payload, to any JSON.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.payload.set(name, value.into());
        self
    }

    /// Replaces the whole message by these bytes.
    #[must_use]
    pub fn raw(mut self, message: impl Into<Vec<u8>>) -> Self {
        self.raw = Some(message.into());
        self
    }

    /// The request id that was set.
    pub fn req_id_text(&self) -> Option<&str> {
        self.base_info.get("req_id").and_then(Value::as_str)
    }

    /// The plaintext. Ids that were not set are filled in with `receive_id`.
    pub fn to_json(&self, receive_id: &str) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut base_info = self.base_info.clone();
        match base_info.get("model_id") {
            Some(Value::Null) => base_info.set("model_id", receive_id.into()),
            // The generic URL, where messages are addressed to the provider.
            None if self.event_type == "verify_device" => base_info.set("service_corpid", receive_id.into()),
            _ => {}
        }
        let mut payload = Members::default();
        payload.set(&format!("{}_type", self.kind), self.event_type.as_str().into());
        payload.0.extend(self.payload.0.iter().cloned());
        let message = Plaintext { kind: self.kind, base_info, payload };
        serde_json::to_vec(&message).expect("a message of JSON values is JSON")
    }
}

/// The payload that the documentation shows for a type, with invented values.
fn payload(event: EventType) -> Vec<(&'static str, Value)> {
    let user = || ("open_userid", Value::from("woAJ2GCAAAXtWyujaWJHDDGi0mACH71w"));
    let operation = || ("oper_id", Value::from(random_id()));
    match event {
        EventType::Bind => vec![("auth_code", random_id().repeat(2).into()), ("verif_code", "123456".into())],
        EventType::ContactChange => vec![
            ("perm_version", Value::from(8_589_934_593_u64)), // beyond 32 bits, as in life
            ("create_user", serde_json::json!([{ "open_userid": "woCREATED", "user_type": 1 }])),
            ("update_user", Value::Array(Vec::new())),
            ("delete_user", Value::Array(Vec::new())),
        ],
        EventType::ModelTicket => vec![("model_ticket", random_id().repeat(2).into())],
        EventType::VerifyDevice => vec![("device_sn_md5", "0cc175b9c0f1b6a831c399e269772661".into())],
        EventType::UpdateFirmware => vec![operation()],
        EventType::UserScan => vec![
            operation(),
            user(),
            ("state", "door".into()),
            ("user_type", 1.into()),
            ("auth_code", random_id().repeat(2).into()),
            ("expires_in", 300.into()),
            ("auth_code_type", 1.into()),
        ],
        EventType::EnterPage | EventType::ExitPage | EventType::DeleteBioInfo => {
            vec![("page_type", "fa".into()), operation(), user(), ("user_type", 1.into())]
        }
        EventType::RemoteOpenDoor => vec![user(), operation()],
        EventType::PrinterJobSubmit => vec![user(), ("jobid", "job-1".into())],
        EventType::PrinterJobTrans => vec![
            user(),
            ("jobid", "job-1".into()),
            ("download_url", "https://files.example/job-1".into()),
            ("encoding_aeskey", random_id().into()),
            ("doc_name", "报告.pdf".into()),
            ("doc_size", Value::from(5_368_709_120_u64)),
            ("trans_setting", serde_json::json!({ "version": 1, "setting_list": [] })),
        ],
        EventType::PrinterJobDel => vec![("jobid", "job-1".into())],
        EventType::Unbind | EventType::FetchDeviceStatus | EventType::Other => Vec::new(),
    }
}

/// A request as it will be sent. The public parts may be changed at will: the signature then no
/// longer holds, unless [`Request::resign`] makes it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The query's `timestamp`.
    pub timestamp: String,
    /// The query's `nonce`.
    pub nonce: String,
    /// The query's `msg_signature`.
    pub msg_signature: String,
    /// The ciphertext, in the body of a POST or the `echostr` of a GET.
    pub encrypt: String,
    /// Further headers.
    pub headers: HeaderMap,
    /// If set, the whole query after `?`, sent in place of the one made from the fields above.
    pub query: Option<String>,
    /// The body.
    pub body: Body,
}

/// How a body is sent.
#[derive(Debug, Clone)]
pub enum Body {
    /// At once, its length announced.
    Whole(Vec<u8>),
    /// In pieces, each after a pause, its length not announced.
    Pieces(Vec<(Duration, Vec<u8>)>),
    /// Not at all.
    Nothing,
}

impl Request {
    /// Signs the request as it is now.
    #[must_use]
    pub fn resign(mut self, account: &Account) -> Self {
        self.msg_signature = account.sign(&self.timestamp, &self.nonce, &self.encrypt);
        self
    }

    /// Breaks the signature, and nothing else.
    #[must_use]
    pub fn forged(mut self) -> Self {
        let first = if self.msg_signature.starts_with('0') { "1" } else { "0" };
        self.msg_signature.replace_range(..1, first);
        self
    }

    /// Swaps timestamp and nonce. The signature still holds: it is made of the sorted parts.
    #[must_use]
    pub fn swapped(mut self) -> Self {
        std::mem::swap(&mut self.timestamp, &mut self.nonce);
        self
    }

    /// Another timestamp, under the same signature.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: &str) -> Self {
        self.timestamp = timestamp.to_owned();
        self
    }

    /// Another method.
    #[must_use]
    pub fn with_method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    /// A further header.
    ///
    /// # Panics
    /// If it is no header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a header name"),
            HeaderValue::from_bytes(value).expect("a header value"),
        );
        self
    }

    /// Another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Whole(body.into());
        self
    }

    /// The same body in pieces of that many bytes, its length not announced, `pause` before each.
    #[must_use]
    pub fn in_pieces(mut self, length: usize, pause: Duration) -> Self {
        let pieces = self.body_bytes().chunks(length).map(|piece| (pause, piece.to_vec())).collect();
        self.body = Body::Pieces(pieces);
        self
    }

    /// Sends this as the whole query after `?`.
    #[must_use]
    pub fn with_query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }

    /// The same signature as a GET verification, the ciphertext as its echo.
    #[must_use]
    pub fn into_get(mut self) -> Self {
        "GET".clone_into(&mut self.method);
        self.headers.clear();
        self.body = Body::Nothing;
        self
    }

    /// The query as it will be sent, percent-encoded.
    pub fn query_text(&self) -> String {
        if let Some(query) = &self.query {
            return query.clone();
        }
        let mut query = format!(
            "msg_signature={}&timestamp={}&nonce={}",
            encode(&self.msg_signature),
            encode(&self.timestamp),
            encode(&self.nonce)
        );
        if self.method == "GET" {
            query.push_str(&format!("&echostr={}", encode(&self.encrypt)));
        }
        query
    }

    /// The body's bytes.
    pub fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Pieces(pieces) => pieces.iter().flat_map(|(_, piece)| piece.clone()).collect(),
            Body::Nothing => Vec::new(),
        }
    }
}

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
pub async fn send_raw(address: std::net::SocketAddr, bytes: &[u8]) -> Result<Answer> {
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

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as received.
    pub body: Vec<u8>,
    /// From the first byte sent to the last byte received.
    pub elapsed: Duration,
}

impl Answer {
    /// Opens an encrypted reply.
    ///
    /// # Errors
    /// If the status is not 200, or as [`Account::open_reply`].
    pub fn decrypt(&self, account: &Account) -> Result<Reply> {
        ensure!(self.status == 200, "status {}: {}", self.status, self.text());
        account.open_reply(&self.body)
    }

    /// The body as text, for people to read.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The word under `error` in a rejection's body.
    pub fn rejection(&self) -> Option<String> {
        self.json().ok()?.get("error")?.as_str().map(str::to_owned)
    }

    /// Whether WeCom reads this answer to a bind as approval without any verdict in it.
    pub fn is_bare_success(&self) -> bool {
        self.status == 200 && matches!(self.body.as_slice(), b"" | b"success")
    }
}

/// An encrypted reply, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The message in it.
    pub plaintext: Vec<u8>,
    /// When it was sealed, in Unix seconds.
    pub timestamp: u64,
    /// Its nonce.
    pub nonce: String,
    /// Whom it is addressed to.
    pub receive_id: String,
}

impl Reply {
    /// The message as JSON.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.plaintext).with_context(|| format!("the reply is no JSON: {}", self.text()))
    }

    /// The message as text, for people to read.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.plaintext).into_owned()
    }

    /// Its verdict, if it is one.
    pub fn errcode(&self) -> Option<u32> {
        self.json().ok()?.get("errcode")?.as_u64()?.try_into().ok()
    }

    /// Its verdict's text, if it is one.
    pub fn errmsg(&self) -> Option<String> {
        self.json().ok()?.get("errmsg")?.as_str().map(str::to_owned)
    }
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A nonce as WeCom makes them, ten digits.
pub fn random_nonce() -> String {
    let number = u64::from(u32::from_be_bytes(random())).saturating_add(1_000_000_000);
    number.to_string()
}

/// A random id of 32 hex digits.
pub fn random_id() -> String {
    hex::encode(random::<16>())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// The characters besides letters and digits that WeCom does not encode in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encode(value: &str) -> String {
    utf8_percent_encode(value, QUERY).to_string()
}

/// A body that is sent piece by piece.
fn stream(pieces: Vec<(Duration, Vec<u8>)>) -> reqwest::Body {
    reqwest::Body::wrap_stream(futures_util::stream::iter(pieces).then(async |(pause, piece)| {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(piece)
    }))
}

/// The members of a JSON object, in the order they were set.
#[derive(Debug, Clone, Default)]
struct Members(Vec<(String, Value)>);

impl Members {
    fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A message in its documented order.
struct Plaintext {
    kind: &'static str,
    base_info: Members,
    payload: Members,
}

impl Serialize for Plaintext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("msg_type", self.kind)?;
        map.serialize_entry("base_info", &self.base_info)?;
        map.serialize_entry(self.kind, &self.payload)?;
        map.end()
    }
}
