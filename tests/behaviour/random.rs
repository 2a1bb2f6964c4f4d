//! Without random numbers the filter can neither seal replies nor keep records of duplicates: it
//! refuses every callback with an error, does not panic, and does what needs no random numbers.

use testbed::wecom::Event;
use wecom_callback_filter::wecom::callback::EventType;

use crate::support::{Edge, assert_rejected};

#[tokio::test]
async fn without_random_numbers_a_bind_is_refused_and_nothing_traps() {
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin(|plugin| {
            let allowed = &mut plugin["vm_config"]["capability_restriction_config"]["allowed_capabilities"];
            allowed.as_object_mut().unwrap().remove("random_get").expect("it is shipped");
        })
    })
    .await;
    edge.envoy.wait_for_log("no random numbers").await.unwrap();

    for copy in 0..4 {
        let answer = edge.send(&edge.account.seal(Event::bind(&format!("sn-{copy}")))).await;
        assert_rejected(&answer, 503, "seal_failed");
    }
    assert_rejected(&edge.send(&edge.account.seal(Event::of(EventType::UserScan, "sn"))).await, 503, "seal_failed");
    assert_rejected(&edge.send(&edge.account.seal(Event::unbind("sn"))).await, 503, "record_unavailable");
    assert_rejected(&edge.send(&edge.account.seal(Event::bind("sn")).forged()).await, 403, "bad_signature");
    edge.assert_nobody_was_asked();
    assert_eq!(edge.send(&edge.account.verify_url("12345")).await.text(), "12345");
    assert_eq!(edge.client.get(&edge.envoy.url("/other")).await.unwrap().text(), "success");

    // The only trouble is the one that this test causes.
    for trouble in edge.envoy.troubles().await.unwrap() {
        assert!(trouble.contains("restricted") && trouble.contains("random_get"), "{trouble}");
    }
    edge.stop().await;
}
