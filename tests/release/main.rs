//! What a release holds, and the scripts that make it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod changelog;

use std::process::Command;

use testbed::envoy::repository;

/// A program of the repository.
fn program(path: &str) -> Command {
    Command::new(repository().join(path))
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
