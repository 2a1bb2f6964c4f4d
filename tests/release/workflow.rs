//! The workflow files: right by a linter, and whatever may sign or publish runs nothing that can change.

use std::fs;
use std::process::Command;

use testbed::envoy::repository;

use crate::{output, tool};

#[test]
fn actionlint_finds_nothing_in_the_workflows() {
    // Go builds it, which not every machine has: there is no message in CI without it, but this line.
    if !repository().join("target/tools/bin/actionlint").exists() && which_go().is_none() {
        eprintln!("SKIPPED: neither actionlint nor Go");
        return;
    }
    let Some(actionlint) = tool("actionlint") else { return };
    // shellcheck would be used where it is installed: then the result would depend on the machine.
    output(Command::new(repository().join(actionlint)).args(["-shellcheck=", "-pyflakes="]).current_dir(repository()));
}

fn which_go() -> Option<()> {
    Command::new("go").arg("version").output().ok().map(drop)
}

#[test]
fn every_action_of_a_release_is_named_by_its_commit() {
    let workflow = fs::read_to_string(repository().join(".github/workflows/release.yml")).unwrap();
    let used: Vec<_> =
        workflow.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, action)| action).collect();
    assert!(!used.is_empty());
    for action in used {
        let (name, commit) = action.split_once('@').unwrap();
        let (commit, version) = commit.split_once(" # v").unwrap_or_else(|| panic!("{name} has no version"));
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{action}");
    }
}

#[test]
fn what_may_sign_and_publish_checks_out_and_compiles_nothing() {
    let workflow = fs::read_to_string(repository().join(".github/workflows/release.yml")).unwrap();
    let workflow: serde_json::Value = serde_saphyr::from_str(&workflow).unwrap();
    assert_eq!(workflow["permissions"], serde_json::json!({}));
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        let permissions = job["permissions"].as_object().unwrap();
        let writes = permissions.values().any(|permission| permission == "write");
        assert_eq!(writes, name == "publish", "{name}");
        if writes {
            let steps = job["steps"].to_string();
            for forbidden in ["actions/checkout", "make ", "cargo", "tools/"] {
                assert!(!steps.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }
    assert_eq!(workflow["jobs"]["publish"]["needs"], serde_json::json!(["gate", "build"]));
}
