//! Which version runs: the module's file, Envoy's log and a metric say the same. The file says nothing
//! of the machine that it was built on; `make reproducible` compares whole modules.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use testbed::edge::Edge;
use testbed::files::repository;
use testbed::module::{built, built_with_trap};
use wasmparser::{Parser, Payload};

/// The custom sections of a module that have one of the names for its version and its commit.
fn sections(module: &[u8]) -> Vec<(String, String)> {
    let payloads = Parser::new(0).parse_all(module).map(Result::unwrap);
    let custom = payloads.filter_map(|payload| match payload {
        Payload::CustomSection(section) => Some((section.name().to_owned(), section.data().to_vec())),
        _ => None,
    });
    let ours = custom.filter(|(name, _)| ["version", "revision"].contains(&name.as_str()));
    ours.map(|(name, text)| (name, String::from_utf8(text).unwrap())).collect()
}

/// A module's version as the log and the metric show it, by its sections.
pub(crate) fn version_of(module: &Path) -> String {
    let sections = sections(&fs::read(module).unwrap());
    match sections.as_slice() {
        [(_, version)] => version.clone(),
        [(_, version), (_, commit)] => format!("{version}+{commit:.12}"),
        _ => panic!("not finished: {sections:?}"),
    }
}

#[test]
fn the_module_names_its_version_and_a_commit_at_most_once() {
    for module in [built().unwrap(), built_with_trap().unwrap()] {
        let sections = sections(&fs::read(&module).unwrap());
        let (version, commit) = sections.split_first().expect("`make build` finishes the module");
        assert_eq!((version.0.as_str(), version.1.as_str()), ("version", env!("CARGO_PKG_VERSION")));
        match commit {
            [] => {} // built from changes that are not committed
            [(name, commit)] => {
                assert_eq!(name, "revision");
                assert!([40, 64].contains(&commit.len()) && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{commit}");
            }
            _ => panic!("{sections:?}"),
        }
    }
}

#[test]
fn the_module_names_no_folder_of_the_machine_that_it_was_built_on() {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = folder("HOME");
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap().stdout;
    let folders = [
        Some(repository()),
        fs::canonicalize(repository()).ok(),
        folder("CARGO_HOME").or_else(|| Some(home.as_ref()?.join(".cargo"))),
        Some(PathBuf::from(String::from_utf8(sysroot).unwrap().trim_end()).join("lib")),
        Some(PathBuf::from("/usr/lib")), // of Debian's toolchain
        home,
    ];
    for module in [built().unwrap(), built_with_trap().unwrap()] {
        let bytes = fs::read(&module).unwrap();
        let contains = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(contains("src/worker.rs") && contains("crates/serde_json-"), "it names no sources at all");
        for folder in folders.iter().flatten().filter(|folder| folder.parent().is_some()) {
            let inside = format!("{}/", folder.to_str().unwrap());
            assert!(!contains(&inside), "{} contains {inside}", module.display());
        }
    }
}

#[tokio::test]
async fn the_log_once_and_a_metric_tell_the_version_that_is_written_into_the_module() {
    let version = version_of(&built().unwrap());
    let edge = Edge::start().await.unwrap();
    // Every worker has been configured by the time it answers.
    for client in edge.one_client_per_worker().await.unwrap() {
        assert_eq!(client.send(&edge.url(), &edge.account.verify_url("1")).await.unwrap().text(), "1");
    }
    let log = edge.envoy.log();
    let started: Vec<_> = log.lines().filter(|line| line.contains("wecom-callback-filter ")).collect();
    assert_eq!(started.len(), 1, "{log}");
    assert!(started[0].ends_with(&format!("wecom-callback-filter {version} started")), "{log}");
    let metrics = edge.envoy.prometheus().await.unwrap();
    assert!(metrics.contains(&format!("\nwecom_build_info{{version=\"{version}\"}} 1\n")), "{metrics}");
    edge.end().await.unwrap();
}

/// A module in a folder of its own, beside which is the file that it is a link to.
struct Module {
    folder: tempfile::TempDir,
    built: SystemTime,
}

const COMMITS: [&str; 2] = ["1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"];

impl Module {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::Builder::new().prefix("with blank ").tempdir().unwrap();
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let linked = folder.path().join("deps.wasm");
        fs::write(&linked, bytes).unwrap();
        File::options().write(true).open(&linked).unwrap().set_modified(built).unwrap();
        fs::hard_link(&linked, folder.path().join("filter.wasm")).unwrap();
        Self { folder, built }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    fn finish(&self, commit: &str) -> Output {
        let (script, file) = (repository().join("tools/finish-module.py"), self.folder.path().join("filter.wasm"));
        let output = Command::new("python3").arg(script).arg(file).arg(commit).output().unwrap();
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 2, "it left a file behind");
        output
    }
}

#[test]
fn a_module_can_be_finished_again_and_keeps_everything_else_and_its_age() {
    // A custom section of another name, and a memory.
    let before = b"\0asm\x01\0\0\0\0\x07\x05otherx\x05\x03\x01\0\x01".to_vec();
    let module = Module::new(&before);
    let version = ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    for commit in [COMMITS[0], COMMITS[1], COMMITS[1], ""] {
        assert!(module.finish(commit).status.success());
        let finished = module.read("filter.wasm");
        assert!(finished.starts_with(&before));
        let commit = (!commit.is_empty()).then(|| ("revision".to_owned(), commit.to_owned()));
        assert_eq!(sections(&finished), [version.clone()].into_iter().chain(commit).collect::<Vec<_>>());
        let age = fs::metadata(module.folder.path().join("filter.wasm")).unwrap().modified().unwrap();
        assert_eq!(age, module.built);
        assert_eq!(module.read("deps.wasm"), before, "cargo's own file");
    }
}

#[test]
fn what_is_not_a_whole_module_is_refused_and_left_as_it_is() {
    for bytes in [b"".as_slice(), b"no module", b"\0asm\x01\0\0\0\x05\x04\x01\0\x01", b"\0asm\x01\0\0\0\x05"] {
        let module = Module::new(bytes);
        let output = module.finish(COMMITS[0]);
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("filter.wasm is no module"), "{said}");
        assert_eq!(module.read("filter.wasm"), bytes);
    }
}
