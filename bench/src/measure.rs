//! The sides, measured in turns: what a callback costs as fast as they take them, and how long it takes at
//! half of that.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::load::{capacity, median, quantile, rate};
use crate::plan::Plan;
use crate::sides::Side;

/// One round of one side, at full load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// The processor's time for a callback, in all processes of the side, in microseconds.
    pub(crate) cpu_us: f64,
    /// The part of it in Envoy.
    pub(crate) envoy_us: f64,
    /// How many were answered in a second.
    pub(crate) a_second: f64,
}

/// One round of one side, at a rate, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    /// The middle.
    pub(crate) p50_ms: f64,
    /// What 99 of 100 are below.
    pub(crate) p99_ms: f64,
    /// How much too late, by the client's own doing, 99 of 100 requests were written at most.
    pub(crate) late_p99_ms: f64,
    /// The processor's time for a callback, in microseconds.
    pub(crate) cpu_us: f64,
}

/// All rounds of one side.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// At full load.
    pub(crate) rounds: Vec<Round>,
    /// At [`Measured::rate`].
    pub(crate) latencies: Vec<Latency>,
    /// The requests a second of the latencies.
    pub(crate) rate: f64,
    /// The memory of all its processes after the warm-up, in MiB.
    pub(crate) resident_mib: f64,
}

impl Measured {
    /// The median of a figure over the rounds at full load.
    pub(crate) fn median(&self, of: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    /// The median of a figure over the rounds at a rate.
    pub(crate) fn median_ms(&self, of: fn(&Latency) -> f64) -> f64 {
        median(self.latencies.iter().map(of))
    }
}

/// So many in a second are made ready for a side the first time.
pub(crate) const ENOUGH: f64 = 12_000.0;
/// So many times the requests of the fastest second so far are made ready for the next.
const SPARE: f64 = 2.0;

/// Measures all sides, and gives what they came to by name.
///
/// # Errors
/// If one of them fails, or answers anything but success.
pub(crate) async fn all(sides: &[Side], plan: &Plan) -> Result<BTreeMap<String, Measured>> {
    let mut measured: BTreeMap<String, Measured> = BTreeMap::new();
    let mut most = BTreeMap::new();
    eprintln!("warming up");
    for side in sides {
        most.insert(side.name.as_str(), full_load(side, plan.connections, 1, ENOUGH).await?.a_second);
        measured.entry(side.name.clone()).or_default().resident_mib = side.resident_mib()?;
    }
    for (number, side) in in_turns(sides, plan.rounds, "full load") {
        let most = most.entry(side.name.as_str()).or_default();
        let round = full_load(side, plan.connections, plan.seconds, *most * SPARE).await;
        let round = round.with_context(|| format!("the side '{}', round {number}", side.name))?;
        *most = most.max(round.a_second);
        measured.entry(side.name.clone()).or_default().rounds.push(round);
    }

    // Half of what this filter takes, for all: what a side adds is then comparable. A side that takes less
    // has half of its own.
    let half = |name: &str| measured.get(name).map(|side| side.median(|round| round.a_second) / 2.0);
    let common = half("filter").unwrap_or(f64::INFINITY);
    let rates: BTreeMap<_, _> =
        sides.iter().map(|side| (side.name.as_str(), half(&side.name).unwrap_or(common).min(common))).collect();
    for (name, rate) in &rates {
        measured.entry((*name).to_owned()).or_default().rate = *rate;
    }
    for (number, side) in in_turns(sides, plan.rounds, "half load") {
        let latency = at_a_rate(side, rates[side.name.as_str()], plan.seconds).await;
        let latency = latency.with_context(|| format!("the side '{}', round {number}", side.name))?;
        measured.entry(side.name.clone()).or_default().latencies.push(latency);
    }
    for side in sides {
        side.check().await.with_context(|| format!("the side '{}' in the end", side.name))?;
    }
    Ok(measured)
}

/// Every one in each round, and each round from another one on.
pub(crate) fn in_turns<'a, T>(all: &'a [T], rounds: usize, what: &str) -> impl Iterator<Item = (usize, &'a T)> {
    let what = what.to_owned();
    (0..rounds).flat_map(move |round| {
        eprintln!("{what}: round {} of {rounds}", round + 1);
        (0..all.len()).map(move |at| (round + 1, &all[(at + round) % all.len()]))
    })
}

/// One round at full load, of a side that is thought to take no more than so many in a second.
///
/// # Errors
/// If any request failed. To the filter, a bind that is not bound has failed too.
pub(crate) async fn full_load(side: &Side, connections: usize, seconds: u64, at_most: f64) -> Result<Round> {
    let mut count = (at_most.max(1000.0) * seconds as f64) as usize + connections + 1;
    let (answered, bound, before, after) = loop {
        let requests = side.load.requests(count);
        let (bound, before) = (side.bound().await?, side.cpu_us()?);
        match capacity::send(side.address(), &requests, connections, seconds)? {
            Some(answered) => break (answered, bound, before, side.cpu_us()?),
            None => count *= 2,
        }
    };
    if let (Some(before), Some(after)) = (bound, side.bound().await?) {
        let bound = after - before;
        ensure!(bound as f64 >= answered.requests, "of {} answers only {bound} bound a device", answered.requests);
    }
    let (envoy, others) = (after.0 - before.0, after.1 - before.1);
    Ok(Round {
        cpu_us: (envoy + others) / answered.requests,
        envoy_us: envoy / answered.requests,
        a_second: answered.requests / answered.seconds,
    })
}

/// One round at a rate.
///
/// # Errors
/// As [`full_load`], or if the side does not take that many.
pub(crate) async fn at_a_rate(side: &Side, a_second: f64, seconds: u64) -> Result<Latency> {
    let requests = side.load.requests((a_second * seconds as f64) as usize);
    let count = requests.len() as u64;
    let (address, bound, before) = (side.address(), side.bound().await?, side.cpu_us()?);
    let send = move || rate::send(address, &requests, rate::Pace::of(a_second), &rate::Progress::default());
    let took = tokio::task::spawn_blocking(send).await??;
    let after = side.cpu_us()?;
    if let (Some(before), Some(after)) = (bound, side.bound().await?) {
        ensure!(after - before == count, "of {count} answers {} bound a device", after - before);
    }
    Ok(Latency {
        p50_ms: quantile(&took.latency_ms, 0.5),
        p99_ms: quantile(&took.latency_ms, 0.99),
        late_p99_ms: quantile(&took.late_ms, 0.99),
        cpu_us: (after.0 - before.0 + after.1 - before.1) / count as f64,
    })
}
