//! The filter's settings in Envoy.

use serde_json::json;

use super::{Bootstrap, Value, assert_accepted, assert_refused, assert_warned, filter_in_chain, good};

/// A field of Envoy's PluginConfig.
fn at(field: &str) -> String {
    format!("{}.typed_config.config.{field}", filter_in_chain(&good()))
}

fn with(change: impl FnOnce(&mut Value)) -> Bootstrap {
    good().edit_plugin(change)
}

#[test]
fn what_the_filter_needs_of_envoy_is_checked_too() {
    for (bootstrap, field) in [
        (with(|plugin| plugin["allow_on_headers_stop_iteration"] = json!(false)), "allow_on_headers_stop_iteration"),
        (with(|plugin| plugin["failure_policy"] = json!("FAIL_OPEN")), "failure_policy"),
        (with(|plugin| plugin["failure_policy"] = json!(null)), "failure_policy"),
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
fn a_module_that_is_not_there_is_a_warning() {
    let with = |name: &str| with(|plugin| plugin["vm_config"]["code"]["local"]["filename"] = json!(name));
    let at = at("vm_config.code.local.filename");
    assert_warned(&with("/no/such/module.wasm"), &format!("{at}: there is no such file on this machine"));
    assert_warned(&with("no/such/module.wasm"), &format!("{at}: there is no such file below this folder; Envoy looks"));
    // The command runs in the repository's root here.
    assert_accepted(&with("README.md"));
}
