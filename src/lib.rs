//! An Envoy filter that takes WeCom (企业微信) hardware callbacks at the edge.
//!
//! ```text
//! WeCom ──POST encrypted──▶ Envoy ▶ filter: shape → signature → decrypt → receive id → freshness → duplicate?
//!                                      │ first                                  │ recorded, or in flight
//!                                      ▼                                        │
//!                            callout ──plaintext JSON──▶ decision endpoint      │
//!                                      │ reply, or any failure                  │
//!                                      ▼                                        ▼
//! WeCom ◀─encrypted verdict── seal: {"errcode":0…} or, whatever went wrong, {"errcode":7,…}
//! ```
//!
//! Two rules stand above all others. **Fail closed**: to WeCom an empty 200, or `success`, means
//! "bound", so no failure may ever look like one. **At most once**: a `req_id` reaches the decision
//! endpoint at most once while its record lives, and every copy gets the first one's verdict.
//!
//! # Where things are
//!
//! | module | what it holds |
//! |---|---|
//! | [`wecom`] | the callback protocol: signature, cipher, envelope, message, verdict |
//! | [`config`] | the plugin configuration, JSON or protobuf, to a `Config` that is right |
//! | [`exchange`] | one callback from its headers to its answer, as a chain of types |
//! | [`callout`] | the call to an upstream: what is asked, and what its answer counts as |
//! | [`clock`] | time, as a worker measures it |
//! | [`reply`] | what a callback is answered with, before it is sealed |
//! | [`dedup`] | the records of duplicates: who is first, and what its copies are told |
//! | [`outcome`] | every way a callback can end, in one table |
//! | [`report`] | what the log, access logs and traces say of a finished callback |
//! | [`worker`] | everything in progress on one worker |
//! | [`host`] | what a worker needs of its surroundings, as one trait |
//! | [`version`] | which version this is |
//! | `envoy` | that trait over proxy-wasm; everything else knows nothing of Envoy's interface |
//!
//! Dependencies point one way: `envoy → worker → exchange → {callout, dedup, config, outcome, wecom}`,
//! and `worker → host`. Everything but `envoy` has no I/O, no clock and no randomness of its own, and
//! runs natively and in any Wasm engine: tests and fuzzer drive the very [`worker`] that Envoy runs.

pub mod callout;
pub mod clock;
pub mod config;
pub mod dedup;
pub mod exchange;
pub mod host;
pub mod outcome;
pub mod reply;
pub mod report;
pub mod version;
pub mod wecom;
pub mod worker;

#[cfg(target_os = "wasi")]
mod envoy;
