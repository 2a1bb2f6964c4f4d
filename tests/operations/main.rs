//! What operators rely on: metrics, alerts, dashboard, logs, traces, configuration changes and upgrades
//! at run time, the files in deploy/, and the pages in docs/.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod chinese;
mod commented;
mod compose;
mod documents;
mod envoy_gateway;
mod existing_envoy;
mod identity;
mod istio;
mod kubernetes;
mod live_change;
mod logs;
mod metrics;
mod noise;
mod prometheus;
mod reasons;
mod schemas;
mod tls;
mod tracing;
mod upgrade;
