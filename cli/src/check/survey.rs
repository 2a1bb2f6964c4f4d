//! Where in all documents the Wasm filters, the connection managers, the TCP proxies and the routes are, however deep.

use crate::check::files::Document;
use crate::check::node::Node;

const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";
const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const ROUTES: &str = "envoy.config.route.v3.RouteConfiguration";

/// What all documents hold.
#[derive(Debug, Default)]
pub(crate) struct Survey<'a> {
    pub(crate) filters: Vec<Filter<'a>>,
    pub(crate) managers: Vec<Manager<'a>>,
    /// TCP proxies that connections from outside reach, and the document that each stands in.
    pub(crate) tcp_proxies: Vec<(Node<'a>, Node<'a>)>,
    /// RouteConfigurations outside of a connection manager, as RDS delivers them.
    pub(crate) routes: Vec<Node<'a>>,
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
    chain: Option<Position>,
}

/// A connection manager.
#[derive(Debug)]
pub(crate) struct Manager<'a> {
    pub(crate) node: Node<'a>,
    /// The listener around it, if there is one, and its filter chain.
    pub(crate) listener: Option<Node<'a>>,
    pub(crate) filter_chain: Option<Node<'a>>,
    /// The document that it stands in.
    pub(crate) root: Node<'a>,
}

/// A place in the HTTP filters of a manager, by indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) manager: usize,
    pub(crate) index: usize,
}

/// What lies around a node.
#[derive(Clone)]
struct Around<'a> {
    root: Node<'a>,
    name: Option<&'a str>,
    listener: Option<Node<'a>>,
    filter_chain: Option<Node<'a>>,
    chain: Option<Position>,
}

impl<'a> Survey<'a> {
    /// Looks through all documents.
    pub(crate) fn of(documents: &'a [Document]) -> Self {
        let mut survey = Self::default();
        for document in documents {
            let root = document.root();
            let nothing = Around { root: root.clone(), name: None, listener: None, filter_chain: None, chain: None };
            survey.walk(&root, &nothing);
        }
        survey
    }

    /// Where a filter stands in a chain: itself, or by a config_discovery of its name.
    pub(crate) fn positions(&self, filter: &Filter<'a>) -> Vec<Position> {
        match (filter.chain, filter.name) {
            (Some(position), _) => vec![position],
            (None, Some(name)) => {
                self.discoveries().filter(|(_, item)| item.text("name") == Some(name)).map(|(at, _)| at).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// The manager of a position, and what its chain has there.
    pub(crate) fn at(&self, position: Position) -> Option<(&Manager<'a>, Node<'a>)> {
        let manager = self.managers.get(position.manager)?;
        Some((manager, manager.chain().into_iter().nth(position.index)?))
    }

    /// Every HTTP filter whose configuration comes from elsewhere.
    pub(crate) fn discoveries(&self) -> impl Iterator<Item = (Position, Node<'a>)> {
        self.managers.iter().enumerate().flat_map(|(manager, node)| {
            let chain = node.chain().into_iter().enumerate();
            let discovered = chain.filter(|(_, item)| item.get("config_discovery").is_some());
            discovered.map(move |(index, item)| (Position { manager, index }, item))
        })
    }

    fn walk(&mut self, node: &Node<'a>, around: &Around<'a>) {
        if let Some(config) = node.message(WASM).and_then(|wasm| wasm.get("config")) {
            let Around { root, name, chain, .. } = around.clone();
            self.filters.push(Filter { name, config, root, chain });
            return;
        }
        let mut below = around.clone();
        below.name = node.text("name").or(around.name);
        if node.get("filter_chains").is_some() || node.get("default_filter_chain").is_some() {
            below.listener = Some(node.clone());
        }
        if node.get("filters").is_some() {
            below.filter_chain = Some(node.clone());
        }
        if let Some(manager) = node.message(MANAGER) {
            self.walk_manager(&manager, &below);
            return;
        }
        // An internal listener is reached by Envoy itself alone, as by a cluster that is tunnelled.
        let is_internal = around.listener.as_ref().is_some_and(|listener| listener.get("internal_listener").is_some());
        if let Some(proxy) = node.message(TCP_PROXY).filter(|_| !is_internal) {
            self.tcp_proxies.push((proxy, around.root.clone()));
        }
        self.routes.extend(node.message(ROUTES));
        node.children().iter().for_each(|child| self.walk(child, &below));
    }

    fn walk_manager(&mut self, node: &Node<'a>, around: &Around<'a>) {
        let manager = self.managers.len();
        let Around { root, listener, filter_chain, .. } = around.clone();
        self.managers.push(Manager { node: node.clone(), listener, filter_chain, root });
        for (index, item) in node.items("http_filters").iter().enumerate() {
            let mut below = around.clone();
            below.chain = Some(Position { manager, index });
            self.walk(item, &below);
        }
    }
}

impl Filter<'_> {
    /// The plugin configuration in the form that the filter gets it in. `None` if it is none.
    pub(crate) fn plugin_bytes(&self) -> Option<Vec<u8>> {
        let configuration = self.config.get("configuration")?;
        if configuration.message("google.protobuf.StringValue").is_some() {
            return Some(configuration.text("value")?.to_owned().into_bytes());
        }
        let value = configuration.message("google.protobuf.Struct")?.get("value")?.value;
        value.is_object().then(|| value.to_string().into_bytes())
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name == Some(name) || self.config.text("name") == Some(name)
    }
}

impl<'a> Manager<'a> {
    /// Its HTTP filters.
    pub(crate) fn chain(&self) -> Vec<Node<'a>> {
        self.node.items("http_filters")
    }
}
