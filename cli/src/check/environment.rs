//! The environment that the filter's VM is given.

use serde_json::{Map, Value};

use crate::check::node::Node;

/// Variables by name.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Names whose values come from Envoy's own environment; `None` for all.
    host_keys: Option<Vec<String>>,
    key_values: Map<String, Value>,
}

impl Environment {
    /// Of a plugin configuration alone, which does not say what the VM is given.
    pub(crate) fn everything() -> Self {
        Self { host_keys: None, key_values: Map::new() }
    }

    /// As Envoy's PluginConfig sets it.
    pub(crate) fn of_vm(config: &Node<'_>) -> Self {
        let host_keys = config.items("vm_config.environment_variables.host_env_keys");
        let key_values = config.get("vm_config.environment_variables.key_values");
        Self {
            host_keys: Some(host_keys.iter().filter_map(|key| key.value.as_str()).map(str::to_owned).collect()),
            key_values: key_values.and_then(|map| map.value.as_object().cloned()).unwrap_or_default(),
        }
    }

    /// What the VM sees, if Envoy's environment is that of this process.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        match self.key_values.get(name) {
            Some(value) => value.as_str().map(str::to_owned),
            None => self.is_passed_from_host(name).then(|| std::env::var(name).ok()).flatten(),
        }
    }

    /// Whether Envoy would hand it over, if only it were set here.
    pub(crate) fn is_only_unset(&self, name: &str) -> bool {
        !self.key_values.contains_key(name) && self.is_passed_from_host(name) && std::env::var_os(name).is_none()
    }

    fn is_passed_from_host(&self, name: &str) -> bool {
        self.host_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name))
    }
}
