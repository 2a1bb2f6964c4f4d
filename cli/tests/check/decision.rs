//! Who else reaches the decision endpoint.

use std::fs;

use serde_json::json;
use testbed::files::repository;

use super::{Bootstrap, MANAGER, Value, about, assert_accepted, assert_all_warned, assert_warned, good};

const UNKNOWN: &str = "endpoints[0].decision.headers: is not set, and something else leads to the same server";

/// Those routes after the two for callbacks, the last of which is for everything else. The decision endpoint is `/bind`.
fn with_routes(routes: &[Value]) -> Bootstrap {
    good().edit_hcm(|hcm| {
        let list = hcm["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
        list.truncate(2);
        list.extend(routes.iter().cloned());
    })
}

fn to(route_match: Value, cluster: &str) -> Value {
    json!({ "match": route_match, "route": { "cluster": cluster } })
}

fn everything(cluster: &str) -> Value {
    to(json!({ "prefix": "/" }), cluster)
}

/// The server that decides is also the one that everything else goes to, under another cluster's name.
fn with_one_server(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.cluster("decision", 9000).cluster("backend", 9000)
}

/// With a secret by which the backend knows the filter.
fn with_headers(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.edit_plugin_value(|value| {
        value["endpoints"][0]["decision"]["headers"] = json!({ "authorization": "Bearer s3cret" });
    })
}

/// Asserts that the only warnings are of the route with that index, and of the headers where there are none.
#[track_caller]
fn assert_reached(bootstrap: &Bootstrap, index: usize, may: &str) {
    let route = format!("{MANAGER}.route_config.virtual_hosts[0].routes[{index}]: {may} strangers to the path of");
    assert_all_warned(bootstrap, &[&route, UNKNOWN]);
    assert_warned(&with_headers(bootstrap.clone()), &route);
}

#[test]
fn a_route_to_the_decision_endpoint_is_a_warning_and_so_are_headers_that_are_missing_then() {
    assert_accepted(&with_routes(&[everything("backend")]));
    assert_reached(&with_routes(&[everything("decision")]), 2, "leads");
    let canary = json!({ "prefix": "/", "headers": [{ "name": "x-canary", "present_match": true }] });
    assert_reached(&with_routes(&[to(canary, "decision"), everything("backend")]), 2, "leads");
    let unread = json!({ "path_match_policy": { "name": "template" } });
    let said = about(&with_routes(&[to(unread, "decision"), everything("backend")]), &[]);
    assert!(said.err.contains("routes[2]: can lead strangers to"), "{said:?}");

    // A copy of a request asks, too.
    let mirrored = json!({ "match": { "prefix": "/" }, "route": {
        "cluster": "backend", "request_mirror_policies": [{ "cluster": "decision" }]
    } });
    let at = format!("{MANAGER}.route_config.virtual_hosts[0].routes[2].route.request_mirror_policies[0]");
    assert_all_warned(&with_routes(&[mirrored]), &[&format!("{at}: leads strangers to"), UNKNOWN]);
}

#[test]
fn another_name_of_the_same_server_is_found_out() {
    assert_reached(&with_one_server(with_routes(&[everything("backend")])), 2, "leads");
    let another_port = good().cluster("decision", 9000).cluster("backend", 9001);
    assert_accepted(&another_port);
}

#[test]
fn a_path_that_ends_before_it_is_reached_by_nobody() {
    let block = |route_match: Value| json!({ "match": route_match, "direct_response": { "status": 404 } });
    let blocked = |route_match: Value| with_one_server(with_routes(&[block(route_match), everything("backend")]));
    for wide in [
        json!({ "prefix": "/bind", "case_sensitive": false }),
        json!({ "path_separated_prefix": "/bind", "case_sensitive": false }),
    ] {
        assert_accepted(&blocked(wide));
    }
    let page = fs::read_to_string(repository().join("docs/backend.md")).unwrap();
    let snippet = page.split("```yaml\nroutes:\n").nth(1).unwrap().split("```").next().unwrap();
    let snippet: Vec<Value> = serde_saphyr::from_str(snippet).unwrap();
    assert_accepted(&with_one_server(with_routes(&[snippet[0].clone(), everything("backend")])));

    // A careless backend takes /BIND and /bind/ for the same.
    for narrow in [json!({ "path": "/bind" }), json!({ "prefix": "/bind" }), json!({ "prefix": "/bin/" })] {
        assert_reached(&blocked(narrow), 3, "leads");
    }
    let late = with_one_server(with_routes(&[everything("backend"), block(json!({ "prefix": "/bind" }))]));
    assert_reached(&late, 2, "leads");

    // Other paths of the server may be public, unless they become this one.
    let api = to(json!({ "prefix": "/api/" }), "decision");
    assert_accepted(&with_routes(&[api.clone(), everything("backend")]));
    for (field, rewrite) in [
        ("prefix_rewrite", json!("/b")),
        ("regex_rewrite", json!({ "pattern": { "regex": "^/api" }, "substitution": "" })),
    ] {
        let mut api = api.clone();
        api["route"][field] = rewrite;
        assert_reached(&with_routes(&[api, everything("backend")]), 2, "can lead");
    }
}

#[test]
fn endpoints_that_share_a_decision_endpoint_share_the_warning_of_a_route() {
    let two = with_routes(&[everything("decision")]).edit_plugin_value(|value| {
        let mut second = value["endpoints"][0].clone();
        second["path"] = json!("/suite/receive/second");
        second["name"] = json!("second");
        second["decision"]["headers"] = json!({ "authorization": { "env": "NOT_SET_HERE" } });
        value["endpoints"].as_array_mut().unwrap().push(second);
    });
    let two = two.edit_plugin(|plugin| {
        plugin["vm_config"]["environment_variables"]["host_env_keys"] =
            json!(["WECOM_TOKEN", "WECOM_ENCODING_AES_KEY", "NOT_SET_HERE"]);
    });
    // A header whose value is elsewhere is there.
    let said = about(&two, &["--env-optional"]);
    assert_eq!(said.err.matches("leads strangers to the path of endpoints[0].decision").count(), 1, "{said:?}");
    assert_eq!((said.code, said.err.lines().count()), (0, 2), "{said:?}");
    assert!(said.err.contains(UNKNOWN), "{said:?}");
}

#[test]
fn a_tcp_proxy_to_the_decision_endpoint_is_a_warning() {
    const AT: &str = "static_resources.listeners[1].filter_chains[0].filters[0].typed_config";
    let with_listener = |bootstrap: Bootstrap, leads: Value, listener: Value| {
        bootstrap.edit(|config| {
            let mut proxy = json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "raw"
            });
            proxy.as_object_mut().unwrap().extend(leads.as_object().unwrap().clone());
            let mut listener = listener;
            listener["name"] = json!("raw");
            listener["filter_chains"] = json!([{ "filters": [{ "name": "tcp", "typed_config": proxy }] }]);
            config["static_resources"]["listeners"].as_array_mut().unwrap().push(listener);
        })
    };
    let public = json!({ "address": { "socket_address": { "address": "0.0.0.0", "port_value": 10_443 } } });
    let calm = || with_routes(&[]);
    let to = |cluster: &str| with_listener(calm(), json!({ "cluster": cluster }), public.clone());
    let says = |field: &str| format!("{AT}.{field}: leads strangers to the server of endpoints[0].decision");

    assert_all_warned(&to("decision"), &[&says("cluster"), UNKNOWN]);
    assert_all_warned(&with_headers(to("decision")), &[&says("cluster")]);
    assert_accepted(&to("backend"));
    assert_warned(&with_one_server(with_headers(to("backend"))), &says("cluster"));
    let weighted = json!({ "weighted_clusters": { "clusters": [
        { "name": "backend", "weight": 9 }, { "name": "decision", "weight": 1 }
    ] } });
    let weighted = with_listener(calm(), weighted, public.clone());
    assert_all_warned(&weighted, &[&says("weighted_clusters.clusters[1].name"), UNKNOWN]);
    // Reached by Envoy's own clusters alone.
    let internal = with_listener(calm(), json!({ "cluster": "decision" }), json!({ "internal_listener": {} }));
    assert_accepted(&internal);
}
