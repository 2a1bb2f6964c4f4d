//! The README's tables say what the code does.
#![allow(clippy::restriction, missing_docs)]
#![cfg(not(target_family = "wasm"))]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wecom_callback_filter::config::{Config, OnError, limits};
use wecom_callback_filter::wecom::callback::EventType;

/// The rows of the README's table of fields: path and default, as written.
fn fields() -> BTreeMap<String, String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("## Configuration").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ']).to_owned());
        (cells.next().unwrap().trim_matches('`').to_owned(), cells.next().unwrap())
    })
    .collect()
}

#[test]
fn every_field_of_the_schema_stands_in_the_readme_and_none_else() {
    fn collect(schema: &Value, root: &Value, at: &str, found: &mut Vec<String>) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            let path = if field["type"] == "array" { format!("{path}[]") } else { path };
            found.push(path.clone());
            collect(field, root, &path, found);
            collect(&field["items"], root, &path, found);
        }
    }

    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut expected = Vec::new();
    collect(&schema, &schema, "", &mut expected);
    // Told in words: the upstream's fields, once.
    expected.retain(|path| !path.starts_with("endpoints[].events.") && path != "dedup");
    expected.sort();
    assert_eq!(fields().into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn the_defaults_in_the_readme_are_those_of_the_code() {
    let fields = fields();
    let config = json!({"endpoints": [{
        "path": "/A-b", "receive_ids": ["1"], "decision": {"cluster": "d"},
        "credentials": [{"token": "t", "encoding_aes_key": "a".repeat(43)}],
    }], "dedup": {"redis": {"cluster": "record", "secret": "s".repeat(32)}}});
    let config = Config::parse(config.to_string().as_bytes(), &|_| None).unwrap();
    let endpoint = config.endpoints().first().unwrap();
    let decision = endpoint.upstream(EventType::Bind);
    assert_eq!(fields["endpoints[].decision.timeout_ms"], format!("`{}`", decision.timeout_ms()));
    assert_eq!(fields["endpoints[].decision.path"], format!("`{}`", decision.path()));
    assert_eq!(fields["endpoints[].decision.empty_is_success"], format!("`{}`", endpoint.empty_is_success()));
    assert_eq!((fields["endpoints[].decision.authority"].as_str(), decision.authority()), ("the cluster's name", "d"));
    assert_eq!((fields["endpoints[].name"].as_str(), endpoint.name()), ("the path, other characters as `_`", "__-b"));
    assert_eq!(
        (fields["endpoints[].events"].as_str(), endpoint.upstream(EventType::Unbind)),
        ("the decision upstream", decision)
    );
    assert_eq!(fields["freshness_seconds"], format!("`{}`", config.freshness_seconds()));
    assert_eq!(
        (fields["dedup.ttl_seconds"].as_str(), u64::from(config.dedup().ttl_seconds())),
        ("2 × `freshness_seconds` + 60", 2 * config.freshness_seconds() + limits::TTL_MARGIN_SECONDS)
    );
    assert_eq!(fields["dedup.capacity"], format!("`{}`", config.dedup().capacity()));
    let redis = config.dedup().redis().unwrap();
    assert_eq!(fields["dedup.redis.timeout_ms"], format!("`{}`", redis.timeout_ms()));
    assert_eq!(fields["dedup.redis.key_prefix"], format!("`{}`", redis.key_prefix()));
    assert_eq!((fields["dedup.redis.on_error"].as_str(), redis.on_error()), ("`refuse`", OnError::Refuse));
    for (field, is_set) in [
        ("previous_secret", redis.previous_secret().is_some()),
        ("username", redis.username().is_some()),
        ("password", redis.password().is_some()),
    ] {
        assert_eq!((fields[&format!("dedup.redis.{field}")].as_str(), is_set), ("none", false));
    }
    assert_eq!(fields["max_body_bytes"], format!("`{}`", config.max_body_bytes()));
    assert_eq!(fields["reply_timestamp"], "`string`");
}
