//! The load: as many requests as a server takes, by wrk, or so many a second, by a client of our own,
//! since wrk knows no rate.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::envoy::repository;
use testbed::wecom::{Account, Client, Event, Request, random_id, unix_now};

/// What came of a number of requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// How many.
    pub(crate) requests: f64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
}

/// Binds that nobody has seen yet, signed and encrypted.
pub(crate) fn binds(account: &Account, count: usize) -> Vec<Request> {
    let now = unix_now();
    let run = random_id();
    let bind = |n| Event::bind(&format!("sn-{n}")).req_id(&format!("{run}-{n}")).createtime(now);
    (0..count).map(|n| account.seal(bind(n))).collect()
}

/// Sends requests to a path, each once, over that many connections and for so many seconds, as fast as they
/// are answered.
///
/// # Errors
/// If wrk is missing, if any request is not answered with a 2xx, or if there are too few of them.
pub(crate) fn all_at_once(
    address: std::net::SocketAddr,
    path: &str,
    requests: &[Request],
    (connections, seconds): (usize, u64),
) -> Result<Answered> {
    let folder = tempfile::tempdir()?;
    let (file, script) = (folder.path().join("requests"), folder.path().join("load.lua"));
    let mut bytes = Vec::new();
    for request in requests {
        let body = request.body_bytes();
        let head = format!(
            "POST {path}?{} HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            request.query_text(),
            body.len()
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&body);
        bytes.push(0);
    }
    std::fs::write(&file, bytes)?;
    std::fs::write(&script, include_str!("load.lua"))?;
    let wrk = Command::new(wrk())
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
    ensure!(number("requests")? + (connections as f64) < requests.len() as f64, "too few requests: {line}");
    Ok(Answered { requests: number("requests")?, seconds: number("microseconds")? / 1e6 })
}

fn wrk() -> PathBuf {
    repository().join("target/tools/bin/wrk")
}

/// Sends requests to a URL at a rate, whether they are answered or not, and gives how long each took from
/// when it was due, in milliseconds, sorted.
///
/// # Errors
/// If any is not answered with a 200.
pub(crate) async fn at_a_rate(url: &str, requests: Vec<Request>, a_second: f64) -> Result<Vec<f64>> {
    let (client, runtime) = (Client::http1(), tokio::runtime::Handle::current());
    let took = Arc::new(Mutex::new(Vec::with_capacity(requests.len())));
    let url = url.to_owned();
    // A thread of its own: tokio's timer counts whole milliseconds.
    let sending = std::thread::spawn({
        let took = Arc::clone(&took);
        move || {
            let began = Instant::now();
            let mut tasks = Vec::with_capacity(requests.len());
            for (n, request) in requests.into_iter().enumerate() {
                let due = began + Duration::from_secs_f64(n as f64 / a_second);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let (client, url, took) = (client.clone(), url.clone(), Arc::clone(&took));
                tasks.push(runtime.spawn(async move {
                    let answer = client.send(&url, &request).await?;
                    let ms = due.elapsed().as_secs_f64() * 1000.0;
                    ensure!(answer.status == 200, "answered {}", answer.status);
                    took.lock().map_err(|_| anyhow::anyhow!("a task panicked"))?.push(ms);
                    Ok(())
                }));
            }
            tasks
        }
    });
    let tasks =
        tokio::task::spawn_blocking(move || sending.join()).await?.map_err(|_| anyhow::anyhow!("it panicked"))?;
    for task in tasks {
        task.await??;
    }
    let mut took = std::mem::take(&mut *took.lock().map_err(|_| anyhow::anyhow!("a task panicked"))?);
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// A value that this part of all is below.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * part).round() as usize).copied().unwrap_or(f64::NAN)
}
