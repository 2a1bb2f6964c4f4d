//! Checks a configuration of the filter without Envoy, by the filter's own parser: for CI, and
//! before a file of a running Envoy is replaced. See `--help`.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value, json};
use wecom_callback_filter::config::{Config, ConfigError};
use wecom_callback_filter::wecom::callback::EventType;

/// Checks configurations of the WeCom callback filter.
///
/// A file is the plugin configuration itself, as JSON or YAML, or anything that holds the filter's
/// typed_config: a bootstrap of Envoy, an extension configuration (ECDS), a Kubernetes manifest.
#[derive(Debug, Parser)]
#[command(name = "check_config", after_help = EXIT_CODES)]
struct Options {
    /// The files to check, JSON or YAML.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Which Wasm filter it is, by its name in the chain or in its config.
    #[arg(long, value_name = "NAME", default_value = "wecom")]
    filter: String,

    /// Accept that an environment variable with a secret is not set here, as in CI. One that is
    /// set is checked all the same.
    #[arg(long)]
    env_optional: bool,
}

const EXIT_CODES: &str = "\
One line per problem: FILE: FIELD: REASON. No line shows a value, which may be a secret.

Exit codes:
  0  every file would be taken
  1  at least one would be refused, or lacks what the filter needs of Envoy
  2  at least one could not be checked: not readable, neither JSON nor YAML, no such filter in it;
     or wrong arguments";

fn main() -> ExitCode {
    let options = Options::parse();
    let mut worst = 0;
    for file in &options.files {
        let name = file.display();
        let code = match check(file, &options) {
            Err(reason) => {
                say(std::io::stderr(), format_args!("{name}: {reason}"));
                2
            }
            Ok(checked) => checked.iter().map(|found| found.tell(file)).max().unwrap_or(0),
        };
        worst = worst.max(code);
    }
    ExitCode::from(worst)
}

/// One plugin configuration, and what came of it.
struct Checked {
    config: Option<Config>,
    problems: Vec<Problem>,
}

/// Something wrong, and where: a path through the file, or through the plugin configuration.
struct Problem {
    field: String,
    reason: String,
}

impl Checked {
    /// Prints the result and gives its exit code.
    fn tell(&self, file: &Path) -> u8 {
        for problem in &self.problems {
            say(std::io::stderr(), format_args!("{}: {problem}", file.display()));
        }
        if !self.problems.is_empty() {
            return 1;
        }
        let endpoints = self.config.iter().flat_map(|config| config.endpoints());
        let endpoints: Vec<_> = endpoints
            .map(|endpoint| {
                format!("{} at {}, {} credentials", endpoint.name(), endpoint.path(), endpoint.credentials().len())
            })
            .collect();
        say(std::io::stdout(), format_args!("{}: ok: {}", file.display(), endpoints.join("; ")));
        0
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        Self { field: error.field, reason: error.reason }
    }
}

/// Checks everything in a file that is the filter's. An error if there is nothing to check.
fn check(file: &Path, options: &Options) -> Result<Vec<Checked>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    // JSON is YAML too. The message alone: the lines around it may hold a secret.
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).map_err(|error| error.without_snippet().to_string())?;

    let mut found = Vec::new();
    for document in &documents {
        if document.get("endpoints").is_some_and(Value::is_array) {
            // Read again by the filter itself, which refuses what a parser of YAML may let pass.
            let bytes = match serde_json::from_str::<Value>(&text) {
                Ok(_) => text.clone().into_bytes(),
                Err(_) => document.to_string().into_bytes(),
            };
            found.push(check_plugin(&bytes, &Environment::everything(), options));
        }
        let mut filters = Vec::new();
        find_filters(document, "", None, &mut filters);
        for filter in filters.iter().filter(|filter| filter.is_named(&options.filter)) {
            let mut checked = filter.check(options);
            check_clusters(document, &mut checked);
            found.push(checked);
        }
    }
    if found.is_empty() && text.contains("config_discovery") {
        return Err("has the filter from elsewhere, by config_discovery: check that file".to_owned());
    }
    if found.is_empty() {
        return Err(format!("holds neither a plugin configuration nor a Wasm filter named {}", options.filter));
    }
    Ok(found)
}

/// The environment that the VM is given.
struct Environment {
    /// Names whose values come from Envoy's own environment; `None` for all.
    host_keys: Option<Vec<String>>,
    key_values: Map<String, Value>,
}

impl Environment {
    fn everything() -> Self {
        Self { host_keys: None, key_values: Map::new() }
    }

    fn of_vm(config: &Value) -> Self {
        let variables = config.pointer("/vm_config/environment_variables");
        let of = |name: &str| variables.and_then(|variables| variables.get(name));
        let host_keys = of("host_env_keys").and_then(Value::as_array).into_iter().flatten();
        Self {
            host_keys: Some(host_keys.filter_map(Value::as_str).map(str::to_owned).collect()),
            key_values: of("key_values").and_then(Value::as_object).cloned().unwrap_or_default(),
        }
    }

    fn is_passed_from_host(&self, name: &str) -> bool {
        self.host_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name))
    }

    fn get(&self, name: &str) -> Option<String> {
        match self.key_values.get(name) {
            Some(value) => value.as_str().map(str::to_owned),
            None => self.is_passed_from_host(name).then(|| std::env::var(name).ok()).flatten(),
        }
    }

    /// Whether Envoy would hand it over, if only it were set here.
    fn is_only_unset(&self, name: &str) -> bool {
        !self.key_values.contains_key(name) && self.is_passed_from_host(name) && std::env::var_os(name).is_none()
    }
}

fn check_plugin(bytes: &[u8], environment: &Environment, options: &Options) -> Checked {
    let parse = |bytes: &[u8]| Config::parse(bytes, &|name| environment.get(name));
    let result = match parse(bytes) {
        // Whatever else is wrong with secrets that are there is found in the second round.
        Err(error) if options.env_optional && error.field != "configuration" => {
            match serde_json::from_slice::<Value>(bytes) {
                Ok(mut value) => {
                    fill_in_secrets(&mut value, environment);
                    parse(value.to_string().as_bytes())
                }
                Err(_) => Err(error),
            }
        }
        result => result,
    };
    match result {
        Ok(config) => Checked { config: Some(config), problems: Vec::new() },
        Err(error) => Checked { config: None, problems: vec![error.into()] },
    }
}

/// Puts well-formed stand-ins where variables are not set.
fn fill_in_secrets(plugin: &mut Value, environment: &Environment) {
    let endpoints = plugin.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten();
    let credentials = endpoints
        .filter_map(|endpoint| endpoint.get_mut("credentials").and_then(Value::as_array_mut))
        .flatten()
        .filter_map(Value::as_object_mut);
    for credential in credentials {
        for (field, stand_in) in [("token", "x".to_owned()), ("encoding_aes_key", "A".repeat(43))] {
            let name = credential.get(field).and_then(|secret| secret.get("env")).and_then(Value::as_str);
            if name.is_some_and(|name| environment.is_only_unset(name)) {
                credential.insert(field.to_owned(), Value::String(stand_in));
            }
        }
    }
}

/// A Wasm filter somewhere in a file.
struct Filter<'a> {
    /// Where its `config` stands.
    at: String,
    /// Its name in the chain, or as an extension configuration.
    chain_name: Option<&'a str>,
    config: &'a Value,
}

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// Finds every Wasm filter with a configuration of its own, however deep.
fn find_filters<'a>(value: &'a Value, at: &str, around: Option<&'a str>, found: &mut Vec<Filter<'a>>) {
    match value {
        Value::Object(fields) => {
            let named = |name: &str| fields.get(name).and_then(Value::as_str);
            // TypedStruct, as some control planes write it, has the message one level deeper.
            let typed = if named("@type") == Some(WASM) {
                fields.get("config").map(|config| ("config", config))
            } else if named("type_url") == Some(WASM) {
                value.pointer("/value/config").map(|config| ("value.config", config))
            } else {
                None
            };
            if let Some((step, config)) = typed {
                found.push(Filter { at: join(at, step), chain_name: around, config });
                return;
            }
            for (name, inner) in fields {
                find_filters(inner, &join(at, name), named("name").or(around), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_filters(item, &format!("{at}[{index}]"), around, found);
            }
        }
        _ => {}
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

impl Filter<'_> {
    fn is_named(&self, name: &str) -> bool {
        self.chain_name == Some(name) || self.config.get("name").and_then(Value::as_str) == Some(name)
    }

    fn check(&self, options: &Options) -> Checked {
        let configuration = self.config.get("configuration");
        let kind = configuration.and_then(|any| any.get("@type")).and_then(Value::as_str).unwrap_or_default();
        let value = configuration.and_then(|any| any.get("value")).unwrap_or(&Value::Null);
        let bytes = match (kind.rsplit('/').next(), value) {
            (Some("google.protobuf.StringValue"), Value::String(text)) => Some(text.clone().into_bytes()),
            (Some("google.protobuf.Struct"), Value::Object(_)) => Some(value.to_string().into_bytes()),
            _ => None,
        };
        let mut checked = match bytes {
            Some(bytes) => check_plugin(&bytes, &Environment::of_vm(self.config), options),
            None => Checked { config: None, problems: Vec::new() },
        };
        if checked.config.is_none() && checked.problems.is_empty() {
            let reason = "must be a google.protobuf.Struct, or JSON text in a google.protobuf.StringValue";
            checked.problems.push(Problem { field: join(&self.at, "configuration"), reason: reason.to_owned() });
        }
        checked.problems.extend(self.check_envoys_part());
        checked
    }

    /// What the filter needs of Envoy and does not see itself.
    fn check_envoys_part(&self) -> Vec<Problem> {
        let is = |name: &str, wanted: Value| self.config.get(name) == Some(&wanted);
        let has_vm_id =
            self.config.pointer("/vm_config/vm_id").and_then(Value::as_str).is_some_and(|vm_id| !vm_id.is_empty());
        let rules = [
            (
                is("allow_on_headers_stop_iteration", json!(true)),
                "allow_on_headers_stop_iteration",
                "must be true: without it no POST ever reaches its body",
            ),
            (
                is("failure_policy", json!("FAIL_RELOAD")),
                "failure_policy",
                "must be FAIL_RELOAD: FAIL_OPEN lets raw callbacks pass after a trap, others end all service",
            ),
            (has_vm_id, "vm_config.vm_id", "must be set: the record of duplicates belongs to it"),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        broken.map(|(_, field, reason)| Problem { field: join(&self.at, field), reason: reason.to_owned() }).collect()
    }
}

/// Every cluster that is named must be there, if the file says which there are.
fn check_clusters(document: &Value, checked: &mut Checked) {
    let Some(clusters) = document.pointer("/static_resources/clusters").and_then(Value::as_array) else { return };
    if document.pointer("/dynamic_resources/cds_config").is_some() {
        return;
    }
    let is_there =
        |name: &str| clusters.iter().any(|cluster| cluster.get("name").and_then(Value::as_str) == Some(name));
    for (index, endpoint) in checked.config.iter().flat_map(|config| config.endpoints().iter().enumerate()) {
        for (field, event) in [("decision", EventType::Bind), ("events", EventType::Other)] {
            if !is_there(endpoint.upstream(event).cluster()) {
                checked.problems.push(Problem {
                    field: format!("endpoints[{index}].{field}.cluster"),
                    reason: "the file has no cluster of that name".to_owned(),
                });
            }
        }
    }
}

fn say(mut to: impl Write, line: fmt::Arguments<'_>) {
    // Whoever read this may have gone; the exit code still tells.
    let _ = writeln!(to, "{line}");
}
