//! Every call to the host, in the forms that do not panic.
//!
//! The functions of `proxy_wasm::hostcalls` return a `Result` and still panic on any status they
//! do not expect. Two of those a stranger can cause: reading a single header of a callout that
//! died, and reading a header as `String` that is not UTF-8. What is used here, on Envoy 1.36 and
//! later, returns for everything that happens; a call that `envoy.yaml` does not allow may panic.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType, Status};

use super::metrics::Metrics;
use crate::callout::{NotCalled, UpstreamRequest};
use crate::config::Config;
use crate::dedup::{Listener, Store};
use crate::exchange::{Answer, Ending};
use crate::host::{CallId, Count, Host, StreamId};
use crate::report::Report;

/// How often deadlines are looked at while there are any. Calls have timers of their own.
const TICK: Duration = Duration::from_millis(50);

/// The same where another replica's verdict may be waited for: there is no other word of it.
const TICK_WITH_REPLICAS: Duration = Duration::from_millis(25);

/// Envoy, as one configuration on one worker sees it.
pub(super) struct Envoy {
    root: u32,
    tick: Duration,
    metrics: Metrics,
}

impl Envoy {
    /// For the root context of that number. Defines the metrics of its configuration.
    pub(super) fn new(root: u32, config: &Config) -> Self {
        let tick = if config.dedup().redis().is_some() { TICK_WITH_REPLICAS } else { TICK };
        Self { root, tick, metrics: Metrics::define(config) }
    }
}

impl Host for Envoy {
    fn now_ms(&self) -> u64 {
        let now = hostcalls::get_current_time().ok().and_then(|now| now.duration_since(UNIX_EPOCH).ok());
        now.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
    }

    /// `None` if `random_get` is not allowed.
    fn random<const N: usize>(&self) -> Option<[u8; N]> {
        random()
    }

    fn call(&self, request: &UpstreamRequest<'_>) -> Result<CallId, NotCalled> {
        // A stream may have been acted on before; the call must be the root's, or it ends with that.
        hostcalls::set_effective_context(self.root).map_err(|_| NotCalled::NoHost)?;
        let UpstreamRequest { cluster, headers, body, timeout_ms } = request;
        let timeout = Duration::from_millis(*timeout_ms);
        let call = hostcalls::dispatch_http_call(cluster, headers.clone(), Some(body), Vec::new(), timeout);
        call.map(CallId).map_err(|status| match status {
            Status::BadArgument => NotCalled::UnknownCluster,
            _ => NotCalled::NoHost,
        })
    }

    fn finish(&self, stream: StreamId, report: &Report, ending: &Ending) -> bool {
        if hostcalls::set_effective_context(stream.0).is_err() {
            return false;
        }
        for (name, value) in report.filter_state() {
            if hostcalls::set_property(vec![name], Some(value.as_bytes())).is_err() {
                log::error!("Envoy refused the filter state {name}");
            }
        }
        // Never an answer from `on_log` or `on_done`: that ends the process. There it is gone.
        let taken = match ending {
            Ending::Answer(Answer { status, headers, body }) => {
                hostcalls::send_http_response(*status, headers.to_vec(), Some(body))
            }
            Ending::Reset => hostcalls::reset_http_request(),
            Ending::Gone => Ok(()),
        };
        if taken.is_err() {
            log::error!("Envoy refused an answer");
        }
        true
    }

    fn send(&self, to: Listener, message: &[u8]) -> bool {
        hostcalls::enqueue_shared_queue(to, Some(message)).is_ok()
    }

    fn receive(&self, from: Listener) -> Option<Vec<u8>> {
        hostcalls::dequeue_shared_queue(from).ok().flatten()
    }

    fn tick(&self, on: bool) {
        // The timer is the root's, whichever of its contexts asks.
        if hostcalls::set_tick_period(if on { self.tick } else { Duration::ZERO }).is_err() {
            log::error!("Envoy refused the tick period");
        }
    }

    fn retired(&self) {
        let done = hostcalls::set_effective_context(self.root).and_then(|()| hostcalls::done());
        if done.is_err() {
            log::error!("Envoy refused to let a replaced configuration go");
        }
    }

    fn count(&self, count: Count<'_>) {
        self.metrics.count(count);
    }

    fn log(&self, level: log::Level, line: fmt::Arguments<'_>) {
        log::log!(level, "{line}");
    }
}

/// Shown for a key without a value: a write under it succeeds if the key still has none, and
/// fails against every number that the host gives out.
const ABSENT: u32 = u32::MAX;

/// Envoy's shared data: one map for all VMs of a `vm_id`.
impl Store for Envoy {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        hostcalls::get_shared_data(key).unwrap_or((None, None))
    }

    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        hostcalls::set_shared_data(key, Some(value), Some(number.unwrap_or(ABSENT))).is_ok()
    }
}

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
