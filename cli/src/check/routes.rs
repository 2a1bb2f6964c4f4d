//! The callback's route. The filter answers every request for its paths; what gets past it, since it is
//! missing, broken, or compares more strictly than a backend, must end here and reach nobody.

use std::collections::BTreeSet;

use crate::check::finding::Findings;
use crate::check::manager::{FILTER_CONFIG, is_on};
use crate::check::node::Node;
use crate::check::plugin::Endpoint;
use crate::check::route_match::{Catches, catches};
use crate::check::survey::{Manager, Survey};

/// The routes of a manager: its own, or those that RDS gives it, if they are in one of the files.
pub(crate) fn of<'a>(manager: &Manager<'a>, survey: &Survey<'a>) -> Option<Node<'a>> {
    manager.node.get("route_config").or_else(|| {
        let name = manager.node.text("rds.route_config_name")?;
        survey.routes.iter().find(|routes| routes.text("name") == Some(name)).cloned()
    })
}

/// Checks the routes of every endpoint's path, in every virtual host.
pub(crate) fn check(
    manager: &Manager<'_>,
    filter: &Node<'_>,
    survey: &Survey<'_>,
    endpoints: &[Endpoint],
    found: &mut Findings,
) {
    let Some(routes) = of(manager, survey) else {
        let reason = "the routes are in none of the files: the callback's route was not checked";
        let field = ["rds", "scoped_routes"].into_iter().find(|field| manager.node.get(field).is_some());
        found.warning(manager.node.at(field.unwrap_or("route_config")), reason);
        return;
    };
    switches(&routes, found);
    for elsewhere in unreadable(&routes) {
        found.warning(elsewhere.place, "the routes are chosen in a way that was not checked");
    }
    let hosts = routes.items("virtual_hosts");
    for endpoint in endpoints {
        let field = &endpoint.field;
        let (mut has_route, mut is_reached) = (false, false);
        for host in &hosts {
            let Some(route) = check_host(host, endpoint, found) else { continue };
            has_route = true;
            is_reached |= is_on(filter, [&route, host, &routes]);
        }
        if !has_route && unreadable(&routes).is_empty() {
            let reason = format!(
                "no virtual host has a route for the path of {field}: it takes one with match: {{ prefix: the path, \
                 case_sensitive: false }} and direct_response: {{ status: 503 }}"
            );
            found.problem(routes.at("virtual_hosts"), reason);
        } else if has_route && !is_reached {
            let reason = format!(
                "is disabled where the path of {field} is routed: switch it on in the callback's route, by a \
                 FilterConfig in typed_per_filter_config"
            );
            found.problem(filter.place.clone(), reason);
        }
    }
}

/// Whether a filter of the chain is switched off wherever the endpoints' paths are routed.
pub(crate) fn is_off(other: &Node<'_>, manager: &Manager<'_>, survey: &Survey<'_>, endpoints: &[Endpoint]) -> bool {
    let Some(routes) = of(manager, survey).filter(|routes| unreadable(routes).is_empty()) else { return false };
    let mut has_route = false;
    for host in routes.items("virtual_hosts") {
        for (route, _) in endpoints.iter().flat_map(|endpoint| ways(&host, &endpoint.path)) {
            if is_on(other, [&route, &host, &routes]) {
                return false;
            }
            has_route = true;
        }
    }
    has_route
}

/// What switches filters on and off, wherever in the routes: Envoy takes none that says neither.
fn switches(routes: &Node<'_>, found: &mut Findings) {
    let hosts = routes.items("virtual_hosts");
    let all_routes: Vec<_> = hosts.iter().flat_map(|host| host.items("routes")).collect();
    let weighted: Vec<_> =
        all_routes.iter().flat_map(|route| route.items("route.weighted_clusters.clusters")).collect();
    for around in std::iter::once(routes).chain(&hosts).chain(&all_routes).chain(&weighted) {
        for (_, entry) in around.entries("typed_per_filter_config") {
            if entry
                .message(FILTER_CONFIG)
                .is_some_and(|config| !config.is_true("disabled") && config.get("config").is_none())
            {
                let reason = "must have config: {}, empty as it is, or disabled: true: with neither, disabled: false \
                              included, Envoy does not start (\"Empty route/virtual host per filter configuration\")";
                found.problem(entry.place, reason);
            }
        }
    }
}

/// Where routes come from that are not in the list.
pub(crate) fn unreadable<'a>(routes: &Node<'a>) -> Vec<Node<'a>> {
    let hosts = routes.items("virtual_hosts").into_iter();
    routes.get("vhds").into_iter().chain(hosts.filter_map(|host| host.get("matcher"))).collect()
}

/// Checks one virtual host, and gives its route that catches all requests for the path.
fn check_host<'a>(host: &Node<'a>, endpoint: &Endpoint, found: &mut Findings) -> Option<Node<'a>> {
    let field = &endpoint.field;
    let ways = ways(host, &endpoint.path);
    for (route, catches) in ways.iter().filter(|(route, _)| !ends(route)) {
        match catches {
            Catches::Unknown => {
                let reason = format!("may catch the path of {field} and send it on: its match was not understood");
                found.warning(route.place.clone(), reason);
            }
            _ => tell_open_end(route, field, found),
        }
    }
    if ways.iter().all(|(route, _)| ends(route)) {
        for (route, _) in ways.iter().filter(|(route, _)| has_no_body(route)) {
            let reason = "should not be empty: status and body together say that the filter is missing";
            found.warning(route.at("direct_response.body"), reason);
        }
        // A path that the filter takes for another one, and a backend perhaps for the same.
        let others: BTreeSet<_> = variants(&endpoint.path).into_iter().collect();
        let open = others.iter().flat_map(|path| self::ways(host, path));
        let goes_on = |route: &Node<'_>| !ends(route) && route.get("redirect").is_none();
        for (route, _) in open.filter(|(route, catches)| *catches != Catches::Unknown && goes_on(route)) {
            let reason = format!(
                "catches the path of {field} written in capitals or with a slash at its end, which pass by the \
                 filter: give the callback's route a prefix, and case_sensitive: false"
            );
            found.problem(route.place.clone(), reason);
        }
    }
    ways.into_iter().find(|(_, catches)| *catches == Catches::All).map(|(route, _)| route)
}

/// The routes that a request for a path can take, up to the first that it can't get past.
pub(crate) fn ways<'a>(host: &Node<'a>, path: &str) -> Vec<(Node<'a>, Catches)> {
    let mut ways = Vec::new();
    for route in host.items("routes") {
        let catches = route.get("match").map_or(Catches::Unknown, |route_match| catches(&route_match, path));
        if catches != Catches::None {
            ways.push((route, catches));
        }
        if catches == Catches::All {
            break;
        }
    }
    ways
}

/// Where a route sends requests: the cluster, unless the request itself or code names it, and what says so.
pub(crate) fn targets<'a>(around: [&Node<'a>; 3]) -> Vec<(Option<&'a str>, Node<'a>)> {
    let [route, host, routes] = around;
    let Some(action) = route.get("route") else { return Vec::new() };
    let mut targets = action.items("weighted_clusters.clusters");
    for mirroring in [&action, host, routes] {
        targets.extend(mirroring.items("request_mirror_policies"));
    }
    let mut targets: Vec<_> = targets.into_iter().filter_map(|target| Some((cluster(&target)?, target))).collect();
    // Whatever else it says, as `cluster_specifier_plugin`, is code that names the cluster.
    if action.get("weighted_clusters").is_none() {
        targets.push((cluster(&action).flatten(), route.clone()));
    }
    targets
}

/// `Some(None)`: a cluster that the request names.
fn cluster<'a>(target: &Node<'a>) -> Option<Option<&'a str>> {
    let name = target.text("cluster").or_else(|| target.text("name"));
    name.map(Some).or_else(|| target.get("cluster_header").map(|_| None))
}

/// The same path as a careless backend may read it.
pub(crate) fn variants(path: &str) -> Vec<String> {
    let slash = match path.strip_suffix('/') {
        None => format!("{path}/"),
        Some("") => path.to_owned(),
        Some(without) => without.to_owned(),
    };
    vec![path.to_ascii_uppercase(), path.to_ascii_lowercase(), slash]
}

/// Whether a route ends what it catches with an error of its own.
fn ends(route: &Node<'_>) -> bool {
    route.number("direct_response.status").is_some_and(|status| status >= 400)
}

fn has_no_body(route: &Node<'_>) -> bool {
    let body = |kind: &str| route.text(&format!("direct_response.body.{kind}"));
    let Some(data) = route.get("direct_response.body") else { return true };
    data.value.as_object().is_none_or(serde_json::Map::is_empty)
        || body("inline_string").or(body("inline_bytes")).is_some_and(str::is_empty)
}

fn tell_open_end(route: &Node<'_>, field: &str, found: &mut Findings) {
    if route.get("direct_response").is_none() {
        let reason = format!(
            "catches the path of {field} and is no direct_response: what gets past the filter would go on from here"
        );
        found.problem(route.place.clone(), reason);
        return;
    }
    let worst = match route.number("direct_response.status") {
        Some(200..300) if has_no_body(route) => ": to WeCom this answer means \"bound\"",
        Some(200..300) => ": to WeCom a 200 can mean \"bound\"",
        _ => "",
    };
    let reason = format!("must be 503, for the path of {field}{worst}");
    found.problem(route.at("direct_response.status"), reason);
}
