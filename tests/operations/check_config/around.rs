//! The connection manager, the clusters and the metrics' labels around the filter.

use serde_json::json;

use super::{Bootstrap, MANAGER, Value, assert_accepted, assert_refused, assert_warned, filter_in_chain, good};

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
fn a_callbacks_path_must_have_one_spelling() {
    for (field, value) in [
        ("normalize_path", json!(false)),
        ("normalize_path", json!(null)),
        ("merge_slashes", json!(false)),
        ("path_with_escaped_slashes_action", json!("KEEP_UNCHANGED")),
        ("path_with_escaped_slashes_action", json!(null)),
    ] {
        assert_refused(&with(|hcm| hcm[field] = value), &[&format!("{MANAGER}.{field}: must be ")]);
    }
    assert_accepted(&with(|hcm| hcm["path_with_escaped_slashes_action"] = json!("UNESCAPE_AND_REDIRECT")));
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
fn local_replies_must_be_left_as_they_are() {
    let with = |config: Value| with(|hcm| hcm["local_reply_config"] = config);
    let at = format!("{MANAGER}.local_reply_config");
    let any = json!({ "status_code_filter": { "comparison": { "op": "GE", "value": { "default_value": 400 } } } });
    let format = json!({ "text_format_source": { "inline_string": "" } });
    assert_refused(&with(json!({ "body_format": format })), &[&format!("{at}.body_format: must not be set")]);
    let status = with(json!({ "mappers": [{ "filter": any, "status_code": 200 }] }));
    assert_refused(&status, &[&format!("{at}.mappers[0].status_code: must be 400 or more")]);
    let body = with(json!({ "mappers": [{ "filter": any, "body": { "inline_string": "sorry" } }] }));
    assert_warned(&body, &format!("{at}.mappers[0].body: replaces the body of the filter's own answers"));
    assert_accepted(&with(json!({ "mappers": [{ "filter": any, "status_code": 500 }] })));
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
fn a_mirror_of_a_cluster_that_is_called_is_a_warning() {
    let mirrored = |name: &str| {
        good().edit_cluster(name, |cluster| {
            cluster["typed_extension_protocol_options"] = json!({ (HTTP_OPTIONS): {
                "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
                "explicit_http_config": { "http_protocol_options": {} },
                "request_mirror_policies": [{ "cluster": "backend" }],
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
        assert_warned(&mirrored(name), &warning);
    }
    let other =
        mirrored("backend").edit_plugin_value(|value| value["endpoints"][0]["events"]["cluster"] = json!("decision"));
    assert_accepted(&other);
}

#[test]
fn metrics_without_labels_are_a_warning() {
    let at = "stats_config.stats_tags: no rule extracts";
    let none = good().edit(|config| config["stats_config"] = json!(null));
    assert_warned(&none, &format!("{at} endpoint, event, outcome, errcode from"));
    let rules = good().config()["stats_config"]["stats_tags"].as_array().unwrap().clone();
    for (index, rule) in rules.iter().enumerate() {
        let label = rule["tag_name"].as_str().unwrap();
        let tags = |config: &mut Value| config["stats_config"]["stats_tags"].as_array_mut().unwrap().remove(index);
        assert_warned(&good().edit(|config| drop(tags(config))), &format!("{at} {label} from"));
        // A rule for other metrics is none.
        let other = good().edit(|config| config["stats_config"]["stats_tags"][index]["regex"] = json!("^http\\.(.*)"));
        assert_warned(&other, &format!("{at} {label} from"));
    }
}
