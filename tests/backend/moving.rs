//! One URL taken by the filter, another one still by the handler that decrypts by itself.

use serde_json::json;
use testbed::edge::{Edge, PATH};
use testbed::wecom::Event;

#[tokio::test]
async fn a_url_whose_route_is_not_there_goes_to_the_old_handler_as_wecom_sent_it() {
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| {
            let mut gate = plugin["endpoints"][0].clone();
            gate["path"] = "/gate/receive".into();
            gate["name"] = "gate".into();
            plugin["endpoints"].as_array_mut().unwrap().push(gate);
        })
    })
    .await
    .unwrap();
    for (path, is_moved) in [(PATH, true), ("/gate/receive", false)] {
        edge.backend.forget();
        edge.decision.forget();
        let bind = Event::bind("sn");
        let request = edge.account.seal(&bind);
        let answer = edge.client.send(&edge.envoy.url(path), &request).await.unwrap();
        assert_eq!(answer.status, 200);
        if is_moved {
            assert_eq!(edge.decision.requests()[0].body, bind.to_json(edge.account.receive_id()));
            assert_eq!(edge.backend.count(), 0);
        } else {
            let told = edge.backend.requests();
            assert_eq!(told[0].target, format!("{path}?{}", request.query_text()));
            assert_eq!(told[0].body, request.body_bytes());
            assert_eq!(told[0].json().unwrap()["tousername"], json!(edge.account.receive_id()));
            assert_eq!(edge.decision.count(), 0);
        }
    }
    edge.end().await.unwrap();
}
