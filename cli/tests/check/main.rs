//! `wecom-callbacks check`: what it accepts, what it prints about what it refuses, and the exit codes
//! that CI relies on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod around;
mod decision;
mod filter;
mod inputs;
mod lines;
mod plugin;
mod routes;
mod spelling;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::envoy::Bootstrap;
use testbed::files::repository;
use testbed::wecom::Account;

/// The command's output and exit code.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the command with all secrets set, except for the variables in `without`.
fn check(arguments: &[&str], without: &[&str]) -> Said {
    check_reading("", arguments, without)
}

/// The same with a text on its standard input.
fn check_reading(input: &str, arguments: &[&str], without: &[&str]) -> Said {
    let account = Account::demo();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wecom-callbacks"));
    command
        .arg("check")
        .args(arguments)
        .current_dir(repository())
        .env("WECOM_TOKEN", account.token())
        .env("WECOM_ENCODING_AES_KEY", account.encoding_aes_key())
        .env("WECOM_RECORD_SECRET", testbed::redis::SECRET)
        .env("WECOM_RECORD_PASSWORD", testbed::redis::PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in without {
        command.env_remove(name);
    }
    let mut child = command.spawn().unwrap();
    // Without `-` it reads nothing, and may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A file of that content.
fn file(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn plugin() -> Value {
    Bootstrap::example().unwrap().plugin_value()
}

/// The connection manager of `envoy.yaml`.
const MANAGER: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";

/// `envoy.yaml`, with everything that the command can ask for: nobody has to build the module first,
/// and all routes take off what only the filter may send.
fn good() -> Bootstrap {
    let there = repository().join("Cargo.toml");
    Bootstrap::example()
        .unwrap()
        .edit_plugin(|plugin| plugin["vm_config"]["code"]["local"]["filename"] = json!(there))
        .edit_hcm(|hcm| {
            hcm["route_config"]["request_headers_to_remove"] =
                json!(["x-wecom-event", "x-wecom-req-id", "x-wecom-receive-id"]);
        })
}

/// Where the filter stands in the chain.
fn filter_in_chain(bootstrap: &Bootstrap) -> String {
    let chain = bootstrap.config().pointer("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config");
    let chain = chain.unwrap()["http_filters"].as_array().unwrap();
    let index = chain.iter().position(|filter| filter["name"] == "wecom").unwrap();
    format!("{MANAGER}.http_filters[{index}]")
}

/// What the command says about an Envoy.
fn about(bootstrap: &Bootstrap, arguments: &[&str]) -> Said {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "envoy.json", &bootstrap.config().to_string());
    let mut said = check(&[arguments, &[&path]].concat(), &[]);
    said.err = without_places(&said.err, &path);
    said
}

/// Lines about a file, without what stands in front of each: `FILE:LINE: `.
fn without_places(text: &str, file: &str) -> String {
    let without = |line: &str| {
        let rest = line.strip_prefix(file)?.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
        Some(format!("{}\n", rest.strip_prefix(' ')?))
    };
    text.lines().map(|line| without(line).unwrap_or_else(|| format!("{line}\n"))).collect()
}

/// Asserts that the command refuses an Envoy, with one line that begins with each of `lines`.
#[track_caller]
fn assert_refused(bootstrap: &Bootstrap, lines: &[&str]) {
    let said = about(bootstrap, &[]);
    assert_lines(&said, lines);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
}

/// Asserts that the command accepts an Envoy with one warning, which begins with `warning`, and refuses
/// it if it is told to be strict.
#[track_caller]
fn assert_warned(bootstrap: &Bootstrap, warning: &str) {
    assert_all_warned(bootstrap, &[warning]);
}

/// The same with several warnings.
#[track_caller]
fn assert_all_warned(bootstrap: &Bootstrap, warnings: &[&str]) {
    let said = about(bootstrap, &[]);
    let lines: Vec<_> = warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    assert_lines(&said, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.code == 0 && said.out.contains(": ok: "), "{said:?}");
    let strict = about(bootstrap, &["--strict"]);
    assert_eq!((strict.code, strict.out.as_str(), strict.err), (1, "", said.err));
}

#[track_caller]
fn assert_accepted(bootstrap: &Bootstrap) {
    let said = about(bootstrap, &["--strict"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
}

#[track_caller]
fn assert_lines(said: &Said, beginnings: &[&str]) {
    let lines: Vec<_> = said.err.lines().collect();
    let fit =
        lines.len() == beginnings.len() && lines.iter().zip(beginnings).all(|(line, begin)| line.starts_with(begin));
    assert!(fit, "expected {beginnings:#?}, but it said {lines:#?}");
}

#[test]
fn the_files_of_the_repository_are_accepted() {
    let (envoy, compose, replicas) = ("envoy.yaml", "deploy/compose/envoy.yaml", "deploy/replicas/envoy.yaml");
    let dynamic = ["deploy/dynamic/envoy.yaml", "deploy/dynamic/filter.yaml"];
    let kubernetes = ["deploy/istio/callbacks.yaml", "deploy/envoy-gateway/callbacks.yaml"];
    for files in [&[envoy][..], &[compose], &[replicas], &dynamic[1..], &dynamic, &kubernetes[..1], &kubernetes[1..]] {
        let said = check(files, &[]);
        assert_eq!(said.code, 0, "{said:?}");
        for file in files {
            assert!(said.out.contains(&format!("{file}: ok: lock at /suite/receive, 1 credentials\n")), "{said:?}");
        }
        // The module may not be built yet; and the listeners of containers are published elsewhere.
        let is_known = |line: &str| {
            line.contains("code.local.filename: ")
                || [compose, replicas].iter().any(|file| line.starts_with(file))
                    && line.contains("takes callbacks in clear from other machines")
        };
        let unknown = said.err.lines().find(|line| !is_known(line));
        assert_eq!(unknown, None);
    }
    assert_accepted(&good());
}

#[test]
fn all_forms_of_the_same_configuration_are_accepted() {
    let folder = TempDir::new().unwrap();
    let plain = plugin();
    let filter = |configuration: Value| {
        json!({
            "name": "wecom", "allow_on_headers_stop_iteration": true, "failure_policy": "FAIL_RELOAD",
            "configuration": configuration,
            "vm_config": {
                "vm_id": "wecom",
                "environment_variables": { "host_env_keys": ["WECOM_TOKEN", "WECOM_ENCODING_AES_KEY"] },
                "capability_restriction_config": { "allowed_capabilities": capabilities() }
            }
        })
    };
    let wasm = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
    let text = json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": plain.to_string() });
    let tree = json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": plain });
    let patch = json!({ "spec": { "configPatches": [{ "patch": { "value": {
        "name": "wecom", "typed_config": { "@type": wasm, "config": filter(tree.clone()) }
    } } }] } });
    let typed_struct = json!({ "name": "wecom", "typed_config": {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": wasm, "value": { "config": filter(tree) }
    } });
    for (name, content) in [
        ("plugin.json", plain.to_string()),
        ("plugin.yaml", serde_saphyr::to_string(&plain).unwrap()),
        ("string.json", json!({ "typed_config": { "@type": wasm, "config": filter(text) } }).to_string()),
        ("manifest.yaml", format!("kind: Other\n---\n{patch}\n")),
        ("typed-struct.json", typed_struct.to_string()),
    ] {
        let path = file(&folder, name, &content);
        let said = check(&[&path], &[]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{name}: {said:?}");
    }
}

/// The list of `envoy.yaml`.
fn capabilities() -> Value {
    let mut list = Value::Null;
    let _ = Bootstrap::example().unwrap().edit_plugin(|plugin| {
        list = plugin["vm_config"]["capability_restriction_config"]["allowed_capabilities"].clone();
    });
    list
}

#[test]
fn a_refusal_names_file_field_and_reason_and_no_value() {
    let folder = TempDir::new().unwrap();
    let change = |pointer: &str, value: Value| {
        let mut changed = plugin();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string()
    };
    for (content, field) in [
        (change("/endpoints/0/decision/timeout_ms", json!(99_999)), "endpoints[0].decision.timeout_ms: must be"),
        (
            change("/endpoints/0/credentials/0/encoding_aes_key", json!("s3cret!")),
            "endpoints[0].credentials[0].encoding_aes_key: ",
        ),
        (change("/endpoints/0/receive_ids", json!([])), "endpoints[0].receive_ids: must hold"),
        (change("/endpoints/0/decision", json!({})), "endpoints[0].decision.cluster: is missing"),
        (plugin().to_string().replacen("\"endpoints\"", "\"s3cret!\":1,\"endpoints\"", 1), ""),
        (plugin().to_string().replacen('{', "{\"max_body_bytes\":1,\"max_body_bytes\":2,", 1), ""),
    ] {
        let path = file(&folder, "plugin.json", &content);
        let said = check(&[&path], &[]);
        assert_ne!(said.code, 0, "{said:?}");
        assert_eq!(said.out, "");
        assert!(without_places(&said.err, &path).starts_with(field), "{said:?}");
        assert!(said.err.starts_with(&path), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    let path = file(&folder, "plugin.json", &change("/endpoints/0/credentials/0/token", json!("s3cret!")));
    let said = check(&[&path], &[]);
    assert!(said.code == 1 && !said.err.contains("s3cret"), "{said:?}");
}

#[test]
fn a_secret_that_is_not_set_is_an_error_unless_it_is_optional() {
    let missing = check(&["envoy.yaml"], &["WECOM_TOKEN"]);
    assert_eq!(missing.code, 1);
    let begins = without_places(&missing.err, "envoy.yaml");
    assert!(begins.starts_with("endpoints[0].credentials[0].token: "), "{missing:?}");

    let folder = TempDir::new().unwrap();
    let path = file(&folder, "envoy.json", &good().config().to_string());
    let optional = check(&["--env-optional", &path], &["WECOM_TOKEN", "WECOM_ENCODING_AES_KEY"]);
    assert_eq!((optional.code, optional.err.as_str()), (0, ""));
    let replica = "deploy/replicas/envoy.yaml";
    let unset = ["WECOM_RECORD_SECRET", "WECOM_RECORD_PASSWORD"];
    assert!(check(&[replica], &unset).err.contains("dedup.redis.secret: "));
    assert_eq!(check(&["--env-optional", replica], &unset).code, 0);

    let with_header = good().edit_plugin_value(|value| {
        value["endpoints"][0]["decision"]["headers"] = json!({ "authorization": { "env": "WECOM_TOKEN" } });
    });
    let path = file(&folder, "envoy.json", &with_header.config().to_string());
    assert_eq!(check(&[&path], &[]).code, 0);
    let missing = check(&[&path], &["WECOM_TOKEN"]);
    assert!(missing.err.contains(": endpoints[0].decision.headers.authorization: the environment"), "{missing:?}");
    assert_eq!(check(&["--env-optional", &path], &["WECOM_TOKEN"]).code, 0);

    // Set, but not passed on to the VM: Envoy would never start.
    let bootstrap = Bootstrap::example().unwrap().edit_plugin(|plugin| {
        plugin["vm_config"]["environment_variables"]["host_env_keys"] = json!(["WECOM_TOKEN"]);
    });
    let path = file(&folder, "envoy.json", &bootstrap.config().to_string());
    let said = check(&["--env-optional", &path], &[]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("endpoints[0].credentials[0].encoding_aes_key: "), "{said:?}");

    // Written wrongly, it is wrong wherever it is set.
    let mut misspelt = plugin();
    misspelt["endpoints"][0]["credentials"][0]["token"] = json!({ "env": "WECOM_TOKEN", "or": "x" });
    let path = file(&folder, "plugin.json", &misspelt.to_string());
    let said = check(&["--env-optional", &path], &["WECOM_TOKEN"]);
    assert!(said.code == 1 && said.err.contains("endpoints[0].credentials[0].token: must be"), "{said:?}");

    // Other mistakes are still found.
    let mut plugin = plugin();
    plugin["endpoints"][0]["events"]["timeout_ms"] = json!(0);
    let path = file(&folder, "plugin.json", &plugin.to_string());
    let said = check(&["--env-optional", &path], &["WECOM_TOKEN"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("endpoints[0].events.timeout_ms: "), "{said:?}");
}

#[test]
fn what_cannot_be_checked_ends_with_2_and_the_worst_of_many_counts() {
    let folder = TempDir::new().unwrap();
    let good = "envoy.yaml".to_owned();
    let refused = file(&folder, "refused.json", r#"{"endpoints":[]}"#);
    let broken = file(&folder, "broken.yaml", "token: [s3cret\nendpoints: {");
    let other = file(&folder, "other.yaml", "static_resources: {}\n");
    for (files, code) in [
        (vec![&good], 0),
        (vec![&good, &refused], 1),
        (vec![&refused, &other, &good], 2),
        (vec![&broken], 2),
        (vec![&"no-such-file.yaml".to_owned()], 2),
        (vec![], 2),
    ] {
        let files: Vec<_> = files.iter().map(|name| name.as_str()).collect();
        let said = check(&files, &[]);
        assert_eq!(said.code, code, "{files:?}: {said:?}");
        assert!(!said.err.contains("s3cret"), "{said:?}");
    }
    let dynamic = check(&["deploy/dynamic/envoy.yaml"], &[]);
    assert!(dynamic.code == 2 && dynamic.err.contains("config_discovery"), "{dynamic:?}");
    let help = check(&["--help"], &[]).out;
    assert!(help.contains("Exit codes") && help.contains("\"level\""), "{help}");
}
