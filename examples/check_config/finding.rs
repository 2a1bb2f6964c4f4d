//! What the checks find.

use crate::node::Place;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The file could not be checked.
    Unchecked,
    /// Envoy or the filter would refuse it, or the filter would not keep its promises.
    Problem,
}

/// Something wrong, and where. Quotes no value.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) place: Place,
    pub(crate) level: Level,
    pub(crate) reason: String,
}

/// Everything found so far, in the order of the checks.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn unchecked(&mut self, file: usize, reason: impl Into<String>) {
        self.0.push(Finding { place: Place::file(file), level: Level::Unchecked, reason: reason.into() });
    }

    pub(crate) fn problem(&mut self, place: Place, reason: impl Into<String>) {
        self.0.push(Finding { place, level: Level::Problem, reason: reason.into() });
    }

    /// What was found in that file.
    pub(crate) fn of_file(&self, file: usize) -> Vec<Finding> {
        self.0.iter().filter(|finding| finding.place.file == file).cloned().collect()
    }
}
