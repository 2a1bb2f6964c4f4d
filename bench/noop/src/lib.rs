//! What a filter costs that does nothing: each request's body goes to the cluster `decision`, in a call
//! that the root owns, and what that answers is the answer. No more checks than that, no records, no
//! metrics: the difference between this one and bare Envoy is what proxy-wasm costs.
#![cfg(target_os = "wasi")]
#![allow(missing_docs)] // the macro makes functions without any

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, MapType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| -> Box<dyn RootContext> { Box::new(Root { id, queue: None, work: Rc::default() }) });
}}

/// The bodies of requests whose calls are still to be made.
type Work = Rc<RefCell<Vec<(u32, Vec<u8>)>>>;

struct Root {
    id: u32,
    queue: Option<u32>,
    work: Work,
}

struct Stream {
    id: u32,
    queue: Option<u32>,
    work: Work,
}

thread_local! {
    static CALLS: RefCell<HashMap<u32, u32>> = RefCell::default();
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, _num_headers: usize, body_size: usize, _num_trailers: usize) {
        let Some(stream) = CALLS.with_borrow_mut(|calls| calls.remove(&call)) else { return };
        let _headers = hostcalls::get_map_bytes(MapType::HttpCallResponseHeaders);
        let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size).ok().flatten();
        if hostcalls::set_effective_context(stream).is_ok() {
            let headers = vec![("content-type", "application/json")];
            let _ = hostcalls::send_http_response(200, headers, body.as_deref());
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.queue = hostcalls::register_shared_queue(&format!("noop/{}", self.id)).ok();
        self.queue.is_some()
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue) {}
        for (stream, body) in self.work.take() {
            let _ = hostcalls::set_effective_context(self.id);
            let headers = vec![
                (":method", "POST"),
                (":path", "/bind"),
                (":authority", "decision"),
                ("content-type", "application/json"),
            ];
            let timeout = Duration::from_millis(900);
            let call = hostcalls::dispatch_http_call("decision", headers, Some(&body), Vec::new(), timeout);
            if let Ok(call) = call {
                CALLS.with_borrow_mut(|calls| calls.insert(call, stream));
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { id, queue: self.queue, work: Rc::clone(&self.work) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        Action::Pause
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        if end_of_stream {
            let body = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, body_size).ok().flatten();
            let is_first = {
                let mut work = self.work.borrow_mut();
                work.push((self.id, body.unwrap_or_default()));
                work.len() == 1
            };
            if let (true, Some(queue)) = (is_first, self.queue) {
                let _ = hostcalls::enqueue_shared_queue(queue, Some(b"wake"));
            }
        }
        Action::Pause
    }
}
