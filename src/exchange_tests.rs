//! Every row of the contract's table of answers, and the awkward orders of events.
#![allow(clippy::restriction)]

use serde_json::{Value, json};

use super::*;
use crate::callout::Response;
use crate::dedup::{Records, Store};
use crate::wecom::cipher;
use crate::wecom::credential::{Credential, EncodingAesKey, Token};
use crate::wecom::signature::Signature;

const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
const OTHER_KEY: &str = "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR";
const ID: &str = "2000000000000001";
const OTHER_ID: &str = "2000000000000002";
const NOW: u64 = 1_658_332_800;
const NOW_MS: u64 = NOW * 1000;
const FAIL_CLOSED: &str = r#"{"errcode":7,"errmsg":"设备当前无法绑定，请稍后重试或联系设备厂商处理"}"#;

// ---- The two sides of an exchange.

fn settings() -> Value {
    let mut settings = json!({
        "endpoints": [{
            "path": "/suite/receive",
            "name": "lock",
            "receive_ids": [ID, OTHER_ID],
            "verify_receive_ids": ["wwservicecorp0001"],
            "credentials": [{"token": "new", "encoding_aes_key": OTHER_KEY}, {"token": "QDG6eK", "encoding_aes_key": KEY}],
            "decision": {"cluster": "decision", "authority": "decision.internal", "path": "/bind?x", "timeout_ms": 900},
            "events": {"cluster": "backend", "timeout_ms": 500},
        }],
        "max_body_bytes": 4096,
    });
    let mut elsewhere = settings["endpoints"][0].clone();
    elsewhere["path"] = "/elsewhere".into();
    settings["endpoints"].as_array_mut().unwrap().push(elsewhere);
    settings
}

fn config_of(settings: &Value) -> Rc<Config> {
    Rc::new(Config::parse(settings.to_string().as_bytes(), &|_| None).unwrap())
}

fn config() -> Rc<Config> {
    config_of(&settings())
}

fn credential(token: &str, key: &str) -> Credential {
    Credential { token: Token::parse(token).unwrap(), encoding_aes_key: EncodingAesKey::parse(key).unwrap() }
}

/// WeCom's side of one request.
#[derive(Clone)]
struct Sent {
    method: &'static str,
    path: &'static str,
    token: &'static str,
    key: &'static str,
    receive_id: &'static str,
    timestamp: u64,
    message: String,
}

impl Sent {
    fn new(message: impl ToString) -> Self {
        Self {
            method: "POST",
            path: "/suite/receive",
            token: "QDG6eK",
            key: KEY,
            receive_id: ID,
            timestamp: NOW,
            message: message.to_string(),
        }
    }

    fn bind() -> Self {
        Self::new(message("event", "bind"))
    }

    fn unbind() -> Self {
        Self::new(message("event", "unbind"))
    }

    /// The ciphertext, and the target that signs it.
    fn sealed(&self) -> (String, String) {
        let credential = credential(self.token, self.key);
        let encrypt =
            cipher::seal(&credential.encoding_aes_key, [7; 16], self.message.as_bytes(), self.receive_id.as_bytes());
        let encrypt = encrypt.unwrap();
        let timestamp = self.timestamp.to_string();
        let signature = Signature::sign(&credential.token, &timestamp, "n1", &encrypt).to_hex();
        (encrypt, format!("{}?msg_signature={signature}&timestamp={timestamp}&nonce=n1", self.path))
    }

    fn begin(&self) -> (ControlFlow<Ended, Reading>, Vec<u8>) {
        self.begin_under(&config())
    }

    fn begin_under(&self, config: &Rc<Config>) -> (ControlFlow<Ended, Reading>, Vec<u8>) {
        let (encrypt, path) = self.sealed();
        let head =
            Head { method: self.method.as_bytes(), trace: vec![("traceparent", b"00-abc"), ("b3", b"\xff")], ..post() };
        (begin(config, &path, &head), json!({ "tousername": "x", "encrypt": encrypt }).to_string().into_bytes())
    }

    /// The exchange that waits for its body, and the body.
    fn reading(&self) -> (Reading, Vec<u8>) {
        let (begun, body) = self.begin();
        (goes_on(begun), body)
    }

    /// The exchange with its whole body in.
    fn complete(&self) -> ControlFlow<Ended, Claiming> {
        let (reading, body) = self.reading();
        reading.complete(&body, Now::at(NOW_MS))
    }

    /// The exchange with its claim answered.
    fn claimed(&self, claim: Claim) -> Claimed {
        goes_on(self.complete()).claimed(claim, NOW_MS)
    }

    /// The exchange that came first.
    fn first(&self) -> (Job, Waiting) {
        match self.claimed(won()) {
            Claimed::Call { job, waiting, .. } => (job, waiting),
            _ => panic!("no call"),
        }
    }

    /// The exchange that waits for another.
    fn copy(&self, announced: bool) -> Waiting {
        match self.claimed(Claim::InFlight { key: RecordKey::from_bytes([1; 16]), announced }) {
            Claimed::Wait { waiting, .. } => waiting,
            _ => panic!("does not wait"),
        }
    }

    /// The exchange that ends with its claim.
    fn ended(&self, claim: Claim) -> Ended {
        match self.claimed(claim) {
            Claimed::Ended(ended) => ended,
            _ => panic!("does not end"),
        }
    }
}

/// A copy that waits for that record.
pub(crate) fn waiting() -> Waiting {
    Sent::bind().copy(true)
}

/// A request whose body is on its way.
pub(crate) fn reading() -> Reading {
    Sent::bind().reading().0
}

fn message(kind: &str, event_type: &str) -> Value {
    json!({
        "msg_type": kind,
        "base_info": {"req_id": "r1", "device_sn": "sn1", "createtime": NOW, "model_id": ID, "service_corpid": "s"},
        kind: {format!("{kind}_type"): event_type, "auth_code": "a"},
    })
}

/// A bind with something else at that place.
fn bind_with(pointer: &str, value: Value) -> Sent {
    let mut message = message("event", "bind");
    *message.pointer_mut(pointer).unwrap() = value;
    Sent::new(message)
}

fn post() -> Head<'static> {
    Head { method: b"POST", request_id: Some(b"rid-1"), ..Head::default() }
}

fn begin(config: &Rc<Config>, path: &str, head: &Head<'_>) -> ControlFlow<Ended, Reading> {
    Addressed::find(config, path.as_bytes()).expect("ours").begin(head, Now::at(NOW_MS))
}

/// The ticket of a claim that was won.
fn won() -> Claim {
    struct Empty;
    impl Store for Empty {
        fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
            match key {
                "wecom/v1/hash_key" => (Some(vec![0; 16]), Some(1)),
                "wecom/v1/capacity" => (Some(vec![0, 0, 0, 9]), Some(1)),
                _ => (None, None),
            }
        }

        fn set(&self, _: &str, _: &[u8], _: Option<u32>) -> bool {
            true
        }
    }
    let claim = Records::open(&Empty, 9, 9, None).unwrap().claim(&Empty, RecordKey::from_bytes([1; 16]), 0, 3, 1);
    assert!(matches!(claim, Claim::Won(_)));
    claim
}

#[track_caller]
fn goes_on<T>(step: ControlFlow<Ended, T>) -> T {
    match step {
        Continue(next) => next,
        Break(ended) => panic!("ended: {}", ended.outcome.name()),
    }
}

#[track_caller]
fn ends<T>(step: ControlFlow<Ended, T>) -> Ended {
    match step {
        Break(ended) => ended,
        Continue(_) => panic!("goes on"),
    }
}

fn sealed(ended: Ended) -> (Answer, Report) {
    answered(ended.seal(NOW_MS, || Some([3; 24])))
}

#[track_caller]
fn answered((ending, report): (Ending, Report)) -> (Answer, Report) {
    match ending {
        Ending::Answer(answer) => (answer, report),
        other => panic!("no answer, but {other:?}"),
    }
}

/// What WeCom reads out of an answer: the status, and the plaintext of a sealed body.
fn read(answer: &Answer, key: &str) -> (u32, String) {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let Ok(envelope) = serde_json::from_str::<Value>(&text) else { return (answer.status, text) };
    let Some(encrypt) = envelope["encrypt"].as_str() else { return (answer.status, text) };
    let token = Token::parse(if key == KEY { "QDG6eK" } else { "new" }).unwrap();
    let field = |name: &str| envelope[name].as_str().unwrap().to_owned();
    assert_eq!((answer.headers, field("timestamp")), (JSON, NOW.to_string()));
    let signature = Signature::sign(&token, &field("timestamp"), &field("nonce"), encrypt);
    assert_eq!(signature.to_hex(), field("msgsignature"));
    let ciphertext = cipher::Ciphertext::parse(encrypt.to_owned()).unwrap();
    let plaintext = cipher::open(&EncodingAesKey::parse(key).unwrap(), &ciphertext).unwrap();
    assert_eq!(plaintext.receive_id, ID.as_bytes());
    (answer.status, String::from_utf8(plaintext.message.to_vec()).unwrap())
}

/// Insists on a sealed plaintext and an outcome, and gives the report.
#[track_caller]
fn says(ended: Ended, plaintext: &str, outcome: Outcome) -> Report {
    let (answer, report) = sealed(ended);
    assert_eq!((read(&answer, KEY), report.outcome), ((200, plaintext.to_owned()), outcome));
    report
}

/// What only the decrypted message tells: outside, all of these look the same.
const UNSAID: [&str; 5] = ["bad_ciphertext", "bad_receive_id", "not_a_callback", "stale_message", "not_an_echo"];

/// Insists on a rejection, and gives the report.
#[track_caller]
fn rejected(ended: Ended, status: u32, outcome: &str) -> Report {
    let word = if UNSAID.contains(&outcome) { "bad_message" } else { outcome };
    let (answer, report) = answered(ended.seal(NOW_MS, || panic!("nothing to seal")));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body), (status, &json!({"error": word, "request_id": "rid-1"})), "{}", report.reason);
    assert_eq!(report.outcome.name(), outcome);
    report
}

fn response(status: &str, body: &'static [u8]) -> Vec<(String, Vec<u8>)> {
    vec![(":status".into(), status.into()), ("content-length".into(), body.len().to_string().into())]
}

fn ended_well(job: &Job, body: &'static [u8]) -> Conclusion {
    job.conclude(Some(Response::new(&response("200", body), body)), 1, 900)
}

fn verdict(code: u32) -> Reply {
    Reply::Verdict(Verdict::new(code, None))
}

const REFUSED: &str = r#"{"errcode":4,"errmsg":"设备验证码校验不通过"}"#;
const OK: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

// ---- The table of answers, row by row.

#[test]
fn another_path_is_not_ours() {
    for path in
        ["/", "/suite/receive/", "/suite/receive;x", "/Suite/receive", "/suite%2freceive", "//suite/receive", ""]
    {
        assert!(Addressed::find(&config(), path.as_bytes()).is_none(), "{path}");
    }
    for path in ["/suite/receive", "/suite/receive?", "/suite/receive?a?b"] {
        assert!(Addressed::find(&config(), path.as_bytes()).is_some(), "{path}");
    }
}

#[test]
fn headers_are_found_by_name() {
    let headers = [
        (":method", "POST"),
        ("x-request-id", "r"),
        ("b3", "1"),
        ("content-length", "7"),
        ("content-type", "t"),
        ("tracestate", "s"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    let head = Head::new(&headers, true);
    assert_eq!((head.method, head.request_id, head.content_length), (&b"POST"[..], Some(&b"r"[..]), Some(&b"7"[..])));
    assert_eq!(head.trace, [("tracestate", &b"s"[..]), ("b3", &b"1"[..])]);
    assert!(head.end_of_stream);
    assert_eq!(Head::new(&[], false).method, b"");
}

#[test]
fn a_url_verification_is_echoed() {
    for (receive_id, digits) in [(ID, "7139691598513686239"), ("wwservicecorp0001", "1"), (ID, &"1".repeat(64))] {
        let (encrypt, path) = Sent { receive_id, ..Sent::new(digits) }.sealed();
        let path = format!("{path}&echostr={}", encrypt.replace('+', "%2B"));
        let head = Head { method: b"GET", end_of_stream: true, ..Head::default() };
        let (answer, report) = sealed(ends(begin(&config(), &path, &head)));
        assert_eq!((answer.status, answer.body.as_slice()), (200, digits.as_bytes()));
        assert_eq!(answer.headers, [("content-type", "text/plain")]);
        assert_eq!((report.outcome, report.facts.event), (Outcome::Verified, EventType::Other));
    }
}

#[test]
fn a_url_verification_never_prints_a_plaintext() {
    let echo = |sent: Sent, word| {
        let (encrypt, path) = sent.sealed();
        let path = format!("{path}&echostr={encrypt}");
        rejected(ends(begin(&config(), &path, &Head { method: b"GET", ..post() })), 403, word);
    };
    echo(Sent::bind(), "not_an_echo");
    echo(Sent::new(""), "not_an_echo");
    echo(Sent::new("1".repeat(65)), "not_an_echo");
    echo(Sent::new("12 3"), "not_an_echo");
    echo(Sent { receive_id: "someoneelse", ..Sent::new("123") }, "bad_receive_id");
    echo(Sent { timestamp: NOW - 601, ..Sent::new("123") }, "stale");
    echo(Sent { token: "forged", ..Sent::new("123") }, "bad_signature");
    rejected(ends(begin(&config(), "/suite/receive?", &Head { method: b"GET", ..post() })), 400, "bad_query");
}

#[test]
fn other_methods_are_refused() {
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "get", "PATCH", "TRACE", ""] {
        let ended = || ends(Sent { method, ..Sent::bind() }.begin().0);
        assert!(sealed(ended()).0.headers.contains(&("allow", "GET, POST")));
        rejected(ended(), 405, "bad_method");
    }
}

#[test]
fn a_grpc_request_is_reset_whatever_else_it_is() {
    let (_, path) = Sent::bind().sealed();
    for (content_type, reset) in [
        (&b"application/grpc"[..], true),
        (b"application/grpc+proto", true),
        (b"APPLICATION/Grpc-Web+json", true),
        (b" application/grpc; charset=utf-8", true),
        (b"application/grp", false),
        (b"application/json", false),
        (b"", false),
    ] {
        for method in [&b"POST"[..], b"GET", b"PUT"] {
            let head = Head { method, content_type: Some(content_type), ..post() };
            let begun = begin(&config(), &path, &head);
            if reset {
                let (ending, report) = ends(begun).seal(NOW_MS, || panic!("nothing to seal"));
                assert_eq!((ending, report.outcome), (Ending::Reset, Outcome::GrpcRequest));
            } else if let Break(ended) = begun {
                assert_ne!(ended.outcome, Outcome::GrpcRequest);
            }
        }
    }
}

#[test]
fn malformed_requests_are_refused() {
    let (_, path) = Sent::bind().sealed();
    let post_to = |path: &str| ends(begin(&config(), path, &post()));
    rejected(post_to("/suite/receive"), 400, "bad_query");
    rejected(post_to(&format!("{path}&nonce=n2")), 400, "bad_query");
    let with =
        |content_length, end_of_stream| begin(&config(), &path, &Head { content_length, end_of_stream, ..post() });
    rejected(ends(with(None, true)), 400, "bad_envelope");
    for large in [&b"4097"[..], b"4294967296", b"99999999999999999999999"] {
        rejected(ends(with(Some(large), false)), 413, "body_too_large");
    }
    for fit in [&b"4096"[..], b"0", b"", b"x", b"-1", b"5000x"] {
        goes_on(with(Some(fit), false));
    }

    let complete = |body: &[u8]| ends(Sent::bind().reading().0.complete(body, Now::at(NOW_MS)));
    rejected(complete(b""), 400, "bad_envelope");
    rejected(complete(br#"{"encrypt":"AAAA"}"#), 400, "bad_envelope");
    rejected(complete(&[b' '; 4096]), 400, "bad_envelope");
    rejected(complete(&[b' '; 4097]), 413, "body_too_large");
}

#[test]
fn a_body_that_grows_too_large_is_refused_before_its_end() {
    let (reading, _) = Sent::bind().reading();
    assert_eq!(reading.max_body_bytes(), 4096);
    let reading = goes_on(reading.buffered(4096));
    rejected(ends(reading.buffered(4097)), 413, "body_too_large");
}

#[test]
fn what_is_not_authentic_is_refused() {
    let refused = |sent: Sent, status, word| rejected(ends(sent.complete()), status, word);
    let reason = |sent: Sent, status, word| refused(sent, status, word).reason.into_owned();
    refused(Sent { token: "forged", ..Sent::bind() }, 403, "bad_signature");
    assert_eq!(
        reason(Sent { timestamp: NOW - 601, ..Sent::bind() }, 403, "stale"),
        "timestamp is 601 s behind the clock, more than 600 s"
    );
    assert_eq!(
        reason(Sent { timestamp: NOW + 601, ..Sent::bind() }, 403, "stale"),
        "timestamp is 601 s ahead of the clock, more than 600 s"
    );
    refused(Sent { key: OTHER_KEY, ..Sent::bind() }, 403, "bad_ciphertext");
    refused(Sent { receive_id: "someoneelse", ..Sent::bind() }, 403, "bad_receive_id");
    // Accepted for URL verification only.
    refused(Sent { receive_id: "wwservicecorp0001", ..Sent::bind() }, 403, "bad_receive_id");
    refused(Sent::new("{}"), 403, "not_a_callback");
    refused(Sent::new("7139691598513686239"), 403, "not_a_callback");
    refused(Sent::new(FAIL_CLOSED), 403, "not_a_callback");
    let other = refused(bind_with("/base_info/model_id", json!("another")), 403, "bad_receive_id");
    assert_eq!((other.facts.event, other.facts.req_id.as_deref()), (EventType::Bind, Some("r1")));
    refused(bind_with("/base_info/createtime", json!(NOW - 601)), 403, "stale_message");
    refused(bind_with("/base_info/createtime", json!(NOW + 601)), 403, "stale_message");
    assert_eq!(reason(bind_with("/base_info/createtime", json!(null)), 403, "stale_message"), "createtime is missing");
    assert_eq!(
        reason(bind_with("/base_info/createtime", json!("soon")), 403, "stale_message"),
        "createtime is neither an unsigned integer nor a string of digits"
    );
    goes_on(bind_with("/base_info/createtime", json!(NOW.to_string())).complete());
    for age in [NOW - 600, NOW + 600] {
        goes_on(bind_with("/base_info/createtime", json!(age)).complete());
        goes_on(Sent { timestamp: age, ..Sent::bind() }.complete());
    }
    for (event, name) in EventType::ALL {
        let mut bare = message("event", name);
        bare["base_info"].as_object_mut().unwrap().remove("createtime");
        match event {
            EventType::Other => drop(goes_on(Sent::new(bare).complete())), // WeCom's documents say nothing of it
            _ => drop(refused(Sent::new(bare), 403, "stale_message")),
        }
    }
}

#[test]
fn freshness_can_be_switched_off() {
    let mut settings = settings();
    settings["freshness_seconds"] = 0.into();
    let mut old = message("event", "bind");
    old["base_info"].as_object_mut().unwrap().remove("createtime");
    let (begun, body) = Sent { timestamp: 1_000_000_000, ..Sent::new(old) }.begin_under(&config_of(&settings));
    goes_on(goes_on(begun).complete(&body, Now::at(NOW_MS)));
}

#[test]
fn a_bind_is_forwarded_and_its_verdict_sealed_with_what_opened_it() {
    for (token, key) in [("QDG6eK", KEY), ("new", OTHER_KEY)] {
        let sent = Sent { token, key, ..Sent::bind() };
        let (job, waiting) = sent.first();
        let request = job.request(NOW_MS).unwrap();
        assert_eq!((request.cluster, request.timeout_ms), ("decision", 900));
        assert_eq!(request.body, sent.message.as_bytes(), "byte for byte");
        assert_eq!(
            request.headers,
            [
                (":method", "POST"),
                (":path", "/bind?x"),
                (":authority", "decision.internal"),
                ("content-type", "application/json"),
                ("x-envoy-max-retries", "0"),
                ("x-wecom-event", "bind"),
                ("x-wecom-req-id", "r1"),
                ("x-wecom-receive-id", ID),
                ("idempotency-key", "r1"),
                ("x-request-id", "rid-1"),
                ("traceparent", "00-abc"), // b3 is not printable
            ]
        );
        assert!(!waiting.is_copy());
        let (answer, report) = sealed(waiting.concluded(ended_well(&job, br#"{"errcode":4}"#)));
        assert_eq!(read(&answer, key), (200, r#"{"errcode":4,"errmsg":"设备验证码校验不通过"}"#.to_owned()));
        assert_eq!((report.outcome, report.facts.errcode), (Outcome::Refused, Some(4)));
        assert_eq!(report.to_string(), "refused endpoint=lock event=bind req_id=r1 errcode=4 request_id=rid-1");
        let state: Vec<_> = report.filter_state().map(|(name, value)| (name, value.into_owned())).collect();
        let expected = [
            ("wecom_outcome", "refused"),
            ("wecom_event", "bind"),
            ("wecom_req_id", "r1"),
            ("wecom_device_sn", "sn1"),
            ("wecom_errcode", "4"),
        ];
        assert_eq!(state, expected.map(|(name, value)| (name, value.to_owned())));
    }
}

#[test]
fn a_value_that_is_not_presentable_is_no_header_and_not_shown() {
    for value in ["", " r1", "r\n1", "r\u{e9}", &"r".repeat(129)] {
        let (job, waiting) = bind_with("/base_info/req_id", json!(value)).first();
        let named = |name: &str| job.request(NOW_MS).unwrap().headers.iter().any(|(known, _)| *known == name);
        assert!(!named("idempotency-key") && !named("x-wecom-req-id") && named("x-wecom-event"));
        assert_eq!(waiting.context.facts.req_id, None);
    }
    let (_, path) = Sent::bind().sealed();
    let nameless = Addressed::find(&config(), path.as_bytes()).unwrap();
    let head = Head { request_id: Some(b"\xff"), ..post() };
    let reading = goes_on(nameless.begin(&head, Now::at(NOW_MS)));
    let Claimed::Call { job, .. } =
        goes_on(reading.complete(&Sent::bind().reading().1, Now::at(NOW_MS))).claimed(won(), NOW_MS)
    else {
        panic!("no call");
    };
    assert!(job.request(NOW_MS).unwrap().headers.iter().all(|(name, _)| *name != "x-request-id"));
}

#[test]
fn a_bind_that_failed_is_errcode_7() {
    let (job, waiting) = Sent::bind().first();
    let report = says(waiting.concluded(job.conclude(None, 900, 900)), FAIL_CLOSED, Outcome::UpstreamTimeout);
    assert_eq!(report.facts.errcode, Some(7));
    assert_eq!(
        report.to_string(),
        "upstream_timeout endpoint=lock event=bind req_id=r1 errcode=7 request_id=rid-1 \
         cluster 'decision' had begun to answer and not finished after 900 ms"
    );
}

#[test]
fn a_table_without_room_or_store_fails_closed() {
    for (claim, outcome) in [(Claim::Full, Outcome::RecordFull), (Claim::Unavailable, Outcome::RecordUnavailable)] {
        says(Sent::bind().ended(claim), FAIL_CLOSED, outcome);
    }
}

#[test]
fn another_callback_is_relayed_or_refused_in_its_own_terms() {
    let relay = |event: &str, body: Option<&'static [u8]>| {
        let (job, waiting) = Sent::new(message("command", event)).first();
        assert_eq!(job.request(NOW_MS).unwrap().cluster, "backend");
        let conclusion = match body {
            Some(body) => ended_well(&job, body),
            None => job.conclude(None, 1, 900),
        };
        waiting.concluded(conclusion)
    };
    let report =
        says(relay("user_scan", Some(br#"{"online_status":1}"#)), r#"{"online_status":1}"#, Outcome::Delivered);
    assert_eq!(report.facts.errcode, None);
    for body in [&b""[..], b"success"] {
        let (taken, report) = sealed(relay("unbind", Some(body)));
        assert_eq!((taken.status, taken.body.as_slice(), taken.headers), (200, &b"success"[..], TEXT));
        assert_eq!(report.to_string(), "delivered endpoint=lock event=unbind req_id=r1 errcode=- request_id=rid-1");
    }
    says(relay("user_scan", None), r#"{"online_status":2}"#, Outcome::UpstreamUnreachable);
    says(relay("verify_device", None), r#"{"is_valid":false}"#, Outcome::UpstreamUnreachable);
    for (_, event) in EventType::ALL.into_iter().filter(|(event, _)| event.refusal().is_none()) {
        rejected(relay(event, None), 503, "upstream_unreachable");
    }
}

#[test]
fn a_duplicate_is_answered_as_the_first_was() {
    says(Sent::bind().ended(Claim::Settled(verdict(0))), OK, Outcome::Duplicate);
    says(Sent::bind().ended(Claim::Settled(Reply::Failed)), FAIL_CLOSED, Outcome::Duplicate);
}

#[test]
fn no_record_makes_a_bind_succeed_without_a_verdict() {
    for relayed in [Relayed::Success, Relayed::Object(b"{}".to_vec())] {
        says(Sent::bind().ended(Claim::Settled(Reply::Relayed(relayed))), FAIL_CLOSED, Outcome::Duplicate);
    }
    // Nor is a verdict anything to another callback.
    rejected(Sent::unbind().ended(Claim::Settled(verdict(0))), 503, "duplicate");
}

#[test]
fn the_conclusion_of_another_type_says_nothing_about_a_bind() {
    let (_, waiting) = Sent::bind().first();
    let conclusion = Conclusion {
        reply: Reply::Relayed(Relayed::Success),
        outcome: Outcome::Delivered,
        reason: "".into(),
        is_kept: true,
    };
    says(waiting.concluded(conclusion), FAIL_CLOSED, Outcome::UpstreamReply);
}

#[test]
fn without_random_numbers_the_answer_is_503() {
    let (answer, report) = answered(Sent::bind().ended(Claim::Unavailable).seal(NOW_MS, || None));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, body), (503, json!({ "error": "seal_failed", "request_id": "rid-1" })));
    assert_eq!((report.outcome, report.facts.errcode), (Outcome::SealFailed, None));
}

// ---- Awkward orders.

#[test]
fn a_body_that_never_begins_is_answered() {
    let (reading, _) = Sent::bind().reading();
    assert!(!reading.is_due(NOW_MS + FIRST_BYTE_MS - 1) && reading.is_due(NOW_MS + FIRST_BYTE_MS));
    assert_eq!(rejected(reading.give_up(true), 503, "no_body").reason, NO_BODY);
    let report = rejected(Sent::bind().reading().0.give_up(false), 503, "no_body");
    assert!(report.reason.contains("allow_on_headers_stop_iteration: true"), "{report}");
    let (reading, body) = Sent::bind().reading();
    let reading = goes_on(reading.buffered(1));
    assert!(!reading.is_due(NOW_MS + 60_000), "a slow sender is Envoy's to time out");
    goes_on(reading.complete(&body, Now::at(NOW_MS)));
}

#[test]
fn a_client_that_leaves_is_reported_with_what_was_known() {
    let (reading, _) = Sent::bind().reading();
    let report = reading.gone();
    assert_eq!((report.outcome, report.facts.event), (Outcome::ClientGone, EventType::Other));
    assert_eq!(report.level, Level::Debug, "nothing shows that it was WeCom");
    let Break(report) = Sent::bind().copy(true).gone() else { panic!("a copy has nothing left to wait for") };
    assert_eq!((report.outcome, report.facts.event, report.level), (Outcome::ClientGone, EventType::Bind, Level::Warn));
    assert_eq!(report.facts.device_sn.as_deref(), Some("sn1"));
}

#[test]
fn a_bind_that_is_decided_after_its_client_left_is_reported_as_decided_and_not_answered() {
    for (body, outcome, errcode, reason) in [
        (&br#"{"errcode":4}"#[..], Outcome::Refused, 4, "its client had left"),
        (b"[]", Outcome::UpstreamReply, 7, "an object, after 1 ms; its client had left"),
    ] {
        let (job, waiting) = Sent::bind().first();
        let Continue((left, waiting)) = waiting.gone() else { panic!("its call goes on") };
        assert_eq!((left.outcome, left.facts.errcode), (Outcome::ClientGone, None));
        let ended = waiting.concluded(ended_well(&job, body));
        assert!(ended.client_left());
        let (ending, report) = ended.seal(NOW_MS, || panic!("nobody to seal for"));
        assert_eq!(ending, Ending::Gone);
        assert_eq!((report.outcome, report.facts.errcode, report.level), (outcome, Some(errcode), Level::Warn));
        assert!(report.reason.ends_with(reason), "{report}");
    }
    let (_, waiting) = Sent::unbind().first();
    let Continue((_, waiting)) = waiting.gone() else { panic!("its call goes on") };
    let (ending, report) = ends(waiting.told(None, NOW_MS + 999_999)).seal(NOW_MS, || None);
    assert_eq!((ending, report.outcome, report.facts.errcode), (Ending::Gone, Outcome::Deadline, None));
}

#[test]
fn the_log_line_has_the_request_id_that_the_caller_was_told() {
    let line = |request_id: &[u8]| {
        let (_, path) = Sent::bind().sealed();
        let head = Head { method: b"PUT", request_id: Some(request_id), ..Head::default() };
        let (_, report) = ends(begin(&config(), &path, &head)).seal(NOW_MS, || None);
        report.to_string()
    };
    assert_eq!(
        line(b"rid-1"),
        "bad_method endpoint=lock event=other req_id=- errcode=- request_id=rid-1 neither GET nor POST"
    );
    for odd in [&b""[..], b"a b", b"\xff", &[b'x'; 129]] {
        assert!(line(odd).contains(" request_id=- neither"), "{odd:?}");
    }
}

#[test]
fn a_call_that_never_ends_is_given_up_at_the_deadline() {
    let (_, waiting) = Sent::bind().first();
    let deadline_ms = NOW_MS + 900 + CALL_GRACE_MS;
    assert!(!waiting.is_due(deadline_ms - 1) && waiting.is_due(deadline_ms), "the call's own timer comes first");
    let waiting = goes_on(waiting.told(None, deadline_ms - 1));
    let waiting = goes_on(waiting.told(Some(Standing::Absent), deadline_ms - 1)); // its own call will tell
    says(ends(waiting.told(None, deadline_ms)), FAIL_CLOSED, Outcome::Deadline);
}

#[test]
fn nobody_waits_longer_than_wecom_does() {
    let mut settings = settings();
    settings["endpoints"][0]["decision"]["timeout_ms"] = 2800.into();
    let (begun, body) = Sent::bind().begin_under(&config_of(&settings));
    let claiming = goes_on(goes_on(begun).complete(&body, Now::at(NOW_MS)));
    assert_eq!(claiming.call_within_ms(), 2800 + CALL_GRACE_MS);
    let Claimed::Call { waiting, .. } = claiming.claimed(won(), NOW_MS) else { panic!("no call") };
    assert!(!waiting.is_due(NOW_MS + ANSWER_WITHIN_MS - 1) && waiting.is_due(NOW_MS + ANSWER_WITHIN_MS));
}

#[test]
fn time_counts_from_the_headers() {
    // The body takes 2 s: the call gets what is left.
    let slow = |ms: u64| {
        let (reading, body) = Sent::bind().reading();
        goes_on(reading.buffered(1)).complete(&body, Now::at(NOW_MS + ms))
    };
    let Claimed::Call { job, waiting, .. } = goes_on(slow(2000)).claimed(won(), NOW_MS + 2000) else {
        panic!("no call")
    };
    let latest_ms = NOW_MS + ANSWER_WITHIN_MS;
    assert_eq!(job.request(NOW_MS + 2000).unwrap().timeout_ms, 850);
    assert_eq!(job.request(NOW_MS + 1000).unwrap().timeout_ms, 900, "never more than is configured");
    assert_eq!(job.request(latest_ms - 1).unwrap().timeout_ms, 1);
    assert!(job.request(latest_ms).is_none(), "it is not sent any more");
    assert!(!waiting.is_due(latest_ms - 1) && waiting.is_due(latest_ms));
    // What is complete only after that is not even claimed.
    goes_on(slow(ANSWER_WITHIN_MS - 1));
    says(ends(slow(ANSWER_WITHIN_MS)), FAIL_CLOSED, Outcome::Deadline);
    let (reading, _) = Sent::bind().reading();
    rejected(ends(reading.complete(b"{}", Now::at(latest_ms))), 400, "bad_envelope");
}

#[test]
fn a_claim_may_be_answered_later_than_it_was_asked() {
    let claiming = goes_on(Sent::bind().complete());
    let Claimed::Call { waiting, .. } = claiming.claimed(won(), NOW_MS + 400) else { panic!("no call") };
    assert!(!waiting.is_due(NOW_MS + 400 + 900 + CALL_GRACE_MS - 1));
}

#[test]
fn a_copy_in_flight_gets_the_first_ones_answer() {
    let waiting = || Sent::bind().copy(true);
    assert!(waiting().is_copy());
    assert!(!waiting().is_due(NOW_MS + 899) && waiting().is_due(NOW_MS + 900));
    says(ends(waiting().settled(verdict(0))), OK, Outcome::DuplicateInFlight);
    says(ends(waiting().told(Some(Standing::Settled(verdict(0))), NOW_MS)), OK, Outcome::DuplicateInFlight);
    // It is told what it looked for even at its deadline.
    says(ends(waiting().told(Some(Standing::Settled(verdict(0))), NOW_MS + 900)), OK, Outcome::DuplicateInFlight);
}

#[test]
fn the_first_is_told_by_its_own_call_and_by_nothing_else() {
    let (job, waiting) = Sent::bind().first();
    let waiting = goes_on(waiting.settled(verdict(0)));
    let waiting = goes_on(waiting.told(Some(Standing::Settled(verdict(0))), NOW_MS));
    says(waiting.concluded(ended_well(&job, br#"{"errcode":4}"#)), REFUSED, Outcome::Refused);
}

#[test]
fn a_copy_looks_once_more_at_its_deadline_and_then_fails_closed() {
    for standing in [Some(Standing::InFlight), Some(Standing::Absent), None] {
        let waiting = Sent::bind().copy(true);
        says(ends(waiting.told(standing, NOW_MS + 900)), FAIL_CLOSED, Outcome::Deadline);
    }
}

#[test]
fn a_copy_that_nobody_will_tell_keeps_looking() {
    let mut waiting = Sent::bind().copy(false);
    for ms in [50, 100] {
        assert!(waiting.is_due(NOW_MS + ms));
        waiting = goes_on(waiting.told(Some(Standing::InFlight), NOW_MS + ms));
    }
    waiting = goes_on(waiting.told(None, NOW_MS + 150));
    let report = says(
        ends(waiting.told(Some(Standing::Settled(verdict(1))), NOW_MS + 200)),
        r#"{"errcode":1,"errmsg":"设备离线，请检查设备网络连接后重试"}"#,
        Outcome::DuplicateInFlight,
    );
    assert_eq!(report.facts.errcode, Some(1));
    // Given up meanwhile: the first one failed.
    rejected(ends(Sent::unbind().copy(false).told(Some(Standing::Absent), NOW_MS + 50)), 503, "duplicate_in_flight");
}

#[test]
fn a_copy_is_known_by_what_is_encrypted_alone() {
    let name = |sent: &Sent| goes_on(sent.complete()).name();
    let first = name(&Sent::bind());
    assert_eq!(first, name(&Sent { timestamp: NOW + 5, token: "new", key: OTHER_KEY, ..Sent::bind() }));
    assert_ne!(first, name(&bind_with("/base_info/req_id", json!("r2"))));
    assert_eq!(first, name(&Sent { path: "/elsewhere", ..Sent::bind() }), "whatever URL it comes to");
    let other_id = Sent { receive_id: OTHER_ID, ..bind_with("/base_info/model_id", json!(OTHER_ID)) };
    assert_ne!(first, name(&other_id), "a request id is one of its receiver's");
    let mut nameless = message("event", "bind");
    nameless["base_info"]["req_id"] = json!(null);
    let without_id = name(&Sent::new(&nameless));
    assert_eq!(without_id, name(&Sent::new(&nameless)), "the whole message stands in");
    nameless["event"]["auth_code"] = json!("b");
    assert_ne!(without_id, name(&Sent::new(&nameless)));
}

#[test]
fn nothing_shown_holds_a_secret() {
    let report = rejected(ends(Sent { receive_id: "someoneelse", ..Sent::bind() }.complete()), 403, "bad_receive_id");
    assert_eq!(report.reason, "addressed to someoneelse, which is not accepted here");
    // As by an altered length field: what looks like an id is a piece of the message.
    for message in [r#"{"event":{"auth_code":""#, "", "[1]"] {
        let sent = Sent { receive_id: "secretcode", ..Sent::new(message) };
        let (reading, body) = sent.reading();
        let report = rejected(ends(reading.complete(&body, Now::at(NOW_MS))), 403, "bad_receive_id");
        assert!(!report.reason.contains("secretcode"), "{report}");
    }
    // What stands there instead of an id, as after a wrong length, may be a piece of the message.
    for no_id in ["密", "", "a b", "code\",\"verif_code\":\"123456\"}}2000000000000001", &"a".repeat(65)] {
        let no_id: &'static str = no_id.to_owned().leak();
        let report = rejected(ends(Sent { receive_id: no_id, ..Sent::bind() }.complete()), 403, "bad_receive_id");
        assert_eq!(report.reason, "addressed to something that is not an id, which is not accepted here");
    }
    let shown = format!("{report:?} {:?}", config());
    assert!(!shown.contains("QDG6eK") && !shown.contains(&KEY[..8]) && !shown.contains("auth_code"), "{shown}");
}

#[test]
fn an_id_that_is_not_accepted_is_shown_if_it_looks_like_one() {
    for id in ["someoneelse", "ww_12-34", "-", "_", &"A9".repeat(32)] {
        let id: &'static str = id.to_owned().leak();
        let report = rejected(ends(Sent { receive_id: id, ..Sent::bind() }.complete()), 403, "bad_receive_id");
        assert_eq!(report.reason, format!("addressed to {id}, which is not accepted here"));
    }
}

#[test]
fn only_the_first_goes_on_without_its_client_and_its_end_says_so() {
    let (job, waiting) = Sent::bind().first();
    assert!(!waiting.concluded(ended_well(&job, OK.as_bytes())).client_left());
    let (job, waiting) = Sent::bind().first();
    let Continue((_, waiting)) = waiting.gone() else { panic!("its call has not ended") };
    assert!(waiting.concluded(ended_well(&job, OK.as_bytes())).client_left());
    assert!(Sent::bind().copy(true).gone().is_break());
}
