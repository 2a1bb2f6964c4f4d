//! Envoy as the worker's [`Host`]. The calls that it alone makes stand here, those that others make
//! too in [`calls`], which says what panics.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

use super::calls;
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
        calls::random()
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
