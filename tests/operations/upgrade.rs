//! docs/upgrade.md: another module in a running Envoy, and back to the one before, under load. The other
//! module is the one that the tests of traps use: other code, the same behaviour.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::backend::Behaviour;
use testbed::edge::{Edge, Setup};
use testbed::envoy::{Bootstrap, dynamic_filter, for_this_envoy};
use testbed::module;
use testbed::waiting::until;
use testbed::wecom::{Account, Answer, Client, Event};
use tokio::task::JoinSet;

use crate::metrics::{ECDS, LDS, metrics_of_the_alerts};

/// Long enough for a call that is under way during a change.
const TIMEOUT_MS: u64 = 2700;

/// The counter of virtual machines that Envoy ever made.
const CREATED: &str = "wasm.envoy.wasm.runtime.v8.created";

/// An Envoy that reads the filter, or the listener with it, from a file.
struct FromFile {
    edge: Edge,
    folder: TempDir,
    file: Value,
    /// How its counters of the file's updates begin.
    updates: &'static str,
}

impl FromFile {
    /// With the files of deploy/dynamic.
    async fn ecds() -> Self {
        let mut file = dynamic_filter().unwrap();
        filter(&mut file)["configuration"]["value"]["endpoints"][0]["decision"]["timeout_ms"] = TIMEOUT_MS.into();
        let bootstrap = |path: &Path| Bootstrap::dynamic(path).unwrap();
        Self::start(file, "extension_config_discovery.http_filter.wecom.update_", bootstrap).await
    }

    /// With the listener of envoy.yaml moved to a file.
    async fn lds() -> Self {
        let mut listener = Value::Null;
        let bootstrap = Bootstrap::example().unwrap().edit(|config| {
            listener = config["static_resources"]["listeners"][0].take();
            config["static_resources"].as_object_mut().unwrap().remove("listeners");
            config["node"] = json!({ "id": "edge", "cluster": "edge" });
        });
        listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
        for_this_envoy(&mut listener).unwrap();
        let mut file = json!({ "version_info": "1", "resources": [listener] });
        filter(&mut file)["configuration"]["value"]["endpoints"][0]["decision"]["timeout_ms"] = TIMEOUT_MS.into();
        filter(&mut file)["vm_config"]["code"]["local"]["filename"] = module::built().unwrap().to_str().unwrap().into();
        let bootstrap = |path: &Path| {
            bootstrap.edit(|config| {
                config["dynamic_resources"] = json!({ "lds_config": {
                    "resource_api_version": "V3", "path_config_source": { "path": path }
                } });
            })
        };
        Self::start(file, "listener_manager.lds.update_", bootstrap).await
    }

    async fn start(file: Value, updates: &'static str, bootstrap: impl FnOnce(&Path) -> Bootstrap) -> Self {
        let folder = tempfile::Builder::new().prefix("upgrade-").tempdir().unwrap();
        let path = folder.path().join("now.json");
        fs::write(&path, file.to_string()).unwrap();
        let edge = Setup::of(bootstrap(&path)).one_backend().start().await.unwrap();
        Self { edge, folder, file, updates }
    }

    /// Renames a file into place that names another module, and waits until Envoy has accepted it
    /// (`success`) or not (`rejected`).
    async fn replace_module(&mut self, module: &Path, expected: &str) {
        let counter = format!("{}{expected}", self.updates);
        let before = self.edge.envoy.stat(&counter).await.unwrap();
        filter(&mut self.file)["vm_config"]["code"]["local"]["filename"] = module.to_str().unwrap().into();
        let next = self.folder.path().join("next.json");
        fs::write(&next, self.file.to_string()).unwrap();
        fs::rename(&next, self.folder.path().join("now.json")).unwrap();
        until(&counter, async || self.edge.envoy.stat(&counter).await == Some(before + 1)).await.unwrap();
    }
}

/// The plugin's configuration in a file of either kind.
fn filter(file: &mut Value) -> &mut Value {
    let resource = &mut file["resources"][0];
    let filters = "/filter_chains/0/filters/0/typed_config/http_filters";
    if resource.pointer(filters).is_none() {
        return &mut resource["typed_config"]["config"];
    }
    let filters = resource.pointer_mut(filters).unwrap().as_array_mut().unwrap();
    let filter = filters.iter_mut().find(|filter| filter["name"] == "wecom").unwrap();
    &mut filter["typed_config"]["config"]
}

fn errcode(answer: &Answer, account: &Account) -> Option<u32> {
    answer.decrypt(account).ok()?.errcode()
}

/// Some senders of binds, each of which sends the next when it has its answer; all must be approved.
struct Senders {
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    sending: JoinSet<()>,
}

/// How many of them there are, and so how many binds are always being decided.
const SENDERS: usize = 16;

impl Senders {
    fn begin(edge: &Edge) -> Self {
        let (answered, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut sending = JoinSet::new();
        for _ in 0..SENDERS {
            let (client, url, account) = (Client::http1(), edge.url(), edge.account.clone());
            let (answered, over) = (Arc::clone(&answered), Arc::clone(&over));
            sending.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let answer = client.send(&url, &account.seal(Event::bind("sn-many"))).await.unwrap();
                    assert_eq!(errcode(&answer, &account), Some(0), "{} {}", answer.status, answer.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { answered, over, sending }
    }

    /// Waits until each has had some more answers.
    async fn go_on(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + 3 * SENDERS;
        let reached = async || self.answered.load(Ordering::Relaxed) >= enough;
        until("more binds were answered", reached).await.unwrap();
    }

    /// How many binds were answered in all.
    async fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.sending.join_all().await;
        self.answered.load(Ordering::Relaxed)
    }
}

/// Upgrades and goes back while binds are being decided.
async fn upgrade_and_go_back(mut from_file: FromFile, metrics: &str) {
    let account = Account::demo();
    let (ours, other) = (module::built().unwrap(), module::built_with_trap().unwrap());
    from_file.edge.backend.on_device("sn-many", Behaviour::verdict(0).after(Duration::from_millis(300)));
    from_file.edge.backend.on_device("sn-one", Behaviour::verdict(4));
    let senders = Senders::begin(&from_file.edge);
    senders.go_on().await;

    let mut decided = Vec::new();
    for module in [&other, &ours] {
        decided.push(Event::bind("sn-one"));
        let answer = from_file.edge.send(&account.seal(decided.last().unwrap())).await.unwrap();
        assert_eq!(errcode(&answer, &account), Some(4));

        let machines = from_file.edge.envoy.stat(CREATED).await.unwrap();
        from_file.replace_module(module, "success").await;
        // On the way back, Envoy may still have a machine of the module of before.
        let loaded = async || module == &ours || from_file.edge.envoy.stat(CREATED).await.unwrap() > machines;
        until("Envoy loaded the module", loaded).await.unwrap();
        senders.go_on().await;
    }

    // A module that is not there changes nothing.
    from_file.replace_module(&other.with_file_name("missing.wasm"), "rejected").await;
    senders.go_on().await;

    // What either module decided is still known.
    for event in &decided {
        let answer = from_file.edge.send(&account.seal(event)).await.unwrap();
        assert_eq!(errcode(&answer, &account), Some(4));
    }
    assert_eq!(from_file.edge.backend.requests_for("sn-one").len(), decided.len());
    let answered = senders.end().await;
    assert_eq!(from_file.edge.backend.requests_for("sn-many").len(), answered, "each was delivered once");

    let shown = from_file.edge.envoy.prometheus().await.unwrap();
    let of_files: Vec<_> = metrics_of_the_alerts().into_iter().filter(|name| name.starts_with(metrics)).collect();
    assert!(!of_files.is_empty(), "no alert reads {metrics}…");
    for name in of_files {
        assert!(shown.contains(&format!("\n{name}{{")), "the metric {name} of an alert does not exist");
    }
    from_file.edge.end().await.unwrap();
}

#[tokio::test]
async fn an_upgrade_by_ecds_and_the_way_back_cost_no_callback() {
    upgrade_and_go_back(FromFile::ecds().await, ECDS).await;
}

#[tokio::test]
async fn an_upgrade_by_lds_and_the_way_back_cost_no_callback() {
    upgrade_and_go_back(FromFile::lds().await, LDS).await;
}
