//! The files of deploy/replicas.

use std::fs;

use serde_json::{Value, json};
use testbed::files::repository;

fn yaml(file: &str) -> Value {
    let text = fs::read_to_string(repository().join(file)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_replicas_file_says_what_envoy_yaml_says_but_for_what_its_head_names() {
    const LISTENER: &str = "/static_resources/listeners/0";
    const CONFIG: &str = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    const MODULE: &str = "/vm_config/code/local/filename";
    let (plain, mut replicas) = (yaml("envoy.yaml"), yaml("deploy/replicas/envoy.yaml"));
    let as_in_plain = |value: &mut Value, path: &str, expected: Value| {
        let there = value.pointer_mut(path).unwrap_or_else(|| panic!("no {path}"));
        assert_eq!(*there, expected, "{path}");
        *there = plain.pointer(path).unwrap_or_else(|| panic!("no {path} in envoy.yaml")).clone();
    };

    as_in_plain(&mut replicas, &format!("{LISTENER}/address/socket_address/address"), "0.0.0.0".into());
    let config = format!("{LISTENER}{CONFIG}");
    as_in_plain(&mut replicas, &format!("{config}{MODULE}"), "/etc/envoy/wecom_callback_filter.wasm".into());
    let names = ["WECOM_TOKEN", "WECOM_ENCODING_AES_KEY", "WECOM_RECORD_SECRET", "WECOM_RECORD_PASSWORD"];
    as_in_plain(&mut replicas, &format!("{config}/vm_config/environment_variables/host_env_keys"), json!(names));
    let address = "load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
    for cluster in 0..2 {
        as_in_plain(&mut replicas, &format!("/static_resources/clusters/{cluster}/{address}"), "backend".into());
    }

    let remove = |value: &mut Value, path: &str, name: &str| {
        value.pointer_mut(path).and_then(Value::as_object_mut).and_then(|object| object.remove(name)).unwrap()
    };
    let dedup = remove(&mut replicas, &format!("{config}/configuration/value"), "dedup");
    assert_eq!(dedup["redis"]["secret"], json!({ "env": "WECOM_RECORD_SECRET" }));
    assert_eq!(dedup["redis"]["on_error"], "refuse");
    let hops =
        remove(&mut replicas, &format!("{LISTENER}/filter_chains/0/filters/0/typed_config"), "xff_num_trusted_hops");
    assert_eq!(hops, 1);
    let compose = yaml("deploy/compose/envoy.yaml")["static_resources"].take();
    let mut taken = |list: &str| replicas["static_resources"][list].as_array_mut().unwrap().pop().unwrap();
    // Those of deploy/compose, whose tests have Prometheus read them.
    assert_eq!((&taken("listeners"), &taken("clusters")), (&compose["listeners"][1], &compose["clusters"][2]));
    assert_eq!(taken("clusters")["name"], dedup["redis"]["cluster"]);
    assert_eq!(replicas, plain, "everything else");
}

#[test]
fn the_page_says_where_each_replica_is_scraped() {
    let page = fs::read_to_string(repository().join("docs/replicas.md")).unwrap();
    let listeners = yaml("deploy/replicas/envoy.yaml")["static_resources"]["listeners"].take();
    let metrics = listeners.as_array().unwrap().iter().find(|listener| listener["name"] == "metrics").unwrap();
    let port = &metrics["address"]["socket_address"]["port_value"];
    let route = metrics.pointer("/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0");
    assert!(page.contains(&format!("port {port}, path `{}`", route.unwrap()["match"]["path"].as_str().unwrap())));
    let targets = ["edge-1", "edge-2"].map(|edge| format!("`{edge}:{port}`"));
    assert!(targets.iter().all(|target| page.contains(target)), "{targets:?}");
}

#[test]
fn the_compose_file_starts_what_the_configurations_speak_of() {
    let compose = yaml("deploy/replicas/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let (edge, balancer) = (yaml("deploy/replicas/envoy.yaml"), yaml("deploy/replicas/load_balancer.yaml"));
    for config in [&edge, &balancer] {
        for cluster in config["static_resources"]["clusters"].as_array().unwrap() {
            let endpoints = cluster.pointer("/load_assignment/endpoints/0/lb_endpoints").unwrap().as_array().unwrap();
            for endpoint in endpoints {
                let address = endpoint.pointer("/endpoint/address/socket_address/address").unwrap().as_str().unwrap();
                let is_itself = address == "127.0.0.1" && cluster["name"] == "admin";
                assert!(is_itself || services.contains_key(address), "{} leads to {address}", cluster["name"]);
            }
        }
    }
    let redis = &services["redis"];
    assert!(redis["command"].to_string().contains("noeviction"));
    assert!(compose["configs"]["users"]["content"].as_str().unwrap().contains(testbed::redis::RIGHTS));
    let plugin =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    let names = edge.pointer(&format!("{plugin}/vm_config/environment_variables/host_env_keys")).unwrap();
    let volumes = services["edge-1"]["volumes"].to_string();
    for edge in ["edge-1", "edge-2"] {
        let given = services[edge]["environment"].as_object().unwrap();
        let given: Vec<_> = given.keys().map(String::as_str).collect();
        let mut wanted: Vec<_> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        wanted.sort_unstable();
        assert_eq!(given, wanted, "{edge}");
        assert!(services[edge]["ports"].is_null(), "{edge} speaks in clear, and to the load balancer only");
    }
    assert!(volumes.contains(":/etc/envoy/wecom_callback_filter.wasm:ro"), "{volumes}");
    assert_eq!(services["load-balancer"]["ports"], json!(["127.0.0.1:10000:8080"]));
    // Another folder's stand-in, on the ports that the clusters lead to.
    let mut backend = yaml("deploy/compose/compose.yaml")["services"]["backend"].clone();
    backend["volumes"] = json!(["../compose/backend.py:/backend.py:ro"]);
    assert_eq!(services["backend"], backend);
    let ports = ["decision", "backend"].map(|name| {
        let clusters = edge["static_resources"]["clusters"].as_array().unwrap();
        let cluster = clusters.iter().find(|cluster| cluster["name"] == name).unwrap();
        let endpoint = cluster.pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint").unwrap();
        endpoint.pointer("/address/socket_address/port_value").unwrap().to_string()
    });
    assert_eq!(backend["command"], json!(["python3", "/backend.py", ports[0], ports[1]]));
}

/// Who closes first never closes while the other one sends.
#[test]
fn the_load_balancer_closes_idle_connections_before_the_replicas_do() {
    let seconds = |value: Option<&Value>| -> u32 {
        value.and_then(Value::as_str).and_then(|text| text.strip_suffix('s')).unwrap().parse().unwrap()
    };
    let balancer = yaml("deploy/replicas/load_balancer.yaml");
    let options = "typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let idle = "common_http_protocol_options/idle_timeout";
    let front = seconds(balancer.pointer(&format!("/static_resources/clusters/0/{options}/{idle}")));
    let replica = yaml("deploy/replicas/envoy.yaml");
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let back = seconds(replica.pointer(&format!("{manager}/{idle}")));
    assert!(front < back, "{front} s and {back} s");
}
