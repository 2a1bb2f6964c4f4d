//! The published schemas that the files in deploy/ are checked against: `tools/setup-schemas.sh` fetches them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use testbed::envoy::repository;

/// Whether the schemas are not installed, which is reported. In CI that is an error.
pub(crate) fn are_missing() -> bool {
    let missing = !folder().join("versions").is_file();
    if missing {
        assert!(std::env::var_os("CI").is_none(), "nothing in target/tools/schemas: run `make setup-schemas`");
        eprintln!(
            "SKIPPED: the schemas of Compose and of Kubernetes' resources are not here; see `make setup-schemas`"
        );
    }
    missing
}

fn folder() -> PathBuf {
    repository().join("target/tools/schemas")
}

/// What a schema has against a value, one line each.
fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// What the Compose specification has against a Compose file.
pub(crate) fn against_compose(compose: &Value) -> Vec<String> {
    let schema = fs::read_to_string(folder().join("compose-spec.json")).unwrap();
    errors(&serde_json::from_str(&schema).unwrap(), compose)
}
