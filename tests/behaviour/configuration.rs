//! A configuration that is wrong anywhere never serves: Envoy refuses to start, or to validate, and
//! its log says which field it is, and never a secret. What is right serves in either of its forms.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Value, json};
use testbed::backend::free_port;
use testbed::envoy::{Bootstrap, Envoy};
use testbed::wecom::{Account, Event};

use crate::support::{Edge, PATH, assert_rejected, endpoint, errcode, together};

/// The shipped configuration, its two secrets written into it, and a second credential.
fn literal() -> Value {
    let mut plugin = Bootstrap::example().unwrap().plugin_value();
    let (demo, rotated) = (Account::demo(), Account::rotated());
    plugin["endpoints"][0]["credentials"] = json!([
        { "token": demo.token(), "encoding_aes_key": demo.encoding_aes_key() },
        { "token": rotated.token(), "encoding_aes_key": rotated.encoding_aes_key() },
    ]);
    plugin
}

/// Insists that a log names that field and holds none of the secrets, whole or mistyped.
#[track_caller]
fn assert_names(log: &str, field: &str) {
    assert!(log.contains(&format!("configuration refused: {field}: ")), "{field} is not named:\n{log}");
    let (demo, rotated) = (Account::demo(), Account::rotated());
    for secret in [demo.token(), rotated.token(), &demo.encoding_aes_key()[..40], &rotated.encoding_aes_key()[..40]] {
        assert!(!log.contains(secret), "{field}: a secret is in the log:\n{log}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_the_name_of_its_field_and_without_any_secret() {
    let token = Account::demo().token().to_owned();
    let key = Account::rotated().encoding_aes_key().to_owned();
    let endpoints = |change: fn(&mut Value)| move |plugin: &mut Value| change(&mut plugin["endpoints"][0]);
    type Change = Box<dyn FnOnce(&mut Value) + Send>;
    let wrong: Vec<(&str, Change)> = vec![
        ("endpoints[0].credentials[1].encoding_aes_key", {
            let key = key[..42].to_owned();
            Box::new(move |plugin| plugin["endpoints"][0]["credentials"][1]["encoding_aes_key"] = key.into())
        }),
        ("endpoints[0].credentials[0].token", {
            Box::new(move |plugin| plugin["endpoints"][0]["credentials"][0]["token"] = format!("{token}!").into())
        }),
        // A secret in the wrong place is a secret still.
        ("endpoints[0].credentials[0].token", {
            Box::new(move |plugin| plugin["endpoints"][0]["credentials"][0]["token"] = json!({ "env": key }))
        }),
        ("endpoints[0].credentials[1].surprise", {
            Box::new(|plugin| plugin["endpoints"][0]["credentials"][1]["surprise"] = 1.into())
        }),
        (
            "endpoints[0].decision.cluster",
            Box::new(endpoints(|first| drop(first["decision"].as_object_mut().unwrap().remove("cluster")))),
        ),
        (
            "endpoints[0].decision.timeout_ms",
            Box::new(endpoints(|first| first["decision"]["timeout_ms"] = 2801.into())),
        ),
        ("endpoints[0].receive_ids", Box::new(endpoints(|first| first["receive_ids"] = json!([])))),
        ("endpoints[0].name", Box::new(endpoints(|first| first["name"] = "Lock.A".into()))),
        (
            "endpoints[1].path",
            Box::new(|plugin| {
                let again = plugin["endpoints"][0].clone();
                plugin["endpoints"].as_array_mut().unwrap().push(again);
            }),
        ),
        ("endpoints", Box::new(|plugin| plugin["endpoints"] = json!([]))),
        ("dedup.capacity", Box::new(|plugin| plugin["dedup"]["capacity"] = 0.into())),
        ("dedup.ttl_seconds", Box::new(|plugin| plugin["dedup"]["ttl_seconds"] = 1200.into())),
        ("freshness_seconds", Box::new(|plugin| plugin["freshness_seconds"] = 0.5.into())),
        ("reply_timestamp", Box::new(|plugin| plugin["reply_timestamp"] = "text".into())),
        ("max_body_byte", Box::new(|plugin| plugin["max_body_byte"] = 65536.into())),
        ("configuration", Box::new(|plugin| *plugin = json!({}))),
    ];
    let validated = wrong.into_iter().enumerate().map(|(row, (field, change))| {
        let mut plugin = literal();
        change(&mut plugin);
        let field = if plugin == json!({}) { "endpoints" } else { field };
        // Both forms are read by the same rules.
        let bootstrap = Bootstrap::example().unwrap().component_log_level("wasm:trace");
        let bootstrap = match row % 2 {
            0 => bootstrap.plugin_struct(plugin),
            _ => bootstrap.plugin(&plugin.to_string()),
        };
        (field, bootstrap)
    });
    let text = |json: &str| Bootstrap::example().unwrap().plugin(json);
    let torn = [
        ("configuration", text("")),
        ("configuration", text("{")),
        ("configuration", text("[]")),
        ("configuration", text(r#"{"endpoints":[],"endpoints":[]}"#)),
    ];
    // By `envoy --mode validate`, which is quicker and must not say otherwise than a start.
    type Check = Pin<Box<dyn Future<Output = ()> + Send>>;
    let checks: Vec<Check> = validated
        .chain(torn)
        .map(|(field, bootstrap)| -> Check {
            Box::pin(async move {
                let (status, log) = Envoy::validate(bootstrap).await.unwrap();
                assert_eq!(status.code(), Some(1), "{field}:\n{log}");
                assert_names(&log, field);
            })
        })
        .collect();
    // Not all at once: each of them is an Envoy.
    let mut checks = checks.into_iter();
    loop {
        let some: Vec<_> = checks.by_ref().take(4).collect();
        if some.is_empty() {
            break;
        }
        together(some).await;
    }
}

#[tokio::test]
async fn envoy_does_not_start_with_what_is_wrong() {
    let missing = Bootstrap::example().unwrap().without_env("WECOM_ENCODING_AES_KEY");
    let log = Envoy::start_expecting_failure(missing).await.unwrap();
    assert_names(&log, "endpoints[0].credentials[0].encoding_aes_key");
    assert!(log.contains("environment variable"), "{log}");

    // In the environment, but not passed on to the VM.
    let withheld = Bootstrap::example().unwrap().edit_plugin(|plugin| {
        plugin["vm_config"]["environment_variables"]["host_env_keys"] = json!(["WECOM_ENCODING_AES_KEY"]);
    });
    let log = Envoy::start_expecting_failure(withheld).await.unwrap();
    assert_names(&log, "endpoints[0].credentials[0].token");
}

#[tokio::test]
async fn what_is_right_is_validated_and_shows_no_secret_of_the_environment() {
    let (status, log) = Envoy::validate(Bootstrap::example().unwrap()).await.unwrap();
    assert!(status.success(), "{log}");

    let edge = Edge::start_with(|bootstrap| bootstrap.component_log_level("wasm:trace")).await;
    assert_eq!(edge.bind("sn").await, 0);
    edge.send(&edge.account.seal(Event::bind("sn")).forged()).await;
    let dump = edge.envoy.admin("/config_dump").await.unwrap().text();
    assert!(dump.contains("WECOM_TOKEN"), "the variables' names may show");
    for text in [dump, edge.envoy.log(), edge.envoy.prometheus().await.unwrap()] {
        assert!(!text.contains(edge.account.token()));
        assert!(!text.contains(edge.account.encoding_aes_key()));
    }
    edge.end().await;
}

#[tokio::test]
async fn each_endpoint_has_its_own_credentials_receive_ids_and_upstreams_in_either_form() {
    let nobody = free_port().await.unwrap();
    for as_text in [false, true] {
        let door = format!("{PATH}/door");
        let edge = Edge::start_with(|bootstrap| {
            let mut plugin = bootstrap.plugin_value();
            let rotated = Account::rotated();
            let door = endpoint(&plugin["endpoints"][0], &door, |endpoint| {
                endpoint["receive_ids"] = json!(["2000000000000009"]);
                endpoint["credentials"] =
                    json!([{ "token": rotated.token(), "encoding_aes_key": rotated.encoding_aes_key() }]);
                endpoint["decision"] = json!({ "cluster": "backend", "path": "/door" });
                endpoint["events"] = json!({ "cluster": "nobody" });
            });
            plugin["endpoints"].as_array_mut().unwrap().push(door);
            let bootstrap = bootstrap.add_cluster("nobody", nobody);
            if as_text { bootstrap.plugin(&plugin.to_string()) } else { bootstrap.plugin_struct(plugin) }
        })
        .await;
        let lock_account = edge.account.clone();
        let door_account = Account::rotated().with_receive_id("2000000000000009");

        assert_eq!(errcode(&edge.send(&lock_account.seal(Event::bind("sn-lock"))).await, &lock_account), 0);
        assert_eq!(edge.decision.requests_for("sn-lock")[0].target, "/bind");
        let answer = edge.send_to(&door, &door_account.seal(Event::bind("sn-door"))).await;
        assert_eq!(errcode(&answer, &door_account), 0);
        assert_eq!(edge.backend.requests_for("sn-door")[0].target, "/door");
        let answer = edge.send_to(&door, &door_account.seal(Event::unbind("sn-door"))).await;
        assert_eq!((answer.status, answer.rejection().as_deref()), (503, Some("upstream_unreachable")));

        // What opens one door opens no other.
        assert_rejected(&edge.send_to(&door, &lock_account.seal(Event::bind("sn"))).await, 403, "bad_signature");
        assert_rejected(&edge.send(&door_account.seal(Event::bind("sn"))).await, 403, "bad_signature");
        let astray = Account::rotated().seal(Event::bind("sn"));
        assert_rejected(&edge.send_to(&door, &astray).await, 403, "bad_receive_id");
        // The same request id at another URL is another request.
        let twin = Event::bind("sn-twin").req_id("twin").without_base("model_id").without_base("service_corpid");
        edge.decision.always(testbed::backend::Behaviour::verdict(2));
        assert_eq!(errcode(&edge.send(&lock_account.seal(&twin)).await, &lock_account), 2);
        assert_eq!(errcode(&edge.send_to(&door, &door_account.seal(&twin)).await, &door_account), 0);
        edge.end().await;
    }
}
