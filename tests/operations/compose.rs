//! deploy/compose. The files that it mounts are run as they are, but for addresses.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use testbed::backend::free_port;
use testbed::edge::PATH;
use testbed::envoy::{Bootstrap, Envoy};
use testbed::files::repository;
use testbed::waiting::until;
use testbed::wecom::{Account, Client, Event};

use crate::metrics::names_of_the_alerts;
use crate::prometheus::{self, Prometheus, promtool};
use crate::schemas;

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_compose_files_are_as_the_specification_says() {
    if schemas::are_missing() {
        return;
    }
    for file in ["deploy/compose/compose.yaml", "deploy/replicas/compose.yaml"] {
        let mut compose = yaml(file);
        assert_eq!(schemas::against_compose(&compose), Vec::<String>::new(), "{file}");
        compose["services"]["backend"]["volume"] = json!([]);
        assert!(!schemas::against_compose(&compose).is_empty(), "the schema takes anything");
    }
}

/// Compose reads the text of a configuration in the file itself from 2.23.1 on.
#[test]
fn the_page_of_replicas_says_which_compose_its_file_needs() {
    let configs = yaml("deploy/replicas/compose.yaml")["configs"].as_object().cloned().unwrap_or_default();
    let has_a_text = configs.values().any(|config| config.get("content").is_some());
    assert_eq!(text("docs/replicas.md").contains("needs Docker Compose 2.23.1 or later"), has_a_text);
}

#[test]
fn the_configuration_says_what_envoy_yaml_says_but_for_what_its_head_names() {
    const LISTENER: &str = "/static_resources/listeners/0";
    let (plain, mut here) = (yaml("envoy.yaml"), yaml("deploy/compose/envoy.yaml"));
    let as_in_plain = |value: &mut Value, path: &str, expected: &str| {
        let there = value.pointer_mut(path).unwrap_or_else(|| panic!("no {path}"));
        assert_eq!(*there, expected, "{path}");
        *there = plain.pointer(path).unwrap_or_else(|| panic!("no {path} in envoy.yaml")).clone();
    };
    as_in_plain(&mut here, &format!("{LISTENER}/address/socket_address/address"), "0.0.0.0");
    let filename =
        "filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/vm_config/code/local/filename";
    as_in_plain(&mut here, &format!("{LISTENER}/{filename}"), "/etc/envoy/wecom_callback_filter.wasm");
    let address = "load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
    for cluster in 0..2 {
        as_in_plain(&mut here, &format!("/static_resources/clusters/{cluster}/{address}"), "backend");
    }

    let mut taken = |list: &str| here["static_resources"][list].as_array_mut().unwrap().pop().unwrap();
    let (mut listener, cluster) = (taken("listeners"), taken("clusters"));
    assert_eq!(here, plain, "everything else");

    // Those of docs/existing-envoy.md.
    let page = text("docs/existing-envoy.md");
    let snippets = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut snippets = snippets.map(|snippet| serde_saphyr::from_str::<Value>(snippet).unwrap());
    let snippet = snippets.find(|snippet| snippet.get("clusters").is_some()).unwrap();
    listener["name"] = "metrics".into();
    assert_eq!((&listener, &cluster), (&snippet["listeners"][0], &snippet["clusters"][0]));
}

#[test]
fn the_compose_file_mounts_and_starts_what_the_configurations_speak_of() {
    let (compose, envoy) = (yaml("deploy/compose/compose.yaml"), yaml("deploy/compose/envoy.yaml"));
    let services = compose["services"].as_object().unwrap();
    let mut mounted = Vec::new();
    for (name, service) in services {
        let (_, tag) = service["image"].as_str().unwrap().rsplit_once(':').expect("an image with a tag");
        assert!(tag.contains('.'), "{name}: {tag} names no version");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} speaks in clear");
        }
        for volume in service["volumes"].as_array().unwrap() {
            let [from, to, "ro"] = volume.as_str().unwrap().split(':').collect::<Vec<_>>()[..] else {
                panic!("{name}: {volume}")
            };
            let there = from.contains("/target/") || repository().join("deploy/compose").join(from).is_file();
            assert!(there, "{name}: {from} does not exist");
            mounted.push((name.as_str(), from, to));
        }
    }
    let is_mounted = |name, from, to| assert!(mounted.contains(&(name, from, to)), "{mounted:?}");

    is_mounted("edge", "./envoy.yaml", "/etc/envoy/envoy.yaml");
    let plugin =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    let vm = envoy.pointer(&format!("{plugin}/vm_config")).unwrap();
    let module = vm.pointer("/code/local/filename").unwrap().as_str().unwrap();
    is_mounted("edge", "../../target/wasm32-wasip1/release/wecom_callback_filter.wasm", module);
    let given = services["edge"]["environment"].as_object().unwrap();
    for name in vm.pointer("/environment_variables/host_env_keys").unwrap().as_array().unwrap() {
        assert!(given.contains_key(name.as_str().unwrap()), "{name}");
    }
    let ports: Vec<_> = envoy["static_resources"]["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|cluster| {
            cluster.pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address")
        })
        .filter(|address| address["address"] == "backend")
        .map(|address| address["port_value"].to_string())
        .collect();
    assert_eq!(services["backend"]["command"], json!(["python3", "/backend.py", ports[0], ports[1]]));

    let prometheus = yaml("deploy/compose/prometheus.yml");
    is_mounted("prometheus", "../prometheus/alerts.yml", prometheus["rule_files"][0].as_str().unwrap());
    let metrics = envoy.pointer("/static_resources/listeners/1/address/socket_address/port_value").unwrap();
    let target = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(*target, format!("edge:{metrics}"));

    let source = &yaml("deploy/compose/grafana/datasources.yaml")["datasources"][0];
    assert_eq!((&source["type"], &source["url"]), (&json!("prometheus"), &json!("http://prometheus:9090")));
    let folder = yaml("deploy/compose/grafana/dashboards.yaml")["providers"][0]["options"]["path"].clone();
    let dashboard = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    assert!(dashboard.starts_with(folder.as_str().unwrap()), "{dashboard}");
    is_mounted("grafana", "../grafana/wecom-callbacks.json", dashboard);
}

/// The stand-in backend. It ends when dropped.
struct Script(Child);

impl Script {
    /// Starts it, and waits until it answers.
    async fn start(decision: u16, events: u16) -> Self {
        let script = Command::new("python3")
            .arg(repository().join("deploy/compose/backend.py"))
            .args([decision.to_string(), events.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let script = Self(script);
        let client = Client::http1();
        for port in [decision, events] {
            let url = format!("http://127.0.0.1:{port}/");
            until("the stand-in answered", async || client.get(&url).await.is_ok()).await.unwrap();
        }
        script
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_callback_goes_through_the_files_that_compose_mounts() {
    let [admin, decision, events] =
        [free_port().await.unwrap(), free_port().await.unwrap(), free_port().await.unwrap()];
    let bootstrap = Bootstrap::from_yaml(&text("deploy/compose/envoy.yaml"))
        .unwrap()
        .edit(|config| config["admin"]["address"]["socket_address"]["port_value"] = admin.into())
        .cluster("admin", admin)
        .cluster("decision", decision)
        .cluster("backend", events);
    let _backend = Script::start(decision, events).await;
    let envoy = Envoy::start(bootstrap).await.unwrap();
    let (account, client) = (Account::demo(), Client::http1());
    let send = async |event: Event| client.send(&envoy.url(PATH), &account.seal(event)).await.unwrap();

    for (device_sn, errcode) in [("sn-accept-1", 0), ("sn-refuse-4", 4)] {
        let answer = send(Event::bind(device_sn)).await;
        assert_eq!(answer.decrypt(&account).unwrap().errcode(), Some(errcode));
    }
    let answer = send(Event::unbind("sn-accept-1")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "success"));
    // Another path reaches the backend, which knows that this is no callback.
    assert_eq!(client.get(&envoy.url("/")).await.unwrap().text(), "hello from the backend");
    let forged = account.seal(Event::unbind("sn-1")).with_header("x-wecom-event", b"unbind");
    assert_eq!(client.send(&envoy.url("/events"), &forged).await.unwrap().status, 403);

    if !prometheus::is_missing() {
        let mut settings = yaml("deploy/compose/prometheus.yml");
        settings["rule_files"] = json!([repository().join("deploy/prometheus/alerts.yml")]);
        let metrics = envoy.listener("metrics").unwrap().to_string();
        settings["scrape_configs"][0]["static_configs"][0]["targets"][0] = metrics.into();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, settings.to_string()).unwrap();
        promtool(&["check", "config", file.to_str().unwrap()]);

        let prometheus = Prometheus::configured(&settings).await;
        let query = r#"sum by (outcome) (wecom_callbacks_total{job="envoy",endpoint="lock"}) > 0"#;
        let ended = prometheus.query_until(query, &["outcome"], |ended| ended.len() == 3).await;
        let wanted = ["bound", "delivered", "refused"].map(|outcome| (vec![outcome.to_owned()], 1.0));
        assert_eq!(ended.into_iter().collect::<Vec<_>>(), wanted);
        let loaded = prometheus.alert_names().await.into_iter().collect();
        assert!(names_of_the_alerts().is_superset(&loaded) && loaded.len() > 5, "{loaded:?}");
    }
    envoy.assert_clean().await;
    envoy.stop().await.unwrap();
}
