//! Whatever goes wrong behind the filter, a bind is answered in time with an encrypted errcode 7, and
//! the next one is served. A failure never leads to no answer, to an unencrypted error, or to an
//! empty 200, which WeCom would read as approval.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use testbed::backend::{Behaviour, Step, free_port};
use testbed::envoy::Bootstrap;
use testbed::waiting::until;
use testbed::wecom::{Client, Event};

use crate::support::{Edge, PATH, endpoint, errcode, together};

/// Short, so that tests of a timeout are quick; `support::errcode` asserts WeCom's limit of 3 s.
const TIMEOUT_MS: u64 = 500;

/// Adds an endpoint for each cluster, at a path below the first one's, that asks that cluster.
fn with_endpoints(bootstrap: Bootstrap, clusters: &[&str]) -> Bootstrap {
    bootstrap.edit_plugin_value(|plugin| {
        plugin["endpoints"][0]["decision"]["timeout_ms"] = TIMEOUT_MS.into();
        for cluster in clusters {
            let further = endpoint(&plugin["endpoints"][0], &format!("{PATH}/{cluster}"), |endpoint| {
                endpoint["decision"]["cluster"] = (*cluster).into();
            });
            plugin["endpoints"].as_array_mut().unwrap().push(further);
        }
    })
}

#[tokio::test]
async fn whatever_the_decision_endpoint_does_a_bind_ends_in_time_in_errcode_7() {
    let json = |body: &str| Behaviour::json(body);
    let chunked = |end: &[u8]| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        [head, end].concat()
    };
    let misbehaviours = [
        // No complete answer in time.
        Behaviour::hang(),
        Behaviour::headers_then_silence(),
        Behaviour::half_then_silence(),
        Behaviour::new("success, then silence", [Step::Send(chunked(b"7\r\nsuccess\r\n")), Step::Hang]),
        Behaviour::trickle(Duration::from_millis(50)).named("a verdict, too slowly"),
        Behaviour::verdict(0).after(Duration::from_millis(TIMEOUT_MS + 400)).named("a verdict, too late"),
        // Connections that end too early.
        Behaviour::close(),
        Behaviour::reset(),
        Behaviour::cut_off(),
        Behaviour::cut_off_empty(),
        Behaviour::cut_off_chunked(),
        Behaviour::new("reset after the headers", {
            [Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n".to_vec()), Step::Reset]
        }),
        Behaviour::new("reset in mid-body", {
            [Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"errc".to_vec()), Step::Reset]
        }),
        Behaviour::raw("half a head", "HTTP/1.1 200 OK\r\ncontent-le"),
        // Invalid HTTP.
        Behaviour::garbage(),
        Behaviour::raw("a bare verdict", r#"{"errcode":0}"#),
        Behaviour::raw("a bad length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{\"errcode\":0}"),
        Behaviour::raw("a bad chunk", chunked(b"xyz\r\n{\"errcode\":0}\r\n0\r\n\r\n")),
        // A status other than 2xx, even with a verdict.
        Behaviour::redirect(302, "/elsewhere"),
        Behaviour::redirect(307, "http://127.0.0.1:1/bind"),
        Behaviour::status(304),
        Behaviour::status(400),
        Behaviour::status(401),
        Behaviour::status(404),
        Behaviour::status(429),
        Behaviour::status(500),
        Behaviour::status(502),
        Behaviour::status(503),
        Behaviour::answer(500, &[], r#"{"errcode":0}"#).named("500 with a verdict"),
        Behaviour::answer(404, &[], "success").named("404 with success"),
        Behaviour::answer(500, &[], "").named("500, empty"),
        // Bodies that are not a verdict.
        Behaviour::html(),
        Behaviour::broken_json(),
        json("{}"),
        json("[]"),
        json("0"),
        json("null"),
        json("ok"),
        json("SUCCESS"),
        json(" "),
        json("[0,\"ok\"]"),
        json(r#"{"errmsg":"ok"}"#),
        json(r#"{"errcode":"0"}"#),
        json(r#"{"errcode":-1}"#),
        json(r#"{"errcode":0.5}"#),
        json(r#"{"errcode":0.0}"#),
        json(r#"{"errcode":4294967296}"#),
        json(r#"{"errcode":1e999}"#),
        json(r#"{"errcode":null}"#),
        json(r#"{"errcode":false}"#),
        json(r#"{"errcode":{}}"#),
        json(r#"{"Errcode":0}"#),
        json(r#"{"errcode":0,"errmsg":1}"#),
        json(r#"{"errcode":0,"errcode":7}"#),
        json(r#"{"errcode":0}{"errcode":0}"#),
        json(r#"{"data":{"errcode":0}}"#),
        Behaviour::json(b"{\"errcode\":0,\"errmsg\":\"\xff\"}").named("no UTF-8"),
        Behaviour::json("[".repeat(60_000)).named("depth"),
        // Too large.
        Behaviour::large(65_537),
        Behaviour::large(3 << 20),
        Behaviour::answer(200, &[], vec![b'x'; 3 << 20]).named("3 MiB of nothing"),
        Behaviour::answer(200, &[("x-large", &"x".repeat(100_000))], r#"{"errcode":0}"#).named("a huge header"),
    ];
    let edge = Arc::new(Edge::start_with(|bootstrap| with_endpoints(bootstrap, &[])).await);

    together(misbehaviours.into_iter().enumerate().map(|(row, misbehaviour)| {
        let edge = Arc::clone(&edge);
        async move {
            let device_sn = format!("sn-{row}");
            edge.decision.on_device(&device_sn, misbehaviour.clone());
            let answer = edge.send(&edge.account.seal(Event::bind(&device_sn))).await;
            assert!(!answer.is_bare_success(), "{misbehaviour}");
            assert_eq!(errcode(&answer, &edge.account), 7, "{misbehaviour}");
            assert_eq!(
                edge.decision.requests_for(&device_sn).len(),
                1,
                "{misbehaviour}: the decision endpoint is asked only once"
            );

            assert_eq!(edge.bind("sn-next").await, 0, "the one after {misbehaviour}");
        }
    }))
    .await;

    // Unusual answers that are still accepted.
    for (device_sn, behaviour) in [
        ("sn-bytes", Behaviour::non_utf8_header()),
        ("sn-large", Behaviour::large(65_536)),
        ("sn-plain", Behaviour::answer(200, &[("content-type", "text/plain")], r#"{"errcode":0}"#)),
    ] {
        edge.decision.on_device(device_sn, behaviour);
        assert_eq!(edge.bind(device_sn).await, 0, "{device_sn}");
    }
    Arc::into_inner(edge).unwrap().end().await;
}

#[tokio::test]
async fn a_body_beyond_what_envoy_holds_ends_in_errcode_7() {
    // Envoy aborts a call at 32 MiB; the timeout must be long enough to get there.
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| plugin["endpoints"][0]["decision"]["timeout_ms"] = 2500.into())
    })
    .await;
    edge.decision.on_device("sn-large", Behaviour::large(40 << 20));
    assert_eq!(edge.bind("sn-large").await, 7);
    assert_eq!(edge.bind("sn-next").await, 0);
    edge.end().await;
}

#[tokio::test]
async fn a_decision_endpoint_that_cannot_be_reached_is_errcode_7() {
    let closed = free_port().await.unwrap();
    let edge = Edge::start_with(|bootstrap| {
        let clusters = ["refused", "no-endpoint", "unhealthy", "unknown"];
        with_endpoints(bootstrap, &clusters)
            .add_cluster("refused", closed)
            .add_cluster("no-endpoint", 1)
            .edit_cluster("no-endpoint", |cluster| cluster["load_assignment"]["endpoints"] = json!([]))
            .add_cluster("unhealthy", 1)
            .edit_cluster("unhealthy", |cluster| {
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["health_status"] = "UNHEALTHY".into();
                cluster["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0.0 } });
            })
    })
    .await;

    // Several times, so that both workers are affected.
    for cluster in ["refused", "no-endpoint", "unhealthy", "unknown"] {
        for copy in 0..4 {
            let request = edge.account.seal(Event::bind(&format!("sn-{cluster}-{copy}")));
            let url = edge.envoy.url(&format!("{PATH}/{cluster}"));
            let answer = Client::http1().send(&url, &request).await.unwrap();
            assert_eq!(errcode(&answer, &edge.account), 7, "{cluster}");
            assert_eq!(edge.bind("sn-next").await, 0, "the one after {cluster}");
        }
    }
    assert!(edge.backend.requests().is_empty(), "none of them was sent to another cluster");
    edge.end().await;
}

/// As NAT, and load balancers, do with connections on which nothing was said for a while.
#[tokio::test]
async fn a_connection_that_the_other_side_has_forgotten_costs_no_bind() {
    let edge = Edge::start_with(|bootstrap| with_endpoints(bootstrap, &[])).await;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"errcode\":0}".to_vec();
    edge.decision.on_device("sn-before", Behaviour::new("forgets", [Step::Send(answer), Step::Hang]));

    let client = Client::http1(); // always the same worker
    let send =
        async |device: &str| client.send(&edge.envoy.url(PATH), &edge.account.seal(Event::bind(device))).await.unwrap();
    assert_eq!(errcode(&send("sn-before").await, &edge.account), 0);
    until("Envoy closed the connection", async || {
        edge.envoy.stat("cluster.decision.upstream_cx_idle_timeout").await >= Some(1)
    })
    .await
    .unwrap();
    assert_eq!(errcode(&send("sn-after").await, &edge.account), 0);
    edge.end().await;
}

#[tokio::test]
async fn a_decision_endpoint_whose_circuit_breaker_is_open_is_errcode_7() {
    let edge = Edge::start_with(|bootstrap| {
        with_endpoints(bootstrap, &[])
            .edit_cluster("decision", |cluster| {
                cluster["circuit_breakers"] = json!({ "thresholds": [{ "max_requests": 1 }] });
            })
            .edit_plugin_value(|plugin| plugin["endpoints"][0]["decision"]["timeout_ms"] = 2500.into())
    })
    .await;
    edge.decision.on_device("sn-slow", Behaviour::verdict(3).after(Duration::from_millis(1800)));

    let slow = edge.account.seal(Event::bind("sn-slow"));
    let (client, url) = (edge.client.clone(), edge.envoy.url(PATH));
    let slow = tokio::spawn(async move { client.send(&url, &slow).await.unwrap() });
    edge.decision.wait_for(1).await.unwrap();
    // Each on a new connection, so that both workers are affected, more than once.
    for copy in 0..6 {
        let request = edge.account.seal(Event::bind(&format!("sn-{copy}")));
        let answer = Client::http1().send(&edge.envoy.url(PATH), &request).await.unwrap();
        assert_eq!(errcode(&answer, &edge.account), 7);
    }
    assert_eq!(edge.decision.count(), 1, "none of them got past the breaker");
    assert_eq!(
        errcode(&slow.await.unwrap(), &edge.account),
        3,
        "the call that was already in progress is not disturbed"
    );
    assert_eq!(edge.bind("sn-next").await, 0, "the breaker closes again");
    edge.end().await;
}
