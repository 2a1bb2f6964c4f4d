//! The workflow files: right by a linter, and whatever may sign or publish runs nothing that can change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::files::repository;

use crate::contents::release;
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
fn every_action_is_named_by_its_commit_and_by_one_alone() {
    let mut commits = BTreeMap::new();
    for file in fs::read_dir(repository().join(".github/workflows")).unwrap() {
        let workflow = fs::read_to_string(file.unwrap().path()).unwrap();
        for (_, action) in workflow.lines().filter_map(|line| line.split_once("uses: ")) {
            let (name, commit) = action.split_once('@').unwrap();
            let (commit, version) = commit.split_once(" # v").unwrap_or_else(|| panic!("{action} has no version"));
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{action}");
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{action}");
            let used = commits.entry(name.to_owned()).or_insert_with(|| commit.to_owned());
            assert_eq!(used, commit, "{name}");
        }
    }
    assert!(commits.len() >= 4, "{commits:?}");
}

#[test]
fn what_may_sign_and_publish_checks_out_and_compiles_nothing() {
    let workflow = release_workflow();
    assert_eq!(workflow["permissions"], json!({}));
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
    assert_eq!(workflow["jobs"]["publish"]["needs"], json!(["gate", "build"]));
    assert_eq!(workflow["jobs"]["publish"]["environment"], "release");
}

#[test]
fn the_tag_is_checked_before_anything_is_built() {
    let build = &release_workflow()["jobs"]["build"];
    let steps = build["steps"].as_array().unwrap();
    assert_eq!(steps[0]["with"]["fetch-depth"], 0, "main's history is not there");
    let runs: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert_eq!(runs[0], "tools/check-branch.sh");
    assert!(runs[1].starts_with("tools/check-changelog.sh \"$GITHUB_REF_NAME\""), "{}", runs[1]);
    assert!(runs[2].contains("rustup toolchain install") && runs[2].contains("tools/release-rust-version"));
    assert_eq!(runs[3], "make dist-reproducible");
}

/// Runs the step that compares a release with its checksums, as the runner does.
fn compare(folder: &Path) -> bool {
    let workflow = release_workflow();
    let steps = workflow["jobs"]["publish"]["steps"].as_array().unwrap();
    let of = |part: &str| {
        let position = steps.iter().position(|step| step.to_string().contains(part));
        position.unwrap_or_else(|| panic!("no step has {part}"))
    };
    let (compares, attests, publishes) = (of("sha256sum"), of("attest-build-provenance@"), of("gh release create"));
    assert!(compares < attests && attests < publishes);
    assert_eq!(steps[compares]["working-directory"], "dist");
    let script = steps[compares]["run"].as_str().unwrap();
    Command::new("bash").args(["-e", "-c", script]).current_dir(folder).output().unwrap().status.success()
}

#[test]
fn what_is_published_are_the_files_of_the_checksums_and_no_others() {
    let Some(release) = release() else { return };
    let own = tempfile::tempdir().unwrap();
    let folder = own.path().join("dist");
    output(Command::new("cp").arg("-R").arg(release).arg(&folder));
    assert!(compare(&folder), "the release itself");

    let extra = [folder.join("extra"), folder.join("deploy/compose/.extra"), folder.join("a name\nof two lines")];
    for file in extra {
        fs::write(&file, "").unwrap();
        assert!(!compare(&folder), "{file:?} is in no checksum");
        fs::remove_file(file).unwrap();
    }
    symlink("/etc/passwd", folder.join("link")).unwrap();
    assert!(!compare(&folder), "a link that leads elsewhere");
    fs::remove_file(folder.join("link")).unwrap();

    for file in ["wecom-callbacks", "deploy/compose/envoy.yaml"] {
        let content = fs::read(folder.join(file)).unwrap();
        fs::write(folder.join(file), "changed").unwrap();
        assert!(!compare(&folder), "{file} changed");
        fs::remove_file(folder.join(file)).unwrap();
        assert!(!compare(&folder), "{file} is missing");
        fs::write(folder.join(file), content).unwrap();
    }
    assert!(compare(&folder), "the release again");
}

fn release_workflow() -> Value {
    let workflow = fs::read_to_string(repository().join(".github/workflows/release.yml")).unwrap();
    serde_saphyr::from_str(&workflow).unwrap()
}
