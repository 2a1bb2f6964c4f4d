//! Every call to the host, in the forms that do not panic.
//!
//! The functions of `proxy_wasm::hostcalls` return a `Result` and still panic on any status they
//! do not expect. Two of those a stranger can cause: reading a single header of a callout that
//! died, and reading a header as `String` that is no UTF-8. What is used here, on Envoy 1.36 and
//! later, returns for everything that happens; a call that `envoy.yaml` does not allow may panic.

use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType};

use crate::callout::Job;
use crate::dedup::{Listener, Store};
use crate::exchange::Answer;

/// Header names are ASCII: Envoy refuses others before they get here. Values are bytes.
pub(super) type Headers = Vec<(String, Vec<u8>)>;

/// The first value of a header, by its lower-case name.
pub(super) fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
}

/// Unix time in milliseconds.
pub(super) fn now_ms() -> u64 {
    let now = hostcalls::get_current_time().ok().and_then(|now| now.duration_since(UNIX_EPOCH).ok());
    now.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Random bytes from the host's cryptographic generator. `None` if `random_get` is not allowed.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

/// Logs as loud as Envoy does.
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
pub(super) fn request_headers() -> Headers {
    hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default()
}

/// The request's body as far as it is buffered, but no more than `limit` bytes.
pub(super) fn request_body(limit: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpRequestBody, 0, limit).ok().flatten().unwrap_or_default()
}

/// All headers of a call's response; none if it has none.
pub(super) fn call_response_headers() -> Headers {
    hostcalls::get_map_bytes(MapType::HttpCallResponseHeaders).unwrap_or_default()
}

/// The body of a call's response, but no more than `limit` bytes.
pub(super) fn call_response_body(limit: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, limit).ok().flatten().unwrap_or_default()
}

/// Makes what follows act on that context. Says whether it is still there.
pub(super) fn act_on(context_id: u32) -> bool {
    hostcalls::set_effective_context(context_id).is_ok()
}

/// Answers the stream that is acted on. Never from `on_log` or `on_done`: that ends the process.
pub(super) fn answer(answer: &Answer) {
    if hostcalls::send_http_response(answer.status, answer.headers.clone(), Some(&answer.body)).is_err() {
        log::error!("Envoy did not take an answer");
    }
}

/// Leaves a value for access logs and traces, at the stream that is acted on.
pub(super) fn set_filter_state(name: &str, value: &str) {
    if hostcalls::set_property(vec![name], Some(value.as_bytes())).is_err() {
        log::error!("Envoy did not take {name}");
    }
}

/// Makes a call for the root that is acted on. `None` if it can't even begin: no such cluster, no
/// healthy host, no room.
pub(super) fn call(job: &Job) -> Option<u32> {
    let upstream = job.upstream();
    let mut headers =
        vec![(":method", "POST"), (":path", upstream.path.as_str()), (":authority", upstream.authority.as_str())];
    headers.extend(job.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let timeout = Duration::from_millis(upstream.timeout_ms);
    hostcalls::dispatch_http_call(&upstream.cluster, headers, Some(&job.body), Vec::new(), timeout).ok()
}

/// Opens this root's queue, or takes over one of that name.
pub(super) fn open_queue(name: &str) -> Option<Listener> {
    hostcalls::register_shared_queue(name).ok()
}

/// Sends to a queue. Says whether it is there.
pub(super) fn send(queue: Listener, message: &[u8]) -> bool {
    hostcalls::enqueue_shared_queue(queue, Some(message)).is_ok()
}

/// The next message of a queue.
pub(super) fn receive(queue: Listener) -> Option<Vec<u8>> {
    hostcalls::dequeue_shared_queue(queue).ok().flatten()
}

/// Has `on_tick` called that often.
pub(super) fn tick_every(period: Duration) {
    if hostcalls::set_tick_period(period).is_err() {
        log::error!("Envoy did not take the tick period");
    }
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

/// Envoy's shared data: one map for all VMs of a `vm_id`.
#[derive(Debug)]
pub(super) struct SharedData;

/// Shown for a key without a value: a write under it succeeds if the key still has none, and
/// fails against every number that the host gives out.
const ABSENT: u32 = u32::MAX;

impl Store for SharedData {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        hostcalls::get_shared_data(key).unwrap_or((None, None))
    }

    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        hostcalls::set_shared_data(key, Some(value), Some(number.unwrap_or(ABSENT))).is_ok()
    }
}
