//! The root context: one per configuration and worker.

use std::cell::RefCell;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::host::{self, Envoy};
use super::stream::Stream;
use crate::callout::{MAX_RESPONSE_BYTES, Response};
use crate::config::Config;
use crate::dedup::Listener;
use crate::host::{CallId, StreamId};
use crate::worker;

/// How often deadlines are looked at. Calls have timers of their own.
const TICK: Duration = Duration::from_millis(50);

/// One configuration on one worker.
pub(super) struct Root {
    id: u32,
    worker: Option<worker::Root<Envoy>>,
    queue_name: Option<String>,
}

thread_local! {
    // The host never deletes a queue, so a root takes over one that another root of this VM has
    // left. Nothing else is shared between the configurations that run side by side in a VM.
    static LEFT_QUEUES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl Root {
    pub(super) fn new(id: u32) -> Self {
        Self { id, worker: None, queue_name: None }
    }

    /// The queue to hear of jobs and settlements by; its name is random, so without random numbers
    /// there is none.
    fn open_queue(&mut self) -> Option<Listener> {
        let name = match self.queue_name.clone() {
            Some(own) => own, // configured a second time
            None => match LEFT_QUEUES.with_borrow_mut(Vec::pop) {
                Some(left) => left,
                None => format!("wecom/{:016x}", u64::from_ne_bytes(host::random()?)),
            },
        };
        let queue = host::open_queue(&name)?;
        self.queue_name = Some(name);
        Some(queue)
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
        let headers = host::call_response_headers();
        let body = host::call_response_body(MAX_RESPONSE_BYTES.saturating_add(1));
        worker.call_ended(CallId(token), Some(Response::new(&headers, &body)));
    }

    fn on_done(&mut self) -> bool {
        LEFT_QUEUES.with_borrow_mut(|left| left.extend(self.queue_name.take()));
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        host::adopt_log_level();
        let config = match Config::parse(&host::configuration(), &|name| std::env::var(name).ok()) {
            Ok(config) => config,
            Err(error) => {
                log::error!("configuration refused: {error}");
                return false;
            }
        };
        let queue = self.open_queue();
        self.worker = Some(worker::Root::new(Envoy::new(self.id, &config), config, queue));
        host::tick_every(TICK);
        true
    }

    fn on_tick(&mut self) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_tick");
        host::adopt_log_level();
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
