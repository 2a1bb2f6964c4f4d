//! deploy/envoy-gateway: the manifests against the published schemas, and a real Envoy with the configuration
//! that Envoy Gateway makes of them.

use serde_json::{Value, json};
use serde_json_path::JsonPath;
use testbed::envoy::Bootstrap;

use crate::kubernetes::{self, Gateway, HOST, apply, resource};
use crate::schemas::{self, CustomResources};

const FOLDER: &str = "deploy/envoy-gateway";
const FILES: [&str; 2] = ["deploy/envoy-gateway/gateway.yaml", "deploy/envoy-gateway/callbacks.yaml"];
const CLUSTERS: [&str; 2] = ["decision", "backend"];
/// How Envoy Gateway names listener, filter chain and route configuration.
const NAME: &str = "wecom/callbacks/https";

/// The listener, as Envoy Gateway makes it of the Gateway and the ClientTrafficPolicy. TLS is left out.
fn listener() -> Value {
    let policy = resource(&FILES, "ClientTrafficPolicy")["spec"].clone();
    let (connection, http) = (&policy["connection"], &policy["timeout"]["http"]);
    let bytes = |quantity: &Value| {
        let kibibytes: u64 = quantity.as_str().unwrap().strip_suffix("Ki").unwrap().parse().unwrap();
        kibibytes * 1024
    };
    assert_eq!(policy["path"]["escapedSlashesAction"], "RejectRequest");
    json!({
        "name": NAME,
        "per_connection_buffer_limit_bytes": bytes(&connection["bufferLimit"]),
        "filter_chains": [{ "name": NAME, "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "https-10443",
                "use_remote_address": true,
                "normalize_path": true,
                "merge_slashes": true,
                "path_with_escaped_slashes_action": "REJECT_REQUEST",
                "common_http_protocol_options": {
                    "headers_with_underscores_action": "REJECT_REQUEST",
                    "idle_timeout": http["idleTimeout"],
                    "max_stream_duration": connection["connectionLimit"]["maxStreamDuration"],
                },
                "request_timeout": http["requestReceivedTimeout"],
                "stream_idle_timeout": http["streamIdleTimeout"],
                "http2_protocol_options": {
                    "max_concurrent_streams": policy["http2"]["maxConcurrentStreams"],
                    "initial_stream_window_size": bytes(&policy["http2"]["initialStreamWindowSize"]),
                    "initial_connection_window_size": 1_048_576
                },
                "access_log": [{ "name": "envoy.access_loggers.stdout", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                    "log_format": { "json_format": access_log() }
                } }],
                "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": true
                } }]
            }
        }] }]
    })
}

fn access_log() -> Value {
    let proxy = resource(&FILES, "EnvoyProxy");
    proxy["spec"]["telemetry"]["accessLog"]["settings"][0]["format"]["json"].clone()
}

/// The route configuration, as Envoy Gateway makes it of the HTTPRoute and its HTTPRouteFilter.
fn routes() -> Value {
    let route = resource(&FILES, "HTTPRoute");
    let rule = &route["spec"]["rules"][0];
    let path = &rule["matches"][0]["path"];
    assert_eq!(path["type"], "RegularExpression");
    let filter = resource(&FILES, "HTTPRouteFilter");
    assert_eq!(rule["filters"][0]["extensionRef"]["name"], filter["metadata"]["name"]);
    let response = &filter["spec"]["directResponse"];
    let host = route["spec"]["hostnames"][0].as_str().unwrap();
    let label = host.replace('.', "_");
    json!({
        "name": NAME,
        "ignore_port_in_host_matching": true,
        "virtual_hosts": [{
            "name": format!("{NAME}/{label}"),
            "domains": [host],
            "routes": [{
                "name": format!("httproute/wecom/callbacks/rule/0/match/0/{label}"),
                "match": { "safe_regex": { "regex": path["value"] } },
                // It uses `body_format`, which Envoy before 1.37 does not have, to the same effect.
                "direct_response": {
                    "status": response["statusCode"],
                    "body": { "inline_string": response["body"]["inline"] }
                },
                "response_headers_to_add": [{
                    "header": { "key": "Content-Type", "value": response["contentType"] },
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"
                }]
            }]
        }]
    })
}

/// What Envoy Gateway gives to Envoy: listeners, route configurations and clusters.
struct Xds {
    listener: Value,
    routes: Value,
    clusters: Vec<Value>,
}

impl Xds {
    fn generated() -> Self {
        Self { listener: listener(), routes: routes(), clusters: Vec::new() }
    }

    /// With the patches of the EnvoyPatchPolicy.
    fn patched() -> Self {
        Self::patched_by(&resource(&FILES, "EnvoyPatchPolicy"))
    }

    fn patched_by(policy: &Value) -> Self {
        let mut xds = Self::generated();
        for patch in policy["spec"]["jsonPatches"].as_array().unwrap() {
            xds.patch(patch);
        }
        xds
    }

    fn patch(&mut self, patch: &Value) {
        let (operation, name) = (&patch["operation"], &patch["name"]);
        assert_eq!(operation["op"], "add");
        let kind = patch["type"].as_str().unwrap().rsplit_once('.').unwrap().1;
        let target = match kind {
            "Cluster" => {
                assert_eq!((&operation["path"], &operation["value"]["name"]), (&json!(""), name));
                return self.clusters.push(operation["value"].clone());
            }
            "Listener" => &mut self.listener,
            "RouteConfiguration" => &mut self.routes,
            other => panic!("{other}"),
        };
        assert_eq!(*name, NAME);
        let places = JsonPath::parse(operation["jsonPath"].as_str().unwrap()).unwrap();
        let places = places.query_located(target).locations().map(|at| at.to_json_pointer()).collect::<Vec<_>>();
        assert_eq!(places.len(), 1, "{operation}");
        let path = format!("{}{}", places[0], operation["path"].as_str().unwrap());
        apply(target, &json!([{ "op": "add", "path": path, "value": operation["value"] }]));
    }

    fn manager(&self) -> &Value {
        &self.listener["filter_chains"][0]["filters"][0]["typed_config"]
    }

    fn plugin(&self) -> &Value {
        &self.manager()["http_filters"][0]["typed_config"]["config"]
    }

    /// The bootstrap of Envoy Gateway with that of the EnvoyProxy, and everything else in it.
    fn bootstrap(mut self) -> Bootstrap {
        self.listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"] = self.routes;
        let mut config = json!({
            "stats_config": {
                "use_all_default_tags": true,
                "stats_tags": [{ "tag_name": "from_zone", "regex": "\\.zone(\\.(([^\\.]+)\\.))" }]
            },
            "static_resources": { "listeners": [self.listener], "clusters": self.clusters }
        });
        apply(&mut config, &resource(&FILES, "EnvoyProxy")["spec"]["bootstrap"]["jsonPatches"]);
        Bootstrap::from_yaml(&config.to_string()).unwrap()
    }
}

#[test]
fn the_manifests_are_as_the_published_schemas_say() {
    if schemas::are_missing() {
        return;
    }
    for resources in [kubernetes::resources(&FILES), kubernetes::kustomized(FOLDER)] {
        kubernetes::check_against_schemas(&resources, &[]);
    }
}

#[test]
fn no_resource_of_envoy_gateway_for_wasm_can_set_what_the_filter_needs() {
    if schemas::are_missing() {
        return;
    }
    let policy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyExtensionPolicy", "metadata": {},
        "spec": { "wasm": [{ "code": { "type": "Image", "image": { "url": "registry.example.com/filter:0.1.0" } } }] }
    });
    assert_eq!(CustomResources::read().against(&policy), Vec::<String>::new());
    let mut wanted = policy;
    wanted["spec"]["wasm"][0]["allowOnHeadersStopIteration"] = true.into();
    assert!(!CustomResources::read().against(&wanted).is_empty(), "it can now: say so in docs/envoy-gateway.md");
}

#[test]
fn the_patches_say_what_envoy_yaml_says() {
    let xds = Xds::patched();
    let manager = xds.manager();
    kubernetes::check_filters(&manager["http_filters"][0], &manager["http_filters"][1], CLUSTERS);
    for setting in [
        "/normalize_path",
        "/merge_slashes",
        "/path_with_escaped_slashes_action",
        "/common_http_protocol_options/max_stream_duration",
        "/common_http_protocol_options/idle_timeout",
        "/request_timeout",
        "/stream_idle_timeout",
        "/http2_protocol_options",
        "/access_log",
    ] {
        assert_eq!(manager.pointer(setting), Some(&kubernetes::manager_of_envoy_yaml(setting)), "{setting}");
    }
    assert_eq!(xds.listener["per_connection_buffer_limit_bytes"], kubernetes::buffer_limit_of_envoy_yaml());
    let (route, plain) = (&xds.routes["virtual_hosts"][0]["routes"][0], "/route_config/virtual_hosts/0/routes/0");
    assert_eq!(route["typed_per_filter_config"], kubernetes::manager_of_envoy_yaml(plain)["typed_per_filter_config"]);
    assert_eq!(
        xds.bootstrap().config()["stats_config"]["histogram_bucket_settings"],
        kubernetes::stats_config_of_envoy_yaml()["histogram_bucket_settings"]
    );
    let tags = Xds::generated().bootstrap().config()["stats_config"]["stats_tags"].as_array().unwrap()[1..].to_vec();
    assert_eq!(json!(tags), kubernetes::stats_config_of_envoy_yaml()["stats_tags"]);
}

#[test]
fn the_proxys_pod_has_the_module_and_the_secrets() {
    for (resources, replicas) in [(kubernetes::resources(&FILES), 1), (kubernetes::kustomized(FOLDER), 2)] {
        let proxy = kubernetes::only(&resources, "EnvoyProxy");
        let deployment = &proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"];
        assert_eq!(deployment["replicas"], replicas);
        let (container, volumes) = (&deployment["container"], &deployment["pod"]["volumes"]);
        let xds = Xds::patched_by(kubernetes::only(&resources, "EnvoyPatchPolicy"));
        kubernetes::check_container(container, volumes, xds.plugin());
        let modules = ["github.com/envoyproxy/gateway", "sigs.k8s.io/gateway-api"];
        kubernetes::check_page("envoy-gateway.md", container, volumes, &modules);
    }
    let proxy = resource(&FILES, "EnvoyProxy");
    let gateway = resource(&FILES, "Gateway");
    assert_eq!(gateway["spec"]["infrastructure"]["parametersRef"]["name"], proxy["metadata"]["name"]);
    let listener = &gateway["spec"]["listeners"][0];
    assert_eq!(listener["hostname"], HOST);
    let place = |gateway: &Value| {
        let word = |at: &str| gateway.pointer(at).unwrap().as_str().unwrap().to_owned();
        format!("{}/{}/{}", word("/metadata/namespace"), word("/metadata/name"), word("/spec/listeners/0/name"))
    };
    assert_eq!(place(&gateway), NAME);
    for (kind, pointer) in [
        ("EnvoyPatchPolicy", "/spec/targetRef/name"),
        ("ClientTrafficPolicy", "/spec/targetRefs/0/name"),
        ("HTTPRoute", "/spec/parentRefs/0/name"),
    ] {
        assert_eq!(resource(&FILES, kind).pointer(pointer), Some(&gateway["metadata"]["name"]), "{kind}");
    }
}

#[tokio::test]
async fn callbacks_are_served_by_an_envoy_that_envoy_gateway_configures() {
    Gateway::start(Xds::patched().bootstrap(), CLUSTERS).await.serves_callbacks().await;
}

#[test]
fn several_proxies_have_the_record_of_replicas() {
    let resources = kubernetes::kustomized(FOLDER);
    let xds = Xds::patched_by(kubernetes::only(&resources, "EnvoyPatchPolicy"));
    kubernetes::check_record(xds.plugin(), xds.clusters.iter().find(|cluster| cluster["name"] == "record").unwrap());
}

/// Envoy Gateway makes the PodDisruptionBudget, with the selector of its Deployment.
#[test]
fn several_proxies_stand_on_several_nodes() {
    let resources = kubernetes::kustomized(FOLDER);
    let provider = &kubernetes::only(&resources, "EnvoyProxy")["spec"]["provider"]["kubernetes"];
    let gateway = &kubernetes::only(&resources, "Gateway")["metadata"];
    let labels = json!({
        "gateway.envoyproxy.io/owning-gateway-namespace": gateway["namespace"],
        "gateway.envoyproxy.io/owning-gateway-name": gateway["name"]
    });
    let deployment = &provider["envoyDeployment"];
    let constraints = &deployment["pod"]["topologySpreadConstraints"];
    kubernetes::check_nodes(&deployment["replicas"], constraints, &labels, &provider["envoyPDB"]);
}

#[tokio::test]
async fn several_proxies_decide_a_callback_once() {
    let (plain, shared) = (resource(&FILES, "EnvoyPatchPolicy"), kubernetes::kustomized(FOLDER));
    let of = |is_shared| if is_shared { kubernetes::only(&shared, "EnvoyPatchPolicy") } else { &plain };
    kubernetes::shares_its_record(|is_shared| Xds::patched_by(of(is_shared)).bootstrap(), CLUSTERS).await;
}

#[tokio::test]
async fn token_and_key_are_changed_as_the_page_says() {
    kubernetes::changes_its_credentials(|| Xds::patched().bootstrap(), CLUSTERS).await;
}

#[tokio::test]
async fn without_the_patches_callbacks_end_at_their_route() {
    let bootstrap = Xds::generated().bootstrap();
    let bootstrap = CLUSTERS.into_iter().fold(bootstrap, |bootstrap, cluster| bootstrap.add_cluster(cluster, 9));
    Gateway::start(bootstrap, CLUSTERS).await.refuses_callbacks().await;
}
