//! What grows while every callback is decided at once.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::envoy::Bootstrap;
use testbed::wecom::{Account, Event};

use super::{Axis, Ready, Way, in_all_rounds};
use crate::load::{Load, rate};
use crate::plan::Plan;
use crate::sides::envoys::roomy;
use crate::sides::{CALLBACK, Side};

/// The size of a request's body, up to what `max_body_bytes` takes by default.
pub(super) async fn body(plan: &Plan, upstream: u16) -> Result<Axis> {
    let mut points = Vec::new();
    for bytes in [0, 4_000, 16_000, 60_000] {
        let load = Load { body_bytes: bytes, ..Load::to(CALLBACK) };
        let length = load.account.seal(Event::bind("sn-0")).body_bytes().len().max(bytes) as f64;
        let label = format!("{:.1} KB", length / 1000.0);
        let side = Side::of_filter(&label, roomy(Bootstrap::example()?), upstream, load).await?;
        points.push(Ready { label, side, way: Way::FullLoad { connections: plan.connections } });
    }
    Ok(Axis {
        name: "body",
        what: "the request's body",
        why: "every byte is received, hashed, decoded, decrypted and sent on",
        points: in_all_rounds(&points, plan).await?,
    })
}

/// Live records. Measuring makes more of them; so the few live for 1 s, at as many callbacks a second, and
/// the many for longer than the run takes.
pub(super) async fn records(plan: &Plan, upstream: u16) -> Result<Axis> {
    const A_SECOND: usize = 1000;
    let all: &[(&str, usize)] = &[("1,000", A_SECOND), ("100,000", 100_000), ("1,000,000", 1_000_000)];
    let mut points = Vec::new();
    for (label, count) in &all[..if plan.quick { 2 } else { 3 }] {
        let ttl = if *count == A_SECOND { 1 } else { 3600 };
        let bootstrap = roomy(Bootstrap::example()?).edit_plugin_value(|value| {
            value["freshness_seconds"] = json!(0); // else no record may live so briefly
            value["dedup"]["ttl_seconds"] = json!(ttl);
        });
        let side = Side::of_filter(label, bootstrap, upstream, Load::to(CALLBACK)).await?;
        if ttl > 1 {
            fill(&side, *count).await?;
        }
        points.push(Ready { label: (*label).to_owned(), side, way: Way::Rate { a_second: A_SECOND as f64 } });
    }
    Ok(Axis {
        name: "records",
        what: "live records",
        why: "a callback looks at one set of 64 places, however many there are",
        points: in_all_rounds(&points, plan).await?,
    })
}

/// Has the filter bind so many devices.
async fn fill(side: &Side, count: usize) -> Result<()> {
    let mut missing = count;
    while missing > 0 {
        let portion = missing.min(50_000);
        let (address, requests) = (side.address(), side.load.requests(portion));
        let send = move || rate::send(address, &requests, rate::Pace::over(32), &rate::Progress::default());
        tokio::task::spawn_blocking(send).await??;
        missing -= portion;
        eprintln!("growth: {} of {count} records", count - missing);
    }
    let bound = side.bound().await?.unwrap_or_default();
    ensure!(bound >= count as u64, "of {count} binds only {bound} left a record");
    Ok(())
}

/// Endpoints; callbacks are for the last of them.
pub(super) async fn endpoints(plan: &Plan, upstream: u16) -> Result<Axis> {
    let mut points = Vec::new();
    for count in [1, 10, 100, 1000] {
        let bootstrap = roomy(Bootstrap::example()?).edit_plugin_value(|value| {
            let one = value["endpoints"][0].clone();
            let endpoint = |n: usize| {
                let mut endpoint = one.clone();
                endpoint["path"] = json!(format!("{CALLBACK}/{n}"));
                endpoint["name"] = json!(format!("lock-{n}"));
                endpoint
            };
            value["endpoints"] = (1..=count).map(endpoint).collect();
        });
        let (label, load) = (count.to_string(), Load::to(&format!("{CALLBACK}/{count}")));
        let side = Side::of_filter(&label, bootstrap, upstream, load).await?;
        points.push(Ready { label, side, way: Way::FullLoad { connections: plan.connections } });
    }
    Ok(Axis {
        name: "endpoints",
        what: "endpoints, the last one called",
        why: "the paths are compared one after the other",
        points: in_all_rounds(&points, plan).await?,
    })
}

/// Credentials of an endpoint; callbacks are sealed with the last, the oldest.
pub(super) async fn credentials(plan: &Plan, upstream: u16) -> Result<Axis> {
    let mut points = Vec::new();
    for count in 1..=4 {
        let bootstrap = roomy(Bootstrap::example()?).edit_plugin_value(|value| {
            let last = value["endpoints"][0]["credentials"][0].clone();
            let newer = (1..count).map(|n| {
                let key = Account::rotated().encoding_aes_key().to_owned();
                json!({ "token": format!("newer{n}Token"), "encoding_aes_key": key })
            });
            value["endpoints"][0]["credentials"] = newer.chain([last]).collect();
        });
        let label = count.to_string();
        let side = Side::of_filter(&label, bootstrap, upstream, Load::to(CALLBACK)).await?;
        points.push(Ready { label, side, way: Way::FullLoad { connections: plan.connections } });
    }
    Ok(Axis {
        name: "credentials",
        what: "credentials of the endpoint, the oldest used",
        why: "the signature is computed with each token",
        points: in_all_rounds(&points, plan).await?,
    })
}

/// Connections, each with one callback at a time.
pub(super) async fn connections(plan: &Plan, upstream: u16) -> Result<Axis> {
    let mut points = Vec::new();
    for connections in [1, 8, 64, 512] {
        let label = connections.to_string();
        let side = Side::of_filter(&label, roomy(Bootstrap::example()?), upstream, Load::to(CALLBACK)).await?;
        points.push(Ready { label, side, way: Way::FullLoad { connections } });
    }
    Ok(Axis {
        name: "connections",
        what: "connections, each with a callback on its way",
        why: "the more callbacks arrive at once, the more of them one wake-up serves",
        points: in_all_rounds(&points, plan).await?,
    })
}
