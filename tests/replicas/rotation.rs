//! The secret that seals the records, changed under load in the order of docs/replicas.md.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::envoy::for_this_envoy;
use testbed::module;
use testbed::waiting::until;
use testbed::wecom::Client;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::*;

const OLD: &str = "old-secret-old-secret-old-secret-old";
const NEW: &str = "new-secret-new-secret-new-secret-new";

/// An Envoy that reads its filter from a file.
struct Changeable {
    edge: Edge,
    folder: TempDir,
    typed_config: Value,
    steps: u32,
}

impl Changeable {
    async fn start(backend: &Backend, redis_port: u16) -> Self {
        let folder = tempfile::Builder::new().prefix("rotation-").tempdir().unwrap();
        let mut typed_config = Value::Null;
        let path = folder.path().join("filter.json");
        let mut change = |bootstrap: Bootstrap| {
            bootstrap.patient().edit(|config| config["node"] = json!({ "id": "edge", "cluster": "edge" })).edit_hcm(
                |hcm| {
                    let filter = &mut hcm["http_filters"][0];
                    typed_config = filter["typed_config"].take();
                    *filter = json!({
                        "name": "wecom",
                        "config_discovery": {
                            "config_source": { "path_config_source": { "path": path }, "resource_api_version": "V3" },
                            "type_urls": [typed_config["@type"]],
                        },
                    });
                    typed_config["config"]["vm_config"]["code"]["local"]["filename"] =
                        module::built().unwrap().to_str().unwrap().into();
                    typed_config["config"]["configuration"]["value"]["dedup"]["redis"]["secret"] = OLD.into();
                    for_this_envoy(&mut typed_config).unwrap();
                    write(&path, &typed_config);
                },
            )
        };
        let setup = Setup::of(Bootstrap::replica().unwrap()).served_by(backend);
        let edge = setup.start_with(|bootstrap| change(bootstrap.cluster("record", redis_port))).await.unwrap();
        Self { edge, folder, typed_config, steps: 0 }
    }

    /// Changes both secrets, and waits until all workers have adopted that: a further endpoint tells.
    async fn change(&mut self, secret: &str, previous: Option<&str>) {
        self.steps += 1;
        let value = &mut self.typed_config["config"]["configuration"]["value"];
        let redis = &mut value["dedup"]["redis"];
        redis["secret"] = secret.into();
        match previous {
            Some(previous) => redis["previous_secret"] = previous.into(),
            None => drop(redis.as_object_mut().unwrap().remove("previous_secret")),
        }
        let mut marker = value["endpoints"][0].clone();
        marker["path"] = format!("/step/{}", self.steps).into();
        marker["name"] = format!("step-{}", self.steps).into();
        value["endpoints"].as_array_mut().unwrap().push(marker);
        let path: PathBuf = self.folder.path().join("filter.json");
        write(&path, &self.typed_config);
        let url = self.edge.envoy.url(&format!("/step/{}", self.steps));
        let mut in_a_row = 0;
        let adopted = until("all workers had adopted the change", async || {
            let answer = Client::http1().get(&url).await.unwrap();
            in_a_row = if answer.status == 400 { in_a_row + 1 } else { 0 };
            in_a_row == 8
        });
        adopted.await.unwrap();
    }
}

fn write(path: &std::path::Path, typed_config: &Value) {
    let response = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "wecom",
        "typed_config": typed_config,
    }] });
    let next = path.with_extension("next");
    fs::write(&next, response.to_string()).unwrap();
    fs::rename(&next, path).unwrap();
}

/// Sends a bind to one replica and then its copy to the other one, all the time.
fn load(edges: [&Edge; 2], over: &Arc<AtomicBool>) -> JoinHandle<(usize, Vec<String>)> {
    let urls = edges.map(Edge::url);
    let (account, over) = (edges[0].account.clone(), Arc::clone(over));
    tokio::spawn(async move {
        let client = Client::http1();
        let (mut number, mut wrong, mut beat) = (0, Vec::new(), interval(Duration::from_millis(10)));
        while !over.load(Ordering::Relaxed) {
            beat.tick().await;
            let event = Event::bind("sn-rotation");
            for turn in 0..2 {
                let url = &urls[(number + turn) % 2];
                let answer = client.send(url, &account.seal(&event)).await.unwrap();
                let said = answer.decrypt(&account).ok().and_then(|reply| reply.errcode());
                if said != Some(0) {
                    wrong.push(format!("bind {number}, turn {turn}: {said:?}"));
                }
            }
            number += 1;
        }
        (number, wrong)
    })
}

/// How many binds, without the probes for a change.
fn delivered(backend: &Backend) -> usize {
    backend.requests().iter().filter(|request| request.event().as_deref() == Some("bind")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_documented_order_the_secret_is_changed_under_load_and_nothing_fails() {
    let _machine = MACHINE.read().await;
    if !redis::is_there() {
        return;
    }
    let (server, backend) = (Server::start().await.unwrap(), Backend::start().await.unwrap());
    let mut one = Changeable::start(&backend, server.port()).await;
    let mut other = Changeable::start(&backend, server.port()).await;
    let before = Event::bind("sn-before");
    assert_eq!(verdict(&one.edge, &before).await, 0);

    let over = Arc::new(AtomicBool::new(false));
    let sending = load([&one.edge, &other.edge], &over);
    for (secret, previous) in [(OLD, Some(NEW)), (NEW, Some(OLD)), (NEW, None)] {
        if previous.is_none() {
            assert_eq!(verdict(&other.edge, &before).await, 0, "sealed under the old secret, opened as before");
        }
        one.change(secret, previous).await;
        other.change(secret, previous).await;
    }
    over.store(true, Ordering::Relaxed);
    let (binds, wrong) = sending.await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(delivered(&backend), binds + 1, "each once");
    for edge in [&one.edge, &other.edge] {
        assert_eq!(exchanged(edge, "forged").await, 0);
        assert!(exchanged(edge, "settled").await > 0);
    }

    // Out of order, copies fail closed: the other one can't open what this one seals.
    one.change(OLD, None).await;
    let event = Event::bind("sn-out-of-order");
    assert_eq!((verdict(&one.edge, &event).await, verdict(&other.edge, &event).await), (0, 7));
    assert_eq!(delivered(&backend), binds + 2);
    for secret in [OLD, NEW] {
        assert!(!one.edge.envoy.log().contains(secret) && !other.edge.envoy.log().contains(secret));
    }
    for changeable in [one, other] {
        end(changeable.edge).await;
    }
}
