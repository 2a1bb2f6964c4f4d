//! The callback's route.

use serde_json::json;

use super::{Bootstrap, MANAGER, Value, about, assert_accepted, assert_refused, assert_warned, filter_in_chain};

const ROUTES: &str = "route_config.virtual_hosts[0].routes";

/// `envoy.yaml` with the filter on for every route: what its own form adds is a test of its own.
fn good() -> Bootstrap {
    super::good().always_on()
}

/// The routes of the first virtual host changed.
fn with(change: impl FnOnce(&mut Vec<Value>)) -> Bootstrap {
    good().edit_hcm(|hcm| change(hcm["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap()))
}

fn to_backend(route_match: Value) -> Value {
    json!({ "match": route_match, "route": { "cluster": "backend" } })
}

/// The callback's route is the first one of `envoy.yaml`.
fn callbacks(change: impl FnOnce(&mut Value)) -> Bootstrap {
    with(|routes| {
        assert!(routes[0]["direct_response"].is_object());
        change(&mut routes[0]);
    })
}

#[test]
fn a_callback_must_not_go_on_to_a_backend() {
    let goes_on = "catches the path of endpoints[0] and is no direct_response";
    let at = |index: usize| format!("{MANAGER}.{ROUTES}[{index}]: {goes_on}");
    // There is no route for it; the next one is for everything.
    assert_refused(&with(|routes| drop(routes.remove(0))), &[&at(1)]);
    // It is no direct_response.
    for action in [json!({ "route": { "cluster": "backend" } }), json!({ "redirect": { "path_redirect": "/x" } })] {
        let mut route = action;
        route["match"] = json!({ "prefix": "/suite/receive", "case_sensitive": false });
        assert_refused(&callbacks(|callbacks| *callbacks = route), &[&at(0)]);
    }
    // It comes too late.
    for route_match in [
        json!({ "prefix": "/suite" }),
        json!({ "path": "/suite/receive" }),
        json!({ "path": "/SUITE/receive", "case_sensitive": false }),
        json!({ "path_separated_prefix": "/suite" }),
        json!({ "safe_regex": { "regex": "/suite/.*" } }),
        json!({ "prefix": "/suite", "headers": [{ "name": "x-canary", "present_match": true }] }),
        json!({ "prefix": "/suite", "runtime_fraction": { "default_value": { "numerator": 1 } } }),
    ] {
        assert_refused(&with(|routes| routes.insert(0, to_backend(route_match))), &[&at(0)]);
    }
    // It is for some of the requests only.
    let headers = json!([{ "name": "content-type", "string_match": { "prefix": "application/json" } }]);
    assert_refused(&callbacks(|callbacks| callbacks["match"]["headers"] = headers), &[&at(2)]);
}

#[test]
fn routes_for_other_paths_may_come_first() {
    for route_match in [
        json!({ "prefix": "/api" }),
        json!({ "path": "/suite" }),
        json!({ "path_separated_prefix": "/suite/rec" }),
        json!({ "safe_regex": { "regex": "/suite" } }),
        json!({ "connect_matcher": {} }),
    ] {
        assert_accepted(&with(|routes| routes.insert(0, to_backend(route_match))));
    }
    let unread = with(|routes| routes.insert(0, to_backend(json!({ "path_match_policy": { "name": "template" } }))));
    assert_warned(&unread, &format!("{MANAGER}.{ROUTES}[0]: may catch the path of endpoints[0]"));
}

#[test]
fn the_callbacks_route_must_answer_with_an_error_and_a_body() {
    let at = format!("{MANAGER}.{ROUTES}[0].direct_response");
    let with = |response: Value| callbacks(|callbacks| callbacks["direct_response"] = response);
    let body = json!({ "inline_string": "x" });
    for (response, reason) in [
        (json!({ "status": 200 }), "must be 503, for the path of endpoints[0]: to WeCom this answer means \"bound\""),
        (
            json!({ "status": 204, "body": { "inline_string": "" } }),
            "must be 503, for the path of endpoints[0]: to WeCom this",
        ),
        (json!({ "status": 200, "body": body }), "must be 503, for the path of endpoints[0]: to WeCom a 200 can mean"),
        (json!({ "status": 302, "body": body }), "must be 503"),
        (json!({ "body": body }), "must be 503"),
    ] {
        assert_refused(&with(response), &[&format!("{at}.status: {reason}")]);
    }
    for empty in [json!({ "status": 503 }), json!({ "status": 503, "body": { "inline_string": "" } })] {
        assert_warned(&with(empty), &format!("{at}.body: should not be empty"));
    }
    assert_accepted(&with(json!({ "status": 503, "body": { "filename": "missing.json" } })));
}

#[test]
fn other_letters_and_a_slash_at_the_end_must_not_go_on_either() {
    let at = format!("{MANAGER}.{ROUTES}[2]: catches the path of endpoints[0] written in capitals or with a slash");
    for narrow in [
        json!({ "path": "/suite/receive" }),
        json!({ "prefix": "/suite/receive" }),
        json!({ "path": "/suite/receive", "case_sensitive": false }),
        json!({ "safe_regex": { "regex": "/suite/receive/?" } }),
    ] {
        assert_refused(&callbacks(|callbacks| callbacks["match"] = narrow), &[&at]);
    }
    for wide in [
        json!({ "path_separated_prefix": "/suite/receive", "case_sensitive": false }),
        json!({ "prefix": "/suite", "case_sensitive": false }),
        json!({ "safe_regex": { "regex": "(?i)/suite/receive/?" } }),
    ] {
        assert_accepted(&callbacks(|callbacks| callbacks["match"] = wide));
    }
    // A redirect goes nowhere else.
    assert_accepted(&with(|routes| {
        routes[0]["match"] = json!({ "path": "/suite/receive", "case_sensitive": false });
        let slash =
            json!({ "match": { "path": "/suite/receive/" }, "redirect": { "path_redirect": "/suite/receive" } });
        routes.insert(1, slash);
    }));
}

#[test]
fn every_endpoint_and_every_virtual_host_is_looked_at() {
    let second = |value: &mut Value| {
        let mut endpoint = value["endpoints"][0].clone();
        endpoint["path"] = json!("/second");
        endpoint["name"] = json!("second");
        value["endpoints"].as_array_mut().unwrap().push(endpoint);
    };
    let line = format!("{MANAGER}.{ROUTES}[2]: catches the path of endpoints[1] and is no direct_response");
    assert_refused(&good().edit_plugin_value(second), &[&line]);

    let host = |routes: Value| {
        good().edit_hcm(|hcm| {
            let hosts = hcm["route_config"]["virtual_hosts"].as_array_mut().unwrap();
            hosts.push(json!({ "name": "other", "domains": ["other.example"], "routes": routes }));
        })
    };
    let line = format!("{MANAGER}.route_config.virtual_hosts[1].routes[0]: catches the path of endpoints[0]");
    assert_refused(&host(json!([to_backend(json!({ "prefix": "/" }))])), &[&line]);
    // One that has no route for the path answers 404.
    assert_accepted(&host(json!([to_backend(json!({ "prefix": "/api" }))])));

    // But one of them must have it.
    let none = with(|routes| *routes = vec![to_backend(json!({ "prefix": "/api" }))]);
    let line =
        format!("{MANAGER}.route_config.virtual_hosts: no virtual host has a route for the path of endpoints[0]");
    assert_refused(&none, &[&line]);
}

#[test]
fn a_filter_that_is_disabled_must_be_switched_on_by_the_callbacks_route() {
    let filter = |fields: Value| {
        let mut config = json!({ "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig" });
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "wecom": config })
    };
    let disabled = |change: &dyn Fn(&mut Value)| {
        good().edit_hcm(|hcm| {
            let chain = hcm["http_filters"].as_array_mut().unwrap();
            chain.iter_mut().find(|filter| filter["name"] == "wecom").unwrap()["disabled"] = json!(true);
            change(&mut hcm["route_config"]);
        })
    };
    let (on, off) = (filter(json!({ "config": {} })), filter(json!({ "disabled": true })));
    let line = format!("{}: is disabled where the path of endpoints[0] is routed", filter_in_chain(&good()));
    let route = |config: &mut Value, value: &Value| {
        config["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"] = value.clone();
    };
    assert_accepted(&super::good());
    assert_refused(&disabled(&|_| {}), &[&line]);
    assert_accepted(&disabled(&|config| route(config, &on)));
    assert_accepted(&disabled(&|config| config["virtual_hosts"][0]["typed_per_filter_config"] = on.clone()));
    assert_accepted(&disabled(&|config| config["typed_per_filter_config"] = on.clone()));
    // The route for everything else does not help, and the narrowest counts.
    let other = |config: &mut Value| config["virtual_hosts"][0]["routes"][1]["typed_per_filter_config"] = on.clone();
    assert_refused(&disabled(&other), &[&line]);
    let both = |config: &mut Value| {
        config["typed_per_filter_config"] = on.clone();
        route(config, &off);
    };
    assert_refused(&disabled(&both), &[&line]);
    // Nor may the route of a filter that is not disabled switch it off.
    assert_refused(&callbacks(|callbacks| callbacks["typed_per_filter_config"] = off.clone()), &[&line]);
}

/// As `envoy --mode validate` says it.
#[test]
fn what_switches_a_filter_must_say_on_or_off() {
    let with = |pointer: &'static str, filter: &str, fields: Value| {
        let mut config = json!({ "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig" });
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        super::good().edit_hcm(|hcm| {
            let mut route = to_backend(json!({ "prefix": "/other" }));
            route["route"] = json!({ "weighted_clusters": { "clusters": [{ "name": "other", "weight": 1 }] } });
            hcm["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap().push(route);
            hcm.pointer_mut(pointer).unwrap()["typed_per_filter_config"][filter] = config;
        })
    };
    for (pointer, path) in [
        ("/route_config", "route_config"),
        ("/route_config/virtual_hosts/0", "route_config.virtual_hosts[0]"),
        ("/route_config/virtual_hosts/0/routes/0", "route_config.virtual_hosts[0].routes[0]"),
        (
            "/route_config/virtual_hosts/0/routes/3/route/weighted_clusters/clusters/0",
            "route_config.virtual_hosts[0].routes[3].route.weighted_clusters.clusters[0]",
        ),
    ] {
        for filter in ["wecom", "cors"] {
            let line = format!("{MANAGER}.{path}.typed_per_filter_config.{filter}: must have config: {{}}");
            for neither in [json!({}), json!({ "disabled": false }), json!({ "config": null })] {
                assert_refused(&with(pointer, filter, neither), &[&line]);
            }
        }
        assert_accepted(&with(pointer, "cors", json!({ "disabled": true })));
        assert_accepted(&with(pointer, "cors", json!({ "config": {} })));
    }
}

#[test]
fn routes_that_are_elsewhere_are_a_warning() {
    let without = |field: &str, value: Value| {
        good().edit_hcm(|hcm| {
            hcm.as_object_mut().unwrap().remove("route_config");
            hcm[field] = value;
        })
    };
    let rds = without("rds", json!({ "route_config_name": "edge", "config_source": {} }));
    assert_warned(&rds, &format!("{MANAGER}.rds: the routes are in none of the files"));
    let scoped = without("scoped_routes", json!({ "name": "edge" }));
    assert_warned(&scoped, &format!("{MANAGER}.scoped_routes: the routes are in none of the files"));
    let vhds = good().edit_hcm(|hcm| hcm["route_config"]["vhds"] = json!({ "config_source": {} }));
    assert_warned(&vhds, &format!("{MANAGER}.route_config.vhds: the routes are chosen in a way"));
    let matcher = good().edit_hcm(|hcm| {
        let host = &mut hcm["route_config"]["virtual_hosts"][0];
        host.as_object_mut().unwrap().remove("routes");
        host["matcher"] = json!({ "matcher_tree": {} });
    });
    assert_warned(&matcher, &format!("{MANAGER}.route_config.virtual_hosts[0].matcher: the routes are chosen"));
}

#[test]
fn a_line_about_a_route_shows_no_path() {
    let secret = with(|routes| routes.insert(0, to_backend(json!({ "prefix": "/suite/receive", "s3cret": "s3cret" }))));
    let said = about(&secret, &[]);
    assert!(said.code == 1 && !said.err.contains("s3cret") && !said.err.contains("/suite"), "{said:?}");
}
