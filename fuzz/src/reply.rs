//! Upstreams' responses and records' contents: nothing binds but what says so, and the record
//! gives back what it was given.

use std::rc::Rc;

use serde_json::{Value, json};
use wecom_callback_filter::callout::{Job, MAX_RESPONSE_BYTES, Origin, Response};
use wecom_callback_filter::config::{Config, Endpoint};
use wecom_callback_filter::dedup::record;
use wecom_callback_filter::outcome::{Kind, Outcome};
use wecom_callback_filter::reply::{Relayed, Reply};
use wecom_callback_filter::wecom::callback::{Callback, EventType};
use wecom_callback_filter::wecom::cipher::Ciphertext;
use wecom_callback_filter::wecom::message::Signed;
use wecom_callback_filter::wecom::verdict::{MAX_ERRMSG_LEN, Verdict};

use crate::exchange::responses;
use crate::sealing::{CREDENTIALS, RECEIVE_IDS, ageless, credential, sealed};
use crate::target::{Seed, Target, seed};

/// Two bytes of choices, three of status, then a body, which is read as a record's content, too.
pub(crate) struct Replies;

impl Target for Replies {
    fn name(&self) -> &'static str {
        "reply"
    }

    fn run(&self, data: &[u8]) {
        reply(data);
    }

    fn seeds(&self) -> Vec<Seed> {
        responses::as_inputs().map(|(n, bytes)| seed(&format!("response-{n}"), bytes)).collect()
    }
}

fn reply(data: &[u8]) {
    let [choices, event, a, b, c, body @ ..] = data else { return };
    let event = EventType::ALL[usize::from(*event) % EventType::ALL.len()].0;
    let empty_is_success = choices & 1 != 0;
    let job = job(empty_is_success, event);
    let status = [*a, *b, *c];
    let status = &status[..3 - usize::from(choices >> 4 & 3)];
    let framed = choices & 2 != 0;
    let elapsed_ms = if choices & 4 != 0 { job.upstream().timeout_ms() } else { 0 };
    // Too large to be found byte by byte, so grown.
    let grown = if choices & 8 != 0 { [body, &vec![b' '; MAX_RESPONSE_BYTES]].concat() } else { Vec::new() };
    let body = if grown.is_empty() { body } else { &grown };

    let headers = responses::headers(status, framed);
    let conclusion = job.conclude(Some(Response::new(&headers, body)), elapsed_ms, job.upstream().timeout_ms());
    let ok = matches!(status, [b'2', _, _]) && body.len() <= MAX_RESPONSE_BYTES;
    let approval = (framed || status == b"204") && (body.is_empty() || body == b"success");
    assert!(conclusion.outcome.applies_to(event), "{event:?} {:?}", conclusion.outcome);
    match &conclusion.reply {
        Reply::Verdict(verdict) => {
            assert_eq!(event, EventType::Bind);
            if !(approval && empty_is_success && verdict.errcode() == 0) {
                assert!(ok && body.trim_ascii_start().starts_with(b"{"), "from nowhere: {verdict:?}");
                // The second reader refuses more, such as a number too large in a key that is ignored.
                if let Ok(read) = serde_json::from_slice::<Value>(body) {
                    assert_eq!(read["errcode"].as_u64(), Some(u64::from(verdict.errcode())));
                }
            }
            let expected = if verdict.errcode() == 0 { Outcome::Bound } else { Outcome::Refused };
            assert_eq!(conclusion.outcome, expected);
        }
        Reply::Relayed(Relayed::Object(object)) => {
            assert!(ok && event != EventType::Bind && object == body);
            assert!(body.trim_ascii_start().starts_with(b"{"));
        }
        Reply::Relayed(Relayed::Success) => assert!(ok && event != EventType::Bind && approval),
        Reply::Failed => assert!(matches!(conclusion.outcome.kind(), Kind::Failed(_))),
    }
    assert!(conclusion.is_kept || event != EventType::Bind && conclusion.reply == Reply::Failed);
    kept(&conclusion.reply);

    let none = job.conclude(None, elapsed_ms, job.upstream().timeout_ms());
    assert_eq!(none.reply, Reply::Failed);
    kept(&record::decode(body));
    if let Some(verdict) = Verdict::from_json(body) {
        kept(&Reply::Verdict(verdict));
    }
}

/// Written and read again it is the same, and a record has room for what it keeps.
fn kept(reply: &Reply) {
    assert_eq!(record::decode(&record::encode(reply)), *reply);
    for (event, _) in EventType::ALL {
        let kept = record::kept(reply, event);
        let bytes = record::encode(&kept).len();
        assert!(bytes <= record::MAX_REPLY_LEN, "{bytes} bytes");
        if kept != *reply {
            let refused = event.refusal().is_some() && kept == Reply::Failed;
            assert!(refused || kept == Reply::Relayed(Relayed::Success), "{kept:?}");
        }
    }
    if let Reply::Verdict(verdict) = reply {
        assert!(verdict.errmsg().len() <= MAX_ERRMSG_LEN);
        let json: Value = serde_json::from_slice(&verdict.to_json()).expect("no JSON");
        assert_eq!(json, json!({ "errcode": verdict.errcode(), "errmsg": verdict.errmsg() }));
    }
}

/// The call for an authentic callback of that type.
fn job(empty_is_success: bool, event: EventType) -> Job {
    let sealer = credential(1);
    let message = json!({ "event": { "event_type": event.name() } }).to_string();
    let (text, query) = sealed(&sealer, message.as_bytes());
    let ciphertext = Ciphertext::parse(text).expect("a ciphertext");
    let credentials = [sealer];
    let signed = Signed::verify(&query, &ciphertext, &credentials).expect("signed");
    let opened = signed.fresh(ageless()).expect("fresh").open(&RECEIVE_IDS.map(str::to_owned)).expect("opened");
    let authentic = Callback::read(opened).expect("a callback").authenticate(ageless()).expect("authentic");
    Job::new(endpoint(empty_is_success), authentic, &Origin::default(), u64::MAX).0
}

fn endpoint(empty_is_success: bool) -> Rc<Endpoint> {
    thread_local! {
        static ENDPOINTS: Vec<Rc<Endpoint>> = {
            let endpoint = |path, empty_is_success| {
                let (token, key) = CREDENTIALS[1];
                json!({
                    "path": path,
                    "receive_ids": RECEIVE_IDS,
                    "credentials": [{ "token": token, "encoding_aes_key": key }],
                    "decision": { "cluster": "decision", "empty_is_success": empty_is_success },
                })
            };
            let config = json!({ "endpoints": [endpoint("/no", false), endpoint("/yes", true)] });
            Config::parse(config.to_string().as_bytes(), &|_| None).expect("a configuration").endpoints().to_vec()
        };
    }
    ENDPOINTS.with(|endpoints| Rc::clone(&endpoints[usize::from(empty_is_success)]))
}
