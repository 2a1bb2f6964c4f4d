//! Copies that arrive while the upstream call for the first one is in progress.

use std::collections::BTreeSet;

use testbed::backend::Behaviour;
use testbed::wecom::{Event, unix_now};
use tokio::task::JoinSet;

use super::*;

const CONNECTIONS: usize = 100;
const COPIES: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_copies_on_two_workers_are_one_request_upstream() {
    let _machine = MACHINE.read().await;
    let edge = Edge::start(patient).await;
    edge.backend.always(Behaviour::verdict_with(4, "型号不符").after(Duration::from_millis(400)));
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::http2()).collect();
    for client in &clients {
        client.get(&edge.url()).await.unwrap();
    }
    let connections = edge.envoy.connections_held().await.unwrap();
    assert_eq!(connections, [CONNECTIONS as u64 / 2; 2], "both workers take part");

    let account = &edge.account;
    let (bytes, sealed, swapped) = (Event::bind("sn-bytes"), Event::bind("sn-sealed"), Event::bind("sn-swapped"));
    let same = account.seal(&bytes);
    edge.flood(&clients, "sn-bytes", vec![same; COPIES]).await;
    edge.flood(&clients, "sn-sealed", (0..COPIES).map(|_| account.seal(&sealed)).collect()).await;
    // The nonce is itself a fresh timestamp, so a copy with the two swapped is valid as well.
    let now = unix_now();
    let one = account.seal_at(&swapped, now, &(now + 1).to_string());
    let both = [one.clone(), one.swapped()];
    edge.flood(&clients, "sn-swapped", both.into_iter().cycle().take(COPIES).collect()).await;

    edge.assert_clean().await;
}

impl Edge {
    /// Sends all copies at once over those connections.
    async fn flood(&self, clients: &[Client], device_sn: &str, copies: Vec<Request>) {
        let [refused, told, replayed] = self.endings().await;
        let mut sending = JoinSet::new();
        for (position, copy) in copies.into_iter().enumerate() {
            let (client, url) = (clients[position % clients.len()].clone(), self.url());
            sending.spawn(async move { client.send(&url, &copy).await.unwrap() });
        }
        let answers = sending.join_all().await;

        let replies: Vec<_> = answers.iter().map(|answer| answer.decrypt(&self.account).unwrap()).collect();
        let verdicts: BTreeSet<_> = replies.iter().map(|reply| (reply.errcode(), reply.errmsg())).collect();
        assert_eq!(verdicts, BTreeSet::from([(Some(4), Some("型号不符".to_owned()))]), "{device_sn}");
        assert_eq!(replies.len(), COPIES);
        let nonces: BTreeSet<_> = replies.iter().map(|reply| &reply.nonce).collect();
        assert_eq!(nonces.len(), COPIES, "each answer is sealed anew");
        assert_eq!(self.backend.requests_for(device_sn).len(), 1, "{device_sn}");

        let [refused, told, replayed] = {
            let now = self.endings().await;
            [now[0] - refused, now[1] - told, now[2] - replayed]
        };
        assert_eq!((refused, told + replayed), (1, COPIES as u64 - 1));
        assert!(told > 0, "some were in flight together");
    }

    /// How many binds were refused by the backend, shared a verdict in flight, and got a recorded one.
    async fn endings(&self) -> [u64; 3] {
        [
            self.ended("bind", "refused").await.unwrap(),
            self.ended("bind", "duplicate_in_flight").await.unwrap(),
            self.ended("bind", "duplicate").await.unwrap(),
        ]
    }
}

#[tokio::test]
async fn a_copy_on_either_worker_is_answered_as_soon_as_the_verdict_is_there() {
    let _machine = MACHINE.read().await;
    let edge = Edge::start(patient).await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::verdict(3).after(Duration::from_millis(500)));
    for first in [0, 1] {
        edge.backend.forget();
        let told_before = edge.ended("bind", "duplicate_in_flight").await.unwrap();
        let bind = Event::bind("sn-told");
        let sent = Instant::now();
        let first = edge.sending(&clients[first], edge.account.seal(&bind));
        edge.backend.wait_for(1).await.unwrap();
        let copies = clients.each_ref().map(|client| edge.sending(client, edge.account.seal(&bind)));
        for copy in copies {
            assert_eq!(edge.errcode(&copy.await.unwrap()), Some(3));
        }
        assert_eq!(edge.errcode(&first.await.unwrap()), Some(3));
        assert!(
            sent.elapsed() < Duration::from_millis(2000),
            "not at its own deadline of 2500 ms: {:?}",
            sent.elapsed()
        );
        assert_eq!(edge.ended("bind", "duplicate_in_flight").await.unwrap(), told_before + 2);
        assert_eq!(edge.backend.count(), 1);
    }
    edge.assert_clean().await;
}

#[tokio::test]
async fn a_verdict_reaches_the_copies_though_the_first_client_disconnects() {
    let _machine = MACHINE.read().await;
    let edge = Edge::start(patient).await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::verdict(2).after(Duration::from_millis(1500)));
    let bind = Event::bind("sn-left");
    let first = edge.sending(&Client::http1(), edge.account.seal(&bind));
    edge.backend.wait_for(1).await.unwrap();
    let mut copies = vec![edge.sending(&clients[0], edge.account.seal(&bind))];
    edge.until_waiting(1).await.unwrap();
    first.abort();
    edge.envoy.access_log_line(|line| line["outcome"] == "client_gone").await.unwrap();
    copies.push(edge.sending(&clients[1], edge.account.seal(&bind)));
    edge.until_waiting(2).await.unwrap();

    for copy in copies {
        assert_eq!(edge.errcode(&copy.await.unwrap()), Some(2));
    }
    edge.until_ended("bind", "duplicate_in_flight", 2).await.unwrap();
    edge.until_ended("bind", "refused", 1).await.unwrap(); // it was decided, though nobody was told
    for client in &clients {
        assert_eq!(edge.errcode(&edge.send(client, &edge.account.seal(&bind)).await), Some(2));
    }
    edge.until_ended("bind", "duplicate", 2).await.unwrap();
    assert_eq!(edge.backend.count(), 1);
    edge.assert_clean().await;
}

#[tokio::test]
async fn a_copy_whose_client_disconnects_no_longer_waits() {
    let _machine = MACHINE.read().await;
    let edge = Edge::start(patient).await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::verdict(2).after(Duration::from_millis(1500)));
    let bind = Event::bind("sn-copy-left");
    let first = edge.sending(&clients[0], edge.account.seal(&bind));
    edge.backend.wait_for(1).await.unwrap();
    let copies = clients.each_ref().map(|client| edge.sending(client, edge.account.seal(&bind)));
    edge.until_waiting(2).await.unwrap();
    for copy in &copies {
        copy.abort();
    }
    edge.until_waiting(0).await.unwrap();
    edge.until_ended("bind", "client_gone", 2).await.unwrap();
    assert_eq!(edge.errcode(&first.await.unwrap()), Some(2));
    edge.assert_clean().await;
}

#[tokio::test]
async fn copies_of_a_call_that_never_ends_are_refused_by_the_deadline() {
    let _machine = MACHINE.read().await;
    let edge = Edge::start(|bootstrap| {
        bootstrap.edit_plugin_value(|value| value["endpoints"][0]["decision"]["timeout_ms"] = 1500.into())
    })
    .await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::hang());
    let bind = Event::bind("sn-hangs");
    let first = edge.sending(&clients[0], edge.account.seal(&bind));
    edge.backend.wait_for(1).await.unwrap();
    let copies = clients.each_ref().map(|client| edge.sending(client, edge.account.seal(&bind)));
    edge.until_waiting(2).await.unwrap();
    for waiting in [first].into_iter().chain(copies) {
        let answer = waiting.await.unwrap();
        assert_eq!(edge.errcode(&answer), Some(7));
        assert!(answer.elapsed < Duration::from_secs(3), "WeCom has given up: {:?}", answer.elapsed);
    }
    assert_eq!(edge.backend.count(), 1);
    edge.assert_clean().await;
}
