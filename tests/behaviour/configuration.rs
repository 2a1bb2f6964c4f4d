//! Envoy neither starts with an invalid configuration nor validates it; its log names the field and
//! shows no secret. A valid configuration works in both forms, `Struct` and text.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Value, json};
use testbed::backend::free_port;
use testbed::envoy::{Bootstrap, Envoy};
use testbed::wecom::{Account, Event};

use crate::support::{Edge, PATH, assert_rejected, endpoint, errcode, together};

/// The shipped configuration with the two secrets written into it, and a second credential.
fn literal() -> Value {
    let mut plugin = Bootstrap::example().unwrap().plugin_value();
    let (demo, rotated) = (Account::demo(), Account::rotated());
    plugin["endpoints"][0]["credentials"] = json!([
        { "token": demo.token(), "encoding_aes_key": demo.encoding_aes_key() },
        { "token": rotated.token(), "encoding_aes_key": rotated.encoding_aes_key() },
    ]);
    plugin
}

/// Asserts that a log names that field and contains none of the secrets, not even a mistyped one.
#[track_caller]
fn assert_names(log: &str, field: &str) {
    assert!(log.contains(&format!("configuration refused: {field}: ")), "{field} is not named:\n{log}");
    let (demo, rotated) = (Account::demo(), Account::rotated());
    for secret in [demo.token(), rotated.token(), &demo.encoding_aes_key()[..40], &rotated.encoding_aes_key()[..40]] {
        assert!(!log.contains(secret), "{field}: a secret is in the log:\n{log}");
    }
}

#[tokio::test]
async fn an_invalid_configuration_is_refused_and_the_log_names_the_field_and_no_secret() {
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
        // A secret in the wrong place is still a secret.
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
        ("endpoints[0].path", Box::new(endpoints(|first| first["path"] = "//".into()))),
        ("endpoints[0].path", Box::new(endpoints(|first| first["path"] = "/suite/./receive".into()))),
        ("endpoints[0].path", Box::new(endpoints(|first| first["path"] = "/suite/%62".into()))),
        ("endpoints[0].path", Box::new(endpoints(|first| first["path"] = "/suite\\receive".into()))),
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
        // The same rules apply to both forms.
        let bootstrap = Bootstrap::example().unwrap().component_log_level("wasm:trace");
        let bootstrap = match row % 2 {
            0 => bootstrap.plugin_struct(plugin),
            _ => bootstrap.plugin(&plugin.to_string()),
        };
        (field, bootstrap)
    });
    let text = |json: &str| Bootstrap::example().unwrap().plugin(json);
    let malformed = [
        ("configuration", text("")),
        ("configuration", text("{")),
        ("configuration", text("[]")),
        ("configuration", text(r#"{"endpoints":[],"endpoints":[]}"#)),
    ];
    // With `envoy --mode validate`, which is quicker than a start and must give the same result.
    type Check = Pin<Box<dyn Future<Output = ()> + Send>>;
    let checks: Vec<Check> = validated
        .chain(malformed)
        .map(|(field, bootstrap)| -> Check {
            Box::pin(async move {
                let (status, log) = Envoy::validate(bootstrap).await.unwrap();
                assert_eq!(status.code(), Some(1), "{field}:\n{log}");
                assert_names(&log, field);
            })
        })
        .collect();
    // A few at a time: each of them starts an Envoy.
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
async fn envoy_does_not_start_when_a_secret_is_missing() {
    let missing = Bootstrap::example().unwrap().without_env("WECOM_ENCODING_AES_KEY");
    let log = Envoy::start_expecting_failure(missing).await.unwrap();
    assert_names(&log, "endpoints[0].credentials[0].encoding_aes_key");
    assert!(log.contains("environment variable"), "{log}");

    // Set in the environment, but not passed on to the VM.
    let withheld = Bootstrap::example().unwrap().edit_plugin(|plugin| {
        plugin["vm_config"]["environment_variables"]["host_env_keys"] = json!(["WECOM_ENCODING_AES_KEY"]);
    });
    let log = Envoy::start_expecting_failure(withheld).await.unwrap();
    assert_names(&log, "endpoints[0].credentials[0].token");
}

#[tokio::test]
async fn a_valid_configuration_is_accepted_and_no_secret_from_the_environment_shows() {
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

        // The credentials of one endpoint are not valid at the other.
        assert_rejected(&edge.send_to(&door, &lock_account.seal(Event::bind("sn"))).await, 403, "bad_signature");
        assert_rejected(&edge.send(&door_account.seal(Event::bind("sn"))).await, 403, "bad_signature");
        let astray = Account::rotated().seal(Event::bind("sn"));
        assert_rejected(&edge.send_to(&door, &astray).await, 403, "bad_receive_id");
        // The same request id at another endpoint is another request.
        let twin = Event::bind("sn-twin").req_id("twin").without_base("model_id").without_base("service_corpid");
        edge.decision.always(testbed::backend::Behaviour::verdict(2));
        assert_eq!(errcode(&edge.send(&lock_account.seal(&twin)).await, &lock_account), 2);
        assert_eq!(errcode(&edge.send_to(&door, &door_account.seal(&twin)).await, &door_account), 0);
        edge.end().await;
    }
}
