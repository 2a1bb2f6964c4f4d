//! What is printed, and the exit code.

use std::fmt;
use std::io::Write;

use crate::finding::{Finding, Level};
use crate::plugin::Endpoint;

/// What came of one file.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) file: String,
    pub(crate) findings: Vec<Finding>,
    pub(crate) endpoints: Vec<Endpoint>,
}

impl Report {
    /// As `--help` explains it.
    pub(crate) fn exit_code(&self) -> u8 {
        let code = |finding: &Finding| match finding.level {
            Level::Unchecked => 2,
            Level::Problem => 1,
        };
        self.findings.iter().map(code).max().unwrap_or(0)
    }
}

/// Prints a file's result.
pub(crate) fn print(report: &Report) {
    let file = &report.file;
    for finding in &report.findings {
        let path = &finding.place.path;
        let colon = if path.is_empty() { "" } else { ": " };
        say(std::io::stderr(), format_args!("{file}: {path}{colon}{}", finding.reason));
    }
    if report.exit_code() > 0 {
        return;
    }
    let endpoints: Vec<_> = report.endpoints.iter().map(in_words).collect();
    say(std::io::stdout(), format_args!("{file}: ok: {}", endpoints.join("; ")));
}

fn in_words(endpoint: &Endpoint) -> String {
    let Endpoint { name, path, credentials, .. } = endpoint;
    format!("{name} at {path}, {credentials} credentials")
}

fn say(mut to: impl Write, line: fmt::Arguments<'_>) {
    // Whoever read this may have gone; the exit code still tells.
    let _ = writeln!(to, "{line}");
}
