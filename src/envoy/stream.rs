//! The stream context: one per request.
//!
//! A request for one of our paths is paused in every callback until it is answered: one `Continue`
//! would send it on to the router. Any other request is let go at once and never looked at again.
//! Own answers come back through the response callbacks, which are therefore left alone.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::calls;
use super::forgone::forgo_http_context;
use super::host::Envoy;
use crate::exchange::Head;
use crate::worker;

/// One request.
pub(super) struct Stream {
    stream: worker::Stream<Envoy>,
    /// What every callback says, once the headers have told whether the request is for us.
    action: Action,
}

impl Stream {
    pub(super) fn new(stream: worker::Stream<Envoy>) -> Self {
        Self { stream, action: Action::Pause }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    forgo_http_context!();

    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        #[cfg(feature = "trap")]
        super::trap::set();
        let path = calls::request_header(":path").unwrap_or_default();
        match self.stream.addressed(&path) {
            Some(addressed) => {
                calls::adopt_log_level();
                self.stream.begin(addressed, &Head::new(&calls::request_headers(), end_of_stream));
            }
            None => self.action = Action::Continue,
        }
        self.action
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        #[cfg(feature = "trap")]
        super::trap::spring("on_request_body");
        if self.action == Action::Pause {
            self.stream.buffered(body_size);
            if end_of_stream {
                self.stream.complete(calls::request_body);
            }
        }
        self.action
    }

    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        #[cfg(feature = "trap")]
        super::trap::spring("on_request_trailers");
        if self.action == Action::Pause {
            self.stream.complete(calls::request_body);
        }
        self.action
    }

    fn on_log(&mut self) {
        #[cfg(feature = "trap")]
        super::trap::spring("on_log");
        self.stream.ended();
    }
}
