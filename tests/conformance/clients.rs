//! The clients: what each needs, how it is started, and what is said to it.
//!
//! A client reads one JSON object from its standard input:
//!
//! ```text
//! url        where Envoy listens
//! accounts   [{path, token, encodingAesKey, receiveId}]
//! callbacks  [{account, method, message}]: `account` counts from 0; a POST in WeCom's envelope, or a GET
//!            with the message as its echo
//! probes     [{name, account, timestamp, nonce, encrypt, signature}]: not to be sent, but to be opened
//!            by the library as it opens replies. That named `unsigned` is for the library's own handler
//!            of POSTs, without any signature
//! ```
//!
//! and writes one to its standard output:
//!
//! ```text
//! version    of the library that was loaded
//! answers    [{status, message, receiveId?, error?}], in order: the message in the reply once its signature
//!            is checked; `receiveId` where the library leaves that to its user
//! probes     [text], in order: `accepted`, `refused (…)`, or why neither
//! ```

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use testbed::files::repository;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::plan::{self, Plan, Reply};
use crate::probes::Probe;

/// A client's language, which stands for its library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Node,
    Python,
    Java,
    Go,
}

impl Language {
    pub(crate) const ALL: [Self; 4] = [Self::Node, Self::Python, Self::Java, Self::Go];

    /// The language's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Python => "Python",
            Self::Java => "Java",
            Self::Go => "Go",
        }
    }

    /// The library's name.
    pub(crate) fn library(self) -> &'static str {
        match self {
            Self::Node => "@wecom/crypto",
            Self::Python => "wechatpy",
            Self::Java => "com.github.binarywang:weixin-java-cp",
            Self::Go => "github.com/silenceper/wechat/v2",
        }
    }
}

/// What a client is told.
#[derive(Debug, Serialize)]
pub(crate) struct Work<'a> {
    url: &'a str,
    accounts: Vec<AccountToUse<'a>>,
    callbacks: Vec<CallbackToSend<'a>>,
    probes: &'a [Probe],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountToUse<'a> {
    path: String,
    token: &'a str,
    encoding_aes_key: &'a str,
    receive_id: &'a str,
}

#[derive(Debug, Serialize)]
struct CallbackToSend<'a> {
    account: usize,
    method: &'static str,
    message: &'a str,
}

impl<'a> Work<'a> {
    /// All that the plan has, and these probes.
    pub(crate) fn new(url: &'a str, plan: &'a Plan, probes: &'a [Probe]) -> Self {
        let accounts = plan.accounts().iter().enumerate().map(|(index, account)| AccountToUse {
            path: plan::path(index),
            token: account.token(),
            encoding_aes_key: account.encoding_aes_key(),
            receive_id: account.receive_id(),
        });
        let callbacks = plan.callbacks().iter().map(|callback| CallbackToSend {
            account: callback.account(),
            method: if *callback.reply() == Reply::Echo { "GET" } else { "POST" },
            message: std::str::from_utf8(callback.message()).unwrap(),
        });
        Self { url, accounts: accounts.collect(), callbacks: callbacks.collect(), probes }
    }
}

/// What a client tells.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: String,
    pub(crate) answers: Vec<Answer>,
    pub(crate) probes: Vec<String>,
}

/// What became of a callback.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) message: String,
    pub(crate) receive_id: Option<String>,
}

fn source(folder: &str) -> PathBuf {
    repository().join("tests/conformance").join(folder)
}

/// Where `make setup` puts a language's library.
fn tools(folder: &str) -> PathBuf {
    repository().join("target/tools").join(folder)
}

/// Where Node looks for its library.
fn node_path() -> PathBuf {
    let path = std::env::var_os("NODE_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    path.unwrap_or_else(|| tools("node_modules"))
}

fn class_path() -> String {
    format!("{}/*", tools("java/conformance").display())
}

/// Why a client cannot be run here, or `None` if it can.
pub(crate) async fn missing(language: Language) -> Option<String> {
    let mut probe = match language {
        Language::Node => {
            let mut probe = Command::new("node");
            probe.env("NODE_PATH", node_path()).args(["-e", "require('@wecom/crypto')"]);
            probe
        }
        Language::Python => {
            let mut probe = Command::new("python3");
            probe.env("PYTHONPATH", tools("python")).args(["-c", "import wechatpy.enterprise.crypto"]);
            probe
        }
        Language::Java => {
            let mut probe = Command::new("javap");
            probe.args(["-cp", &class_path(), "me.chanjar.weixin.cp.util.crypto.WxCpCryptUtil"]);
            probe
        }
        Language::Go => {
            let mut probe = Command::new("go");
            probe.current_dir(source("go")).env("GOFLAGS", "-mod=readonly").args(["build", "-o", "/dev/null", "."]);
            probe
        }
    };
    match probe.output().await {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("{}: {}", language.library(), String::from_utf8_lossy(&output.stderr))),
        Err(error) => Some(format!("{}: {error}", language.name())),
    }
}

/// How a client is started. The folder has what was compiled, and lives as long as it.
async fn command(language: Language, folder: &TempDir) -> Command {
    match language {
        Language::Node => {
            let mut node = Command::new("node");
            node.arg(source("node/client.cjs")).env("NODE_PATH", node_path());
            node
        }
        Language::Python => {
            let mut python = Command::new("python3");
            python.arg(source("python/client.py")).env("PYTHONPATH", tools("python")).env("PYTHONUTF8", "1");
            python
        }
        Language::Java => {
            let mut java = Command::new("java");
            java.args(["-Dfile.encoding=UTF-8", "-cp", &class_path()]).arg(source("java/Client.java"));
            java
        }
        Language::Go => {
            // Not `go run`, which leaves its program behind when it is killed.
            let program = folder.path().join("client");
            let mut build = Command::new("go");
            build.current_dir(source("go")).env("GOFLAGS", "-mod=readonly").arg("build").arg("-o").arg(&program);
            let built = build.arg(".").output().await.unwrap();
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            Command::new(program)
        }
    }
}

/// Runs a client to its end.
pub(crate) async fn run(language: Language, work: &Work<'_>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let mut client = command(language, &folder)
        .await
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let work = serde_json::to_vec(work).unwrap();
    let conversation = async {
        stdin.write_all(&work).await.unwrap();
        drop(stdin);
        client.wait_with_output().await.unwrap()
    };
    // Longer than any machine takes, and shorter than the callbacks are fresh.
    let output = tokio::time::timeout(Duration::from_secs(500), conversation).await.expect("the client ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", language.name());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{}: {error}, {errors}", language.name()))
}
