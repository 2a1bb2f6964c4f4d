//! The memory of `envoy.yaml` as it is shipped, with two workers.

use anyhow::{Result, ensure};
use serde::Serialize;
use testbed::envoy::{Bootstrap, Envoy, Launcher};

use crate::load::{Load, rate};
use crate::process::resident_mib;
use crate::sides::CALLBACK;

/// How many callbacks there are before the second look; the table of `envoy.yaml` has room for all.
pub(crate) const CALLBACKS: usize = 10_000;

/// In MiB.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct TwoWorkers {
    /// Once it serves.
    pub(crate) at_start_mib: f64,
    /// After [`CALLBACKS`].
    pub(crate) after_load_mib: f64,
}

/// Starts it, looks, has it work, and looks again.
///
/// # Errors
/// If it does not start, or answers anything but 200.
pub(crate) async fn of_two_workers(upstream: u16) -> Result<TwoWorkers> {
    let bootstrap = Bootstrap::example()?.cluster("decision", upstream).cluster("backend", upstream);
    let envoy = Envoy::start(bootstrap.concurrency(2).launcher(Launcher::Direct)).await?;
    let at_start_mib = resident_mib(&[envoy.process_id()])?;
    let (address, requests) = (envoy.address(), Load::to(CALLBACK).requests(CALLBACKS));
    let send = move || rate::send(address, &requests, rate::Pace::over(32), &rate::Progress::default());
    let took = tokio::task::spawn_blocking(send).await??;
    ensure!(took.latency_ms.len() == CALLBACKS, "{} answers", took.latency_ms.len());
    Ok(TwoWorkers { at_start_mib, after_load_mib: resident_mib(&[envoy.process_id()])? })
}
