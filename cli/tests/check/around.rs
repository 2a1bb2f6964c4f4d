//! The connection manager, the clusters and the metrics' labels around the filter.

use serde_json::json;

use super::{
    Bootstrap, MANAGER, Value, assert_accepted, assert_all_warned, assert_refused, assert_warned, filter_in_chain, good,
};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn with(change: impl FnOnce(&mut Value)) -> Bootstrap {
    good().edit_hcm(change)
}

#[test]
fn a_callback_whose_vm_died_needs_max_stream_duration() {
    let at = format!("{MANAGER}.common_http_protocol_options.max_stream_duration");
    let with = |value: Value| with(|hcm| hcm["common_http_protocol_options"]["max_stream_duration"] = value);
    for (value, reason) in [
        (json!(null), "must be set"),
        (json!("0s"), "must be set"),
        (json!("2.9s"), "must be at least 3s"),
        (json!("soon"), "must be a duration"),
    ] {
        assert_refused(&with(value), &[&format!("{at}: {reason}")]);
    }
    assert_accepted(&with(json!("3s")));
}

#[test]
fn what_envoy_buffers_must_hold_the_largest_body() {
    let listener = "static_resources.listeners[0].per_connection_buffer_limit_bytes";
    let limit = |limit: Value| {
        good().edit(|config| config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = limit)
    };
    assert_refused(&limit(json!(65_535)), &[&format!("{listener}: is less than the filter's max_body_bytes")]);
    assert_accepted(&limit(json!(65_536)));

    // Without it, Envoy has a limit of its own.
    let large = limit(json!(null)).edit_plugin_value(|value| value["max_body_bytes"] = json!(1_048_577));
    let large = large.edit_hcm(|hcm| hcm["http2_protocol_options"]["initial_stream_window_size"] = json!(2_000_000));
    assert_refused(&large, &[&format!("{listener}: is less")]);

    let window = with(|hcm| hcm["http2_protocol_options"]["initial_stream_window_size"] = json!(65_535));
    assert_refused(&window, &[&format!("{MANAGER}.http2_protocol_options.initial_stream_window_size: is less")]);
}

#[test]
fn the_filter_must_stand_before_the_router() {
    let last = with(|hcm| {
        let chain = hcm["http_filters"].as_array_mut().unwrap();
        let index = chain.iter().position(|filter| filter["name"] == "wecom").unwrap();
        let filter = chain.remove(index);
        chain.push(filter);
    });
    assert_refused(&last, &[&format!("{}: must stand before the router", filter_in_chain(&last))]);
}

#[test]
fn callbacks_in_clear_from_other_machines_are_a_warning() {
    let chain = "static_resources.listeners[0].filter_chains[0]";
    let with = |address: &str, socket: Value| {
        good().edit(|config| {
            let listener = &mut config["static_resources"]["listeners"][0];
            listener["address"]["socket_address"]["address"] = json!(address);
            listener["filter_chains"][0]["transport_socket"] = socket;
        })
    };
    let socket = |name: &str| json!({ "typed_config": { "@type": format!("type.googleapis.com/{name}") } });
    let tls = socket("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
    let clear = socket("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer");
    for (address, socket) in [("0.0.0.0", &json!(null)), ("::", &json!(null)), ("10.0.0.1", &clear)] {
        assert_warned(&with(address, socket.clone()), &format!("{chain}.transport_socket: takes callbacks in clear"));
    }
    for (address, socket) in [("0.0.0.0", &tls), ("127.0.0.1", &json!(null)), ("::1", &json!(null))] {
        assert_accepted(&with(address, socket.clone()));
    }
}

#[test]
fn local_replies_must_be_left_as_they_are() {
    let with = |config: Value| with(|hcm| hcm["local_reply_config"] = config);
    let at = format!("{MANAGER}.local_reply_config");
    let any = json!({ "status_code_filter": { "comparison": { "op": "GE", "value": { "default_value": 400 } } } });
    let format = json!({ "text_format_source": { "inline_string": "" } });
    assert_refused(&with(json!({ "body_format": format })), &[&format!("{at}.body_format: must not be set")]);
    let status = with(json!({ "mappers": [{ "filter": any, "status_code": 200 }] }));
    assert_refused(&status, &[&format!("{at}.mappers[0].status_code: must be 400 or more")]);
    let body = with(json!({ "mappers": [{ "filter": any, "body": { "inline_string": "sorry" } }] }));
    assert_warned(&body, &format!("{at}.mappers[0].body: replaces the body of the filter's own rejections"));
    let anything = json!({ "status_code_filter": { "comparison": { "op": "GE", "value": { "default_value": 200 } } } });
    let body = with(json!({ "mappers": [{ "filter": anything, "body": { "inline_string": "success" } }] }));
    assert_refused(&body, &[&format!("{at}.mappers[0].body: must not be set where status 200 fits")]);
    let format = with(json!({ "mappers": [{ "filter": anything, "body_format_override": format }] }));
    assert_refused(&format, &[&format!("{at}.mappers[0].body_format_override: must not be set")]);
    assert_accepted(&with(json!({ "mappers": [{ "filter": any, "status_code": 500 }] })));
}

/// Another filter of that type, at that place of the chain.
fn with_other(place: usize, name: &str) -> Bootstrap {
    let any = json!({ "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{name}") });
    let other = json!({ "name": "other", "typed_config": any });
    with(|hcm| hcm["http_filters"].as_array_mut().unwrap().insert(place, other))
}

#[test]
fn no_other_filter_may_rewrite_the_answers() {
    for place in [0, 1] {
        let at = format!("{MANAGER}.http_filters[{place}]: ");
        let refused = with_other(place, "custom_response.v3.CustomResponse");
        assert_refused(&refused, &[&format!("{at}must not be in the filter's chain")]);
        for name in [
            "dynamic_modules.v3.DynamicModuleFilter",
            "ext_proc.v3.ExternalProcessor",
            "health_check.v3.HealthCheck",
            "lua.v3.Lua",
            "transform.v3.TransformConfig",
        ] {
            assert_warned(&with_other(place, name), &format!("{at}can rewrite the filter's answers"));
        }
        assert_accepted(&with_other(place, "cors.v3.Cors"));
    }
    // What only answers requests does no harm behind the filter, which none of its own passes.
    for name in [
        "ext_authz.v3.ExtAuthz",
        "fault.v3.HTTPFault",
        "file_server.v3.FileServerConfig",
        "mcp_router.v3.McpRouter",
        "rate_limit_quota.v3.RateLimitQuotaFilterConfig",
    ] {
        assert_warned(
            &with_other(0, name),
            &format!("{MANAGER}.http_filters[0]: can answer a callback before the filter does"),
        );
        assert_accepted(&with_other(1, name));
    }
}

/// The time that a callback has begins with its headers, as the filter sees them.
#[test]
fn no_filter_before_it_keeps_the_headers_back() {
    for name in ["buffer.v3.Buffer", "file_system_buffer.v3.FileSystemBufferFilterConfig"] {
        assert_warned(
            &with_other(0, name),
            &format!("{MANAGER}.http_filters[0]: keeps a callback until its body is whole"),
        );
        assert_accepted(&with_other(1, name));
    }
}

/// That filter below a matcher, which skips it for some requests.
fn with_matcher(any: &Value) -> Value {
    let skip = "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter";
    json!({
        "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": { "name": "inner", "typed_config": any },
        "xds_matcher": { "matcher_tree": {
            "input": { "name": "header", "typed_config": {
                "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": "x-skip"
            } },
            "exact_match_map": { "map": { "1": { "action": { "name": "skip", "typed_config": { "@type": skip } } } } }
        } }
    })
}

#[test]
fn a_filter_inside_another_is_judged_by_its_own_type() {
    const OF_FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";
    let at = format!("{MANAGER}.http_filters[0]: ");
    let first = |any: &Value| {
        with(|hcm| {
            let other = json!({ "name": "other", "typed_config": any });
            hcm["http_filters"].as_array_mut().unwrap().insert(0, other);
        })
    };
    let lua = json!({ "@type": format!("{OF_FILTERS}.lua.v3.Lua") });
    let typed_struct = json!({
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        "value": { "extension_config": { "name": "inner", "typed_config": lua } }
    });
    // A Composite runs what the matcher's action names.
    let mut composite = with_matcher(&json!({ "@type": format!("{OF_FILTERS}.composite.v3.Composite") }));
    composite["xds_matcher"]["on_no_match"] = json!({ "action": { "name": "run", "typed_config": {
        "@type": format!("{OF_FILTERS}.composite.v3.ExecuteFilterAction"),
        "typed_config": { "name": "inner", "typed_config": lua }
    } } });
    for any in [with_matcher(&lua), with_matcher(&with_matcher(&lua)), typed_struct, composite] {
        assert_warned(&first(&any), &format!("{at}can rewrite the filter's answers"));
    }
    let custom = json!({ "@type": format!("{OF_FILTERS}.custom_response.v3.CustomResponse") });
    assert_refused(&first(&with_matcher(&custom)), &[&format!("{at}must not be in the filter's chain")]);
    assert_accepted(&first(&with_matcher(&json!({ "@type": format!("{OF_FILTERS}.cors.v3.Cors") }))));

    // The router ends the chain there, too.
    let ended = with(|hcm| {
        let chain = hcm["http_filters"].as_array_mut().unwrap();
        let mut router = chain.pop().unwrap();
        router["typed_config"] = with_matcher(&router["typed_config"]);
        chain.insert(0, router);
    });
    let filter = filter_in_chain(&ended);
    let leads = format!("warning: {MANAGER}.route_config.virtual_hosts[0].routes[2]: leads to");
    assert_refused(&ended, &[&format!("{filter}: must stand before the router"), &leads]);
}

#[test]
fn another_filter_that_is_off_for_callbacks_does_no_harm() {
    let at = format!("{MANAGER}.http_filters[0]: can");
    let off = json!({ "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true });
    for name in ["lua.v3.Lua", "ext_authz.v3.ExtAuthz"] {
        let other = |change: &dyn Fn(&mut Value)| with_other(0, name).edit_hcm(change);
        let route = |index: usize, path: &str| {
            other(&|hcm| {
                let route = &mut hcm["route_config"]["virtual_hosts"][0]["routes"][index];
                assert!(route["match"].to_string().contains(path), "{route}");
                route["typed_per_filter_config"]["other"] = off.clone();
            })
        };
        assert_accepted(&route(0, "/suite/receive"));
        assert_warned(&route(2, "/"), &at);
        let host =
            |hcm: &mut Value| hcm["route_config"]["virtual_hosts"][0]["typed_per_filter_config"]["other"] = off.clone();
        assert_accepted(&other(&host));
        // By default, unless it is switched on there.
        assert_accepted(&other(&|hcm| hcm["http_filters"][0]["disabled"] = json!(true)));
        let on = json!({ "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {} });
        let again = other(&|hcm| {
            host(hcm);
            hcm["route_config"]["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"]["other"] = on.clone();
        });
        assert_warned(&again, &at);
    }
}

#[test]
fn a_request_that_waits_is_not_ended_as_idle() {
    for (timeout, is_long_enough) in [("1s", false), ("2.9s", false), ("3s", true), ("0s", true), ("300s", true)] {
        let bootstrap = with(|hcm| hcm["stream_idle_timeout"] = json!(timeout));
        match is_long_enough {
            true => assert_accepted(&bootstrap),
            false => assert_refused(&bootstrap, &[&format!("{MANAGER}.stream_idle_timeout: must be at least 3s")]),
        }
    }
}

#[test]
fn a_cluster_that_is_called_must_be_there() {
    let none = good().remove_cluster("decision");
    let line = "endpoints[0].decision.cluster: the file has no cluster of that name";
    assert_refused(&none, &[line]);

    // Unless others can come.
    let source = json!({ "resource_api_version": "V3", "path_config_source": { "path": "cds.yaml" } });
    assert_accepted(&none.edit(|config| config["dynamic_resources"] = json!({ "cds_config": source })));
}

#[test]
fn a_mirror_of_a_cluster_that_is_called_is_a_warning_and_one_to_the_same_server_a_problem() {
    let mirrored = |name: &str, to: &str| {
        good().edit_cluster(name, |cluster| {
            cluster["typed_extension_protocol_options"] = json!({ (HTTP_OPTIONS): {
                "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
                "explicit_http_config": { "http_protocol_options": {} },
                "request_mirror_policies": [{ "cluster": to }],
                "retry_policy": { "retry_on": "5xx" }
            } });
        })
    };
    for (index, (name, field)) in [("decision", "decision"), ("backend", "events")].into_iter().enumerate() {
        let at = format!(
            "static_resources.clusters[{index}].typed_extension_protocol_options[\"{HTTP_OPTIONS}\"]\
             .request_mirror_policies"
        );
        let warning = format!("{at}: copies every plaintext callback of endpoints[0].{field}.cluster");
        assert_warned(&mirrored(name, "shadow"), &warning);
        let problem = format!("{at}: sends every callback twice to the same server");
        assert_refused(&mirrored(name, name), &[&problem]);
        let renamed = mirrored(name, "shadow").add_cluster("shadow", 9005).cluster(name, 9005);
        assert_refused(&renamed, &[&problem]);
    }
    let other = mirrored("backend", "backend")
        .edit_plugin_value(|value| value["endpoints"][0]["events"]["cluster"] = json!("decision"));
    assert_accepted(&other);
}

#[test]
fn filters_between_a_call_and_its_server_are_a_warning() {
    let with = |any: Value| {
        good().edit_cluster("decision", |cluster| {
            let filters = json!([{ "name": "first", "typed_config": any }, { "name": "codec", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
            } }]);
            cluster["typed_extension_protocol_options"][HTTP_OPTIONS]["http_filters"] = filters;
        })
    };
    let at = format!(
        "static_resources.clusters[0].typed_extension_protocol_options[\"{HTTP_OPTIONS}\"].http_filters[0]: can change"
    );
    let lua = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua" });
    assert_warned(&with(lua), &at);
    let codec = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec" });
    assert_accepted(&with(codec));
}

#[test]
fn no_limit_of_a_callbacks_age_is_a_warning() {
    let with = |seconds: u64| good().edit_plugin_value(|value| value["freshness_seconds"] = json!(seconds));
    assert_warned(&with(0), "freshness_seconds: is 0");
    assert_accepted(&with(60));
}

/// deploy/replicas, with a module that is there.
fn replica() -> Bootstrap {
    let there = testbed::files::repository().join("Cargo.toml");
    let bootstrap = Bootstrap::replica().unwrap();
    bootstrap.edit_plugin(|plugin| plugin["vm_config"]["code"]["local"]["filename"] = json!(there))
}

#[test]
fn the_cluster_of_the_shared_record_is_one_of_raw_tcp() {
    assert_accepted(&replica());
    let record = |field: &'static str| {
        replica().edit_cluster("record", |cluster| drop(cluster.as_object_mut().unwrap().remove(field)))
    };
    for (bootstrap, wanted) in [
        (replica().remove_cluster("record"), "the file has no cluster of that name"),
        (record("upstream_config"), "must be a cluster of raw TCP"),
        (record("typed_extension_protocol_options"), "must have max_requests_per_connection: 1"),
    ] {
        assert_refused(&bootstrap, &[&format!("dedup.redis.cluster: {wanted}")]);
    }
}

#[test]
fn the_cluster_of_the_shared_record_has_one_server() {
    let record = |change: &dyn Fn(&mut Value)| replica().edit_cluster("record", change);
    let second = |cluster: &mut Value| {
        let servers = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array_mut().unwrap();
        servers.push(
            json!({ "endpoint": { "address": { "socket_address": { "address": "10.0.0.2", "port_value": 6379 } } } }),
        );
    };
    assert_refused(&record(&second), &["dedup.redis.cluster: must have one server"]);
    // Of lower priority, it would be asked while the first is not healthy, and know nothing.
    let fallback = |cluster: &mut Value| {
        let groups = cluster["load_assignment"]["endpoints"].as_array_mut().unwrap();
        groups.push(groups[0].clone());
        groups[1]["priority"] = json!(1);
    };
    assert_refused(&record(&fallback), &["dedup.redis.cluster: must have one server"]);

    // A name can have several addresses, of which LOGICAL_DNS takes one at a time.
    let config = replica();
    let clusters = config.config()["static_resources"]["clusters"].as_array().unwrap();
    let index = clusters.iter().position(|cluster| cluster["name"] == "record").unwrap();
    let warning = format!("static_resources.clusters[{index}].");
    let of_type = |name: &'static str| record(&move |cluster| cluster["type"] = json!(name));
    for name in ["STRICT_DNS", "EDS"] {
        assert_warned(&of_type(name), &format!("{warning}type: should be LOGICAL_DNS"));
    }
    let at_ip = |name: &'static str| of_type(name).cluster("record", 6379);
    assert_accepted(&at_ip("STRICT_DNS"));
    assert_accepted(&at_ip("STATIC"));
    for (single, is_accepted) in [(true, true), (false, false)] {
        let dns = json!({ "name": "envoy.clusters.dns", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
            "all_addresses_in_single_endpoint": single
        } });
        let bootstrap = record(&|cluster| {
            cluster.as_object_mut().unwrap().remove("type");
            cluster["cluster_type"] = dns.clone();
        });
        if is_accepted {
            assert_accepted(&bootstrap)
        } else {
            assert_warned(&bootstrap, &format!("{warning}type: should be"))
        }
    }
}

#[test]
fn metrics_without_labels_are_a_warning() {
    let at = "stats_config.stats_tags: no rule extracts";
    let none = good().edit(|config| config["stats_config"] = json!(null));
    assert_warned(&none, &format!("{at} endpoint, event, outcome, errcode, version from"));
    let rules = good().config()["stats_config"]["stats_tags"].as_array().unwrap().clone();
    for (index, rule) in rules.iter().enumerate() {
        let label = rule["tag_name"].as_str().unwrap();
        // The label of metrics that exist only with a shared record.
        let good = if label == "result" { replica } else { good };
        let tags = |config: &mut Value| config["stats_config"]["stats_tags"].as_array_mut().unwrap().remove(index);
        assert_warned(&good().edit(|config| drop(tags(config))), &format!("{at} {label} from"));
        // A rule for other metrics is none.
        let other = good().edit(|config| config["stats_config"]["stats_tags"][index]["regex"] = json!("^http\\.(.*)"));
        assert_warned(&other, &format!("{at} {label} from"));
    }
}

#[test]
fn a_route_to_a_called_cluster_that_leaves_the_filters_headers_on_is_a_warning() {
    let dashed = ["x-wecom-event", "x-wecom-req-id", "x-wecom-receive-id"];
    let underscored = ["x_wecom_event", "x_wecom_req_id", "x_wecom_receive_id"];
    let names = json!([dashed, underscored].concat());
    let backend = json!({ "match": { "prefix": "/" }, "route": { "cluster": "backend" } });
    let route = |change: &dyn Fn(&mut Value)| {
        good().edit_hcm(|hcm| {
            hcm["route_config"]["request_headers_to_remove"] = json!(null);
            let chain = hcm["http_filters"].as_array_mut().unwrap();
            chain.retain(|filter| !filter["typed_config"]["@type"].as_str().unwrap().ends_with("HeaderMutation"));
            let routes = &mut hcm["route_config"]["virtual_hosts"][0]["routes"];
            *routes = json!([routes[0], routes[1], backend]);
            change(hcm);
        })
    };
    let at = format!("{MANAGER}.route_config.virtual_hosts[0].routes[2]");
    let leads = format!("{at}: leads to endpoints[0].events.cluster and leaves x-wecom-* headers on");
    assert_warned(&route(&|_| {}), &leads);

    let set = |pointer: &'static str, field: &'static str, value: Value| {
        route(&move |hcm| hcm.pointer_mut(pointer).unwrap()[field] = value.clone())
    };
    // The ways to take them off.
    for pointer in ["/route_config", "/route_config/virtual_hosts/0", "/route_config/virtual_hosts/0/routes/2"] {
        let field = "request_headers_to_remove";
        assert_accepted(&set(pointer, field, names.clone()));
        assert_warned(&set(pointer, field, json!(dashed)), &leads);
        assert_warned(&set(pointer, field, json!(underscored)), &leads);
        // Envoy itself can drop names with underscores, which CGI and WSGI read as those with dashes.
        for (action, drops) in [("ALLOW", false), ("DROP_HEADER", true), ("REJECT_REQUEST", true)] {
            let bootstrap = set(pointer, field, json!(dashed)).edit_hcm(|hcm| {
                hcm["common_http_protocol_options"]["headers_with_underscores_action"] = json!(action);
            });
            if drops { assert_accepted(&bootstrap) } else { assert_warned(&bootstrap, &leads) }
        }
    }
    let mutation = |name: &str, request_mutations: Value| {
        json!({ "name": name, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": { "request_mutations": request_mutations }
        } })
    };
    let by_filter = |request_mutations: &Value, change: &dyn Fn(&mut Value)| {
        route(&|hcm| {
            hcm["http_filters"].as_array_mut().unwrap().insert(0, mutation("strip", request_mutations.clone()));
            change(hcm);
        })
    };
    let on_match = |matcher: Value| json!([{ "remove_on_match": { "key_matcher": matcher } }]);
    for mutations in [
        json!([on_match(json!({ "prefix": "x-wecom-" }))[0], on_match(json!({ "prefix": "x_wecom_" }))[0]]),
        on_match(json!({ "safe_regex": { "regex": "x[^a-z]wecom[^a-z].*" } })),
        on_match(json!({ "contains": "wecom" })),
        on_match(json!({ "contains": "WeCom", "ignore_case": true })),
        [dashed, underscored].concat().iter().map(|name| json!({ "remove": name })).collect(),
    ] {
        assert_accepted(&by_filter(&mutations, &|_| {}));
    }
    for mutations in [
        on_match(json!({ "prefix": "x-wecom-" })),
        on_match(json!({ "safe_regex": { "regex": "x-wecom-.*" } })),
        on_match(json!({ "prefix": "x-wecom-e" })),
        on_match(json!({ "safe_regex": { "regex": "x-wecom-" } })),
        on_match(json!({ "suffix": "-id" })),
        json!([{ "remove": "x-wecom-event" }]),
    ] {
        assert_warned(&by_filter(&mutations, &|_| {}), &leads);
    }
    // A filter that is off, or that no request gets to, takes off nothing.
    let all = on_match(json!({ "contains": "wecom" }));
    let off =
        json!({ "strip": { "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true } });
    assert_warned(&by_filter(&all, &|hcm| hcm["http_filters"][0]["disabled"] = json!(true)), &leads);
    let off = by_filter(&all, &|hcm| {
        hcm["route_config"]["virtual_hosts"][0]["routes"][2]["typed_per_filter_config"] = off.clone();
    });
    assert_warned(&off, &leads);
    assert_warned(
        &route(&|hcm| hcm["http_filters"].as_array_mut().unwrap().push(mutation("strip", all.clone()))),
        &leads,
    );

    // The ways to get there.
    let set = |action: Value| set("/route_config/virtual_hosts/0/routes/2", "route", action);
    let weighted = json!({ "weighted_clusters": { "clusters": [
        { "name": "other", "weight": 1 },
        { "name": "decision", "weight": 1 },
        { "name": "backend", "weight": 1, "request_headers_to_remove": names }
    ] } });
    let target = format!("{at}.route.weighted_clusters.clusters[1]: leads to endpoints[0].decision.cluster");
    // The same route leads strangers to the decision endpoint: a warning of its own.
    let headers = "endpoints[0].decision.headers: is not set";
    let stranger = format!("{at}.route.weighted_clusters.clusters[1]: leads strangers to");
    assert_all_warned(&set(weighted), &[&target, &stranger, headers]);
    let mirrored = json!({ "cluster": "other", "request_mirror_policies": [{ "cluster": "backend" }] });
    assert_warned(&set(mirrored), &format!("{at}.route.request_mirror_policies[0]: leads to"));
    let lines = [&format!("{at}: can lead to endpoints[0]"), &format!("{at}: can lead strangers to")];
    for named in [
        json!({ "cluster_header": "x-to" }),
        json!({ "cluster_specifier_plugin": "lua" }),
        json!({ "inline_cluster_specifier_plugin": { "extension": { "name": "lua" } } }),
    ] {
        assert_all_warned(&set(named), &[lines[0], lines[1], headers]);
    }
    assert_accepted(&set(json!({ "cluster": "other" })));

    // Another listener of the same Envoy leads there too.
    let second = good().edit(|config| {
        let mut listener = config["static_resources"]["listeners"][0].clone();
        listener["name"] = json!("second");
        let hcm = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        hcm["route_config"] = json!({ "virtual_hosts": [{ "name": "b", "domains": ["*"], "routes": [backend] }] });
        hcm["http_filters"].as_array_mut().unwrap().retain(|filter| filter["name"] == "envoy.filters.http.router");
        config["static_resources"]["listeners"].as_array_mut().unwrap().push(listener);
    });
    let at = MANAGER.replace("listeners[0]", "listeners[1]");
    assert_warned(&second, &format!("{at}.route_config.virtual_hosts[0].routes[0]: leads to"));
}
