//! The filter's settings in Envoy, without which it does not keep its promises.

use crate::finding::Findings;
use crate::node::Node;

/// Checks Envoy's PluginConfig.
pub(crate) fn check(config: &Node<'_>, found: &mut Findings) {
    if !config.is_true("allow_on_headers_stop_iteration") {
        let reason = "must be true: without it no POST ever reaches its body";
        found.problem(config.at("allow_on_headers_stop_iteration"), reason);
    }
    if config.text("failure_policy") != Some("FAIL_RELOAD") {
        let reason = "must be FAIL_RELOAD: FAIL_OPEN lets raw callbacks pass after a trap, others end all service";
        found.problem(config.at("failure_policy"), reason);
    }
    if config.text("vm_config.vm_id").is_none_or(str::is_empty) {
        found.problem(config.at("vm_config.vm_id"), "must be set: the record of duplicates belongs to it");
    }
}
