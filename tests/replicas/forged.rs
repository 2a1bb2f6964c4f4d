//! Whoever can write to Redis can make callbacks fail, and nothing else. `on_error` is `local` here, which
//! must not help them.

use testbed::backend::Behaviour;

use super::*;

async fn start() -> Option<Replicas> {
    let replicas = Replicas::start_with(|bootstrap| alone(bootstrap.patient())).await?;
    replicas.backend.on_device("sn-approved", Behaviour::verdict(0));
    replicas.backend.on_device("sn-refused", Behaviour::verdict(3));
    Some(replicas)
}

/// Has a bind decided on one replica, and gives its record's name.
async fn decided(replicas: &Replicas, event: &Event, expected: u32) -> String {
    let known = replicas.redis.names().unwrap();
    assert_eq!(verdict(&replicas.one, event).await, expected);
    let new: Vec<_> = replicas.redis.names().unwrap().into_iter().filter(|name| !known.contains(name)).collect();
    assert_eq!(new.len(), 1, "one key a record: {new:?}");
    new[0].clone()
}

#[tokio::test]
async fn a_forged_record_is_errcode_7() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = start().await else { return };
    let event = Event::bind("sn-refused");
    let name = decided(&replicas, &event, 3).await;
    let true_value = replicas.redis.value(&name).unwrap();
    let flipped = |index: usize| {
        let mut value = true_value.clone();
        value[index] ^= 1;
        value
    };
    let mut forged: Vec<_> = (0..true_value.len()).step_by(7).map(flipped).collect();
    forged.push(flipped(true_value.len() - 1));
    forged.push(true_value[..true_value.len() - 1].to_vec());
    forged.push([&true_value[..], b"\0"].concat());
    forged.extend([Vec::new(), b"1".to_vec(), br#"{"errcode":0}"#.to_vec()]);
    for value in &forged {
        replicas.redis.put(&name, value).unwrap();
        assert_eq!(verdict(&replicas.other, &event).await, 7, "{}", value.escape_ascii());
    }
    assert_eq!(exchanged(&replicas.other, "forged").await, forged.len() as u64);
    replicas.other.envoy.wait_for_log("dedup.redis: cluster 'record': a record that does not hold").await.unwrap();
    replicas.redis.put(&name, &true_value).unwrap();
    assert_eq!(verdict(&replicas.other, &event).await, 3, "the record itself was right");
    assert_eq!(replicas.backend.count(), 1);
    replicas.end().await;
}

#[tokio::test]
async fn two_records_whose_values_are_exchanged_are_errcode_7() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = start().await else { return };
    let (approved, refused) = (Event::bind("sn-approved"), Event::bind("sn-refused"));
    let names = [decided(&replicas, &approved, 0).await, decided(&replicas, &refused, 3).await];
    let [of_approved, of_refused] =
        [replicas.redis.value(&names[0]).unwrap(), replicas.redis.value(&names[1]).unwrap()];
    replicas.redis.put(&names[0], &of_refused).unwrap();
    replicas.redis.put(&names[1], &of_approved).unwrap();
    for event in [&approved, &refused] {
        assert_eq!(verdict(&replicas.other, event).await, 7);
    }
    replicas.redis.put(&names[0], &of_approved).unwrap();
    replicas.redis.put(&names[1], &of_refused).unwrap();
    assert_eq!((verdict(&replicas.other, &approved).await, verdict(&replicas.other, &refused).await), (0, 3));
    assert_eq!(replicas.backend.count(), 2);
    replicas.end().await;
}

#[tokio::test]
async fn a_key_of_another_type_is_errcode_7() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = start().await else { return };
    let event = Event::bind("sn-approved");
    let name = decided(&replicas, &event, 0).await;
    for command in ["LPUSH", "SADD", "PFADD"] {
        replicas.redis.run(&format!("DEL {name}")).unwrap();
        replicas.redis.run(&format!("{command} {name} x")).unwrap();
        assert_eq!(verdict(&replicas.other, &event).await, 7, "{command}");
    }
    assert_eq!(exchanged(&replicas.other, "forged").await, 3);
    assert_eq!(verdict(&replicas.one, &event).await, 0, "its own record is still right");
    assert_eq!(replicas.backend.count(), 1);
    replicas.end().await;
}
