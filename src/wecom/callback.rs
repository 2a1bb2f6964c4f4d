//! What a decrypted message means: which callback it is, of which request, when.
//!
//! Nothing but the type is mandatory here, since each type lacks some field of another, and
//! unknown types must pass. The message itself travels on byte for byte: reading it never
//! rewrites it.

use serde::Deserialize;
use serde_json::Value;

use super::json::Object;

/// Makes the enum, the list of its values and their names from one list.
macro_rules! event_types {
    ($($name:ident = $word:literal,)*) => {
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
        }
    };
}

event_types! {
    Bind = "bind",
    Unbind = "unbind",
    ContactChange = "contact_change",
    ModelTicket = "model_ticket",
    VerifyDevice = "verify_device",
    UpdateFirmware = "update_firmware",
    FetchDeviceStatus = "fetch_device_status",
    UserScan = "user_scan",
    EnterPage = "enter_page",
    ExitPage = "exit_page",
    RemoteOpenDoor = "remote_open_door",
    DeleteBioInfo = "delete_bio_info",
    PrinterJobSubmit = "printer_job_submit",
    PrinterJobTrans = "printer_job_trans",
    PrinterJobDel = "printer_job_del",
    Other = "other",
}

impl EventType {
    /// The type of that name; [`EventType::Other`] for any that is not known.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(Self::Other, |(event, _)| *event)
    }

    /// The plaintext that says no in this type's own terms, where it has such terms
    /// (documents 95987, 96130, 97390). The others have no way to refuse but an HTTP error.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Bind => Some(r#"{"errcode":7,"errmsg":"设备当前无法绑定，请稍后重试或联系设备厂商处理"}"#),
            Self::VerifyDevice => Some(r#"{"is_valid":false}"#),
            Self::UserScan => Some(r#"{"online_status":2}"#),
            _ => None,
        }
    }
}

/// A message that is a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
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
    /// There, but no unsigned integer.
    Malformed,
}

impl Callback {
    /// Reads a decrypted message. `None` if it is no JSON object with one event or command type:
    /// the answers of URL verifications and our own replies, sent back to us, end here.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let Object(message) = serde_json::from_slice::<Object<Message>>(message).ok()?;
        let event_name = match (message.event, message.command) {
            (Some(Object(event)), None) => event.event_type,
            (None, Some(Object(command))) => command.command_type,
            _ => return None, // none, or two, of which the upstream might read the other
        };
        if event_name.is_empty() {
            return None;
        }
        let base = message.base_info.map(|Object(base)| base).unwrap_or_default();
        Some(Self {
            event: EventType::from_name(&event_name),
            event_name,
            req_id: text(base.req_id),
            device_sn: text(base.device_sn),
            createtime: match base.createtime {
                None => Createtime::Missing,
                Some(value) => value.as_u64().map_or(Createtime::Malformed, Createtime::At),
            },
            model_id: base.model_id,
            service_corpid: base.service_corpid,
        })
    }

    /// Whether the ids inside the message allow for the receive id behind it: on a model's URL
    /// that is the model's id, on the generic URL the provider's corpid. A message that names
    /// neither says nothing against it.
    pub fn agrees_with(&self, receive_id: &str) -> bool {
        let ids = [&self.model_id, &self.service_corpid];
        let mut named = ids.into_iter().flatten().peekable();
        named.peek().is_none() || named.any(|id| id.as_str() == Some(receive_id))
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
        let callback = Callback::parse(BIND.as_bytes()).unwrap();
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
                assert_eq!(Callback::parse(message.as_bytes()).unwrap().event, event);
                assert_eq!(event.name(), name);
            }
        }
        let new = Callback::parse(br#"{"event":{"event_type":"brand_new"}}"#).unwrap();
        assert_eq!((new.event, new.event_name.as_str()), (EventType::Other, "brand_new"));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn fields_may_be_missing_or_odd() {
        let odd = Callback::parse(
            br#"{"base_info":{"req_id":7,"device_sn":null,"createtime":"1658332800","model_id":1},"command":{"command_type":"unbind"}}"#,
        )
        .unwrap();
        assert_eq!(odd.req_id, None);
        assert_eq!(odd.device_sn, None);
        assert_eq!(odd.createtime, Createtime::Malformed);
        assert!(!odd.agrees_with("1"), "a model id is a string, never a number");
        let bare = Callback::parse(br#"{"event":{"event_type":"model_ticket"}}"#).unwrap();
        assert!(bare.agrees_with("anything"));
        assert_eq!(bare.createtime, Createtime::Missing);
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
            assert!(Callback::parse(message.as_bytes()).is_none(), "{message}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        let ignored = format!(r#"{{"event":{{"event_type":"bind","x":{deep}}}}}"#);
        assert_eq!(Callback::parse(ignored.as_bytes()).unwrap().event, EventType::Bind);
        let kept = format!(r#"{{"base_info":{{"req_id":{deep}}},"event":{{"event_type":"bind"}}}}"#);
        assert!(Callback::parse(kept.as_bytes()).is_none());
    }
}
