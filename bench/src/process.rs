//! What the kernel says of processes: the processor's time that they took, and their memory.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The processor's time that these processes have taken so far, in microseconds.
///
/// # Errors
/// If one of them is gone.
pub(crate) fn cpu_us(processes: &[u32]) -> Result<f64> {
    let mut nanoseconds = 0;
    for process in processes {
        for task in fs::read_dir(format!("/proc/{process}/task")).context("a server has ended")? {
            // Its first number; a thread that ended meanwhile took no time worth counting.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(nanoseconds as f64 / 1000.0)
}

/// The memory of these processes that is in RAM, in MiB.
///
/// # Errors
/// If one of them is gone.
pub(crate) fn resident_mib(processes: &[u32]) -> Result<f64> {
    let mut kib = 0;
    for process in processes {
        let status = fs::read_to_string(format!("/proc/{process}/status")).context("a server has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        kib += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(kib as f64 / 1024.0)
}

/// A process, and all that descend from it.
///
/// # Errors
/// If it is gone.
pub(crate) fn tree(process: u32) -> Result<Vec<u32>> {
    let (mut found, mut next) = (vec![process], 0);
    while let Some(parent) = found.get(next) {
        for task in fs::read_dir(format!("/proc/{parent}/task")).context("a server has ended")? {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    Ok(found)
}

/// Has all threads of a process run on that core alone.
///
/// # Errors
/// If taskset is missing, or refuses.
pub(crate) fn pin(process: u32, core: usize) -> Result<()> {
    let said = Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &process.to_string()]).output();
    let said = said.context("taskset, of util-linux")?;
    ensure!(said.status.success(), "taskset: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}
