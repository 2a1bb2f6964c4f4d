//! A value of a document together with its place.
//!
//! The documents are protobuf messages written as JSON or YAML. Envoy reads a field by its name in
//! the proto (`vm_config`) or in JSON's manner (`vmConfig`), and so does [`Node::get`].

use std::time::Duration;

use serde_json::Value;

/// Where something stands: in which of the files, and the path from the top of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Index of the file.
    pub(crate) file: usize,
    /// Which of the file's documents.
    pub(crate) document: usize,
    /// As `static_resources.listeners[0].name`. Empty: the file as a whole.
    pub(crate) path: String,
}

impl Place {
    /// A file as a whole, or its first document.
    pub(crate) fn file(file: usize) -> Self {
        Self { file, document: 0, path: String::new() }
    }

    /// Something below, by its path from here.
    pub(crate) fn below(&self, path: &str) -> Self {
        let dot = if self.path.is_empty() || path.is_empty() || path.starts_with('[') { "" } else { "." };
        Self { path: format!("{}{dot}{path}", self.path), ..*self }
    }

    /// A field directly below.
    pub(crate) fn key(&self, key: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-@".contains(c);
        if !key.is_empty() && key.chars().all(plain) { self.below(key) } else { self.below(&format!("[{key:?}]")) }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// Where it stands.
    pub(crate) place: Place,
    /// What stands there.
    pub(crate) value: &'a Value,
}

impl<'a> Node<'a> {
    /// The field at a path of names with dots between them.
    pub(crate) fn get(&self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self.clone(), |node, name| {
            let fields = node.value.as_object()?;
            let found = fields.get_key_value(name).or_else(|| fields.get_key_value(&camel_case(name)));
            // To protobuf's JSON, null is a field that is not there.
            let (key, value) = found.filter(|(_, value)| !value.is_null())?;
            Some(Self { place: node.place.key(key), value })
        })
    }

    /// The place of a field, whether it is there or not.
    pub(crate) fn at(&self, path: &str) -> Place {
        self.get(path).map_or_else(|| self.place.below(path), |node| node.place)
    }

    /// The items of a list; none if it is not there.
    pub(crate) fn items(&self, path: &str) -> Vec<Self> {
        self.get(path).map(|list| list.children()).unwrap_or_default()
    }

    /// The entries of a map, by their keys; none if it is not there.
    pub(crate) fn entries(&self, path: &str) -> Vec<(&'a str, Self)> {
        self.get(path).map(|map| map.fields()).unwrap_or_default()
    }

    /// The fields of an object, by their names as they are written.
    pub(crate) fn fields(&self) -> Vec<(&'a str, Self)> {
        let fields = self.value.as_object().into_iter().flatten();
        fields.map(|(key, value)| (key.as_str(), Self { place: self.place.key(key), value })).collect()
    }

    /// Everything directly below.
    pub(crate) fn children(&self) -> Vec<Self> {
        match self.value {
            Value::Object(_) => self.fields().into_iter().map(|(_, field)| field).collect(),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.map(|(index, value)| Self { place: self.place.below(&format!("[{index}]")), value }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A field that is a string.
    pub(crate) fn text(&self, path: &str) -> Option<&'a str> {
        self.get(path)?.value.as_str()
    }

    /// Whether a field is `true`.
    pub(crate) fn is_true(&self, path: &str) -> bool {
        self.get(path).is_some_and(|node| node.value == &Value::Bool(true))
    }

    /// A field that is a number. Protobuf's JSON writes 64-bit ones as strings.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        let node = self.get(path)?;
        node.value.as_u64().or_else(|| node.value.as_str()?.parse().ok())
    }

    /// A field that is a `google.protobuf.Duration`: `0.25s`.
    pub(crate) fn duration(&self, path: &str) -> Option<Duration> {
        let seconds = self.text(path)?.strip_suffix('s')?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// This as a message of that type: a `google.protobuf.Any`, or the TypedStruct that some control
    /// planes write, which has the message one level deeper.
    pub(crate) fn message(&self, type_name: &str) -> Option<Self> {
        let is = |name: &str| self.value.get(name)?.as_str()?.rsplit('/').next().map(|name| name == type_name);
        if is("@type") == Some(true) {
            Some(self.clone())
        } else if is("type_url").or_else(|| is("typeUrl")) == Some(true) {
            self.get("value")
        } else {
            None
        }
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut all, word| {
        let mut letters = word.chars();
        all.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        all.push_str(letters.as_str());
        all
    })
}
