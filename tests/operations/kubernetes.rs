//! What the tests of deploy/istio and deploy/envoy-gateway share: the manifests, and what an Envoy that is
//! configured by them must do.

use std::fs;

use serde_json::{Value, json};
use testbed::backend::Backend;
use testbed::edge::PATH;
use testbed::envoy::{Bootstrap, Envoy, repository};
use testbed::wecom::{Account, Client, Event, Request};

use crate::schemas::{self, CustomResources};

/// The host name that the manifests serve.
pub(crate) const HOST: &str = "callbacks.example.com";

/// The module in the pods that the manifests describe.
const MODULE: &str = "/etc/wecom/wecom_callback_filter.wasm";

/// The only resource of that kind in these files.
pub(crate) fn resource(files: &[&str], kind: &str) -> Value {
    let documents = files.iter().flat_map(|file| schemas::documents(file));
    let mut found: Vec<_> = documents.filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind} in {files:?}");
    found.remove(0)
}

/// Checks every resource that has a published schema against it. The others must be of those kinds.
pub(crate) fn check_against_schemas(files: &[&str], without_schema: &[&str]) {
    let resources = CustomResources::read();
    for file in files {
        for mut document in schemas::documents(file) {
            let kind = document["kind"].as_str().unwrap().to_owned();
            if without_schema.contains(&kind.as_str()) {
                continue;
            }
            assert_eq!(resources.against(&document), Vec::<String>::new(), "{file}: {kind}");
            document["spec"]["misspelt"] = json!(1);
            assert!(!resources.against(&document).is_empty(), "the schema of {kind} takes anything");
        }
    }
}

/// Checks that a proxy's container has the module and the secrets where the filter's configuration looks
/// for them.
pub(crate) fn check_container(container: &Value, volumes: &Value, plugin: &Value) {
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["readOnly"], true);
    assert!(volumes.as_array().unwrap().iter().any(|volume| volume["name"] == mount["name"]));
    assert_eq!(format!("{}/wecom_callback_filter.wasm", mount["mountPath"].as_str().unwrap()), MODULE);
    let given = container["env"].as_array().unwrap().iter();
    let from_secrets = given.filter(|variable| variable["valueFrom"]["secretKeyRef"]["name"] == "wecom-credentials");
    let given: Vec<_> = from_secrets.map(|variable| variable["name"].clone()).collect();
    assert_eq!(plugin["vm_config"]["environment_variables"]["host_env_keys"], json!(given));
}

/// Checks that a page of docs/ has the commands that make what a proxy's pod takes from elsewhere, and names
/// the versions of the schemas.
pub(crate) fn check_page(page: &str, container: &Value, volumes: &Value, modules: &[&str]) {
    let text = fs::read_to_string(repository().join("docs").join(page)).unwrap();
    let has = |what: &str| assert!(text.contains(what), "docs/{page} has no {what}");
    has(&format!("create configmap {} ", volumes[0]["configMap"]["name"].as_str().unwrap()));
    has("--from-file=wecom_callback_filter.wasm=");
    for variable in container["env"].as_array().unwrap() {
        let key = &variable["valueFrom"]["secretKeyRef"];
        has(&format!("create secret generic {} ", key["name"].as_str().unwrap()));
        has(&format!("--from-literal={}=\"${}\"", key["key"].as_str().unwrap(), variable["name"].as_str().unwrap()));
    }
    let setup = fs::read_to_string(repository().join("tools/setup-schemas.sh")).unwrap();
    for module in modules {
        let (_, rest) = setup.split_once(&format!("{module}@v")).unwrap();
        has(rest.split_whitespace().next().unwrap());
    }
}

fn envoy_yaml() -> Value {
    serde_saphyr::from_str(&fs::read_to_string(repository().join("envoy.yaml")).unwrap()).unwrap()
}

/// A part of the connection manager of `envoy.yaml`.
pub(crate) fn manager_of_envoy_yaml(pointer: &str) -> Value {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    envoy_yaml().pointer(&format!("{manager}{pointer}")).unwrap_or_else(|| panic!("no {pointer}")).clone()
}

/// How much the listener of `envoy.yaml` buffers, in bytes.
pub(crate) fn buffer_limit_of_envoy_yaml() -> Value {
    envoy_yaml()["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"].clone()
}

/// The `stats_config` of `envoy.yaml`.
pub(crate) fn stats_config_of_envoy_yaml() -> Value {
    envoy_yaml()["stats_config"].clone()
}

/// Checks that the filters are those of `envoy.yaml`, but for the clusters, the module's place, and that of
/// the list of capabilities.
pub(crate) fn check_filters(wecom: &Value, strip: &Value, clusters: [&str; 2]) {
    assert_eq!(*strip, manager_of_envoy_yaml("/http_filters/1"));
    let mut expected = manager_of_envoy_yaml("/http_filters/0");
    let plugin = &mut expected["typed_config"]["config"];
    let endpoint = &mut plugin["configuration"]["value"]["endpoints"][0];
    endpoint["decision"]["cluster"] = clusters[0].into();
    endpoint["events"]["cluster"] = clusters[1].into();
    plugin["vm_config"]["code"]["local"]["filename"] = MODULE.into();
    plugin["capability_restriction_config"] = plugin["vm_config"]["capability_restriction_config"].take();
    plugin["vm_config"].as_object_mut().unwrap().remove("capability_restriction_config");
    assert_eq!(*wecom, expected);
}

/// The list of capabilities in the filter of that name, which must be the first of its chain.
pub(crate) fn capabilities(bootstrap: Bootstrap, change: impl FnOnce(&mut Value)) -> Bootstrap {
    bootstrap.edit_plugin(|plugin| change(&mut plugin["capability_restriction_config"]["allowed_capabilities"]))
}

/// An Envoy as a gateway would configure it, and two backends.
pub(crate) struct Gateway {
    pub(crate) envoy: Envoy,
    decision: Backend,
    backend: Backend,
    pub(crate) account: Account,
    client: Client,
}

impl Gateway {
    /// Has Envoy validate the configuration, then starts it. `clusters` are those that the filter calls.
    pub(crate) async fn start(bootstrap: Bootstrap, clusters: [&str; 2]) -> Self {
        let (decision, backend) = (Backend::start().await.unwrap(), Backend::start().await.unwrap());
        let bootstrap = bootstrap.cluster(clusters[0], decision.port()).cluster(clusters[1], backend.port());
        let (status, said) = Envoy::validate(bootstrap.clone()).await.unwrap();
        assert!(status.success(), "{said}");
        let envoy = Envoy::start(bootstrap).await.unwrap();
        Self { envoy, decision, backend, account: Account::demo(), client: Client::http1() }
    }

    pub(crate) async fn send(&self, path: &str, request: &Request) -> (u16, String) {
        let request = request.clone().with_header("host", HOST.as_bytes());
        let answer = self.client.send(&self.envoy.url(path), &request).await.unwrap();
        (answer.status, answer.text())
    }

    pub(crate) fn calls(&self) -> usize {
        self.decision.count() + self.backend.count()
    }

    /// Callbacks are decided, delivered and rejected, and shown with their labels. What is not the
    /// callback's path reaches no backend.
    pub(crate) async fn serves_callbacks(self) {
        let bind = self.account.seal(Event::bind("sn-here"));
        let errcode = |body: &str| self.account.open_reply(body.as_bytes()).unwrap().errcode();
        let (status, body) = self.send(PATH, &bind).await;
        assert_eq!((status, errcode(&body)), (200, Some(0)));
        // A copy, by another spelling of the path.
        let (status, body) = self.send("//suite/./receive", &bind).await;
        assert_eq!((status, errcode(&body)), (200, Some(0)));
        assert_eq!(self.decision.requests_for("sn-here").len(), 1);
        let unbind = self.account.seal(Event::unbind("sn-here"));
        assert_eq!(self.send(PATH, &unbind).await, (200, "success".to_owned()));
        assert_eq!(self.backend.requests()[0].path(), "/events");
        let verification = self.account.verify_url("123").with_header("host", HOST.as_bytes());
        let answer = self.client.send(&self.envoy.url(PATH), &verification).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "123"));
        assert_eq!(answer.header("content-type"), Some("text/plain"), "the route's own is for its own answer");
        assert_eq!(self.send(PATH, &bind.clone().forged()).await.0, 403);

        for path in ["/SUITE/receive", "/suite/receive/", "/suite/receive/more"] {
            let (status, body) = self.send(path, &bind).await;
            assert!(status == 503 && body.contains("filter_missing"), "{path}: {status} {body}");
        }
        assert_eq!(self.send("/suite%2Freceive", &bind).await.0, 400);
        assert_eq!(self.send("/other", &bind).await.0, 404);
        assert_eq!(self.calls(), 2);

        let shown = self.envoy.prometheus().await.unwrap();
        for series in [
            r#"wecom_callbacks_total{endpoint="lock",event="bind",outcome="bound"} 1"#,
            r#"wecom_callbacks_total{endpoint="lock",event="bind",outcome="duplicate"} 1"#,
            // Its value may come later.
            r#"wecom_upstream_duration_ms_bucket{endpoint="lock",event="bind",le="3000"} "#,
        ] {
            assert!(shown.contains(&format!("\n{series}")), "no {series}");
        }
        self.envoy.access_log_line(|line| line["outcome"] == "bound" && line["device_sn"] == "sn-here").await.unwrap();
        self.envoy.assert_clean().await;
        self.envoy.stop().await.unwrap();
    }

    /// The route of the callback stands without the filter too.
    pub(crate) async fn refuses_callbacks(self) {
        let (status, body) = self.send(PATH, &self.account.seal(Event::bind("sn-here"))).await;
        assert!(status == 503 && body.contains("filter_missing"), "{status} {body}");
        assert_eq!(self.calls(), 0);
        self.envoy.stop().await.unwrap();
    }
}
