//! The calls to the host that any part of the adapter makes, in the forms that do not panic.
//!
//! The functions of `proxy_wasm::hostcalls` return a `Result` and still panic on any status they
//! do not expect. Two of those a stranger can cause: reading a single header of a callout that
//! died, and reading a header as `String` that is not UTF-8. What is used here and in
//! [`host`](super::host), on Envoy 1.36 and later, returns for everything that happens; a call that
//! `envoy.yaml` does not allow may panic.

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType};

use crate::dedup::Listener;

/// Random bytes from the host's cryptographic generator. `None` if `random_get` is not allowed.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

/// Logs as loud as Envoy does, whose level can be changed while it runs.
pub(super) fn adopt_log_level() {
    proxy_wasm::set_log_level(hostcalls::get_log_level().unwrap_or(LogLevel::Info));
}

/// The plugin configuration's bytes.
pub(super) fn configuration() -> Vec<u8> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten().unwrap_or_default()
}

/// One header of the request; only while it is paused or has just arrived.
pub(super) fn request_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name).ok().flatten()
}

/// All headers of the request; only while it is paused or has just arrived.
pub(super) fn request_headers() -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default()
}

/// The request's body as far as it is buffered, but no more than `limit` bytes.
pub(super) fn request_body(limit: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpRequestBody, 0, limit).ok().flatten().unwrap_or_default()
}

/// All headers of a call's response; none if it has none.
pub(super) fn call_response_headers() -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(MapType::HttpCallResponseHeaders).unwrap_or_default()
}

/// The body of a call's response, but no more than `limit` bytes.
pub(super) fn call_response_body(limit: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, limit).ok().flatten().unwrap_or_default()
}

/// Opens a queue that calls the root whose callback this is, or has the one of that name call it.
pub(super) fn open_queue(name: &str) -> Option<Listener> {
    hostcalls::register_shared_queue(name).ok()
}

/// Defines a counter; defining one again gives the same.
pub(super) fn counter(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Counter, name).ok()
}

/// Defines a histogram.
pub(super) fn histogram(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Histogram, name).ok()
}

/// Defines a gauge.
pub(super) fn gauge(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Gauge, name).ok()
}

/// Adds to a counter or a gauge.
pub(super) fn add(metric: u32, count: i64) {
    let _ = hostcalls::increment_metric(metric, count);
}

/// Sets a gauge, or adds a value to a histogram.
pub(super) fn record(metric: u32, value: u64) {
    let _ = hostcalls::record_metric(metric, value);
}
