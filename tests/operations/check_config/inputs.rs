//! Where configurations come from.

use serde_json::json;

use super::{TempDir, Value, check, check_reading, file, filter_in_chain, good};

/// As YAML, indented to stand below a key.
fn below(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).unwrap();
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn standard_input_is_a_file_too() {
    let text = serde_saphyr::to_string(good().config()).unwrap();
    let said = check_reading(&text, &["-"], &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.out, "-: ok: lock at /suite/receive, 1 credentials\n");
    let wrong = check_reading(r#"{"endpoints": []}"#, &["-"], &[]);
    assert_eq!((wrong.code, wrong.err.as_str()), (1, "-: endpoints: must hold at least one\n"));
}

#[test]
fn a_config_map_is_read_wherever_it_stands() {
    let folder = TempDir::new().unwrap();
    let wrong = good().edit_plugin(|config| config["failure_policy"] = json!("FAIL_OPEN"));
    let line = |at: &str, bootstrap| {
        format!("{at}[\"envoy.yaml\"].{}.typed_config.config.failure_policy: must be", filter_in_chain(bootstrap))
    };
    let map = |config: &Value| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  annotations:\n    last-applied: '{}'\ndata:\n  \
             note: |\n    what: [ever\n  envoy.yaml: |\n{}",
            json!({ "endpoints": [] }),
            below(config)
        )
    };
    let path = file(&folder, "map.yaml", &map(good().config()));
    let said = check(&[&path], &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");

    let path = file(&folder, "map.yaml", &format!("kind: Other\n---\n{}", map(wrong.config())));
    let said = check(&[&path], &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.starts_with(&format!("{path}: {}", line("data", &wrong))), "{said:?}");

    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ConfigMap", "data": { "envoy.yaml": wrong.config().to_string() } },
        { "apiVersion": "v1", "kind": "ConfigMap", "data": { "filter.json": r#"{"endpoints": []}"# } }
    ] });
    let path = file(&folder, "list.json", &list.to_string());
    let said = check(&[&path], &[]);
    assert!(said.err.contains(&format!("{path}: {}", line("items[0].data", &wrong))), "{said:?}");
    assert!(said.err.contains(&format!("{path}: items[1].data[\"filter.json\"].endpoints: must hold")), "{said:?}");

    // A text that says that it is a configuration must be one.
    let broken = "apiVersion: v1\nkind: ConfigMap\ndata:\n  envoy.yaml: |\n    token: [s3cret\n";
    let path = file(&folder, "broken.yaml", broken);
    let said = check(&[&path], &[]);
    assert!(said.code == 2 && said.err.starts_with(&format!("{path}: data[\"envoy.yaml\"]: ")), "{said:?}");
    assert!(!said.err.contains("s3cret"), "{said:?}");
}

#[test]
fn an_envoy_filter_among_other_manifests_is_read() {
    let folder = TempDir::new().unwrap();
    let mut filter = Value::Null;
    let _ = good().edit_hcm(|hcm| {
        let chain = hcm["http_filters"].as_array().unwrap();
        filter = chain.iter().find(|filter| filter["name"] == "wecom").unwrap().clone();
    });
    let manifest = |filter: &Value| {
        json!({ "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "spec": { "configPatches": [
            { "applyTo": "CLUSTER", "patch": { "operation": "ADD", "value": { "name": "decision" } } },
            { "applyTo": "HTTP_FILTER", "patch": { "operation": "INSERT_BEFORE", "value": filter } }
        ] } })
    };
    let path = file(&folder, "manifests.yaml", &format!("kind: Service\n---\n{}\n", manifest(&filter)));
    let said = check(&[&path], &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");

    // The text inside the filter is the filter's configuration, not a document of its own.
    let wrong = json!({ "endpoints": [] }).to_string();
    filter["typed_config"]["config"]["configuration"] =
        json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": format!("{wrong}\n") });
    let path = file(&folder, "manifests.yaml", &manifest(&filter).to_string());
    let said = check(&[&path], &[]);
    assert_eq!((said.code, said.err), (1, format!("{path}: endpoints: must hold at least one\n")));
}

#[test]
fn the_wasm_filters_are_named_if_none_fits() {
    let said = check(&["--filter", "other", "envoy.yaml"], &[]);
    assert_eq!(said.code, 2);
    let line = "envoy.yaml: holds neither a plugin configuration nor a Wasm filter named other, but Wasm filters named \
                wecom: choose one by --filter\n";
    assert_eq!(said.err, line);

    let folder = TempDir::new().unwrap();
    let renamed = good().edit_plugin(|config| config["name"] = json!("hooks")).edit_hcm(|hcm| {
        let chain = hcm["http_filters"].as_array_mut().unwrap();
        chain.iter_mut().find(|filter| filter["name"] == "wecom").unwrap()["name"] = json!("edge-hooks");
    });
    let path = file(&folder, "envoy.json", &renamed.config().to_string());
    let said = check(&[&path], &[]);
    assert!(said.code == 2 && said.err.contains("but Wasm filters named edge-hooks, hooks: "), "{said:?}");
    for name in ["edge-hooks", "hooks"] {
        assert_eq!(check(&["--filter", name, &path], &[]).code, 0);
    }
}
