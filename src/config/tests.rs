//! What the configuration accepts and refuses, by field.
#![allow(clippy::restriction)]

use prost_types::value::Kind;
use serde_json::{Value, json};
use wasm_bindgen_test::wasm_bindgen_test;

use super::*;

const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";

const RECORD_SECRET: &str = "thirty-two-characters-and-a-few-more";

fn minimal() -> Value {
    json!({"endpoints": [{
        "path": "/suite/receive",
        "receive_ids": ["2000000000000001"],
        "credentials": [{"token": "QDG6eK", "encoding_aes_key": KEY}],
        "decision": {"cluster": "decision"},
    }]})
}

fn full() -> Value {
    json!({
        "endpoints": [{
            "path": "/suite/receive",
            "name": "lock",
            "receive_ids": ["2000000000000001", "x"],
            "verify_receive_ids": ["ww1234"],
            "credentials": [
                {"token": {"env": "WECOM_TOKEN"}, "encoding_aes_key": {"env": "WECOM_KEY"}},
                {"token": "old", "encoding_aes_key": KEY},
            ],
            "decision": {"cluster": "decision", "authority": "decision.internal", "path": "/bind?x=1",
                         "headers": {"authorization": {"env": "WECOM_TOKEN"}, "x-from": "the edge"},
                         "timeout_ms": 2800, "empty_is_success": false},
            "events": {"cluster": "backend", "path": "/events", "timeout_ms": 1},
        }],
        "freshness_seconds": 0,
        "dedup": {"ttl_seconds": 1, "capacity": 1, "redis": {
            "cluster": "record", "secret": RECORD_SECRET, "password": {"env": "WECOM_TOKEN"},
            "timeout_ms": 1000, "key_prefix": "lock:", "on_error": "local",
        }},
        "max_body_bytes": 1,
        "reply_timestamp": "number",
    })
}

fn env(name: &str) -> Option<String> {
    match name {
        "WECOM_TOKEN" => Some("QDG6eK".to_owned()),
        "WECOM_KEY" => Some(KEY.to_owned()),
        _ => None,
    }
}

fn parse(value: &Value) -> Result<Config, ConfigError> {
    Config::parse(value.to_string().as_bytes(), &env)
}

fn refusal(value: &Value) -> String {
    parse(value).unwrap_err().to_string()
}

fn with(pointer: &str, value: Value) -> Value {
    let mut config = full();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        _ => unreachable!("no place for a value"),
    }
    config
}

#[wasm_bindgen_test(unsupported = test)]
fn the_smallest_configuration_has_the_documented_defaults() {
    let config = parse(&minimal()).unwrap();
    assert_eq!(config.freshness_seconds, 600);
    assert_eq!(config.dedup, Dedup { ttl_seconds: 1260, capacity: 65_536, redis: None });
    assert_eq!(config.max_body_bytes, 65_536);
    assert_eq!(config.reply_timestamp, TimestampForm::String);
    let endpoint = &config.endpoints[0];
    assert_eq!(endpoint.name, "_suite_receive");
    assert_eq!(endpoint.verify_receive_ids, ["2000000000000001"]);
    assert_eq!(
        endpoint.decision,
        Upstream {
            cluster: "decision".into(),
            authority: "decision".into(),
            path: "/".into(),
            headers: Vec::new(),
            timeout_ms: 900
        }
    );
    assert!(endpoint.empty_is_success);
    assert_eq!(endpoint.events, endpoint.decision);
}

#[wasm_bindgen_test(unsupported = test)]
fn every_field_is_read() {
    let config = parse(&full()).unwrap();
    let endpoint = &config.endpoints[0];
    assert_eq!(endpoint.name, "lock");
    assert_eq!(endpoint.verify_receive_ids, ["2000000000000001", "x", "ww1234"]);
    assert_eq!(endpoint.credentials.len(), 2);
    assert_eq!(endpoint.decision.path, "/bind?x=1");
    assert_eq!(endpoint.decision.authority, "decision.internal");
    assert!(!endpoint.empty_is_success);
    assert_eq!(endpoint.events.cluster, "backend");
    let headers: Vec<_> = endpoint.decision.headers.iter().map(|header| (header.name(), header.value())).collect();
    assert_eq!(headers, [("authorization", "QDG6eK"), ("x-from", "the edge")]);
    assert_eq!(endpoint.events.headers, []);
    assert!(!format!("{config:?}").contains("QDG6eK"), "a secret shows");
    assert_eq!((config.dedup.ttl_seconds, config.dedup.capacity), (1, 1));
    let redis = config.dedup.redis().unwrap();
    assert_eq!((redis.cluster(), redis.secret().expose(), redis.previous_secret()), ("record", RECORD_SECRET, None));
    assert_eq!((redis.username().map(Secret::expose), redis.password().map(Secret::expose)), (None, Some("QDG6eK")));
    assert_eq!((redis.timeout_ms(), redis.key_prefix(), redis.on_error()), (1000, "lock:", OnError::Local));
    assert_eq!(config.reply_timestamp, TimestampForm::Number);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_refusal_names_the_field() {
    for (pointer, value, refused) in [
        ("/endpoints", json!([]), "endpoints: must hold at least one"),
        ("/endpoints", json!({}), "endpoints: must be a list"),
        ("/typo", json!(1), "typo: unknown field"),
        ("/endpoints/0/typo", json!(1), "endpoints[0].typo: unknown field"),
        ("/endpoints/0/decision/typo", json!(1), "endpoints[0].decision.typo: unknown field"),
        ("/endpoints/0/credentials/1/typo", json!(1), "endpoints[0].credentials[1].typo: unknown field"),
        ("/endpoints/0/path", json!("suite"), "endpoints[0].path: must begin with /"),
        ("/endpoints/0/path", json!("/a?b"), "endpoints[0].path: must begin with /"),
        ("/endpoints/0/path", json!("/ü"), "endpoints[0].path: must begin with /"),
        ("/endpoints/0/path", json!("/a//b"), "endpoints[0].path: holds //, which no request has"),
        ("/endpoints/0/path", json!("//"), "endpoints[0].path: holds //, which no request has"),
        ("/endpoints/0/path", json!("/a/./b"), "endpoints[0].path: holds a segment . or .., which no request has"),
        ("/endpoints/0/path", json!("/a/.."), "endpoints[0].path: holds a segment . or .., which no request has"),
        ("/endpoints/0/path", json!("/a/%62"), "endpoints[0].path: holds %, which no request has"),
        ("/endpoints/0/path", json!("/a\\b"), "endpoints[0].path: holds \\, which no request has"),
        ("/endpoints/0/path", json!("/a/{id}"), "endpoints[0].path: holds {, which no request has"),
        ("/endpoints/0/path", json!("/a|b"), "endpoints[0].path: holds |, which no request has"),
        ("/endpoints/0/path", json!(7), "endpoints[0].path: must be a string"),
        ("/endpoints/0/name", json!("Lock"), "endpoints[0].name: must be one or more of"),
        ("/endpoints/0/name", json!(""), "endpoints[0].name: must be one or more of"),
        ("/endpoints/0/receive_ids", json!([]), "endpoints[0].receive_ids: must hold at least one id"),
        ("/endpoints/0/receive_ids/1", json!(""), "endpoints[0].receive_ids[1]: must not be empty"),
        ("/endpoints/0/verify_receive_ids/0", json!(""), "endpoints[0].verify_receive_ids[0]: must not be empty"),
        ("/endpoints/0/receive_ids/0", json!(2000000000000001_u64), "endpoints[0].receive_ids[0]: must be a string"),
        ("/endpoints/0/credentials", json!([]), "endpoints[0].credentials: must hold at least one"),
        ("/endpoints/0/credentials/1/token", json!(""), "endpoints[0].credentials[1].token: must be 1 to 32"),
        (
            "/endpoints/0/credentials/1/token",
            json!({"env": "GONE"}),
            "endpoints[0].credentials[1].token: the environment",
        ),
        (
            "/endpoints/0/credentials/1/token",
            json!({"file": "x"}),
            "endpoints[0].credentials[1].token: must be a string or",
        ),
        ("/endpoints/0/credentials/1/token", json!({}), "endpoints[0].credentials[1].token: must be a string or"),
        (
            "/endpoints/0/credentials/1/encoding_aes_key",
            json!("short"),
            "endpoints[0].credentials[1].encoding_aes_key: must be exactly 43 letters and digits",
        ),
        ("/endpoints/0/decision/cluster", json!(""), "endpoints[0].decision.cluster: must not be empty"),
        ("/endpoints/0/decision/authority", json!("a b"), "endpoints[0].decision.authority: must be visible"),
        ("/endpoints/0/decision/path", json!("bind"), "endpoints[0].decision.path: must begin with /"),
        (
            "/endpoints/0/decision/timeout_ms",
            json!(0),
            "endpoints[0].decision.timeout_ms: must be a whole number from 1 to 2800",
        ),
        (
            "/endpoints/0/decision/timeout_ms",
            json!(2801),
            "endpoints[0].decision.timeout_ms: must be a whole number from 1 to 2800",
        ),
        (
            "/endpoints/0/decision/timeout_ms",
            json!(1.5),
            "endpoints[0].decision.timeout_ms: must be a whole number from 1 to 2800",
        ),
        (
            "/endpoints/0/events/timeout_ms",
            json!(-1),
            "endpoints[0].events.timeout_ms: must be a whole number from 1 to 2800",
        ),
        (
            "/endpoints/0/events/headers",
            json!({"authorization": {"env": "GONE"}}),
            "endpoints[0].events.headers.authorization: the environment",
        ),
        ("/endpoints/0/events/headers", json!([]), "endpoints[0].events.headers: must be an object"),
        ("/freshness_seconds", json!(31_536_001), "freshness_seconds: must be a whole number from 0 to 31536000"),
        ("/freshness_seconds", json!(1), "dedup.ttl_seconds: must be at least 2 x freshness_seconds + 1, which is 3"),
        ("/dedup/ttl_seconds", json!(0), "dedup.ttl_seconds: must be at least"),
        ("/dedup/capacity", json!(0), "dedup.capacity: must be a whole number from 1 to 1048576"),
        ("/dedup/redis", json!({"cluster": "record"}), "dedup.redis.secret: is missing"),
        ("/dedup/redis/cluster", json!(""), "dedup.redis.cluster: must not be empty"),
        ("/dedup/redis/secret", json!("short"), "dedup.redis.secret: must be 32 to 128 printable ASCII"),
        ("/dedup/redis/secret", json!("x".repeat(129)), "dedup.redis.secret: must be 32 to 128 printable ASCII"),
        ("/dedup/redis/secret", json!(format!("{RECORD_SECRET} ")), "dedup.redis.secret: must be 32 to 128 printable"),
        ("/dedup/redis/previous_secret", json!("short"), "dedup.redis.previous_secret: must be 32 to 128 printable"),
        ("/dedup/redis/password", json!(""), "dedup.redis.password: must not be empty"),
        ("/dedup/redis/timeout_ms", json!(1001), "dedup.redis.timeout_ms: must be a whole number from 1 to 1000"),
        ("/dedup/redis/key_prefix", json!("a b"), "dedup.redis.key_prefix: must be printable ASCII without blanks"),
        ("/dedup/redis/on_error", json!("open"), "dedup.redis.on_error: must be refuse or local"),
        ("/dedup/redis/typo", json!(1), "dedup.redis.typo: unknown field"),
        ("/max_body_bytes", json!(0), "max_body_bytes: must be a whole number from 1 to"),
        ("/reply_timestamp", json!("text"), "reply_timestamp: must be string or number"),
    ] {
        let refusal = refusal(&with(pointer, value));
        assert!(refusal.starts_with(refused), "{refusal:?} is not {refused:?}");
    }
    let mut twice = full();
    let again = twice["endpoints"][0].clone();
    twice["endpoints"].as_array_mut().unwrap().push(again);
    assert_eq!(refusal(&twice), "endpoints[1].path: is also the path of endpoints[0]");
    let nameless = json!({"cluster": "record", "secret": RECORD_SECRET, "username": "me"});
    assert!(refusal(&with("/dedup/redis", nameless)).starts_with("dedup.redis.password: is missing"));
    let defaults = parse(&with("/dedup/redis", json!({"cluster": "record", "secret": RECORD_SECRET}))).unwrap();
    let redis = defaults.dedup.redis().unwrap();
    assert_eq!((redis.timeout_ms(), redis.key_prefix(), redis.on_error()), (100, "wecom:", OnError::Refuse));
    assert!(!format!("{defaults:?}").contains(RECORD_SECRET), "a secret shows");
    let mut bare = full();
    bare["endpoints"][0].as_object_mut().unwrap().remove("decision");
    assert!(refusal(&bare).starts_with("endpoints[0].decision: is missing"));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_header_has_a_name_of_its_own_and_a_value_that_can_be_sent() {
    let refused = |name: &str, value: &str, reason: &str| {
        let refusal = refusal(&with("/endpoints/0/decision/headers", json!({ name: value })));
        assert_eq!(refusal, format!("endpoints[0].decision.headers.{name}: {reason}"));
    };
    for name in ["", ":path", "a b", "x\r\ny", "é", "a:b", "X-From"] {
        refused(name, "v", "is not a header's name in lower case");
    }
    for name in ["x-envoy-retry-on", "x-envoy-max-retries", "x-wecom-event", "x-wecom-other", "idempotency-key"] {
        refused(name, "v", "is a header that the filter or Envoy sets itself");
    }
    for name in ["host", "content-length", "connection", "transfer-encoding", "te", "upgrade"] {
        refused(name, "v", "is a header of the connection, not of the call");
    }
    for value in ["", " v", "v ", "v\n", "é", "\u{7f}"] {
        refused("x-from", value, "must be printable ASCII, not empty, without blanks at either end");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn what_is_no_json_is_refused() {
    for bytes in [&b""[..], b" \n", b"{", b"[]", b"null", b"{}", b"{\"endpoints\":[]}x", b"\xff\xfe", b"endpoints: []"]
    {
        assert!(Config::parse(bytes, &env).is_err(), "{bytes:?}");
    }
    let twice = r#"{"endpoints":[],"endpoints":[]}"#;
    assert_eq!(
        Config::parse(twice.as_bytes(), &env).unwrap_err().reason,
        "duplicate key endpoints at line 1 column 27"
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn no_refusal_shows_a_value() {
    let secret = "Tr0ub4dor";
    let texts = [json!(secret), json!([secret]), json!({"env": secret}), json!({ "env": [secret] })];
    for pointer in [
        "/endpoints",
        "/endpoints/0",
        "/endpoints/0/path",
        "/endpoints/0/name",
        "/endpoints/0/receive_ids",
        "/endpoints/0/credentials",
        "/endpoints/0/credentials/0",
        "/endpoints/0/credentials/0/encoding_aes_key",
        "/endpoints/0/decision",
        "/endpoints/0/decision/path",
        "/endpoints/0/decision/timeout_ms",
        "/endpoints/0/decision/headers",
        "/endpoints/0/decision/headers/x-from",
        "/endpoints/0/events",
        "/freshness_seconds",
        "/dedup",
        "/dedup/capacity",
        "/dedup/redis",
        "/dedup/redis/secret",
        "/dedup/redis/password",
        "/max_body_bytes",
    ] {
        for text in &texts {
            if let Err(error) = parse(&with(pointer, text.clone())) {
                assert!(!error.to_string().contains(secret), "{error}");
            }
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_struct_says_the_same_as_json() {
    fn to_struct(value: &Value) -> prost_types::Struct {
        let fields = value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), to_value(value)));
        prost_types::Struct { fields: fields.collect() }
    }
    fn to_value(value: &Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(flag) => Kind::BoolValue(*flag),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(list) => {
                Kind::ListValue(prost_types::ListValue { values: list.iter().map(to_value).collect() })
            }
            Value::Object(_) => Kind::StructValue(to_struct(value)),
        };
        prost_types::Value { kind: Some(kind) }
    }

    let config = Config::parse(&to_struct(&full()).encode_to_vec(), &env).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", parse(&full()).unwrap()));
    let fraction = to_struct(&with("/dedup/capacity", json!(0.5))).encode_to_vec();
    assert_eq!(
        Config::parse(&fraction, &env).unwrap_err().to_string(),
        "dedup.capacity: must be a whole number from 1 to 1048576"
    );
}

/// The schema for editors and pipelines knows the same fields, and accepts what the filter accepts.
#[cfg(not(target_family = "wasm"))]
#[test]
fn the_schema_agrees() {
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&minimal()) && validator.is_valid(&full()));
    for (pointer, value) in [
        ("/typo", json!(1)),
        ("/endpoints", json!([])),
        ("/endpoints/0/typo", json!(1)),
        ("/endpoints/0/path", json!("suite")),
        ("/endpoints/0/path", json!("/a?b")),
        ("/endpoints/0/path", json!("/a//b")),
        ("/endpoints/0/path", json!("/a/../b")),
        ("/endpoints/0/path", json!("/.")),
        ("/endpoints/0/path", json!("/a%62")),
        ("/endpoints/0/path", json!("/a\\b")),
        ("/endpoints/0/path", json!("/a/{id}")),
        ("/endpoints/0/path", json!("/a}")),
        ("/endpoints/0/path", json!("/a\"")),
        ("/endpoints/0/path", json!("/a|b")),
        ("/endpoints/0/path", json!("/a^b")),
        ("/endpoints/0/path", json!("/<a>")),
        ("/endpoints/0/path", json!("/a`")),
        ("/endpoints/0/name", json!("Lock")),
        ("/endpoints/0/receive_ids", json!([])),
        ("/endpoints/0/receive_ids/0", json!("")),
        ("/endpoints/0/credentials", json!([])),
        ("/endpoints/0/credentials/0/typo", json!(1)),
        ("/endpoints/0/credentials/0/token", json!({"file": "x"})),
        ("/endpoints/0/credentials/1/token", json!("a b")),
        ("/endpoints/0/credentials/1/encoding_aes_key", json!("short")),
        ("/endpoints/0/decision/typo", json!(1)),
        ("/endpoints/0/decision/cluster", json!("")),
        ("/endpoints/0/decision/path", json!("bind")),
        ("/endpoints/0/decision/timeout_ms", json!(2801)),
        ("/endpoints/0/decision/empty_is_success", json!("no")),
        ("/endpoints/0/decision/headers", json!([])),
        ("/endpoints/0/decision/headers/:path", json!("/")),
        ("/endpoints/0/decision/headers/content-length", json!("1")),
        ("/endpoints/0/decision/headers/x-envoy-retry-on", json!("5xx")),
        ("/endpoints/0/decision/headers/x-wecom-event", json!("bind")),
        ("/endpoints/0/decision/headers/x-from", json!("")),
        ("/endpoints/0/decision/headers/x-from", json!(" v")),
        ("/endpoints/0/decision/headers/x-from", json!({"file": "x"})),
        ("/endpoints/0/events/timeout_ms", json!(0)),
        ("/endpoints/0/events/empty_is_success", json!(true)),
        ("/freshness_seconds", json!(-1)),
        ("/dedup/typo", json!(1)),
        ("/dedup/capacity", json!(0)),
        ("/dedup/ttl_seconds", json!(0)),
        ("/dedup/redis", json!({"cluster": "record"})),
        ("/dedup/redis/typo", json!(1)),
        ("/dedup/redis/secret", json!("short")),
        ("/dedup/redis/timeout_ms", json!(0)),
        ("/dedup/redis/key_prefix", json!("a b")),
        ("/dedup/redis/on_error", json!("open")),
        ("/max_body_bytes", json!(0)),
        ("/reply_timestamp", json!("text")),
    ] {
        let config = with(pointer, value);
        assert!(!validator.is_valid(&config), "the schema accepts a wrong {pointer}");
        assert!(parse(&config).is_err(), "the filter accepts a wrong {pointer}");
    }
}
