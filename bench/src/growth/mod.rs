//! How the cost of a callback grows with what there is of something: bodies, records, endpoints,
//! credentials, connections, waiting streams.

mod axes;
mod paused;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::load::median;
use crate::measure::{self, in_turns};
use crate::plan::Plan;
use crate::sides::Side;

/// Something that grows, and what a callback then costs.
#[derive(Debug, Serialize)]
pub(crate) struct Axis {
    /// Its name, for `BENCH_AXES`.
    pub(crate) name: &'static str,
    /// What it is, in words.
    pub(crate) what: &'static str,
    /// Why it costs what it costs, in a sentence.
    pub(crate) why: &'static str,
    /// From the least to the most.
    pub(crate) points: Vec<Point>,
}

/// One size of it.
#[derive(Debug, Serialize)]
pub(crate) struct Point {
    /// The size, in words.
    pub(crate) label: String,
    /// What a callback cost in each round, in microseconds.
    pub(crate) cpu_us: Vec<f64>,
    /// That by the first point's of the same round, the median.
    pub(crate) ratio: f64,
}

impl Point {
    /// The median over the rounds, in microseconds.
    pub(crate) fn median_us(&self) -> f64 {
        median(self.cpu_us.iter().copied())
    }
}

/// How a point is measured.
enum Way {
    /// As fast as it takes them, over so many connections.
    FullLoad { connections: usize },
    /// So many a second.
    Rate { a_second: f64 },
}

/// A point that is ready: the filter runs.
struct Ready {
    label: String,
    side: Side,
    way: Way,
}

/// The names of all that can be measured.
pub(crate) const NAMES: [&str; 6] = ["body", "records", "endpoints", "credentials", "connections", "paused"];

/// Measures them, one after the other.
///
/// # Errors
/// If anything fails.
pub(crate) async fn all(plan: &Plan, upstream: u16) -> Result<Vec<Axis>> {
    let wanted = plan.axes.clone().unwrap_or_else(|| NAMES.map(str::to_owned).to_vec());
    if let Some(name) = wanted.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("BENCH_AXES: there is no '{name}' among {}", NAMES.join(", "));
    }
    let mut all = Vec::new();
    for name in NAMES.into_iter().filter(|name| wanted.iter().any(|wanted| wanted == name)) {
        eprintln!("growth: {name}");
        let axis = match name {
            "body" => axes::body(plan, upstream).await,
            "records" => axes::records(plan, upstream).await,
            "endpoints" => axes::endpoints(plan, upstream).await,
            "credentials" => axes::credentials(plan, upstream).await,
            "connections" => axes::connections(plan, upstream).await,
            _ => paused::axis(plan).await,
        };
        all.push(axis.with_context(|| format!("growth of {name}"))?);
    }
    Ok(all)
}

/// Measures points in turns.
async fn in_all_rounds(points: &[Ready], plan: &Plan) -> Result<Vec<Point>> {
    // Of each point: what takes ten times as long needs a tenth of the requests, and wrk has 1 GiB for them.
    let mut most = vec![0.0; points.len()];
    let mut cpu_us = vec![Vec::new(); points.len()];
    for (ready, most) in points.iter().zip(&mut most) {
        if let Way::FullLoad { connections } = ready.way {
            let first = measure::ENOUGH / (2.0 + ready.side.load.body_bytes as f64 / 10_000.0);
            let round = measure::full_load(&ready.side, connections, 1, first).await;
            *most = round.with_context(|| ready.label.clone())?.a_second * 1.5;
        }
    }
    let numbered: Vec<_> = points.iter().enumerate().collect();
    for (round, (number, ready)) in in_turns(&numbered, plan.rounds, "growth") {
        let cost = match ready.way {
            Way::FullLoad { connections } => {
                let most = &mut most[*number];
                let round = measure::full_load(&ready.side, connections, plan.seconds, *most).await;
                round.map(|round| {
                    *most = most.max(round.a_second * 1.5);
                    round.cpu_us
                })
            }
            Way::Rate { a_second } => {
                measure::at_a_rate(&ready.side, a_second, plan.seconds).await.map(|latency| latency.cpu_us)
            }
        };
        cpu_us[*number].push(cost.with_context(|| format!("{}, round {round}", ready.label))?);
    }
    Ok(ratios(points.iter().map(|ready| ready.label.clone()).zip(cpu_us).collect()))
}

/// Puts what points cost in each round beside the first one's.
fn ratios(points: Vec<(String, Vec<f64>)>) -> Vec<Point> {
    let first = points.first().map(|(_, cpu_us)| cpu_us.clone()).unwrap_or_default();
    let point = |(label, cpu_us): (String, Vec<f64>)| {
        let ratio = median(cpu_us.iter().zip(&first).map(|(one, first)| one / first));
        Point { label, cpu_us, ratio }
    };
    points.into_iter().map(point).collect()
}
