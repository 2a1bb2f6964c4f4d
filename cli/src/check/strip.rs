//! The headers that only the filter may send.
//!
//! A backend believes `x-wecom-event` and its like, since the filter sends them. So a route of the same
//! Envoy that leads to such a backend must take them off what strangers send.

use crate::check::finding::Findings;
use crate::check::manager::{chain_to_router, is_on};
use crate::check::node::Node;
use crate::check::plugin::Endpoint;
use crate::check::route_match::is_whole_match;
use crate::check::routes;
use crate::check::survey::{Manager, Survey};

/// CGI and WSGI read `x_wecom_event` as the same header.
const HEADERS: [&str; 3] = ["x-wecom-event", "x-wecom-req-id", "x-wecom-receive-id"];

const MUTATION: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
const MUTATION_PER_ROUTE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";

/// Checks all routes of an Envoy, given as one document.
pub(crate) fn check(envoy: &Node<'_>, survey: &Survey<'_>, endpoints: &[Endpoint], found: &mut Findings) {
    let called: Vec<_> = endpoints.iter().flat_map(|endpoint| &endpoint.clusters).collect();
    for manager in survey.managers.iter().filter(|manager| std::ptr::eq(manager.root.value, envoy.value)) {
        let Some(routes) = routes::of(manager, survey) else { continue };
        for host in routes.items("virtual_hosts") {
            for route in host.items("routes") {
                for (cluster, target) in routes::targets([&route, &host, &routes]) {
                    let reached = called.iter().find(|(_, name)| cluster.is_none_or(|cluster| cluster == name));
                    if let Some((field, _)) = reached
                        && !is_stripped(manager, [&target, &route, &host, &routes])
                    {
                        let may = if cluster.is_some() { "leads" } else { "can lead" };
                        let reason = format!(
                            "{may} to {field} and leaves x-wecom-* headers on: a stranger can speak in the filter's name"
                        );
                        found.warning(target.place, reason);
                    }
                }
            }
        }
    }
}

/// Whether every one of the headers is taken off on the way.
fn is_stripped(manager: &Manager<'_>, [target, route, host, routes]: [&Node<'_>; 4]) -> bool {
    let mut removals = Vec::new();
    for around in [target, route, host, routes] {
        removals.extend(around.items("request_headers_to_remove"));
    }
    let mut mutations = Vec::new();
    for filter in chain_to_router(manager).iter().filter(|filter| is_on(filter, [route, host, routes])) {
        let Some(config) = filter.get("typed_config").and_then(|any| any.message(MUTATION)) else { continue };
        mutations.extend(config.items("mutations.request_mutations"));
        for around in [route, host, routes] {
            let mut entries = around.entries("typed_per_filter_config").into_iter();
            let own = entries.find(|(name, _)| Some(*name) == filter.text("name"));
            let own = own.and_then(|(_, any)| any.message(MUTATION_PER_ROUTE));
            mutations.extend(own.map(|own| own.items("mutations.request_mutations")).unwrap_or_default());
        }
    }
    let drops_underscores = matches!(
        manager.node.text("common_http_protocol_options.headers_with_underscores_action"),
        Some("DROP_HEADER" | "REJECT_REQUEST")
    );
    let underscored = HEADERS.iter().filter(|_| !drops_underscores).map(|header| header.replace('-', "_"));
    HEADERS.iter().map(|header| (*header).to_owned()).chain(underscored).all(|header| {
        let header = header.as_str();
        removals.iter().any(|name| is_name(name.value.as_str(), header))
            || mutations.iter().any(|mutation| {
                is_name(mutation.text("remove"), header)
                    || mutation.get("remove_on_match.key_matcher").is_some_and(|matcher| fits(&matcher, header))
            })
    })
}

fn is_name(name: Option<&str>, header: &str) -> bool {
    name.is_some_and(|name| name.eq_ignore_ascii_case(header))
}

/// Whether Envoy's StringMatcher takes a header's name.
fn fits(matcher: &Node<'_>, header: &str) -> bool {
    let ignores_case = matcher.is_true("ignore_case");
    let of = |kind: &str| {
        matcher.text(kind).map(|text| if ignores_case { text.to_ascii_lowercase() } else { text.to_owned() })
    };
    of("prefix").is_some_and(|prefix| header.starts_with(&prefix))
        || of("exact").is_some_and(|exact| header == exact)
        || of("suffix").is_some_and(|suffix| header.ends_with(&suffix))
        || of("contains").is_some_and(|part| header.contains(&part))
        || matcher.text("safe_regex.regex").and_then(|regex| is_whole_match(regex, header)) == Some(true)
}
