//! Alerts and dashboard of the record in Redis, against what an Envoy with such a record tells.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use testbed::files::repository;
use wecom_callback_filter::host::Exchanged;

use super::*;

/// The names of the filter's metrics in expressions.
fn names_in(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("wecom_")).map(str::to_owned).collect::<BTreeSet<_>>().into_iter()
}

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

#[tokio::test]
async fn alerts_dashboard_and_page_name_metrics_that_exist() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    assert_eq!(verdict(&replicas.one, &Event::bind("sn-metrics")).await, 0);
    let metrics = replicas.one.envoy.prometheus().await.unwrap();
    let alerts: Value = serde_saphyr::from_str(&text("deploy/prometheus/alerts_redis.yml")).unwrap();
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/wecom-record.json")).unwrap();
    let of_alerts = alerts["groups"][0]["rules"].as_array().unwrap().iter().map(|rule| &rule["expr"]);
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let of_panels = panels.flat_map(|panel| panel["targets"].as_array().unwrap()).map(|target| &target["expr"]);
    for expression in of_alerts.chain(of_panels) {
        for name in names_in(expression.as_str().unwrap()) {
            assert!(metrics.lines().any(|line| line.starts_with(&name)), "{name}, of {expression}, is no metric");
        }
        for quoted in expression.as_str().unwrap().split("result").skip(1).filter_map(|rest| rest.split('"').nth(1)) {
            for result in quoted.split('|') {
                assert!(Exchanged::ALL.iter().any(|known| known.name() == result), "{result}, of {expression}");
            }
        }
    }
    for line in text("docs/replicas.md").lines().filter(|line| line.starts_with("| `wecom_")) {
        let name = names_in(line).next().unwrap();
        assert!(metrics.contains(&name), "docs/replicas.md: {line}");
    }
    for known in Exchanged::ALL {
        let series = format!("wecom_record_exchanges_total{{result=\"{}\"}}", known.name());
        assert!(metrics.contains(&series), "{series}");
    }
    replicas.end().await;
}

#[test]
fn the_alerts_about_redis_fire_when_they_should() {
    let promtool = repository().join("target/tools/bin/promtool");
    if !promtool.is_file() {
        eprintln!("SKIPPED: no promtool: `make setup-prometheus` fetches it");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "promtool is missing in CI");
        return;
    }
    let tests = "deploy/prometheus/alerts_redis_test.yml";
    let tested = Command::new(promtool).args(["test", "rules"]).arg(repository().join(tests)).output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));
    let alerts: Value = serde_saphyr::from_str(&text("deploy/prometheus/alerts_redis.yml")).unwrap();
    for rule in alerts["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert!(text(tests).contains(&format!("alertname=\"{name}\"")), "{name} is not tested");
        for annotation in ["summary", "description", "runbook_url"] {
            assert!(rule["annotations"][annotation].is_string(), "{name} has no {annotation}");
        }
        let (page, anchor) = rule["annotations"]["runbook_url"].as_str().unwrap().split_once('#').unwrap();
        let heading =
            |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-").replace(',', "");
        let headings = text(page);
        assert!(headings.lines().filter(|line| line.starts_with('#')).any(|line| heading(line) == anchor), "{name}");
    }
}
