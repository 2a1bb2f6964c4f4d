//! Streams that wait for a slow decision.
//!
//! All points get as many callbacks a second; what differs is how long the decision takes, and with it how
//! many wait at any time. Their number is counted, not computed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::envoy::{Bootstrap, Envoy};

use super::{Axis, ratios};
use crate::load::{Load, median, rate};
use crate::measure::in_turns;
use crate::plan::Plan;
use crate::sides::envoys::{roomy, upstream};
use crate::sides::{CALLBACK, Side};

/// How long the decisions take, in milliseconds. An endpoint may be given 2800 at most.
const DELAYS_MS: [u64; 4] = [0, 25, 250, 2500];
/// The most to ask for: with the longest delay, 10,000 wait.
const A_SECOND_MAX: f64 = 10_000.0 / 2.5;

pub(super) async fn axis(plan: &Plan) -> Result<Axis> {
    let mut all = Vec::new();
    for delay_ms in DELAYS_MS {
        all.push(Slow::start(delay_ms).await?);
    }
    // What the filter takes while so many connections are open is not known before.
    let mut a_second = A_SECOND_MAX;
    let most = all.last().context("no points")?;
    let warm = loop {
        match most.window(a_second, 1).await {
            Ok(warm) => break warm,
            Err(error) => {
                eprintln!("growth: {a_second:.0} a second are too many: {error:#}");
                a_second /= 1.25;
                ensure!(a_second > 100.0, "no rate is low enough");
                tokio::time::sleep(Duration::from_secs(4)).await; // until what still waits has ended
            }
        }
    };
    eprintln!("growth: {a_second:.0} a second, {:.0} waiting at most", warm.waiting);
    let mut measured = vec![Vec::new(); all.len()];
    let numbered: Vec<_> = all.iter().enumerate().collect();
    for (_, (number, slow)) in in_turns(&numbered, plan.rounds.div_ceil(2), "growth") {
        let window = slow.window(a_second, plan.seconds).await;
        measured[*number].push(window.with_context(|| format!("a decision of {} ms", slow.delay_ms))?);
    }
    let point = |windows: &Vec<Window>| {
        let waiting = median(windows.iter().map(|window| window.waiting));
        (format!("{waiting:.0}"), windows.iter().map(|window| window.cpu_us).collect())
    };
    Ok(Axis {
        name: "paused",
        what: "callbacks that wait for a slow decision",
        why: "each has a connection of its own, and every 50 ms all are looked through for those that are late",
        points: ratios(measured.iter().map(point).collect()),
    })
}

/// The filter before an upstream that takes its time.
struct Slow {
    delay_ms: u64,
    side: Side,
    _upstream: Envoy,
}

/// A stretch of time in which as many come as go.
#[derive(Debug, Clone, Copy)]
struct Window {
    cpu_us: f64,
    waiting: f64,
}

impl Slow {
    async fn start(delay_ms: u64) -> Result<Self> {
        let upstream = upstream(delay_ms).await?;
        let bootstrap = roomy(Bootstrap::example()?)
            .edit_plugin_value(|value| value["endpoints"][0]["decision"]["timeout_ms"] = json!(2800))
            // Over HTTP/2, or a process would need 20,000 files, more than it may open on many machines.
            .edit_cluster("decision", |cluster| {
                cluster["typed_extension_protocol_options"] = json!({
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": { "http2_protocol_options": {} }
                    }
                });
            })
            .edit(|config| {
                // As envoy.yaml takes 10,000 connections at most.
                if let Some(monitors) = config["overload_manager"]["resource_monitors"].as_array_mut() {
                    for monitor in monitors {
                        let typed = &mut monitor["typed_config"];
                        if !typed["max_active_downstream_connections"].is_null() {
                            typed["max_active_downstream_connections"] = json!(20_000);
                        }
                    }
                }
            });
        let name = format!("a decision of {delay_ms} ms");
        let side = Side::of_filter(&name, bootstrap, upstream.address().port(), Load::to(CALLBACK)).await?;
        Ok(Self { delay_ms, side, _upstream: upstream })
    }

    /// So many seconds of it, once as many go as come.
    async fn window(&self, a_second: f64, seconds: u64) -> Result<Window> {
        let ramp = Duration::from_millis(self.delay_ms + 500);
        let all = ramp + Duration::from_secs(seconds) + Duration::from_millis(100);
        let requests = self.side.load.requests((a_second * all.as_secs_f64()) as usize);
        let (count, bound) = (requests.len() as u64, self.side.bound().await?);
        let (address, progress) = (self.side.address(), Arc::new(rate::Progress::default()));
        let sending = tokio::task::spawn_blocking({
            let progress = Arc::clone(&progress);
            move || rate::send(address, &requests, rate::Pace::of(a_second), &progress)
        });
        tokio::time::sleep(ramp).await;
        let (answered, before) = (progress.answered(), self.side.cpu_us()?);
        let mut waiting = Vec::new();
        for _ in 0..10 * seconds {
            tokio::time::sleep(Duration::from_millis(100)).await;
            waiting.push(progress.waiting() as f64);
        }
        let (answered, after) = (progress.answered() - answered, self.side.cpu_us()?);
        sending.await??;
        if let (Some(before), Some(after)) = (bound, self.side.bound().await?) {
            // Where this machine stands still for a moment, some are decided too late.
            ensure!((after - before) * 100 >= count * 99, "of {count} answers {} bound a device", after - before);
        }
        ensure!(answered > 0, "none was answered");
        Ok(Window { cpu_us: (after.0 - before.0) / answered as f64, waiting: median(waiting.into_iter()) })
    }
}
