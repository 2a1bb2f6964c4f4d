//! The table of records survives an update of the configuration, which may add an endpoint for the same callbacks.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testbed::backend::Behaviour;
use testbed::envoy::for_this_envoy;
use testbed::module;
use testbed::wecom::Event;

use super::*;

/// A file with the filter's configuration, which Envoy watches.
struct File<'a> {
    folder: &'a Path,
    typed_config: Value,
}

impl File<'_> {
    /// Moves the filter's configuration from the bootstrap into the file.
    fn in_place_of_the_filter(&mut self, bootstrap: Bootstrap) -> Bootstrap {
        let bootstrap = bootstrap.edit_hcm(|hcm| {
            let filter = &mut hcm["http_filters"][0];
            assert_eq!(filter["name"], "wecom");
            self.typed_config = filter["typed_config"].take();
            *filter = json!({
                "name": "wecom",
                "config_discovery": {
                    "config_source": { "path_config_source": { "path": self.path() }, "resource_api_version": "V3" },
                    "type_urls": [self.typed_config["@type"]],
                },
            });
        });
        self.typed_config["config"]["vm_config"]["code"]["local"]["filename"] =
            module::built().unwrap().to_str().unwrap().into();
        for_this_envoy(&mut self.typed_config).unwrap();
        self.write(|_| ());
        bootstrap.edit(|config| config["node"] = json!({ "id": "edge", "cluster": "edge" }))
    }

    /// Changes what is configured for the filter and replaces the file atomically.
    fn write(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.typed_config["config"]["configuration"]["value"]);
        let response = json!({ "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "wecom",
            "typed_config": self.typed_config,
        }] });
        let next = self.folder.join("next.json");
        fs::write(&next, response.to_string()).unwrap();
        fs::rename(&next, self.path()).unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.join("wecom.json")
    }
}

#[tokio::test]
async fn the_record_survives_an_update_of_the_configuration() {
    let _machine = MACHINE.read().await;
    let folder = tempfile::tempdir().unwrap();
    let mut file = File { folder: folder.path(), typed_config: Value::Null };
    let edge = Edge::start(|bootstrap| {
        let patient =
            bootstrap.edit_plugin_value(|value| value["endpoints"][0]["decision"]["timeout_ms"] = 2800.into());
        file.in_place_of_the_filter(patient)
    })
    .await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.on_device("sn-decided", Behaviour::verdict(3));
    edge.backend.on_device("sn-in-flight", Behaviour::verdict(4).after(Duration::from_millis(2500)));
    let decided = Event::bind("sn-decided");
    assert_eq!(edge.errcode(&edge.send(&clients[0], &edge.account.seal(&decided)).await), Some(3));
    let in_flight = Event::bind("sn-in-flight");
    let first = edge.sending(&clients[0], edge.account.seal(&in_flight));
    edge.backend.wait_for(2).await.unwrap();

    // The update adds an endpoint: a worker that answers for it has adopted the update.
    file.write(|value| {
        let mut second = value["endpoints"][0].clone();
        second["path"] = "/second/receive".into();
        second["name"] = "second".into();
        value["endpoints"].as_array_mut().unwrap().push(second);
        value["endpoints"][0]["decision"]["timeout_ms"] = 300.into();
    });
    let second_url = edge.envoy.url("/second/receive");
    for client in &clients {
        let arrived = async || client.get(&second_url).await.unwrap().status == 400;
        until("the update had arrived", arrived).await.unwrap();
    }
    edge.backend.always(Behaviour::verdict(0));
    edge.backend.forget(); // including requests that passed the filter before the update

    for client in &clients {
        assert_eq!(edge.errcode(&edge.send(client, &edge.account.seal(&decided)).await), Some(3));
    }
    assert_eq!(edge.ended("bind", "duplicate").await.unwrap(), 2);
    // A copy waits no longer than the new configuration says …
    for client in &clients {
        assert_eq!(edge.errcode(&edge.send(client, &edge.account.seal(&in_flight)).await), Some(7));
    }
    assert_eq!(edge.ended("bind", "deadline").await.unwrap(), 2, "the first is still waiting");
    // … and the first one still gets the answer to its call, made under the old configuration.
    assert_eq!(edge.errcode(&first.await.unwrap()), Some(4));
    for client in &clients {
        assert_eq!(edge.errcode(&edge.send(client, &edge.account.seal(&in_flight)).await), Some(4));
    }
    assert_eq!(edge.backend.requests().len(), 0, "{:?}", edge.backend.requests());

    // The endpoint that was added accepts the same message: to it, too, the callback is known.
    for client in &clients {
        let answer = client.send(&second_url, &edge.account.seal(&decided)).await.unwrap();
        assert_eq!(edge.errcode(&answer), Some(3));
    }
    assert_eq!(edge.backend.requests_for("sn-decided").len(), 0);
    edge.assert_clean().await;
}
