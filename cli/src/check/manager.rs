//! The connection manager that the filter stands in: what it must do before and beside the filter.

use std::net::IpAddr;
use std::time::Duration;

use crate::check::finding::Findings;
use crate::check::node::Node;
use crate::check::survey::Manager;

/// What switches a filter on or off for a route.
pub(crate) const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// WeCom waits that long for an answer (document 95987).
const WECOM_WAITS: Duration = Duration::from_secs(3);

/// Envoy's default of `per_connection_buffer_limit_bytes`.
const BUFFER_LIMIT_DEFAULT: u64 = 1024 * 1024;

/// Checks everything but the routes. `is_off` tells which other filters of the chain no callback comes to.
pub(crate) fn check(
    manager: &Manager<'_>,
    filter: &Node<'_>,
    is_off: impl Fn(&Node<'_>) -> bool,
    found: &mut Findings,
) {
    in_clear(manager, found);
    before_the_router(manager, filter, found);
    last_resort(&manager.node, found);
    idle_streams(&manager.node, found);
    local_replies(&manager.node, found);
    rewriters(manager, filter, is_off, found);
}

/// What Envoy buffers must hold the largest body that the filter takes.
pub(crate) fn check_buffers(manager: &Manager<'_>, max_body_bytes: u64, found: &mut Findings) {
    const OF_LISTENER: &str = "per_connection_buffer_limit_bytes";
    const OF_STREAM: &str = "http2_protocol_options.initial_stream_window_size";
    let of_listener = manager
        .listener
        .as_ref()
        .map(|listener| (listener.at(OF_LISTENER), listener.number(OF_LISTENER).unwrap_or(BUFFER_LIMIT_DEFAULT)));
    let of_stream = manager.node.number(OF_STREAM).map(|limit| (manager.node.at(OF_STREAM), limit));
    for (place, _) in of_listener.into_iter().chain(of_stream).filter(|(_, limit)| *limit < max_body_bytes) {
        found.problem(place, "is less than the filter's max_body_bytes: Envoy itself would answer 413 before it");
    }
}

/// Whether a filter that `http_filters` has is on where a route, its virtual host and its routes as a
/// whole say what they say, the narrowest first.
pub(crate) fn is_on(filter: &Node<'_>, around: [&Node<'_>; 3]) -> bool {
    let of = |node: &Node<'_>| {
        let mut entries = node.entries("typed_per_filter_config").into_iter();
        let (_, entry) = entries.find(|(name, _)| Some(*name) == filter.text("name"))?;
        entry.message(FILTER_CONFIG).map(|config| !config.is_true("disabled"))
    };
    around.into_iter().find_map(of).unwrap_or(!filter.is_true("disabled"))
}

/// The filters that a request passes before it is routed to a cluster.
pub(crate) fn chain_to_router<'a>(manager: &Manager<'a>) -> Vec<Node<'a>> {
    manager.chain().into_iter().take_while(|filter| !holds(filter, ROUTER)).collect()
}

/// Whether a filter is of that type, or runs one of it: an `ExtensionWithMatcher` has it in `extension_config`,
/// a `Composite` in an action of the matcher around it.
fn holds(filter: &Node<'_>, type_name: &str) -> bool {
    filter.message(type_name).is_some() || filter.children().iter().any(|below| holds(below, type_name))
}

/// The protocol does not bind a reply to its request: who can alter the traffic could answer a bind with
/// the approval of another one.
fn in_clear(manager: &Manager<'_>, found: &mut Findings) {
    const SOCKET: &str = "transport_socket";
    const CLEAR: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let (Some(listener), Some(filter_chain)) = (&manager.listener, &manager.filter_chain) else { return };
    let Some(address) = listener.text("address.socket_address.address") else { return };
    let is_local = address.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let is_clear = filter_chain
        .get(SOCKET)
        .is_none_or(|socket| socket.get("typed_config").is_some_and(|config| config.message(CLEAR).is_some()));
    if is_clear && !is_local {
        let reason = "takes callbacks in clear from other machines: set it to TLS, or the listener's address to that of \
                      the loopback if a proxy on this machine ends TLS";
        found.warning(filter_chain.at(SOCKET), reason);
    }
}

fn before_the_router(manager: &Manager<'_>, filter: &Node<'_>, found: &mut Findings) {
    if chain_to_router(manager).iter().all(|before| before.place != filter.place) {
        found.problem(filter.place.clone(), "must stand before the router: no request gets past that");
    }
}

/// The only answer for a request whose VM died while it waited.
fn last_resort(manager: &Node<'_>, found: &mut Findings) {
    const FIELD: &str = "common_http_protocol_options.max_stream_duration";
    let place = manager.at(FIELD);
    match manager.duration(FIELD) {
        None if manager.get(FIELD).is_some() => found.problem(place, "must be a duration, as 4s"),
        None | Some(Duration::ZERO) => {
            found.problem(place, "must be set, to 4s: it is the only answer for a callback whose VM died");
        }
        Some(duration) if duration < WECOM_WAITS => {
            found.problem(place, "must be at least 3s, as long as WeCom waits: before that the filter answers");
        }
        Some(_) => {}
    }
}

/// It ends a request that waits for its answer, too.
fn idle_streams(manager: &Node<'_>, found: &mut Findings) {
    const FIELD: &str = "stream_idle_timeout";
    if manager.duration(FIELD).is_some_and(|timeout| !timeout.is_zero() && timeout < WECOM_WAITS) {
        let reason = "must be at least 3s, as long as WeCom waits: it ends callbacks that wait for their answer";
        found.problem(manager.at(FIELD), reason);
    }
}

/// Other filters of the chain that get the filter's answers, and may make something else of them, or that come before it and
/// answer in its place.
fn rewriters(manager: &Manager<'_>, filter: &Node<'_>, is_off: impl Fn(&Node<'_>) -> bool, found: &mut Findings) {
    let mut is_before = true;
    for other in manager.chain() {
        if other.place == filter.place {
            is_before = false;
            continue;
        }
        let is = |name: &str| holds(&other, name);
        if is("envoy.extensions.filters.http.custom_response.v3.CustomResponse") {
            let reason = "must not be in the filter's chain: it replaces the filter's answers, and to WeCom an empty 200, or \
                          `success`, means \"bound\"";
            found.problem(other.place.clone(), reason);
        } else if is_off(&other) {
            continue;
        } else if REWRITERS.into_iter().any(is) {
            let reason = "can rewrite the filter's answers, or give its own in their place; to WeCom an empty 200, or \
                          `success`, means \"bound\": switch it off for the callback's route";
            found.warning(other.place.clone(), reason);
        } else if is_before && ANSWERERS.into_iter().any(is) {
            let reason = "can answer a callback before the filter does, also by an empty 2xx; to WeCom an empty 200 means \
                          \"bound\": put it behind the filter, or switch it off for the callback's route";
            found.warning(other.place.clone(), reason);
        } else if is_before && BUFFERS.into_iter().any(is) {
            let reason = "keeps a callback until its body is whole, and the filter counts its 2.85 s from then: with a slow body, \
                          WeCom has given up by the time of its answer; put it behind the filter, or switch it off for the \
                          callback's route";
            found.warning(other.place.clone(), reason);
        }
    }
}

/// What can be told to answer a callback, or to rewrite its answer.
const REWRITERS: [&str; 7] = [
    "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
    "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
    "envoy.extensions.filters.http.golang.v3alpha.Config",
    "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    "envoy.extensions.filters.http.lua.v3.Lua",
    "envoy.extensions.filters.http.transform.v3.TransformConfig",
    "envoy.extensions.filters.http.wasm.v3.Wasm",
];

/// What can be told to answer a request with a 2xx of its own, and leaves the answers of others alone.
const ANSWERERS: [&str; 5] = [
    // Whatever its service refuses with, and `status_on_error` where that says nothing.
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    "envoy.extensions.filters.http.fault.v3.HTTPFault",
    "envoy.extensions.filters.http.file_server.v3.FileServerConfig",
    "envoy.extensions.filters.http.mcp_router.v3.McpRouter",
    "envoy.extensions.filters.http.rate_limit_quota.v3.RateLimitQuotaFilterConfig",
];

/// What keeps a request until its body is whole.
const BUFFERS: [&str; 2] = [
    "envoy.extensions.filters.http.buffer.v3.Buffer",
    "envoy.extensions.filters.http.file_system_buffer.v3.FileSystemBufferFilterConfig",
];

/// Whether a mapper applies to status 400 and above alone.
fn is_for_errors_alone(mapper: &Node<'_>) -> bool {
    let at = "filter.status_code_filter.comparison";
    let least = mapper.number(&format!("{at}.value.default_value")).unwrap_or(0);
    mapper.text(&format!("{at}.op")) == Some("GE") && least >= 400
}

/// A local_reply_config changes the filter's answers too: they are local replies to Envoy.
fn local_replies(manager: &Node<'_>, found: &mut Findings) {
    if manager.get("local_reply_config.body_format").is_some() {
        let reason = "must not be set: it replaces the body of the filter's own answers, sealed verdicts included";
        found.problem(manager.at("local_reply_config.body_format"), reason);
    }
    for mapper in manager.items("local_reply_config.mappers") {
        if mapper.number("status_code").is_some_and(|status| status < 400) {
            let reason = "must be 400 or more: it replaces the status of refused callbacks too, and to WeCom an empty \
                          200 means \"bound\"";
            found.problem(mapper.at("status_code"), reason);
        }
        for field in ["body", "body_format_override"] {
            if mapper.get(field).is_some() {
                if is_for_errors_alone(&mapper) {
                    let reason =
                        "replaces the body of the filter's own rejections, if its filter fits a callback's path";
                    found.warning(mapper.at(field), reason);
                } else {
                    let reason = "must not be set where status 200 fits: it replaces sealed verdicts, and `success` or an \
                                  empty body in their place means \"bound\"";
                    found.problem(mapper.at(field), reason);
                }
            }
        }
    }
}
