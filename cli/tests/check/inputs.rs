//! Where configurations come from, and where the results go.

use std::fs;

use serde_json::json;

use super::{TempDir, Value, check, check_reading, file, filter_in_chain, good, plugin, repository, without_places};

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
    assert_eq!((wrong.code, wrong.err.as_str()), (1, "-:1: endpoints: must hold at least one\n"));
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
    assert!(without_places(&said.err, &path).starts_with(&line("data", &wrong)), "{said:?}");

    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ConfigMap", "data": { "envoy.yaml": wrong.config().to_string() } },
        { "apiVersion": "v1", "kind": "ConfigMap", "data": { "filter.json": r#"{"endpoints": []}"# } }
    ] });
    let path = file(&folder, "list.json", &list.to_string());
    let said = check(&[&path], &[]);
    assert!(said.err.contains(&format!("{path}:1: {}", line("items[0].data", &wrong))), "{said:?}");
    assert!(said.err.contains(&format!("{path}:1: items[1].data[\"filter.json\"].endpoints: must hold")), "{said:?}");

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
    // What a file does not have is not silently taken for good.
    assert!(said.out.contains(": note: the connection manager, its routes and the clusters are not in"), "{said:?}");

    // The text inside the filter is the filter's configuration, not a document of its own.
    let wrong = json!({ "endpoints": [] }).to_string();
    filter["typed_config"]["config"]["configuration"] =
        json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": format!("{wrong}\n") });
    let path = file(&folder, "manifests.yaml", &manifest(&filter).to_string());
    let said = check(&[&path], &[]);
    assert_eq!((said.code, said.err), (1, format!("{path}:1: endpoints: must hold at least one\n")));
}

#[test]
fn a_filter_in_another_file_is_checked_with_the_routes_of_this_one() {
    let folder = TempDir::new().unwrap();
    let read = |name: &str| -> Value {
        serde_saphyr::from_str(&fs::read_to_string(repository().join("deploy/dynamic").join(name)).unwrap()).unwrap()
    };
    let filter = repository().join("deploy/dynamic/filter.yaml");
    let filter = filter.to_str().unwrap();
    let mut envoy = read("envoy.yaml");
    let hcm = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let routes = envoy.pointer_mut(&format!("{hcm}/route_config/virtual_hosts/0/routes")).unwrap();
    routes.as_array_mut().unwrap().retain(|route| route.get("direct_response").is_none());
    let path = file(&folder, "envoy.json", &envoy.to_string());
    let said = check(&[filter, &path], &[]);
    assert_eq!(said.code, 1, "{said:?}");
    let line = format!("{path}:1: {}.route_config.virtual_hosts[0].routes[0]: catches the path", super::MANAGER);
    assert!(said.err.contains(&line), "{said:?}");

    // Routes of their own, by RDS.
    let mut envoy = read("envoy.yaml");
    let hcm = envoy.pointer_mut(hcm).unwrap();
    let mut routes = hcm.as_object_mut().unwrap().remove("route_config").unwrap();
    hcm["rds"] = json!({ "route_config_name": routes["name"], "config_source": {} });
    routes["@type"] = json!("type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
    let path = file(&folder, "envoy.json", &envoy.to_string());
    for (status, code) in [(503, 0), (200, 1)] {
        routes["virtual_hosts"][0]["routes"][0]["direct_response"]["status"] = json!(status);
        let rds = file(&folder, "rds.json", &json!({ "resources": [routes] }).to_string());
        let said = check(&[filter, &path, &rds], &[]);
        assert_eq!(said.code, code, "{said:?}");
        let line = format!("{rds}:1: resources[0].virtual_hosts[0].routes[0].direct_response.status: must be 503");
        assert_eq!(said.err.contains(&line), code == 1, "{said:?}");
    }
}

#[test]
fn what_is_wrong_around_a_filter_from_elsewhere_is_said_too() {
    let folder = TempDir::new().unwrap();
    let text = fs::read_to_string(repository().join("deploy/dynamic/envoy.yaml")).unwrap();
    let path = file(&folder, "envoy.yaml", &text.replacen("max_stream_duration: 4s", "max_stream_duration: 2s", 1));
    let said = check(&[&path], &[]);
    assert!(said.code == 2 && said.err.contains("config_discovery"), "{said:?}");
    assert!(said.err.contains("common_http_protocol_options.max_stream_duration: must be at least 3s"), "{said:?}");
}

#[test]
fn a_filter_in_two_listeners_is_told_once() {
    let folder = TempDir::new().unwrap();
    let two = good().edit(|config| {
        config["stats_config"] = json!(null);
        let mut listener = config["static_resources"]["listeners"][0].clone();
        listener["name"] = json!("second");
        config["static_resources"]["listeners"].as_array_mut().unwrap().push(listener);
    });
    let path = file(&folder, "envoy.json", &two.config().to_string());
    let said = check(&[&path], &[]);
    assert_eq!(said.out, format!("{path}: ok: lock at /suite/receive, 1 credentials\n"));
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}

#[test]
fn a_listener_without_its_bootstrap_says_what_was_not_checked() {
    let folder = TempDir::new().unwrap();
    let mut listener = good().config()["static_resources"]["listeners"][0].clone();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let path = file(&folder, "lds.json", &json!({ "resources": [listener] }).to_string());
    let said = check(&[&path], &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.out.contains(": note: clusters and stats_config are not in this file"), "{said:?}");
}

#[test]
fn the_wasm_filters_are_named_if_none_fits() {
    let said = check(&["--filter", "other", "envoy.yaml"], &[]);
    assert_eq!(said.code, 2);
    let line = "envoy.yaml: holds neither a plugin configuration nor a Wasm filter named other, but Wasm filters named \
                wecom: choose one by --filter\n";
    assert_eq!(said.err, line);

    let folder = TempDir::new().unwrap();
    let renamed = good().always_on().edit_plugin(|config| config["name"] = json!("hooks")).edit_hcm(|hcm| {
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

#[test]
fn json_has_the_documented_shape() {
    let folder = TempDir::new().unwrap();
    let mut wrong = plugin();
    wrong["endpoints"][0]["decision"]["timeout_ms"] = json!(0);
    let wrong = file(&folder, "wrong.json", &wrong.to_string());
    let module = "vm_config.code.local.filename";
    let unbuilt = good().edit_plugin(|config| config["vm_config"]["code"]["local"]["filename"] = json!("none.wasm"));
    let module = format!("{}.typed_config.config.{module}", filter_in_chain(&unbuilt));
    let unbuilt = file(&folder, "unbuilt.json", &unbuilt.config().to_string());
    let said = check(&["--json", &wrong, &unbuilt, "no-such-file.yaml"], &[]);
    assert_eq!((said.code, said.err.as_str()), (2, ""), "{said:?}");

    let reports: Value = serde_json::from_str(&said.out).unwrap();
    let endpoints = json!([{ "name": "lock", "path": "/suite/receive", "credentials": 1 }]);
    let of = |index: usize, problem: usize| &reports[index]["problems"][problem];
    assert_eq!(
        reports[0],
        json!({ "file": wrong, "endpoints": endpoints, "problems": [
            { "level": "problem", "line": 1, "path": "endpoints[0].decision.timeout_ms", "reason": of(0, 0)["reason"] },
            { "level": "note", "line": null, "path": "", "reason": of(0, 1)["reason"] }
        ] })
    );
    assert_eq!(
        reports[1],
        json!({ "file": unbuilt, "endpoints": endpoints, "problems": [
            { "level": "warning", "line": 1, "path": module, "reason": of(1, 0)["reason"] }
        ] })
    );
    assert_eq!((&reports[2]["file"], &of(2, 0)["level"]), (&json!("no-such-file.yaml"), &json!("unchecked")));
    assert_eq!(reports.as_array().unwrap().len(), 3);

    let warned = check(&["--json", &unbuilt], &[]);
    let strict = check(&["--json", "--strict", &unbuilt], &[]);
    assert_eq!((warned.code, strict.code), (0, 1));
    assert_eq!(warned.out, strict.out);
}
