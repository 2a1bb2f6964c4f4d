//! The fourteen types of hardware callbacks other than bind, and types that WeCom may add later: each
//! reaches its upstream unchanged and is answered as the contract says for its type.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use testbed::backend::{Backend, Behaviour, free_port};
use testbed::wecom::{Account, Answer, Client, Event};
use wecom_callback_filter::wecom::callback::EventType;

use crate::support::{Edge, PATH, assert_rejected, endpoint, together};

/// The types that have a refusal of their own, and that refusal.
const REFUSALS: [(EventType, &str); 2] =
    [(EventType::VerifyDevice, r#"{"is_valid":false}"#), (EventType::UserScan, r#"{"online_status":2}"#)];

/// Every type that WeCom documents, except bind.
fn others() -> impl Iterator<Item = EventType> {
    let all = EventType::ALL.into_iter().map(|(event, _)| event);
    all.filter(|event| !matches!(event, EventType::Bind | EventType::Other))
}

#[track_caller]
fn assert_plain_success(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (200, "success"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
}

/// Asserts that a callback that no upstream accepted is refused: with its type's own refusal, or with
/// 503 and that word.
#[track_caller]
fn assert_failed(answer: &Answer, account: &Account, event: EventType, word: &str) {
    match REFUSALS.iter().find(|(known, _)| *known == event) {
        Some((_, refusal)) => assert_eq!(answer.decrypt(account).unwrap().text(), *refusal),
        None => {
            let said = answer.rejection().unwrap_or_default();
            assert!(said.starts_with(word), "{said} instead of {word}");
            assert_rejected(answer, 503, &said);
        }
    }
}

#[tokio::test]
async fn a_bind_goes_to_the_decision_endpoint_and_every_other_type_to_the_events_upstream() {
    let edge = Edge::start().await;
    assert_eq!(others().count(), 14);
    for client in [Client::http1(), Client::http2()] {
        for (event, name) in EventType::ALL.into_iter().filter(|(event, _)| *event != EventType::Other) {
            edge.decision.forget();
            edge.backend.forget();
            let message = Event::of(event, "sn");
            let answer = client.send(&edge.envoy.url(PATH), &edge.account.seal(&message)).await.unwrap();

            let (taker, path, idle) = match event {
                EventType::Bind => (&edge.decision, "/bind", &edge.backend),
                _ => (&edge.backend, "/events", &edge.decision),
            };
            let told = taker.requests();
            assert_eq!(told.len(), 1, "{name}: {}", answer.text());
            assert_eq!(told[0].body, message.to_json(edge.account.receive_id()), "{name}: byte for byte");
            assert_eq!((told[0].method.as_str(), told[0].target.as_str()), ("POST", path));
            assert_eq!(told[0].header_text("content-type"), Some("application/json"));
            assert_eq!(told[0].header_text("x-wecom-event"), Some(name));
            assert_eq!(told[0].header_text("x-wecom-receive-id"), Some("2000000000000001"));
            assert_eq!(told[0].header_text("idempotency-key"), message.req_id_text());
            assert_eq!(idle.count(), 0, "{name}");
            match event {
                EventType::Bind => assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0)),
                _ => assert_plain_success(&answer),
            }
        }
    }
    edge.end().await;
}

#[tokio::test]
async fn a_callback_without_device_company_or_request_id_is_delivered() {
    let edge = Edge::start().await;
    // model_ticket comes for a model, so it names neither a device nor a company.
    let ticket = Event::of(EventType::ModelTicket, "sn");
    assert_plain_success(&edge.send(&edge.account.seal(&ticket)).await);
    let told = edge.backend.requests().remove(0).json().unwrap();
    assert_eq!(told["base_info"].get("device_sn"), None);
    assert_eq!(told["base_info"].get("auth_corpid"), None);
    assert!(told["event"]["model_ticket"].is_string());

    edge.backend.forget();
    let bare = format!(
        r#"{{"base_info":{{"createtime":{}}},"event":{{"event_type":"unbind"}},"at":"{}"}}"#,
        testbed::wecom::unix_now(),
        testbed::wecom::random_id()
    );
    for copy in 0..2 {
        assert_plain_success(&edge.send(&edge.account.seal(bare.as_str())).await);
        assert_eq!(
            edge.backend.count(),
            1,
            "copy {copy}: without a request id, a duplicate is recognized by its message"
        );
    }
    let told = edge.backend.requests().remove(0);
    assert_eq!(told.body, bare.as_bytes());
    assert_eq!((told.header("x-wecom-req-id"), told.header("idempotency-key")), (None, None));
    assert_eq!(told.header_text("x-wecom-event"), Some("unbind"));

    edge.backend.forget();
    for kind in ["event", "command"] {
        let unknown = Event::named(kind, "brand_new", "sn").set("what", json!({ "ever": [1, 2.5, null] }));
        assert_plain_success(&edge.send(&edge.account.seal(&unknown)).await);
        let told = edge.backend.requests().pop().unwrap();
        assert_eq!(told.body, unknown.to_json(edge.account.receive_id()));
        assert_eq!(told.header_text("x-wecom-event"), Some("brand_new"));
    }
    edge.end().await;
}

#[tokio::test]
async fn an_upstreams_json_object_is_returned_encrypted_and_unchanged() {
    let edge = Edge::start().await;
    let object = " {\"is_valid\" : true, \"list\":[1,{\"报\":\"告\"}],\n\"n\":9007199254740993,\"errcode\":0}";
    for (index, event) in others().enumerate() {
        let device_sn = format!("sn-{index}");
        let message = Event::of(event, &device_sn).base("device_sn", device_sn.as_str());
        edge.backend.on_device(&device_sn, Behaviour::json(object));
        let answer = edge.send(&edge.account.seal(&message)).await;
        assert_eq!(answer.decrypt(&edge.account).unwrap().text(), object, "{event:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));

        let copy = edge.send(&edge.account.seal(&message)).await;
        assert_eq!(copy.decrypt(&edge.account).unwrap().text(), object, "{event:?}, once more");
        assert_eq!(edge.backend.requests_for(&device_sn).len(), 1, "{event:?}");
    }
    edge.end().await;
}

#[tokio::test]
async fn an_upstreams_empty_200_or_success_is_plain_success() {
    let edge = Edge::start().await;
    for (index, behaviour) in
        [Behaviour::success(), Behaviour::empty(), Behaviour::no_content(), Behaviour::empty_chunked()]
            .into_iter()
            .enumerate()
    {
        for event in [EventType::Unbind, EventType::VerifyDevice, EventType::UserScan] {
            let device_sn = format!("sn-{index}-{event:?}");
            let message = Event::of(event, &device_sn).base("device_sn", device_sn.as_str());
            edge.backend.on_device(&device_sn, behaviour.clone());
            for copy in 0..2 {
                let answer = edge.send(&edge.account.seal(&message)).await;
                assert_plain_success(&answer);
                assert_eq!(edge.backend.requests_for(&device_sn).len(), 1, "{behaviour}, copy {copy}");
            }
        }
    }
    edge.end().await;
}

#[tokio::test]
async fn a_callback_that_its_upstream_failed_is_refused_and_delivered_when_it_is_sent_again() {
    let edge = Arc::new(Edge::start().await);
    let failures = [
        (Behaviour::status(500), "upstream_status"),
        (Behaviour::answer(404, &[], r#"{"is_valid":true}"#).named("404 with an object"), "upstream_status"),
        (Behaviour::redirect(302, "/elsewhere"), "upstream_status"),
        (Behaviour::empty_until_close(), "upstream_reply"),
        (Behaviour::until_close("success"), "upstream_reply"),
        (Behaviour::html(), "upstream_reply"),
        (Behaviour::broken_json(), "upstream_reply"),
        (Behaviour::json("[]"), "upstream_reply"),
        (Behaviour::json(r#""success""#), "upstream_reply"),
        (Behaviour::json("true"), "upstream_reply"),
        (Behaviour::large(65_537), "upstream_reply"),
    ];
    // The first failure with every type; every other failure with one type of each kind.
    let first = others().chain([EventType::Other]).map(|event| (event, failures[0].clone()));
    let rest = failures
        .iter()
        .skip(1)
        .flat_map(|failure| [EventType::RemoteOpenDoor, EventType::VerifyDevice].map(|event| (event, failure.clone())));
    let table: Vec<_> = first.chain(rest).enumerate().collect();
    together(table.into_iter().map(|(row, (event, (behaviour, word)))| {
        let edge = Arc::clone(&edge);
        async move {
            let device_sn = format!("sn-{row}");
            let message = match event {
                EventType::Other => Event::named("event", "brand_new", &device_sn),
                _ => Event::of(event, &device_sn).base("device_sn", device_sn.as_str()),
            };
            edge.backend.on_device(&device_sn, behaviour.clone());
            let answer = edge.send(&edge.account.seal(&message)).await;
            assert_failed(&answer, &edge.account, event, word);

            edge.backend.on_device(&device_sn, Behaviour::success());
            if event == EventType::RemoteOpenDoor && word == "upstream_reply" {
                // A 2xx says that something was done, whatever else it says: nobody opens a door twice.
                let copy = edge.send(&edge.account.seal(&message)).await;
                assert_eq!((copy.status, copy.rejection().as_deref()), (503, Some("duplicate")), "{behaviour}");
                assert_eq!(edge.backend.requests_for(&device_sn).len(), 1, "delivered again after {behaviour}");
                return;
            }
            assert_plain_success(&edge.send(&edge.account.seal(&message)).await);
            assert_eq!(edge.backend.requests_for(&device_sn).len(), 2, "{event:?}: delivered after {behaviour}");
            assert_plain_success(&edge.send(&edge.account.seal(&message)).await);
            assert_eq!(edge.backend.requests_for(&device_sn).len(), 2, "{event:?}: and not once more");
        }
    }))
    .await;
    Arc::into_inner(edge).unwrap().end().await;
}

/// Ends that leave open whether the upstream has acted.
fn unknown_ends() -> [(Behaviour, &'static str); 6] {
    [
        (Behaviour::hang(), "upstream_timeout"),
        (Behaviour::half_then_silence(), "upstream_timeout"),
        (Behaviour::close(), "upstream_unreachable"),
        (Behaviour::reset(), "upstream_unreachable"),
        (Behaviour::cut_off(), "upstream_unreachable"),
        (Behaviour::garbage(), "upstream_status"),
    ]
}

#[tokio::test]
async fn a_command_whose_end_is_unknown_stays_failed_and_an_event_is_delivered_again() {
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| plugin["endpoints"][0]["events"]["timeout_ms"] = 400.into())
    })
    .await;
    for (row, (behaviour, word)) in unknown_ends().into_iter().enumerate() {
        for (event, is_command) in [
            (EventType::RemoteOpenDoor, true),
            (EventType::UserScan, true),
            (EventType::VerifyDevice, false),
            (EventType::Unbind, false),
        ] {
            let device_sn = format!("sn-{row}-{event:?}");
            let message = Event::of(event, &device_sn).base("device_sn", device_sn.as_str());
            edge.backend.on_device(&device_sn, behaviour.clone());
            let answer = edge.send(&edge.account.seal(&message)).await;
            assert_failed(&answer, &edge.account, event, word);

            edge.backend.on_device(&device_sn, Behaviour::success());
            for _ in 0..2 {
                let answer = edge.send(&edge.account.seal(&message)).await;
                match is_command {
                    true => assert_failed(&answer, &edge.account, event, "duplicate"),
                    false => assert_plain_success(&answer),
                }
            }
            let delivered = edge.backend.requests_for(&device_sn).len();
            assert_eq!(delivered, if is_command { 1 } else { 2 }, "{event:?} after {behaviour}");
        }
    }
    edge.end().await;
}

#[tokio::test]
async fn a_command_that_nobody_got_is_delivered_when_it_is_sent_again() {
    let port = free_port().await.unwrap();
    let edge = Edge::start_with(|bootstrap| {
        bootstrap
            .add_cluster("later", port)
            .edit_plugin_value(|plugin| plugin["endpoints"][0]["events"]["cluster"] = "later".into())
    })
    .await;
    let message = Event::remote_open_door("sn-refused");
    let answer = edge.send(&edge.account.seal(&message)).await;
    assert_failed(&answer, &edge.account, EventType::RemoteOpenDoor, "upstream_unreachable");
    let back = Backend::listen(([127, 0, 0, 1], port).into()).await.unwrap();
    back.always(Behaviour::success());
    assert_plain_success(&edge.send(&edge.account.seal(&message)).await);
    assert_plain_success(&edge.send(&edge.account.seal(&message)).await);
    assert_eq!(back.count(), 1);
    edge.end().await;
}

#[tokio::test]
async fn a_later_copy_of_a_long_object_gets_its_types_own_refusal_and_never_success() {
    let edge = Edge::start().await;
    let clients = [Client::http1(), Client::http2()];
    for (event, refusal) in
        [(EventType::VerifyDevice, r#"{"is_valid":false}"#), (EventType::UserScan, r#"{"online_status":2}"#)]
    {
        let object = json!({ "is_valid": false, "why": "n".repeat(200) }).to_string();
        edge.backend.always(Behaviour::json(&object).after(Duration::from_millis(500)));
        edge.backend.forget();
        let message = Event::of(event, "sn-long");
        // In flight, on several connections and so on several workers.
        let copies = together((0..8).map(|n| {
            let (client, url) = (clients[n % 2].clone(), edge.envoy.url(PATH));
            let request = edge.account.seal(&message);
            async move { client.send(&url, &request).await.unwrap() }
        }))
        .await;
        for copy in copies {
            assert_eq!(copy.decrypt(&edge.account).unwrap().text(), object, "{event:?}");
        }
        for client in &clients {
            let later = client.send(&edge.envoy.url(PATH), &edge.account.seal(&message)).await.unwrap();
            assert_eq!(later.decrypt(&edge.account).unwrap().text(), refusal, "{event:?}");
        }
        assert_eq!(edge.backend.count(), 1);
    }
    edge.end().await;
}

#[tokio::test]
async fn without_an_events_upstream_they_go_to_the_decision_endpoint() {
    let generic = format!("{PATH}/generic");
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_plugin_value(|plugin| {
            // The provider's generic URL, where messages are addressed to its corpid.
            let generic = endpoint(&plugin["endpoints"][0], &generic, |endpoint| {
                endpoint["receive_ids"] = json!(["wwservicecorp0001"]);
                endpoint.as_object_mut().unwrap().remove("events");
            });
            plugin["endpoints"].as_array_mut().unwrap().push(generic);
        })
    })
    .await;
    let provider = edge.account.clone().with_receive_id("wwservicecorp0001");
    edge.decision.always(Behaviour::json(r#"{"is_valid":true}"#).after(Duration::from_millis(50)));

    let question = Event::of(EventType::VerifyDevice, "sn");
    let answer = edge.send_to(&generic, &provider.seal(&question)).await;
    assert_eq!(answer.decrypt(&provider).unwrap().text(), r#"{"is_valid":true}"#);
    let told = edge.decision.requests().remove(0);
    assert_eq!((told.target.as_str(), told.body), ("/bind", question.to_json("wwservicecorp0001")));
    assert_eq!(told.headers.iter().filter(|(name, _)| name == "x-wecom-receive-id").count(), 1);
    assert!(edge.backend.requests().is_empty());
    edge.end().await;
}
