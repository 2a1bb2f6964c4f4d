//! The decision endpoint decides about a bind: which answer counts as which verdict, what the endpoint
//! receives, and how the verdict is returned.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::backend::Behaviour;
use testbed::wecom::{Account, Event, random_id, unix_now};

use crate::support::{Edge, PATH, WECOM_WAITS, endpoint, errcode, together};

/// An endpoint that requires an explicit verdict.
const STRICT: &str = "/suite/receive/strict";

#[tokio::test]
async fn every_answer_of_the_decision_endpoint_counts_as_the_right_verdict() {
    let verdict = br#"{"errcode":0}"#;
    let table = [
        (PATH, Behaviour::verdict(0), 0),
        (PATH, Behaviour::verdict(4), 4),
        (PATH, Behaviour::verdict(1999), 1999),
        (PATH, Behaviour::answer(201, &[], br#" {"more":[1],"errmsg":null,"errcode":2} "#), 2),
        // Legal, though WeCom documents no such code.
        (PATH, Behaviour::verdict(424_242), 424_242),
        (PATH, Behaviour::verdict(u32::MAX), u32::MAX),
        // What WeCom itself reads as approval, if HTTP marks its end.
        (PATH, Behaviour::empty(), 0),
        (PATH, Behaviour::no_content(), 0),
        (PATH, Behaviour::empty_chunked(), 0),
        (PATH, Behaviour::success(), 0),
        (PATH, Behaviour::empty_until_close(), 7),
        (PATH, Behaviour::until_close("success"), 7),
        (PATH, Behaviour::json("success "), 7),
        (PATH, Behaviour::json(r#""success""#), 7),
        (STRICT, Behaviour::empty(), 7),
        (STRICT, Behaviour::no_content(), 7),
        (STRICT, Behaviour::empty_chunked(), 7),
        (STRICT, Behaviour::success(), 7),
        (STRICT, Behaviour::empty_until_close(), 7),
        (STRICT, Behaviour::verdict(0), 0),
        (STRICT, Behaviour::verdict(3), 3),
        // A verdict in any framing, as long as it is complete.
        (PATH, Behaviour::chunked(verdict), 0),
        (PATH, Behaviour::with_trailers(verdict), 0),
        (PATH, Behaviour::until_close(verdict), 0),
        (PATH, Behaviour::trickle(Duration::from_millis(1)), 0),
        (PATH, Behaviour::verdict(2).after(Duration::from_millis(200)), 2),
    ];
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| {
            let strict = endpoint(&plugin["endpoints"][0], STRICT, |endpoint| {
                endpoint["decision"]["empty_is_success"] = false.into();
            });
            plugin["endpoints"].as_array_mut().unwrap().push(strict);
        })
    })
    .await;
    let edge = Arc::new(edge);

    together(table.into_iter().enumerate().map(|(row, (path, behaviour, expected))| {
        let edge = Arc::clone(&edge);
        async move {
            let device_sn = format!("sn-{row}");
            edge.decision.on_device(&device_sn, behaviour.clone());
            assert_eq!(edge.bind_at(path, &device_sn).await, expected, "{path}: {behaviour}");
            assert_eq!(edge.decision.requests_for(&device_sn).len(), 1, "{path}: {behaviour}");
        }
    }))
    .await;

    assert!(edge.backend.requests().is_empty(), "binds go to the decision endpoint alone");
    Arc::into_inner(edge).unwrap().end().await;
}

#[tokio::test]
async fn the_endpoint_receives_the_message_byte_for_byte_and_its_text_is_returned() {
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| {
            plugin["endpoints"][0]["decision"]["authority"] = "decision.internal".into();
            plugin["endpoints"][0]["decision"]["path"] = "/bind?from=edge".into();
        })
    })
    .await;

    // Unusual order, blanks, escapes, a number beyond 2^53: none of it may be rewritten.
    let req_id = random_id();
    let message = format!(
        "{{ \"event\":{{\"auth_code\":\"\\u4e00\\/x\",\"event_type\" : \"bind\",\"n\":9007199254740993}},\n\
         \"base_info\":{{\"model_id\":\"2000000000000001\",\"createtime\":{},\"device_sn\":\"sn\",\"req_id\":\"{req_id}\"}}, \
         \"msg_type\":\"event\" }}\n",
        unix_now()
    );
    edge.decision.always(Behaviour::verdict_with(4, "Ask the janitor 问管理员"));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let b3 = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
    let request = (edge.account.seal(message.as_str()))
        .with_header("traceparent", traceparent.as_bytes())
        .with_header("tracestate", b"vendor=1,other=2")
        .with_header("b3", b3.as_bytes())
        // No other header of the caller may reach the endpoint or influence the call.
        .with_header("x-envoy-retry-on", b"5xx,connect-failure,reset")
        .with_header("x-envoy-max-retries", b"3")
        .with_header("x-envoy-upstream-rq-timeout-ms", b"1")
        .with_header("x-envoy-upstream-rq-per-try-timeout-ms", b"1")
        .with_header("x-wecom-event", b"unbind")
        .with_header("idempotency-key", b"forged")
        .with_header("authorization", b"Bearer caller")
        .with_header("cookie", b"session=1")
        .with_header("x-anything", b"else");
    let answer = edge.send(&request).await;

    let reply = answer.decrypt(&edge.account).unwrap();
    assert_eq!(reply.json().unwrap(), json!({ "errcode": 4, "errmsg": "Ask the janitor 问管理员" }));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let told = edge.decision.requests().remove(0);
    assert_eq!(String::from_utf8_lossy(&told.body), message);
    assert_eq!((told.method.as_str(), told.target.as_str()), ("POST", "/bind?from=edge"));
    let line = edge.envoy.access_log_line(|line| line["req_id"] == req_id.as_str()).await.unwrap();
    let request_id = line["request_id"].as_str().unwrap();
    let promised = [
        ("host", "decision.internal"),
        ("content-type", "application/json"),
        ("content-length", &message.len().to_string()),
        ("x-wecom-event", "bind"),
        ("x-wecom-req-id", &req_id),
        ("x-wecom-receive-id", "2000000000000001"),
        ("idempotency-key", &req_id),
        ("x-request-id", request_id),
        ("traceparent", traceparent),
        ("tracestate", "vendor=1,other=2"),
        ("b3", b3),
    ];
    for (name, value) in promised {
        let values: Vec<_> = told.headers.iter().filter(|(known, _)| known == name).collect();
        assert_eq!(values, [&(name.to_owned(), value.as_bytes().to_vec())], "{name}");
    }
    // Headers that Envoy adds to every call.
    let own = ["x-envoy-internal", "x-forwarded-for", "x-envoy-expected-rq-timeout-ms"];
    let names: BTreeSet<_> = told.headers.iter().map(|(name, _)| name.as_str()).collect();
    let known: BTreeSet<_> = promised.iter().map(|(name, _)| *name).chain(own).collect();
    assert!(names.is_subset(&known), "not promised: {:?}", names.difference(&known));

    edge.end().await;
}

#[tokio::test]
async fn configured_headers_reach_their_own_upstream_and_show_nowhere_else() {
    let (of_decision, of_events) = ("Bearer secret-of-the-decision", "secret-of-the-events");
    let edge = Edge::start_with(|bootstrap| {
        let bootstrap = bootstrap.env("WECOM_DECISION_AUTH", of_decision).env("WECOM_EVENTS_KEY", of_events);
        let bootstrap = bootstrap.edit_plugin(|config| {
            let names = config["vm_config"]["environment_variables"]["host_env_keys"].as_array_mut().unwrap();
            names.extend([json!("WECOM_DECISION_AUTH"), json!("WECOM_EVENTS_KEY")]);
        });
        let bootstrap = bootstrap.edit_plugin_value(|plugin| {
            let endpoint = &mut plugin["endpoints"][0];
            endpoint["decision"]["headers"] =
                json!({ "authorization": { "env": "WECOM_DECISION_AUTH" }, "x-from": "the edge" });
            endpoint["events"]["headers"] = json!({ "x-api-key": { "env": "WECOM_EVENTS_KEY" } });
        });
        bootstrap.log_level("trace").component_log_level("wasm:trace,http:info,router:info,pool:info")
    })
    .await;
    // The caller's own do not get there in their place.
    let bind = edge.account.seal(Event::bind("sn")).with_header("authorization", b"Bearer caller");
    assert_eq!(errcode(&edge.send(&bind).await, &edge.account), 0);
    edge.backend.always(Behaviour::success());
    assert!(edge.send(&edge.account.seal(Event::unbind("sn"))).await.is_bare_success());

    let told = edge.decision.requests().remove(0);
    let values: Vec<_> =
        told.headers.iter().filter(|(name, _)| name == "authorization").map(|(_, value)| value).collect();
    assert_eq!(values, [of_decision.as_bytes()]);
    assert_eq!((told.header_text("x-from"), told.header("x-api-key")), (Some("the edge"), None));
    let told = edge.backend.requests().remove(0);
    assert_eq!((told.header_text("x-api-key"), told.header("authorization")), (Some(of_events), None));
    for (place, text) in [
        ("the log", edge.envoy.log()),
        ("/config_dump", edge.envoy.admin("/config_dump").await.unwrap().text()),
        ("the access log", json!(edge.envoy.access_log()).to_string()),
    ] {
        assert!(!text.contains("secret-of-the"), "{place} shows a configured header");
    }
    edge.end().await;
}

#[tokio::test]
async fn a_value_that_is_no_valid_header_is_left_out_of_the_headers_but_not_of_the_body() {
    let edge = Edge::start().await;
    let long = "x".repeat(129);
    for req_id in ["请求-1", "a\r\nx-evil: 1", "a\0b", "a\u{7f}", " blank", long.as_str()] {
        let event = Event::bind("sn").req_id(req_id);
        edge.decision.forget();
        let request = edge.account.seal(&event).with_header("traceparent", b"caf\xe9").with_header("b3", b"\xff\xfe");
        assert_eq!(errcode(&edge.send(&request).await, &edge.account), 0);

        let told = edge.decision.requests().remove(0);
        assert_eq!(told.body, event.to_json(edge.account.receive_id()));
        for name in ["x-wecom-req-id", "idempotency-key", "traceparent", "b3", "x-evil"] {
            assert_eq!(told.header(name), None, "{name} for {req_id:?}");
        }
        assert_eq!(told.header_text("x-wecom-event"), Some("bind"));
    }
    // The longest and the shortest valid ones.
    for length in [1, 128] {
        let req_id = "y".repeat(length);
        edge.decision.forget();
        let request = edge.account.seal(Event::bind("sn").req_id(&req_id));
        assert_eq!(errcode(&edge.send(&request).await, &edge.account), 0);
        assert_eq!(edge.decision.requests().remove(0).header_text("idempotency-key"), Some(req_id.as_str()));
    }
    edge.end().await;
}

#[tokio::test]
async fn a_reply_is_sealed_with_the_credential_and_the_receive_id_that_opened_the_request() {
    let (old, new) = (Account::demo(), Account::rotated());
    // As after a rotation of only the key: one token, two keys.
    let same_token = Account::new(old.token(), new.encoding_aes_key(), old.receive_id()).unwrap();
    let other_id = old.clone().with_receive_id("2000000000000002");
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| {
            let endpoint = &mut plugin["endpoints"][0];
            endpoint["receive_ids"] = json!(["2000000000000001", "2000000000000002"]);
            let credentials = endpoint["credentials"].as_array_mut().unwrap();
            for account in [&same_token, &new] {
                credentials
                    .insert(0, json!({ "token": account.token(), "encoding_aes_key": account.encoding_aes_key() }));
            }
        })
    })
    .await;

    let accounts = [&old, &new, &same_token, &other_id];
    let mut nonces = BTreeSet::new();
    for (index, account) in accounts.iter().enumerate() {
        let began = unix_now();
        let request = account.seal_at(Event::bind("sn"), began - 30, "1372623149");
        let answer = edge.send(&request).await;
        assert_eq!(errcode(&answer, account), 0, "{account:?} {index}");
        for (other, stranger) in accounts.iter().enumerate().filter(|(other, _)| *other != index) {
            assert!(answer.decrypt(stranger).is_err(), "account {other} can open the reply to account {index}");
        }
        let reply = answer.decrypt(account).unwrap();
        assert!((began..=unix_now()).contains(&reply.timestamp), "the reply has its own time");
        assert!(nonces.insert(reply.nonce.clone()) && reply.nonce != "1372623149", "the reply has its own nonce");
    }
    // A copy is sealed anew as well.
    let (event, mut sealed) = (Event::bind("sn-again"), BTreeSet::new());
    for _ in 0..3 {
        let answer = edge.send(&old.seal(&event)).await;
        assert_eq!(errcode(&answer, &old), 0);
        assert!(nonces.insert(answer.decrypt(&old).unwrap().nonce));
        assert!(sealed.insert(answer.json().unwrap()["encrypt"].to_string()));
    }
    edge.end().await;
}

#[tokio::test]
async fn a_reply_has_four_members_and_its_timestamp_is_a_string_or_if_configured_a_number() {
    for (form, is_right) in
        [("string", Value::is_string as fn(&Value) -> bool), ("number", Value::is_u64 as fn(&Value) -> bool)]
    {
        let edge = Edge::start_with(|bootstrap| {
            bootstrap.edit_plugin_value(|plugin| {
                if form != "string" {
                    plugin["reply_timestamp"] = form.into();
                }
            })
        })
        .await;
        let answer = edge.send(&edge.account.seal(Event::bind("sn"))).await;
        assert_eq!(errcode(&answer, &edge.account), 0);
        let envelope = answer.json().unwrap();
        assert!(is_right(&envelope["timestamp"]), "{form}: {envelope}");
        // As documented: compact, in this order.
        let order = ["{\"encrypt\":\"", "\",\"msgsignature\":\"", "\",\"timestamp\":", ",\"nonce\":\""];
        let text = answer.text();
        let places: Vec<_> = order.iter().map(|part| text.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
        assert!(answer.elapsed < WECOM_WAITS);
        edge.end().await;
    }
}

#[tokio::test]
async fn a_bind_whose_createtime_is_a_string_of_digits_is_decided() {
    let edge = Edge::start().await;
    edge.decision.always(Behaviour::verdict(4));
    let event = Event::bind("sn-text").base("createtime", unix_now().to_string());
    assert_eq!(errcode(&edge.send(&edge.account.seal(event)).await, &edge.account), 4);
    edge.end().await;
}
