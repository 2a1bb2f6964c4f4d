//! Copies that arrive on several replicas.

use testbed::backend::Behaviour;
use tokio::task::JoinSet;
use wecom_callback_filter::wecom::callback::EventType;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_copies_over_both_replicas_are_delivered_once_and_answered_alike() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    replicas.backend.always(Behaviour::verdict(4).after(Duration::from_millis(300)));
    let event = Event::bind("sn-many");
    // Sealed beforehand, which takes longer than all the rest.
    let requests: Vec<_> = (0..300).map(|_| replicas.one.account.seal(&event)).collect();
    let mut sending = JoinSet::new();
    for (number, request) in requests.into_iter().enumerate() {
        let edge = if number % 2 == 0 { &replicas.one } else { &replicas.other };
        let (client, url) = (edge.client.clone(), edge.url());
        sending.spawn(async move { client.send(&url, &request).await.unwrap() });
    }
    let account = &replicas.one.account;
    let verdicts = sending.join_all().await.into_iter().map(|answer| answer.decrypt(account).unwrap().errcode());
    assert_eq!(verdicts.collect::<Vec<_>>(), [Some(4); 300]);
    assert_eq!(replicas.backend.count(), 1);
    replicas.end().await;
}

#[tokio::test]
async fn a_copy_on_the_other_replica_gets_the_verdict_soon_after_it_and_from_then_on() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    replicas.backend.on_device("sn-slow", Behaviour::verdict(3).after(Duration::from_millis(900)));
    let event = Event::bind("sn-slow");
    let copy_on_the_other = async {
        replicas.backend.wait_for(1).await.unwrap();
        let copy = verdict(&replicas.other, &event).await;
        (copy, replicas.backend.requests()[0].arrived.elapsed())
    };
    let (first, (copy, after)) = tokio::join!(verdict(&replicas.one, &event), copy_on_the_other);
    assert_eq!((first, copy), (3, 3));
    assert!(after < Duration::from_millis(1800), "the verdict of 900 ms reached the copy after {after:?}");
    for edge in [&replicas.one, &replicas.other, &replicas.one] {
        assert_eq!(verdict(edge, &event).await, 3);
    }
    assert_eq!(replicas.backend.count(), 1);
    assert_eq!(exchanged(&replicas.one, "claimed").await, 1);
    assert_eq!(exchanged(&replicas.one, "written").await, 1, "copies on the same replica cost Redis nothing");
    assert_eq!(exchanged(&replicas.other, "settled").await, 1);
    replicas.end().await;
}

#[tokio::test]
async fn an_objects_copy_is_the_same_on_the_other_replica_and_redis_cannot_read_it() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    replicas.backend.always(Behaviour::json(r#"{"online_status":1,"note":"in-plain-words"}"#));
    let event = Event::of(EventType::UserScan, "sn-object");
    let mut replies = Vec::new();
    for edge in [&replicas.one, &replicas.other] {
        let answer = edge.send(&edge.account.seal(&event)).await.unwrap();
        replies.push(answer.decrypt(&edge.account).unwrap().text());
    }
    assert!(replies[0].contains("in-plain-words") && replies[0] == replies[1], "{replies:?}");
    assert_eq!(replicas.backend.count(), 1);
    let names = replicas.redis.names().unwrap();
    assert_eq!(names.len(), 1, "one key a record: {names:?}");
    let written = [names[0].as_bytes(), &replicas.redis.value(&names[0]).unwrap()].concat();
    let written = String::from_utf8_lossy(&written);
    let req_id = event.req_id_text().unwrap();
    assert!(!written.contains("plain") && !written.contains("online") && !written.contains(req_id), "{written}");
    replicas.end().await;
}

#[tokio::test]
async fn a_replica_that_is_killed_in_mid_call_leaves_a_record_that_nobody_delivers_again() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start().await else { return };
    let Replicas { one, other, backend, redis: _redis, links } = replicas;
    backend.always(Behaviour::verdict(0).after(Duration::from_millis(800)));
    let event = Event::bind("sn-killed");
    let (client, url, request) = (one.client.clone(), one.url(), one.account.seal(&event));
    let first = tokio::spawn(async move { client.send(&url, &request).await });
    backend.wait_for(1).await.unwrap();
    one.envoy.kill().unwrap();
    assert!(first.await.unwrap().is_err(), "its Envoy is gone");

    let (copy, after) = timed_verdict(&other, &event).await;
    assert_eq!(copy, 7);
    assert!(after < Duration::from_millis(2900), "{after:?}");
    let again = replica(&backend, links[0].port(), |bootstrap| bootstrap).await;
    for edge in [&again, &other] {
        assert_eq!(verdict(edge, &event).await, 7, "its process is another one now");
    }
    assert_eq!(backend.count(), 1);
    for edge in [again, other] {
        end(edge).await;
    }
}

#[tokio::test]
async fn the_record_survives_a_restart_of_every_envoy() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    let Replicas { one, other, backend, redis: _redis, links } = replicas;
    backend.always(Behaviour::verdict(3));
    let event = Event::bind("sn-restart");
    assert_eq!(verdict(&one, &event).await, 3);
    for edge in [one, other] {
        end(edge).await;
    }
    let again = replica(&backend, links[1].port(), Bootstrap::patient).await;
    assert_eq!(verdict(&again, &event).await, 3);
    assert_eq!(backend.count(), 1);
    end(again).await;
}
