//! The plugin configuration: everything that is wrong is said at once.

use std::fs;

use serde_json::json;

use super::{Said, TempDir, Value, check, file, plugin, repository, without_places};

fn about(plugin: &Value) -> Said {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "plugin.json", &plugin.to_string());
    let mut said = check(&[&path], &[]);
    said.err = without_places(&said.err, &path);
    said
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_no_value() {
    let mut plugin = plugin();
    plugin["typo"] = json!("s3cret");
    plugin["max_body_bytes"] = json!(0);
    plugin["dedup"] = json!({ "ttl_seconds": 60, "capacity": "s3cret" });
    let endpoint = plugin["endpoints"][0].clone();
    let endpoints = plugin["endpoints"].as_array_mut().unwrap();
    endpoints.extend([endpoint.clone(), json!("s3cret"), endpoint]);
    endpoints[0]["receive_ids"] = json!(["1", 2, ""]);
    endpoints[0]["credentials"][0]["token"] = json!("s3cret!");
    endpoints[0]["credentials"][0]["encoding_aes_key"] = json!("s3cret");
    endpoints[0]["decision"] = json!({ "timeout_ms": 99_999, "a.b[0]": "s3cret" });
    endpoints[3]["path"] = json!("/a//b");
    let said = about(&plugin);
    let mut fields: Vec<_> = said.err.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "dedup.capacity",
            "dedup.ttl_seconds",
            "endpoints[0].credentials[0].encoding_aes_key",
            "endpoints[0].credentials[0].token",
            "endpoints[0].decision.a.b[0]",
            "endpoints[0].decision.cluster",
            "endpoints[0].decision.timeout_ms",
            "endpoints[0].receive_ids[1]",
            "endpoints[0].receive_ids[2]",
            "endpoints[1].path",
            "endpoints[2]",
            "endpoints[3].path",
            "max_body_bytes",
            "typo",
        ],
        "{said:?}"
    );
    assert!(said.code == 1 && !said.err.contains("s3cret"), "{said:?}");
}

/// Every field that the schema knows, as the path of it in a configuration with one item in each list.
fn fields_of_the_schema(schema: &Value, root: &Value, at: &str, found: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        let inner = found.len();
        fields_of_the_schema(field, root, &at, found);
        fields_of_the_schema(&field["items"], root, &format!("{at}/0"), found);
        if found.len() == inner {
            found.push(at);
        }
    }
}

#[test]
fn no_mistake_in_a_field_hides_one_in_another() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(repository().join("config.schema.json")).unwrap()).unwrap();
    let mut fields = Vec::new();
    fields_of_the_schema(&schema, &schema, "", &mut fields);
    assert!(fields.len() > 15, "{fields:?}");

    let mut plugin = json!({});
    for field in &fields {
        let mut place = &mut plugin;
        for step in field.split('/').skip(1) {
            place = match step {
                "0" => {
                    if place.is_null() {
                        *place = json!([{}]);
                    }
                    &mut place[0]
                }
                _ => &mut place[step],
            };
        }
        *place = json!(-1);
    }
    let said = about(&plugin);
    for field in &fields {
        let path = field.trim_start_matches('/').replace("/0/", "[0].").replace('/', ".");
        // What is refused as a whole has no fields.
        let is_said = said.err.lines().any(|line| {
            let (said, _) = line.split_once(": ").unwrap();
            path == said || path.strip_prefix(said).is_some_and(|rest| rest.starts_with('.'))
        });
        assert!(is_said, "{path} is missing: {said:?}");
    }
}

#[test]
fn what_is_right_is_checked_though_something_else_is_wrong() {
    let bootstrap = super::good().remove_cluster("decision").edit_plugin_value(|value| {
        value["endpoints"][0]["receive_ids"] = json!([]);
        value["endpoints"][0]["events"]["cluster"] = json!("");
    });
    super::assert_refused(
        &bootstrap,
        &[
            "endpoints[0].receive_ids: must hold at least one",
            "endpoints[0].events.cluster: must not be empty",
            "endpoints[0].decision.cluster: the file has no cluster",
        ],
    );
}

#[test]
fn one_mistake_is_not_told_as_two() {
    let mut plugin = plugin();
    plugin["freshness_seconds"] = json!("30");
    plugin["dedup"] = json!({ "ttl_seconds": 100 });
    let mut second = plugin["endpoints"][0].clone();
    second["path"] = json!("no-path");
    second["decision"] = json!(1);
    plugin["endpoints"].as_array_mut().unwrap().extend([second.clone(), second]);
    let said = about(&plugin);
    let fields: Vec<_> = said.err.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(
        fields,
        [
            "freshness_seconds",
            "endpoints[1].path",
            "endpoints[1].decision",
            "endpoints[2].path",
            "endpoints[2].decision"
        ]
    );
}

#[test]
fn a_name_with_a_line_break_does_not_make_a_line() {
    let mut plugin = plugin();
    plugin["a\nplugin.json: ok: all is well\u{1b}[2J"] = json!(1);
    let said = about(&plugin);
    assert_eq!(said.err, "a\\nplugin.json: ok: all is well\\u{1b}[2J: unknown field\n");
}

#[test]
fn a_repeated_key_does_not_hide_the_rest() {
    let folder = TempDir::new().unwrap();
    let mut plugin = plugin();
    plugin["typo"] = json!(1);
    let text = plugin.to_string().replacen('{', "{\"max_body_bytes\":1,\"max_body_bytes\":2,", 1);
    let bootstrap = super::good().plugin(&text);
    let path = file(&folder, "envoy.json", &bootstrap.config().to_string());
    let said = check(&[&path], &[]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains(": configuration: duplicate key max_body_bytes"), "{said:?}");
    assert!(said.err.contains(": typo: unknown field"), "{said:?}");
}
