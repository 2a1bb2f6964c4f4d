//! Both neighbours of the filter and the real thing between them: [`wecom`] sends callbacks as
//! WeCom does, [`backend`] answers as a vendor's backend might, however badly, and [`envoy`] runs
//! the Envoy that stands between the two, with the filter's compiled [`module`]; its [`workers`] can
//! be told apart. An [`edge`] is all of them together, as most tests need them. The tests against the real Envoy and the programs in
//! `examples/` are built on it.

pub mod backend;
pub mod edge;
pub mod envoy;
pub mod module;
pub mod waiting;
pub mod wecom;
pub mod workers;
