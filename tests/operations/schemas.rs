//! The published schemas that the files in deploy/ are checked against: `tools/setup-schemas.sh` fetches them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testbed::files::repository;

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

/// All documents of a file of the repository.
pub(crate) fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
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

/// The schemas of custom resources, by `apiVersion` and `kind`.
pub(crate) struct CustomResources(BTreeMap<(String, String), Value>);

impl CustomResources {
    pub(crate) fn read() -> Self {
        let mut files = vec![folder().join("customresourcedefinitions.gen.yaml")];
        for part in ["generated", "standard"] {
            files.extend(fs::read_dir(folder().join(part)).unwrap().map(|entry| entry.unwrap().path()));
        }
        Self(files.iter().flat_map(|file| definitions(file)).collect())
    }

    /// What the API server has against a resource. A field that it would drop counts as wrong.
    pub(crate) fn against(&self, resource: &Value) -> Vec<String> {
        let word = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
        let schema = self.0.get(&(word("apiVersion"), word("kind")));
        let schema = schema.unwrap_or_else(|| panic!("no definition of {} {}", word("apiVersion"), word("kind")));
        errors(schema, resource)
    }

    /// What the schema at that place within a resource's has against a part of another resource.
    pub(crate) fn part(&self, api_version: &str, kind: &str, pointer: &str, part: &Value) -> Vec<String> {
        let schema = &self.0[&(api_version.to_owned(), kind.to_owned())];
        errors(schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {kind}")), part)
    }
}

fn definitions(file: &Path) -> Vec<((String, String), Value)> {
    let text = fs::read_to_string(file).unwrap();
    let budget = serde_saphyr::options! { budget: None };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, budget).unwrap();
    let mut found = Vec::new();
    for definition in documents.iter().filter(|document| document["kind"] == "CustomResourceDefinition") {
        let (group, kind) = (definition["spec"]["group"].as_str(), definition["spec"]["names"]["kind"].as_str());
        for version in definition["spec"]["versions"].as_array().unwrap() {
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            // Every resource has these, whether its schema says so or not.
            for (name, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
                schema["properties"][name]["type"] = kind.into();
            }
            as_the_api_server_reads(&mut schema);
            let api_version = format!("{}/{}", group.unwrap(), version["name"].as_str().unwrap());
            found.push(((api_version, kind.unwrap().to_owned()), schema));
        }
    }
    found
}

/// OpenAPI's words for what JSON Schema says otherwise.
fn as_the_api_server_reads(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(as_the_api_server_reads),
        Value::Object(fields) => {
            fields.values_mut().for_each(as_the_api_server_reads);
            let is_set = |name: &str| fields.get(name) == Some(&json!(true));
            let (open, either) = (is_set("x-kubernetes-preserve-unknown-fields"), is_set("x-kubernetes-int-or-string"));
            let is_object = fields.get("type") == Some(&json!("object")) && fields.contains_key("properties");
            if is_object && !open && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            if either {
                fields.insert("type".to_owned(), json!(["integer", "string"]));
            }
        }
        _ => {}
    }
}
