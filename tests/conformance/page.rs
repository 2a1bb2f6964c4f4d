//! The tables of `docs/conformance.md`: written by a run, and held against every later one.

use std::fs;
use std::path::PathBuf;

use testbed::files::repository;

use crate::clients::Language;
use crate::plan::{Counts, Plan, Size};
use crate::probes::PROBES;

/// What a run has shown of a library.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) language: Language,
    pub(crate) version: String,
    pub(crate) counts: Counts,
    pub(crate) probes: Vec<String>,
}

const BEGIN: &str = "<!-- measured -->\n";
const END: &str = "<!-- end -->\n";

fn path() -> PathBuf {
    repository().join("docs/conformance.md")
}

/// The page, its lines joined.
pub(crate) fn text() -> String {
    fs::read_to_string(path()).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes what was measured to the page, or asserts that it is there. A run that lacks a language compares
/// the others, and writes nothing; the counts are those of the full run whatever was sent in this one.
pub(crate) fn settle(filter: &[String], measured: &[Measured]) {
    let page = fs::read_to_string(path()).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("the page's mark of the beginning");
    let (there, tail) = rest.split_once(END).expect("the page's mark of the end");
    let is_whole = measured.len() == Language::ALL.len();
    let full = Plan::new("full", Size::FULL).counts();
    if std::env::var("CONFORMANCE_PAGE").is_ok_and(|word| word == "write") {
        assert!(is_whole, "a language is missing: nothing is written");
        assert!(measured.iter().all(|one| one.counts == full), "not the full run: nothing is written");
        fs::write(path(), format!("{head}{BEGIN}{}{END}{tail}", tables(filter, measured, full))).unwrap();
        return;
    }
    if is_whole {
        let now = tables(filter, measured, full);
        assert_eq!(there, now, "docs/conformance.md is not what was measured; `make conformance WRITE=yes` writes it");
    } else {
        for one in measured {
            let row = row(one, full);
            assert!(there.contains(&row), "docs/conformance.md lacks this row: {row}");
        }
    }
}

fn tables(filter: &[String], measured: &[Measured], full: Counts) -> String {
    let mut out = String::from(
        "| language | library | version | sealed by it, opened by the filter | sealed by the filter, opened by it | GET |\n\
         |---|---|---|---|---|---|\n",
    );
    measured.iter().for_each(|one| out.push_str(&row(one, full)));
    out.push_str("\n| what is wrong with the message | the filter |");
    measured.iter().for_each(|one| out.push_str(&format!(" {} |", one.language.name())));
    out.push_str(&format!("\n|---|---|{}\n", "---|".repeat(measured.len())));
    for (index, (_, what)) in PROBES.iter().enumerate() {
        out.push_str(&format!("| {what} | {} |", filter[index]));
        measured.iter().for_each(|one| out.push_str(&format!(" {} |", said(&one.probes[index]))));
        out.push('\n');
    }
    out
}

fn row(one: &Measured, full: Counts) -> String {
    let (name, library, version) = (one.language.name(), one.language.library(), &one.version);
    let Counts { sealed, opened, gets } = full;
    format!("| {name} | `{library}` | {version} | {sealed} | {opened} | {gets} |\n")
}

/// A probe's end, the dangerous one in bold.
fn said(end: &str) -> String {
    match end.strip_prefix("refused (").and_then(|rest| rest.strip_suffix(')')) {
        _ if end == "accepted" => "**accepted**".to_owned(),
        Some(error) => format!("`{error}`"),
        None => end.to_owned(),
    }
}
