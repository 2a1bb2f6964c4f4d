//! What a vendor runs today behind Envoy: a server of its own, written from an SDK. See bench/vendors.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use testbed::backend::free_port;
use testbed::files::repository;
use testbed::wecom::Account;
use tokio::net::TcpStream;

use super::MEASURED;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    /// npm's `@wecom/crypto`, on `node:http`.
    Node,
    /// PyPI's `wechatpy`, under gunicorn.
    Python,
    /// `github.com/silenceper/wechat`, on `net/http`.
    Go,
}

impl Vendor {
    /// What it is, in words.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Node => "Envoy and a server in Node: @wecom/crypto, node:http",
            Self::Python => "Envoy and a server in Python: wechatpy, gunicorn, one worker of 8 threads",
            Self::Go => "Envoy and a server in Go: silenceper/wechat, net/http",
        }
    }

    /// Why it cannot be measured on this machine, if so.
    pub(crate) fn missing(self) -> Option<String> {
        let tools = repository().join("target/tools");
        let file = match self {
            Self::Node => tools.join("node_modules/@wecom/crypto"),
            Self::Python => tools.join("vendors/python/bin/gunicorn"),
            Self::Go => tools.join("vendors/go-server"),
        };
        let is_there =
            file.exists() && (self != Self::Node || version_of(Command::new("node").arg("--version")).is_some());
        (!is_there).then(|| "not installed; `make setup-vendors` says why".to_owned())
    }

    /// The version of its language, as that tells it.
    pub(crate) fn version(self) -> Option<String> {
        match self {
            Self::Node => version_of(Command::new("node").arg("--version")).map(|text| format!("Node {text}")),
            Self::Python => {
                version_of(Command::new(repository().join("target/tools/vendors/python/bin/python")).arg("--version"))
            }
            Self::Go => version_of(Command::new("go").args(["env", "GOVERSION"])),
        }
    }

    fn command(self, port: u16) -> Command {
        let (source, tools) = (repository().join("bench/vendors"), repository().join("target/tools"));
        // From its first thread on it knows that it has one core: Go and others ask when they start.
        let mut command = Command::new("taskset");
        command.args(["-c", &MEASURED.to_string()]);
        match self {
            Self::Node => {
                command.arg("node").arg(source.join("node/server.cjs")).env("NODE_PATH", tools.join("node_modules"));
                command.env("NODE_ENV", "production");
            }
            Self::Python => {
                command.arg(tools.join("vendors/python/bin/gunicorn"));
                command.args(["--workers", "1", "--threads", "8", "--keep-alive", "75", "--no-control-socket"]);
                command.args([
                    "--worker-tmp-dir",
                    "/dev/shm",
                    "--bind",
                    &format!("127.0.0.1:{port}"),
                    "--log-level",
                    "warning",
                    "--chdir",
                ]);
                command.arg(source.join("python")).arg("server:application").env("PYTHONDONTWRITEBYTECODE", "1");
            }
            Self::Go => {
                command.arg(tools.join("vendors/go-server"));
            }
        }
        command
    }
}

fn version_of(command: &mut Command) -> Option<String> {
    let said = command.output().ok().filter(|said| said.status.success())?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}

/// One that runs. It is ended when dropped, with all that it started.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts one on the core of what is measured, and waits until it takes connections.
    ///
    /// # Errors
    /// If it ends, or takes none within 20 s.
    pub(crate) async fn start(vendor: Vendor, upstream: SocketAddr) -> Result<Self> {
        let (port, account) = (free_port().await?, Account::demo());
        let child = vendor
            .command(port)
            .env("PORT", port.to_string())
            .env("UPSTREAM", format!("http://{upstream}/bind"))
            .env("WECOM_TOKEN", account.token())
            .env("WECOM_ENCODING_AES_KEY", account.encoding_aes_key())
            .env("WECOM_RECEIVE_ID", account.receive_id())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("taskset, of util-linux")?;
        let mut server = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended at once: {status}");
            }
            ensure!(Instant::now() < deadline, "the server took no connection within 20 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// The port of the loopback address on which it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The process that was started.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Whatever is left of it.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}
