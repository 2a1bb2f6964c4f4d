//! The clusters that the filter calls.

use crate::finding::Findings;
use crate::node::{Node, Place};
use crate::plugin::Endpoint;

/// Checks the clusters of a bootstrap; `plugin` is where the endpoints stand.
pub(crate) fn check(bootstrap: &Node<'_>, endpoints: &[Endpoint], plugin: &Place, found: &mut Findings) {
    let cds = bootstrap.get("dynamic_resources.cds_config");
    if bootstrap.get("static_resources.clusters").is_none() || cds.is_some() {
        return;
    }
    let clusters = bootstrap.items("static_resources.clusters");
    for (field, name) in endpoints.iter().flat_map(|endpoint| &endpoint.clusters) {
        if !clusters.iter().any(|cluster| cluster.text("name") == Some(name)) {
            found.problem(plugin.below(field), "the file has no cluster of that name");
        }
    }
}
