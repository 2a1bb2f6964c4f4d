//! Every row of the contract's table of answers, and the awkward orders of events.
#![allow(clippy::restriction)]

use serde_json::{Value, json};

use super::*;
use crate::callout::Response;
use crate::wecom::cipher;
use crate::wecom::credential::{Credential, EncodingAesKey, Token};
use crate::wecom::signature::Signature;

const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
const OTHER_KEY: &str = "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR";
const ID: &str = "2000000000000001";
const NOW: u64 = 1_658_332_800;
const FAIL_CLOSED: &str = r#"{"errcode":7,"errmsg":"设备当前无法绑定，请稍后重试或联系设备厂商处理"}"#;

// ---- The two sides of an exchange.

fn config() -> Rc<Config> {
    let config = json!({
        "endpoints": [{
            "path": "/suite/receive",
            "name": "lock",
            "receive_ids": [ID],
            "verify_receive_ids": ["wwservicecorp0001"],
            "credentials": [{"token": "new", "encoding_aes_key": OTHER_KEY}, {"token": "QDG6eK", "encoding_aes_key": KEY}],
            "decision": {"cluster": "decision", "timeout_ms": 900},
            "events": {"cluster": "backend", "timeout_ms": 500},
        }],
        "max_body_bytes": 4096,
    });
    Rc::new(Config::parse(config.to_string().as_bytes(), &|_| None).unwrap())
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

    fn sealed(&self) -> (String, String) {
        let credential = credential(self.token, self.key);
        let encrypt =
            cipher::seal(&credential.encoding_aes_key, [7; 16], self.message.as_bytes(), self.receive_id.as_bytes());
        let encrypt = encrypt.unwrap();
        let timestamp = self.timestamp.to_string();
        let signature = Signature::sign(&credential.token, &timestamp, "n1", &encrypt).to_hex();
        (encrypt, format!("{}?msg_signature={signature}&timestamp={timestamp}&nonce=n1", self.path))
    }

    fn begin(&self) -> (Exchange, Effect, Vec<u8>) {
        let (encrypt, path) = self.sealed();
        let head = Head {
            method: self.method.as_bytes(),
            path: path.as_bytes(),
            request_id: Some(b"rid-1"),
            trace: vec![("traceparent", b"00-abc"), ("b3", b"\xff")],
            ..Head::default()
        };
        let (exchange, effect) = Exchange::begin(&config(), &head, &at(0)).unwrap();
        (exchange, effect, json!({ "tousername": "x", "encrypt": encrypt }).to_string().into_bytes())
    }

    /// The exchange with its whole body in.
    fn complete(&self) -> (Exchange, Effect) {
        let (mut exchange, effect, body) = self.begin();
        assert!(matches!(effect, Effect::Wait), "answered too early");
        let effect = exchange.handle(Event::Body(&body), &at(0));
        (exchange, effect)
    }

    /// The exchange with its claim answered.
    fn claimed(&self, claim: &Claim) -> (Exchange, Effect) {
        let (mut exchange, effect) = self.complete();
        assert!(matches!(effect, Effect::Claim { .. }), "{}", shown(&effect));
        let effect = exchange.handle(Event::Claimed(claim), &at(0));
        (exchange, effect)
    }
}

fn message(kind: &str, event_type: &str) -> Value {
    json!({
        "msg_type": kind,
        "base_info": {"req_id": "r1", "device_sn": "sn1", "createtime": NOW, "model_id": ID, "service_corpid": "s"},
        kind: {format!("{kind}_type"): event_type, "auth_code": "a"},
    })
}

fn at(ms: u64) -> Surroundings {
    Surroundings { now_ms: NOW * 1000 + ms, random: || Some([3; 24]) }
}

fn without_random() -> Surroundings {
    Surroundings { random: || None, ..at(0) }
}

fn answer(effect: Effect) -> Answer {
    match effect {
        Effect::Answer(answer) => answer,
        other => panic!("no answer, but {}", shown(&other)),
    }
}

fn shown(effect: &Effect) -> &'static str {
    match effect {
        Effect::Wait => "wait",
        Effect::Claim { .. } => "claim",
        Effect::Look => "look",
        Effect::Call(_) => "call",
        Effect::Answer(_) => "answer",
    }
}

/// What WeCom reads out of an answer: the status, and the plaintext of a sealed body.
fn read(answer: &Answer, key: &str) -> (u32, String) {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let Ok(envelope) = serde_json::from_str::<Value>(&text) else { return (answer.status, text) };
    let Some(encrypt) = envelope["encrypt"].as_str() else { return (answer.status, text) };
    let token = Token::parse(if key == KEY { "QDG6eK" } else { "new" }).unwrap();
    let field = |name: &str| envelope[name].as_str().unwrap().to_owned();
    let signature = Signature::sign(&token, &field("timestamp"), &field("nonce"), encrypt);
    assert_eq!(signature.to_hex(), field("msgsignature"));
    let ciphertext = cipher::Ciphertext::parse(encrypt.to_owned()).unwrap();
    let plaintext = cipher::open(&EncodingAesKey::parse(key).unwrap(), &ciphertext).unwrap();
    assert_eq!(plaintext.receive_id, ID.as_bytes());
    (answer.status, String::from_utf8(plaintext.message).unwrap())
}

fn rejected(effect: Effect, status: u32, word: &str) {
    let answer = answer(effect);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body), (status, &json!({"error": word, "request_id": "rid-1"})), "{}", answer.reason);
    assert_eq!(answer.outcome.name(), word);
}

fn ended_well(body: &'static [u8]) -> Option<Response<'static>> {
    Some(Response { status: b"200", framed: true, body })
}

// ---- The table of answers, row by row.

#[test]
fn another_path_is_not_ours() {
    for path in
        ["/", "/suite/receive/", "/suite/receive;x", "/Suite/receive", "/suite%2freceive", "//suite/receive", ""]
    {
        let head = Head { method: b"POST", path: path.as_bytes(), ..Head::default() };
        assert!(Exchange::begin(&config(), &head, &at(0)).is_none(), "{path}");
    }
}

#[test]
fn a_url_verification_is_echoed() {
    for receive_id in [ID, "wwservicecorp0001"] {
        let (encrypt, path) = Sent { receive_id, ..Sent::new("7139691598513686239") }.sealed();
        let path = format!("{path}&echostr={}", encrypt.replace('+', "%2B"));
        let head = Head { method: b"GET", path: path.as_bytes(), end_of_stream: true, ..Head::default() };
        let (exchange, effect) = Exchange::begin(&config(), &head, &at(0)).unwrap();
        let answer = answer(effect);
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"7139691598513686239"[..]));
        assert_eq!(answer.headers, [("content-type", "text/plain")]);
        assert!(exchange.is_over());
    }
}

#[test]
fn a_url_verification_never_prints_a_plaintext() {
    let echo = |sent: Sent, word| {
        let (encrypt, path) = sent.sealed();
        let path = format!("{path}&echostr={encrypt}");
        let head = Head { method: b"GET", path: path.as_bytes(), request_id: Some(b"rid-1"), ..Head::default() };
        rejected(Exchange::begin(&config(), &head, &at(0)).unwrap().1, 403, word);
    };
    echo(Sent::bind(), "not_an_echo");
    echo(Sent::new(""), "not_an_echo");
    echo(Sent::new("1".repeat(65)), "not_an_echo");
    echo(Sent::new("12 3"), "not_an_echo");
    echo(Sent { receive_id: "someoneelse", ..Sent::new("123") }, "bad_receive_id");
    echo(Sent { timestamp: NOW - 601, ..Sent::new("123") }, "stale");
    echo(Sent { token: "forged", ..Sent::new("123") }, "bad_signature");
}

#[test]
fn other_methods_are_refused() {
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "get", "PATCH", "TRACE", ""] {
        let (_, effect, _) = Sent { method, ..Sent::bind() }.begin();
        assert!(answer(effect.clone()).headers.contains(&("allow", "GET, POST")));
        rejected(effect, 405, "bad_method");
    }
}

#[test]
fn misshapen_requests_are_refused() {
    let post = |path: &str| {
        let head = Head { method: b"POST", path: path.as_bytes(), request_id: Some(b"rid-1"), ..Head::default() };
        Exchange::begin(&config(), &head, &at(0)).unwrap().1
    };
    let (_, path) = Sent::bind().sealed();
    rejected(post("/suite/receive"), 400, "bad_query");
    rejected(post(&format!("{path}&nonce=n2")), 400, "bad_query");
    let head = |content_length, end_of_stream| {
        let head = Head {
            method: b"POST",
            path: path.as_bytes(),
            request_id: Some(b"rid-1"),
            content_length,
            end_of_stream,
            ..Head::default()
        };
        Exchange::begin(&config(), &head, &at(0)).unwrap().1
    };
    rejected(head(None, true), 400, "bad_envelope");
    for large in [&b"4097"[..], b"4294967296", b"99999999999999999999999"] {
        rejected(head(Some(large), false), 413, "body_too_large");
    }
    assert!(matches!(head(Some(b"4096"), false), Effect::Wait));

    let (mut exchange, _, _) = Sent::bind().begin();
    rejected(exchange.handle(Event::Body(b""), &at(0)), 400, "bad_envelope");
    let (mut exchange, _, _) = Sent::bind().begin();
    rejected(exchange.handle(Event::Body(br#"{"encrypt":"AAAA"}"#), &at(0)), 400, "bad_envelope");
    let (mut exchange, _, _) = Sent::bind().begin();
    rejected(exchange.handle(Event::Body(&[b' '; 4097]), &at(0)), 413, "body_too_large");
}

#[test]
fn a_body_that_grows_too_large_is_refused_before_its_end() {
    let (mut exchange, _, _) = Sent::bind().begin();
    assert!(matches!(exchange.handle(Event::Buffered(4096), &at(0)), Effect::Wait));
    rejected(exchange.handle(Event::Buffered(4097), &at(0)), 413, "body_too_large");
    assert!(matches!(exchange.handle(Event::Body(b"x"), &at(0)), Effect::Wait), "answered once");
}

#[test]
fn what_is_not_authentic_is_refused() {
    let refused = |sent: Sent, status, word| rejected(sent.complete().1, status, word);
    refused(Sent { token: "forged", ..Sent::bind() }, 403, "bad_signature");
    refused(Sent { timestamp: NOW - 601, ..Sent::bind() }, 403, "stale");
    refused(Sent { timestamp: NOW + 601, ..Sent::bind() }, 403, "stale");
    refused(Sent { key: OTHER_KEY, ..Sent::bind() }, 403, "bad_ciphertext");
    refused(Sent { receive_id: "someoneelse", ..Sent::bind() }, 403, "bad_receive_id");
    // Accepted for URL verification only.
    refused(Sent { receive_id: "wwservicecorp0001", ..Sent::bind() }, 403, "bad_receive_id");
    refused(Sent::new("{}"), 400, "not_a_callback");
    refused(Sent::new("7139691598513686239"), 400, "not_a_callback");
    refused(Sent::new(FAIL_CLOSED), 400, "not_a_callback");
    let with = |pointer: &str, value: Value| {
        let mut message = message("event", "bind");
        *message.pointer_mut(pointer).unwrap() = value;
        Sent::new(message)
    };
    refused(with("/base_info/model_id", json!("another")), 403, "bad_receive_id");
    refused(with("/base_info/createtime", json!(NOW - 601)), 403, "stale");
    refused(with("/base_info/createtime", json!(NOW + 601)), 403, "stale");
    refused(with("/base_info/createtime", json!(null)), 403, "stale");
    refused(with("/base_info/createtime", json!("1658332800")), 403, "stale");
    for age in [NOW - 600, NOW + 600] {
        let (_, effect) = with("/base_info/createtime", json!(age)).complete();
        assert!(matches!(effect, Effect::Claim { .. }));
    }
    let mut bare = message("event", "model_ticket");
    bare["base_info"].as_object_mut().unwrap().remove("createtime");
    assert!(matches!(Sent::new(bare).complete().1, Effect::Claim { .. }), "only a bind must have one");
}

#[test]
fn freshness_can_be_switched_off() {
    let mut config = Config::clone(&config());
    config.freshness_seconds = 0;
    let mut old = message("event", "bind");
    old["base_info"].as_object_mut().unwrap().remove("createtime");
    let (encrypt, path) = Sent { timestamp: 1_000_000_000, ..Sent::new(old) }.sealed();
    let head = Head { method: b"POST", path: path.as_bytes(), ..Head::default() };
    let (mut exchange, _) = Exchange::begin(&Rc::new(config), &head, &at(0)).unwrap();
    let body = json!({ "encrypt": encrypt }).to_string();
    assert!(matches!(exchange.handle(Event::Body(body.as_bytes()), &at(0)), Effect::Claim { .. }));
}

#[test]
fn a_bind_is_forwarded_and_its_verdict_sealed_with_what_opened_it() {
    for (token, key) in [("QDG6eK", KEY), ("new", OTHER_KEY)] {
        let sent = Sent { token, key, ..Sent::bind() };
        let (mut exchange, effect) = sent.claimed(&Claim::First);
        let Effect::Call(job) = effect else { panic!("no call") };
        assert_eq!(job.upstream().cluster, "decision");
        assert_eq!(job.body.as_slice(), sent.message.as_bytes(), "byte for byte");
        let header = |name: &str| job.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(header("x-wecom-event"), Some("bind"));
        assert_eq!(header("x-wecom-req-id"), Some("r1"));
        assert_eq!(header("idempotency-key"), Some("r1"));
        assert_eq!(header("x-wecom-receive-id"), Some(ID));
        assert_eq!(header("x-request-id"), Some("rid-1"));
        assert_eq!(header("traceparent"), Some("00-abc"));
        assert_eq!(header("b3"), None, "not presentable");
        let conclusion = job.conclude(ended_well(br#"{"errcode":4}"#), 5);
        let answer = answer(exchange.handle(Event::Concluded(&conclusion), &at(5)));
        assert_eq!(read(&answer, key), (200, r#"{"errcode":4,"errmsg":"设备验证码校验不通过"}"#.to_owned()));
        assert_eq!(answer.outcome, Outcome::Refused);
        assert_eq!(exchange.facts().errcode, Some(4));
        assert_eq!(exchange.facts().device_sn.as_deref(), Some("sn1"));
    }
}

#[test]
fn a_value_that_is_not_presentable_is_no_header() {
    for value in ["", " r1", "r\n1", "r\u{e9}", &"r".repeat(129)] {
        let mut message = message("event", "bind");
        message["base_info"]["req_id"] = json!(value);
        let Effect::Call(job) = Sent::new(message).claimed(&Claim::First).1 else { panic!("no call") };
        assert!(job.headers.iter().all(|(name, _)| name != "idempotency-key" && name != "x-wecom-req-id"));
    }
}

#[test]
fn a_bind_that_failed_is_errcode_7() {
    let (mut exchange, effect) = Sent::bind().claimed(&Claim::First);
    let Effect::Call(job) = effect else { panic!("no call") };
    let conclusion = job.conclude(None, 900);
    let answer = answer(exchange.handle(Event::Concluded(&conclusion), &at(900)));
    assert_eq!(read(&answer, KEY), (200, FAIL_CLOSED.to_owned()));
    assert_eq!((answer.outcome, exchange.facts().errcode), (Outcome::UpstreamTimeout, Some(7)));
}

#[test]
fn a_record_without_room_or_store_fails_closed() {
    for (claim, outcome) in [(Claim::Full, Outcome::RecordFull), (Claim::Unavailable, Outcome::RecordUnavailable)] {
        let (_, effect) = Sent::bind().claimed(&claim);
        let answer = answer(effect);
        assert_eq!((read(&answer, KEY), answer.outcome), ((200, FAIL_CLOSED.to_owned()), outcome));
    }
}

#[test]
fn another_callback_is_relayed_or_refused_in_its_own_terms() {
    let relay = |event: &str, response: Option<Response<'_>>| {
        let (mut exchange, effect) = Sent::new(message("command", event)).claimed(&Claim::First);
        let Effect::Call(job) = effect else { panic!("no call") };
        assert_eq!(job.upstream().cluster, "backend");
        let conclusion = job.conclude(response, 1);
        answer(exchange.handle(Event::Concluded(&conclusion), &at(1)))
    };
    let object = relay("user_scan", ended_well(br#"{"online_status":1}"#));
    assert_eq!(read(&object, KEY), (200, r#"{"online_status":1}"#.to_owned()));
    for body in [&b""[..], b"success"] {
        let taken = relay("unbind", ended_well(body));
        assert_eq!((taken.status, taken.body.as_slice()), (200, &b"success"[..]));
    }
    assert_eq!(read(&relay("user_scan", None), KEY), (200, r#"{"online_status":2}"#.to_owned()));
    assert_eq!(read(&relay("verify_device", None), KEY), (200, r#"{"is_valid":false}"#.to_owned()));
    for (_, event) in EventType::ALL.into_iter().filter(|(event, _)| event.refusal().is_none()) {
        rejected(Effect::Answer(relay(event, None)), 503, "upstream_unreachable");
    }
}

#[test]
fn a_duplicate_is_answered_as_the_first_was() {
    let verdict = Reply::Verdict(Verdict::new(0, None)).encode();
    let (exchange, effect) = Sent::bind().claimed(&Claim::Recorded(verdict));
    let sealed = answer(effect);
    assert_eq!(read(&sealed, KEY), (200, r#"{"errcode":0,"errmsg":"ok"}"#.to_owned()));
    assert!(sealed.outcome == Outcome::Duplicate && exchange.is_copy());
    let failed = answer(Sent::bind().claimed(&Claim::Recorded(Reply::Failed.encode())).1);
    assert_eq!(read(&failed, KEY), (200, FAIL_CLOSED.to_owned()));
    let never_came_back = answer(Sent::bind().claimed(&Claim::Recorded(Vec::new())).1);
    assert_eq!(read(&never_came_back, KEY), (200, FAIL_CLOSED.to_owned()));
}

#[test]
fn no_record_makes_a_bind_succeed_without_a_verdict() {
    for reply in [Reply::Success, Reply::Object(b"{}".to_vec())] {
        let answer = answer(Sent::bind().claimed(&Claim::Recorded(reply.encode())).1);
        assert_eq!(read(&answer, KEY), (200, FAIL_CLOSED.to_owned()));
    }
}

#[test]
fn the_conclusion_of_another_type_says_nothing_about_a_bind() {
    let (mut exchange, _) = Sent::bind().claimed(&Claim::First);
    let conclusion = Conclusion { reply: Reply::Success, outcome: Outcome::Delivered };
    let answer = answer(exchange.handle(Event::Concluded(&conclusion), &at(1)));
    assert_eq!((read(&answer, KEY), answer.outcome), ((200, FAIL_CLOSED.to_owned()), Outcome::UpstreamReply));
}

#[test]
fn without_random_numbers_the_answer_is_503() {
    let (mut exchange, _) = Sent::bind().complete();
    rejected(exchange.handle(Event::Claimed(&Claim::Unavailable), &without_random()), 503, "seal_failed");
}

// ---- Awkward orders.

#[test]
fn a_body_in_pieces_is_read_once_whole() {
    let (mut exchange, _, body) = Sent::bind().begin();
    for size in [1, 2, body.len()] {
        assert!(matches!(exchange.handle(Event::Buffered(size), &at(0)), Effect::Wait));
    }
    assert!(matches!(exchange.handle(Event::Body(&body), &at(0)), Effect::Claim { .. }));
    assert!(matches!(exchange.handle(Event::Body(&body), &at(0)), Effect::Wait), "trailers after the last byte");
}

#[test]
fn a_body_that_never_begins_is_answered() {
    let (mut exchange, _, _) = Sent::bind().begin();
    assert!(matches!(exchange.handle(Event::Tick, &at(FIRST_BYTE_MS - 1)), Effect::Wait));
    rejected(exchange.handle(Event::Tick, &at(FIRST_BYTE_MS)), 503, "no_body");
    let (mut exchange, _, _) = Sent::bind().begin();
    exchange.handle(Event::Buffered(1), &at(0));
    assert!(matches!(exchange.handle(Event::Tick, &at(60_000)), Effect::Wait), "a slow sender is Envoy's to time out");
}

#[test]
fn a_client_that_leaves_ends_the_exchange_and_nothing_else() {
    let (mut exchange, effect) = Sent::bind().claimed(&Claim::First);
    let Effect::Call(job) = effect else { panic!("no call") };
    assert!(matches!(exchange.handle(Event::Gone, &at(1)), Effect::Wait) && exchange.is_over());
    let conclusion = job.conclude(ended_well(br#"{"errcode":0}"#), 5);
    assert!(conclusion.is_kept(EventType::Bind), "the record learns the verdict all the same");
    assert!(matches!(exchange.handle(Event::Concluded(&conclusion), &at(5)), Effect::Wait));
}

#[test]
fn a_call_that_never_ends_is_given_up_at_the_deadline() {
    let (mut exchange, _) = Sent::bind().claimed(&Claim::First);
    assert!(matches!(exchange.handle(Event::Tick, &at(900)), Effect::Wait), "the call's own timer comes first");
    let answer = answer(exchange.handle(Event::Tick, &at(900 + CALL_GRACE_MS)));
    assert_eq!((read(&answer, KEY), answer.outcome), ((200, FAIL_CLOSED.to_owned()), Outcome::Deadline));
    let late = Conclusion { reply: Reply::Verdict(Verdict::new(0, None)), outcome: Outcome::Bound };
    assert!(matches!(exchange.handle(Event::Concluded(&late), &at(2000)), Effect::Wait), "one answer");
}

#[test]
fn nobody_waits_longer_than_wecom_does() {
    let mut config = Config::clone(&config());
    let mut endpoint = Endpoint::clone(&config.endpoints[0]);
    endpoint.decision.timeout_ms = 2800;
    config.endpoints = vec![Rc::new(endpoint)];
    let (encrypt, path) = Sent::bind().sealed();
    let head = Head { method: b"POST", path: path.as_bytes(), ..Head::default() };
    let (mut exchange, _) = Exchange::begin(&Rc::new(config), &head, &at(0)).unwrap();
    exchange.handle(Event::Body(json!({ "encrypt": encrypt }).to_string().as_bytes()), &at(0));
    exchange.handle(Event::Claimed(&Claim::First), &at(0));
    assert!(matches!(exchange.handle(Event::Tick, &at(LONGEST_WAIT_MS - 1)), Effect::Wait));
    assert_eq!(answer(exchange.handle(Event::Tick, &at(LONGEST_WAIT_MS))).outcome, Outcome::Deadline);
}

#[test]
fn a_copy_in_flight_gets_the_first_ones_answer() {
    let bound = Reply::Verdict(Verdict::new(0, None));
    let conclusion = Conclusion { reply: bound.clone(), outcome: Outcome::Bound };
    let looked = Claim::Recorded(bound.encode());
    for (event, ms) in [(Event::Concluded(&conclusion), 5), (Event::Settled(&bound), 5), (Event::Looked(&looked), 900)]
    {
        let (mut exchange, effect) = Sent::bind().claimed(&Claim::InFlight);
        assert!(matches!(effect, Effect::Wait));
        assert!(matches!(exchange.handle(Event::Tick, &at(ms - 1)), Effect::Wait));
        let answer = answer(exchange.handle(event, &at(ms)));
        assert_eq!(read(&answer, KEY), (200, r#"{"errcode":0,"errmsg":"ok"}"#.to_owned()));
        assert_eq!(answer.outcome, Outcome::DuplicateInFlight);
    }
}

#[test]
fn every_copy_of_a_callback_whose_answer_is_too_long_for_the_record_is_told_the_same() {
    let object = Reply::Object(vec![b'x'; 200]);
    let conclusion = Conclusion { reply: object.clone(), outcome: Outcome::Delivered };
    let (mut first, _) = Sent::new(message("event", "unbind")).claimed(&Claim::First);
    let sealed = answer(first.handle(Event::Concluded(&conclusion), &at(1)));
    assert_eq!(read(&sealed, KEY), (200, "x".repeat(200)));
    let recorded = Claim::Recorded(object.encode());
    let (mut here, _) = Sent::new(message("event", "unbind")).claimed(&Claim::InFlight);
    let (_, later) = Sent::new(message("event", "unbind")).claimed(&recorded);
    for effect in [here.handle(Event::Concluded(&conclusion), &at(1)), later] {
        assert_eq!(read(&answer(effect), KEY), (200, "success".to_owned()));
    }
}

#[test]
fn a_copy_looks_once_more_at_its_deadline_and_then_fails_closed() {
    for claim in [Claim::InFlight, Claim::First, Claim::Unavailable] {
        let (mut exchange, _) = Sent::bind().claimed(&Claim::InFlight);
        assert!(matches!(exchange.handle(Event::Tick, &at(899)), Effect::Wait));
        assert!(matches!(exchange.handle(Event::Tick, &at(900)), Effect::Look));
        let answer = answer(exchange.handle(Event::Looked(&claim), &at(900)));
        assert_eq!((read(&answer, KEY), answer.outcome), ((200, FAIL_CLOSED.to_owned()), Outcome::Deadline));
    }
}

#[test]
fn a_copy_that_nobody_will_tell_keeps_looking() {
    let (mut exchange, _) = Sent::bind().claimed(&Claim::InFlightUnheard);
    for ms in [50, 100] {
        assert!(matches!(exchange.handle(Event::Tick, &at(ms)), Effect::Look));
        assert!(matches!(exchange.handle(Event::Looked(&Claim::InFlight), &at(ms)), Effect::Wait));
    }
    assert!(matches!(exchange.handle(Event::Tick, &at(150)), Effect::Look));
    let recorded = Claim::Recorded(Reply::Verdict(Verdict::new(1, None)).encode());
    let sealed = answer(exchange.handle(Event::Looked(&recorded), &at(150)));
    assert_eq!(exchange.facts().errcode, Some(1));
    assert_eq!(sealed.outcome, Outcome::DuplicateInFlight);

    let (mut exchange, _) = Sent::new(message("event", "unbind")).claimed(&Claim::InFlightUnheard);
    exchange.handle(Event::Tick, &at(50));
    rejected(exchange.handle(Event::Looked(&Claim::First), &at(50)), 503, "duplicate_in_flight");
}

#[test]
fn a_copy_is_known_by_what_is_encrypted_alone() {
    let name = |sent: &Sent| match sent.complete().1 {
        Effect::Claim { name, .. } => name,
        other => panic!("{}", shown(&other)),
    };
    let first = name(&Sent::bind());
    assert_eq!(first, name(&Sent { timestamp: NOW + 5, token: "new", key: OTHER_KEY, ..Sent::bind() }));
    let mut other = message("event", "bind");
    other["base_info"]["req_id"] = json!("r2");
    assert_ne!(first, name(&Sent::new(&other)));
    other["base_info"]["req_id"] = json!(null);
    let nameless = name(&Sent::new(&other));
    assert_eq!(nameless, name(&Sent::new(&other)), "the whole message stands in");
    other["event"]["auth_code"] = json!("b");
    assert_ne!(nameless, name(&Sent::new(&other)));
}

#[test]
fn nothing_shown_holds_a_secret() {
    let (exchange, effect) = Sent { receive_id: "someoneelse", ..Sent::bind() }.complete();
    let answer = answer(effect);
    assert_eq!(answer.reason, "addressed to someoneelse, which is not accepted here");
    let shown = format!("{answer:?} {:?} {:?}", exchange.facts(), exchange.endpoint());
    assert!(!shown.contains("QDG6eK") && !shown.contains(&KEY[..8]) && !shown.contains("auth_code"), "{shown}");
}
