//! Whether a route catches a path.

use regex::Regex;
use serde_json::json;

use crate::check::node::Node;

/// Which of the requests for a path a route catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Catches {
    None,
    All,
    /// Those that have further properties: a header, a query parameter.
    Some,
    /// It cannot be told from here.
    Unknown,
}

/// What a RouteMatch can ask for besides the path.
const FURTHER: [&str; 8] = [
    "headers",
    "query_parameters",
    "cookies",
    "grpc",
    "runtime_fraction",
    "tls_context",
    "dynamic_metadata",
    "filter_state",
];

/// What the `match` of a route says about a path without query.
pub(crate) fn catches(route_match: &Node<'_>, path: &str) -> Catches {
    match by_path(route_match, path) {
        Some(false) => Catches::None,
        None => Catches::Unknown,
        Some(true) => {
            let asks = |field: &&str| route_match.get(field).is_some_and(|node| node.value != &json!([]));
            if FURTHER.iter().any(asks) { Catches::Some } else { Catches::All }
        }
    }
}

fn by_path(route_match: &Node<'_>, path: &str) -> Option<bool> {
    let ignores_case = route_match.get("case_sensitive").is_some_and(|node| node.value == &json!(false));
    let same_case = |text: &str| if ignores_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let of = |field: &str| route_match.text(field).map(same_case);
    let lower = same_case(path);
    if let Some(prefix) = of("prefix") {
        return Some(lower.starts_with(&prefix));
    }
    if let Some(whole) = of("path") {
        return Some(lower == whole);
    }
    if let Some(prefix) = of("path_separated_prefix") {
        return Some(lower.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    }
    if route_match.get("connect_matcher").is_some() {
        return Some(false); // fits CONNECT only
    }
    is_whole_match(route_match.text("safe_regex.regex")?, path)
}

/// Whether a regular expression, in Envoy's syntax, matches all of a text. `None` if it cannot be read.
pub(crate) fn is_whole_match(regex: &str, text: &str) -> Option<bool> {
    // RE2's syntax is all but the same.
    Regex::new(&format!("^(?:{regex})$")).ok().map(|regex| regex.is_match(text))
}
