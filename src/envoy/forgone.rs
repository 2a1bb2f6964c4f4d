//! What the SDK's HTTP trait offers and this filter forgoes.
//!
//! Its default methods unwrap what the host says, so each is a panic waiting for a stranger; and
//! each keeps its import in the module although nothing calls it. Overridden by nothing at all,
//! they are gone: the module can neither change a request or a response nor let a paused one go,
//! and the sandbox need not allow it. What is needed stands in [`super::calls`] and [`super::host`].

/// For an `impl HttpContext`.
macro_rules! forgo_http_context {
    () => {
        super::forgone::forgo! {
            get_http_request_headers() -> Vec<(String, String)> = Vec::new();
            get_http_request_headers_bytes() -> Vec<(String, proxy_wasm::types::Bytes)> = Vec::new();
            set_http_request_headers(Vec<(&str, &str)>);
            set_http_request_headers_bytes(Vec<(&str, &[u8])>);
            get_http_request_header(&str) -> Option<String> = None;
            get_http_request_header_bytes(&str) -> Option<proxy_wasm::types::Bytes> = None;
            set_http_request_header(&str, Option<&str>);
            set_http_request_header_bytes(&str, Option<&[u8]>);
            add_http_request_header(&str, &str);
            add_http_request_header_bytes(&str, &[u8]);
            remove_http_request_header(&str);
            get_http_request_body(usize, usize) -> Option<proxy_wasm::types::Bytes> = None;
            set_http_request_body(usize, usize, &[u8]);
            get_http_request_trailers() -> Vec<(String, String)> = Vec::new();
            get_http_request_trailers_bytes() -> Vec<(String, proxy_wasm::types::Bytes)> = Vec::new();
            set_http_request_trailers(Vec<(&str, &str)>);
            set_http_request_trailers_bytes(Vec<(&str, &[u8])>);
            get_http_request_trailer(&str) -> Option<String> = None;
            get_http_request_trailer_bytes(&str) -> Option<proxy_wasm::types::Bytes> = None;
            set_http_request_trailer(&str, Option<&str>);
            set_http_request_trailer_bytes(&str, Option<&[u8]>);
            add_http_request_trailer(&str, &str);
            add_http_request_trailer_bytes(&str, &[u8]);
            remove_http_request_trailer(&str);
            resume_http_request();
            reset_http_request();
            get_http_response_headers() -> Vec<(String, String)> = Vec::new();
            get_http_response_headers_bytes() -> Vec<(String, proxy_wasm::types::Bytes)> = Vec::new();
            set_http_response_headers(Vec<(&str, &str)>);
            set_http_response_headers_bytes(Vec<(&str, &[u8])>);
            get_http_response_header(&str) -> Option<String> = None;
            get_http_response_header_bytes(&str) -> Option<proxy_wasm::types::Bytes> = None;
            set_http_response_header(&str, Option<&str>);
            set_http_response_header_bytes(&str, Option<&[u8]>);
            add_http_response_header(&str, &str);
            add_http_response_header_bytes(&str, &[u8]);
            remove_http_response_header(&str);
            get_http_response_body(usize, usize) -> Option<proxy_wasm::types::Bytes> = None;
            set_http_response_body(usize, usize, &[u8]);
            get_http_response_trailers() -> Vec<(String, String)> = Vec::new();
            get_http_response_trailers_bytes() -> Vec<(String, proxy_wasm::types::Bytes)> = Vec::new();
            set_http_response_trailers(Vec<(&str, &str)>);
            set_http_response_trailers_bytes(Vec<(&str, &[u8])>);
            get_http_response_trailer(&str) -> Option<String> = None;
            get_http_response_trailer_bytes(&str) -> Option<proxy_wasm::types::Bytes> = None;
            set_http_response_trailer(&str, Option<&str>);
            set_http_response_trailer_bytes(&str, Option<&[u8]>);
            add_http_response_trailer(&str, &str);
            add_http_response_trailer_bytes(&str, &[u8]);
            remove_http_response_trailer(&str);
            resume_http_response();
            reset_http_response();
            send_http_response(u32, Vec<(&str, &str)>, Option<&[u8]>);
            send_grpc_response(proxy_wasm::types::GrpcStatusCode, Option<&str>, Vec<(&str, &[u8])>);
        }
    };
}

/// Declares methods that do nothing, and give that value.
macro_rules! forgo {
    ($($name:ident($($argument:ty),*) $(-> $result:ty = $value:expr)?;)*) => {
        $(fn $name(&self, $(_: $argument),*) $(-> $result)? { $($value)? })*
    };
}

pub(super) use {forgo, forgo_http_context};
