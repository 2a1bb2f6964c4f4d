//! Reading files: each is one or more documents.

use std::path::Path;

use serde_json::Value;

use crate::node::{Node, Place};

/// One YAML or JSON document.
#[derive(Debug)]
pub(crate) struct Document {
    /// The file.
    pub(crate) place: Place,
    pub(crate) value: Value,
    /// The document as it was written, if it is JSON and the only one of its text. The filter reads
    /// it again, since it refuses what a parser of YAML may let pass.
    pub(crate) json: Option<String>,
}

impl Document {
    /// Its top.
    pub(crate) fn root(&self) -> Node<'_> {
        Node { place: self.place.clone(), value: &self.value }
    }
}

/// All documents of a file. An error says why there are none.
pub(crate) fn read(path: &Path, file: usize) -> Result<Vec<Document>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    // JSON is YAML too. The message alone: the lines around it may hold a secret.
    let values: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| error.without_snippet().to_string())?;
    let json = serde_json::from_str::<Value>(&text).is_ok().then(|| text.clone());
    let place = Place::file(file);
    Ok(values.into_iter().map(|value| Document { place: place.clone(), value, json: json.clone() }).collect())
}
