//! The three backends as programs.

use std::fs::{self, File};
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::backend::free_port;
use testbed::files::repository;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// What the filter sends as `authorization`.
pub(crate) const SECRET: &str = "Bearer a-secret-of-the-tests";

/// A virtual machine starts slowly on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Go,
    Java,
}

/// A running backend, which ends with its handle.
pub(crate) struct Program {
    pub(crate) port: u16,
    folder: TempDir,
    child: Child,
}

/// Where a backend's source is.
fn source(language: Language) -> PathBuf {
    repository().join("examples/backend").join(match language {
        Language::Python => "python",
        Language::Go => "go",
        Language::Java => "java",
    })
}

/// A copy of that source in which every decision takes a while, as one does that asks a database.
fn slow_source(language: Language, folder: &Path) -> PathBuf {
    let (file, at, pause) = match language {
        Language::Python => ("backend.py", "    match event:\n", "    __import__(\"time\").sleep(0.1)\n"),
        Language::Go => ("main.go", "\tswitch event {\n", "\ttime.Sleep(100 * time.Millisecond)\n"),
        Language::Java => (
            "Backend.java",
            "        String said = switch (event) {\n",
            "        java.util.concurrent.locks.LockSupport.parkNanos(100_000_000);\n",
        ),
    };
    let copy = folder.join("source");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(source(language)).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let text = fs::read_to_string(copy.join(file)).unwrap();
    assert_eq!(text.matches(at).count(), 1, "{file} decides elsewhere");
    fs::write(copy.join(file), text.replace(at, &format!("{pause}{at}"))).unwrap();
    copy
}

fn jars() -> String {
    format!("{}/*", repository().join("target/tools/java/backend").display())
}

/// Why a backend cannot be compiled or run here, or `None` if it can.
async fn missing(language: Language) -> Option<String> {
    let mut probe = match language {
        Language::Python => {
            let mut probe = Command::new("python3");
            probe.arg("--version");
            probe
        }
        Language::Go => {
            let mut probe = Command::new("go");
            probe.arg("version");
            probe
        }
        Language::Java => {
            let mut probe = Command::new("javap");
            probe.args(["-cp", &jars(), "org.springframework.boot.SpringApplication"]);
            probe
        }
    };
    match probe.output().await {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    }
}

async fn compile(compiler: &mut Command) {
    let output = compiler.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How the backend of that source is started, compiled into that folder if need be.
async fn command(language: Language, source: &Path, folder: &Path, port: u16) -> Command {
    match language {
        Language::Python => {
            let mut python = Command::new("python3");
            python.arg(source.join("backend.py")).arg(port.to_string());
            python
        }
        Language::Go => {
            // Not `go run`, which leaves its program behind when it is killed.
            let program = folder.join("backend");
            compile(Command::new("go").current_dir(source).arg("build").arg("-o").arg(&program).arg(".")).await;
            let mut go = Command::new(program);
            go.arg(port.to_string());
            go
        }
        Language::Java => {
            let classes = folder.join("classes");
            let mut javac = Command::new("javac");
            javac.args(["-Xlint:all,-processing", "-Werror", "-parameters", "-cp", &jars(), "-d"]).arg(&classes);
            compile(javac.arg(source.join("Backend.java"))).await;
            let mut java = Command::new("java");
            java.args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{}:{}", classes.display(), jars())]);
            java.args(["example.Backend", "--spring.main.banner-mode=off"]).arg(format!("--server.port={port}"));
            java
        }
    }
}

/// Whether a backend can be compiled and run here. If not, it says so; in CI that is an error.
async fn is_there(language: Language) -> bool {
    let Some(reason) = missing(language).await else { return true };
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "{language:?}: `make setup` installs what is missing: {reason}");
    let line = format!("SKIPPED: {language:?}: `make setup` installs what is missing: {reason}");
    // Not by `eprintln!`, which is shown of tests that fail.
    stderr().write_all(format!("{0}\n{line}\n{0}\n", "#".repeat(80)).as_bytes()).unwrap();
    false
}

/// How a backend ends whose secret is empty. `None` where its language is missing.
pub(crate) async fn end_without_a_secret(language: Language) -> Option<ExitStatus> {
    if !is_there(language).await {
        return None;
    }
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port().await.unwrap());
    let mut command = command(language, &source(language), folder.path(), port).await;
    command.env("WECOM_BACKEND_SECRET", "").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    Some(tokio::time::timeout(PATIENCE, child.wait()).await.expect("it runs without a secret").unwrap())
}

impl Program {
    /// Starts a backend and waits until it listens. `None` where its language is missing.
    pub(crate) async fn start(language: Language) -> Option<Self> {
        if !is_there(language).await {
            return None;
        }
        Some(Self::start_from(language, &source(language), tempfile::tempdir().unwrap()).await)
    }

    /// The same with decisions that take a while.
    pub(crate) async fn start_slow(language: Language) -> Option<Self> {
        if !is_there(language).await {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        Some(Self::start_from(language, &slow_source(language, folder.path()), folder).await)
    }

    async fn start_from(language: Language, source: &Path, folder: TempDir) -> Self {
        let port = free_port().await.unwrap();
        let output = File::create(folder.path().join("output")).unwrap();
        let child = command(language, source, folder.path(), port)
            .await
            .env("WECOM_BACKEND_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut program = Self { port, folder, child };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let has_ended = program.child.try_wait().unwrap().is_some();
            assert!(!has_ended && begun.elapsed() < PATIENCE, "{language:?} does not listen: {}", program.output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        program
    }

    /// Whether it can be reached at that address of this machine.
    pub(crate) async fn listens_at(&self, address: &str) -> bool {
        TcpStream::connect((address, self.port)).await.is_ok()
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap()
    }

    /// How often it has handled the callback of that type and request id, by its own words.
    pub(crate) fn handled(&self, event: &str, req_id: &str) -> usize {
        self.count(&format!("handled {event} {req_id}"))
    }

    /// How often it has refused it because it does not know the type, by its own words.
    pub(crate) fn unknown(&self, event: &str, req_id: &str) -> usize {
        self.count(&format!("unknown {event} {req_id}"))
    }

    fn count(&self, line: &str) -> usize {
        self.output().lines().filter(|said| *said == line).count()
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}
