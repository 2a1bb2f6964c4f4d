//! The plaintext of a callback.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use wecom_callback_filter::wecom::callback::EventType;

use super::account::{Account, Message};
use super::fresh::{random_id, unix_now};

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

impl Message for Event {
    fn bytes(&self, account: &Account) -> Vec<u8> {
        self.to_json(account.receive_id())
    }
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
