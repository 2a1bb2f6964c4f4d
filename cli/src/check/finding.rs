//! What the checks find.

use serde::Serialize;

use crate::check::lines::Lines;
use crate::check::node::Place;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// The file could not be checked.
    Unchecked,
    /// Envoy or the filter would refuse it, or the filter would not keep its promises.
    Problem,
    /// It works, but not as it should, or it cannot be told from here.
    Warning,
    /// What was not checked.
    Note,
}

/// Something wrong, and where. Quotes no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) place: Place,
    /// The line of the file, if it is known.
    pub(crate) line: Option<u64>,
    pub(crate) level: Level,
    pub(crate) reason: String,
}

/// Everything found so far, in the order of the checks.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    /// Of all files.
    pub(crate) lines: Lines,
    /// Of the plugin configuration that is being checked, as if it were all of its document: so its fields
    /// are named.
    pub(crate) of_plugin: Lines,
}

impl Findings {
    pub(crate) fn unchecked(&mut self, file: usize, reason: impl Into<String>) {
        self.add(Place::file(file), Level::Unchecked, reason.into());
    }

    pub(crate) fn problem(&mut self, place: Place, reason: impl Into<String>) {
        self.add(place, Level::Problem, reason.into());
    }

    pub(crate) fn warning(&mut self, place: Place, reason: impl Into<String>) {
        self.add(place, Level::Warning, reason.into());
    }

    pub(crate) fn note(&mut self, file: usize, reason: impl Into<String>) {
        self.add(Place::file(file), Level::Note, reason.into());
    }

    /// A filter in two listeners shares their surroundings: said once is enough.
    fn add(&mut self, place: Place, level: Level, reason: String) {
        let line = self.of_plugin.of(&place).or_else(|| self.lines.of(&place));
        let finding = Finding { place, line, level, reason };
        if !self.list.contains(&finding) {
            self.list.push(finding);
        }
    }

    /// What was found in that file.
    pub(crate) fn of_file(&self, file: usize) -> Vec<Finding> {
        self.list.iter().filter(|finding| finding.place.file == file).cloned().collect()
    }
}
