//! What an Envoy is started with, made from the repository's own configurations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::program::version;
use crate::files::read;
use crate::module;
use crate::redis;
use crate::wecom::Account;

/// How long an Envoy may take until it serves, or has ended.
pub(super) const START_LIMIT: Duration = Duration::from_secs(20);

/// The configuration, environment and command line to start an Envoy with.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub(super) config: Value,
    pub(super) text: Option<String>,
    pub(super) module: Option<PathBuf>,
    pub(super) concurrency: u32,
    pub(super) log_level: String,
    pub(super) component_log_level: String,
    pub(super) environment: BTreeMap<String, Option<String>>,
    pub(super) arguments: Vec<String>,
    pub(super) launcher: Launcher,
    pub(super) start_limit: Duration,
}

/// What starts Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// func-e where it is installed, else as [`Launcher::Direct`].
    FuncEIfThere,
    /// func-e.
    FuncE,
    /// Nothing else: Envoy itself is started.
    Direct,
}

impl Bootstrap {
    /// The repository's `envoy.yaml`, its listeners and admin interface moved to free ports of the
    /// loopback address, the secrets of [`Account::demo`] in the environment.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn example() -> Result<Self> {
        Self::from_yaml(&read("envoy.yaml")?).context("envoy.yaml")
    }

    /// The repository's `deploy/dynamic/envoy.yaml`, likewise; it reads the filter from that file, which
    /// must be there. [`dynamic_filter`] is what to write into it.
    ///
    /// # Errors
    /// If the configuration cannot be read.
    pub fn dynamic(filter: &Path) -> Result<Self> {
        let source = "/http_filters/0/config_discovery/config_source/path_config_source/path";
        let filter = filter.to_str().context("the path of the filter's file is no UTF-8")?;
        let mut bootstrap =
            Self::from_yaml(&read("deploy/dynamic/envoy.yaml")?).context("deploy/dynamic/envoy.yaml")?;
        *hcm(&mut bootstrap.config).pointer_mut(source).with_context(|| format!("no {source}"))? = filter.into();
        Ok(bootstrap)
    }

    /// The repository's `deploy/replicas/envoy.yaml`, likewise, with the secrets of [`crate::redis`] in the
    /// environment. Its cluster `record` is to be pointed at a Redis.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn replica() -> Result<Self> {
        let file = "deploy/replicas/envoy.yaml";
        Ok(Self::from_yaml(&read(file)?)
            .context(file)?
            .env("WECOM_RECORD_SECRET", redis::SECRET)
            .env("WECOM_RECORD_PASSWORD", redis::PASSWORD))
    }

    /// Gives each exchange with Redis more time than it takes on a busy machine.
    #[must_use]
    pub fn patient(self) -> Self {
        self.edit_plugin_value(|value| {
            value["dedup"]["redis"]["timeout_ms"] = 500.into();
            value["endpoints"][0]["decision"]["timeout_ms"] = 1800.into();
        })
    }

    /// The same with another file's text.
    ///
    /// # Errors
    /// If it is not valid YAML.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let mut config: Value = serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))?;
        let free = || json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        config["admin"]["address"] = free();
        for listener in
            config.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut).into_iter().flatten()
        {
            listener["address"] = free();
        }
        let account = Account::demo();
        Ok(Self {
            config,
            text: None,
            module: None,
            concurrency: 2,
            log_level: "warn".to_owned(),
            component_log_level: "wasm:info".to_owned(),
            environment: BTreeMap::new(),
            arguments: Vec::new(),
            launcher: Launcher::FuncEIfThere,
            start_limit: START_LIMIT,
        }
        .account(&account))
    }

    /// Puts the secrets of that account into Envoy's environment.
    #[must_use]
    pub fn account(self, account: &Account) -> Self {
        self.env("WECOM_TOKEN", account.token()).env("WECOM_ENCODING_AES_KEY", account.encoding_aes_key())
    }

    /// Sets a variable of Envoy's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), Some(value.to_owned()));
        self
    }

    /// Removes a variable from Envoy's environment.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.insert(name.to_owned(), None);
        self
    }

    /// Changes the configuration in any way.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes the HTTP connection manager of the first listener.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn edit_hcm(self, change: impl FnOnce(&mut Value)) -> Self {
        self.edit(|config| change(hcm(config)))
    }

    /// Changes the filter's plugin configuration as a whole: `config` with `name`, `vm_config`,
    /// `configuration` and the rest.
    ///
    /// # Panics
    /// If there is no filter named `wecom`.
    #[must_use]
    pub fn edit_plugin(self, change: impl FnOnce(&mut Value)) -> Self {
        self.edit(|config| {
            let filter = filters(config).iter_mut().find(|filter| filter["name"] == "wecom");
            change(&mut filter.expect("a filter named wecom")["typed_config"]["config"]);
        })
    }

    /// The filter's own configuration, as it is in the file.
    ///
    /// # Panics
    /// If there is no filter named `wecom` with a Struct for its configuration.
    pub fn plugin_value(&self) -> Value {
        let mut config = self.config.clone();
        let filter = filters(&mut config).iter_mut().find(|filter| filter["name"] == "wecom");
        filter.expect("a filter named wecom")["typed_config"]["config"]["configuration"]["value"].clone()
    }

    /// Changes the filter's own configuration, which stays a Struct.
    ///
    /// # Panics
    /// As [`Bootstrap::plugin_value`].
    #[must_use]
    pub fn edit_plugin_value(self, change: impl FnOnce(&mut Value)) -> Self {
        let mut value = self.plugin_value();
        change(&mut value);
        self.plugin_struct(value)
    }

    /// Configures the filter with JSON text, well-formed or not, as a `StringValue`.
    #[must_use]
    pub fn plugin(self, json: &str) -> Self {
        self.edit_plugin(|plugin| {
            plugin["configuration"] =
                json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": json });
        })
    }

    /// Configures the filter with a `Struct`.
    #[must_use]
    pub fn plugin_struct(self, value: Value) -> Self {
        self.edit_plugin(|plugin| {
            plugin["configuration"] = json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": value });
        })
    }

    /// Removes the filter of that name from the chain.
    #[must_use]
    pub fn without_filter(self, name: &str) -> Self {
        self.edit(|config| filters(config).retain(|filter| filter["name"] != name))
    }

    /// Has the filter on for every route, instead of for the callback's alone.
    ///
    /// # Panics
    /// If it is so already.
    #[must_use]
    pub fn always_on(self) -> Self {
        self.edit_hcm(|hcm| {
            let taken = hcm["http_filters"][0].as_object_mut().and_then(|filter| filter.remove("disabled"));
            assert_eq!(taken, Some(true.into()), "the filter was off");
            let route = hcm["route_config"]["virtual_hosts"][0]["routes"][0].as_object_mut();
            let taken = route.and_then(|route| route.remove("typed_per_filter_config"));
            assert!(taken.is_some(), "the callback's route switched it on");
        })
    }

    /// Points a cluster at that port of the loopback address.
    ///
    /// # Panics
    /// If there is no such cluster.
    #[must_use]
    pub fn cluster(self, name: &str, port: u16) -> Self {
        self.edit_cluster(name, |cluster| {
            cluster["load_assignment"] = json!({
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": { "socket_address": {
                    "address": "127.0.0.1", "port_value": port
                } } } }] }]
            });
        })
    }

    /// Changes a cluster in any way.
    ///
    /// # Panics
    /// If there is no such cluster.
    #[must_use]
    pub fn edit_cluster(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        self.edit(|config| {
            let cluster = clusters(config).iter_mut().find(|cluster| cluster["name"] == name);
            change(cluster.unwrap_or_else(|| panic!("no cluster named {name}")));
        })
    }

    /// Adds a cluster with one endpoint, at that port of the loopback address.
    #[must_use]
    pub fn add_cluster(self, name: &str, port: u16) -> Self {
        self.edit(|config| {
            clusters(config).push(json!({ "name": name, "type": "STATIC", "connect_timeout": "0.5s" }));
        })
        .cluster(name, port)
    }

    /// Removes a cluster.
    #[must_use]
    pub fn remove_cluster(self, name: &str) -> Self {
        self.edit(|config| clusters(config).retain(|cluster| cluster["name"] != name))
    }

    /// Uses this text as Envoy's configuration, unchanged, instead of what was read and edited. Envoy's
    /// working directory is then the repository's root.
    #[must_use]
    pub fn verbatim(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Uses another module than [`module::built`].
    #[must_use]
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// Sets the number of workers, 2 by default.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Sets Envoy's log level, `warn` by default.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Sets the log levels of Envoy's components, `wasm:info` by default.
    #[must_use]
    pub fn component_log_level(mut self, levels: &str) -> Self {
        levels.clone_into(&mut self.component_log_level);
        self
    }

    /// Adds an argument to Envoy's command line.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// What starts Envoy.
    #[must_use]
    pub fn launcher(mut self, launcher: Launcher) -> Self {
        self.launcher = launcher;
        self
    }

    /// How long [`Envoy::start`](super::Envoy::start) waits for it, 20 s by default.
    #[must_use]
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.start_limit = limit;
        self
    }

    /// The whole configuration as Envoy would get it, except for the module's path.
    pub fn config(&self) -> &Value {
        &self.config
    }
}

/// The content of `deploy/dynamic/filter.yaml`, with the path of [`module::built`], for the installed
/// Envoy.
///
/// # Errors
/// If it cannot be read, or as [`module::built`] and [`for_this_envoy`].
pub fn dynamic_filter() -> Result<Value> {
    let file = "deploy/dynamic/filter.yaml";
    let mut filter: Value = serde_saphyr::from_str(&read(file)?).map_err(|e| anyhow::anyhow!("{file}: {e}"))?;
    let filename = "/resources/0/typed_config/config/vm_config/code/local/filename";
    *filter.pointer_mut(filename).with_context(|| format!("{file}: no {filename}"))? =
        module::built()?.to_str().context("the module's path is no UTF-8")?.into();
    for_this_envoy(&mut filter)?;
    Ok(filter)
}

/// Sets the module's path in the filters that load one from a file.
pub(super) fn place_module(bootstrap: &mut Bootstrap) -> Result<()> {
    for filter in filters_of_all_listeners(&mut bootstrap.config) {
        if let Some(filename) = filter.pointer_mut("/typed_config/config/vm_config/code/local/filename") {
            let module = bootstrap.module.clone().map_or_else(module::built, module::checked)?;
            *filename = module.to_str().with_context(|| format!("{module:?} is no UTF-8"))?.into();
        }
    }
    Ok(())
}

/// Moves the list of capabilities to where the installed Envoy looks for it: before 1.40 it belonged
/// to the plugin's configuration, not to its VM's.
///
/// # Errors
/// As [`version`].
pub fn for_this_envoy(config: &mut Value) -> Result<()> {
    fn lift(value: &mut Value) {
        let list = value.get_mut("vm_config").and_then(Value::as_object_mut);
        if let Some(list) = list.and_then(|vm_config| vm_config.remove("capability_restriction_config")) {
            value["capability_restriction_config"] = list;
        }
        match value {
            Value::Object(fields) => fields.values_mut().for_each(lift),
            Value::Array(values) => values.iter_mut().for_each(lift),
            _ => {}
        }
    }

    if version()? < (1, 40) {
        lift(config);
    }
    Ok(())
}

fn hcm(config: &mut Value) -> &mut Value {
    config
        .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
        .expect("a listener with an HTTP connection manager")
}

fn filters(config: &mut Value) -> &mut Vec<Value> {
    hcm(config)["http_filters"].as_array_mut().expect("the connection manager has HTTP filters")
}

fn filters_of_all_listeners(config: &mut Value) -> impl Iterator<Item = &mut Value> {
    fn items<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
        value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
    }
    config
        .get_mut("static_resources")
        .into_iter()
        .flat_map(|resources| items(resources, "listeners"))
        .flat_map(|listener| items(listener, "filter_chains"))
        .flat_map(|chain| items(chain, "filters"))
        .filter_map(|filter| filter.get_mut("typed_config"))
        .flat_map(|manager| items(manager, "http_filters"))
}

fn clusters(config: &mut Value) -> &mut Vec<Value> {
    config
        .pointer_mut("/static_resources/clusters")
        .and_then(Value::as_array_mut)
        .expect("the configuration has clusters")
}
