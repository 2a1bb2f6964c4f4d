//! The filter's settings in Envoy, without which it does not keep its promises.

use std::path::Path;

use crate::check::capabilities;
use crate::check::finding::Findings;
use crate::check::node::Node;

/// Checks Envoy's PluginConfig.
pub(crate) fn check(config: &Node<'_>, module_optional: bool, found: &mut Findings) {
    if !config.is_true("allow_on_headers_stop_iteration") {
        let reason = "must be true: without it no POST ever reaches its body";
        found.problem(config.at("allow_on_headers_stop_iteration"), reason);
    }
    if config.text("failure_policy") != Some("FAIL_RELOAD") {
        let reason = "must be FAIL_RELOAD: FAIL_OPEN lets raw callbacks pass after a trap, others end all service";
        found.problem(config.at("failure_policy"), reason);
    }
    if config.is_true("fail_open") {
        found.problem(config.at("fail_open"), "must not be set: it lets raw callbacks pass after a trap");
    }
    if config.text("vm_config.vm_id").is_none_or(str::is_empty) {
        found.problem(config.at("vm_config.vm_id"), "must be set: the record of duplicates belongs to it");
    }
    capabilities::check(config, found);
    module_file(config, module_optional, found);
}

/// Whether the module is there. A warning: Envoy may run on another machine than this check.
fn module_file(config: &Node<'_>, is_optional: bool, found: &mut Findings) {
    const FILENAME: &str = "vm_config.code.local.filename";
    let Some(name) = config.text(FILENAME) else { return };
    let reason = match Path::new(name) {
        file if file.is_file() => return,
        _ if is_optional => {
            found.note(config.place.file, "the module's file is not on this machine: not checked");
            return;
        }
        file if file.is_absolute() => "there is no such file on this machine",
        _ => {
            "there is no such file below this folder; Envoy looks for it from its own working directory, wherever \
             its configuration is"
        }
    };
    found.warning(config.at(FILENAME), reason);
}
