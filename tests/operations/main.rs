//! What operators rely on: metrics, alerts, dashboard, logs, traces, configuration changes and upgrades
//! at run time, and the pages in docs/.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod commented;
mod documents;
mod existing_envoy;
mod identity;
mod live_change;
mod logs;
mod metrics;
mod noise;
mod prometheus;
mod reasons;
mod tls;
mod tracing;
mod upgrade;
