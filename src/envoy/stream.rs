//! The stream context: one per request.
//!
//! A request for one of our paths is paused in every callback until it is answered: one `Continue`
//! would send it on to the router. Any other request is let go at once and never looked at again.
//! Own answers come back through the response callbacks, which are therefore left alone.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::desk::Desk;
use super::forgone::forgo_http_context;
use super::host;
use crate::exchange::{Event, Exchange, Head, Surroundings};

/// One request.
pub(super) struct Stream {
    id: u32,
    desk: Rc<Desk>,
    path: Path,
}

enum Path {
    Unknown,
    Ours,
    NotOurs,
}

impl Stream {
    pub(super) fn new(id: u32, desk: Rc<Desk>) -> Self {
        Self { id, desk, path: Path::Unknown }
    }

    /// The request is complete. Trailers end it as well as a last piece of body.
    fn finish(&self) {
        let body = host::request_body(self.desk.config.max_body_bytes.saturating_add(1));
        self.desk.tell(self.id, Event::Body(&body));
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    forgo_http_context!();

    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        #[cfg(feature = "trap")]
        super::trap::set();
        let path = host::request_header(":path").unwrap_or_default();
        let config = &self.desk.config;
        if !Exchange::is_ours(config, &path) {
            self.path = Path::NotOurs;
            return Action::Continue;
        }
        self.path = Path::Ours;
        let headers = host::request_headers();
        let head = Head {
            method: host::header(&headers, ":method").unwrap_or_default(),
            path: &path,
            content_length: host::header(&headers, "content-length"),
            request_id: host::header(&headers, "x-request-id"),
            trace: ["traceparent", "tracestate", "b3"]
                .into_iter()
                .filter_map(|name| Some((name, host::header(&headers, name)?)))
                .collect(),
            end_of_stream,
        };
        let around = Surroundings { now_ms: host::now_ms(), random: host::random };
        if let Some((exchange, effect)) = Exchange::begin(config, &head, &around) {
            self.desk.begin(self.id, exchange, effect);
        }
        Action::Pause
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        #[cfg(feature = "trap")]
        super::trap::spring("on_request_body");
        if matches!(self.path, Path::NotOurs) {
            return Action::Continue;
        }
        self.desk.body_seen();
        self.desk.tell(self.id, Event::Buffered(body_size));
        if end_of_stream {
            self.finish();
        }
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        #[cfg(feature = "trap")]
        super::trap::spring("on_request_trailers");
        if matches!(self.path, Path::NotOurs) {
            return Action::Continue;
        }
        self.finish();
        Action::Pause
    }

    fn on_log(&mut self) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_log");
        self.desk.forget(self.id);
    }
}
