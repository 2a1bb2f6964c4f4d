//! What a run came to: as a table, as JSON, as pictures, and in the documentation's page.

mod charts;
mod page;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::growth::Axis;
use crate::load::{median, quantile};
use crate::measure::Measured;
use crate::memory::TwoWorkers;
use crate::plan::Plan;
use crate::sides::Side;
use crate::sides::vendors::Vendor;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    seconds: u64,
    connections: usize,
    sides: Vec<Row>,
    left_out: Vec<LeftOut>,
    /// What this filter adds to bare Envoy's p99 at the same rate, in milliseconds.
    p99_added_ms: Option<f64>,
    two_workers: Option<TwoWorkers>,
    /// How the cost grows.
    pub(crate) growth: Vec<Axis>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    versions: Vec<String>,
}

/// One side.
#[derive(Debug, Serialize)]
struct Row {
    side: String,
    what: String,
    /// Of a callback, in each round, sorted.
    cpu_us: Vec<f64>,
    /// The part of Envoy, the median.
    envoy_us: f64,
    times_bare: Option<f64>,
    times_noop: Option<f64>,
    a_second: f64,
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    client_late_p99_ms: f64,
    resident_mib: f64,
}

impl Row {
    fn cpu_us(&self) -> f64 {
        quantile(&self.cpu_us, 0.5)
    }
}

/// A side that this machine cannot measure.
#[derive(Debug, Serialize)]
pub(crate) struct LeftOut {
    /// Its name.
    pub(crate) side: String,
    /// Why.
    pub(crate) reason: String,
}

impl Report {
    /// Puts together what was measured, without what grows.
    ///
    /// # Errors
    /// If the machine does not tell what it is.
    pub(crate) fn new(
        plan: &Plan,
        (sides, measured, left_out): (&[Side], &BTreeMap<String, Measured>, Vec<LeftOut>),
        two_workers: Option<TwoWorkers>,
    ) -> Result<Self> {
        let rows = sides.iter().filter_map(|side| Some(row(side, measured.get(&side.name)?, measured)));
        let added = |bare: &Measured, filter: &Measured| {
            median(filter.latencies.iter().zip(&bare.latencies).map(|(filter, bare)| filter.p99_ms - bare.p99_ms))
        };
        Ok(Self {
            machine: Machine::this()?,
            rounds: plan.rounds,
            seconds: plan.seconds,
            connections: plan.connections,
            sides: rows.collect(),
            left_out,
            p99_added_ms: measured.get("bare").zip(measured.get("filter")).map(|(bare, filter)| added(bare, filter)),
            two_workers,
            growth: Vec::new(),
        })
    }

    /// Prints it, and writes the files that were asked for.
    ///
    /// # Errors
    /// If one cannot be written.
    pub(crate) fn publish(&self, plan: &Plan) -> Result<()> {
        println!("{}\n", self.machine.text());
        if !self.sides.is_empty() {
            println!("{}\n", table::of_sides(self));
        }
        if !self.growth.is_empty() {
            println!("{}", table::of_growth(self));
        }
        if let Some(file) = &plan.json {
            fs::write(file, serde_json::to_vec_pretty(self)?).with_context(|| file.display().to_string())?;
        }
        if let Some(folder) = &plan.write {
            page::write(self, folder)?;
        }
        Ok(())
    }
}

fn row(side: &Side, one: &Measured, all: &BTreeMap<String, Measured>) -> Row {
    let mut cpu_us: Vec<_> = one.rounds.iter().map(|round| round.cpu_us).collect();
    cpu_us.sort_by(f64::total_cmp);
    // Round by round, as what one side has next to it in time is what disturbs the other as well.
    let times = |of: &str| {
        let other = all.get(of)?;
        Some(median(one.rounds.iter().zip(&other.rounds).map(|(one, other)| one.cpu_us / other.cpu_us)))
    };
    Row {
        side: side.name.clone(),
        what: side.what.clone(),
        cpu_us,
        envoy_us: one.median(|round| round.envoy_us),
        times_bare: times("bare"),
        times_noop: times("noop"),
        a_second: one.median(|round| round.a_second),
        rate: one.rate,
        p50_ms: one.median_ms(|latency| latency.p50_ms),
        p99_ms: one.median_ms(|latency| latency.p99_ms),
        client_late_p99_ms: one.median_ms(|latency| latency.late_p99_ms),
        resident_mib: one.resident_mib,
    }
}

impl Machine {
    fn this() -> Result<Self> {
        let read = |file: &str| fs::read_to_string(file).with_context(|| file.to_owned());
        let after = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
        };
        let (cpus, memory) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
        let kib = after(&memory, "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        let vendors = [Vendor::Node, Vendor::Python, Vendor::Go];
        Ok(Self {
            processor: after(&cpus, "model name"),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: {
                let release = read("/proc/sys/kernel/osrelease")?;
                release.split(['-', '\n']).next().unwrap_or_default().to_owned() // what follows is its builder's name
            },
            versions: envoy().into_iter().chain(vendors.into_iter().filter_map(Vendor::version)).collect(),
        })
    }

    fn text(&self) -> String {
        let Self { processor, cores, memory_gib, kernel, versions } = self;
        format!("{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}. {}.", versions.join(", "))
    }
}

/// Envoy's version, as it tells it itself: commit, version and more, with slashes between them.
fn envoy() -> Option<String> {
    let program = std::env::var_os("ENVOY").map_or_else(|| "envoy".into(), std::path::PathBuf::from);
    let said = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    Some(format!("Envoy {}", said.split_once("version: ")?.1.split('/').nth(1)?))
}
