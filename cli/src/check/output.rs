//! What is printed, and the exit code.

use serde_json::{Value, json};

use crate::check::finding::{Finding, Level};
use crate::check::plugin::Endpoint;
use crate::terminal::{ASIDE, BAD, DOUBTFUL, GOOD, complain, in_one_line, say, styled};

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
        say(format_args!("{:#}", Value::from(all)));
    } else {
        reports.iter().for_each(|report| print_lines(report, strict));
    }
}

fn print_lines(report: &Report, strict: bool) {
    let file = &report.file;
    for finding in report.findings.iter().filter(|finding| finding.level != Level::Note) {
        let (warning, style) = if finding.level == Level::Warning {
            (styled(DOUBTFUL, "warning:") + " ", DOUBTFUL)
        } else {
            (String::new(), BAD)
        };
        // A field's name can hold anything, and stands in paths and reasons.
        let (path, reason) = (in_one_line(&finding.place.path), in_one_line(&finding.reason));
        let what =
            if path.is_empty() { styled(style, reason) } else { format!("{} {reason}", styled(style, path + ":")) };
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        complain(format_args!("{file}{line}: {warning}{what}"));
    }
    if report.exit_code(strict) > 0 {
        return;
    }
    let endpoints: Vec<_> = report.endpoints.iter().map(in_words).collect();
    say(format_args!("{file}: {} {}", styled(GOOD, "ok:"), endpoints.join("; ")));
    for note in report.findings.iter().filter(|finding| finding.level == Level::Note) {
        say(format_args!("{file}: {}", styled(ASIDE, format_args!("note: {}", note.reason))));
    }
}

fn in_words(endpoint: &Endpoint) -> String {
    let Endpoint { name, path, credentials, .. } = endpoint;
    format!("{name} at {path}, {credentials} credentials")
}

fn to_json(report: &Report) -> Value {
    let endpoint = |endpoint: &Endpoint| json!({ "name": endpoint.name, "path": endpoint.path, "credentials": endpoint.credentials });
    let problem = |finding: &Finding| json!({ "level": finding.level, "line": finding.line, "path": finding.place.path, "reason": finding.reason });
    json!({
        "file": report.file,
        "endpoints": report.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "problems": report.findings.iter().map(problem).collect::<Vec<_>>(),
    })
}
