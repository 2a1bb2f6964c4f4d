//! Other spellings of a callback's path.

use serde_json::json;

use super::{Bootstrap, MANAGER, Value, assert_accepted, assert_all_warned, assert_refused, assert_warned, good};

const SETTINGS: [&str; 3] = ["normalize_path", "merge_slashes", "path_with_escaped_slashes_action"];

/// `envoy.yaml` without one of the settings, and with these routes behind the two for callbacks.
fn without(field: &str, routes: &[Value]) -> Bootstrap {
    good().edit_hcm(|hcm| {
        hcm[field] = Value::Null;
        let all = hcm["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
        all.truncate(2);
        all.extend(routes.iter().cloned());
    })
}

fn to_cluster(route_match: Value) -> Value {
    json!({ "match": route_match, "route": { "cluster": "other" } })
}

fn line(field: &str, says: &str) -> String {
    let right = if field.starts_with("path") { "REJECT_REQUEST" } else { "true" };
    format!("{MANAGER}.{field}: must be {right}{says}")
}

#[test]
fn a_path_with_a_route_for_everything_must_have_one_spelling() {
    for (field, value, sign) in [
        ("normalize_path", json!(false), "/./ or /../"),
        ("normalize_path", json!(null), "/./ or /../"),
        ("merge_slashes", json!(false), "//"),
        ("path_with_escaped_slashes_action", json!("KEEP_UNCHANGED"), "%2F"),
        ("path_with_escaped_slashes_action", json!(null), "%2F"),
    ] {
        let says =
            format!(": route_config.virtual_hosts[0].routes[2] takes a callback's path written with {sign} past");
        assert_refused(&good().edit_hcm(|hcm| hcm[field] = value), &[&line(field, &says)]);
    }
    for action in ["UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"] {
        assert_accepted(&good().edit_hcm(|hcm| hcm["path_with_escaped_slashes_action"] = json!(action)));
    }
}

/// As in a filter chain of its own.
#[test]
fn where_no_route_leads_to_a_cluster_any_spelling_will_do() {
    for field in SETTINGS {
        assert_accepted(&without(field, &[]));
        for action in [
            json!({ "direct_response": { "status": 404, "body": { "inline_string": "x" } } }),
            json!({ "redirect": { "path_redirect": "/" } }),
        ] {
            let mut route = action;
            route["match"] = json!({ "prefix": "/" });
            assert_accepted(&without(field, &[route]));
        }
    }
}

#[test]
fn a_route_that_takes_another_spelling_to_a_cluster_is_a_problem() {
    let takes = ": route_config.virtual_hosts[0].routes[2] takes a callback's path";
    let unread = ", if route_config.virtual_hosts[0].routes[2] takes a callback's path";
    for (route_match, expected) in [
        (json!({ "prefix": "/" }), [takes; 3]),
        // `/suite//receive`
        (json!({ "prefix": "/suite/" }), [takes; 3]),
        // `/api/../suite/receive`, `/api/..%2Fsuite/receive`
        (json!({ "prefix": "/api" }), [takes, "", takes]),
        (json!({ "prefix": "/api/v1/" }), [takes, "", takes]),
        (json!({ "path_separated_prefix": "/api" }), [takes, "", takes]),
        (json!({ "safe_regex": { "regex": "/api/.*" } }), [takes, unread, takes]),
        (json!({ "safe_regex": { "regex": "/api.*" } }), [takes, unread, takes]),
        (json!({ "safe_regex": { "regex": ".*" } }), [takes; 3]),
        (json!({ "prefix": "/", "headers": [{ "name": "x-canary", "present_match": true }] }), [takes; 3]),
        (json!({ "path": "/suite/./receive" }), [takes, "", ""]),
        (json!({ "path": "//suite/receive" }), ["", takes, ""]),
        (json!({ "path": "/suite%2Freceive" }), ["", "", takes]),
        (json!({ "safe_regex": { "regex": "/(a|b)/.*" } }), [unread; 3]),
        (json!({ "path": "/api" }), [""; 3]),
        (json!({ "safe_regex": { "regex": "/api" } }), [""; 3]),
        (json!({ "connect_matcher": {} }), [""; 3]),
    ] {
        for (field, says) in SETTINGS.into_iter().zip(expected) {
            let bootstrap = without(field, &[to_cluster(route_match.clone())]);
            match says {
                "" => assert_accepted(&bootstrap),
                says if says == takes => assert_refused(&bootstrap, &[&line(field, says)]),
                says => assert_all_warned(&bootstrap, &[&line(field, says)]),
            }
        }
    }
}

#[test]
fn a_spelling_that_ends_at_a_route_before_goes_nowhere() {
    let end = json!({
        "match": { "prefix": "/" }, "direct_response": { "status": 404, "body": { "inline_string": "x" } }
    });
    for field in SETTINGS {
        assert_accepted(&without(field, &[end.clone(), to_cluster(json!({ "prefix": "/" }))]));
    }
}

/// As servlet containers drop them.
#[test]
fn parameters_in_the_path_must_end_at_a_route() {
    let at = |index: usize| format!("{MANAGER}.route_config.virtual_hosts[0].routes[{index}]");
    let with = |routes: Value| good().edit_hcm(|hcm| hcm["route_config"]["virtual_hosts"][0]["routes"] = routes);
    let all = good()
        .config()
        .pointer(&format!(
            "/{}",
            "static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes"
        ))
        .unwrap()
        .clone();
    assert!(all[1]["match"]["safe_regex"]["regex"] == ".*;.*");
    let takes = |index: usize| format!("{}: takes a callback's path written with `;`", at(index));
    assert_accepted(&with(json!([all[0], all[1], all[2]])));
    assert_refused(&with(json!([all[0], all[2]])), &[&takes(1)]);
    assert_refused(&with(json!([all[0], all[2], all[1]])), &[&takes(1)]);
    for route_match in [
        json!({ "prefix": "/suite" }),
        json!({ "prefix": "/;" }),
        json!({ "safe_regex": { "regex": "/suite;?.*/receive" } }),
        json!({ "path": "/suite;x/receive" }),
    ] {
        assert_refused(&with(json!([all[0], to_cluster(route_match)])), &[&takes(1)]);
    }
    for elsewhere in [json!({ "prefix": "/other" }), json!({ "path_separated_prefix": "/suite/other" })] {
        assert_accepted(&with(json!([all[0], to_cluster(elsewhere)])));
    }
}

#[test]
fn a_route_that_makes_a_callbacks_path_of_another_is_a_warning() {
    let at = |index: usize| format!("{MANAGER}.route_config.virtual_hosts[0].routes[{index}]");
    let with = |routes: &[Value]| {
        good().edit_hcm(|hcm| {
            let all = hcm["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
            all.truncate(2);
            all.extend(routes.iter().cloned());
        })
    };
    let rewriting = |route_match: Value, rewrite: &str| json!({ "match": route_match, "route": { "cluster": "other", "prefix_rewrite": rewrite } });
    let makes = format!("{}.route.prefix_rewrite: makes the path of endpoints[0] of another one", at(2));
    for (route_match, rewrite) in [
        (json!({ "prefix": "/v1/" }), "/"),
        (json!({ "prefix": "/v1" }), "/suite"),
        (json!({ "prefix": "/v1/rec" }), "/suite/rec"),
        (json!({ "path_separated_prefix": "/v1" }), "/suite"),
        (json!({ "path": "/callback" }), "/suite/receive"),
    ] {
        assert_warned(&with(&[rewriting(route_match, rewrite)]), &makes);
    }
    for (route_match, rewrite) in [
        (json!({ "prefix": "/v1/" }), "/v2/"),
        (json!({ "prefix": "/v1/suite/other" }), "/suite/other"),
        (json!({ "path_separated_prefix": "/v1" }), "/suite/rec"),
        (json!({ "path": "/callback" }), "/suite"),
    ] {
        assert_accepted(&with(&[rewriting(route_match, rewrite)]));
    }
    // It ends at a route before.
    let ended = json!({ "match": { "prefix": "/v1/suite/receive", "case_sensitive": false },
        "direct_response": { "status": 400, "body": { "inline_string": "x" } } });
    assert_accepted(&with(&[ended, rewriting(json!({ "prefix": "/v1/" }), "/")]));
}

#[test]
fn the_routes_of_every_virtual_host_count() {
    for field in SETTINGS {
        let two = without(field, &[]).edit_hcm(|hcm| {
            let routes = hcm["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap()[..2]
                .iter()
                .cloned()
                .chain([to_cluster(json!({ "prefix": "/" }))])
                .collect::<Value>();
            let other = json!({ "name": "other", "domains": ["other.example"], "routes": routes });
            hcm["route_config"]["virtual_hosts"].as_array_mut().unwrap().push(other);
        });
        assert_refused(&two, &[&line(field, ": route_config.virtual_hosts[1].routes[2] takes")]);
    }
}

#[test]
fn routes_that_are_elsewhere_may_take_another_spelling() {
    for field in SETTINGS {
        let rds = without(field, &[]).edit_hcm(|hcm| {
            hcm.as_object_mut().unwrap().remove("route_config");
            hcm["rds"] = json!({ "route_config_name": "edge", "config_source": {} });
        });
        let none = format!("{MANAGER}.rds: the routes are in none of the files");
        assert_all_warned(&rds, &[&none, &line(field, ", if any route takes")]);
        let vhds = without(field, &[]).edit_hcm(|hcm| hcm["route_config"]["vhds"] = json!({ "config_source": {} }));
        let elsewhere = format!("{MANAGER}.route_config.vhds: the routes are chosen in a way");
        assert_all_warned(&vhds, &[&elsewhere, &line(field, ", if any route takes")]);
    }
}
