//! What compiles a release, and the tools that make it, is what was asked for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::files::repository;

use crate::contents::script;
use crate::words;

/// A program of these lines.
pub(crate) fn program_in(folder: &Path, name: &str, lines: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_release_by_another_compiler_is_made_with_a_warning() {
    let wanted = fs::read_to_string(repository().join("tools/release-rust-version")).unwrap();
    let wanted = wanted.trim();
    let folder = tempfile::tempdir().unwrap();
    let said = |version: &str| {
        // It says that it is that version, and is the one of this machine.
        let lines = format!("[ \"$*\" != --version ] || {{ echo 'rustc {version} (abc 2026-01-31)'; exit; }}");
        let rustc = program_in(folder.path(), "rustc", &format!("{lines}\nexec rustc \"$@\""));
        let (mut script, _command) = script(&folder.path().join("release"))?;
        // The Wasm target of rustup: Debian's compiler is no release's in any case.
        let output = script.env("RUSTC", rustc).env("WASM_TOOLCHAIN", "rustup").output().unwrap();
        output.status.success().then(|| words(&output.stderr))
    };
    let Some(same) = said(wanted) else {
        eprintln!("SKIPPED: no release can be made with rustup's Wasm target");
        return;
    };
    assert!(same.contains(&format!("the module is by rustc {wanted} ")) && !same.contains("NOT THE"), "{same}");
    for version in ["1.91.0", &format!("{wanted}1")] {
        let other = said(version).unwrap();
        assert!(other.contains(&format!("NOT THE RELEASE'S COMPILER, which is rustc {wanted} ")), "{other}");
    }
}

/// Installs a tool by a cargo that cannot do so with a lock file. Also what that cargo was asked.
fn install(github: bool) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tools")).unwrap();
    let script = folder.path().join("tools/cargo-tool.sh");
    fs::copy(repository().join("tools/cargo-tool.sh"), &script).unwrap();
    let asked = folder.path().join("asked");
    let lines = format!("echo \"$*\" >>'{}'\ncase \"$*\" in *--locked*) exit 101;; esac", asked.display());
    program_in(folder.path(), "cargo", &lines);
    let mut command = Command::new(script);
    command.arg("cargo-cyclonedx").env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    command.env_remove("GITHUB_ACTIONS");
    if github {
        command.env("GITHUB_ACTIONS", "true");
    }
    let output = command.output().unwrap();
    (output, fs::read_to_string(asked).unwrap())
}

#[test]
fn the_workflows_install_no_tool_whose_dependencies_are_not_locked() {
    let (output, asked) = install(true);
    assert!(!output.status.success() && asked.lines().all(|line| line.contains("--locked")), "{asked}");
    // Elsewhere, a mirror may lack what was locked.
    let (output, asked) = install(false);
    assert!(output.status.success() && asked.lines().count() == 2, "{asked}: {}", words(&output.stderr));
}

#[test]
fn the_release_is_compiled_by_the_version_of_its_file() {
    let version = fs::read_to_string(repository().join("tools/release-rust-version")).unwrap();
    let parts: Vec<_> = version.trim().split('.').map(|part| part.parse::<u32>().unwrap()).collect();
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let (_, least) = manifest.split_once("rust-version = \"").unwrap();
    let least: Vec<_> = least.split('"').next().unwrap().split('.').map(|part| part.parse::<u32>().unwrap()).collect();
    assert!(parts.len() == 3 && parts >= least, "{version}");
}
