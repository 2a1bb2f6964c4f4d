//! Decrypted messages: a callback is what a second reader takes for one, and nothing else.

use serde_json::{Map, Value, json};
use wecom_callback_filter::wecom::callback::{Content, Createtime, EventType};

use crate::target::{Seed, Target, seed};
use crate::vectors::{self, text};

/// Bytes of a decrypted message.
pub(crate) struct Callback;

impl Target for Callback {
    fn name(&self) -> &'static str {
        "callback"
    }

    fn run(&self, data: &[u8]) {
        callback(data);
    }

    fn seeds(&self) -> Vec<Seed> {
        let mut seeds = vectors::seeds(|vector| Some(text(vector, "message")?.as_bytes().to_vec()));
        seeds.extend(one_of_each());
        seeds
    }
}

fn callback(data: &[u8]) {
    let parsed = Content::parse(data);
    assert!(parsed.is_err() || std::str::from_utf8(data).is_ok(), "not UTF-8, and taken");
    // Where the second reader refuses, such as for a number too large in a field that is ignored,
    // it has nothing to say.
    let Ok(read) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok(callback) = &parsed {
        let object = read.as_object().expect("no object");
        agree(callback, object);
    }
    // Written by the second reader there is no duplicate key, and both must agree on what it is.
    let again = Content::parse(read.to_string().as_bytes());
    assert_eq!(again.is_ok(), is_callback(&read), "{read}");
    if let (Ok(first), Ok(again)) = (&parsed, &again) {
        assert_eq!(first, again);
    }
}

fn agree(callback: &Content, object: &Map<String, Value>) {
    let names: Vec<_> = [("event", "event_type"), ("command", "command_type")]
        .into_iter()
        .filter_map(|(kind, name)| object.get(kind).filter(|value| !value.is_null()).map(|value| &value[name]))
        .collect();
    assert_eq!(names, [&Value::from(callback.event_name.as_str())]);
    assert!(!callback.event_name.is_empty());
    assert_eq!(callback.event, EventType::from_name(&callback.event_name));

    let base = object.get("base_info").unwrap_or(&Value::Null);
    let text = |field: &str| base[field].as_str().filter(|text| !text.is_empty());
    assert_eq!(callback.req_id.as_deref(), text("req_id"));
    assert_eq!(callback.device_sn.as_deref(), text("device_sn"));
    match (callback.createtime, &base["createtime"]) {
        (Createtime::Missing, value) => assert!(value.is_null()),
        (Createtime::At(time), Value::String(digits)) => assert_eq!(digits.parse(), Ok(time)),
        (Createtime::At(time), value) => assert_eq!(value.as_u64(), Some(time)),
        (Createtime::Malformed, Value::String(text)) => {
            assert!(text.len() > 20 || text.parse::<u64>().is_err() || text.starts_with('+'), "{text}");
        }
        (Createtime::Malformed, value) => assert!(!value.is_null() && value.as_u64().is_none()),
    }
    let ids: Vec<_> = ["model_id", "service_corpid"].iter().map(|id| &base[id]).filter(|id| !id.is_null()).collect();
    for id in &ids {
        if let Some(id) = id.as_str() {
            assert!(callback.agrees_with(id));
        }
    }
    assert_eq!(callback.agrees_with("an id that nobody has\0"), ids.is_empty());
}

fn is_callback(read: &Value) -> bool {
    let Some(object) = read.as_object() else { return false };
    let field = |name: &str| object.get(name).filter(|value| !value.is_null());
    let named = |value: &Value, name: &str| value.is_object() && value[name].as_str().is_some_and(|n| !n.is_empty());
    field("base_info").is_none_or(Value::is_object)
        && match (field("event"), field("command")) {
            (Some(event), None) => named(event, "event_type"),
            (None, Some(command)) => named(command, "command_type"),
            _ => false,
        }
}

/// One of each type, and one with more than any has.
fn one_of_each() -> Vec<Seed> {
    let named = EventType::ALL.iter().enumerate().map(|(n, (_, name))| {
        let kind = if n % 2 == 0 { "event" } else { "command" };
        let message = json!({ "base_info": { "req_id": "r1" }, kind: { format!("{kind}_type"): name } });
        seed(name, message.to_string())
    });
    let full = json!({
        "msg_type": "event",
        "base_info": {
            "req_id": "r1", "device_sn": "sn1", "createtime": 1_658_332_800,
            "model_id": "m", "auth_corpid": "a", "service_corpid": "s",
        },
        "event": { "event_type": "bind", "auth_code": "x", "verif_code": "y" },
        "command": null,
    });
    named.chain([seed("full", full.to_string())]).collect()
}
