//! What a release holds, and the scripts that make it. The command is not compiled here, which takes
//! minutes: a file stands in for it. `make dist-reproducible` makes a whole release twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod archive;
mod branch;
mod changelog;
mod compilers;
mod contents;
mod image;
mod licenses;
mod lists;
mod workflow;

use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::files::repository;

/// A program of the repository, or of `target/tools/bin`, with the time of the release fixed.
fn program(path: &str) -> Command {
    let mut command = Command::new(repository().join(path));
    command.env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    command
}

/// When everything in a release was made, in seconds since 1970.
const EPOCH: u64 = 1_700_000_000;

/// What it wrote to standard output. It must have succeeded.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", words(&output.stderr));
    words(&output.stdout)
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that `make setup` installs, for checks by somebody else's code. `None`, and a line that says
/// so, where it is missing.
fn tool(name: &str) -> Option<PathBuf> {
    let path = Path::new("target/tools/bin").join(name);
    if repository().join(&path).exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: no {name}: `make setup` fetches it");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is missing in CI");
    None
}
