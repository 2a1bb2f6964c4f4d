//! The real Envoy, started on free ports with the repository's own `envoy.yaml`, and stopped when its
//! handle is dropped.
//!
//! It is started through func-e where that is installed, as the README tells users to. Everything
//! it writes stays in a folder of its own. Where the programs are:
//!
//! | what | environment | otherwise |
//! |---|---|---|
//! | Envoy | `ENVOY` | `target/tools/bin/envoy` |
//! | func-e | `FUNC_E` | `target/tools/bin/func-e` |

mod bootstrap;
mod process;
mod program;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::bootstrap::START_LIMIT;
pub use self::bootstrap::{Bootstrap, Launcher, dynamic_filter, for_this_envoy};
use self::process::{POLL, Process, STOP_LIMIT, TAIL_LINES};
pub use self::program::{func_e_is_there, version};
use crate::waiting::until_some;
use crate::wecom::{Answer, Client};

/// A running Envoy. It is stopped when dropped; if a test panicked, the end of its log is printed.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
    client: Client,
}

impl Envoy {
    /// Starts Envoy and waits until it serves.
    ///
    /// # Errors
    /// If a program is missing, as [`crate::module::check`], or if Envoy ends or is not ready within 20 s, or what
    /// [`Bootstrap::start_limit`] says.
    pub async fn start(bootstrap: Bootstrap) -> Result<Self> {
        let limit = bootstrap.start_limit;
        let mut process = Process::spawn(bootstrap)?;
        let client = Client::http1();
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = process.child.try_wait()? {
                bail!("Envoy exited at once ({status}):\n{}", process.tail(TAIL_LINES));
            }
            if let Some(admin) = process.admin_address()
                && client.get(&format!("http://{admin}/ready")).await.is_ok_and(|ready| ready.status == 200)
            {
                let listeners = listeners(&client, admin).await?;
                return Ok(Self { process, admin, listeners, client });
            }
            ensure!(Instant::now() < deadline, "Envoy was not ready in time:\n{}", process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts an Envoy that must refuse its configuration, and returns its log.
    ///
    /// # Errors
    /// If it does not exit by itself, exits with success, or cannot be started at all.
    pub async fn start_expecting_failure(bootstrap: Bootstrap) -> Result<String> {
        let mut process = Process::spawn(bootstrap)?;
        let client = Client::http1();
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = process.child.try_wait()? {
                ensure!(!status.success(), "Envoy exited with success:\n{}", process.tail(TAIL_LINES));
                return Ok(process.log());
            }
            if let Some(admin) = process.admin_address()
                && client.get(&format!("http://{admin}/ready")).await.is_ok_and(|ready| ready.status == 200)
            {
                bail!("Envoy accepted the configuration:\n{}", process.tail(TAIL_LINES));
            }
            ensure!(Instant::now() < deadline, "Envoy neither exited nor became ready:\n{}", process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Has Envoy check its configuration with `--mode validate`, and returns its exit status and output.
    ///
    /// # Errors
    /// If it does not exit within 20 s, or cannot be started at all.
    pub async fn validate(bootstrap: Bootstrap) -> Result<(ExitStatus, String)> {
        let bootstrap = bootstrap.argument("--mode").argument("validate").launcher(Launcher::Direct);
        let mut process = Process::spawn(bootstrap)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = process.child.try_wait()? {
                return Ok((status, process.log()));
            }
            ensure!(Instant::now() < deadline, "Envoy did not exit:\n{}", process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }

    /// The URL of a path on the first listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        self.listener("edge").or_else(|| self.listeners.values().next().copied()).unwrap_or(self.admin)
    }

    /// The address of the listener of that name.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// The admin interface's address.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Reads from the admin interface.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn admin(&self, path: &str) -> Result<Answer> {
        self.client.get(&format!("http://{}{path}", self.admin)).await
    }

    /// Sends a POST to the admin interface.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn admin_post(&self, path: &str) -> Result<Answer> {
        self.client.post(&format!("http://{}{path}", self.admin), "").await
    }

    /// All counters and gauges.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.admin("/stats").await?.text();
        let numbers = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(numbers.collect())
    }

    /// One counter or gauge, by its full name.
    pub async fn stat(&self, name: &str) -> Option<u64> {
        self.stats().await.ok()?.get(name).copied()
    }

    /// The metrics as Prometheus reads them.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn prometheus(&self) -> Result<String> {
        Ok(self.admin("/stats/prometheus").await?.text())
    }

    /// Everything it has logged so far, without the access log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log contains that text.
    ///
    /// # Errors
    /// As [`until_some`].
    pub async fn wait_for_log(&self, text: &str) -> Result<()> {
        let found = until_some("the log contained a text", || self.log().contains(text).then_some(())).await;
        found.with_context(|| format!("not in the log: {text}\n{}", self.process.tail(TAIL_LINES)))
    }

    /// The access log's lines so far. A line may come a little later than its answer.
    pub fn access_log(&self) -> Vec<Value> {
        self.process.access_log()
    }

    /// Waits for an access log line.
    ///
    /// # Errors
    /// As [`until_some`].
    pub async fn access_log_line(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let look = || self.access_log().into_iter().find(|line| wanted(line));
        let found = until_some("the access log had a line", look).await;
        found.with_context(|| format!("no such line in the access log: {:?}", self.access_log()))
    }

    /// Everything that happened though it never should: panics, calls that the list of capabilities
    /// does not allow, restarts of a virtual machine.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn troubles(&self) -> Result<Vec<String>> {
        const NEVER: [&str; 3] = ["panicked", "restricted", "Function: proxy_"];
        let log = self.log();
        let lines = log.lines().filter(|line| NEVER.iter().any(|word| line.contains(word))).map(str::to_owned);
        let reloads = self.stats().await?.into_iter().filter(|(name, count)| name.contains("vm_reload") && *count > 0);
        Ok(lines.chain(reloads.map(|(name, count)| format!("{name}: {count}"))).collect())
    }

    /// Asserts that there were no [`Envoy::troubles`].
    ///
    /// # Panics
    /// If there were any.
    pub async fn assert_clean(&self) {
        let troubles = self.troubles().await.expect("the admin interface answers");
        assert!(troubles.is_empty(), "Envoy is in trouble:\n{}", troubles.join("\n"));
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.process.folder.path()
    }

    /// The process that was started: Envoy itself with [`Launcher::Direct`], otherwise its parent func-e.
    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// Kills it, with everything that is in progress, and waits until its processes are gone.
    ///
    /// # Errors
    /// If they do not go.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill();
        ensure!(self.process.gone_within(STOP_LIMIT), "Envoy did not exit after SIGKILL");
        Ok(())
    }

    /// Terminates it and waits until its processes are gone.
    ///
    /// # Errors
    /// If it had to be killed.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.process.terminate();
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.process.child.try_wait()?
                && !self.process.group_lives()
            {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "Envoy did not exit after SIGTERM:\n{}", self.process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn listeners(client: &Client, admin: SocketAddr) -> Result<BTreeMap<String, SocketAddr>> {
    let answer = client.get(&format!("http://{admin}/listeners?format=json")).await?.json()?;
    let statuses = answer["listener_statuses"].as_array().cloned().unwrap_or_default();
    let named = statuses.iter().filter_map(|status| {
        let port = status.pointer("/local_address/socket_address/port_value")?.as_u64()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
        Some((status["name"].as_str()?.to_owned(), address))
    });
    Ok(named.collect())
}
