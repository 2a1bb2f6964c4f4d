//! What lies in a release: nothing is missing, nothing comes from this machine, and its checksums hold.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tempfile::NamedTempFile;
use testbed::files::repository;
use testbed::module::built;

use crate::{EPOCH, output, program, tool};

pub(crate) const ARCHIVE: &str = concat!("wecom-callback-filter-", env!("CARGO_PKG_VERSION"), ".tar.gz");
const IMAGE: &str = concat!("wecom-callback-filter-", env!("CARGO_PKG_VERSION"), ".oci.tar");
/// Where `make build` puts the module.
const MODULE: &str = "target/wasm32-wasip1/release/wecom_callback_filter.wasm";
const FOLDERS: [&str; 3] = ["deploy", "docs", "examples"];
const COMMAND: &str = "#!/bin/sh\necho I stand in for the command\n";

/// The folder of a release whose command is [`COMMAND`], made once for all tests that only look at it.
/// `None` where it cannot be made.
pub(crate) fn release() -> Option<&'static Path> {
    static RELEASE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("release");
        make(&folder, |_| {}).then_some(folder)
    });
    RELEASE.as_deref()
}

/// Makes a release in that folder, after its script's surroundings were changed. `false` where that
/// cannot be done.
fn make(folder: &Path, change: impl FnOnce(&mut Command)) -> bool {
    let Some((mut script, _command)) = script(folder) else { return false };
    change(&mut script);
    output(&mut script);
    true
}

/// The script that makes a release in that folder, and the command that it puts there, which must live as
/// long. `None` where it cannot be run.
pub(crate) fn script(folder: &Path) -> Option<(Command, NamedTempFile)> {
    tool("cargo-cyclonedx")?;
    built().unwrap();
    let mut command = NamedTempFile::new().unwrap();
    command.write_all(COMMAND.as_bytes()).unwrap();
    let mut script = program("tools/dist.sh");
    script.arg(folder).arg(command.path());
    Some((script, command))
}

/// All files below a folder, by their path from there.
fn files(folder: &Path) -> BTreeSet<String> {
    let found = output(Command::new("find").args([".", "-type", "f", "-printf", "%P\\n"]).current_dir(folder));
    found.lines().map(str::to_owned).collect()
}

/// What is in a release without what is packed from it.
fn loose() -> BTreeSet<String> {
    let below = |folder: &'static str| {
        let files = files(&repository().join(folder));
        files.into_iter().map(move |file| format!("{folder}/{file}"))
    };
    let others = [
        "BUILD",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "README.md",
        "README.zh-CN.md",
        "SECURITY.md",
        "THIRD-PARTY-LICENSES.txt",
        "config.schema.json",
        "envoy.yaml",
        "wecom-callbacks",
        "wecom-callbacks.cdx.json",
        "wecom_callback_filter.cdx.json",
        "wecom_callback_filter.wasm",
    ];
    FOLDERS.into_iter().flat_map(below).chain(others.map(str::to_owned)).collect()
}

#[test]
fn a_release_holds_these_files_and_its_page_names_them() {
    let Some(folder) = release() else { return };
    let mut expected = loose();
    expected.extend([ARCHIVE, IMAGE, "SHA256SUMS"].map(str::to_owned));
    assert_eq!(files(folder), expected);

    let page = fs::read_to_string(repository().join("docs/release.md")).unwrap();
    for file in expected {
        let name = match file.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => file.replace(env!("CARGO_PKG_VERSION"), "VERSION"),
        };
        let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        assert!(cells.flat_map(|cell| cell.split(", ")).any(|cell| cell == format!("`{name}`")), "no row for {name}");
    }
}

#[test]
fn its_files_are_those_of_the_repository_but_for_the_modules_path() {
    let Some(folder) = release() else { return };
    for file in files(folder).into_iter().filter(|file| repository().join(file).is_file()) {
        let [shipped, here] =
            [folder.join(&file), repository().join(&file)].map(|file| fs::read_to_string(file).unwrap());
        let expected = if file.ends_with(".yaml") || file.starts_with("docs/") {
            here.replace(MODULE, "wecom_callback_filter.wasm")
        } else {
            here
        };
        assert!(shipped == expected, "{file} differs");
    }
    let module = fs::read(folder.join("wecom_callback_filter.wasm")).unwrap();
    assert!(module == fs::read(built().unwrap()).unwrap(), "the module differs");
    assert_eq!(fs::read_to_string(folder.join("wecom-callbacks")).unwrap(), COMMAND);
}

#[test]
fn its_checksums_are_right_and_leave_out_nothing() {
    let own = tempfile::tempdir().unwrap();
    let folder = own.path();
    if !make(folder, |_| {}) {
        return;
    }
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(folder);
        command
    };
    output(&mut check());
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let mut summed: BTreeSet<_> = sums.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect();
    assert!(summed.insert("SHA256SUMS".to_owned()));
    assert_eq!(summed, files(folder));

    fs::write(folder.join("envoy.yaml"), "changed").unwrap();
    assert!(!check().output().unwrap().status.success());
}

#[test]
fn the_archive_holds_the_same_files_of_no_owner_and_the_commits_age() {
    let Some(folder) = release() else { return };
    let listed = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--full-time", "--utc", "--gzip", "--file"])
        .arg(folder.join(ARCHIVE))
        .output()
        .unwrap();
    let mut found = BTreeSet::new();
    for line in String::from_utf8(listed.stdout).unwrap().lines() {
        let [mode, owner, _, day, time, path] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        assert_eq!((owner, day, time), ("0/0", "2023-11-14", "22:13:20"), "{line}");
        let path = path.strip_prefix(ARCHIVE.strip_suffix("tar.gz").unwrap().trim_end_matches('.')).unwrap();
        let executable = path.ends_with('/') || path == "/wecom-callbacks";
        let permissions = mode.strip_prefix(['-', 'd']).unwrap();
        assert_eq!(permissions, if executable { "rwxr-xr-x" } else { "rw-r--r--" }, "{line}");
        if !path.ends_with('/') {
            found.insert(path.trim_start_matches('/').to_owned());
        }
    }
    assert_eq!(found, loose());
}

#[test]
fn two_releases_are_the_same_bytes_whatever_the_surroundings() {
    let Some(first) = release() else { return };
    let second = tempfile::tempdir().unwrap();
    make(second.path(), |script| {
        let sources = script.get_program().to_owned();
        let arguments: Vec<_> = script.get_args().map(ToOwned::to_owned).collect();
        // Another mask of modes, zone and language, and another folder for temporary files.
        *script = Command::new("sh");
        script.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(sources).args(arguments);
        script.env("SOURCE_DATE_EPOCH", EPOCH.to_string());
        script.env("TZ", "Asia/Shanghai").env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8");
    });
    let [first, second] = [first, second.path()].map(|folder| fs::read_to_string(folder.join("SHA256SUMS")).unwrap());
    assert_eq!(first, second);
}

#[test]
fn no_file_names_a_folder_of_this_machine() {
    let Some(folder) = release() else { return };
    let home = std::env::var("HOME").unwrap();
    let places = [repository().display().to_string(), std::env::temp_dir().display().to_string(), home];
    for file in loose() {
        let content = fs::read(folder.join(&file)).unwrap();
        for place in places.iter().filter(|place| place.len() > 1) {
            let found = String::from_utf8_lossy(&content).contains(&format!("{place}/"));
            assert!(!found, "{file} names {place}");
        }
    }
}

#[test]
fn a_folder_that_is_no_release_is_not_emptied() {
    if tool("cargo-cyclonedx").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "").unwrap();
    let refused = program("tools/dist.sh").arg(folder.path()).arg(folder.path().join("mine")).output().unwrap();
    assert!(!refused.status.success());
    assert!(folder.path().join("mine").exists());
}
