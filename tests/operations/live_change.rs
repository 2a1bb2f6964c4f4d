//! Changing the filter of a running Envoy with the file in deploy/dynamic: under load, with callbacks in
//! flight, with an invalid file, and for a rotation of secrets in the order that WeCom's console
//! requires.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::backend::Behaviour;
use testbed::edge::{Edge, PATH, Setup};
use testbed::envoy::{Bootstrap, dynamic_filter, version};
use testbed::files::repository;
use testbed::module::built;
use testbed::waiting::until;
use testbed::wecom::{Account, Answer, Client, Event, Request};
use tokio::task::{JoinHandle, JoinSet};

use crate::identity::version_of;

/// Where the file has the plugin's configuration.
const PLUGIN: &str = "/resources/0/typed_config/config/configuration/value";

const UPDATES: &str = "extension_config_discovery.http_filter.wecom.update_";

/// The fixture with one backend and the configuration of deploy/dynamic, and the file from which Envoy
/// reads the filter.
struct Live {
    edge: Edge,
    folder: TempDir,
    filter: Value,
}

impl Deref for Live {
    type Target = Edge;

    fn deref(&self) -> &Self::Target {
        &self.edge
    }
}

impl Live {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts with the file's plugin configuration changed.
    async fn start_with(change: impl FnOnce(&mut Value)) -> Self {
        Self::start_both_with(change, |bootstrap| bootstrap).await
    }

    async fn start_both_with(
        change: impl FnOnce(&mut Value),
        change_envoy: impl FnOnce(Bootstrap) -> Bootstrap,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("live-").tempdir().unwrap();
        let path = folder.path().join("filter.json");
        let mut filter = dynamic_filter().unwrap();
        change(filter.pointer_mut(PLUGIN).unwrap());
        fs::write(&path, filter.to_string()).unwrap();
        let edge = Setup::of(Bootstrap::dynamic(&path).unwrap()).one_backend().start_with(change_envoy).await.unwrap();
        Self { edge, folder, filter }
    }

    /// The plugin configuration that was written last.
    fn plugin(&mut self) -> &mut Value {
        self.filter.pointer_mut(PLUGIN).unwrap()
    }

    /// Replaces the file and waits until Envoy has accepted it (`success`) or not (`rejected`).
    async fn replace_file(&self, expected: &str) {
        let count = async || self.envoy.stat(&format!("{UPDATES}{expected}")).await.unwrap_or(0);
        let before = count().await;
        let next = self.folder.path().join("next.json");
        fs::write(&next, self.filter.to_string()).unwrap();
        fs::rename(&next, self.folder.path().join("filter.json")).unwrap();
        let taken = until(&format!("Envoy counted another update_{expected}"), async || count().await != before).await;
        taken.unwrap_or_else(|error| panic!("{error:#}:\n{}", self.envoy.log()));
    }

    async fn send(&self, request: &Request) -> Answer {
        self.edge.send(request).await.unwrap()
    }

    /// Sends requests of that kind until eight in a row are answered as wanted: workers adopt a change
    /// one by one. Each is sent on a new connection, so that both workers are asked.
    async fn until(&self, path: &str, request: impl Fn() -> Request, wanted: impl Fn(&Answer) -> bool) {
        let (mut in_a_row, mut last) = (0, None);
        let adopted = until("all workers had adopted the change", async || {
            let answer = Client::http1().send(&self.envoy.url(path), &request()).await.unwrap();
            in_a_row = if wanted(&answer) { in_a_row + 1 } else { 0 };
            last = Some((answer.status, answer.text()));
            in_a_row == 8
        });
        let adopted = adopted.await;
        adopted.unwrap_or_else(|error| panic!("{error:#}: {last:?}"));
    }
}

/// Sends 200 binds a second, each of which must be approved.
struct Load {
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    sending: JoinHandle<Vec<String>>,
}

impl Load {
    fn begin(live: &Live, account: &Account) -> Self {
        let (answered, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (client, url, account) = (Client::http1(), live.url(), account.clone());
        let (seen, stop) = (Arc::clone(&answered), Arc::clone(&over));
        let sending = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(5));
            let mut sending = JoinSet::new();
            while !stop.load(Ordering::Relaxed) {
                beat.tick().await;
                let (client, url, account, seen) = (client.clone(), url.clone(), account.clone(), Arc::clone(&seen));
                sending.spawn(async move {
                    let answer = client.send(&url, &account.seal(Event::bind("sn-load"))).await;
                    seen.fetch_add(1, Ordering::Relaxed);
                    match answer {
                        Ok(answer) if errcode(&answer, &account) == Some(0) => None,
                        Ok(answer) => Some(format!("{} {}", answer.status, answer.text())),
                        Err(error) => Some(format!("{error:#}")),
                    }
                });
            }
            sending.join_all().await.into_iter().flatten().collect()
        });
        Self { answered, over, sending }
    }

    /// Waits until another 60 binds have been answered.
    async fn go_on(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + 60;
        let answered = async || self.answered.load(Ordering::Relaxed) >= enough;
        until("another 60 binds were answered", answered).await.unwrap();
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        let failed = self.sending.await.unwrap();
        let sent = self.answered.load(Ordering::Relaxed);
        assert!(failed.is_empty(), "{} of {sent} callbacks failed, the first: {}", failed.len(), failed[0]);
    }
}

fn errcode(answer: &Answer, account: &Account) -> Option<u32> {
    answer.decrypt(account).ok()?.errcode()
}

fn literal(account: &Account) -> Value {
    json!({ "token": account.token(), "encoding_aes_key": account.encoding_aes_key() })
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(repository().join(path)).unwrap()).unwrap()
}

#[tokio::test]
async fn changes_under_load_cost_no_callback_and_leave_the_record_alone() {
    let account = Account::demo();
    let mut live = Live::start().await;
    live.plugin()["endpoints"][0]["decision"]["timeout_ms"] = json!(2700);
    live.replace_file("success").await;
    live.until(PATH, || account.verify_url("1"), |answer| answer.status == 200).await;
    live.backend.on_device("sn-slow", Behaviour::verdict(3).after(Duration::from_millis(2500)));
    live.backend.on_device("sn-before", Behaviour::verdict(4));

    let load = Load::begin(&live, &account);
    let (before, slow) = (Event::bind("sn-before"), Event::bind("sn-slow"));
    assert_eq!(errcode(&live.send(&account.seal(&before)).await, &account), Some(4));
    let in_flight = {
        let (client, url, request) = (live.client.clone(), live.url(), account.seal(&slow));
        tokio::spawn(async move { client.send(&url, &request).await.unwrap() })
    };
    let asked = async || !live.backend.requests_for("sn-slow").is_empty();
    until("the backend was asked", asked).await.unwrap();

    // Add credentials and an endpoint, change the upstream's path and timeout.
    let rotated = Account::rotated();
    let plugin = live.plugin();
    plugin["endpoints"][0]["credentials"].as_array_mut().unwrap().insert(0, literal(&rotated));
    plugin["endpoints"][0]["decision"] = json!({ "cluster": "decision", "path": "/bind/v2", "timeout_ms": 2600 });
    let mut second = plugin["endpoints"][0].clone();
    second["path"] = "/suite/receive/second".into();
    second["name"] = "second".into();
    plugin["endpoints"].as_array_mut().unwrap().push(second);
    live.replace_file("success").await;
    live.until(PATH, || rotated.verify_url("1"), |answer| answer.status == 200).await;
    assert!(!in_flight.is_finished(), "the call in flight ended before the change was complete");
    live.until("/suite/receive/second", || rotated.verify_url("2"), |answer| answer.status == 200).await;
    live.send(&rotated.seal(Event::bind("sn-after"))).await;
    assert_eq!(live.backend.requests_for("sn-after")[0].path(), "/bind/v2");
    load.go_on().await;

    // The call in flight keeps its old timeout, which is longer than the new one.
    let answer = in_flight.await.unwrap();
    assert_eq!(errcode(&answer, &account), Some(3));
    assert_eq!(live.backend.requests_for("sn-slow")[0].path(), "/bind");

    // An invalid file changes nothing.
    let good = live.filter.clone();
    live.plugin()["endpoints"][0]["decision"]["timeout_ms"] = json!(99_999);
    live.replace_file("rejected").await;
    live.envoy.wait_for_log("configuration refused: endpoints[0].decision.timeout_ms").await.unwrap();
    load.go_on().await;
    live.filter = good;

    // Other environment variables require a new virtual machine; before 1.39 Envoy ignores the change.
    if version().unwrap() >= (1, 39) {
        let vms = live.envoy.stat("wasm.envoy.wasm.runtime.v8.created").await;
        live.plugin()["endpoints"][0]["credentials"] =
            json!([{ "token": { "env": "NEW_TOKEN" }, "encoding_aes_key": { "env": "NEW_KEY" } }, literal(&account)]);
        *live.filter.pointer_mut("/resources/0/typed_config/config/vm_config/environment_variables").unwrap() =
            json!({ "key_values": { "NEW_TOKEN": rotated.token(), "NEW_KEY": rotated.encoding_aes_key() } });
        live.plugin()["endpoints"].as_array_mut().unwrap().truncate(1);
        live.replace_file("success").await;
        live.until("/suite/receive/second", || rotated.verify_url("3"), |answer| answer.status == 503).await;
        load.go_on().await;
        assert!(live.envoy.stat("wasm.envoy.wasm.runtime.v8.created").await > vms);
    }

    // The table of records survived all changes.
    for (event, verdict) in [(&before, 4), (&slow, 3)] {
        assert_eq!(errcode(&live.send(&account.seal(event)).await, &account), Some(verdict));
    }
    assert_eq!(live.backend.requests_for("sn-before").len(), 1);
    assert_eq!(live.backend.requests_for("sn-slow").len(), 1);
    load.end().await;

    assert_eq!(live.envoy.stat(&format!("{UPDATES}rejected")).await, Some(1));
    live.edge.end().await.unwrap();
}

/// The first file is the only one that has no predecessor to go on with.
#[tokio::test]
async fn with_a_refused_first_file_callbacks_end_as_503_and_other_paths_are_served() {
    let account = Account::demo();
    let mut good = Value::Null;
    let mut live = Live::start_with(|plugin| {
        good = plugin.clone();
        plugin["endpoints"][0]["decision"]["timeout_ms"] = json!(99_999);
    })
    .await;
    live.envoy.wait_for_log("configuration refused: endpoints[0].decision.timeout_ms").await.unwrap();
    assert_eq!(live.envoy.stat(&format!("{UPDATES}rejected")).await, Some(1));

    let bind = Event::bind("sn-first");
    for worker in live.one_client_per_worker().await.unwrap() {
        for request in [account.seal(&bind), account.verify_url("1")] {
            let answer = worker.send(&live.url(), &request).await.unwrap();
            assert_eq!((answer.status, answer.rejection().as_deref()), (503, Some("filter_missing")));
        }
        assert_eq!(live.backend.count(), 0, "the backend received {:?}", live.backend.requests());
        let answer = worker.get(&live.envoy.url("/other")).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "success"));
        assert_eq!(live.backend.requests()[0].path(), "/other");
        live.backend.forget();
    }

    *live.plugin() = good;
    live.replace_file("success").await;
    live.until(PATH, || account.verify_url("1"), |answer| answer.status == 200).await;
    assert_eq!(errcode(&live.send(&account.seal(&bind)).await, &account), Some(0));
    assert_eq!(live.backend.requests_for("sn-first").len(), 1);
    assert_eq!(live.client.get(&live.envoy.url("/other")).await.unwrap().text(), "success");
    live.edge.end().await.unwrap();
}

#[tokio::test]
async fn a_change_does_not_cancel_the_call_of_a_client_that_has_left() {
    let account = Account::demo();
    let mut live = Live::start_both_with(|_| (), |bootstrap| bootstrap.component_log_level("wasm:trace")).await;
    live.plugin()["endpoints"][0]["decision"]["timeout_ms"] = json!(2700);
    live.replace_file("success").await;
    live.until(PATH, || account.verify_url("1"), |answer| answer.status == 200).await;
    live.backend.on_device("sn-slow", Behaviour::verdict(3).after(Duration::from_millis(2300)));
    let event = Event::bind("sn-slow");
    let (url, request) = (live.url(), account.seal(&event));
    let client = tokio::spawn(async move { drop(Client::http1().send(&url, &request).await) });
    let asked = async || !live.backend.requests_for("sn-slow").is_empty();
    until("the backend was asked", asked).await.unwrap();
    client.abort();
    live.envoy.access_log_line(|line| line["outcome"] == "client_gone").await.unwrap();

    // Nothing but the call keeps the old configuration.
    live.plugin()["endpoints"][0]["decision"]["timeout_ms"] = json!(900);
    live.replace_file("success").await;
    live.until_ended("bind", "refused", 1).await.unwrap();
    live.envoy.wait_for_log("proxy_done").await.unwrap(); // then it lets itself go
    assert_eq!(errcode(&live.send(&account.seal(&event)).await, &account), Some(3), "its decision is on record");
    assert_eq!(live.backend.requests_for("sn-slow").len(), 1);
    assert_eq!(live.envoy.stat("cluster.decision.upstream_rq_200").await, Some(1), "the call was cancelled");
    live.edge.end().await.unwrap();
}

#[tokio::test]
async fn no_timer_runs_on_an_idle_worker_however_often_its_configuration_was_replaced() {
    let account = Account::demo();
    let mut live = Live::start_both_with(|_| (), |bootstrap| bootstrap.component_log_level("wasm:trace")).await;
    let ticks = |live: &Live| live.envoy.log().matches("proxy_on_tick").count();
    for timeout_ms in 800..806 {
        // A callback begins and ends under each.
        assert_eq!(errcode(&live.send(&account.seal(Event::bind("sn"))).await, &account), Some(0));
        live.plugin()["endpoints"][0]["decision"]["timeout_ms"] = json!(timeout_ms);
        live.replace_file("success").await;
    }
    assert_eq!(errcode(&live.send(&account.seal(Event::bind("sn"))).await, &account), Some(0));
    let mut seen = 0;
    let quiet = async || {
        let before = std::mem::replace(&mut seen, ticks(&live));
        tokio::time::sleep(Duration::from_millis(500)).await; // ten ticks of one timer
        before > 0 && ticks(&live) == before
    };
    until("no timer ran", quiet).await.unwrap();
    live.edge.end().await.unwrap();
}

#[tokio::test]
async fn secrets_can_be_rotated_in_the_order_that_the_console_requires() {
    let (old, new) = (Account::demo(), Account::rotated());
    let mut live = Live::start().await;
    let verify = |account: &Account| account.verify_url("7139691598513686239");
    let bind = |account: &Account| account.seal(Event::bind("sn-rotation"));
    let outcome = |answer: &Answer| answer.rejection().unwrap_or_default();

    // Saving the new pair in the console before Envoy has it fails: WeCom verifies the URL at once.
    assert_eq!(outcome(&live.send(&verify(&new)).await), "bad_signature");

    // So Envoy gets the new pair first, while WeCom still signs with the old one.
    let credentials = |plugin: &mut Value, pairs: Value| plugin["endpoints"][0]["credentials"] = pairs;
    let both = json!([literal(&new), { "token": { "env": "WECOM_TOKEN" }, "encoding_aes_key": { "env": "WECOM_ENCODING_AES_KEY" } }]);
    credentials(live.plugin(), both);
    live.replace_file("success").await;
    live.until(PATH, || verify(&new), |answer| answer.text() == "7139691598513686239").await;

    // The dump does not show secrets from the environment; it does show those in the file.
    let shown = live.envoy.admin("/config_dump").await.unwrap().text();
    assert!(shown.contains(new.token()) && !shown.contains(old.token()));

    // Each request is answered with the pair that it was signed with, in any order.
    for account in [&old, &new, &old, &new] {
        assert_eq!(errcode(&live.send(&bind(account)).await, account), Some(0));
    }
    assert_eq!(live.send(&verify(&old)).await.status, 200);
    // A message that WeCom sends again under the new pair is still the same message.
    let event = Event::bind("sn-both");
    for account in [&old, &new] {
        assert_eq!(errcode(&live.send(&account.seal(&event)).await, account), Some(0));
    }
    assert_eq!(live.backend.requests_for("sn-both").len(), 1);

    // Once WeCom no longer uses the old pair, it is removed.
    credentials(live.plugin(), json!([literal(&new)]));
    live.replace_file("success").await;
    live.until(PATH, || bind(&old), |answer| outcome(answer) == "bad_signature").await;
    assert_eq!(errcode(&live.send(&bind(&new)).await, &new), Some(0));
    live.edge.end().await.unwrap();
}

#[tokio::test]
async fn the_log_and_the_metric_tell_an_update_to_another_version_and_its_rollback() {
    let mut live = Live::start().await;
    let ours = built().unwrap();
    // Another version is made from the module itself: a number of the same length keeps it whole.
    let number = env!("CARGO_PKG_VERSION").as_bytes();
    let other_number: Vec<_> = number.iter().map(|byte| if byte.is_ascii_digit() { b'9' } else { *byte }).collect();
    let mut bytes = fs::read(&ours).unwrap();
    for start in 0..=bytes.len() - number.len() {
        if bytes[start..].starts_with(number) {
            bytes[start..start + number.len()].copy_from_slice(&other_number);
        }
    }
    let other = live.folder.path().join("other.wasm");
    fs::write(&other, bytes).unwrap();

    let versions = [version_of(&ours), version_of(&other)];
    assert_ne!(versions[0], versions[1]);
    let gauge = |version: &str| format!("wasmcustom.wecom.version={version}.build_info");
    let mut starts = [1, 0];
    for (runs, module) in [(0, None), (1, Some(&other)), (0, Some(&ours))] {
        if let Some(module) = module {
            let filename = live.filter.pointer_mut("/resources/0/typed_config/config/vm_config/code/local/filename");
            *filename.unwrap() = module.to_str().unwrap().into();
            live.replace_file("success").await;
            starts[runs] += 1;
        }
        // Both are there for as long as a worker still has the one before.
        let told = until("the metric told the version", async || {
            let stats = live.envoy.stats().await.unwrap();
            let values = versions.each_ref().map(|version| stats.get(&gauge(version)).copied());
            values == [0, 1].map(|version| (version == runs).then_some(1))
        });
        told.await.unwrap();
        let log = live.envoy.log();
        let told = versions.each_ref().map(|version| log.matches(&format!(" {version} started")).count());
        assert_eq!(told, starts, "{log}");
    }
    live.edge.end().await.unwrap();
}

#[test]
fn the_dynamic_files_say_what_envoy_yaml_says() {
    let mut plain = yaml("envoy.yaml");
    let mut dynamic = yaml("deploy/dynamic/envoy.yaml");
    let filter = yaml("deploy/dynamic/filter.yaml");

    let resource = &filter["resources"][0];
    let http_filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
    let (of_plain, of_dynamic) =
        (plain.pointer_mut(http_filters).unwrap().take(), dynamic.pointer_mut(http_filters).unwrap().take());
    assert_eq!(of_plain["typed_config"], resource["typed_config"], "the filter itself");
    assert_eq!((&of_plain["name"], &of_plain["name"]), (&of_dynamic["name"], &resource["name"]));
    let source = &of_dynamic["config_discovery"]["config_source"];
    assert_eq!(source["path_config_source"]["path"], "deploy/dynamic/filter.yaml");
    let there: PathBuf = repository().join("deploy/dynamic/filter.yaml");
    assert!(there.is_file());

    dynamic.as_object_mut().unwrap().remove("node");
    assert_eq!(plain, dynamic, "everything around it");
}
