//! The process of an Envoy: started with its files in a folder of its own, read, and ended.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use super::bootstrap::{Bootstrap, Launcher, for_this_envoy, place_module};
use super::program::program;
use crate::files::repository;

pub(super) const STOP_LIMIT: Duration = Duration::from_secs(5);
pub(super) const POLL: Duration = Duration::from_millis(20);
pub(super) const TAIL_LINES: usize = 40;

const ADMIN_ADDRESS: &str = "admin-address.txt";
const STDOUT: &str = "stdout.log";
const STDERR: &str = "stderr.log";

/// The process of Envoy, or of func-e with Envoy as its child, and its files.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    group: Pid,
    pub(super) folder: TempDir,
}

impl Process {
    pub(super) fn spawn(mut bootstrap: Bootstrap) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("testbed-envoy-").tempdir()?;
        place_module(&mut bootstrap)?;
        let config = match &bootstrap.text {
            Some(text) => {
                let config = folder.path().join("envoy.yaml");
                fs::write(&config, text)?;
                config
            }
            None => {
                for_this_envoy(&mut bootstrap.config)?;
                let config = folder.path().join("envoy.json");
                fs::write(&config, serde_json::to_vec_pretty(&bootstrap.config)?)?;
                config
            }
        };

        let envoy = program("ENVOY", "envoy")?;
        let func_e = match bootstrap.launcher {
            Launcher::Direct => None,
            Launcher::FuncE => Some(program("FUNC_E", "func-e")?),
            Launcher::FuncEIfThere => program("FUNC_E", "func-e").ok(),
        };
        let mut command = match func_e {
            Some(func_e) => {
                let mut command = Command::new(func_e);
                command.arg("run").env("ENVOY_PATH", envoy).env("FUNC_E_RUN_ID", "testbed").env_remove("FUNC_E_HOME");
                for part in ["CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR"] {
                    command.env(format!("FUNC_E_{part}"), folder.path().join("func-e").join(part.to_lowercase()));
                }
                command
            }
            None => Command::new(envoy),
        };
        if bootstrap.text.is_some() {
            command.current_dir(repository());
        }
        command
            .arg("-c")
            .arg(&config)
            .args(["--concurrency", &bootstrap.concurrency.to_string()])
            .args(["--log-level", &bootstrap.log_level, "--component-log-level", &bootstrap.component_log_level])
            // Several Envoys may run at the same time, so none may use the shared memory of hot restart.
            .arg("--disable-hot-restart")
            // Tests wait for access log lines, which Envoy buffers for up to 10 s by default.
            .args(["--file-flush-interval-msec", "20"])
            .arg("--admin-address-path")
            .arg(folder.path().join(ADMIN_ADDRESS))
            .args(&bootstrap.arguments)
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join(STDOUT))?)
            .stderr(File::create(folder.path().join(STDERR))?)
            // Its own process group, which can be signalled as a whole.
            .process_group(0);
        for (name, value) in &bootstrap.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        Ok(Self { child, group, folder })
    }

    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.folder.path().join(ADMIN_ADDRESS)).ok()?.trim().parse().ok()
    }

    pub(super) fn log(&self) -> String {
        let stdout = self.read(STDOUT);
        let mut log: String = stdout.lines().filter(|line| !line.starts_with('{')).flat_map(|l| [l, "\n"]).collect();
        log.push_str(&self.read(STDERR));
        log
    }

    pub(super) fn access_log(&self) -> Vec<Value> {
        self.read(STDOUT).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(super) fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn read(&self, name: &str) -> String {
        // Logs may contain bytes from requests, which need not be UTF-8.
        fs::read(self.folder.path().join(name)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Sends SIGTERM. func-e passes it on to its Envoy and waits for that to exit.
    pub(super) fn terminate(&self) {
        let _ = kill_process(self.group, Signal::TERM); // gone already, if that fails
    }

    pub(super) fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }

    pub(super) fn group_lives(&self) -> bool {
        test_kill_process_group(self.group).is_ok()
    }

    /// Waits until all processes of the group are gone, func-e's Envoy included.
    pub(super) fn gone_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            // Reap the child first: a zombie keeps its group alive.
            let reaped = !matches!(self.child.try_wait(), Ok(None));
            if reaped && !self.group_lives() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of Envoy's log ---\n{}\n--------------------------", self.tail(TAIL_LINES));
        }
        self.terminate();
        if !self.gone_within(STOP_LIMIT) {
            self.kill();
            self.gone_within(STOP_LIMIT);
        }
    }
}
