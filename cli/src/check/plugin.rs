//! The plugin configuration, by the filter's own parser.
//!
//! That parser ends at the first thing that is wrong. To find all of them, what it refused is replaced
//! by something right, or removed, and the rest is parsed again. So every reason is the one that
//! Envoy's log would give.

use serde_json::{Value, json};
use wecom_callback_filter::config::limits::MAX_BODY_BYTES_DEFAULT;
use wecom_callback_filter::config::{self, Config, ConfigError};
use wecom_callback_filter::wecom::callback::EventType;

use crate::check::environment::Environment;
use crate::check::finding::Findings;
use crate::check::node::Place;

/// A plugin configuration as far as it is right.
#[derive(Debug, Default)]
pub(crate) struct Plugin {
    config: Option<Config>,
    /// Fields that were replaced or removed.
    repaired: Vec<String>,
}

/// What the checks of Envoy's part need to know of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As in `endpoints[0]`.
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) credentials: usize,
    /// The clusters that are called, by the field that names them.
    pub(crate) clusters: Vec<(String, String)>,
    /// Who decides about binds, unless that was wrong.
    pub(crate) decision: Option<Decision>,
}

/// What the checks of Envoy's part need to know of a decision endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) cluster: String,
    pub(crate) path: String,
    /// Whether the filter sends headers by which it can be known.
    pub(crate) has_headers: bool,
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
    let tell = |error: &ConfigError, found: &mut Findings| {
        found.problem(place.below(&error.field), error.reason.clone());
    };
    let mut plugin = Plugin::default();
    let mut result = parse(bytes);
    let mut value = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    if let Err(error) = &result
        && error.field == "configuration"
        && value.is_object()
    {
        // It is JSON but for a repeated key, of which the last one now counts.
        tell(error, found);
        result = parse(value.to_string().as_bytes());
    }
    loop {
        let error = match result {
            Ok(config) => {
                if config.freshness_seconds() == 0 && plugin.is_given("freshness_seconds") {
                    let reason = "is 0: a recorded callback is delivered again as soon as its record has expired";
                    found.warning(place.below("freshness_seconds"), reason);
                }
                plugin.config = Some(config);
                return plugin;
            }
            Err(error) => error,
        };
        // It would go on for ever.
        if plugin.repaired.contains(&error.field) {
            return plugin;
        }
        let refused = field(&value, &error.field);
        if !(env_optional && refused.is_some_and(|secret| is_only_unset(secret, environment))) {
            tell(&error, found);
        }
        let right = right_configuration(plugin.repaired.len());
        if !repair(&mut value, &error.field, field(&right, &of_the_first_items(&error.field))) {
            return plugin;
        }
        plugin.repaired.push(error.field);
        result = parse(value.to_string().as_bytes());
    }
}

impl Plugin {
    /// Largest request body, in bytes.
    pub(crate) fn max_body_bytes(&self) -> u64 {
        let configured = self.config.as_ref().and_then(|config| u64::try_from(config.max_body_bytes()).ok());
        configured.unwrap_or(MAX_BODY_BYTES_DEFAULT)
    }

    /// The cluster of the record that replicas share, if there is one.
    pub(crate) fn record_cluster(&self) -> Option<&str> {
        let redis = self.config.as_ref()?.dedup().redis()?;
        self.is_given("dedup.redis.cluster").then(|| redis.cluster())
    }

    /// Those endpoints whose path is right.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let endpoints = self.config.iter().flat_map(|config| config.endpoints().iter().enumerate());
        let endpoints = endpoints.map(|(index, endpoint)| {
            let field = format!("endpoints[{index}]");
            let mut clusters: Vec<(String, String)> = Vec::new();
            for (upstream, event) in [("decision", EventType::Bind), ("events", EventType::Other)] {
                let cluster = endpoint.upstream(event).cluster();
                let at = format!("{field}.{upstream}.cluster");
                // Without `events`, the decision's is its cluster.
                if self.is_given(&at) && clusters.iter().all(|(_, known)| known != cluster) {
                    clusters.push((at, cluster.to_owned()));
                }
            }
            let decision = self.decision(&field, endpoint);
            Endpoint {
                field,
                name: endpoint.name().to_owned(),
                path: endpoint.path().to_owned(),
                credentials: endpoint.credentials().len(),
                clusters,
                decision,
            }
        });
        endpoints.filter(|endpoint| self.is_given(&format!("{}.path", endpoint.field))).collect()
    }

    fn decision(&self, endpoint: &str, config: &config::Endpoint) -> Option<Decision> {
        let is_given = |field: &str| self.is_given(&format!("{endpoint}.decision.{field}"));
        let upstream = config.upstream(EventType::Bind);
        // One whose value is wrong, or not set here, is there all the same.
        let repaired = format!("{endpoint}.decision.headers");
        let has_headers =
            !upstream.headers().is_empty() || self.repaired.iter().any(|field| field.starts_with(&repaired));
        let path = upstream.path().split('?').next().unwrap_or_default().to_owned();
        (is_given("cluster") && is_given("path")).then(|| Decision {
            cluster: upstream.cluster().to_owned(),
            path,
            has_headers,
        })
    }

    /// Whether a field, and all that it stands in, are as they were written.
    fn is_given(&self, field: &str) -> bool {
        self.repaired.iter().all(|repaired| {
            field.strip_prefix(repaired.as_str()).is_none_or(|rest| !rest.is_empty() && !rest.starts_with(['.', '[']))
        })
    }
}

fn is_only_unset(secret: &Value, environment: &Environment) -> bool {
    let alone = secret.as_object().is_some_and(|fields| fields.len() == 1);
    let name = secret.get("env").and_then(Value::as_str);
    alone && name.is_some_and(|name| environment.is_only_unset(name))
}

/// Puts what stands at that field of a right configuration in the place of what was refused, or
/// removes it where a right one has nothing. `false` if neither can be done.
fn repair(value: &mut Value, at: &str, right: Option<&Value>) -> bool {
    match (step(value, at), value) {
        (Some((Step::Key(key), "")), Value::Object(fields)) => match right {
            Some(right) => fields.insert(key, right.clone()).is_some(),
            None => fields.remove(&key).is_some(),
        },
        (Some((Step::Key(key), rest)), Value::Object(fields)) => {
            fields.get_mut(&key).is_some_and(|field| repair(field, rest, right))
        }
        // It is missing, or there would be a step.
        (None, Value::Object(fields)) => {
            right.is_some_and(|right| fields.insert(at.to_owned(), right.clone()).is_none())
        }
        (Some((Step::Index(index), rest)), Value::Array(items)) => {
            let Some(item) = items.get_mut(index) else { return false };
            if !rest.is_empty() {
                return repair(item, rest, right);
            }
            right.is_some_and(|right| {
                item.clone_from(right);
                true
            })
        }
        _ => false,
    }
}

/// What the filter takes, whatever else is written: its path is unique, and any life of a record is
/// long enough for its freshness.
fn right_configuration(round: usize) -> Value {
    json!({ "freshness_seconds": 0, "endpoints": [{
        "path": format!("/stand-in-{round}"),
        "receive_ids": ["stand-in"],
        "verify_receive_ids": ["stand-in"],
        "credentials": [{ "token": "standin", "encoding_aes_key": "A".repeat(43) }],
        "decision": { "cluster": "stand-in" },
        "events": { "cluster": "stand-in" }
    }], "dedup": { "redis": {
        "cluster": "stand-in",
        "secret": "A".repeat(32),
        "previous_secret": "A".repeat(32),
        "username": "stand-in",
        "password": "stand-in"
    } } })
}

/// The same field, of the first item of each list.
fn of_the_first_items(at: &str) -> String {
    let mut parts = at.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| match part.split_once(']') {
        Some((_, rest)) => format!("{all}[0]{rest}"),
        None => format!("{all}[{part}"),
    })
}

/// The value at a path as the parser writes it: `endpoints[0].path`.
fn field<'a>(value: &'a Value, at: &str) -> Option<&'a Value> {
    if at.is_empty() {
        return Some(value);
    }
    match step(value, at)? {
        (Step::Key(key), rest) => field(value.get(key)?, rest),
        (Step::Index(index), rest) => field(value.get(index)?, rest),
    }
}

/// One step of a path.
enum Step {
    Key(String),
    Index(usize),
}

/// The first step of a path into a value, and the rest of the path. Of an object's keys the longest
/// that fits, since a key may hold anything, dots included.
fn step<'b>(value: &Value, at: &'b str) -> Option<(Step, &'b str)> {
    match value {
        Value::Object(fields) => {
            let fits = fields.keys().filter_map(|key| {
                let rest = at.strip_prefix(key.as_str())?;
                let ends = rest.is_empty() || rest.starts_with('[');
                Some((key, if ends { rest } else { rest.strip_prefix('.')? }))
            });
            fits.max_by_key(|(key, _)| key.len()).map(|(key, rest)| (Step::Key(key.clone()), rest))
        }
        Value::Array(_) => {
            let (index, rest) = at.strip_prefix('[')?.split_once(']')?;
            Some((Step::Index(index.parse().ok()?), rest.strip_prefix('.').unwrap_or(rest)))
        }
        _ => None,
    }
}
