//! All answers together.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::send::Options;
use crate::send::reading::{Reading, milliseconds};

/// All answers together.
#[derive(Default)]
pub(super) struct Summary {
    classes: BTreeMap<String, u64>,
    elapsed: Vec<Duration>,
    unexpected: u64,
    unanswered: u64,
    in_clear: u64,
}

impl Summary {
    pub(super) fn add(&mut self, read: &Reading, options: &Options) {
        let count = self.classes.entry(read.class()).or_default();
        *count = count.saturating_add(1);
        match read.elapsed() {
            Some(elapsed) => self.elapsed.push(elapsed),
            None => self.unanswered = self.unanswered.saturating_add(1),
        }
        self.in_clear = self.in_clear.saturating_add(read.is_in_clear().into());
        if !read.as_expected(options) {
            self.unexpected = self.unexpected.saturating_add(1);
        }
    }

    /// As documented in `--help`.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.unanswered > 0 { 3 } else { u8::from(self.unexpected > 0) })
    }

    /// How many binds were answered without encryption.
    pub(super) fn in_clear(&self) -> u64 {
        self.in_clear
    }

    /// The time within which that many of a hundred answers came, in milliseconds.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.elapsed.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        sorted.get(last.saturating_mul(percent).div_ceil(100)).copied().map(milliseconds)
    }

    /// As documented in `--help`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "answers": self.classes,
            "unexpected": self.unexpected,
            "unanswered": self.unanswered,
            "binds_in_clear": self.in_clear,
            "min_ms": self.percentile(0),
            "median_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
        })
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (class, count) in &self.classes {
            writeln!(f, "{count:>8} × {class}")?;
        }
        let ms = |percent| self.percentile(percent).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        write!(f, "min {} ms, median {} ms, p99 {} ms, not as expected: {}", ms(0), ms(50), ms(99), self.unexpected)
    }
}
