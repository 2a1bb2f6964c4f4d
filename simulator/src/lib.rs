//! The two that the filter stands between: [`wecom`] seals and sends callbacks as WeCom does, or wrongly
//! on purpose, and opens the answers; [`backend`] answers as a vendor's backend might, well or badly.
//!
//! Neither needs Envoy or the compiled module. The tests use them through `testbed`, which starts both;
//! the command `wecom-callbacks` uses them alone.
//!
//! Signature and cipher are the filter's own. What tells that they are WeCom's is not a callback that goes
//! through both, but `tests/vectors.json`, published by others, and `tests/conformance`, a program of others.

pub mod backend;
pub mod wecom;
