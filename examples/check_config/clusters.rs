//! The clusters that the filter calls.

use crate::finding::Findings;
use crate::node::{Node, Place};
use crate::plugin::Endpoint;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Checks the clusters of a bootstrap; `plugin` is where the endpoints stand.
pub(crate) fn check(bootstrap: &Node<'_>, endpoints: &[Endpoint], plugin: &Place, found: &mut Findings) {
    if bootstrap.get("static_resources.clusters").is_none() {
        return;
    }
    let clusters = bootstrap.items("static_resources.clusters");
    for (field, name) in endpoints.iter().flat_map(|endpoint| &endpoint.clusters) {
        match clusters.iter().find(|cluster| cluster.text("name") == Some(name)) {
            Some(cluster) => mirror(cluster, field, found),
            None if bootstrap.get("dynamic_resources.cds_config").is_some() => {}
            None => found.problem(plugin.below(field), "the file has no cluster of that name"),
        }
    }
}

/// A retry policy of the cluster's own is switched off for the filter's calls; this cannot be.
fn mirror(cluster: &Node<'_>, field: &str, found: &mut Findings) {
    for (_, options) in cluster.entries("typed_extension_protocol_options") {
        let options = options.message(HTTP_OPTIONS);
        if let Some(options) = options.filter(|options| !options.items("request_mirror_policies").is_empty()) {
            let reason = format!("copies every plaintext callback of {field}: no call can switch it off");
            found.warning(options.at("request_mirror_policies"), reason);
        }
    }
}
