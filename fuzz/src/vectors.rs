//! The vectors of `tests/`, as inputs.

use serde_json::Value;

use crate::target::Seed;

/// One input for every vector that gives one.
pub(crate) fn seeds(input: impl Fn(&Value) -> Option<Vec<u8>>) -> Vec<Seed> {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/vectors.json")).expect("a list of vectors");
    let named = vectors.iter().filter_map(|vector| Some((text(vector, "name")?.to_owned(), input(vector)?)));
    named.collect()
}

/// A text field of a vector.
pub(crate) fn text<'a>(vector: &'a Value, field: &str) -> Option<&'a str> {
    vector[field].as_str()
}
