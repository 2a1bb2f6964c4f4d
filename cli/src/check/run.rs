//! All checks, in order.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::environment::Environment;
use crate::check::files::{self, Document};
use crate::check::finding::Findings;
use crate::check::lines::Lines;
use crate::check::node::Node;
use crate::check::output::Report;
use crate::check::plugin::{self, Endpoint, Plugin};
use crate::check::survey::{Filter, Position, Survey};
use crate::check::{Options, clusters, decision, filter, labels, manager, records, routes, spelling, strip};

/// Checks all files, together.
pub(crate) fn check(options: &Options) -> Vec<Report> {
    let mut found = Findings::default();
    let mut documents = Vec::new();
    for (file, path) in options.files.iter().enumerate() {
        match files::read(path, file, &mut found.lines) {
            Ok(read) => documents.extend(read),
            Err(reason) => found.unchecked(file, reason),
        }
    }
    let survey = Survey::of(&documents);
    let mut run = Run { options, survey: &survey, found, endpoints: Vec::new(), relevant: BTreeSet::new() };
    documents.iter().for_each(|document| run.check_plugin_alone(document));
    survey.filters.iter().filter(|filter| filter.is_named(&options.filter)).for_each(|filter| run.check_filter(filter));
    (0..options.files.len()).for_each(|file| run.check_for_nothing(file));

    let reports = options.files.iter().enumerate().map(|(file, path)| Report {
        file: path.display().to_string(),
        findings: run.found.of_file(file),
        endpoints: run.endpoints.iter().filter(|(of, _)| *of == file).map(|(_, endpoint)| endpoint.clone()).collect(),
    });
    reports.collect()
}

struct Run<'a> {
    options: &'a Options,
    survey: &'a Survey<'a>,
    found: Findings,
    /// What is configured, by the file that says so.
    endpoints: Vec<(usize, Endpoint)>,
    /// The files that had a part in it.
    relevant: BTreeSet<usize>,
}

impl Run<'_> {
    /// A document that is a plugin configuration and nothing else.
    fn check_plugin_alone(&mut self, document: &Document) {
        if !document.value.get("endpoints").is_some_and(Value::is_array) {
            return;
        }
        let bytes = document.json.clone().unwrap_or_else(|| document.value.to_string()).into_bytes();
        let environment = Environment::everything();
        let plugin = plugin::check(&bytes, &document.place, &environment, self.options.env_optional, &mut self.found);
        let file = document.place.file;
        self.configured(file, &plugin);
        self.found.note(file, "this is the plugin configuration alone: the rest of Envoy's was not checked");
    }

    /// A filter, and what is around it.
    fn check_filter(&mut self, filter: &Filter<'_>) {
        let file = filter.root.place.file;
        self.found.of_plugin = lines_of(filter, &self.found.lines);
        let plugin = match filter.plugin_bytes() {
            Some(bytes) => {
                let environment = Environment::of_vm(&filter.config);
                let place = &filter.root.place;
                plugin::check(&bytes, place, &environment, self.options.env_optional, &mut self.found)
            }
            None => {
                let reason = "must be a google.protobuf.Struct, or JSON text in a google.protobuf.StringValue";
                self.found.problem(filter.config.at("configuration"), reason);
                Plugin::default()
            }
        };
        filter::check(&filter.config, self.options.module_optional, &mut self.found);
        records::check(filter, self.survey, &self.options.filter, &mut self.found);
        self.configured(file, &plugin);
        let positions = self.survey.positions(filter);
        for position in &positions {
            self.check_around(*position, filter, &plugin);
        }
        if positions.is_empty() {
            let reason = "the connection manager, its routes and the clusters are not in the files given: not checked";
            self.found.note(file, reason);
        }
        self.found.of_plugin = Lines::default();
    }

    /// The Envoy that a filter stands in.
    fn check_around(&mut self, position: Position, filter: &Filter<'_>, plugin: &Plugin) {
        let survey = self.survey;
        let Some((around, item)) = survey.at(position) else { return };
        let endpoints = plugin.endpoints();
        let found = &mut self.found;
        let is_off = |other: &Node<'_>| routes::is_off(other, around, survey, &endpoints);
        manager::check(around, &item, is_off, found);
        manager::check_buffers(around, plugin.max_body_bytes(), found);
        routes::check(around, &item, survey, &endpoints, found);
        spelling::check(around, survey, &endpoints, found);
        clusters::check(&around.root, &endpoints, &filter.root.place, found);
        if let Some(cluster) = plugin.record_cluster() {
            clusters::check_record(&around.root, cluster, &filter.root.place, found);
        }
        strip::check(&around.root, survey, &endpoints, found);
        decision::check(&around.root, survey, &endpoints, &filter.root.place, found);
        labels::check(&around.root, plugin.record_cluster().is_some(), found);

        let file = around.root.place.file;
        if around.root.get("static_resources").is_none() {
            found.note(file, "clusters and stats_config are not in this file: not checked");
        }
        if file != filter.root.place.file {
            self.configured(file, plugin);
        }
        self.relevant.extend(routes::of(around, survey).map(|routes| routes.place.file));
    }

    fn configured(&mut self, file: usize, plugin: &Plugin) {
        self.relevant.insert(file);
        for endpoint in plugin.endpoints().into_iter().map(|endpoint| (file, endpoint)) {
            // The same filter can stand in more than one listener.
            if !self.endpoints.contains(&endpoint) {
                self.endpoints.push(endpoint);
            }
        }
    }

    /// Says so if there was nothing to check in a file.
    fn check_for_nothing(&mut self, file: usize) {
        if self.relevant.contains(&file) || !self.found.of_file(file).is_empty() {
            return;
        }
        let survey = self.survey;
        let discovered: Vec<_> = survey.discoveries().filter(|(_, item)| item.place.file == file).collect();
        for (position, item) in &discovered {
            if item.text("name") == Some(&self.options.filter)
                && let Some((around, item)) = survey.at(*position)
            {
                manager::check(around, &item, |_| false, &mut self.found);
                labels::check(&around.root, false, &mut self.found);
            }
        }
        if !discovered.is_empty() {
            let reason = "has the filter from elsewhere, by config_discovery: check that file, or both together";
            self.found.unchecked(file, reason);
            return;
        }
        let name = &self.options.filter;
        let mut reason = format!("holds neither a plugin configuration nor a Wasm filter named {name}");
        let names: BTreeSet<_> =
            survey.filters.iter().filter(|f| f.root.place.file == file).flat_map(names_of).collect();
        if !names.is_empty() {
            let names: Vec<_> = names.into_iter().collect();
            reason = format!("{reason}, but Wasm filters named {}: choose one by --filter", names.join(", "));
        }
        self.found.unchecked(file, reason);
    }
}

/// The lines of its plugin configuration.
fn lines_of(filter: &Filter<'_>, all: &Lines) -> Lines {
    let mut lines = Lines::default();
    let Some(configuration) = filter.config.get("configuration.value") else { return lines };
    let root = &filter.root.place;
    match (configuration.value.as_str(), all.at(&configuration.place)) {
        (Some(text), Some(line)) => lines.add(text, std::slice::from_ref(root), Some(line)),
        _ => lines = all.moved(&configuration.place, root),
    }
    lines
}

/// What it can be chosen by.
fn names_of<'a>(filter: &Filter<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    filter.name.into_iter().chain(filter.config.text("name"))
}
