//! What a decrypted message means: which callback it is, of which request, when.
//!
//! Nothing but the type is mandatory in [`Content`], since each type lacks some field of another, and
//! unknown types must pass; all types that are known have a time. The message itself travels on byte for byte: reading it never
//! rewrites it.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use super::freshness::{Freshness, Stale};
use super::json::Object;
use super::message::{Opened, Sealer};
use super::verdict::FAIL_CLOSED;

/// Makes the enum, the list of its values, their names and their refusals from one list: a type
/// without one of these does not compile.
macro_rules! event_types {
    ($($name:ident = $word:literal, $refusal:expr;)*) => {
        /// The types of hardware callbacks (5 events and 10 commands), and `Other` for what WeCom adds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // named as WeCom names them
        pub enum EventType {
            $($name,)*
        }

        impl EventType {
            /// Every type, with the name WeCom gives it; `other` is ours.
            pub const ALL: [(Self, &'static str); [$($word),*].len()] = [$((Self::$name, $word)),*];

            /// The name, from a closed set: fit for a metric label.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// The plaintext that says no in this type's own terms, where it has such terms
            /// (documents 95987, 96130, 97390). The others have no way to refuse but an HTTP error.
            pub const fn refusal(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => $refusal,)*
                }
            }
        }
    };
}

event_types! {
    Bind = "bind", Some(FAIL_CLOSED);
    Unbind = "unbind", None;
    ContactChange = "contact_change", None;
    ModelTicket = "model_ticket", None;
    VerifyDevice = "verify_device", Some(r#"{"is_valid":false}"#);
    UpdateFirmware = "update_firmware", None;
    FetchDeviceStatus = "fetch_device_status", None;
    UserScan = "user_scan", Some(r#"{"online_status":2}"#);
    EnterPage = "enter_page", None;
    ExitPage = "exit_page", None;
    RemoteOpenDoor = "remote_open_door", None;
    DeleteBioInfo = "delete_bio_info", None;
    PrinterJobSubmit = "printer_job_submit", None;
    PrinterJobTrans = "printer_job_trans", None;
    PrinterJobDel = "printer_job_del", None;
    Other = "other", None;
}

impl EventType {
    /// The type of that name; [`EventType::Other`] for any that is not known.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(Self::Other, |(event, _)| *event)
    }
}

/// A message that is signed, fresh, decrypted, addressed to us, and a callback.
pub struct Callback {
    content: Content,
    message: Zeroizing<Vec<u8>>,
    sealer: Sealer,
}

impl Callback {
    /// Reads an opened message.
    ///
    /// # Errors
    /// [`NotACallback`]: as [`Content::parse`].
    pub fn read(opened: Opened) -> Result<Self, NotACallback> {
        let content = Content::parse(opened.message())?;
        let (message, sealer) = opened.into_parts();
        Ok(Self { content, message, sealer })
    }

    /// What it says.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Checks what the message says about itself: its ids against the receive id at its end, and
    /// when it was made.
    ///
    /// # Errors
    /// [`NotAuthentic`] says which of the two does not hold.
    pub fn authenticate(self, freshness: Freshness) -> Result<Authentic, NotAuthentic> {
        if !self.content.agrees_with(self.sealer.receive_id()) {
            return Err(NotAuthentic::OtherId);
        }
        self.content.check_createtime(freshness)?;
        Ok(Authentic(self))
    }
}

/// A callback that has passed every check there is: what a record is claimed and an upstream called
/// for.
pub struct Authentic(Callback);

impl Authentic {
    /// What it says.
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// The message, byte for byte.
    pub fn message(&self) -> &[u8] {
        &self.0.message
    }

    /// Seals the reply.
    pub fn sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    /// The message, wiped on drop, and the sealer of its reply.
    pub fn into_parts(self) -> (Zeroizing<Vec<u8>>, Sealer) {
        (self.0.message, self.0.sealer)
    }

    /// The sealer of its reply, where the message is no longer needed.
    pub fn into_sealer(self) -> Sealer {
        self.0.sealer
    }
}

/// The message is not a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the message is not a JSON object with exactly one event or command type")]
pub struct NotACallback;

/// Why a callback contradicts its own envelope, or the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotAuthentic {
    /// `base_info` names other ids than the receive id.
    #[error("base_info names an id other than the receive id")]
    OtherId,
    /// `createtime` is not fresh.
    #[error(transparent)]
    Stale(#[from] Stale),
}

/// Whether a callback tells of something, or asks for something to be done (`msg_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MsgType {
    /// It has happened: to be told of it twice does no harm.
    Event,
    /// It is to be done: a door that is opened twice has been open twice.
    Command,
}

/// What the message of a callback says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Whether it is an event or a command.
    pub msg_type: MsgType,
    /// Its type.
    pub event: EventType,
    /// Its type in WeCom's words, also where we do not know it.
    pub event_name: String,
    /// WeCom's id of the request, if it has a non-empty one.
    pub req_id: Option<String>,
    /// The device's serial number.
    pub device_sn: Option<String>,
    /// When the event happened.
    pub createtime: Createtime,
    model_id: Option<Value>,
    service_corpid: Option<Value>,
}

/// `base_info.createtime`, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Createtime {
    /// Not there.
    Missing,
    /// There.
    At(u64),
    /// There, but neither an unsigned integer nor a string of its digits.
    Malformed,
}

impl Content {
    /// Reads a decrypted message.
    ///
    /// # Errors
    /// [`NotACallback`] if it is not a JSON object with exactly one event or command type. Answers
    /// to URL verifications, and our own replies sent back to us, end here.
    pub fn parse(message: &[u8]) -> Result<Self, NotACallback> {
        // JSON is UTF-8 throughout. The parser would not look at members that it skips, and the upstream
        // might read them otherwise.
        std::str::from_utf8(message).map_err(|_| NotACallback)?;
        let Object(message) = serde_json::from_slice::<Object<Message>>(message).map_err(|_| NotACallback)?;
        let (msg_type, event_name) = match (message.event, message.command) {
            (Some(Object(event)), None) => (MsgType::Event, event.event_type),
            (None, Some(Object(command))) => (MsgType::Command, command.command_type),
            _ => return Err(NotACallback), // none, or two, of which the upstream might read the other
        };
        if event_name.is_empty() {
            return Err(NotACallback);
        }
        let base = message.base_info.map(|Object(base)| base).unwrap_or_default();
        Ok(Self {
            msg_type,
            event: EventType::from_name(&event_name),
            event_name,
            req_id: id(base.req_id),
            device_sn: text(base.device_sn),
            createtime: match base.createtime {
                None => Createtime::Missing,
                Some(value) => seconds(&value).map_or(Createtime::Malformed, Createtime::At),
            },
            model_id: base.model_id,
            service_corpid: base.service_corpid,
        })
    }

    /// Whether the ids in the message agree with the receive id at its end: on a model's URL that is
    /// the model's id, on the generic URL the provider's corpid. A message that names neither
    /// agrees with any.
    pub fn agrees_with(&self, receive_id: &str) -> bool {
        let ids = [&self.model_id, &self.service_corpid];
        let mut named = ids.into_iter().flatten().peekable();
        named.peek().is_none() || named.any(|id| id.as_str() == Some(receive_id))
    }

    /// Checks the age of the encrypted `createtime`. Every type that is known must have one: without the key
    /// but with the token, a captured callback can be cut off behind its `base_info`, and has no age then.
    fn check_createtime(&self, freshness: Freshness) -> Result<(), Stale> {
        match self.createtime {
            _ if freshness.is_off() => Ok(()),
            Createtime::At(time) => freshness.check("createtime", time),
            Createtime::Missing if self.event == EventType::Other => Ok(()),
            Createtime::Missing => Err(Stale::Missing),
            Createtime::Malformed => Err(Stale::Malformed),
        }
    }
}

/// A time as a number or, since WeCom's pages contradict themselves on such types, as a string of 1 to
/// 20 digits.
fn seconds(value: &Value) -> Option<u64> {
    let digits = |text: &&str| (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    value.as_u64().or_else(|| value.as_str().filter(digits)?.parse().ok())
}

/// An id as text or, for the same reason, as a number.
fn id(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::Number(number)) => number.as_u64().map(|number| number.to_string()),
        value => text(value),
    }
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Message {
    base_info: Option<Object<BaseInfo>>,
    event: Option<Object<Event>>,
    command: Option<Object<Command>>,
}

#[derive(Deserialize)]
struct Event {
    event_type: String,
}

#[derive(Deserialize)]
struct Command {
    command_type: String,
}

#[derive(Deserialize, Default)]
struct BaseInfo {
    req_id: Option<Value>,
    device_sn: Option<Value>,
    createtime: Option<Value>,
    model_id: Option<Value>,
    service_corpid: Option<Value>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    const BIND: &str = r#"{"msg_type":"event","base_info":{"req_id":"r1","device_sn":"sn","createtime":1658332800,"model_id":"m","auth_corpid":"a","service_corpid":"s"},"event":{"event_type":"bind","auth_code":"x","verif_code":"y"}}"#;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_bind_is_read() {
        let callback = Content::parse(BIND.as_bytes()).unwrap();
        assert_eq!(callback.event, EventType::Bind);
        assert_eq!(callback.req_id.as_deref(), Some("r1"));
        assert_eq!(callback.device_sn.as_deref(), Some("sn"));
        assert_eq!(callback.createtime, Createtime::At(1_658_332_800));
        assert!(callback.agrees_with("m") && callback.agrees_with("s") && !callback.agrees_with("a"));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn every_type_is_known_by_its_name_as_event_or_command() {
        for (event, name) in EventType::ALL {
            for kind in ["event", "command"] {
                let message = format!(r#"{{"{kind}":{{"{kind}_type":"{name}"}}}}"#);
                assert_eq!(Content::parse(message.as_bytes()).unwrap().event, event);
                assert_eq!(event.name(), name);
            }
        }
        let new = Content::parse(br#"{"event":{"event_type":"brand_new"}}"#).unwrap();
        assert_eq!((new.event, new.event_name.as_str()), (EventType::Other, "brand_new"));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn fields_may_be_missing_or_odd() {
        let odd = Content::parse(
            br#"{"base_info":{"req_id":7,"device_sn":null,"createtime":"soon","model_id":1},"command":{"command_type":"unbind"}}"#,
        )
        .unwrap();
        assert_eq!(odd.req_id.as_deref(), Some("7"), "a name all the same");
        assert_eq!(odd.device_sn, None);
        assert_eq!(odd.createtime, Createtime::Malformed);
        assert!(!odd.agrees_with("1"), "a model id is a string, never a number");
        let bare = Content::parse(br#"{"event":{"event_type":"model_ticket"}}"#).unwrap();
        assert!(bare.agrees_with("anything"));
        assert_eq!(bare.createtime, Createtime::Missing);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_createtime_may_be_a_string_of_digits() {
        let read = |createtime: &str| {
            let message = format!(r#"{{"base_info":{{"createtime":{createtime}}},"event":{{"event_type":"bind"}}}}"#);
            Content::parse(message.as_bytes()).unwrap().createtime
        };
        assert_eq!(read("1658332800"), Createtime::At(1_658_332_800));
        assert_eq!(read(r#""1658332800""#), Createtime::At(1_658_332_800));
        assert_eq!(read(r#""0""#), Createtime::At(0));
        assert_eq!(read(r#""00000000001658332800""#), Createtime::At(1_658_332_800));
        assert_eq!(read(r#""18446744073709551615""#), Createtime::At(u64::MAX));
        for malformed in [
            r#""""#,
            r#""18446744073709551616""#,
            r#""000000000001658332800""#,
            r#""-1""#,
            r#""+1""#,
            r#"" 1""#,
            r#""1.0""#,
            r#""١""#,
            "-1",
            "1.5",
            "[1]",
            "true",
        ] {
            assert_eq!(read(malformed), Createtime::Malformed, "{malformed}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_message_that_is_not_utf_8_is_refused_wherever_the_byte_is() {
        for broken in [
            &b"{\"event\":{\"event_type\":\"bind\",\"auth_code\":\"\xff\"}}"[..],
            b"{\"event\":{\"event_type\":\"bind\"},\"x\":\"\xc0\xaf\"}",
            b"{\"event\":{\"event_type\":\"bind\"},\"\xed\xa0\x80\":1}",
        ] {
            assert_eq!(Content::parse(broken), Err(NotACallback), "{}", String::from_utf8_lossy(broken));
        }
        assert!(Content::parse("{\"event\":{\"event_type\":\"bind\",\"x\":\"绑\"}}".as_bytes()).is_ok());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_is_no_callback_is_refused() {
        for message in [
            "",
            "{}",
            "[]",
            "1",
            "null",
            "\"bind\"",
            "7139691598513686239",
            r#"{"errcode":0,"errmsg":"ok"}"#,
            r#"{"event":{}}"#,
            r#"{"event":[["bind"]]}"#,
            r#"{"event":["bind"]}"#,
            r#"[null,["bind"],null]"#,
            r#"{"event":{"event_type":1}}"#,
            r#"{"event":{"event_type":""}}"#,
            r#"{"event":{"event_type":"bind"},"event":{"event_type":"unbind"}}"#,
            r#"{"event":{"event_type":"bind"},"command":{"command_type":"unbind"}}"#,
            r#"{"base_info":[1],"event":{"event_type":"bind"}}"#,
        ] {
            assert!(Content::parse(message.as_bytes()).is_err(), "{message}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        let ignored = format!(r#"{{"event":{{"event_type":"bind","x":{deep}}}}}"#);
        assert_eq!(Content::parse(ignored.as_bytes()).unwrap().event, EventType::Bind);
        let kept = format!(r#"{{"base_info":{{"req_id":{deep}}},"event":{{"event_type":"bind"}}}}"#);
        assert!(Content::parse(kept.as_bytes()).is_err());
    }
}
