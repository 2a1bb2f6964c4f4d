//! The module's file says nothing of the machine that it was built on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testbed::envoy::repository;
use testbed::module::{built, built_with_trap};

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
