//! The plugin configuration, by the filter's own parser.

use serde_json::Value;
use wecom_callback_filter::config::Config;
use wecom_callback_filter::wecom::callback::EventType;

use crate::environment::Environment;
use crate::finding::Findings;
use crate::node::Place;

/// A plugin configuration, if it is right.
#[derive(Debug, Default)]
pub(crate) struct Plugin {
    config: Option<Config>,
}

/// What the checks of Envoy's part need to know of an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) credentials: usize,
    /// The clusters that are called, by the field that names them.
    pub(crate) clusters: Vec<(String, String)>,
}

/// Checks a plugin configuration, whose fields stand below `place`.
pub(crate) fn check(
    bytes: &[u8],
    place: &Place,
    environment: &Environment,
    env_optional: bool,
    found: &mut Findings,
) -> Plugin {
    let parse = |bytes: &[u8]| Config::parse(bytes, &|name| environment.get(name));
    let result = match parse(bytes) {
        // Whatever else is wrong with secrets that are there is found in the second round.
        Err(error) if env_optional && error.field != "configuration" => match serde_json::from_slice::<Value>(bytes) {
            Ok(mut value) => {
                fill_in_secrets(&mut value, environment);
                parse(value.to_string().as_bytes())
            }
            Err(_) => Err(error),
        },
        result => result,
    };
    match result {
        Ok(config) => Plugin { config: Some(config) },
        Err(error) => {
            found.problem(place.below(&error.field), error.reason);
            Plugin::default()
        }
    }
}

impl Plugin {
    /// Its endpoints; none if it is wrong.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let endpoints = self.config.iter().flat_map(|config| config.endpoints().iter().enumerate());
        let endpoints = endpoints.map(|(index, endpoint)| Endpoint {
            name: endpoint.name().to_owned(),
            path: endpoint.path().to_owned(),
            credentials: endpoint.credentials().len(),
            clusters: [("decision", EventType::Bind), ("events", EventType::Other)]
                .map(|(upstream, event)| {
                    let field = format!("endpoints[{index}].{upstream}.cluster");
                    (field, endpoint.upstream(event).cluster().to_owned())
                })
                .into(),
        });
        endpoints.collect()
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
