//! When the table of records is full, a new callback is refused: no live record is evicted for it.

use serde_json::json;
use testbed::backend::Behaviour;
use testbed::wecom::Event;

use super::*;

#[tokio::test]
async fn a_full_record_refuses_binds_until_one_expires() {
    let _machine = MACHINE.read().await;
    let edge = Edge::start(|bootstrap| {
        bootstrap.edit_plugin_value(|value| {
            value["freshness_seconds"] = 2.into();
            value["dedup"] = json!({ "ttl_seconds": 5, "capacity": 2 });
        })
    })
    .await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::verdict(0));
    let fresh = |bind: &Event| edge.account.seal(bind.clone().createtime(testbed::wecom::unix_now()));

    let (held, refused) = ([Event::bind("sn-held"), Event::bind("sn-held")], Event::bind("sn-refused"));
    for (client, bind) in clients.iter().zip(&held) {
        assert_eq!(edge.errcode(&edge.send(client, &fresh(bind)).await), Some(0));
    }
    for client in &clients {
        assert_eq!(edge.errcode(&edge.send(client, &fresh(&refused)).await), Some(7));
    }
    assert_eq!(edge.ended("bind", "record_full").await.unwrap(), 2);
    assert_eq!(edge.backend.requests_for("sn-refused").len(), 0);
    for (client, bind) in clients.iter().rev().zip(&held) {
        assert_eq!(edge.errcode(&edge.send(client, &fresh(bind)).await), Some(0), "recorded binds stay recorded");
    }
    assert_eq!(edge.backend.requests_for("sn-held").len(), 2);

    // A bind that was refused because the table was full counts as new when it is sent again.
    let taken = async || edge.errcode(&edge.send(&clients[0], &fresh(&refused)).await) == Some(0);
    until("a record had expired", taken).await.unwrap();
    assert_eq!(edge.errcode(&edge.send(&clients[1], &fresh(&refused)).await), Some(0));
    assert_eq!(edge.backend.requests_for("sn-refused").len(), 1);
    edge.assert_clean().await;
}
