//! The root context: one per configuration and worker.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::calls;
use super::host::Envoy;
use super::queue::Queue;
use super::stream::Stream;
use super::version;
use crate::callout::{MAX_RESPONSE_BYTES, Received};
use crate::config::Config;
use crate::host::{CallId, StreamId};
use crate::worker;

/// One configuration on one worker.
pub(super) struct Root {
    id: u32,
    worker: Option<worker::Root<Envoy>>,
    queue: Option<Queue>,
}

impl Root {
    pub(super) fn new(id: u32) -> Self {
        Self { id, worker: None, queue: None }
    }
}

/// Envoy deletes a root when it is done: after `on_done`, or when its last call has ended.
impl Drop for Root {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.leave();
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, _body_size: usize, _num_trailers: usize) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_http_call_response");
        let Some(worker) = &self.worker else { return };
        if num_headers == 0 {
            worker.call_ended(CallId(token), None); // it broke off
            return;
        }
        let headers = calls::call_response_headers();
        let body = calls::call_response_body(MAX_RESPONSE_BYTES.saturating_add(1));
        worker.call_ended(CallId(token), Some(Received::new(headers, body)));
    }

    fn on_done(&mut self) -> bool {
        self.worker.as_ref().is_none_or(worker::Root::retire)
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        calls::adopt_log_level();
        let config = match Config::parse(&calls::configuration(), &|name| std::env::var(name).ok()) {
            Ok(config) => config,
            Err(error) => {
                log::error!("configuration refused: {error}");
                return false;
            }
        };
        if self.queue.is_none() {
            self.queue = Queue::open();
        }
        let queue = self.queue.as_ref().map(Queue::id);
        let envoy = Envoy::new(self.id, &config);
        version::tell(&envoy);
        self.worker = Some(worker::Root::new(envoy, config, queue));
        true
    }

    fn on_tick(&mut self) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_tick");
        if let Some(worker) = &self.worker {
            worker.tick();
        }
    }

    fn on_queue_ready(&mut self, _queue: u32) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_queue_ready");
        if let Some(worker) = &self.worker {
            worker.queue_ready();
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        let stream = self.worker.as_ref()?.stream(StreamId(context_id));
        Some(Box::new(Stream::new(stream)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
