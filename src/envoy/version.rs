//! Tells which version runs: in a gauge and, once in a process, in the log.

use super::calls;
use super::host::Envoy;
use crate::version::{is_news, text};

/// For a configuration that was accepted. Envoy drops the gauge with the last VM of the version.
pub(super) fn tell(envoy: &Envoy) {
    let version = text();
    // The rule for its tag takes everything up to the last part for the version, dots included.
    if let Some(gauge) = calls::gauge(&format!("wecom.version={version}.build_info")) {
        calls::record(gauge, 1);
    }
    if is_news(envoy, &version) {
        log::info!("wecom-callback-filter {version} started");
    }
}
