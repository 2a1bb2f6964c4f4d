//! The licences of what is compiled into the module and the command are in a release.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testbed::files::repository;

use crate::compilers::program_in;
use crate::contents::release;
use crate::{output, program, words};

const LISTS: [&str; 2] = ["wecom_callback_filter.cdx.json", "wecom-callbacks.cdx.json"];
const NAME: &str = "THIRD-PARTY-LICENSES.txt";

/// Where cargo has the sources of each crate that comes from elsewhere, by its name and version.
fn sources() -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.args(["metadata", "--locked", "--format-version", "1"]).current_dir(repository());
    let metadata: Value = serde_json::from_str(&output(&mut cargo)).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().filter(|package| !package["source"].is_null());
    let entry = |package: &Value| {
        let [name, version, manifest] = ["name", "version", "manifest_path"].map(|field| package[field].as_str());
        let folder = Path::new(manifest.unwrap()).parent().unwrap().to_owned();
        (format!("{} {}", name.unwrap(), version.unwrap()), folder)
    };
    packages.map(entry).collect()
}

/// A text as a release has it: blanks at the ends of its lines and empty lines around it are left out.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned()
}

#[test]
fn every_crate_of_the_lists_has_its_licences_in_full() {
    let Some(folder) = release() else { return };
    let page = fs::read_to_string(folder.join(NAME)).unwrap();
    let (head, _) = page.split_once("\nC libraries\n").unwrap();
    let sources = sources();
    let mut crates = 0;
    for list in LISTS {
        let document: Value = serde_json::from_slice(&fs::read(folder.join(list)).unwrap()).unwrap();
        for component in document["components"].as_array().unwrap() {
            let [name, version] = ["name", "version"].map(|field| component[field].as_str().unwrap());
            let Some(source) = sources.get(&format!("{name} {version}")) else { continue };
            crates += 1;
            let (_, row) = head.split_once(&format!("\n{name} {version} (")).unwrap_or_else(|| panic!("no {name}"));
            let named = row.lines().nth(1).unwrap();
            let mut texts = 0;
            for file in fs::read_dir(source).unwrap().map(|entry| entry.unwrap()) {
                let file_name = file.file_name().into_string().unwrap();
                let is_text =
                    ["LICENSE", "COPYING", "COPYRIGHT", "NOTICE"].iter().any(|one| file_name.starts_with(one));
                if is_text && file.path().is_file() {
                    texts += 1;
                    let text = trimmed(&fs::read_to_string(file.path()).unwrap());
                    let (_, number) = named.split_once(&format!("{file_name} [")).unwrap();
                    let number = number.split(']').next().unwrap();
                    let (_, there) = page.split_once(&format!("\n[{number}]\n")).unwrap();
                    let there = there.trim_start_matches('=').trim_start_matches('\n');
                    assert!(there.starts_with(&text), "{name}: {file_name} is not [{number}]");
                }
            }
            assert!(texts > 0, "{name}");
        }
    }
    assert!(crates > 100, "{crates}");
}

#[test]
fn the_standard_library_and_the_c_libraries_have_theirs() {
    let Some(folder) = release() else { return };
    let page = fs::read_to_string(folder.join(NAME)).unwrap();
    for part in ["musl", "wasi-libc", "Rich Felker", "Rust's standard library"] {
        assert!(page.contains(part), "{part}");
    }
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]));
    // Debian's packages have them elsewhere.
    if !Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html").is_file() {
        assert!(page.contains("the toolchain has no notices"));
        return;
    }
    for part in ["The Rust Project Developers", "hashbrown-", "Permission is hereby granted", "LLVM Exceptions"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<div") && !page.contains("the toolchain has no"), "the page of the toolchain as it is");
}

#[test]
fn a_crate_without_a_licence_text_makes_no_release() {
    let folder = tempfile::tempdir().unwrap();
    let component = json!({ "components": [{ "name": "bare", "version": "1.0.0" }] });
    for list in LISTS {
        fs::write(folder.path().join(list), component.to_string()).unwrap();
    }
    let manifest = folder.path().join("bare/Cargo.toml");
    fs::create_dir(folder.path().join("bare")).unwrap();
    let package = json!({
        "name": "bare", "version": "1.0.0", "license": "MIT", "source": "registry", "manifest_path": manifest,
    });
    let metadata = json!({ "packages": [package] });
    let cargo = program_in(folder.path(), "cargo", &format!("cat <<'EOF'\n{metadata}\nEOF"));
    let collect = || program("tools/licenses.py").arg(folder.path()).env("CARGO", &cargo).output().unwrap();
    // A source file is none, whatever its name.
    fs::write(folder.path().join("bare/notice.rs"), "").unwrap();
    let refused = collect();
    assert!(words(&refused.stderr).contains("bare 1.0.0 has no text of its licence"), "{refused:?}");
    assert!(!refused.status.success() && !folder.path().join(NAME).exists());

    fs::write(folder.path().join("bare/LICENSE"), "Do what is right.\n").unwrap();
    assert!(collect().status.success());
    assert!(fs::read_to_string(folder.path().join(NAME)).unwrap().contains("Do what is right."));
}
