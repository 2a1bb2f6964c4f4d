//! Configurations: what passes is within its bounds and means the same in both forms; what does
//! not pass is refused without a word of its secrets.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::value::Kind;
use serde_json::{Value, json};
use wecom_callback_filter::config::{Config, limits};
use wecom_callback_filter::wecom::callback::EventType;

use crate::sealing::{CREDENTIALS, RECEIVE_IDS, SECRET};
use crate::target::{Seed, Target, seed};

/// Bytes of a plugin configuration, in either form.
pub(crate) struct Configurations;

impl Target for Configurations {
    fn name(&self) -> &'static str {
        "config"
    }

    fn run(&self, data: &[u8]) {
        config(data);
    }

    fn seeds(&self) -> Vec<Seed> {
        configurations().into_iter().enumerate().flat_map(|(n, config)| both_forms(n, config)).collect()
    }
}

fn config(data: &[u8]) {
    let env = |name: &str| name.starts_with("WECOM").then(|| "S3CRETenvironment".to_owned());
    let parsed = Config::parse(data, &env);
    let read = serde_json::from_slice::<Value>(data).ok();
    match &parsed {
        Ok(config) => holds(config),
        // Names of fields are shown, values never.
        Err(error) if !may_show(read.as_ref(), data) => assert!(!error.to_string().contains(SECRET), "{error}"),
        Err(_) => {}
    }
    let (Ok(config), Some(Value::Object(fields))) = (parsed, read) else { return };
    let other_form = to_struct(fields).encode_to_vec();
    let again = Config::parse(&other_form, &env).expect("refused as a Struct");
    assert_eq!(format!("{config:?}"), format!("{again:?}"));
}

fn holds(config: &Config) {
    assert!(limits::FRESHNESS_SECONDS.contains(&config.freshness_seconds()));
    assert!(u64::from(config.dedup().ttl_seconds()) > 2 * config.freshness_seconds());
    assert!(limits::CAPACITY.contains(&config.dedup().capacity().into()));
    assert!(limits::MAX_BODY_BYTES.contains(&(config.max_body_bytes() as u64)));
    let paths: BTreeSet<_> = config.endpoints().iter().map(|endpoint| endpoint.path()).collect();
    assert!(!paths.is_empty() && paths.len() == config.endpoints().len());
    for (index, endpoint) in config.endpoints().iter().enumerate() {
        assert_eq!(endpoint.index(), index);
        assert!(!format!("{:?}", endpoint.credentials()).contains(SECRET), "a secret shows");
        let path = endpoint.path();
        assert!(path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'?'));
        let name = endpoint.name();
        assert!(!name.is_empty() && !name.contains(|c: char| c.is_ascii_uppercase() || c == '"'));
        assert!(!endpoint.credentials().is_empty() && !endpoint.receive_ids().is_empty());
        let verify_ids = endpoint.verify_receive_ids();
        assert!(verify_ids.starts_with(endpoint.receive_ids()));
        assert!(verify_ids.iter().all(|id| !id.is_empty()), "an empty id accepts messages to nobody");
        for upstream in [EventType::Bind, EventType::Unbind].map(|event| endpoint.upstream(event)) {
            assert!(!upstream.cluster().is_empty() && upstream.path().starts_with('/'));
            let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            assert!(visible(upstream.authority()) && visible(upstream.path()), "no header");
            assert!(limits::TIMEOUT_MS.contains(&upstream.timeout_ms()));
            for header in upstream.headers() {
                assert!(!header.name().is_empty() && header.name().bytes().all(|b| b.is_ascii_graphic() && b != b':'));
                assert!(!header.name().starts_with("x-envoy-") && !header.name().starts_with("x-wecom-"));
                assert!(!header.value().is_empty() && header.value().bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
        }
    }
}

/// Whether the marker of the secrets is part of a field's name, or may be.
fn may_show(read: Option<&Value>, data: &[u8]) -> bool {
    fn named(value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().any(|(name, value)| name.contains(SECRET) || named(value)),
            Value::Array(list) => list.iter().any(named),
            _ => false,
        }
    }
    fn named_in(fields: &prost_types::Struct) -> bool {
        fields.fields.iter().any(|(name, value)| name.contains(SECRET) || value.kind.as_ref().is_some_and(within))
    }
    fn within(kind: &Kind) -> bool {
        match kind {
            Kind::StructValue(fields) => named_in(fields),
            Kind::ListValue(list) => list.values.iter().filter_map(|value| value.kind.as_ref()).any(within),
            _ => false,
        }
    }
    match read {
        Some(value) => named(value),
        // Broken JSON may have named anything before it broke.
        None => prost_types::Struct::decode(data).map_or(true, |fields| named_in(&fields)),
    }
}

/// The same as Envoy hands a `google.protobuf.Struct` over.
fn to_struct(fields: serde_json::Map<String, Value>) -> prost_types::Struct {
    fn to_value(value: Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(flag) => Kind::BoolValue(flag),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
            Value::String(text) => Kind::StringValue(text),
            Value::Array(list) => {
                Kind::ListValue(prost_types::ListValue { values: list.into_iter().map(to_value).collect() })
            }
            Value::Object(fields) => Kind::StructValue(to_struct(fields)),
        };
        prost_types::Value { kind: Some(kind) }
    }
    prost_types::Struct { fields: fields.into_iter().map(|(name, value)| (name, to_value(value))).collect() }
}

fn configurations() -> Vec<Value> {
    let (token, key) = CREDENTIALS[1];
    let minimal = json!({ "endpoints": [{
        "path": "/a", "receive_ids": ["1"], "decision": { "cluster": "d" },
        "credentials": [{ "token": token, "encoding_aes_key": key }],
    }] });
    let full = json!({
        "endpoints": [
            {
                "path": "/suite/receive", "name": "lock",
                "receive_ids": RECEIVE_IDS, "verify_receive_ids": ["wwverify"],
                "credentials": [
                    { "token": { "env": "WECOM_TOKEN" }, "encoding_aes_key": key },
                    { "token": token, "encoding_aes_key": key },
                ],
                "decision": {
                    "cluster": "decision", "authority": "decision.internal", "path": "/bind?x",
                    "headers": { "authorization": { "env": "WECOM_AUTH" }, "x-from": "edge" },
                    "timeout_ms": 2800, "empty_is_success": false,
                },
                "events": { "cluster": "backend", "path": "/events", "timeout_ms": 1 },
            },
            minimal["endpoints"][0],
        ],
        "freshness_seconds": 300,
        "dedup": { "ttl_seconds": 601, "capacity": 1024 },
        "max_body_bytes": 4096,
        "reply_timestamp": "number",
    });
    let wrong = [
        ("/dedup/capacity", json!(token)),
        ("/dedup/ttl_seconds", json!(600)),
        ("/endpoints/1/path", json!("/suite/receive")),
        ("/endpoints/0/credentials/0/token", json!({ "file": token })),
        ("/endpoints/0/credentials/0/token", json!([token])),
        ("/endpoints/0/credentials/0/encoding_aes_key", json!(token)),
        ("/endpoints/0/decision/headers", json!({ "x-envoy-retry-on": "5xx" })),
        ("/endpoints/0/decision/headers/x-from", json!([token])),
    ];
    let wrong = wrong.into_iter().map(|(pointer, value)| {
        let mut config = full.clone();
        *config.pointer_mut(pointer).expect("a field") = value;
        config
    });
    wrong.chain([minimal.clone(), full.clone()]).collect()
}

fn both_forms(n: usize, value: Value) -> [Seed; 2] {
    let json = value.to_string().into_bytes();
    let Value::Object(fields) = value else { panic!("no object") };
    [seed(&format!("{n}-json"), json), seed(&format!("{n}-struct"), to_struct(fields).encode_to_vec())]
}
