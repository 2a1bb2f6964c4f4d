//! The metrics in a real Prometheus: the counters agree with what was sent, outcome by outcome, and the
//! alerts and the dashboard use metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::backend::{Backend, Behaviour};
use testbed::edge::{Edge, PATH, Setup};
use testbed::envoy::Envoy;
use testbed::files::repository;
use testbed::waiting::until;
use testbed::wecom::{Account, Answer, Client, Event, Request, send_raw, unix_now};
use tokio::io::AsyncWriteExt;
use wecom_callback_filter::outcome::{Kind, Outcome};
use wecom_callback_filter::wecom::verdict::ERRCODES;

use crate::documents::headings;
use crate::logs::{Counts, the_access_log_has_every_outcome, the_log_has_one_line_for_each_failure};
use crate::prometheus::{self, Prometheus, promtool};

/// A small record of callbacks and a short timeout, so that both limits are reached quickly.
const CAPACITY: u64 = 32;
const TIMEOUT_MS: u64 = 400;

/// How the names of those of Envoy's metrics begin that exist only where configurations come from files:
/// see upgrade.rs.
pub(crate) const ECDS: &str = "envoy_extension_config_discovery_http_filter_wecom_";
pub(crate) const LDS: &str = "envoy_listener_manager_lds_";

/// Sends callbacks and records what the metrics must show.
struct Sender {
    url: String,
    account: Account,
    callbacks: Counts,
    /// What the access log says otherwise: a client that left is told of as one that left.
    left: Counts,
    verdicts: BTreeMap<String, u64>,
    binds_asked: u64,
    records: u64,
}

impl Sender {
    fn new(edge: &Edge) -> Self {
        Self {
            url: edge.url(),
            account: edge.account.clone(),
            callbacks: BTreeMap::new(),
            left: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            binds_asked: 0,
            records: 0,
        }
    }

    /// Sends over a connection of its own, so that both workers get some.
    async fn send(&mut self, request: &Request, event: &str, outcome: Outcome) -> Answer {
        let answer = Client::http1().send(&self.url, request).await.unwrap();
        self.count(&answer, event, outcome);
        answer
    }

    fn count(&mut self, answer: &Answer, event: &str, outcome: Outcome) {
        *self.callbacks.entry((event.to_owned(), outcome)).or_default() += 1;
        let Some(errcode) = answer.decrypt(&self.account).ok().and_then(|reply| reply.errcode()) else { return };
        let known = ERRCODES.iter().any(|(code, _)| *code == errcode);
        let label = if known { errcode.to_string() } else { "other".to_owned() };
        *self.verdicts.entry(label).or_default() += 1;
    }

    async fn bind(&mut self, device_sn: &str, outcome: Outcome) -> Event {
        let event = Event::bind(device_sn);
        self.send(&self.account.seal(&event), "bind", outcome).await;
        self.binds_asked += 1;
        self.records += 1;
        event
    }

    async fn reject(&mut self, request: &Request, outcome: Outcome) {
        let answer = self.send(request, "other", outcome).await;
        assert_eq!(answer.rejection().as_deref(), Some(outcome.told()));
    }

    /// Sends callbacks with every outcome that a sender can cause.
    async fn send_the_mix(&mut self, backend: &Backend) {
        let account = self.account.clone();
        let an_hour_ago = unix_now() - 3600;
        for (device_sn, behaviour) in [
            ("sn-refused", Behaviour::verdict(4)),
            ("sn-unknown-code", Behaviour::verdict(4711)),
            ("sn-closes", Behaviour::close()),
            ("sn-hangs", Behaviour::hang()),
            ("sn-gone", Behaviour::hang()),
            ("sn-500", Behaviour::status(500)),
            ("sn-html", Behaviour::html()),
            ("sn-slow", Behaviour::verdict(0).after(Duration::from_millis(300))),
        ] {
            backend.on_device(device_sn, behaviour);
        }

        // Served.
        for _ in 0..3 {
            self.send(&account.verify_url("1234567890"), "other", Outcome::Verified).await;
        }
        for _ in 0..4 {
            self.bind("sn-bound", Outcome::Bound).await;
        }
        let refused = self.bind("sn-refused", Outcome::Refused).await;
        self.bind("sn-unknown-code", Outcome::Refused).await;
        for _ in 0..3 {
            self.send(&account.seal(&refused), "bind", Outcome::Duplicate).await;
        }
        let unbind = Event::unbind("sn-bound");
        self.send(&account.seal(&unbind), "unbind", Outcome::Delivered).await;
        self.send(&account.seal(&unbind), "unbind", Outcome::Duplicate).await;
        self.send(&account.seal(Event::remote_open_door("sn-bound")), "remote_open_door", Outcome::Delivered).await;
        self.records += 2;
        self.bind_four_times_at_once("sn-slow").await;

        // Failed.
        for _ in 0..2 {
            self.bind("sn-closes", Outcome::UpstreamUnreachable).await;
            self.bind("sn-hangs", Outcome::UpstreamTimeout).await;
        }
        self.bind("sn-500", Outcome::UpstreamStatus).await;
        self.bind("sn-html", Outcome::UpstreamReply).await;
        self.send(&account.seal(Event::unbind("sn-500")), "unbind", Outcome::UpstreamStatus).await;
        self.leave_during_bind("sn-gone", backend).await;

        // Rejected.
        let bind = || account.seal(Event::bind("sn-rejected"));
        let stranger = Account::rotated();
        let mut foreign_cipher = bind();
        foreign_cipher.encrypt = stranger.encrypt(b"{}");
        let foreign_body = json!({ "tousername": "x", "encrypt": foreign_cipher.encrypt }).to_string();
        let foreign_cipher = foreign_cipher.resign(&account).with_body(foreign_body);
        let elsewhere = account.clone().with_receive_id("2000000000000009");
        for (request, outcome) in [
            (bind().with_method("PUT"), Outcome::BadMethod),
            (bind().with_query("msg_signature=1"), Outcome::BadQuery),
            (bind().with_query(""), Outcome::BadQuery),
            (bind().with_body("{}"), Outcome::BadEnvelope),
            (bind().with_body("x".repeat(70_000)), Outcome::BodyTooLarge),
            (bind().forged(), Outcome::BadSignature),
            (stranger.seal(Event::bind("sn-rejected")), Outcome::BadSignature),
            (account.seal_at(Event::bind("sn-rejected"), an_hour_ago, "1372623149"), Outcome::Stale),
            (foreign_cipher, Outcome::BadCiphertext),
            (elsewhere.seal(Event::bind("sn-rejected")), Outcome::BadReceiveId),
            (account.seal("no callback"), Outcome::NotACallback),
            (account.verify_url("no digits"), Outcome::NotAnEcho),
        ] {
            self.reject(&request, outcome).await;
        }
        // Its age is known only after decryption, and then its type is known as well.
        let old = account.seal(Event::bind("sn-rejected").createtime(an_hour_ago));
        self.send(&old, "bind", Outcome::StaleMessage).await;
        self.withhold_body().await;
        self.leave_during_body().await;
        self.call_as_grpc().await;

        // The table of records is full.
        while self.records < CAPACITY {
            self.bind("sn-bound", Outcome::Bound).await;
        }
        for _ in 0..3 {
            self.send(&account.seal(Event::bind("sn-bound")), "bind", Outcome::RecordFull).await;
        }
    }

    async fn bind_four_times_at_once(&mut self, device_sn: &str) {
        let event = Event::bind(device_sn);
        let sending = (0..4).map(|_| {
            let (request, url) = (self.account.seal(&event), self.url.clone());
            tokio::spawn(async move { Client::http1().send(&url, &request).await.unwrap() })
        });
        for (place, sent) in sending.collect::<Vec<_>>().into_iter().enumerate() {
            let outcome = if place == 0 { Outcome::Bound } else { Outcome::DuplicateInFlight };
            self.count(&sent.await.unwrap(), "bind", outcome);
        }
        self.binds_asked += 1;
        self.records += 1;
    }

    /// A client that disconnects while its bind is being decided.
    async fn leave_during_bind(&mut self, device_sn: &str, backend: &Backend) {
        let request = self.account.seal(Event::bind(device_sn));
        let url = format!("{}?{}", self.url, request.query_text());
        let address = url.split('/').nth(2).unwrap().to_owned();
        let body = request.body_bytes();
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST {PATH}?{} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n",
            request.query_text(),
            body.len()
        );
        connection.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let asked = async || !backend.requests_for(device_sn).is_empty();
        until("the backend was asked", asked).await.unwrap();
        drop(connection);
        // It counts as what became of its call.
        *self.callbacks.entry(("bind".to_owned(), Outcome::UpstreamTimeout)).or_default() += 1;
        *self.left.entry(("bind".to_owned(), Outcome::UpstreamTimeout)).or_default() += 1;
        *self.verdicts.entry("7".to_owned()).or_default() += 1;
        self.binds_asked += 1;
        self.records += 1;
    }

    /// A client that disconnects before its body is complete.
    async fn leave_during_body(&mut self) {
        let request = self.account.seal(Event::bind("sn-rejected"));
        let address = self.url.split('/').nth(2).unwrap().to_owned();
        let head = format!("POST {PATH}?{} HTTP/1.1\r\nhost: e\r\ncontent-length: 9\r\n\r\nx", request.query_text());
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        drop(connection);
        *self.callbacks.entry(("other".to_owned(), Outcome::ClientGone)).or_default() += 1;
    }

    /// A request that Envoy takes for one of gRPC.
    async fn call_as_grpc(&mut self) {
        let mut request = self.account.seal(Event::bind("sn-rejected"));
        request.headers.remove("content-type");
        let request = request.with_header("content-type", b"application/grpc");
        assert!(Client::http1().send(&self.url, &request).await.is_err(), "answered");
        *self.callbacks.entry(("other".to_owned(), Outcome::GrpcRequest)).or_default() += 1;
    }

    /// A client that announces a body and does not send it.
    async fn withhold_body(&mut self) {
        let request = self.account.seal(Event::bind("sn-rejected"));
        let address = self.url.split('/').nth(2).unwrap().to_owned();
        let head = format!(
            "POST {PATH}?{} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 9\r\n\r\n",
            request.query_text()
        );
        let answer = send_raw(address.parse().unwrap(), head.as_bytes()).await.unwrap();
        assert_eq!(answer.rejection().as_deref(), Some("no_body"));
        self.count(&answer, "other", Outcome::NoBody);
    }
}

async fn start() -> Edge {
    let setup = Setup::example().unwrap().one_backend();
    let edge = setup.start_with(|bootstrap| {
        bootstrap
            .edit(|config| config["stats_flush_interval"] = json!("0.5s")) // histograms are shown when flushed
            .edit_plugin_value(|plugin| {
                plugin["dedup"] = json!({ "capacity": CAPACITY });
                plugin["endpoints"][0]["decision"]["timeout_ms"] = json!(TIMEOUT_MS);
            })
    });
    edge.await.unwrap()
}

#[tokio::test]
async fn metrics_log_and_access_log_tell_what_was_sent_outcome_by_outcome() {
    if prometheus::is_missing() {
        return;
    }
    let edge = start().await;
    let prometheus = Prometheus::scraping(edge.envoy.admin_address()).await;
    // Rates need a scrape before the first callback.
    prometheus.query_until("wecom_duplicates_waiting", &[], |answer| answer.len() == 1).await;

    let mut sender = Sender::new(&edge);
    sender.send_the_mix(&edge.backend).await;

    let by = |map: &Counts| -> BTreeMap<Vec<String>, f64> {
        let labelled = |((event, outcome), count): (&(String, Outcome), &u64)| {
            (vec!["lock".to_owned(), event.clone(), outcome.name().to_owned()], *count as f64)
        };
        map.iter().map(labelled).collect()
    };
    let expected = by(&sender.callbacks);
    let labels = ["endpoint", "event", "outcome"];
    let counted = prometheus.query_until("wecom_callbacks_total > 0", &labels, |answer| *answer == expected).await;
    assert_eq!(counted, expected);

    // All outcomes but three occurred: no sender can cause those.
    let unseen: Vec<_> =
        Outcome::ALL.into_iter().filter(|outcome| !sender.callbacks.keys().any(|(_, seen)| seen == outcome)).collect();
    assert_eq!(unseen, [Outcome::Deadline, Outcome::RecordUnavailable, Outcome::SealFailed]);

    let expected: BTreeMap<_, _> =
        sender.verdicts.iter().map(|(errcode, count)| (vec![errcode.clone()], *count as f64)).collect();
    let counted = prometheus.query_until("wecom_verdicts_total > 0", &["errcode"], |answer| *answer == expected).await;
    assert_eq!(counted, expected);

    // One duration per call, and no call that timed out is shorter than its timeout.
    let one = |answer: &BTreeMap<Vec<String>, f64>| answer.values().next().copied();
    let asked = sender.binds_asked as f64;
    let count = "sum(wecom_upstream_duration_ms_count{event=\"bind\"})";
    let counted = prometheus.query_until(count, &[], |answer| one(answer) == Some(asked)).await;
    assert_eq!(one(&counted), Some(asked));
    let long = "sum(wecom_upstream_duration_ms_count{event=\"bind\"}) \
                - sum(wecom_upstream_duration_ms_bucket{event=\"bind\",le=\"250\"})";
    let timed_out = 3.0; // including the one whose client disconnected
    assert!(one(&prometheus.query(long, &[]).await.unwrap()) >= Some(timed_out));
    let limits = prometheus.query("wecom_upstream_duration_ms_bucket{event=\"bind\"}", &["le"]).await.unwrap();
    assert!(limits.contains_key(&vec!["1000".to_owned()]) && limits.contains_key(&vec!["3000".to_owned()]));

    // No duplicate is waiting any more, and both workers served requests.
    let waiting = prometheus.query("wecom_duplicates_waiting", &[]).await.unwrap();
    assert_eq!(one(&waiting), Some(0.0));
    let given = edge.envoy.connections_given().await.unwrap();
    assert!(given.len() == 2 && given.iter().all(|connections| *connections > 0), "{given:?}");

    the_log_has_one_line_for_each_failure(&edge.envoy, &sender.callbacks);
    the_access_log_has_every_outcome(&edge.envoy, &sender.callbacks, &sender.left).await;
    every_panel_shows_data(&prometheus).await;
    every_metric_of_the_alerts_exists(&prometheus).await;
    assert!(holds_for(&prometheus, "WecomLabelsMissing", 0).await.is_empty());
    the_url_that_make_run_prints_gives_the_metrics(&edge.envoy).await;
    edge.end().await.unwrap();
}

async fn every_panel_shows_data(prometheus: &Prometheus) {
    let names: BTreeSet<_> = prometheus.metric_names().await.into_iter().collect();
    for (title, expression) in panels() {
        let metrics = metrics_in(&expression);
        assert!(!metrics.is_empty(), "{title}: no metric in {expression}");
        for name in metrics {
            assert!(names.contains(&name), "{title}: there is no metric {name}");
        }
        let expression =
            expression.replace("$__rate_interval", "1m").replace("$endpoint", ".*").replace("${datasource}", "");
        // A quantile without data is NaN, and a rate needs two scrapes.
        let shown =
            prometheus.query_until(&expression, &[], |answer| answer.values().any(|value| value.is_finite())).await;
        assert!(shown.values().any(|value| value.is_finite()), "{title} shows nothing: {expression}");
    }
}

async fn every_metric_of_the_alerts_exists(prometheus: &Prometheus) {
    let names: BTreeSet<_> = prometheus.metric_names().await.into_iter().collect();
    for name in metrics_of_the_alerts() {
        let there = names.contains(&name) || [ECDS, LDS].iter().any(|of_files| name.starts_with(of_files));
        assert!(there, "there is no metric {name}");
    }
}

/// The series for which an alert's expression holds, by instance. How long it must hold is left out.
async fn holds_for(prometheus: &Prometheus, alert: &str, wanted: usize) -> Vec<Vec<String>> {
    let rule = alerts().into_iter().find(|rule| rule["alert"] == alert).unwrap();
    let expression = text(&rule, "expr");
    prometheus.query_until(&expression, &["instance"], |answer| answer.len() == wanted).await.into_keys().collect()
}

#[tokio::test]
async fn an_envoy_whose_metrics_lack_labels_is_noticed() {
    if prometheus::is_missing() {
        return;
    }
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit(|config| {
            config.as_object_mut().unwrap().remove("stats_config");
        })
    });
    let edge = edge.await.unwrap();
    let prometheus = Prometheus::scraping(edge.envoy.admin_address()).await;
    let instance = edge.envoy.admin_address().to_string();
    assert_eq!(holds_for(&prometheus, "WecomLabelsMissing", 1).await, [[instance]]);
    edge.end().await.unwrap();
}

async fn the_url_that_make_run_prints_gives_the_metrics(envoy: &Envoy) {
    let script = fs::read_to_string(repository().join("tools/run.sh")).unwrap();
    let path = script.split("http://127.0.0.1:9901/stats").nth(1).expect("tools/run.sh prints a URL of metrics");
    let path = path.split_whitespace().next().unwrap();
    let metrics = envoy.admin(&format!("/stats{path}")).await.unwrap().text();
    assert!(metrics.contains("wecom_callbacks_total{endpoint=\"lock\",event=\"bind\",outcome=\"bound\"}"), "{metrics}");
    assert!(!metrics.contains("envoy_cluster"), "there are metrics of Envoy's own");
}

#[test]
fn the_alerts_are_well_formed_and_fire_when_they_should() {
    if prometheus::is_missing() {
        return;
    }
    promtool(&["check", "rules", "deploy/prometheus/alerts.yml"]);
    promtool(&["test", "rules", "deploy/prometheus/alerts_test.yml"]);
}

#[test]
fn every_alert_is_seen_to_fire_and_to_stay_silent_on_a_good_day() {
    let tests = tests_of_the_alerts();
    let fires = |name: &str| {
        let firing = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"");
        tests
            .iter()
            .flat_map(|test| list(test, "promql_expr_test"))
            .any(|check| list(&check, "exp_samples").iter().any(|sample| text(sample, "labels").starts_with(&firing)))
    };
    for rule in alerts() {
        assert!(fires(&text(&rule, "alert")), "no test has {} fire", rule["alert"]);
    }

    // The first test is the good day: nothing fires, though every metric is there and every outcome
    // that is not the work of a broken machine has occurred.
    let good_day = &tests[0];
    for check in list(good_day, "promql_expr_test") {
        assert!(text(&check, "expr").starts_with("ALERTS") && list(&check, "exp_samples").is_empty());
    }
    let series: Vec<_> = list(good_day, "input_series").iter().map(|series| text(series, "series")).collect();
    for name in metrics_of_the_alerts() {
        assert!(series.iter().any(|series| series.starts_with(&format!("{name}{{"))), "the good day has no {name}");
    }
    for outcome in Outcome::ALL.into_iter().filter(|outcome| !matches!(outcome.kind(), Kind::Failed(_))) {
        let label = format!("outcome=\"{}\"", outcome.name());
        assert!(series.iter().any(|series| series.contains(&label)), "the good day has no {}", outcome.name());
    }
}

#[test]
fn every_alert_says_what_it_means_and_leads_to_a_page() {
    for rule in rule_files().iter().flat_map(|file| alerts_of(file)) {
        let name = text(&rule, "alert");
        let annotations: BTreeSet<_> = rule["annotations"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(annotations, BTreeSet::from(["summary", "description", "runbook_url"]), "{name}");
        assert!(annotations.iter().all(|annotation| !text(&rule["annotations"], annotation).is_empty()), "{name}");
        assert!(["page", "ticket"].contains(&text(&rule["labels"], "severity").as_str()), "{name}");

        let url = text(&rule["annotations"], "runbook_url");
        let (page, anchor) = url.split_once('#').unwrap_or_else(|| panic!("{name}: {url} has no anchor"));
        assert_eq!(page, "docs/alerts.md", "{name}");
        let headings = headings(&fs::read_to_string(repository().join(page)).unwrap());
        assert!(headings.iter().any(|heading| heading == anchor), "{name}: {page} has no heading for #{anchor}");
        assert_eq!(anchor, name.to_lowercase(), "{name} leads to the page of another alert");
    }
}

#[test]
fn the_alerts_know_of_every_outcome() {
    let selected = |record: &str, outcome: Outcome| {
        let rule = rules().into_iter().find(|rule| rule["record"] == record).unwrap();
        let expression = text(&rule, "expr");
        let (before, pattern) = expression.split_once("~\"").unwrap();
        let pattern = pattern.split_once('"').unwrap().0;
        let is_listed = pattern.split('|').any(|one| match one.strip_suffix(".+").or(one.strip_suffix(".*")) {
            Some(start) => outcome.name().starts_with(start),
            None => outcome.name() == one,
        });
        is_listed != before.ends_with("outcome!")
    };
    for outcome in Outcome::ALL {
        let failed = matches!(outcome.kind(), Kind::Failed(_)) || outcome == Outcome::SealFailed;
        let decided = [Outcome::Bound, Outcome::Refused, Outcome::Delivered].contains(&outcome);
        let authentic = failed || outcome.kind() == Kind::Served;
        for (record, expected) in [
            ("wecom:failed:sum", failed),
            ("wecom:decided:sum", decided),
            ("wecom:authentic:sum", authentic),
            ("wecom:rejected:sum", !authentic),
        ] {
            assert_eq!(selected(record, outcome), expected, "{record} and {}", outcome.name());
        }
    }
}

/// The files with rules, whatever they are about.
fn rule_files() -> Vec<String> {
    let files = fs::read_dir(repository().join("deploy/prometheus")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| !name.ends_with("_test.yml")).collect();
    assert!(names.len() >= 2, "{names:?}");
    names
}

/// All rules of a file, those that record something included.
fn rules_of(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(repository().join("deploy/prometheus").join(file)).unwrap();
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    list(&rules["groups"][0], "rules")
}

fn alerts_of(file: &str) -> Vec<Value> {
    rules_of(file).into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

fn rules() -> Vec<Value> {
    rules_of("alerts.yml")
}

fn alerts() -> Vec<Value> {
    alerts_of("alerts.yml")
}

/// Every alert's name, of all files.
pub(crate) fn names_of_the_alerts() -> BTreeSet<String> {
    rule_files().iter().flat_map(|file| alerts_of(file)).map(|rule| text(&rule, "alert")).collect()
}

/// The metrics that the rules read, without what they record themselves.
pub(crate) fn metrics_of_the_alerts() -> BTreeSet<String> {
    rules().iter().flat_map(|rule| metrics_in(&text(rule, "expr"))).collect()
}

fn tests_of_the_alerts() -> Vec<Value> {
    let text = fs::read_to_string(repository().join("deploy/prometheus/alerts_test.yml")).unwrap();
    // What is the same in most tests stands there once, and is referred to by aliases: many for few anchors.
    let options = serde_saphyr::options! { budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false } };
    list(&serde_saphyr::from_str_with_options(&text, options).unwrap(), "tests")
}

fn list(value: &Value, name: &str) -> Vec<Value> {
    value[name].as_array().unwrap().clone()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

/// Title and expression of every query in the dashboard.
fn panels() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("deploy/grafana/wecom-callbacks.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(move |target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned()))
    });
    targets.collect()
}

/// The names of the metrics in an expression. All of them begin with `wecom_` or `envoy_`, but for `up`,
/// which is Prometheus's own.
fn metrics_in(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("wecom_") || word.starts_with("envoy_") || *word == "up")
        .map(str::to_owned)
        .collect()
}
