//! The root context: one per configuration and worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::desk::Desk;
use super::host::{self, SharedData};
use super::metrics::Metrics;
use super::stream::Stream;
use crate::config::Config;
use crate::dedup::{HASH_KEY_LEN, Listener, Records};

/// How often deadlines are looked at. Calls have timers of their own.
const TICK: Duration = Duration::from_millis(50);

/// One configuration on one worker.
pub(super) struct Root {
    id: u32,
    desk: Option<Rc<Desk>>,
    queue_name: Option<String>,
}

thread_local! {
    // The host never deletes a queue, so a root takes over one that another root of this VM has
    // left. Nothing else is shared between the configurations that run side by side in a VM.
    static LEFT_QUEUES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl Root {
    pub(super) fn new(id: u32) -> Self {
        Self { id, desk: None, queue_name: None }
    }

    /// The record and the queue to hear of it, or `None`, said aloud, where they can't be had.
    fn join_record(&mut self, config: &Config) -> Option<(Records<SharedData>, Listener)> {
        let name = match self.queue_name.clone() {
            Some(own) => own, // configured a second time
            None => match LEFT_QUEUES.with_borrow_mut(Vec::pop) {
                Some(left) => left,
                None => format!("wecom/{:016x}", u64::from_ne_bytes(host::random()?)),
            },
        };
        let queue = host::open_queue(&name)?;
        self.queue_name = Some(name);
        let dedup = config.dedup;
        let hash_key = host::random::<HASH_KEY_LEN>();
        let records = Records::open(SharedData, dedup.capacity, dedup.ttl_seconds, hash_key)?;
        if records.capacity() != dedup.capacity {
            log::warn!(
                "dedup.capacity: stays {} until Envoy starts anew, as the table exists already",
                records.capacity()
            );
        }
        Some((records, queue))
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, _body_size: usize, _num_trailers: usize) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_http_call_response");
        if let Some(desk) = &self.desk {
            desk.call_ended(token, num_headers > 0);
        }
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
        let metrics = Metrics::define(&config);
        let record = self.join_record(&config);
        if record.is_none() {
            log::error!(
                "no random numbers, or no shared data: every callback will be refused; \
                 see the capabilities in envoy.yaml"
            );
        }
        self.desk = Some(Rc::new(Desk::new(self.id, Rc::new(config), metrics, record)));
        host::tick_every(TICK);
        true
    }

    fn on_tick(&mut self) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_tick");
        host::adopt_log_level();
        if let Some(desk) = &self.desk {
            desk.tick();
        }
    }

    fn on_queue_ready(&mut self, _queue: u32) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_queue_ready");
        if let Some(desk) = &self.desk {
            desk.work_off_queue();
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        let desk = self.desk.clone()?;
        Some(Box::new(Stream::new(context_id, desk)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
