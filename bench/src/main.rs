//! What a callback costs: bare Envoy, a filter that does nothing, this filter, and what a vendor runs
//! instead, all measured in one run, in turns; and how the cost grows.
//!
//! `make bench` runs it; [`plan::Plan`] says what can be chosen. The servers that are measured have one
//! core, and the load and the upstream another. What counts is the processor's time that the kernel books on
//! the servers' processes, divided by the requests: on a machine that does other things as well, it varies
//! far less than the time on the clock.

mod growth;
mod load;
mod measure;
mod memory;
mod plan;
mod process;
mod report;
mod sides;

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use self::plan::Plan;
use self::process::pin;
use self::report::{LeftOut, Report};
use self::sides::{OTHERS, Side};

#[tokio::main]
async fn main() -> Result<()> {
    // Ctrl-C ends wrk too; what was started then ends with its handles.
    tokio::select! {
        done = run() => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn run() -> Result<()> {
    let plan = Plan::read()?;
    ensure!(std::thread::available_parallelism()?.get() > OTHERS, "needs two cores: one for what is measured");
    pin(std::process::id(), OTHERS)?;
    let upstream = sides::envoys::upstream(0).await?;
    let (mut sides, mut left_out) = (Vec::new(), Vec::new());
    for name in &plan.sides {
        match Side::start(name, upstream.address()).await? {
            Ok(side) => sides.push(side),
            Err(reason) => {
                eprintln!("####################\n# {name} NOT MEASURED: {reason}\n####################");
                left_out.push(LeftOut { side: name.clone(), reason });
            }
        }
    }
    let (mut measured, mut two_workers) = (BTreeMap::new(), None);
    if !sides.is_empty() {
        measured = measure::all(&sides, &plan).await?;
        two_workers = Some(memory::of_two_workers(upstream.address().port()).await?);
    }
    let mut report = Report::new(&plan, (&sides, &measured, left_out), two_workers)?;
    drop(sides); // they are not to disturb what comes
    if plan.growth {
        report.growth = growth::all(&plan, upstream.address().port()).await?;
    }
    report.publish(&plan)
}
