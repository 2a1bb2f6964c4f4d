//! The module that Envoy loads: one that is older than its sources is refused, and its path may contain
//! blanks.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use testbed::edge::Edge;
use testbed::module::{built, check, ensure_up_to_date};
use testbed::wecom::Event;

/// A repository in a folder with a blank in its name: two sources, two test files, and a module that
/// was built a minute after they were last changed.
struct Repository {
    folder: TempDir,
    built: SystemTime,
}

impl Repository {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("with blank ").tempdir().unwrap();
        let built = SystemTime::now() - Duration::from_secs(3600);
        let new = Self { folder, built };
        for name in ["src/lib.rs", "src/a folder/part.rs", "src/tests.rs", "src/lib_tests.rs", "Cargo.toml"] {
            new.write(name, "", -60);
        }
        new.write("target/release/filter.wasm", "", 0);
        new.list(&["src/lib.rs", "src/a folder/part.rs"]);
        new
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file whose time is that many seconds after the module was built (before, if negative).
    fn write(&self, name: &str, content: &str, seconds: i64) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 { self.built - distance } else { self.built + distance };
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }

    /// Writes the list of sources as cargo does.
    fn list(&self, sources: &[&str]) {
        let escaped = |name: &str| self.root().join(name).to_str().unwrap().replace(' ', "\\ ");
        let sources: Vec<_> = sources.iter().copied().map(escaped).collect();
        let text = format!("{}: {}\n", escaped("target/release/filter.wasm"), sources.join(" "));
        self.write("target/release/filter.d", &text, 0);
    }

    fn module(&self) -> PathBuf {
        self.root().join("target/release/filter.wasm")
    }

    /// Why the module is refused, or `None` if it is up to date.
    fn complaint(&self) -> Option<String> {
        ensure_up_to_date(&self.module(), self.root()).err().map(|error| format!("{error:#}"))
    }

    #[track_caller]
    fn assert_refused_because_of(&self, source: &str) {
        let complaint = self.complaint().expect("a refusal");
        for part in [self.module().to_str().unwrap(), self.root().join(source).to_str().unwrap(), "`make build`"] {
            assert!(complaint.contains(part), "{part} is not in: {complaint}");
        }
    }
}

#[test]
fn a_module_older_than_a_source_is_refused_and_the_error_names_both_and_make_build() {
    for source in ["src/lib.rs", "src/a folder/part.rs"] {
        let repository = Repository::new();
        assert_eq!(repository.complaint(), None);
        repository.write(source, "", 0);
        assert_eq!(repository.complaint(), None, "written at the same time");
        repository.write(source, "", 1);
        repository.assert_refused_because_of(source);
        // The same without the list of sources.
        fs::remove_file(repository.root().join("target/release/filter.d")).unwrap();
        repository.assert_refused_because_of(source);
    }
}

#[test]
fn files_that_the_module_is_not_built_from_may_be_newer() {
    let repository = Repository::new();
    for name in ["src/tests.rs", "src/lib_tests.rs", "Cargo.toml"] {
        repository.write(name, "", 60);
    }
    assert_eq!(repository.complaint(), None);
    fs::remove_file(repository.root().join("target/release/filter.d")).unwrap();
    assert_eq!(repository.complaint(), None, "without a list");
}

#[test]
fn a_module_that_was_built_from_other_sources_is_refused() {
    let (repository, other) = (Repository::new(), Repository::new());
    repository.list(&["src/lib.rs", "src/gone.rs"]);
    repository.assert_refused_because_of("src/gone.rs");
    let foreign = other.root().join("src/lib.rs");
    for sources in [vec![foreign.to_str().unwrap()], Vec::new()] {
        repository.list(&sources);
        let complaint = repository.complaint().expect("a refusal");
        assert!(complaint.contains("was not built from the sources in"), "{complaint}");
    }
}

#[test]
fn the_error_for_a_module_with_the_trap_says_make_build_trap() {
    let repository = Repository::new();
    repository.write("target/trap/filter.wasm", "", -120);
    let complaint = ensure_up_to_date(&repository.root().join("target/trap/filter.wasm"), repository.root());
    let complaint = format!("{:#}", complaint.unwrap_err());
    assert!(complaint.contains("`make build-trap`"), "{complaint}");
}

#[test]
fn a_module_in_another_place_only_has_to_exist() {
    let repository = Repository::new();
    repository.write("src/lib.rs", "", 60);
    check(&repository.module()).unwrap();
    let missing = repository.root().join("missing.wasm");
    let complaint = format!("{:#}", check(&missing).unwrap_err());
    assert!(complaint.starts_with(&format!("{} is missing: run `make build`", missing.display())), "{complaint}");
}

#[tokio::test]
async fn envoy_loads_a_module_from_a_path_with_a_blank() {
    let folder = tempfile::Builder::new().prefix("with blank ").tempdir().unwrap();
    let module = folder.path().join("the filter.wasm");
    fs::copy(built().unwrap(), &module).unwrap();
    let edge = Edge::start_with(|bootstrap| bootstrap.module(&module)).await.unwrap();
    let answer = edge.send(&edge.account.seal(Event::bind("sn"))).await.unwrap();
    assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0));
    edge.end().await.unwrap();
}
