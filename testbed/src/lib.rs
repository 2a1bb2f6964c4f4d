//! Everything around the filter, for tests and demos: [`wecom`] sends callbacks as WeCom does,
//! [`backend`] answers as a vendor's backend might, well or badly (both are the package `simulator`'s),
//! and [`envoy`] runs a real Envoy between the two, with the filter's compiled [`module`]. [`workers`]
//! opens connections to a chosen worker of that Envoy, [`redis`] runs a real redis-server for records
//! that several Envoys share, [`waiting`] waits for conditions, and [`files`] knows where things lie. An
//! [`edge`] is all of this started together, which is what most tests need.

pub mod edge;
pub mod envoy;
pub mod files;
pub mod module;
pub mod redis;
pub mod waiting;
pub mod workers;

pub use simulator::{backend, wecom};
