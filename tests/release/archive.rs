//! The archive, unpacked where there is no repository: what its files name is in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testbed::files::repository;

use crate::contents::{ARCHIVE, release};
use crate::output;

/// Its configurations for Envoy whose paths are files on the machine, and not in a pod.
const CONFIGURATIONS: [&str; 6] = [
    "envoy.yaml",
    "deploy/compose/envoy.yaml",
    "deploy/dynamic/envoy.yaml",
    "deploy/dynamic/filter.yaml",
    "deploy/replicas/envoy.yaml",
    "deploy/replicas/load_balancer.yaml",
];
const COMPOSE: [&str; 2] = ["deploy/compose", "deploy/replicas"];

/// The archive's content in a folder of its own. `None` where no release can be made.
fn unpacked() -> Option<TempDir> {
    let archive = release()?.join(ARCHIVE);
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    output(tar.args(["-xz", "--strip-components", "1", "-f"]).arg(archive).arg("-C").arg(folder.path()));
    Some(folder)
}

fn yaml(root: &Path, file: &str) -> Value {
    let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What a compose file takes from the machine, each with its place in the container.
fn mounts(root: &Path, folder: &str) -> Vec<(String, String)> {
    let compose = yaml(root, &format!("{folder}/compose.yaml"));
    let services = compose["services"].as_object().unwrap().values();
    let volumes = services.flat_map(|service| service["volumes"].as_array().into_iter().flatten());
    let named = |volume: &str| compose["volumes"].get(volume).is_some();
    let parts = volumes.map(|volume| {
        let (from, rest) = volume.as_str().unwrap().split_once(':').unwrap();
        (from.to_owned(), rest.split(':').next().unwrap().to_owned())
    });
    parts.filter(|(from, _)| !named(from)).collect()
}

/// The files that Envoy reads by a configuration.
fn read_by_envoy(config: &Value, found: &mut Vec<String>) {
    match config {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("filename", Value::String(path)) => found.push(path.clone()),
                    ("path_config_source", source) => found.push(source["path"].as_str().unwrap().to_owned()),
                    _ => read_by_envoy(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| read_by_envoy(item, found)),
        _ => {}
    }
}

#[test]
fn whatever_a_compose_file_mounts_is_in_it() {
    let Some(root) = unpacked() else { return };
    for folder in COMPOSE {
        let mounts = mounts(root.path(), folder);
        assert!(mounts.len() > 3, "{mounts:?}");
        for (from, _) in mounts {
            assert!(root.path().join(folder).join(&from).is_file(), "{folder} mounts {from}, which is no file");
        }
        // The images bring along what they run, and nothing is built.
        let services = yaml(root.path(), &format!("{folder}/compose.yaml"))["services"].clone();
        for (name, service) in services.as_object().unwrap() {
            assert!(service["build"].is_null() && !service.to_string().contains("cargo"), "{folder}: {name}");
        }
    }
}

#[test]
fn whatever_envoy_reads_is_in_it() {
    let Some(root) = unpacked() else { return };
    let (mut here, mut mounted) = (0, 0);
    for file in CONFIGURATIONS {
        let mut paths = Vec::new();
        read_by_envoy(&yaml(root.path(), file), &mut paths);
        for path in paths {
            if path.starts_with('/') {
                let mounts = mounts(root.path(), file.rsplit_once('/').unwrap().0);
                assert!(mounts.iter().any(|(_, to)| *to == path), "{file} reads {path}, which nothing mounts");
                mounted += 1;
            } else {
                assert!(root.path().join(&path).is_file(), "{file} reads {path}, which is no file");
                here += 1;
            }
        }
    }
    assert_eq!((here, mounted), (3, 2));
}

#[test]
fn envoy_takes_its_envoy_yaml_as_it_is() {
    let Some(root) = unpacked() else { return };
    let envoy = std::env::var("ENVOY").map_or_else(|_| repository().join("target/tools/bin/envoy"), Into::into);
    let mut validate = Command::new(envoy);
    validate.args(["--mode", "validate", "-c", "envoy.yaml"]).current_dir(root.path());
    validate.env("WECOM_TOKEN", "demoToken");
    validate.env("WECOM_ENCODING_AES_KEY", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFA");
    output(&mut validate);
    // The module is what it reads there.
    fs::remove_file(root.path().join("wecom_callback_filter.wasm")).unwrap();
    assert!(!validate.output().unwrap().status.success());
}

#[test]
fn no_configuration_and_no_link_leads_to_the_repository() {
    let Some(root) = unpacked() else { return };
    let mut links = 0;
    let files = output(Command::new("find").args([".", "-type", "f"]).current_dir(root.path()));
    for file in files.lines() {
        let path = root.path().join(file);
        if file.ends_with(".yaml") || file.ends_with(".yml") || file.ends_with(".json") {
            assert!(!fs::read_to_string(&path).unwrap().contains("target/"), "{file} names a folder of the build");
        }
        if !file.ends_with(".md") {
            continue;
        }
        let page = fs::read_to_string(&path).unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            let target = fs::canonicalize(path.parent().unwrap().join(target));
            let target = target.unwrap_or_else(|error| panic!("{file} links to {link}: {error}"));
            assert!(target.starts_with(fs::canonicalize(root.path()).unwrap()), "{file} links to {link}");
        }
    }
    assert!(links > 100, "{links}");
}
