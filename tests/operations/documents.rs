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
fn the_page_of_upgrades_names_the_layout_of_the_records() {
    let table = fs::read_to_string(repository().join("src/dedup/table.rs")).unwrap();
    let (_, name) = table.split_once("format!(\"wecom/v").unwrap();
    let (version, _) = name.split_once("/set/").unwrap();
    assert!(page("upgrade.md").contains(&format!("`wecom/v{version}`")), "the layout is v{version} now");
}

#[test]
fn the_page_of_alerts_has_a_section_for_each_and_none_else() {
    let titles: Vec<_> =
        page("alerts.md").lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(titles.iter().cloned().collect::<BTreeSet<_>>(), crate::metrics::names_of_the_alerts());
    assert_eq!(titles.len(), crate::metrics::names_of_the_alerts().len(), "a section occurs twice");
}

#[test]
fn every_alert_of_the_pages_and_every_link_is_there() {
    let alerts = crate::metrics::names_of_the_alerts();
    let pages = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    for name in pages.map(|name| name.into_string().unwrap()) {
        let page = page(&name);
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match target {
                "" => Path::new("docs").join(&name),
                target => Path::new("docs").join(target),
            };
            assert!(repository().join(&target).exists(), "docs/{name} links to {link}, which does not exist");
            if !anchor.is_empty() {
                let text = fs::read_to_string(repository().join(&target)).unwrap();
                assert!(headings(&text).contains(anchor), "docs/{name} links to {link}, which has no such heading");
            }
        }
        for word in page.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Wecom")) {
            assert!(alerts.contains(word), "docs/{name} mentions an alert {word}, which does not exist");
        }
    }
    // Conversely: the pages that alerts and dashboard link to.
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/wecom-callbacks.json"] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        for target in text.split("docs/").filter_map(|rest| Some(rest.split_once(".md")?.0)) {
            let is_text = target.contains(char::is_whitespace);
            assert!(
                is_text || repository().join(format!("docs/{target}.md")).is_file(),
                "{file} links to docs/{target}.md, which does not exist"
            );
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Wecom")) {
            assert!(alerts.contains(word), "{file} mentions an alert {word}, which does not exist");
        }
    }
}

/// The anchors of a page's headings, as GitHub and most other renderers of Markdown make them.
pub(crate) fn headings(page: &str) -> BTreeSet<String> {
    // Every other piece between fences is code.
    let lines = page.split("```").step_by(2).flat_map(str::lines);
    let titles = lines.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let kept =
            title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    titles.map(anchor).collect()
}
