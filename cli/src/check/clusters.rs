//! The clusters that the filter calls.

use crate::check::finding::Findings;
use crate::check::node::{Node, Place};
use crate::check::plugin::Endpoint;

const TCP_POOL: &str = "envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto";
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

/// Checks the cluster of the record that replicas share: Envoy accepts any, and loses exchanges with most.
pub(crate) fn check_record(bootstrap: &Node<'_>, cluster: &str, plugin: &Place, found: &mut Findings) {
    if bootstrap.get("static_resources.clusters").is_none() {
        return;
    }
    let clusters = bootstrap.items("static_resources.clusters");
    let reason = match clusters.iter().find(|known| known.text("name") == Some(cluster)) {
        None if bootstrap.get("dynamic_resources.cds_config").is_some() => return,
        None => "the file has no cluster of that name",
        Some(cluster) if !is_raw_tcp(cluster) => {
            "must be a cluster of raw TCP, by upstream_config: see deploy/replicas/envoy.yaml"
        }
        Some(cluster) if !takes_one_exchange(cluster) => {
            "must have max_requests_per_connection: 1, or exchanges are lost: see deploy/replicas/envoy.yaml"
        }
        Some(_) => return,
    };
    found.problem(plugin.below("dedup.redis.cluster"), reason);
}

fn is_raw_tcp(cluster: &Node<'_>) -> bool {
    cluster.get("upstream_config.typed_config").is_some_and(|config| config.message(TCP_POOL).is_some())
}

fn takes_one_exchange(cluster: &Node<'_>) -> bool {
    let options = cluster.entries("typed_extension_protocol_options");
    let mut options = options.into_iter().filter_map(|(_, options)| options.message(HTTP_OPTIONS));
    options.any(|options| options.number("common_http_protocol_options.max_requests_per_connection") == Some(1))
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
