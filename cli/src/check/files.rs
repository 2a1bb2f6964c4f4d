//! Reading files: each is one or more documents, and a document can hold others as texts.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::check::lines::Lines;
use crate::check::node::{Node, Place};

/// One YAML or JSON document.
#[derive(Debug)]
pub(crate) struct Document {
    /// The file, and where in it, if it is a text inside another document.
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

/// All documents of a file, those inside others included, and their `lines`. An error says why there are none.
pub(crate) fn read(path: &Path, file: usize, lines: &mut Lines) -> Result<Vec<Document>, String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| error.to_string())?;
    let mut outer = parse(&text, &Place::file(file))?;
    outer.iter_mut().enumerate().for_each(|(index, document)| document.place.document = index);
    lines.add(&text, &places(&outer), None);
    let mut documents = Vec::new();
    for document in outer {
        add_with_inner(document, &mut documents, lines)?;
    }
    Ok(documents)
}

fn parse(text: &str, place: &Place) -> Result<Vec<Document>, String> {
    // JSON is YAML too. The message alone: the lines around it may hold a secret.
    let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.without_snippet().to_string())?;
    let json = serde_json::from_str::<Value>(text).is_ok().then(|| text.to_owned());
    Ok(values.into_iter().map(|value| Document { place: place.clone(), value, json: json.clone() }).collect())
}

fn places(documents: &[Document]) -> Vec<Place> {
    documents.iter().map(|document| document.place.clone()).collect()
}

/// A document, and those in the texts of a Kubernetes manifest: the `data` of a ConfigMap, wherever
/// the manifest has it.
fn add_with_inner(document: Document, all: &mut Vec<Document>, lines: &mut Lines) -> Result<(), String> {
    let mut texts = Vec::new();
    if ["apiVersion", "kind"].iter().all(|name| document.value.get(name).is_some_and(Value::is_string)) {
        find_texts(&document.root(), &mut texts);
    }
    let mut inner = Vec::new();
    for (place, text) in texts {
        match parse(&text, &place) {
            Ok(documents) => {
                // Several would all stand at the same path.
                if let (Some(line), [document]) = (lines.at(&place), documents.as_slice()) {
                    lines.add(&text, std::slice::from_ref(&document.place), Some(line));
                }
                inner.extend(documents);
            }
            // Other texts may be anything: scripts, certificates.
            Err(reason) if is_named_as_yaml(&place.path) => return Err(format!("{}: {reason}", place.path)),
            Err(_) => {}
        }
    }
    all.push(document);
    for document in inner {
        add_with_inner(document, all, lines)?;
    }
    Ok(())
}

/// Every string that may be a document, outside of Envoy's messages: the text in such a message is
/// the filter's, and is read with it.
fn find_texts(node: &Node<'_>, texts: &mut Vec<(Place, String)>) {
    match node.value {
        Value::String(text) if text.contains('\n') || text.starts_with('{') => {
            texts.push((node.place.clone(), text.clone()));
        }
        Value::Object(fields) if fields.contains_key("@type") => {}
        // Its annotations can hold the manifest as it was before.
        Value::Object(_) => {
            let children = node.fields().into_iter().filter(|(name, _)| *name != "metadata");
            children.for_each(|(_, child)| find_texts(&child, texts));
        }
        _ => node.children().iter().for_each(|child| find_texts(child, texts)),
    }
}

fn is_named_as_yaml(path: &str) -> bool {
    [".yaml\"]", ".yml\"]", ".json\"]"].iter().any(|ending| path.ends_with(ending))
}
