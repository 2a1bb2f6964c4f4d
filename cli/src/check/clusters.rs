//! The clusters that the filter calls.

use std::net::IpAddr;

use crate::check::finding::Findings;
use crate::check::node::{Node, Place};
use crate::check::plugin::Endpoint;

const TCP_POOL: &str = "envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto";
const CODEC: &str = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
const DNS_CLUSTER: &str = "envoy.extensions.clusters.dns.v3.DnsCluster";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Checks the clusters of a bootstrap; `plugin` is where the endpoints stand.
pub(crate) fn check(bootstrap: &Node<'_>, endpoints: &[Endpoint], plugin: &Place, found: &mut Findings) {
    if bootstrap.get("static_resources.clusters").is_none() {
        return;
    }
    let clusters = bootstrap.items("static_resources.clusters");
    for (field, name) in endpoints.iter().flat_map(|endpoint| &endpoint.clusters) {
        match clusters.iter().find(|cluster| cluster.text("name") == Some(name)) {
            Some(cluster) => {
                mirror(cluster, &same_servers(bootstrap, name), field, found);
                filters(cluster, field, found);
            }
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
    let known = clusters.iter().find(|known| known.text("name") == Some(cluster));
    if let Some(cluster) = known.filter(|cluster| may_have_more_servers(cluster)) {
        let reason = "should be LOGICAL_DNS: where a name has several addresses, each server would keep a part of the record, and \
                      a callback could reach the decision endpoint twice";
        found.warning(cluster.at("type"), reason);
    }
    let reason = match known {
        None if bootstrap.get("dynamic_resources.cds_config").is_some() => return,
        None => "the file has no cluster of that name",
        Some(cluster) if !is_raw_tcp(cluster) => {
            "must be a cluster of raw TCP, by upstream_config: see deploy/replicas/envoy.yaml"
        }
        Some(cluster) if !takes_one_exchange(cluster) => {
            "must have max_requests_per_connection: 1, or exchanges are lost: see deploy/replicas/envoy.yaml"
        }
        Some(cluster) if servers(cluster).len() > 1 => {
            "must have one server: of several, each would keep a part of the record, and a callback could reach the decision \
             endpoint twice"
        }
        Some(_) => return,
    };
    found.problem(plugin.below("dedup.redis.cluster"), reason);
}

/// That cluster, and those of the file that have a server with it.
pub(crate) fn same_servers<'a>(envoy: &Node<'a>, name: &'a str) -> Vec<&'a str> {
    let clusters = envoy.items("static_resources.clusters");
    let own = clusters.iter().find(|cluster| cluster.text("name") == Some(name)).map(addresses).unwrap_or_default();
    let shares = |cluster: &&Node<'_>| addresses(cluster).iter().any(|server| own.contains(server));
    std::iter::once(name).chain(clusters.iter().filter(shares).filter_map(|cluster| cluster.text("name"))).collect()
}

/// Addresses and ports of a cluster's servers, as far as they are in the file.
fn addresses<'a>(cluster: &Node<'a>) -> Vec<(&'a str, u64)> {
    let address = |server: Node<'a>| {
        let address = server.get("endpoint.address.socket_address")?;
        Some((address.text("address")?, address.number("port_value")?))
    };
    servers(cluster).into_iter().filter_map(address).collect()
}

/// A cluster's servers in the file.
fn servers<'a>(cluster: &Node<'a>) -> Vec<Node<'a>> {
    let groups = cluster.items("load_assignment.endpoints").into_iter();
    groups.flat_map(|group| group.items("lb_endpoints")).collect()
}

/// Whether Envoy may find more servers than the file has.
fn may_have_more_servers(cluster: &Node<'_>) -> bool {
    let is_ip = |server: &Node<'_>| {
        server.text("endpoint.address.socket_address.address").is_some_and(|address| address.parse::<IpAddr>().is_ok())
    };
    if let Some(kind) = cluster.get("cluster_type") {
        let dns = kind.get("typed_config").and_then(|config| config.message(DNS_CLUSTER));
        return dns.is_none_or(|dns| !dns.is_true("all_addresses_in_single_endpoint"));
    }
    match cluster.text("type") {
        None | Some("STATIC" | "LOGICAL_DNS") => false,
        Some("STRICT_DNS") => !servers(cluster).iter().all(is_ip),
        Some(_) => true,
    }
}

fn is_raw_tcp(cluster: &Node<'_>) -> bool {
    cluster.get("upstream_config.typed_config").is_some_and(|config| config.message(TCP_POOL).is_some())
}

fn takes_one_exchange(cluster: &Node<'_>) -> bool {
    http_options(cluster)
        .iter()
        .any(|options| options.number("common_http_protocol_options.max_requests_per_connection") == Some(1))
}

fn http_options<'a>(cluster: &Node<'a>) -> Vec<Node<'a>> {
    let options = cluster.entries("typed_extension_protocol_options").into_iter();
    options.filter_map(|(_, options)| options.message(HTTP_OPTIONS)).collect()
}

/// A retry policy of the cluster's own is switched off for the filter's calls; this cannot be. `own` are the names of
/// its servers.
fn mirror(cluster: &Node<'_>, own: &[&str], field: &str, found: &mut Findings) {
    for options in http_options(cluster) {
        let policies = options.items("request_mirror_policies");
        if policies.is_empty() {
            continue;
        }
        let place = options.at("request_mirror_policies");
        if policies.iter().any(|policy| policy.text("cluster").is_some_and(|to| own.contains(&to))) {
            let reason = "sends every callback twice to the same server: no call can switch it off";
            found.problem(place, format!("{reason}, and {field} would decide more than once"));
        } else {
            let reason = format!("copies every plaintext callback of {field}: no call can switch it off");
            found.warning(place, reason);
        }
    }
}

/// Filters between the filter's call and the server. One that makes an empty 200 of a failure approves binds.
fn filters(cluster: &Node<'_>, field: &str, found: &mut Findings) {
    let filters = http_options(cluster).into_iter().flat_map(|options| options.items("http_filters"));
    let others = filters.filter(|filter| filter.get("typed_config").is_none_or(|any| any.message(CODEC).is_none()));
    for other in others {
        let reason = format!("can change the answers of {field}: an empty 200 that it makes of a failure is approval");
        found.warning(other.place, reason);
    }
}
