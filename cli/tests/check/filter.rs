//! The filter's settings in Envoy.

use serde_json::json;

use super::{
    Bootstrap, Value, about, assert_accepted, assert_lines, assert_refused, assert_warned, capabilities,
    filter_in_chain, good,
};

/// A field of Envoy's PluginConfig.
fn at(field: &str) -> String {
    format!("{}.typed_config.config.{field}", filter_in_chain(&good()))
}

const LIST: &str = "capability_restriction_config.allowed_capabilities";

fn with(change: impl FnOnce(&mut Value)) -> Bootstrap {
    good().edit_plugin(change)
}

#[test]
fn what_the_filter_needs_of_envoy_is_checked_too() {
    for (bootstrap, field) in [
        (with(|plugin| plugin["allow_on_headers_stop_iteration"] = json!(false)), "allow_on_headers_stop_iteration"),
        (with(|plugin| plugin["failure_policy"] = json!("FAIL_OPEN")), "failure_policy"),
        (with(|plugin| plugin["failure_policy"] = json!(null)), "failure_policy"),
        (with(|plugin| plugin["fail_open"] = json!(true)), "fail_open"),
        (with(|plugin| plugin["vm_config"]["vm_id"] = json!("")), "vm_config.vm_id"),
        (with(|plugin| plugin["configuration"] = json!({})), "configuration"),
    ] {
        assert_refused(&bootstrap, &[&format!("{}: must ", at(field))]);
    }
}

#[test]
fn fields_are_read_in_both_ways_that_envoy_reads_them() {
    assert_accepted(&with(|plugin| {
        plugin.as_object_mut().unwrap().remove("allow_on_headers_stop_iteration");
        plugin["allowOnHeadersStopIteration"] = json!(true);
    }));
    let wrong = with(|plugin| {
        plugin.as_object_mut().unwrap().remove("failure_policy");
        plugin["failurePolicy"] = json!("FAIL_CLOSED");
    });
    assert_refused(&wrong, &[&format!("{}: must be FAIL_RELOAD", at("failurePolicy"))]);
}

#[test]
fn every_name_that_is_missing_from_the_capabilities_is_said_with_its_cost() {
    let of_vm = at(&format!("vm_config.{LIST}"));
    let without = |name: &str| {
        with(|plugin| {
            let list = &mut plugin["vm_config"]["capability_restriction_config"]["allowed_capabilities"];
            assert!(list.as_object_mut().unwrap().remove(name).is_some(), "{name}");
        })
    };
    for (name, cost) in [
        ("proxy_on_request_body", "Envoy would silently never call it"),
        ("proxy_on_tick", "Envoy would silently never call it"),
        ("proxy_http_call", "Envoy would refuse the module's calls"),
        ("random_get", "Envoy would refuse the module's calls"),
    ] {
        assert_refused(&without(name), &[&format!("{of_vm}: {name} is missing: {cost}")]);
    }

    // All at once: only one is left, and none is forgotten.
    let said = about(
        &with(|plugin| {
            plugin["vm_config"]["capability_restriction_config"]["allowed_capabilities"] = json!({ "proxy_log": {} });
        }),
        &[],
    );
    let needed = capabilities();
    let missing: Vec<_> = needed.as_object().unwrap().keys().filter(|name| *name != "proxy_log").collect();
    let lines: Vec<_> = missing.iter().map(|name| format!("{of_vm}: {name} is missing: ")).collect();
    assert_lines(&said, &lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_list_of_capabilities_may_stand_where_an_older_envoy_reads_it() {
    let lifted = |list: Value| {
        with(|plugin| {
            plugin["vm_config"].as_object_mut().unwrap().remove("capability_restriction_config");
            plugin["capability_restriction_config"] = json!({ "allowed_capabilities": list });
        })
    };
    assert_accepted(&lifted(capabilities()));
    let mut incomplete = capabilities();
    incomplete.as_object_mut().unwrap().remove("proxy_on_done");
    assert_refused(&lifted(incomplete), &[&format!("{}: proxy_on_done is missing: ", at(LIST))]);

    // Which of two lists counts depends on the version: a good one does not make up for a bad one.
    let both = with(|plugin| {
        plugin["capability_restriction_config"] = plugin["vm_config"]["capability_restriction_config"].clone();
        let list = &mut plugin["vm_config"]["capability_restriction_config"]["allowed_capabilities"];
        list.as_object_mut().unwrap().remove("proxy_on_done");
    });
    assert_refused(&both, &[&format!("{}: proxy_on_done", at(&format!("vm_config.{LIST}")))]);
}

#[test]
fn a_module_that_is_allowed_everything_is_a_warning() {
    let at = at(&format!("vm_config.{LIST}"));
    for list in [json!(null), json!({}), json!({ "allowed_capabilities": {} })] {
        let unrestricted = with(|plugin| plugin["vm_config"]["capability_restriction_config"] = list);
        assert_warned(&unrestricted, &format!("{at}: allows the module everything"));
    }
}

#[test]
fn a_module_that_is_not_there_is_a_warning() {
    let with = |name: &str| with(|plugin| plugin["vm_config"]["code"]["local"]["filename"] = json!(name));
    let at = at("vm_config.code.local.filename");
    assert_warned(&with("/no/such/module.wasm"), &format!("{at}: there is no such file on this machine"));
    assert_warned(&with("no/such/module.wasm"), &format!("{at}: there is no such file below this folder; Envoy looks"));
    // The command runs in the repository's root here.
    assert_accepted(&with("README.md"));
}

#[test]
fn a_module_that_is_elsewhere_is_accepted_if_it_is_optional() {
    for name in ["target/no-such-module.wasm", "/no-such-folder/no-such-module.wasm"] {
        let elsewhere = good().edit_plugin(|config| config["vm_config"]["code"]["local"]["filename"] = json!(name));
        assert_eq!(about(&elsewhere, &["--strict"]).code, 1);
        let said = about(&elsewhere, &["--strict", "--module-optional"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert!(said.out.contains(": note: the module's file is not on this machine: not checked\n"), "{said:?}");
    }
    // One that is there needs no word.
    let said = about(&good(), &["--strict", "--module-optional"]);
    assert!(said.code == 0 && !said.out.contains("note:"), "{said:?}");
}

#[test]
fn the_shipped_file_passes_in_ci() {
    let folder = super::TempDir::new().unwrap();
    let shipped = std::fs::read_to_string(super::repository().join("envoy.yaml")).unwrap();
    // Wherever the tests run: the module may have been built.
    let shipped = shipped.replace("filename: target/", "filename: target/elsewhere/");
    let path = super::file(&folder, "envoy.yaml", &shipped);
    let arguments = ["--strict", "--env-optional", "--module-optional", &path];
    let said = super::check(&arguments, &["WECOM_TOKEN", "WECOM_ENCODING_AES_KEY"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
}

/// The same listener twice, the second one changed in its filter's PluginConfig.
fn two(change: &dyn Fn(&mut Value)) -> Bootstrap {
    good().edit(|config| {
        let listeners = config["static_resources"]["listeners"].as_array_mut().unwrap();
        let mut second = listeners[0].clone();
        let chain = &mut second["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
        let chain = chain.as_array_mut().unwrap();
        change(&mut chain.iter_mut().find(|filter| filter["name"] == "wecom").unwrap()["typed_config"]["config"]);
        second["name"] = json!("second");
        listeners.push(second);
    })
}

#[test]
fn filters_that_share_their_record_keep_it_as_long_as_the_other_takes_copies() {
    let with = |freshness: u64, ttl: Option<u64>| {
        two(&|config| {
            let value = &mut config["configuration"]["value"];
            value["freshness_seconds"] = json!(freshness);
            ttl.into_iter().for_each(|ttl| value["dedup"] = json!({ "ttl_seconds": ttl }));
        })
    };
    let of = |listener: usize, least: u64| {
        format!(
            "static_resources.listeners[{listener}].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config\
             .config.configuration: needs dedup.ttl_seconds of {least} at least: the filter at static_resources\
             .listeners[{}]",
            1 - listener
        )
    };
    assert_accepted(&with(600, None));
    assert_refused(&with(60, None), &[&of(1, 1201)]);
    assert_refused(&with(60, Some(1200)), &[&of(1, 1201)]);
    assert_accepted(&with(60, Some(1201)));
    // The first one's records live 1260 s.
    assert_accepted(&with(629, None));
    assert_refused(&with(630, None), &[&of(0, 1261)]);
    // One that takes copies of any age is warned of as it is.
    let of_any_age = with(0, Some(1201));
    let said = about(&of_any_age, &[]);
    assert!(!said.err.contains("needs dedup.ttl_seconds"), "{said:?}");
    // Other callbacks are none of these.
    let other = two(&|config| {
        let value = &mut config["configuration"]["value"];
        value["freshness_seconds"] = json!(60);
        value["endpoints"][0]["receive_ids"] = json!(["another"]);
        value["endpoints"][0]["verify_receive_ids"] = json!([]);
    });
    assert_accepted(&other);
}

#[test]
fn filters_of_one_envoy_that_take_the_same_callbacks_share_their_record() {
    const OTHER: &str = "static_resources.listeners[1].filter_chains[0].filters[0].typed_config.http_filters[0]\
                         .typed_config.config.vm_config.vm_id: must be that of the filter at ";
    let endpoint = |config: &mut Value, field: &str, value: Value| {
        config["configuration"]["value"]["endpoints"][0][field] = value;
    };
    let other_vm = |config: &mut Value| config["vm_config"]["vm_id"] = json!("another");
    assert_accepted(&two(&|_| {}));
    assert_refused(&two(&other_vm), &[OTHER]);
    // Another path does not make it another callback, but another receive id does.
    let accepted = two(&|config| {
        other_vm(config);
        endpoint(config, "receive_ids", json!(["another"]));
        endpoint(config, "verify_receive_ids", json!([]));
    });
    assert_accepted(&accepted);
    // One that is not asked for counts as well.
    let renamed = two(&other_vm).edit(|config| {
        let hcm = &mut config["static_resources"]["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"];
        let filter = hcm["http_filters"].as_array_mut().unwrap().iter_mut().find(|filter| filter["name"] == "wecom");
        let filter = filter.unwrap();
        filter["name"] = json!("another");
        filter["typed_config"]["config"]["name"] = json!("another");
    });
    let said = about(&renamed, &[]);
    assert!(said.code == 1 && said.err.contains("vm_id: must be that of the filter at "), "{said:?}");

    // A record in Redis is shared if both have it.
    let with_redis = |config: &mut Value, prefix: &str| {
        let redis = json!({ "cluster": "record", "key_prefix": prefix, "secret": { "env": "WECOM_RECORD_SECRET" } });
        config["configuration"]["value"]["dedup"] = json!({ "redis": redis });
    };
    for (first, second, is_shared) in
        [(Some("a:"), Some("a:"), true), (Some("a:"), Some("b:"), false), (None, Some("a:"), false)]
    {
        let bootstrap = two(&|config| {
            other_vm(config);
            second.into_iter().for_each(|prefix| with_redis(config, prefix));
        });
        let said = about(
            &bootstrap.edit_plugin(|config| first.into_iter().for_each(|prefix| with_redis(config, prefix))),
            &[],
        );
        assert_eq!(said.err.contains(OTHER), !is_shared, "{said:?}");
    }

    // One vm_id is not enough where there are replicas, as a record in Redis says.
    const REDIS: &str =
        ".config.configuration: must have the same dedup.redis, cluster and key_prefix, as the filter at ";
    for (first, second, is_same) in [
        (Some("a:"), Some("a:"), true),
        (Some("a:"), Some("b:"), false),
        (Some("a:"), None, false),
        (None, Some("a:"), false),
    ] {
        let of = |prefix: Option<&'static str>| {
            move |config: &mut Value| prefix.into_iter().for_each(|p| with_redis(config, p))
        };
        let said = about(&two(&of(second)).edit_plugin(of(first)), &[]);
        assert_eq!(said.err.contains(REDIS), !is_same, "{said:?}");
    }
}
