//! What WeCom, or somebody who plays WeCom, sends: a callback with everything about it known.

use std::rc::Rc;

use serde_json::{Value, json};
use wecom_callback_filter::config::Config;
use wecom_callback_filter::exchange::Head;
use wecom_callback_filter::wecom::callback::EventType;
use wecom_callback_filter::wecom::cipher;
use wecom_callback_filter::wecom::credential::Credential;
use wecom_callback_filter::wecom::signature::Signature;

use crate::sealing::{RECEIVE_IDS, SECRET, credential};

/// The endpoints' paths.
pub(super) const PATHS: [&str; 2] = ["/suite/receive", "/other"];

const EVENTS: [(&str, &str); 8] = [
    ("event", "bind"),
    ("event", "bind"),
    ("event", "bind"),
    ("event", "unbind"),
    ("command", "user_scan"),
    ("command", "verify_device"),
    ("command", "enter_page"),
    ("event", "brand_new"),
];

/// What is wrong with a request, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    ForgedToken,
    WrongKey,
    OtherReceiveId,
    VerifyReceiveId,
    OldTimestamp,
    FutureTimestamp,
    OldCreatetime,
    FutureCreatetime,
    NoCreatetime,
    MalformedCreatetime,
    OtherModel,
    NoCallback,
    TwoTypes,
    NoNonce,
    TwoNonces,
    Put,
    OtherPath,
    NoBody,
    AnnouncedTooLarge,
    /// Envoy would answer it with an empty 200, whatever it is told.
    Grpc,
    /// A GET verification, which is none.
    Echo,
    EchoToVerifyId,
    /// A captured POST, sent again as GET.
    CapturedAsGet,
}

/// All but none.
pub(super) const FLAWS: [Flaw; 23] = [
    Flaw::ForgedToken,
    Flaw::WrongKey,
    Flaw::OtherReceiveId,
    Flaw::VerifyReceiveId,
    Flaw::OldTimestamp,
    Flaw::FutureTimestamp,
    Flaw::OldCreatetime,
    Flaw::FutureCreatetime,
    Flaw::NoCreatetime,
    Flaw::MalformedCreatetime,
    Flaw::OtherModel,
    Flaw::NoCallback,
    Flaw::TwoTypes,
    Flaw::NoNonce,
    Flaw::TwoNonces,
    Flaw::Put,
    Flaw::OtherPath,
    Flaw::NoBody,
    Flaw::AnnouncedTooLarge,
    Flaw::Echo,
    Flaw::EchoToVerifyId,
    Flaw::CapturedAsGet,
    Flaw::Grpc,
];

/// What must become of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is authentic: its record is claimed.
    Claimed,
    /// It is authentic and too late: it fails, unclaimed.
    Failed,
    /// It is reset, unanswered.
    Reset,
    /// Its digits are echoed.
    Echoed,
    /// It is refused with this status and the outcome's word.
    Refused(u32),
    /// It is refused for what only the decrypted message tells, without saying what.
    BadMessage,
}

/// What makes a callback a copy of another: its receive id, and its request id or, without one, its
/// whole message.
pub(super) type Identity = (&'static str, Result<String, Vec<u8>>);

/// One request.
pub(super) struct Sent {
    /// The choice that it was made from.
    pub(super) what: u8,
    pub(super) endpoint: usize,
    pub(super) event: EventType,
    /// Whether it asks for something to be done.
    pub(super) is_command: bool,
    pub(super) message: Vec<u8>,
    pub(super) credential: Rc<Credential>,
    pub(super) receive_id: &'static str,
    pub(super) identity: Identity,
    flaw: Flaw,
    pub(super) path: String,
    /// `x-request-id`, by which the calls for it are known.
    pub(super) request_id: String,
    body: Vec<u8>,
    timestamp: u64,
    createtime: u64,
}

impl Sent {
    /// The request that those choices mean, written at that time.
    pub(super) fn new(what: u8, flaw: u8, now: u64, number: usize) -> Self {
        // Most are what they should be, or nothing else would ever be tried.
        let flaw = usize::from(flaw).checked_sub(192).and_then(|n| FLAWS.get(n)).copied().unwrap_or(Flaw::None);
        let (kind, event) = EVENTS[usize::from(what & 7)];
        let endpoint = usize::from(what >> 3 & 1);
        let used = usize::from(what >> 4 & 1);
        let req_id = match what >> 5 & 3 {
            0 => json!("r1"),
            1 => json!("r2"),
            2 => json!("not presentable\n"),
            _ => Value::Null,
        };
        let receive_id = if what & 128 != 0 { RECEIVE_IDS[1] } else { RECEIVE_IDS[0] };
        // The same for a while, so that copies without a request id are copies.
        let createtime = match flaw {
            Flaw::OldCreatetime => now - 700,
            Flaw::FutureCreatetime => now + 700,
            _ => now - now % 64,
        };
        let mut message = json!({
            "base_info": {
                "req_id": &req_id, "device_sn": "sn1", "createtime": createtime,
                "model_id": RECEIVE_IDS[0], "service_corpid": RECEIVE_IDS[1],
            },
            kind: { format!("{kind}_type"): event, "auth_code": format!("{SECRET}code") },
        });
        match flaw {
            Flaw::NoCreatetime => message["base_info"]["createtime"] = Value::Null,
            Flaw::MalformedCreatetime => message["base_info"]["createtime"] = json!("soon"),
            Flaw::OtherModel => message["base_info"] = json!({ "createtime": createtime, "model_id": "another" }),
            // With nothing inside that would contradict it.
            Flaw::VerifyReceiveId => message["base_info"] = json!({ "createtime": createtime }),
            Flaw::NoCallback => message = json!({ "errcode": 0 }),
            Flaw::TwoTypes => {
                message["event"] = json!({ "event_type": "bind" });
                message["command"] = json!({ "command_type": "unbind" });
            }
            Flaw::Echo | Flaw::EchoToVerifyId => message = json!(1_616_140_317_555_161_061_u64),
            _ => {}
        }
        let message = message.to_string().into_bytes();
        let timestamp = match flaw {
            Flaw::OldTimestamp => now - 601,
            Flaw::FutureTimestamp => now + 100_000,
            _ => now,
        };
        let addressed = match flaw {
            Flaw::OtherReceiveId => "someoneelse",
            Flaw::VerifyReceiveId | Flaw::EchoToVerifyId => "wwverify",
            _ => receive_id,
        };
        let credential = credential(used);
        let (key, token) = match flaw {
            Flaw::WrongKey => (self::credential(1 - used), &credential.token),
            _ => (Rc::clone(&credential), &credential.token),
        };
        let encrypt = cipher::seal(&key.encoding_aes_key, [7; 16], &message, addressed.as_bytes()).expect("sealed");
        let time = timestamp.to_string();
        let signature = match flaw {
            Flaw::ForgedToken => Signature::sign(token, &time, "n2", &encrypt),
            _ => Signature::sign(token, &time, "n1", &encrypt),
        };
        let resource = if flaw == Flaw::OtherPath { "/suite/receive/" } else { PATHS[endpoint] };
        let mut path = format!("{resource}?msg_signature={}&timestamp={time}", signature.to_hex());
        match flaw {
            Flaw::NoNonce => {}
            Flaw::TwoNonces => path.push_str("&nonce=n1&nonce=n1"),
            _ => path.push_str("&nonce=n1"),
        }
        let body = json!({ "tousername": "x", "encrypt": encrypt }).to_string().into_bytes();
        if matches!(flaw, Flaw::Echo | Flaw::EchoToVerifyId | Flaw::CapturedAsGet) {
            path.push_str("&echostr=");
            path.extend(encrypt.bytes().map(|byte| format!("%{byte:02x}")));
        }
        let event = EventType::from_name(event);
        let request_id = format!("rid-{number}");
        let identity = (receive_id, req_id.as_str().map(str::to_owned).ok_or_else(|| message.clone()));
        Self {
            what,
            endpoint,
            event,
            is_command: kind == "command",
            message,
            credential,
            receive_id,
            identity,
            flaw,
            path,
            request_id,
            body,
            timestamp,
            createtime,
        }
    }

    /// Its headers.
    pub(super) fn head(&self) -> Head<'_> {
        Head {
            method: match self.flaw {
                Flaw::Put => b"PUT",
                Flaw::Echo | Flaw::EchoToVerifyId | Flaw::CapturedAsGet => b"GET",
                _ => b"POST",
            },
            content_length: (self.flaw == Flaw::AnnouncedTooLarge).then_some(b"4097"),
            content_type: (self.flaw == Flaw::Grpc).then_some(b"application/GRPC+proto"),
            request_id: Some(self.request_id.as_bytes()),
            trace: vec![("traceparent", b"00-abc"), ("b3", b"\xff")],
            end_of_stream: self.flaw == Flaw::NoBody,
        }
    }

    /// Its body in one of several states, and whether it is whole.
    pub(super) fn body(&self, choice: u8) -> (Vec<u8>, Result<(), u32>) {
        match choice {
            0..=247 => (self.body.clone(), Ok(())),
            248 => ([b"\xef\xbb\xbf", self.body.as_slice(), b"\n"].concat(), Ok(())),
            249 => (Vec::new(), Err(400)),
            250 => (self.body[..self.body.len() / 2].to_vec(), Err(400)),
            251 => (b"{}".to_vec(), Err(400)),
            252 => ([self.body.as_slice(), b"x"].concat(), Err(400)),
            253 => (br#"{"encrypt":"AAAA"}"#.to_vec(), Err(400)),
            254 => (vec![b' '; 4097], Err(413)),
            255 => (vec![b' '; 4096], Err(400)),
        }
    }

    /// Whether its path is none of ours.
    pub(super) fn passes(&self) -> bool {
        self.flaw == Flaw::OtherPath
    }

    /// What must become of its headers at once, if anything.
    pub(super) fn fate_of_head(&self, now: u64, config: &Config) -> Option<Fate> {
        match self.flaw {
            Flaw::Grpc => Some(Fate::Reset),
            Flaw::Put => Some(Fate::Refused(405)),
            Flaw::NoNonce | Flaw::TwoNonces | Flaw::NoBody => Some(Fate::Refused(400)),
            Flaw::AnnouncedTooLarge => Some(Fate::Refused(413)),
            Flaw::CapturedAsGet => Some(Fate::BadMessage),
            Flaw::Echo | Flaw::EchoToVerifyId if self.is_old(self.timestamp, now, config) => Some(Fate::Refused(403)),
            Flaw::Echo | Flaw::EchoToVerifyId => Some(Fate::Echoed),
            _ => None,
        }
    }

    /// What must become of it with its whole body there at that time.
    pub(super) fn fate(&self, now: u64, config: &Config) -> Fate {
        let checked = config.freshness_seconds() > 0;
        let known = self.event != EventType::Other;
        match self.flaw {
            Flaw::ForgedToken => Fate::Refused(403),
            _ if self.is_old(self.timestamp, now, config) => Fate::Refused(403),
            Flaw::WrongKey | Flaw::OtherReceiveId | Flaw::VerifyReceiveId => Fate::BadMessage,
            Flaw::NoCallback | Flaw::TwoTypes | Flaw::OtherModel => Fate::BadMessage,
            Flaw::MalformedCreatetime if checked => Fate::BadMessage,
            Flaw::NoCreatetime if checked && known => Fate::BadMessage,
            Flaw::NoCreatetime => Fate::Claimed,
            _ if self.is_old(self.createtime, now, config) => Fate::BadMessage,
            _ => Fate::Claimed,
        }
    }

    fn is_old(&self, time: u64, now: u64, config: &Config) -> bool {
        config.freshness_seconds() > 0 && now.abs_diff(time) > config.freshness_seconds()
    }
}
