//! The filter against WeCom's own implementation of the protocol, npm's `@wecom/crypto`: the filter
//! opens what the library seals, and the library opens what the filter seals.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use testbed::backend::Behaviour;
use testbed::envoy::repository;
use testbed::wecom::Event;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::{Edge, PATH};

/// Where Node looks for the library: `NODE_PATH`, or else where `make setup` puts it.
fn node_path() -> PathBuf {
    let path = std::env::var_os("NODE_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    path.unwrap_or_else(|| repository().join("target/tools/node_modules"))
}

/// Why the library cannot be run here, or `None` if it can.
async fn missing() -> Option<String> {
    let probe = Command::new("node").env("NODE_PATH", node_path()).args(["-e", "require('@wecom/crypto')"]).output();
    match probe.await {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("@wecom/crypto: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Some(format!("node: {error}")),
    }
}

async fn run_client(input: &Value) -> Output {
    let mut node = Command::new("node")
        .arg(repository().join("tests/conformance/client.cjs"))
        .env("NODE_PATH", node_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = node.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    node.wait_with_output().await.unwrap()
}

#[tokio::test]
async fn the_filter_and_the_reference_implementation_open_what_the_other_seals() {
    if let Some(reason) = missing().await {
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!is_ci, "`make setup` installs what is missing: {reason}");
        eprintln!("SKIPPED: `make setup` installs what is missing: {reason}");
        return;
    }
    let edge = Edge::start().await;
    edge.decision.on_device("sn-accept", Behaviour::verdict(0));
    edge.decision.on_device("sn-refuse", Behaviour::verdict_with(4, "设备验证码校验不通过 \u{1f512}"));
    edge.decision.on_device("sn-silent", Behaviour::close());
    // Messages of different lengths, so that every length of the padding occurs.
    let mut events: Vec<_> = (0..32).map(|length| Event::bind("sn").set("note", "x".repeat(length))).collect();
    events.extend(["sn-accept", "sn-refuse", "sn-silent"].map(Event::bind));
    let messages: Vec<_> =
        events.iter().map(|event| String::from_utf8(event.to_json(edge.account.receive_id())).unwrap()).collect();
    let output = run_client(&json!({
        "url": edge.envoy.url(PATH),
        "token": edge.account.token(),
        "encodingAesKey": edge.account.encoding_aes_key(),
        "receiveId": edge.account.receive_id(),
        "messages": messages,
        "echo": "7139691598513686239",
    }))
    .await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let replies = result["replies"].as_array().unwrap();
    assert_eq!(replies.len(), messages.len());
    let mut verdicts = Vec::new();
    for reply in replies {
        assert_eq!((&reply["status"], &reply["signatureHolds"]), (&json!(200), &json!(true)), "{reply}");
        assert_eq!(reply["receiveId"], edge.account.receive_id());
        verdicts.push(serde_json::from_str::<Value>(reply["message"].as_str().unwrap()).unwrap());
    }
    let (padded, named) = verdicts.split_at(32);
    assert!(padded.iter().all(|verdict| *verdict == json!({ "errcode": 0, "errmsg": "ok" })), "{padded:?}");
    assert_eq!(named[0]["errcode"], 0);
    assert_eq!(named[1], json!({ "errcode": 4, "errmsg": "设备验证码校验不通过 \u{1f512}" }));
    assert_eq!(named[2]["errcode"], 7);
    assert_eq!(result["echo"], json!({ "status": 200, "body": "7139691598513686239" }));

    let told: Vec<_> = edge.decision.requests().into_iter().map(|told| told.body).collect();
    assert_eq!(told, messages.iter().map(|message| message.as_bytes().to_vec()).collect::<Vec<_>>());
    edge.end().await;
}
