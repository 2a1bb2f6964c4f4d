//! The adapter: the only part that knows proxy-wasm.
//!
//! It translates and does not decide. A [`root`] context per configuration and worker holds what
//! its streams share and makes the calls to upstreams; a [`stream`] context per request feeds its
//! exchange. Both work on the [`desk`], where everything in progress lies. All calls to the host
//! stand in [`host`], since most of the SDK's panic on what a stranger can cause.
//!
//! Why the root makes the calls: a call made by a stream dies with it, and the decision would be
//! lost when a client hangs up. A stream can't make the root call either, as the SDK books a call
//! under the context whose callback is running. So the stream lays its job on the desk and wakes
//! the root through a shared queue of its own worker; the same queues carry settlements to copies
//! that wait on other workers.

mod desk;
mod forgone;
mod host;
mod metrics;
mod root;
mod stream;
#[cfg(feature = "trap")]
mod trap;

use proxy_wasm::traits::RootContext;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|context_id| -> Box<dyn RootContext> {
        host::adopt_log_level(); // not sooner: nothing may be asked of the host while the module starts
        Box::new(root::Root::new(context_id))
    });
}}
