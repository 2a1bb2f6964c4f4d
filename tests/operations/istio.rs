//! deploy/istio: the manifests against the published schemas, and a real Envoy with the parts of its
//! configuration that Istio takes from them, put together as Istio does.

use serde_json::{Value, json};
use testbed::envoy::Bootstrap;
use testbed::wecom::Event;

use crate::kubernetes::{self, Gateway, HOST, resource};
use crate::schemas::{self, CustomResources};

const FOLDER: &str = "deploy/istio";
const FILES: [&str; 2] = ["deploy/istio/gateway.yaml", "deploy/istio/callbacks.yaml"];
const CLUSTERS: [&str; 2] =
    ["outbound|9000||decision.wecom.svc.cluster.local", "outbound|9001||backend.wecom.svc.cluster.local"];
const MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// A filter chain of a gateway's listener for a host, as Istio makes it for a server of a Gateway. TLS is
/// left out, and the filters that only Istio's Envoy has.
fn chain(host: &str, routes: &Value) -> Value {
    json!({
        "filter_chain_match": { "server_names": [host] },
        "filters": [{ "name": MANAGER, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "outbound_0.0.0.0_8443",
            "use_remote_address": true,
            "normalize_path": true,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "proxy_100_continue": true,
            "server_name": "istio-envoy",
            "upgrade_configs": [{ "upgrade_type": "websocket" }],
            "route_config": {
                "name": "https.8443.https.callbacks.wecom",
                "ignore_port_in_host_matching": true,
                "virtual_hosts": [{ "name": format!("{host}:8443"), "domains": [host], "routes": routes }]
            },
            "http_filters": [
                { "name": "envoy.filters.http.cors", "typed_config":
                    { "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors" } },
                { "name": "envoy.filters.http.router", "typed_config":
                    { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }
            ]
        } }]
    })
}

/// The routes that Istio makes of a VirtualService.
fn routes(service: &Value) -> Value {
    let rules = service["spec"]["http"].as_array().unwrap();
    let route = |rule: &Value| {
        let condition = &rule["match"][0];
        let response = &rule["directResponse"];
        json!({
            "name": rule["name"],
            "match": { "prefix": condition["uri"]["prefix"], "case_sensitive": condition["ignoreUriCase"] != true },
            "direct_response": { "status": response["status"], "body": { "inline_string": response["body"]["string"] } }
        })
    };
    rules.iter().map(route).collect()
}

/// What protobuf calls merging: lists grow, everything else is replaced or merged in turn.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.clone()),
        (into, from) => *into = from.clone(),
    }
}

/// Applies an EnvoyFilter to the filter chains of a listener.
fn apply(filter: &Value, chains: &mut [Value]) {
    let patches = filter["spec"]["configPatches"].as_array().unwrap().iter();
    for patch in patches.filter(|patch| patch["applyTo"] != "CLUSTER") {
        assert_eq!(patch["match"]["context"], "GATEWAY");
        let (change, value) = (&patch["patch"]["operation"], &patch["patch"]["value"]);
        let sni = &patch["match"]["listener"]["filterChain"]["sni"];
        for chain in &mut *chains {
            if !sni.is_null() && *sni != chain["filter_chain_match"]["server_names"][0] {
                continue;
            }
            let manager = &mut chain["filters"][0];
            match (patch["applyTo"].as_str().unwrap(), change.as_str().unwrap()) {
                ("HTTP_FILTER", "INSERT_FIRST") => {
                    manager["typed_config"]["http_filters"].as_array_mut().unwrap().insert(0, value.clone());
                }
                ("NETWORK_FILTER", "MERGE") => merge(manager, value),
                ("HTTP_ROUTE", "MERGE") => {
                    let name = &patch["match"]["routeConfiguration"]["vhost"]["route"]["name"];
                    let hosts = manager["typed_config"]["route_config"]["virtual_hosts"].as_array_mut().unwrap();
                    let routes = hosts.iter_mut().flat_map(|host| host["routes"].as_array_mut().unwrap());
                    routes.filter(|route| route["name"] == *name).for_each(|route| merge(route, value));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The clusters that an EnvoyFilter adds.
fn added_clusters(filter: &Value) -> Vec<Value> {
    let patches = filter["spec"]["configPatches"].as_array().unwrap().iter();
    let of_clusters = patches.filter(|patch| patch["applyTo"] == "CLUSTER");
    let added = of_clusters.map(|patch| {
        assert_eq!((&patch["match"], &patch["patch"]["operation"]), (&json!({ "context": "GATEWAY" }), &json!("ADD")));
        patch["patch"]["value"].clone()
    });
    added.collect()
}

/// The listener's two chains: the callback's, and one of another host.
fn chains(filter: Option<&Value>) -> Vec<Value> {
    let elsewhere = json!([{ "match": { "prefix": "/" }, "route": { "cluster": CLUSTERS[1] } }]);
    let mut chains = vec![chain(HOST, &routes(&resource(&FILES, "VirtualService"))), chain("other", &elsewhere)];
    if let Some(filter) = filter {
        apply(filter, &mut chains);
    }
    chains
}

/// An Envoy with the callback's chain. Istio gives the bootstrap of the ConfigMap to Envoy's command line.
fn bootstrap(filter: Option<&Value>) -> Bootstrap {
    let mut chain = chains(filter).remove(0);
    chain.as_object_mut().unwrap().remove("filter_chain_match");
    let clusters = filter.map(added_clusters).unwrap_or_default();
    let config = json!({
        "stats_config": {
            "use_all_default_tags": false,
            "stats_tags": [{ "tag_name": "cluster_name", "regex": "^cluster(\\.(.+);)" }],
            "stats_matcher": { "inclusion_list": { "patterns": [
                { "prefix": "cluster_manager" }, { "prefix": "listener_manager" }, { "prefix": "server" },
                { "prefix": "wasm" }, { "prefix": "component" }, { "prefix": "istio" }
            ] } }
        },
        "static_resources": { "listeners": [{ "name": "0.0.0.0_8443", "filter_chains": [chain] }], "clusters": clusters }
    });
    let added = resource(&FILES, "ConfigMap")["data"]["custom_bootstrap.json"].as_str().unwrap().to_owned();
    let bootstrap = Bootstrap::from_yaml(&config.to_string()).unwrap().argument("--config-yaml").argument(&added);
    CLUSTERS.into_iter().fold(bootstrap, |bootstrap, cluster| bootstrap.add_cluster(cluster, 9))
}

#[test]
fn the_manifests_are_as_the_published_schemas_say() {
    if schemas::are_missing() {
        return;
    }
    let native = ["ConfigMap", "Deployment", "Service", "ServiceAccount", "Role", "RoleBinding", "PodDisruptionBudget"];
    for resources in [kubernetes::resources(&FILES), kubernetes::kustomized(FOLDER)] {
        kubernetes::check_against_schemas(&resources, &native);
        // The schemas of pods are in that of Envoy Gateway's proxies.
        let pod = &kubernetes::only(&resources, "Deployment")["spec"]["template"]["spec"];
        let within = "/properties/spec/properties/provider/properties/kubernetes/properties/envoyDeployment/properties";
        let mut parts = vec![
            ("container/properties/env", &pod["containers"][0]["env"]),
            ("container/properties/volumeMounts", &pod["containers"][0]["volumeMounts"]),
            ("pod/properties/volumes", &pod["volumes"]),
        ];
        parts.extend(
            pod.get("topologySpreadConstraints").map(|value| ("pod/properties/topologySpreadConstraints", value)),
        );
        for (part, value) in parts {
            let pointer = format!("{within}/{part}");
            let wrong = CustomResources::read().part("gateway.envoyproxy.io/v1alpha1", "EnvoyProxy", &pointer, value);
            assert_eq!(wrong, Vec::<String>::new(), "{part}");
        }
    }
}

#[test]
fn istio_closes_idle_connections_to_the_upstreams_when_envoy_yaml_does() {
    let rules: Vec<_> =
        kubernetes::resources(&FILES).into_iter().filter(|resource| resource["kind"] == "DestinationRule").collect();
    let hosts: Vec<_> = rules.iter().map(|rule| rule["spec"]["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, CLUSTERS.map(|cluster| cluster.rsplit('|').next().unwrap()));
    let example = Bootstrap::example().unwrap();
    for (rule, cluster) in rules.iter().zip(["decision", "backend"]) {
        let clusters = example.config()["static_resources"]["clusters"].as_array().unwrap();
        let cluster = clusters.iter().find(|known| known["name"] == cluster).unwrap();
        let options =
            &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        let idle = &rule["spec"]["trafficPolicy"]["connectionPool"]["http"]["idleTimeout"];
        assert_eq!(idle, &options["common_http_protocol_options"]["idle_timeout"]);
    }
}

#[test]
fn no_resource_of_istio_for_wasm_can_set_what_the_filter_needs() {
    if schemas::are_missing() {
        return;
    }
    let plugin = json!({
        "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin", "metadata": {},
        "spec": { "url": "file:///etc/wecom/wecom_callback_filter.wasm" }
    });
    assert_eq!(CustomResources::read().against(&plugin), Vec::<String>::new());
    let mut wanted = plugin;
    wanted["spec"]["allowOnHeadersStopIteration"] = true.into();
    assert!(!CustomResources::read().against(&wanted).is_empty(), "WasmPlugin has it now: say so in docs/istio.md");
}

#[test]
fn the_envoy_filter_says_what_envoy_yaml_says() {
    let filter = resource(&FILES, "EnvoyFilter");
    let chains = chains(Some(&filter));
    let manager = &chains[0]["filters"][0]["typed_config"];
    let filters = &manager["http_filters"];
    kubernetes::check_filters(&filters[0], &filters[1], CLUSTERS);
    for setting in [
        "normalize_path",
        "merge_slashes",
        "path_with_escaped_slashes_action",
        "common_http_protocol_options",
        "request_timeout",
        "stream_idle_timeout",
        "request_headers_timeout",
        "access_log",
    ] {
        assert_eq!(manager[setting], kubernetes::manager_of_envoy_yaml(&format!("/{setting}")), "{setting}");
    }
    // Istio cannot read `config: {}`.
    let mut route = manager["route_config"]["virtual_hosts"][0]["routes"][0].clone();
    route.as_object_mut().unwrap().remove("name");
    let switch = route["typed_per_filter_config"]["wecom"].as_object_mut().unwrap();
    assert_eq!(switch.remove("is_optional"), Some(true.into()));
    assert!(switch["config"].as_object_mut().unwrap().remove("@type").is_some(), "Istio refuses it without a type");
    assert_eq!(route, kubernetes::manager_of_envoy_yaml("/route_config/virtual_hosts/0/routes/0"));

    // Another host's chain keeps its limits and has no filter but that which takes headers away.
    let other = &chains[1]["filters"][0]["typed_config"];
    assert_eq!(other["http_filters"][0], filters[1]);
    assert_eq!(other["http_filters"].as_array().unwrap().len(), 3);
    assert!(other.get("common_http_protocol_options").is_none() && other.get("access_log").is_none());

    let added = resource(&FILES, "ConfigMap")["data"]["custom_bootstrap.json"].as_str().unwrap().to_owned();
    let added: Value = serde_json::from_str(&added).unwrap();
    assert_eq!(added, json!({ "stats_config": kubernetes::stats_config_of_envoy_yaml() }));
}

/// The filter in the callback's chain.
fn plugin(filter: &Value) -> Value {
    chains(Some(filter))[0]["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]["config"].clone()
}

#[test]
fn the_gateways_pod_has_the_module_and_the_secrets() {
    for (resources, replicas) in [(kubernetes::resources(&FILES), 1), (kubernetes::kustomized(FOLDER), 2)] {
        let deployment = kubernetes::only(&resources, "Deployment");
        assert_eq!(deployment["spec"]["replicas"], replicas);
        let pod = &deployment["spec"]["template"]["spec"];
        let (container, volumes) = (&pod["containers"][0], &pod["volumes"]);
        kubernetes::check_container(container, volumes, &plugin(kubernetes::only(&resources, "EnvoyFilter")));
        kubernetes::check_page("istio.md", container, volumes, &["istio.io/api"]);
    }
    let deployment = resource(&FILES, "Deployment");
    let template = &deployment["spec"]["template"];
    assert_eq!(
        template["metadata"]["annotations"]["sidecar.istio.io/bootstrapOverride"],
        resource(&FILES, "ConfigMap")["metadata"]["name"]
    );
    let label = &template["metadata"]["labels"]["istio"];
    for (kind, selector) in [
        ("Gateway", "/spec/selector/istio"),
        ("EnvoyFilter", "/spec/workloadSelector/labels/istio"),
        ("Service", "/spec/selector/istio"),
    ] {
        assert_eq!(resource(&FILES, kind).pointer(selector), Some(label), "{kind}");
    }
}

#[tokio::test]
async fn callbacks_are_served_by_an_envoy_that_istio_configures() {
    let filter = resource(&FILES, "EnvoyFilter");
    Gateway::start(bootstrap(Some(&filter)), CLUSTERS).await.serves_callbacks().await;
}

#[test]
fn several_pods_have_the_record_of_replicas() {
    let resources = kubernetes::kustomized(FOLDER);
    let filter = kubernetes::only(&resources, "EnvoyFilter");
    kubernetes::check_record(&plugin(filter), &added_clusters(filter)[0]);
}

#[test]
fn several_pods_stand_on_several_nodes() {
    let resources = kubernetes::kustomized(FOLDER);
    let deployment = &kubernetes::only(&resources, "Deployment")["spec"];
    let mut budget = kubernetes::only(&resources, "PodDisruptionBudget")["spec"].clone();
    let selector = budget.as_object_mut().unwrap().remove("selector").unwrap();
    assert_eq!(selector, deployment["selector"]);
    let pod = &deployment["template"];
    let labels = &selector["matchLabels"];
    assert_eq!(labels["istio"], pod["metadata"]["labels"]["istio"]);
    kubernetes::check_nodes(&deployment["replicas"], &pod["spec"]["topologySpreadConstraints"], labels, &budget);
}

#[tokio::test]
async fn several_pods_decide_a_callback_once() {
    let (plain, shared) = (resource(&FILES, "EnvoyFilter"), kubernetes::kustomized(FOLDER));
    let of = |is_shared| if is_shared { kubernetes::only(&shared, "EnvoyFilter") } else { &plain };
    kubernetes::shares_its_record(|is_shared| bootstrap(Some(of(is_shared))), CLUSTERS).await;
}

#[tokio::test]
async fn token_and_key_are_changed_as_the_page_says() {
    let filter = resource(&FILES, "EnvoyFilter");
    kubernetes::changes_its_credentials(|| bootstrap(Some(&filter)), CLUSTERS).await;
}

#[tokio::test]
async fn without_the_envoy_filter_callbacks_end_at_their_route() {
    Gateway::start(bootstrap(None), CLUSTERS).await.refuses_callbacks().await;
}

/// Istio's go-control-plane may not know the place that Envoy 1.40 prefers, and older Envoys do not.
#[tokio::test]
async fn the_list_of_capabilities_restricts_at_its_place_beside_vm_config() {
    let filter = resource(&FILES, "EnvoyFilter");
    let without_random = kubernetes::capabilities(bootstrap(Some(&filter)), |list| {
        assert!(list.as_object_mut().unwrap().remove("random_get").is_some());
    });
    let gateway = Gateway::start(without_random, CLUSTERS).await;
    let (status, _) = gateway.send("/suite/receive", &gateway.account.seal(Event::bind("sn-here"))).await;
    assert_eq!(status, 503);
    gateway.envoy.wait_for_log("restricted").await.unwrap();
}
