//! As many requests as a server takes, by wrk.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::files::repository;

/// What came of a number of requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// How many.
    pub(crate) requests: f64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
}

/// Sends requests, each once, over that many connections and for so many seconds, as fast as they are
/// answered. If they do not last for so long, nothing comes of it.
///
/// # Errors
/// If wrk is missing, or if any request is not answered with a 2xx.
pub(crate) fn send(
    address: SocketAddr,
    requests: &[Vec<u8>],
    connections: usize,
    seconds: u64,
) -> Result<Option<Answered>> {
    let folder = tempfile::tempdir()?;
    let (file, script) = (folder.path().join("requests"), folder.path().join("wrk.lua"));
    std::fs::write(&file, requests.iter().flat_map(|request| [request.as_slice(), &[0]]).collect::<Vec<_>>().concat())?;
    std::fs::write(&script, include_str!("wrk.lua"))?;
    let wrk = Command::new(repository().join("target/tools/bin/wrk"))
        .args(["--threads", "1", "--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--timeout", "10s"])
        .arg("--script")
        .arg(&script)
        .arg(format!("http://{address}"))
        .arg("--")
        .arg(&file)
        .output()
        .context("wrk: `make setup-wrk` installs it")?;
    let said = String::from_utf8_lossy(&wrk.stderr);
    let line = said.lines().last().unwrap_or_default();
    let told: Value = serde_json::from_str(line).with_context(|| format!("wrk said: {said}"))?;
    let number = |name: &str| told[name].as_f64().with_context(|| format!("wrk told no {name}"));
    ensure!(number("failed")? == 0.0, "requests failed: {line}");
    let answered = Answered { requests: number("requests")?, seconds: number("microseconds")? / 1e6 };
    // wrk sends the last one again and again, which no filter takes for a new callback.
    Ok((answered.requests + (connections as f64) < requests.len() as f64).then_some(answered))
}
