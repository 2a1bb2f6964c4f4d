//! The lists of what the module and the command are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use testbed::files::repository;
use testbed::module::built;

use crate::contents::release;
use crate::output;

/// One of a release's lists.
struct List {
    document: Value,
    /// Name and version of each component, and the checksum of its source, where it has one.
    components: BTreeMap<(String, String), Option<String>>,
}

fn lists() -> Option<[List; 2]> {
    let folder = release()?;
    Some(["wecom_callback_filter.cdx.json", "wecom-callbacks.cdx.json"].map(|name| {
        let document: Value = serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
        let components = document["components"].as_array().unwrap().iter().map(|component| {
            let word = |field: &str| component[field].as_str().unwrap().to_owned();
            let hash = component["hashes"][0]["content"].as_str().map(str::to_owned);
            ((word("name"), word("version")), hash)
        });
        let components = components.collect();
        List { document, components }
    }))
}

/// The crates that cargo compiles for a package alone, or to compile it; without the package.
fn compiled(package: &str, target: &str) -> BTreeSet<(String, String)> {
    let mut tree = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    tree.args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build", "--package", package]);
    let lines = output(tree.args(["--target", target]).current_dir(repository()));
    let crates = lines.lines().map(|line| {
        let (name, rest) = line.split_once(" v").unwrap();
        (name.to_owned(), rest.split(' ').next().unwrap().to_owned())
    });
    crates.filter(|(name, _)| name != package).collect()
}

/// Every crate of Cargo.lock with the checksum of its source.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let packages = lock.split("[[package]]").skip(1).map(|package| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        ((field("name").unwrap(), field("version").unwrap()), field("checksum"))
    });
    packages.collect()
}

#[test]
fn they_are_the_crates_of_the_lock_file_that_are_compiled_and_no_others() {
    let Some([module, command]) = lists() else { return };
    let locked = locked();
    for (list, package, target) in
        [(module, "wecom-callback-filter", "wasm32-wasip1"), (command, "wecom-callbacks", "x86_64-unknown-linux-musl")]
    {
        assert_eq!(list.document["bomFormat"], "CycloneDX");
        assert_eq!(list.document["metadata"]["component"]["name"], package);
        assert_eq!(list.components.keys().cloned().collect::<BTreeSet<_>>(), compiled(package, target));
        for (component, hash) in &list.components {
            assert_eq!(locked.get(component), Some(hash), "{component:?}");
        }
    }
}

#[test]
fn the_modules_list_has_every_crate_that_the_module_itself_names() {
    let Some([module, _]) = lists() else { return };
    let bytes = fs::read(built().unwrap()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    // Panics name files of their crates: crates/NAME-VERSION/src/…
    let named: BTreeSet<_> = text.split("crates/").skip(1).filter_map(|rest| rest.split_once("/src/")).collect();
    assert!(!named.is_empty());
    let listed: BTreeSet<_> = module.components.keys().map(|(name, version)| format!("{name}-{version}")).collect();
    for (name, _) in named {
        assert!(listed.contains(name), "{name} is in the module, but not in its list");
    }
}

#[test]
fn what_only_tests_need_is_in_none() {
    let Some(lists) = lists() else { return };
    for list in lists {
        for name in ["testbed", "tempfile", "proptest", "loom", "rcgen", "jsonschema"] {
            assert!(list.components.keys().all(|(component, _)| component != name), "{name}");
        }
    }
}

#[test]
fn they_depend_only_on_what_they_list() {
    let Some(lists) = lists() else { return };
    for List { document, .. } in lists {
        let parts = document["components"].as_array().unwrap().iter().chain([&document["metadata"]["component"]]);
        let listed: BTreeSet<_> = parts.map(|part| part["bom-ref"].as_str().unwrap()).collect();
        let dependencies = document["dependencies"].as_array().unwrap();
        let described: BTreeSet<_> = dependencies.iter().map(|one| one["ref"].as_str().unwrap()).collect();
        assert_eq!(described, listed);
        for on in dependencies.iter().flat_map(|one| one["dependsOn"].as_array().unwrap()) {
            assert!(listed.contains(on.as_str().unwrap()), "{on}");
        }
    }
}

#[test]
fn they_have_no_random_number_and_no_time_but_the_commits() {
    let Some(lists) = lists() else { return };
    for List { document, .. } in lists {
        assert_eq!(document["serialNumber"], Value::Null);
        assert!(document["metadata"]["timestamp"].as_str().unwrap().starts_with("2023-11-14T22:13:20"));
    }
}
