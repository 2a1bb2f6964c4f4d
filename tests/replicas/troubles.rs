//! Redis away, before a decision and after it.

use testbed::backend::Behaviour;
use testbed::redis::{Passes, USER};
use testbed::waiting::until;

use super::*;

#[tokio::test]
async fn without_redis_a_bind_is_refused_undelivered_and_its_copy_decided_once_redis_is_back() {
    let _machine = MACHINE.read().await;
    let Some(mut replicas) = Replicas::start().await else { return };
    let event = Event::bind("sn-away");
    replicas.redis.kill().unwrap();
    let (refused, after) = timed_verdict(&replicas.one, &event).await;
    assert_eq!(refused, 7);
    assert!(after < Duration::from_millis(1500), "{after:?}");
    assert_eq!(replicas.backend.count(), 0);
    assert_eq!(replicas.one.ended("bind", "record_unavailable").await.unwrap(), 1);
    replicas.redis.start_again().await.unwrap();
    for edge in [&replicas.other, &replicas.one] {
        assert_eq!(verdict(edge, &event).await, 0);
    }
    assert_eq!(replicas.backend.count(), 1);
    replicas.end().await;
}

#[tokio::test]
async fn alone_each_replica_decides_once() {
    let _machine = MACHINE.read().await;
    let Some(mut replicas) = Replicas::start_with(alone).await else { return };
    let event = Event::bind("sn-alone");
    replicas.redis.kill().unwrap();
    for edge in [&replicas.one, &replicas.one, &replicas.other, &replicas.other] {
        assert_eq!(verdict(edge, &event).await, 0);
    }
    assert_eq!(replicas.backend.count(), 2, "once for each replica: what on_error: local costs");
    for edge in [&replicas.one, &replicas.other] {
        let locally = edge.envoy.stat("wasmcustom.wecom.endpoint=lock.decided_locally_total").await;
        assert_eq!(locally, Some(1));
    }
    replicas.redis.start_again().await.unwrap();
    let written = async || repeats_waiting(&replicas.one).await + repeats_waiting(&replicas.other).await == 0;
    until("the settlements were written", written).await.unwrap();
    assert_eq!(replicas.redis.names().unwrap().len(), 1);
    assert_eq!(replicas.backend.count(), 2);
    replicas.end().await;
}

#[tokio::test]
async fn a_verdict_that_redis_missed_is_told_at_once_and_written_later() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start().await else { return };
    replicas.backend.always(Behaviour::verdict(3).after(Duration::from_millis(400)));
    let event = Event::bind("sn-missed");
    let cut = async {
        replicas.backend.wait_for(1).await.unwrap();
        replicas.links[0].set(Passes::Nothing);
    };
    let (told, ()) = tokio::join!(verdict(&replicas.one, &event), cut);
    assert_eq!(told, 3);
    assert_eq!(repeats_waiting(&replicas.one).await, 1);
    assert_eq!(verdict(&replicas.other, &event).await, 7, "it cannot know");
    replicas.links[0].set(Passes::Whole);
    until("it was written", async || repeats_waiting(&replicas.one).await == 0).await.unwrap();
    until("it was written", async || exchanged(&replicas.one, "written").await == 1).await.unwrap();
    assert_eq!(verdict(&replicas.other, &event).await, 3);
    assert_eq!(replicas.backend.count(), 1);
    replicas.end().await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_up_and_any_replica_may_decide() {
    let _machine = MACHINE.read().await;
    for passes in [Passes::Requests, Passes::HalfAnAnswer] {
        let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
        greeted(&replicas).await;
        let event = Event::bind("sn-lost");
        replicas.links[0].set(passes);
        assert_eq!(verdict(&replicas.one, &event).await, 7, "{passes:?}");
        let given_up = async || replicas.redis.names().unwrap().is_empty();
        until("it was given up", given_up).await.unwrap();
        replicas.links[0].set(Passes::Whole);
        assert_eq!(replicas.backend.count(), 0);
        assert_eq!(verdict(&replicas.other, &event).await, 0, "{passes:?}");
        assert_eq!(verdict(&replicas.one, &event).await, 0, "{passes:?}");
        assert_eq!(replicas.backend.count(), 1, "{passes:?}");
        replicas.end().await;
    }
}

#[tokio::test]
async fn a_lost_claim_that_could_not_be_given_up_is_adopted_by_its_own_replica_alone() {
    let _machine = MACHINE.read().await;
    for passes in [Passes::Requests, Passes::HalfAnAnswer] {
        let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
        greeted(&replicas).await;
        let event = Event::bind("sn-lost");
        replicas.links[0].set(passes);
        replicas.redis.run(&format!("ACL SETUSER {USER} -eval")).unwrap();
        assert_eq!(verdict(&replicas.one, &event).await, 7, "{passes:?}");
        let tried = async || {
            let failed =
                ["unreachable", "refused", "unreadable"].map(async |result| exchanged(&replicas.one, result).await);
            let [one, two, three] = failed;
            one.await + two.await + three.await == 2
        };
        until("it could not be given up", tried).await.unwrap();
        replicas.redis.run(&format!("ACL SETUSER {USER} +eval")).unwrap();
        replicas.links[0].set(Passes::Whole);
        assert_eq!(replicas.redis.names().unwrap().len(), 1, "{passes:?}: it was claimed");
        assert_eq!(verdict(&replicas.other, &event).await, 7, "{passes:?}: who claimed it may be at work");
        assert_eq!(replicas.backend.count(), 0);
        assert_eq!(verdict(&replicas.one, &event).await, 0, "{passes:?}: who claimed it can tell that nobody is");
        assert_eq!(verdict(&replicas.other, &event).await, 0, "{passes:?}");
        assert_eq!(exchanged(&replicas.one, "orphan").await, 1, "{passes:?}");
        assert_eq!(replicas.backend.count(), 1, "{passes:?}");
        replicas.end().await;
    }
}

/// A greeting that Redis half refused would leave a record of its own.
async fn greeted(replicas: &Replicas) {
    for replica in [&replicas.one, &replicas.other] {
        let greeted = async || exchanged(replica, "greeted").await == 1;
        until("Redis was greeted", greeted).await.unwrap();
    }
}

#[tokio::test]
async fn a_verdict_gives_way_to_whoever_claimed_after_redis_forgot() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    let third = replica(&replicas.backend, replicas.redis.port(), Bootstrap::patient).await;
    let verdict_after = |errcode, ms| Behaviour::verdict(errcode).after(Duration::from_millis(ms));
    replicas.backend.in_turn([verdict_after(3, 600), verdict_after(4, 1400)]);
    let event = Event::bind("sn-forgotten");
    let later = async {
        replicas.backend.wait_for(1).await.unwrap();
        let name = &replicas.redis.names().unwrap()[0];
        replicas.redis.run(&format!("DEL {name}")).unwrap();
        let last = async {
            replicas.backend.wait_for(2).await.unwrap();
            until("the first was told", async || exchanged(&replicas.one, "superseded").await == 1).await.unwrap();
            verdict(&third, &event).await
        };
        tokio::join!(verdict(&replicas.other, &event), last)
    };
    let (first, (second, last)) = tokio::join!(verdict(&replicas.one, &event), later);
    assert_eq!((first, second, last), (3, 4, 4), "what Redis forgot is delivered again, and its last claim stands");
    assert_eq!(replicas.backend.count(), 2);
    end(third).await;
    replicas.end().await;
}
