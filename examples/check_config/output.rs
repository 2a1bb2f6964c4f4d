//! What is printed, and the exit code.

use std::fmt;
use std::io::Write;

use serde_json::{Value, json};

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
    pub(crate) fn exit_code(&self, strict: bool) -> u8 {
        let code = |finding: &Finding| match finding.level {
            Level::Unchecked => 2,
            Level::Problem => 1,
            Level::Warning => u8::from(strict),
            Level::Note => 0,
        };
        self.findings.iter().map(code).max().unwrap_or(0)
    }
}

/// Prints everything.
pub(crate) fn print(reports: &[Report], json: bool, strict: bool) {
    if json {
        let all: Vec<_> = reports.iter().map(to_json).collect();
        say(std::io::stdout(), format_args!("{:#}", Value::from(all)));
    } else {
        reports.iter().for_each(|report| print_lines(report, strict));
    }
}

fn print_lines(report: &Report, strict: bool) {
    let file = &report.file;
    for finding in report.findings.iter().filter(|finding| finding.level != Level::Note) {
        let warning = if finding.level == Level::Warning { "warning: " } else { "" };
        let path = in_one_line(&finding.place.path);
        let colon = if path.is_empty() { "" } else { ": " };
        say(std::io::stderr(), format_args!("{file}: {warning}{path}{colon}{}", in_one_line(&finding.reason)));
    }
    if report.exit_code(strict) > 0 {
        return;
    }
    let endpoints: Vec<_> = report.endpoints.iter().map(in_words).collect();
    say(std::io::stdout(), format_args!("{file}: ok: {}", endpoints.join("; ")));
    for note in report.findings.iter().filter(|finding| finding.level == Level::Note) {
        say(std::io::stdout(), format_args!("{file}: note: {}", note.reason));
    }
}

/// A field's name can hold anything, and stands in paths and reasons.
fn in_one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(escaped).collect()
}

fn in_words(endpoint: &Endpoint) -> String {
    let Endpoint { name, path, credentials, .. } = endpoint;
    format!("{name} at {path}, {credentials} credentials")
}

fn to_json(report: &Report) -> Value {
    let endpoint = |endpoint: &Endpoint| json!({ "name": endpoint.name, "path": endpoint.path, "credentials": endpoint.credentials });
    let problem =
        |finding: &Finding| json!({ "level": finding.level, "path": finding.place.path, "reason": finding.reason });
    json!({
        "file": report.file,
        "endpoints": report.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "problems": report.findings.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn say(mut to: impl Write, line: fmt::Arguments<'_>) {
    // Whoever read this may have gone; the exit code still tells.
    let _ = writeln!(to, "{line}");
}
