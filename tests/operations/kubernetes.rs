//! What the tests of deploy/istio and deploy/envoy-gateway share: the manifests, and what an Envoy that is
//! configured by them must do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::backend::Backend;
use testbed::edge::PATH;
use testbed::envoy::{Bootstrap, Envoy};
use testbed::files::repository;
use testbed::redis;
use testbed::wecom::{Account, Client, Event, Request};

use crate::schemas::{self, CustomResources};

/// The host name that the manifests serve.
pub(crate) const HOST: &str = "callbacks.example.com";

/// The module in the pods that the manifests describe.
const MODULE: &str = "/etc/wecom/wecom_callback_filter.wasm";

/// All resources of these files.
pub(crate) fn resources(files: &[&str]) -> Vec<Value> {
    files.iter().flat_map(|file| schemas::documents(file)).collect()
}

/// The only resource of that kind.
pub(crate) fn only<'a>(resources: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = resources.iter().filter(|resource| resource["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// The only resource of that kind in these files.
pub(crate) fn resource(files: &[&str], kind: &str) -> Value {
    only(&resources(files), kind).clone()
}

/// What `kubectl apply -k` makes of a folder of the repository: the resources of its kustomization, patched.
pub(crate) fn kustomized(folder: &str) -> Vec<Value> {
    let kustomization = schemas::documents(&format!("{folder}/kustomization.yaml")).remove(0);
    let files = kustomization["resources"].as_array().unwrap().iter();
    let files: Vec<_> = files.map(|file| format!("{folder}/{}", file.as_str().unwrap())).collect();
    let mut resources = resources(&files.iter().map(String::as_str).collect::<Vec<_>>());
    for patch in kustomization["patches"].as_array().unwrap() {
        let (kind, name) = (&patch["target"]["kind"], &patch["target"]["name"]);
        let is_meant = |resource: &&mut Value| resource["kind"] == *kind && resource["metadata"]["name"] == *name;
        let mut meant: Vec<_> = resources.iter_mut().filter(is_meant).collect();
        assert_eq!(meant.len(), 1, "{kind} {name}");
        apply(meant.remove(0), &serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap());
    }
    resources
}

/// Applies a JSON patch.
pub(crate) fn apply(target: &mut Value, patch: &Value) {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
    json_patch::patch(target, &patch).unwrap();
}

/// Checks every resource that has a published schema against it. The others must be of those kinds.
pub(crate) fn check_against_schemas(resources: &[Value], without_schema: &[&str]) {
    let published = CustomResources::read();
    for resource in resources {
        let kind = resource["kind"].as_str().unwrap();
        if without_schema.contains(&kind) {
            continue;
        }
        assert_eq!(published.against(resource), Vec::<String>::new(), "{kind}");
        let mut wrong = resource.clone();
        wrong["spec"]["misspelt"] = json!(1);
        assert!(!published.against(&wrong).is_empty(), "the schema of {kind} takes anything");
    }
}

/// Checks that a proxy's container has the module and the secrets where the filter's configuration looks
/// for them. A secret that may be missing must be none that the configuration names.
pub(crate) fn check_container(container: &Value, volumes: &Value, plugin: &Value) {
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["readOnly"], true);
    assert!(volumes.as_array().unwrap().iter().any(|volume| volume["name"] == mount["name"]));
    assert_eq!(format!("{}/wecom_callback_filter.wasm", mount["mountPath"].as_str().unwrap()), MODULE);
    let secrets: Vec<_> = container["env"].as_array().unwrap().iter().map(Secret::of).collect();
    let names: Vec<_> = secrets.iter().map(|secret| secret.variable.as_str()).collect();
    assert_eq!(plugin["vm_config"]["environment_variables"]["host_env_keys"], json!(names));
    let configuration = plugin["configuration"]["value"].to_string();
    for secret in secrets {
        let is_named = configuration.contains(&format!("{{\"env\":\"{}\"}}", secret.variable));
        assert_ne!(secret.may_be_missing, is_named, "{secret:?}");
    }
}

/// A variable of a container's environment that comes from a Secret.
#[derive(Debug)]
struct Secret {
    variable: String,
    of: String,
    key: String,
    may_be_missing: bool,
}

impl Secret {
    fn of(variable: &Value) -> Self {
        let from = &variable["valueFrom"]["secretKeyRef"];
        let word = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{variable}")).to_owned();
        Self {
            variable: word(&variable["name"]),
            of: word(&from["name"]),
            key: word(&from["key"]),
            may_be_missing: from["optional"] == true,
        }
    }
}

/// Checks that a page of docs/ has the commands that make what a proxy's pod takes from elsewhere, and names
/// the versions of the schemas. The commands are run, with stand-ins for make and kubectl: no secret may be
/// an argument, or stand in a file that others can read.
pub(crate) fn check_page(page: &str, container: &Value, volumes: &Value, modules: &[&str]) {
    let text = fs::read_to_string(repository().join("docs").join(page)).unwrap();
    let has = |what: &str| assert!(text.contains(what), "docs/{page} has no {what}");
    let called = run_the_commands(&text);
    let configmap = format!("create configmap {} ", volumes[0]["configMap"]["name"].as_str().unwrap());
    assert!(called.iter().any(|call| call.arguments.contains(&configmap)), "{called:?}");
    has("--from-file=wecom_callback_filter.wasm=");
    for secret in container["env"].as_array().unwrap().iter().map(Secret::of) {
        let made = format!("create secret generic {} --from-env-file=", secret.of);
        let calls: Vec<_> = called.iter().filter(|call| call.arguments.contains(&made)).collect();
        assert_eq!(calls.len(), 1, "docs/{page} makes {secret:?}: {called:?}");
        assert_eq!(calls[0].mode, "600");
        let line = calls[0].file.lines().find_map(|line| line.strip_prefix(&format!("{}=", secret.key)));
        assert_eq!(line.is_none(), secret.may_be_missing, "{secret:?}");
        if let Some(value) = line {
            // A secret that nobody has yet is made.
            assert!(value == value_of(&secret.variable) || value.len() >= 64, "{secret:?}: {value}");
        }
    }
    for call in called {
        assert!(!call.arguments.contains("value-of"), "a secret is an argument: {}", call.arguments);
        assert!(!call.is_left, "a file with secrets is left: {}", call.arguments);
    }
    let setup = fs::read_to_string(repository().join("tools/setup-schemas.sh")).unwrap();
    for module in modules {
        let (_, rest) = setup.split_once(&format!("{module}@v")).unwrap();
        has(rest.split_whitespace().next().unwrap());
    }
}

fn value_of(variable: &str) -> String {
    format!("value-of-{variable}")
}

/// A call of kubectl, and the file that it makes a Secret of.
#[derive(Debug)]
struct Call {
    arguments: String,
    mode: String,
    file: String,
    is_left: bool,
}

/// Runs the page's commands up to the one that applies the kustomization.
fn run_the_commands(page: &str) -> Vec<Call> {
    const KUBECTL: &str = r#"#!/bin/bash
cd "$RECORD" && n=$(ls | wc -l)
printf '%s ' "$@" > "call-$n"
cd "$OLDPWD"
for argument; do
    case $argument in --from-env-file=*) file=${argument#*=}; cp "$file" "$RECORD/file-$n"; stat -c %a "$file" > "$RECORD/mode-$n"; realpath "$file" > "$RECORD/name-$n";; esac
done
"#;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["bin", "record", "here"] {
        fs::create_dir(at(name)).unwrap();
    }
    for (name, program) in [("kubectl", KUBECTL), ("make", "#!/bin/true\n")] {
        fs::write(at("bin").join(name), program).unwrap();
        fs::set_permissions(at("bin").join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let commands: Vec<_> = blocks.filter(|block| block.contains("create secret generic")).collect();
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euc", &commands.join("\n")]).current_dir(at("here")).env("PATH", path).env("RECORD", at("record"));
    for variable in ["WECOM_TOKEN", "WECOM_ENCODING_AES_KEY", "WECOM_RECORD_PASSWORD"] {
        shell.env(variable, value_of(variable));
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = |what: &str, number: &str| fs::read_to_string(at("record").join(format!("{what}-{number}")));
    let names = fs::read_dir(at("record")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = names.filter_map(|name| name.strip_prefix("call-").map(str::to_owned));
    numbers
        .map(|number| Call {
            arguments: record("call", &number).unwrap(),
            mode: record("mode", &number).unwrap_or_default().trim().to_owned(),
            file: record("file", &number).unwrap_or_default(),
            is_left: record("name", &number).is_ok_and(|name| Path::new(name.trim()).exists()),
        })
        .collect()
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

/// Checks that the filters are those of `envoy.yaml`, but for the clusters, the module's place, that of the
/// list of capabilities, and the names of the next secrets.
pub(crate) fn check_filters(wecom: &Value, strip: &Value, clusters: [&str; 2]) {
    assert_eq!(*strip, manager_of_envoy_yaml("/http_filters/1"));
    let mut expected = manager_of_envoy_yaml("/http_filters/0");
    let plugin = &mut expected["typed_config"]["config"];
    let endpoint = &mut plugin["configuration"]["value"]["endpoints"][0];
    endpoint["decision"]["cluster"] = clusters[0].into();
    endpoint["events"]["cluster"] = clusters[1].into();
    plugin["vm_config"]["code"]["local"]["filename"] = MODULE.into();
    plugin["capability_restriction_config"] = plugin["vm_config"]["capability_restriction_config"].take();
    let vm = plugin["vm_config"].as_object_mut().unwrap();
    vm.remove("capability_restriction_config");
    let given = vm["environment_variables"]["host_env_keys"].as_array_mut().unwrap();
    given.extend(["WECOM_TOKEN_NEXT", "WECOM_ENCODING_AES_KEY_NEXT"].map(Value::from));
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

/// Checks that a kustomized gateway has the record of deploy/replicas: its settings, and its cluster but for
/// the address.
pub(crate) fn check_record(plugin: &Value, cluster: &Value) {
    let text = fs::read_to_string(repository().join("deploy/replicas/envoy.yaml")).unwrap();
    let replicas = Bootstrap::from_yaml(&text).unwrap();
    assert_eq!(plugin["configuration"]["value"]["dedup"], replicas.plugin_value()["dedup"]);
    let clusters = replicas.config()["static_resources"]["clusters"].as_array().unwrap();
    let mut expected = clusters.iter().find(|cluster| cluster["name"] == "record").unwrap().clone();
    let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
    assert_eq!(cluster.pointer(address).unwrap(), "redis.wecom.svc.cluster.local");
    *expected.pointer_mut(address).unwrap() = cluster.pointer(address).unwrap().clone();
    assert_eq!(*cluster, expected);
}

/// Checks that of a kustomized gateway's pods each has a node of its own, where there are as many, and that
/// draining nodes takes one pod at a time.
pub(crate) fn check_nodes(replicas: &Value, constraints: &Value, labels: &Value, budget: &Value) {
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        // A cluster of one node runs them all.
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": labels },
        // While they are replaced, those that go do not count.
        "matchLabelKeys": ["pod-template-hash"]
    });
    assert_eq!(*constraints, json!([spread]));
    assert_eq!(*budget, json!({ "maxUnavailable": 1 }));
    assert!(replicas.as_u64().unwrap() > 1, "none would be left");
}

/// Two gateways of the kustomization decide a callback once, and two without it twice. `bootstrap` gets
/// whether it is to be the kustomized one.
pub(crate) async fn shares_its_record(bootstrap: impl Fn(bool) -> Bootstrap, clusters: [&str; 2]) {
    if !redis::is_there() {
        return;
    }
    let server = redis::Server::start().await.unwrap();
    for (is_shared, decided) in [(true, [1, 0]), (false, [1, 1])] {
        let start = async || {
            let mut bootstrap = bootstrap(is_shared);
            if is_shared {
                bootstrap = bootstrap.cluster("record", server.port());
                bootstrap = bootstrap.edit_plugin_value(|value| value["dedup"]["redis"]["timeout_ms"] = 500.into());
            }
            let bootstrap = bootstrap.env("WECOM_RECORD_SECRET", redis::SECRET);
            Gateway::start(bootstrap.env("WECOM_RECORD_PASSWORD", redis::PASSWORD), clusters).await
        };
        let pods = [start().await, start().await];
        let bind = pods[0].account.seal(Event::bind("sn-here"));
        for pod in &pods {
            let (status, body) = pod.send(PATH, &bind).await;
            assert_eq!(status, 200);
            assert_eq!(pod.account.open_reply(body.as_bytes()).unwrap().errcode(), Some(0));
        }
        assert_eq!(pods.each_ref().map(Gateway::calls), decided);
        for pod in pods {
            pod.envoy.stop().await.unwrap();
        }
    }
}

/// While token and key are changed: with the credentials of docs/rotation.md, both pairs are answered. An
/// Envoy that has no next pair in its environment refuses them.
pub(crate) async fn changes_its_credentials(bootstrap: impl Fn() -> Bootstrap, clusters: [&str; 2]) {
    let page = fs::read_to_string(repository().join("docs/rotation.md")).unwrap();
    let (_, snippet) = page.split_once("```yaml\n").unwrap();
    let credentials: Value = serde_saphyr::from_str(snippet.split_once("```").unwrap().0).unwrap();
    let both = || {
        bootstrap().edit_plugin_value(|value| {
            value["endpoints"][0]["credentials"] = credentials["credentials"].clone();
        })
    };
    let (status, said) =
        Envoy::validate(clusters.into_iter().fold(both(), |b, name| b.cluster(name, 9))).await.unwrap();
    assert!(!status.success() && said.contains("configuration refused"), "{said}");

    let next = Account::rotated();
    let with_next =
        both().env("WECOM_TOKEN_NEXT", next.token()).env("WECOM_ENCODING_AES_KEY_NEXT", next.encoding_aes_key());
    let gateway = Gateway::start(with_next, clusters).await;
    for account in [&next, &gateway.account] {
        let verification = account.verify_url("123").with_header("host", HOST.as_bytes());
        let answer = gateway.client.send(&gateway.envoy.url(PATH), &verification).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "123"));
    }
    gateway.envoy.stop().await.unwrap();
}
