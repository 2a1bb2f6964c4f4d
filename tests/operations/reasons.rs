//! The log says why: whom the filter called, what came back and after how long, which request it was. It
//! never shows what came.

use std::time::Duration;

use serde_json::json;
use testbed::backend::{Behaviour, free_port};
use testbed::edge::{Edge, PATH};
use testbed::wecom::{Account, Event};

/// The log's line about a callback, from its outcome on.
async fn line(edge: &Edge, id: &str) -> String {
    edge.envoy.wait_for_log(id).await.unwrap();
    let log = edge.envoy.log();
    let line = log.lines().find(|line| line.contains(id)).unwrap();
    line.split_once("wasm log wecom").and_then(|(_, line)| line.split_once(": ")).unwrap().1.to_owned()
}

#[tokio::test]
async fn a_failed_call_is_told_by_cluster_status_time_and_what_came_in_place_of_a_verdict() {
    let edge = Edge::start().await.unwrap();
    let json = |body: &str| Behaviour::json(body);
    for (behaviour, outcome, said) in [
        (json(r#"{"errcode":"0","s":"nobody-may-read"}"#), "upstream_reply", "status 200: errcode is a string"),
        (json(r#"{"code":0,"s":"nobody-may-read"}"#), "upstream_reply", "status 200: no errcode in the object"),
        (json(r#"{"errcode":-1}"#), "upstream_reply", "status 200: errcode is a negative number"),
        (json("nobody-may-read"), "upstream_reply", "status 200: no JSON (application/json)"),
        (Behaviour::html(), "upstream_reply", "status 200: no JSON (text/html)"),
        (Behaviour::status(500), "upstream_status", "answered with status 500"),
        (Behaviour::close(), "upstream_unreachable", "closed the connection without an answer"),
        (Behaviour::cut_off(), "upstream_unreachable", "broke off its answer"),
        (Behaviour::headers_then_silence(), "upstream_timeout", "had begun to answer and not finished"),
        (Behaviour::hang(), "upstream_timeout", "had not answered"),
    ] {
        edge.decision.always(behaviour.clone());
        let event = Event::bind("sn");
        edge.send(&edge.account.seal(&event)).await.unwrap();
        let line = line(&edge, event.req_id_text().unwrap()).await;
        assert!(line.starts_with(&format!("{outcome} endpoint=lock event=bind ")), "{behaviour}: {line}");
        let told = line.split_once(" cluster 'decision' ").expect("names the cluster").1;
        assert!(told.contains(said), "{behaviour}: {told}");
        let (_, after) = told.rsplit_once(" after ").expect("says how long it took");
        let ms: u64 = after.strip_suffix(" ms").unwrap().parse().unwrap();
        assert!(outcome != "upstream_timeout" || ms >= 850, "{line}");
        assert!(!line.contains("nobody-may-read"), "{line}");
    }
    edge.end().await.unwrap();
}

#[tokio::test]
async fn a_mistyped_cluster_a_refused_connection_and_a_cluster_without_hosts_are_told_apart() {
    let closed = free_port().await.unwrap();
    let edge = Edge::start_with(|bootstrap| {
        let bootstrap =
            bootstrap.cluster("backend", closed).add_cluster("empty", closed).edit_cluster("empty", |cluster| {
                cluster["load_assignment"]["endpoints"] = json!([]);
            });
        bootstrap.edit_plugin_value(|plugin| {
            let first = plugin["endpoints"][0].clone();
            for (path, cluster) in [("/mistyped", "decison"), ("/refused", "backend"), ("/empty", "empty")] {
                let mut endpoint = first.clone();
                endpoint["path"] = format!("{PATH}{path}").into();
                endpoint["name"] = path.trim_start_matches('/').into();
                endpoint["decision"]["cluster"] = cluster.into();
                plugin["endpoints"].as_array_mut().unwrap().push(endpoint);
            }
        })
    })
    .await
    .unwrap();
    for (path, said) in [
        ("/mistyped", "cluster 'decison' is not known to Envoy"),
        ("/refused", "cluster 'backend' took no connection (refused, or not reachable) after "),
        ("/empty", "cluster 'empty' took no call: no healthy host, or an open circuit breaker"),
    ] {
        let event = Event::bind("sn");
        let answer =
            edge.client.send(&edge.envoy.url(&format!("{PATH}{path}")), &edge.account.seal(&event)).await.unwrap();
        assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(7));
        let line = line(&edge, event.req_id_text().unwrap()).await;
        assert!(line.starts_with("upstream_unreachable ") && line.contains(said), "{line}");
    }
    edge.end().await.unwrap();
}

#[tokio::test]
async fn a_rejected_caller_is_told_the_request_id_of_its_line_and_a_wrong_key_is_named() {
    let edge = Edge::start().await.unwrap();
    let mut other_key = edge.account.seal(Event::bind("sn"));
    other_key.encrypt = Account::rotated().encrypt(b"{}");
    let body = json!({ "tousername": "x", "encrypt": other_key.encrypt }).to_string();
    let other_key = other_key.resign(&edge.account).with_body(body);
    for (request, outcome, said) in [
        (edge.account.seal(Event::bind("sn")).forged(), "bad_signature", "matches no credential"),
        (other_key, "bad_ciphertext", "most likely another EncodingAESKey"),
    ] {
        let answer = edge.send(&request).await.unwrap();
        let id = answer.json().unwrap()["request_id"].as_str().unwrap().to_owned();
        let line = line(&edge, &id).await;
        assert!(line.starts_with(outcome) && line.contains(&format!(" request_id={id} ")), "{line}");
        assert!(line.contains(said), "{line}");
    }
    tokio::time::timeout(Duration::from_secs(20), edge.end()).await.unwrap().unwrap();
}
