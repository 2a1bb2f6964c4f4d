//! The line of the file that stands in front of every problem.

use std::fs;

use serde_json::{Value, json};

use super::{TempDir, check, file, repository};

/// The repository's file of that name, some of its words replaced.
fn changed(name: &str, changes: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(repository().join(name)).unwrap();
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

/// Which line of a text has these words, the only ones.
fn line_of(text: &str, words: &str) -> usize {
    let found: Vec<_> = (1..).zip(text.lines()).filter(|(_, line)| line.contains(words)).collect();
    assert_eq!(found.len(), 1, "{words}: {found:?}");
    found[0].0
}

/// Asserts that the command says this about each of these lines of a file.
#[track_caller]
fn assert_said(name: &str, text: &str, expected: &[(usize, &str)]) {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, name, text);
    let said = check(&[&path], &[]);
    for (line, says) in expected {
        let begin = format!("{path}:{line}: ");
        let is_said = said.err.lines().any(|line| line.starts_with(&begin) && line.contains(says));
        assert!(is_said, "{begin}{says}: {said:#?}");
    }
    let json: Value = serde_json::from_str(&check(&["--json", &path], &[]).out).unwrap();
    let lines = json[0]["problems"].as_array().unwrap().iter().map(|problem| &problem["line"]);
    let lines: Vec<_> = lines.collect();
    assert!(expected.iter().all(|(line, _)| lines.contains(&&json!(line))), "{lines:?}");
}

const WRONG: [(&str, &str); 4] = [
    ("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN"),
    ("path: /bind, timeout_ms: 900", "path: /bind, timeout_ms: 0"),
    ("normalize_path: true", "normalize_path: false"),
    ("stream_idle_timeout: 4s", "stream_idle_timeout: 1s"),
];

fn wrong_lines(text: &str) -> [(usize, &'static str); 4] {
    [
        (line_of(text, "failure_policy: FAIL_OPEN"), "failure_policy: must be"),
        (line_of(text, "path: /bind, timeout_ms: 0"), "endpoints[0].decision.timeout_ms: must be"),
        (line_of(text, "normalize_path: false"), "normalize_path: must be"),
        (line_of(text, "stream_idle_timeout: 1s"), "stream_idle_timeout: must be"),
    ]
}

#[test]
fn a_problem_has_the_line_of_its_value() {
    let text = changed("envoy.yaml", &WRONG);
    assert_said("envoy.yaml", &text, &wrong_lines(&text));
}

#[test]
fn what_is_missing_has_the_line_of_what_it_should_stand_in() {
    let text = changed("envoy.yaml", &[("vm_id: wecom", ""), ("cluster: decision, path: /bind", "path: /bind")]);
    let vm_config = line_of(&text, "vm_config:");
    let decision = line_of(&text, "decision: { path: /bind");
    let expected = [(vm_config, "vm_config.vm_id: must be set"), (decision, "decision.cluster: is missing")];
    assert_said("envoy.yaml", &text, &expected);

    // The file as a whole is no line.
    let text = changed("envoy.yaml", &[("stats_config:", "other:")]);
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "envoy.yaml", &text);
    let said = check(&[&path], &[]);
    assert!(said.err.contains(&format!("{path}: warning: stats_config.stats_tags: ")), "{said:?}");
}

#[test]
fn documents_of_one_file_are_told_apart() {
    let first = changed("envoy.yaml", &WRONG);
    let second = changed("envoy.yaml", &[("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_CLOSED")]);
    let text = format!("{first}---\n{second}");
    let other = [(line_of(&text, "failure_policy: FAIL_CLOSED"), "failure_policy: must be")];
    assert_said("both.yaml", &text, &wrong_lines(&text));
    assert_said("both.yaml", &text, &other);
}

#[test]
fn a_text_in_a_manifest_has_the_lines_of_the_file() {
    let inner: String = changed("envoy.yaml", &WRONG).lines().map(|line| format!("    {line}\n")).collect();
    let text = format!("apiVersion: v1\nkind: ConfigMap\ndata:\n  other: x\n  envoy.yaml: |\n{inner}");
    assert_said("map.yaml", &text, &wrong_lines(&text));

    // In quotes it has but one.
    let inner = json!(changed("envoy.yaml", &WRONG));
    let text = format!("apiVersion: v1\nkind: ConfigMap\ndata:\n  other: x\n  envoy.yaml: {inner}\n");
    let expected = wrong_lines(&changed("envoy.yaml", &WRONG)).map(|(_, says)| (5, says));
    assert_said("map.yaml", &text, &expected);
}

#[test]
fn a_plugin_configuration_as_text_has_lines_too() {
    let indented = |text: &str| -> String { text.lines().map(|line| format!("            {line}\n")).collect() };
    let plugin = "{\n  \"endpoints\": [\n    {\n      \"path\": 1\n    }\n  ]\n}\n";
    let text = format!(
        "typed_config:\n  \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm\n  config:\n    \
         name: wecom\n    configuration:\n      \"@type\": type.googleapis.com/google.protobuf.StringValue\n      \
         value: |\n{}",
        indented(plugin)
    );
    let expected = [(line_of(&text, "\"path\": 1"), "endpoints[0].path: ")];
    assert_said("filter.yaml", &text, &expected);
}
