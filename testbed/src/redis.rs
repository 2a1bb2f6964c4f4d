//! The real redis-server, started on a free port, and stopped when its handle is dropped: its process,
//! its records, and a [`Link`] to it that can be broken.
//!
//! Where the program is: `REDIS_SERVER`, otherwise `target/tools/bin/redis-server`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use redis::{Client, Cmd, Connection, FromRedisValue, cmd};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backend::free_port;
use crate::files::{path_from, repository};
use crate::waiting::until_some;

/// The user that [`Server::start`] makes: with the rights that the filter needs, and no more.
pub const USER: &str = "wecom-edge";
/// That user's password.
pub const PASSWORD: &str = "of-the-record-0123456789";
/// A secret that records are sealed with.
pub const SECRET: &str = "record-secret-record-secret-record-0";
/// That user's rights, as in docs/replicas.md.
pub const RIGHTS: &str = "~wecom:* resetchannels -@all +get +set +del +eval +quit";

/// Whether redis-server is installed. Says so if not; in CI, where it must be, that is a panic.
///
/// # Panics
/// In CI.
pub fn is_there() -> bool {
    let there = program().is_file();
    if !there {
        eprintln!("SKIPPED: no redis-server: `make setup-redis` fetches it");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "redis-server is missing in CI");
    }
    there
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate, self-signed.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A redis-server. Its records survive its restarts, as it writes them to a file before it answers.
#[derive(Debug)]
pub struct Server {
    process: Option<Child>,
    folder: TempDir,
    port: u16,
    tls_port: Option<u16>,
    /// The connection of the tests' own, for the user `default`.
    client: Client,
}

impl Server {
    /// Starts one with the user [`USER`].
    ///
    /// # Errors
    /// If redis-server is missing, or does not answer in time.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// The same, speaking TLS on a port of its own too.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with_tls(tls: &Tls) -> Result<Self> {
        Self::start_with(Some(tls)).await
    }

    async fn start_with(tls: Option<&Tls>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("testbed-redis-").tempdir()?;
        let port = free_port().await?;
        let tls_port = match tls {
            Some(_) => Some(free_port().await?),
            None => None,
        };
        let mut config = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nlogfile log\nsave \"\"\nappendonly yes\nappendfsync no\n\
             maxmemory-policy noeviction\nuser default on >{OWN} ~* +@all\nuser {USER} on >{PASSWORD} {RIGHTS}\n",
            folder.path().display(),
        );
        if let (Some(tls), Some(port)) = (tls, tls_port) {
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            config.push_str(&format!(
                "tls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {certificate}\n\
                 tls-auth-clients no\n"
            ));
        }
        fs::write(folder.path().join(CONFIG), config)?;
        let client = Client::open(format!("redis://:{OWN}@127.0.0.1:{port}/"))?;
        let mut server = Self { process: None, folder, port, tls_port, client };
        server.start_again().await?;
        Ok(server)
    }

    /// The port on which it speaks in clear.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on which it speaks TLS, if it does.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Has it stand still: connections are taken by the kernel, and nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Has it go on. What it was sent meanwhile, it then does.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills it. Its port is refused until [`Server::start_again`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if let Some(mut process) = self.process.take() {
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it after [`Server::kill`], on the same port and with the records that it had.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_again(&mut self) -> Result<()> {
        let process = Command::new(program())
            .arg(self.folder.path().join(CONFIG))
            .stdin(Stdio::null())
            .stdout(File::create(self.folder.path().join("stdout"))?)
            .stderr(File::create(self.folder.path().join("stderr"))?)
            .spawn()
            .context("redis-server: `make setup-redis` fetches it")?;
        self.process = Some(process);
        let answers = until_some("redis-server answered", || self.connection().ok()).await;
        answers.map(drop).with_context(|| self.log())
    }

    /// Has it do a command, as a user who may do everything. The words are parted by blanks.
    ///
    /// # Errors
    /// If it does not answer, or refuses.
    pub fn run(&self, words: &str) -> Result<()> {
        let mut words = words.split(' ');
        let mut command = cmd(words.next().unwrap_or_default());
        for word in words {
            command.arg(word);
        }
        self.ask(&command)
    }

    fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        Ok(command.query(&mut self.connection()?)?)
    }

    /// The names of its records.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn names(&self) -> Result<Vec<String>> {
        self.ask(cmd("KEYS").arg("wecom:*"))
    }

    /// The value of a record.
    ///
    /// # Errors
    /// As [`Server::run`], or if there is none.
    pub fn value(&self, name: &str) -> Result<Vec<u8>> {
        let value: Option<Vec<u8>> = self.ask(cmd("GET").arg(name))?;
        value.with_context(|| format!("no record {name}"))
    }

    /// How many bytes of its memory a record takes.
    ///
    /// # Errors
    /// As [`Server::run`], or if there is none.
    pub fn memory_usage(&self, name: &str) -> Result<u64> {
        self.ask(cmd("MEMORY").arg("USAGE").arg(name))
    }

    /// Its process, if it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Puts a value in a record's place.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn put(&self, name: &str, value: &[u8]) -> Result<()> {
        self.ask(cmd("SET").arg(name).arg(value).arg("KEEPTTL"))
    }

    fn connection(&self) -> Result<Connection> {
        Ok(self.client.get_connection_with_timeout(LIMIT)?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.process.as_ref().context("redis-server does not run")?.id();
        let id = i32::try_from(id).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        Ok(kill_process(id, signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- redis-server's log ---\n{}\n--------------------------", self.log());
        }
        let _ = self.kill(); // gone already, if that fails
    }
}

/// The password of the tests themselves.
const OWN: &str = "of-the-tests";
const CONFIG: &str = "redis.conf";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Where redis-server is, if it is there.
pub fn program() -> PathBuf {
    path_from("REDIS_SERVER").unwrap_or_else(|| repository().join(Path::new("target/tools/bin/redis-server")))
}

/// What becomes of the connections through a [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// They pass, half-closed ones included.
    Whole,
    /// They are reset as soon as they are there.
    Nothing,
    /// What is asked arrives and is done. Then the connection is reset, and the answer is lost.
    Requests,
    /// Half of the answer passes, as if it were all of it.
    HalfAnAnswer,
}

/// A way to a server, for a fault that the two ends do not have. It has a thread of its own, as what
/// passes is in a hurry. It ends when dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    passes: watch::Sender<Passes>,
}

impl Link {
    /// Makes one to that port of the loopback address.
    ///
    /// # Errors
    /// If no port is available, or no thread.
    pub fn to(port: u16) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let own = listener.local_addr()?.port();
        let (passes, seen) = watch::channel(Passes::Whole);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("link".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut ends = seen.clone();
                tokio::select! {
                    () = accept(listener, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), seen) => {}
                    () = async { while ends.changed().await.is_ok() {} } => {}
                }
            });
        })?;
        Ok(Self { port: own, passes })
    }

    /// The port of this end.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What becomes of connections from now on. Those that are open are closed.
    pub fn set(&self, passes: Passes) {
        self.passes.send_replace(passes);
    }
}

async fn accept(listener: std::net::TcpListener, to: SocketAddr, passes: watch::Receiver<Passes>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                let mut passes = passes.clone();
                connections.spawn(async move {
                    let now = *passes.borrow_and_update();
                    let changed = async move {
                        let _ = passes.changed().await;
                    };
                    tokio::select! {
                        _ = pass(connection, to, now) => {}
                        () = changed => {} // and both ends are closed
                    }
                });
            }
            // Most likely out of file descriptors, which passes.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut near: TcpStream, to: SocketAddr, passes: Passes) -> std::io::Result<()> {
    if passes == Passes::Nothing {
        return near.set_zero_linger();
    }
    let mut far = TcpStream::connect(to).await?;
    if passes == Passes::Whole {
        return copy_bidirectional(&mut near, &mut far).await.map(drop);
    }
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    near.read_to_end(&mut request).await?;
    far.write_all(&request).await?;
    far.read_to_end(&mut answer).await?;
    match passes {
        Passes::Requests => near.set_zero_linger(),
        _ => near.write_all(answer.get(..answer.len() / 2).unwrap_or_default()).await,
    }
}
