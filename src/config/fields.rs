//! Reading a JSON object field by field, with the path of each in every refusal.
//!
//! By hand, not derived: a derived reader quotes what it found in its errors, which here may be a
//! secret, names no path, and costs the module tens of kilobytes.

use std::fmt;
use std::ops::RangeInclusive;

use super::{ConfigError, Env, Secret};
use prost_types::value::Kind;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The fields of one object that have not been read yet.
#[derive(Default)]
pub(super) struct Fields {
    at: String,
    left: Map<String, Value>,
}

impl Fields {
    /// The fields of the outermost object.
    pub(super) fn top(value: Value) -> Result<Self, ConfigError> {
        match value {
            Value::Object(left) => Ok(Self { at: String::new(), left }),
            _ => Err(ConfigError::new("configuration", "must be an object")),
        }
    }

    /// A refusal of that field.
    pub(super) fn wrong(&self, field: &str, reason: &str) -> ConfigError {
        ConfigError::new(self.path_of(field), reason)
    }

    /// The names of the fields that are left, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// To be called last: refuses what was never asked for.
    pub(super) fn finish(&self) -> Result<(), ConfigError> {
        match self.left.keys().next() {
            Some(unknown) => Err(self.wrong(unknown, "unknown field")),
            None => Ok(()),
        }
    }

    pub(super) fn text(&mut self, field: &str) -> Result<Option<String>, ConfigError> {
        match self.left.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(field, "must be a string")),
        }
    }

    pub(super) fn required_text(&mut self, field: &str) -> Result<String, ConfigError> {
        self.text(field)?.ok_or_else(|| self.wrong(field, "is missing"))
    }

    /// A list of non-empty strings; empty where it is not there.
    pub(super) fn texts(&mut self, field: &str) -> Result<Vec<String>, ConfigError> {
        let mut texts = Vec::new();
        for (index, value) in self.list(field)?.into_iter().enumerate() {
            match value {
                Value::String(text) if !text.is_empty() => texts.push(text),
                Value::String(_) => return Err(self.wrong(&format!("{field}[{index}]"), "must not be empty")),
                _ => return Err(self.wrong(&format!("{field}[{index}]"), "must be a string")),
            }
        }
        Ok(texts)
    }

    pub(super) fn number(
        &mut self,
        field: &str,
        range: &RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let Some(value) = self.left.remove(field) else { return Ok(default) };
        value.as_u64().filter(|number| range.contains(number)).ok_or_else(|| {
            self.wrong(field, &format!("must be a whole number from {} to {}", range.start(), range.end()))
        })
    }

    pub(super) fn flag(&mut self, field: &str, default: bool) -> Result<bool, ConfigError> {
        match self.left.remove(field) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(field, "must be true or false")),
        }
    }

    pub(super) fn object(&mut self, field: &str) -> Result<Option<Self>, ConfigError> {
        match self.left.remove(field) {
            None => Ok(None),
            Some(Value::Object(left)) => Ok(Some(Self { at: self.path_of(field), left })),
            Some(_) => Err(self.wrong(field, "must be an object")),
        }
    }

    pub(super) fn required_object(&mut self, field: &str) -> Result<Self, ConfigError> {
        self.object(field)?.ok_or_else(|| self.wrong(field, "is missing"))
    }

    /// A list of one or more objects.
    pub(super) fn objects(&mut self, field: &str) -> Result<Vec<Self>, ConfigError> {
        let mut objects = Vec::new();
        for (index, value) in self.list(field)?.into_iter().enumerate() {
            let field = format!("{field}[{index}]");
            match value {
                Value::Object(left) => objects.push(Self { at: self.path_of(&field), left }),
                _ => return Err(self.wrong(&field, "must be an object")),
            }
        }
        if objects.is_empty() {
            return Err(self.wrong(field, "must hold at least one"));
        }
        Ok(objects)
    }

    /// A secret: a literal string, or `{"env": NAME}`.
    pub(super) fn secret(&mut self, field: &str, env: Env<'_>) -> Result<Secret, ConfigError> {
        let wrong = "must be a string or {\"env\": \"NAME\"}";
        match self.left.remove(field) {
            None => Err(self.wrong(field, "is missing")),
            Some(Value::String(text)) => Ok(Secret::new(text)),
            Some(Value::Object(mut map)) => match (map.remove("env"), map.is_empty()) {
                // The name is not shown: somebody may have written the secret in its place.
                (Some(Value::String(name)), true) => env(&name).map(Secret::new).ok_or_else(|| {
                    self.wrong(field, "the environment variable that env names is not set, or not passed to the VM")
                }),
                _ => Err(self.wrong(field, wrong)),
            },
            Some(_) => Err(self.wrong(field, wrong)),
        }
    }

    /// A secret that may be left out.
    pub(super) fn optional_secret(&mut self, field: &str, env: Env<'_>) -> Result<Option<Secret>, ConfigError> {
        if self.left.contains_key(field) { self.secret(field, env).map(Some) } else { Ok(None) }
    }

    fn list(&mut self, field: &str) -> Result<Vec<Value>, ConfigError> {
        match self.left.remove(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(field, "must be a list")),
        }
    }

    fn path_of(&self, field: &str) -> String {
        if self.at.is_empty() { field.to_owned() } else { format!("{}.{field}", self.at) }
    }
}

/// Parses JSON text. A duplicate key is an error, not a choice.
pub(super) fn from_json(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(bytes).map(|Strict(value)| value)
}

/// A decoded Struct as JSON. Its numbers are doubles; whole ones become integers.
pub(super) fn from_struct(decoded: prost_types::Struct) -> Value {
    let fields = decoded.fields.into_iter().map(|(name, value)| (name, from_struct_value(value)));
    Value::Object(fields.collect())
}

fn from_struct_value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => {
            whole(number).map(Number::from).or_else(|| Number::from_f64(number)).map_or(Value::Null, Value::Number)
        }
        Some(Kind::StructValue(fields)) => from_struct(fields),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(from_struct_value).collect()),
    }
}

/// The integer that a double is, if it is one that doubles can tell from its neighbours.
#[allow(clippy::cast_possible_truncation)] // checked to be whole and within 2^53
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= LIMIT).then_some(number as i64)
}

/// JSON without repeated keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrictVisitor;

        impl<'de> Visitor<'de> for StrictVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Bool(flag))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
                Ok(Value::from(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
                Ok(Value::from(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
                Ok(Value::from(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::String(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(Strict(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::Array(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut fields = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    if fields.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("duplicate key {key}")));
                    }
                    let Strict(value) = map.next_value()?;
                    fields.insert(key, value);
                }
                Ok(Value::Object(fields))
            }
        }

        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}
