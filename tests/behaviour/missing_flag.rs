//! Without `allow_on_headers_stop_iteration` Envoy does not pass the body of a paused request to the
//! filter and logs nothing about it, so every POST would hang. The filter answers, and logs what to
//! set.

use testbed::wecom::{Client, Event};

use crate::support::{Edge, PATH, WECOM_WAITS, assert_rejected, together};

#[tokio::test]
async fn a_post_does_not_hang_and_the_log_says_what_to_set() {
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin(|plugin| {
            plugin.as_object_mut().unwrap().remove("allow_on_headers_stop_iteration").expect("it is shipped");
        })
    })
    .await;
    // A GET works, so the console's check of the URL would not show the mistake.
    assert_eq!(edge.send(&edge.account.verify_url("12345")).await.text(), "12345");

    let request = edge.account.seal(Event::bind("sn"));
    let answers = together([Client::http1(), Client::http2()].map(|client| {
        let (url, request) = (edge.envoy.url(PATH), request.clone());
        async move { client.send(&url, &request).await.unwrap() }
    }));
    for answer in answers.await {
        assert_rejected(&answer, 503, "no_body");
        assert!(answer.elapsed < WECOM_WAITS, "only after {:?}", answer.elapsed);
    }
    edge.envoy.wait_for_log("allow_on_headers_stop_iteration: true").await.unwrap();
    edge.assert_nobody_was_asked();
    edge.end().await;
}
