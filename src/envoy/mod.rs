//! The adapter: the only part that knows proxy-wasm.
//!
//! It translates and does not decide. A [`root`] context per configuration and worker and a
//! [`stream`] context per request pass on what happens to the [worker](crate::worker), for which
//! [`host`] is the host. All calls to Envoy stand there and in [`calls`], since most of the SDK's panic
//! on what a stranger can cause.
//!
//! The SDK books a call to an upstream under the context whose callback is running, which is why
//! only a root can make one that outlives a request.

mod calls;
mod forgone;
mod host;
mod metrics;
mod queue;
mod root;
mod stream;
#[cfg(feature = "trap")]
mod trap;
mod version;

use proxy_wasm::traits::RootContext;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|context_id| -> Box<dyn RootContext> {
        calls::adopt_log_level(); // not sooner: nothing may be asked of the host while the module starts
        Box::new(root::Root::new(context_id))
    });
}}
