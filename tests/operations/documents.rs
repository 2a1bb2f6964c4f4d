//! The operator's pages agree with the code and files they describe.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use testbed::envoy::repository;
use wecom_callback_filter::config::limits;
use wecom_callback_filter::outcome::{BAD_MESSAGE, Kind, Level, Outcome};

fn page(name: &str) -> String {
    fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

/// The cells of every row of a page's tables, without the header rows.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_page_of_outcomes_is_the_table_of_outcomes() {
    let rows = rows(&page("outcomes.md"));
    let words: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(words, Outcome::ALL.map(|outcome| outcome.name().to_owned()));
    for (outcome, row) in Outcome::ALL.into_iter().zip(&rows) {
        let [_, meaning, caller, log, first] = row.as_slice() else { panic!("{row:?}") };
        assert!(!meaning.is_empty());
        let status = match outcome.kind() {
            Kind::Served => "200, ".to_owned(),
            Kind::Failed(status) => format!("bind: errcode 7; else {status}"),
            Kind::Rejected(status) => status.to_string(),
            Kind::BadMessage => format!("403 `{BAD_MESSAGE}`"),
            Kind::Unanswered => "nothing".to_owned(),
        };
        assert!(caller.starts_with(&status), "{}: {caller}", outcome.name());
        let level = if outcome.level() == Level::Warn { "warning" } else { "–" };
        assert_eq!(log, level, "{}", outcome.name());
        assert!(outcome.level() == Level::Debug || !first.is_empty(), "{} has no first step", outcome.name());
    }
}

#[test]
fn the_page_of_sizes_has_the_numbers_of_the_code() {
    let page = page("sizing.md");
    let ttl = 2 * limits::FRESHNESS_SECONDS_DEFAULT + limits::TTL_MARGIN_SECONDS;
    assert!(page.contains(&format!("`ttl_seconds` of {ttl}")));
    let mut capacities = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ") && line.ends_with("MiB |")) {
        let numbers: Vec<u64> =
            line.split('|').filter_map(|cell| cell.split([' ', ',']).find_map(|word| word.parse().ok())).collect();
        let [capacity, rate, mebibytes] = numbers[..] else { panic!("{line}") };
        assert_eq!((rate, mebibytes), (capacity / ttl, capacity * 256 / (1 << 20)), "{line}");
        capacities.push(capacity);
    }
    assert!(capacities.contains(&limits::CAPACITY_DEFAULT) && capacities.contains(limits::CAPACITY.end()));
    for (setting, default) in [
        ("`freshness_seconds`", limits::FRESHNESS_SECONDS_DEFAULT),
        ("`decision.timeout_ms`", limits::TIMEOUT_MS_DEFAULT),
        ("`events.timeout_ms`", limits::TIMEOUT_MS_DEFAULT),
    ] {
        assert!(page.contains(&format!("| {setting} | {default} |")), "{setting}");
    }
}

#[test]
fn every_alert_of_the_pages_and_every_link_is_there() {
    let alerts: BTreeSet<_> = crate::metrics::alerts().into_iter().map(|(name, _)| name).collect();
    for name in ["outcomes.md", "rotation.md", "sizing.md", "troubleshooting.md"] {
        let page = page(name);
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = Path::new("docs").join(target.split('#').next().unwrap());
            assert!(
                repository().join(&target).exists(),
                "docs/{name} links to {}, which does not exist",
                target.display()
            );
        }
        for word in page.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Wecom")) {
            assert!(alerts.contains(word), "docs/{name} mentions an alert {word}, which does not exist");
        }
    }
    // Conversely: the pages that alerts and dashboard link to.
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/wecom-callbacks.json"] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        for rest in text.split("docs/").skip(1) {
            let target = rest.split(".md").next().unwrap();
            assert!(
                repository().join(format!("docs/{target}.md")).is_file(),
                "{file} links to docs/{target}.md, which does not exist"
            );
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Wecom")) {
            assert!(alerts.contains(word), "{file} mentions an alert {word}, which does not exist");
        }
    }
}
