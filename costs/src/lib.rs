//! One callback of each kind through the filter's own worker on its model host, always the same: time,
//! secrets and random bytes are fixed, so whatever is counted of it is a number and not a distribution.
//!
//! What is counted is the code that the module shares with tests: not `src/envoy`, which puts the host's
//! calls into Envoy's, and not Envoy.

use std::cell::Cell;

use model::{Around, Process, WorkerId};
use wecom_callback_filter::callout::Received;
use wecom_callback_filter::config::Config;
use wecom_callback_filter::exchange::Head;
use wecom_callback_filter::wecom::cipher;
use wecom_callback_filter::wecom::credential::{Credential, EncodingAesKey, Token};
use wecom_callback_filter::wecom::signature::Signature;

const TOKEN: &str = "QDG6eK";
const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
/// Whom messages are addressed to.
pub const RECEIVE_ID: &str = "2000000000000001";
const PATH: &str = "/suite/receive";

/// A table of one set, the usual 64 entries of which are half full when something is counted, as in a
/// table that holds as much as it is made for.
const CONFIG: &str = r#"{
    "endpoints": [{
        "path": "/suite/receive",
        "name": "lock",
        "receive_ids": ["2000000000000001"],
        "credentials": [{ "token": "QDG6eK", "encoding_aes_key": "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C" }],
        "decision": { "cluster": "decision", "timeout_ms": 900 },
        "events": { "cluster": "backend", "timeout_ms": 900 }
    }],
    "dedup": { "capacity": 64 }
}"#;

/// The binds on record when something is counted.
const RECORDED: u32 = 32;

const BEGINS_MS: u64 = 1_700_000_000_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bind that nobody has seen before, with a call to its upstream, which takes it.
    Bind,
    /// The same again, some seconds later: answered from its record.
    Copy,
    /// A bind whose signature does not hold, and which the log has.
    Rejection,
    /// The GET of WeCom's console, whose digits are given back.
    Echo,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bind, Self::Copy, Self::Rejection, Self::Echo];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Copy => "copy",
            Self::Rejection => "rejection",
            Self::Echo => "echo",
        }
    }

    /// The outcome, and the status of the answer.
    const fn ends(self) -> (&'static str, u32) {
        match self {
            Self::Bind => ("bound", 200),
            Self::Copy => ("duplicate", 200),
            Self::Rejection => ("bad_signature", 403),
            Self::Echo => ("verified", 200),
        }
    }
}

/// A worker that has served some of every kind, and whose memory has grown to what it needs.
pub struct Scene {
    /// The worker's host.
    pub process: Process,
    worker: WorkerId,
    credential: Credential,
    sealed: Cell<u32>,
}

/// What WeCom sends.
pub struct Request {
    /// The path with its query.
    pub path: String,
    /// The body; none of a GET.
    pub body: Option<Vec<u8>>,
}

/// The pair that requests are sealed with.
///
/// # Panics
/// Never: both are well-formed.
pub fn credential() -> Credential {
    Credential {
        token: Token::parse(TOKEN).expect("a right token"),
        encoding_aes_key: EncodingAesKey::parse(KEY).expect("a right key"),
    }
}

impl Scene {
    /// A worker that is warm.
    ///
    /// # Panics
    /// If the filter does not do what it should.
    #[expect(clippy::new_without_default, reason = "it does a lot")]
    pub fn new() -> Self {
        let process = Process::new(BEGINS_MS);
        let config = Config::parse(CONFIG.as_bytes(), &|_| None).expect("a right configuration");
        let worker = process.start_worker(config);
        let scene = Self { process, worker, credential: credential(), sealed: Cell::new(0) };
        for number in 0..RECORDED {
            let others = if number % 4 == 0 { &Kind::ALL[1..] } else { &[] };
            std::iter::once(&Kind::Bind).chain(others).for_each(|kind| scene.serve(*kind));
        }
        scene
    }

    /// Serves one callback of that kind, a second after whatever was before it.
    ///
    /// # Panics
    /// If it does not end as it should.
    pub fn serve(&self, kind: Kind) {
        self.serve_within(kind, |turn| turn(), |turn| turn());
    }

    /// The same, with the filter's code within the one, and the host's within the other.
    ///
    /// # Panics
    /// If it does not end as it should.
    pub fn serve_within(&self, kind: Kind, filter: Around, host: Around) {
        self.process.set_clock(self.process.now_ms() + 1_000);
        let request = self.request(kind);
        let received = Received::new(
            vec![(":status".to_owned(), b"200".to_vec()), ("content-type".to_owned(), b"application/json".to_vec())],
            br#"{"errcode":0,"errmsg":"ok"}"#.to_vec(),
        );
        let method: &[u8] = if request.body.is_some() { b"POST" } else { b"GET" };
        let head = Head {
            method,
            content_type: Some(b"application/json"),
            request_id: Some(b"5c6f1e0a-7a3c-4f0e-9a55-0c1d2e3f4a5b"),
            end_of_stream: request.body.is_none(),
            ..Head::default()
        };
        let process = &self.process;
        process.take_host_calls();
        process.take_host_bytes();
        process.surround(filter, host);
        let id = process.arrive(self.worker, request.path.as_bytes(), &head).expect("one of ours");
        if let Some(body) = &request.body {
            process.buffered(id, body.len());
            process.complete(id, body);
            process.read_queue(self.worker, usize::MAX);
        }
        if kind == Kind::Bind {
            let calls = process.calls();
            assert_eq!(calls.len(), 1, "the decision endpoint is asked");
            calls.into_iter().for_each(|(call, _)| process.end_call(call, Some(received.clone())));
        }
        process.surround(|turn| turn(), |turn| turn());

        let finished = process.take_finished();
        assert_eq!(finished.len(), 1, "it has ended");
        for one in finished {
            let answer = one.answer.expect("it is answered");
            assert_eq!((one.report.outcome.name(), answer.status), kind.ends(), "{}", one.report);
        }
        assert!(process.open().is_empty() && process.calls().is_empty(), "nothing is left over");
    }

    /// The next request of that kind, made at the host's time.
    pub fn request(&self, kind: Kind) -> Request {
        let now = self.process.now_ms() / 1_000;
        let bind = |number: u32| {
            format!(
                r#"{{"base_info":{{"msg_type":"event","model_id":"{RECEIVE_ID}","device_sn":"SN20230001","req_id":"req-{number:012}","createtime":{now}}},"event":{{"event_type":"bind","bind":{{"auth_code":"0123456789abcdef0123456789abcdef","verif_code":"123456"}}}}}}"#
            )
        };
        match kind {
            Kind::Bind => {
                self.sealed.set(self.sealed.get() + 1);
                self.post(&bind(self.sealed.get()), now, "")
            }
            Kind::Copy => self.post(&bind(self.sealed.get()), now, ""),
            Kind::Rejection => self.post(&bind(self.sealed.get()), now, "x"),
            Kind::Echo => {
                let encrypt = self.encrypt("4616161616161616161");
                let query = self.query(now, &encrypt, "");
                let echo = encrypt.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
                Request { path: format!("{query}&echostr={echo}"), body: None }
            }
        }
    }

    /// Signed by a token to which that is appended.
    fn post(&self, message: &str, now: u64, appended: &str) -> Request {
        let encrypt = self.encrypt(message);
        let body = format!(r#"{{"tousername":"{RECEIVE_ID}","encrypt":"{encrypt}"}}"#);
        Request { path: self.query(now, &encrypt, appended), body: Some(body.into_bytes()) }
    }

    fn encrypt(&self, message: &str) -> String {
        cipher::seal(&self.credential.encoding_aes_key, [0x5a; 16], message.as_bytes(), RECEIVE_ID.as_bytes())
            .expect("a short message")
    }

    fn query(&self, now: u64, encrypt: &str, appended: &str) -> String {
        let (timestamp, nonce) = (now.to_string(), "1597212914");
        let signature =
            Signature::sign(&self.credential.token, &timestamp, nonce, &format!("{encrypt}{appended}")).to_hex();
        format!("{PATH}?msg_signature={signature}&timestamp={timestamp}&nonce={nonce}")
    }
}
