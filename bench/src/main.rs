//! What a callback costs: bare Envoy, a filter that does nothing, and this filter, all measured in one run, in
//! turns.
//!
//! `make bench` runs it. The servers that are measured have one core, and the load and the upstream
//! another. What counts is the processor's time that the kernel books on the servers' processes, divided by
//! the requests: on a machine that does other things as well, it varies far less than the time on the clock.

mod load;
mod process;
mod side;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use testbed::wecom::Account;

use self::process::{cpu_us, pin, resident_mib};
use self::side::{NAMES, OTHERS, Side};

/// What one side came to in one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    cpu_us: f64,
    a_second: f64,
}

/// How much is done.
struct Plan {
    sides: Vec<String>,
    rounds: usize,
    seconds: u64,
    connections: usize,
}

impl Plan {
    /// `BENCH=quick` does less; `BENCH_SIDES`, `BENCH_ROUNDS`, `BENCH_SECONDS` and `BENCH_CONNECTIONS` say
    /// it one by one; `BENCH_MODULE` adds other builds of the filter, by their files.
    fn read() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str, default: usize| match variable(name) {
            Some(text) => text.parse().with_context(|| format!("{name}={text}")),
            None => Ok(default),
        };
        let quick = variable("BENCH").is_some_and(|form| form == "quick");
        let list = |name: &str| variable(name).map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let mut sides = list("BENCH_SIDES").unwrap_or_else(|| NAMES.map(str::to_owned).to_vec());
        if let Some(name) = sides.iter().find(|name| !NAMES.contains(&name.as_str())) {
            bail!("BENCH_SIDES: there is no '{name}' among {}", NAMES.join(", "));
        }
        sides.extend(list("BENCH_MODULE").unwrap_or_default());
        Ok(Self {
            sides,
            rounds: number("BENCH_ROUNDS", if quick { 3 } else { 9 })?,
            seconds: number("BENCH_SECONDS", if quick { 1 } else { 2 })? as u64,
            connections: number("BENCH_CONNECTIONS", 32)?,
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let plan = Plan::read()?;
    ensure!(std::thread::available_parallelism()?.get() > OTHERS, "needs two cores: one for what is measured");
    pin(std::process::id(), OTHERS)?;
    let upstream = side::upstream().await?;
    let mut sides = Vec::new();
    for name in &plan.sides {
        sides.push(Side::start(name, upstream.address()).await?);
    }
    let account = Account::demo();
    eprintln!("warming up");
    let mut taken = BTreeMap::new();
    for side in &sides {
        taken.insert(side.name.as_str(), round(side, &account, &plan, ENOUGH)?.a_second);
    }
    let mut rounds: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
    for number in 0..plan.rounds {
        eprintln!("round {} of {}", number + 1, plan.rounds);
        // In turns, and each round from another one on.
        for at in 0..sides.len() {
            let side = &sides[(at + number) % sides.len()];
            let most = taken.entry(side.name.as_str()).or_default();
            let round = round(side, &account, &plan, most.max(1000.0))?;
            *most = most.max(round.a_second);
            rounds.entry(side.name.as_str()).or_default().push(round);
        }
    }
    let median_of = |name: &str, of: fn(&Round) -> f64| rounds.get(name).map(|all| median(all.iter().map(of)));

    // Half of what this filter takes, for all: what a side adds is then comparable.
    let half = median_of("filter", |round| round.a_second).or_else(|| median_of(&sides[0].name, |r| r.a_second));
    let half = half.unwrap_or(1000.0) / 2.0;
    let mut took = BTreeMap::new();
    for side in &sides {
        let requests = load::binds(&account, (half * 2.0 * plan.seconds as f64) as usize);
        took.insert(&side.name, load::at_a_rate(&side.url(), requests, half).await?);
    }

    println!(
        "{} rounds of {} s for each side, in turns, over {} connections; the servers on one core.\n\
         CPU: medians, in brackets the middle half of the rounds; its ratios are medians of each round's. Latency at {half:.0} requests a second.\n",
        plan.rounds, plan.seconds, plan.connections
    );
    println!("| side | CPU for a request | × bare | × no-op | a second | p50 | p99 | memory |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut written = Vec::new();
    for side in &sides {
        let all = &rounds[side.name.as_str()];
        let mut cpu: Vec<_> = all.iter().map(|round| round.cpu_us).collect();
        cpu.sort_by(f64::total_cmp);
        let (low, middle, high) = (load::quantile(&cpu, 0.25), load::quantile(&cpu, 0.5), load::quantile(&cpu, 0.75));
        // Round by round, as what one side has next to it in time is what disturbs the other as well.
        let times = |of: &str| match rounds.get(of) {
            Some(others) => {
                format!("{:.2}", median(all.iter().zip(others).map(|(one, other)| one.cpu_us / other.cpu_us)))
            }
            None => "–".to_owned(),
        };
        let ms = |part| took.get(&side.name).map(|took| load::quantile(took, part));
        let shown = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.2} ms"));
        let (a_second, memory) = (median(all.iter().map(|r| r.a_second)), resident_mib(&side.processes)?);
        println!(
            "| {} | {middle:.1} µs ({low:.1}–{high:.1}) | {} | {} | {a_second:.0} | {} | {} | {memory:.0} MiB |",
            side.what,
            times("bare"),
            times("noop"),
            shown(ms(0.5)),
            shown(ms(0.99)),
        );
        written.push(json!({
            "side": side.name, "what": side.what, "cpu_us": cpu, "requests_a_second": a_second,
            "p50_ms": ms(0.5), "p99_ms": ms(0.99), "resident_mib": memory,
        }));
    }
    if let Ok(file) = std::env::var("BENCH_JSON") {
        std::fs::write(&file, serde_json::to_vec_pretty(&json!({ "sides": written }))?).context(file)?;
    }
    Ok(())
}

/// No side takes as many in a second, the first time.
const ENOUGH: f64 = 25_000.0;

/// One round of one side, which has taken so many requests a second before.
fn round(side: &Side, account: &Account, plan: &Plan, before: f64) -> Result<Round> {
    let requests = load::binds(account, (before * 2.0 * plan.seconds as f64) as usize);
    let cpu_before = cpu_us(&side.processes)?;
    let answered = load::all_at_once(side.address(), side.path, &requests, (plan.connections, plan.seconds))
        .with_context(|| format!("the side '{}'", side.name))?;
    let cpu_us = (cpu_us(&side.processes)? - cpu_before) / answered.requests;
    Ok(Round { cpu_us, a_second: answered.requests / answered.seconds })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    load::quantile(&values, 0.5)
}
