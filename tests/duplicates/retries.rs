//! The cluster's own retry policy, which an operator may have for other reasons, delivers nothing twice.

use serde_json::json;
use testbed::backend::Behaviour;
use testbed::envoy::version;
use testbed::wecom::Event;

use super::*;

#[tokio::test]
async fn a_clusters_own_retry_policy_delivers_nothing_twice() {
    if version().unwrap() < (1, 39) {
        eprintln!("SKIPPED: this Envoy knows no retry policy of a cluster; 1.39 and later do");
        return;
    }
    let edge = Edge::start(|bootstrap| {
        bootstrap.edit_cluster("decision", |cluster| {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http_protocol_options": {} },
                    "retry_policy": {
                        "retry_on": "5xx,reset,connect-failure,retriable-4xx",
                        "num_retries": 2,
                        "retry_back_off": { "base_interval": "0.001s", "max_interval": "0.002s" },
                    },
                },
            });
        })
    })
    .await;
    let [client, _] = edge.one_client_per_worker().await.unwrap();
    for failure in [
        Behaviour::status(500),
        Behaviour::status(503),
        Behaviour::status(409),
        Behaviour::reset(),
        Behaviour::close(),
        Behaviour::cut_off(),
        Behaviour::garbage(),
    ] {
        let words = failure.to_string();
        edge.backend.forget();
        edge.backend.always(failure);
        let answer = edge.send(&client, &edge.account.seal(Event::bind("sn-retried"))).await;
        assert_eq!(edge.errcode(&answer), Some(7), "{words}");
        let received = edge.backend.requests();
        assert_eq!(received.len(), 1, "{words}: delivered {} times", received.len());
        assert_eq!(received[0].header("x-envoy-max-retries"), None, "it is for Envoy alone");
    }
    assert_eq!(edge.envoy.stat("cluster.decision.upstream_rq_retry").await.unwrap_or(0), 0);
    edge.assert_clean().await;
}
