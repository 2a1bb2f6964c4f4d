//! Copies that arrive after the verdict on the first one was recorded.

use serde_json::json;
use testbed::backend::Behaviour;
use testbed::wecom::Event;

use super::*;

#[tokio::test]
async fn a_later_copy_gets_the_verdict_sealed_for_it() {
    let rotated = Account::rotated();
    let edge = Edge::start(|bootstrap| {
        bootstrap.edit_plugin_value(|value| {
            let credential = json!({ "token": rotated.token(), "encoding_aes_key": rotated.encoding_aes_key() });
            value["endpoints"][0]["credentials"].as_array_mut().unwrap().insert(0, credential);
        })
    })
    .await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::verdict_with(5, "设备已停用"));

    let bind = Event::bind("sn-after");
    let first = edge.send(&clients[0], &edge.account.seal(&bind)).await.decrypt(&edge.account).unwrap();
    edge.backend.always(Behaviour::verdict(0)); // must not be asked again
    let mut nonces = vec![first.nonce.clone()];
    for client in clients.iter().chain(&clients) {
        for account in [&edge.account, &rotated] {
            let answer = edge.send(client, &account.seal(&bind)).await;
            let other = if account.token() == rotated.token() { &edge.account } else { &rotated };
            assert!(answer.decrypt(other).is_err(), "sealed with the credential that opened this very copy");
            let reply = answer.decrypt(account).unwrap();
            assert_eq!(reply.plaintext, first.plaintext);
            assert_eq!((reply.errcode(), reply.errmsg().as_deref()), (Some(5), Some("设备已停用")));
            nonces.push(reply.nonce);
        }
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 9, "each answer has a nonce of its own");
    assert_eq!(edge.backend.count(), 1);
    edge.until_ended("bind", "duplicate", 8).await.unwrap();
    edge.assert_clean().await;
}

#[tokio::test]
async fn other_callbacks_are_delivered_once_and_answered_alike() {
    let edge = Edge::start(|bootstrap| bootstrap).await;
    let clients = edge.one_client_per_worker().await.unwrap();
    let large = format!(r#"{{"errcode":0,"note":"{}"}}"#, "n".repeat(200));
    edge.backend.on_device("sn-taken", Behaviour::success());
    edge.backend.on_device("sn-silent", Behaviour::no_content());
    edge.backend.on_device("sn-object", Behaviour::json(r#"{"errcode":0,"errmsg":"ok"}"#));
    edge.backend.on_device("sn-large", Behaviour::json(&large));

    for (device_sn, first, copies) in [
        ("sn-taken", None, None),
        ("sn-silent", None, None),
        ("sn-object", Some(r#"{"errcode":0,"errmsg":"ok"}"#), Some(r#"{"errcode":0,"errmsg":"ok"}"#)),
        // Too large for a record: the first copy gets all of it, the others get plain success.
        ("sn-large", Some(large.as_str()), None),
    ] {
        let event = Event::remote_open_door(device_sn);
        let mut expected = first;
        for client in clients.iter().chain(&clients) {
            let answer = edge.send(client, &edge.account.seal(&event)).await;
            match expected {
                Some(object) => assert_eq!(answer.decrypt(&edge.account).unwrap().text(), object, "{device_sn}"),
                None => assert!(answer.is_bare_success() && answer.text() == "success", "{device_sn}: {answer:?}"),
            }
            expected = copies;
        }
        assert_eq!(edge.backend.requests_for(device_sn).len(), 1, "{device_sn}");
    }
    edge.until_ended("remote_open_door", "delivered", 4).await.unwrap();
    edge.until_ended("remote_open_door", "duplicate", 12).await.unwrap();
    edge.assert_clean().await;
}
