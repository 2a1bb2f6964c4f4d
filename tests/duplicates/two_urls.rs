//! One message posted to two URLs that both accept it is one callback.

use serde_json::Value;
use testbed::backend::Behaviour;
use testbed::wecom::Event;

use super::*;

#[tokio::test]
async fn one_message_posted_to_two_urls_is_delivered_once() {
    let edge = Edge::start(|bootstrap| {
        bootstrap.edit_plugin_value(|value| {
            let mut second: Value = value["endpoints"][0].clone();
            second["path"] = "/suite/receive/second".into();
            second["name"] = "second".into();
            value["endpoints"].as_array_mut().unwrap().push(second);
        })
    })
    .await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::verdict(4));
    for event in [Event::bind("sn-twice"), Event::unbind("sn-twice")] {
        edge.backend.forget();
        let request = edge.account.seal(&event);
        let first = edge.send(&clients[0], &request).await;
        for client in &clients {
            let url = edge.envoy.url("/suite/receive/second");
            let copy = client.send(&url, &edge.account.seal(&event)).await.unwrap();
            let read = |answer: &Answer| answer.decrypt(&edge.account).unwrap().plaintext;
            assert_eq!(read(&copy), read(&first));
        }
        assert_eq!(edge.backend.count(), 1);
    }
    edge.assert_clean().await;
}
