//! Where in all documents the Wasm filters are, however deep.

use crate::files::Document;
use crate::node::Node;

const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

/// What all documents hold.
#[derive(Debug, Default)]
pub(crate) struct Survey<'a> {
    pub(crate) filters: Vec<Filter<'a>>,
    /// Filters whose configuration comes from elsewhere.
    pub(crate) discoveries: Vec<Node<'a>>,
}

/// A Wasm filter with a configuration of its own.
#[derive(Debug, Clone)]
pub(crate) struct Filter<'a> {
    /// Its name in the chain, or as an extension configuration.
    pub(crate) name: Option<&'a str>,
    /// Envoy's PluginConfig.
    pub(crate) config: Node<'a>,
    /// The document that it stands in.
    pub(crate) root: Node<'a>,
}

impl<'a> Survey<'a> {
    /// Looks through all documents.
    pub(crate) fn of(documents: &'a [Document]) -> Self {
        let mut survey = Self::default();
        for document in documents {
            let root = document.root();
            survey.walk(&root, &root, None);
        }
        survey
    }

    fn walk(&mut self, node: &Node<'a>, root: &Node<'a>, around: Option<&'a str>) {
        if let Some(config) = node.message(WASM).and_then(|wasm| wasm.get("config")) {
            self.filters.push(Filter { name: around, config, root: root.clone() });
            return;
        }
        if node.get("config_discovery").is_some() {
            self.discoveries.push(node.clone());
        }
        let name = node.text("name").or(around);
        node.children().iter().for_each(|child| self.walk(child, root, name));
    }
}

impl Filter<'_> {
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name == Some(name) || self.config.text("name") == Some(name)
    }
}
