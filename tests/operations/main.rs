//! What operators rely on: metrics, alerts and dashboard, access log and log, traces, changes of a
//! running Envoy, the command that checks a configuration, and the pages in docs/.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod check_config;
mod documents;
mod live_change;
mod logs;
mod metrics;
mod prometheus;
mod tracing;
