//! Other spellings of a callback's path. The filter compares a path as it comes to it, and a backend may
//! take `/suite/./receive` for `/suite/receive`, or `/suite;x/receive`. So Envoy must resolve or refuse such a
//! spelling, if any route would take it to a cluster: past the filter.

use crate::check::finding::Findings;
use crate::check::node::Node;
use crate::check::plugin::Endpoint;
use crate::check::route_match::Catches;
use crate::check::routes;
use crate::check::survey::{Manager, Survey};

/// A setting of the connection manager that leaves only one spelling.
struct Setting {
    field: &'static str,
    right: &'static [&'static str],
    /// What the spellings have in them.
    sign: &'static str,
    /// The spellings of a path. The second argument is where routes begin: `/api/../suite/receive` is a
    /// spelling too.
    spellings: fn(&str, &[String]) -> Vec<String>,
}

const SETTINGS: [Setting; 3] = [
    Setting { field: "normalize_path", right: &["true"], sign: "/./ or /../", spellings: with_dots },
    Setting { field: "merge_slashes", right: &["true"], sign: "//", spellings: with_slashes },
    Setting {
        field: "path_with_escaped_slashes_action",
        right: &["REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"],
        sign: "%2F",
        spellings: with_escapes,
    },
];

/// Checks the settings of a manager, and its routes for parameters, against all of its routes.
pub(crate) fn check(manager: &Manager<'_>, survey: &Survey<'_>, endpoints: &[Endpoint], found: &mut Findings) {
    if let Some(routes) = routes::of(manager, survey) {
        check_parameters(&routes, endpoints, found);
        check_rewrites(&routes, endpoints, found);
    }
    for setting in SETTINGS.iter().filter(|setting| !setting.is_right(&manager.node)) {
        let Setting { field, right, sign, .. } = setting;
        let must = format!("must be {}", right.first().unwrap_or(&""));
        let (place, past) = (manager.node.at(field), format!("a callback's path written with {sign} past the filter"));
        let Some(routes) = routes::of(manager, survey) else {
            found.warning(place, format!("{must}, if any route takes {past}, to a cluster"));
            continue;
        };
        let ways = setting.ways(&routes, endpoints);
        let surely = ways.iter().find(|(_, catches)| *catches != Catches::Unknown);
        if let Some((route, _)) = surely {
            let route = from_manager(route, manager);
            found.problem(place, format!("{must}: {route} takes {past}, to a cluster"));
        } else if let Some((route, _)) = ways.first() {
            let route = from_manager(route, manager);
            found.warning(place, format!("{must}, if {route} takes {past}: its match was not understood"));
        } else if !routes::unreadable(&routes).is_empty() {
            found.warning(place, format!("{must}, if any route takes {past}, to a cluster"));
        }
    }
}

/// Nothing in Envoy takes the parameters off a path, so a route must end such a request. Where a simpler spelling
/// goes on as well, that is all there is to say.
fn check_parameters(routes: &Node<'_>, endpoints: &[Endpoint], found: &mut Findings) {
    for host in routes.items("virtual_hosts") {
        let to_clusters = |path: &str| {
            let ways = routes::ways(&host, path).into_iter();
            ways.filter(|(route, _)| route.get("route").is_some()).collect::<Vec<_>>()
        };
        let is_plain = |endpoint: &&Endpoint| {
            let mut simpler = routes::variants(&endpoint.path);
            simpler.push(endpoint.path.clone());
            simpler.iter().all(|path| to_clusters(path).is_empty())
        };
        let spellings = endpoints.iter().filter(is_plain).flat_map(|endpoint| with_parameters(&endpoint.path));
        let mut ways: Vec<_> = spellings.flat_map(|spelling| to_clusters(&spelling)).collect();
        ways.sort_by_key(|(_, catches)| *catches == Catches::Unknown);
        let Some((route, catches)) = ways.first() else { continue };
        let takes = "a callback's path written with `;`, which servlet containers drop, past the filter";
        let before = "put a direct_response with status 400 and a body before it, for the safe_regex '.*;.*'";
        if *catches == Catches::Unknown {
            let reason = format!("may take {takes}: its match was not understood; {before}");
            found.warning(route.place.clone(), reason);
        } else {
            found.problem(route.place.clone(), format!("takes {takes}, to a cluster: {before}"));
        }
    }
}

/// A route can make a callback's path of another one. A warning: it says nothing of whether anybody at that cluster takes
/// callbacks.
fn check_rewrites(routes: &Node<'_>, endpoints: &[Endpoint], found: &mut Findings) {
    for host in routes.items("virtual_hosts") {
        for route in host.items("routes") {
            let is_taken = |before: &String| {
                let ways = routes::ways(&host, before);
                ways.iter().any(|(way, catches)| way.place == route.place && *catches != Catches::Unknown)
            };
            let makes =
                |endpoint: &&Endpoint| before_rewrite(&route, &endpoint.path).is_some_and(|path| is_taken(&path));
            if let Some(endpoint) = endpoints.iter().find(makes) {
                let reason = format!(
                    "makes the path of {} of another one, which passes by the filter, and takes it to a cluster: answer that \
                     other one by a direct_response with status 400 and a body in a route before",
                    endpoint.field
                );
                found.warning(route.at("route.prefix_rewrite"), reason);
            }
        }
    }
}

/// The path of which a route's `prefix_rewrite` makes this one.
fn before_rewrite(route: &Node<'_>, path: &str) -> Option<String> {
    let rest = path.strip_prefix(route.text("route.prefix_rewrite").filter(|rewrite| !rewrite.is_empty())?)?;
    let whole = || route.text("match.path").filter(|_| rest.is_empty());
    let prefix = route.text("match.prefix").or_else(|| route.text("match.path_separated_prefix")).or_else(whole)?;
    Some(format!("{prefix}{rest}")).filter(|before| before != path)
}

impl Setting {
    fn is_right(&self, manager: &Node<'_>) -> bool {
        let value = manager.get(self.field);
        value.is_some_and(|node| {
            let value = node.value.as_str().map_or_else(|| node.value.to_string(), str::to_owned);
            self.right.contains(&value.as_str())
        })
    }

    /// The routes that take a spelling on to a cluster, or may do so.
    fn ways<'a>(&self, routes: &Node<'a>, endpoints: &[Endpoint]) -> Vec<(Node<'a>, Catches)> {
        let mut ways = Vec::new();
        for host in routes.items("virtual_hosts") {
            let beginnings: Vec<_> = host.items("routes").iter().filter_map(beginning).collect();
            for endpoint in endpoints {
                for spelling in (self.spellings)(&endpoint.path, &beginnings) {
                    ways.extend(routes::ways(&host, &spelling));
                }
            }
            let unknown = host.items("routes").into_iter().filter(has_open_regex);
            ways.extend(unknown.map(|route| (route, Catches::Unknown)));
        }
        ways.retain(|(route, _)| route.get("route").is_some());
        ways
    }
}

/// The route's path from the manager on, which is in front of it anyway.
fn from_manager(route: &Node<'_>, manager: &Manager<'_>) -> String {
    let (path, manager) = (&route.place.path, &manager.node.place);
    let rest = path.strip_prefix(&manager.path).filter(|_| route.place.file == manager.file);
    rest.unwrap_or(path).trim_start_matches('.').to_owned()
}

const SIGNS_OF_REGEXES: [char; 14] = ['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

/// With what the paths of a route begin, as far as its match says so.
fn beginning(route: &Node<'_>) -> Option<String> {
    let text = |field: &str| route.text(&format!("match.{field}"));
    let prefix = text("prefix").or_else(|| text("path_separated_prefix"));
    let beginning = prefix.or_else(|| text("safe_regex.regex")?.split(SIGNS_OF_REGEXES).next());
    let beginning = beginning?.trim_end_matches('/');
    (!beginning.is_empty()).then(|| beginning.to_owned())
}

/// Whether a route's regular expression may take a spelling other than those that are tried.
fn has_open_regex(route: &Node<'_>) -> bool {
    route.text("match.safe_regex.regex").is_some_and(|regex| regex.contains(SIGNS_OF_REGEXES))
}

fn with_dots(path: &str, beginnings: &[String]) -> Vec<String> {
    let mut spellings: Vec<_> = slashes(path).map(|(before, after)| format!("{before}/./{after}")).collect();
    spellings.push(format!("{path}/."));
    let back = |beginning: &String| format!("{beginning}{}{path}", "/..".repeat(depth(beginning)));
    spellings.extend(beginnings.iter().map(back));
    spellings.push(format!("/_/..{path}"));
    spellings
}

fn with_slashes(path: &str, _: &[String]) -> Vec<String> {
    slashes(path).map(|(before, after)| format!("{before}//{after}")).collect()
}

fn with_escapes(path: &str, beginnings: &[String]) -> Vec<String> {
    let escaped = |(before, after): (&str, &str)| {
        // A path begins with a slash.
        let slash = if before.is_empty() { "/%2F" } else { "%2F" };
        format!("{before}{slash}{after}")
    };
    let mut spellings: Vec<_> = slashes(path).map(escaped).collect();
    let rest = path.trim_start_matches('/');
    let back = |beginning: &String| format!("{beginning}/{}{rest}", "..%2F".repeat(depth(beginning)));
    spellings.extend(beginnings.iter().map(back));
    spellings
}

/// A path with parameters, which a servlet container drops, in each of the places where it takes them.
pub(crate) fn with_parameters(path: &str) -> Vec<String> {
    slashes(path)
        .map(|(before, after)| if before.is_empty() { format!("/;x/{after}") } else { format!("{before};x/{after}") })
        .collect()
}

/// What is before and after each slash of a path.
fn slashes(path: &str) -> impl Iterator<Item = (&str, &str)> {
    path.match_indices('/').filter_map(|(at, _)| Some((path.get(..at)?, path.get(at.saturating_add(1)..)?)))
}

/// How many folders deep a path is.
fn depth(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}
