//! Who else reaches the decision endpoint.
//!
//! The filter's calls pass by no listener. So a route or a TCP proxy that leads there is for strangers: past the
//! filter, they ask as it does, and spend an `auth_code` or bind a device.

use crate::check::clusters::same_servers;
use crate::check::finding::Findings;
use crate::check::node::{Node, Place};
use crate::check::plugin::{Decision, Endpoint};
use crate::check::route_match::Catches;
use crate::check::routes;
use crate::check::spelling;
use crate::check::survey::Survey;

/// What makes another path of the one that a route has caught.
const REWRITES: [&str; 4] = ["prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite"];

/// Checks all routes of an Envoy, given as one document; `plugin` is where the endpoints stand.
pub(crate) fn check(
    envoy: &Node<'_>,
    survey: &Survey<'_>,
    endpoints: &[Endpoint],
    plugin: &Place,
    found: &mut Findings,
) {
    // Endpoints that share a decision endpoint share its routes.
    let mut told: Vec<Place> = Vec::new();
    for endpoint in endpoints {
        let Some(decision) = &endpoint.decision else { continue };
        let field = &endpoint.field;
        let routes = reaching(envoy, survey, decision).into_iter().map(|(place, may)| {
            let reason = format!(
                "{may} strangers to the path of {field}.decision, past the filter: answer that path by a \
                 direct_response in a route before, with a prefix and case_sensitive: false, or have another server \
                 decide"
            );
            (place, reason)
        });
        let connections = unread(envoy, survey, decision).into_iter().map(|place| {
            let reason = format!(
                "leads strangers to the server of {field}.decision, past the filter and all routes: take it out, or \
                 have another server decide"
            );
            (place, reason)
        });
        let ways: Vec<_> = routes.chain(connections).collect();
        let is_reached = !ways.is_empty();
        for (place, reason) in ways {
            if !told.contains(&place) {
                found.warning(place.clone(), reason);
                told.push(place);
            }
        }
        if is_reached && !decision.has_headers {
            let reason = "is not set, and something else leads to the same server: the backend cannot tell the filter's calls \
                          from a stranger's";
            found.warning(plugin.below(&format!("{field}.decision.headers")), reason);
        }
    }
}

/// The places of the routes by which a request from outside reaches it, each once, and whether it surely does.
fn reaching(envoy: &Node<'_>, survey: &Survey<'_>, decision: &Decision) -> Vec<(Place, &'static str)> {
    let same = same_servers(envoy, &decision.cluster);
    let mut reaching: Vec<(Place, &'static str)> = Vec::new();
    for manager in survey.managers.iter().filter(|manager| std::ptr::eq(manager.root.value, envoy.value)) {
        let Some(routes) = routes::of(manager, survey) else { continue };
        for host in routes.items("virtual_hosts") {
            for (route, catches) in candidates(&host, &decision.path) {
                for (cluster, target) in routes::targets([&route, &host, &routes]) {
                    let is_there = cluster.is_none_or(|cluster| same.contains(&cluster));
                    if is_there && reaching.iter().all(|(place, _)| *place != target.place) {
                        let surely = cluster.is_some() && catches != Catches::Unknown;
                        reaching.push((target.place, if surely { "leads" } else { "can lead" }));
                    }
                }
            }
        }
    }
    reaching
}

/// The places of the TCP proxies that pass connections from outside on to it, whatever is in them.
fn unread(envoy: &Node<'_>, survey: &Survey<'_>, decision: &Decision) -> Vec<Place> {
    let same = same_servers(envoy, &decision.cluster);
    let proxies = survey.tcp_proxies.iter().filter(|(_, root)| std::ptr::eq(root.value, envoy.value));
    let clusters = proxies.flat_map(|(proxy, _)| {
        let weighted = proxy.items("weighted_clusters.clusters").into_iter().filter_map(|one| one.get("name"));
        proxy.get("cluster").into_iter().chain(weighted)
    });
    let leads = |cluster: &Node<'_>| cluster.value.as_str().is_some_and(|name| same.contains(&name));
    clusters.filter(leads).map(|cluster| cluster.place).collect()
}

/// The routes of a virtual host that a request for that path can take, or for one that a careless backend takes
/// for it, or that becomes it on the way.
fn candidates<'a>(host: &Node<'a>, path: &str) -> Vec<(Node<'a>, Catches)> {
    let mut candidates = routes::ways(host, path);
    let spellings = routes::variants(path).into_iter().chain(spelling::with_parameters(path));
    candidates.extend(spellings.flat_map(|path| routes::ways(host, &path)));
    let rewrites = |route: &Node<'_>| REWRITES.iter().any(|field| route.get(&format!("route.{field}")).is_some());
    let rewriting = host.items("routes").into_iter().filter(rewrites);
    candidates.extend(rewriting.map(|route| (route, Catches::Unknown)));
    candidates
}
