//! The program as its users run it: every subcommand but `check`, which has a suite of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod backend;
mod demo;
mod documents;
mod send;
mod terminal;
mod tls;

use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::files::repository;
use testbed::wecom::Account;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wecom-callbacks");

/// What the program printed, and its exit code.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// The standard output, which is one JSON value and nothing else.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program with these arguments, in the repository, with the demo account's secrets set.
fn program(arguments: &[&str]) -> Command {
    let account = Account::demo();
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .current_dir(repository())
        .env("WECOM_TOKEN", account.token())
        .env("WECOM_ENCODING_AES_KEY", account.encoding_aes_key())
        .env_remove("WECOM_RECEIVE_ID")
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// How long it may run: far longer than any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs it to its end.
async fn run(arguments: &[&str]) -> Said {
    finish(program(arguments), "").await
}

/// Runs a command to its end with that text on its standard input.
async fn finish(mut command: Command, input: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end without reading it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let id = child.id().and_then(|id| Pid::from_raw(id.try_into().unwrap())).unwrap();
    let mut waiting = pin!(child.wait_with_output());
    let Ok(output) = timeout(LIMIT, &mut waiting).await else {
        // So that the demo ends what it started.
        kill_process(id, Signal::TERM).unwrap();
        panic!("it does not end: {:?}", timeout(LIMIT, waiting).await);
    };
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}
