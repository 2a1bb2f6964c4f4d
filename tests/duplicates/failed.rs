//! Copies of a callback that failed: a bind is never sent upstream again, any other callback is.

use testbed::backend::Behaviour;
use testbed::wecom::Event;

use super::*;

fn failures() -> [Behaviour; 4] {
    [Behaviour::status(500), Behaviour::cut_off(), Behaviour::reset(), Behaviour::hang()]
}

#[tokio::test]
async fn a_bind_that_failed_stays_refused_though_the_upstream_recovers() {
    let edge = Edge::start(|bootstrap| bootstrap).await;
    let clients = edge.one_client_per_worker().await.unwrap();
    for failure in failures() {
        let words = failure.to_string();
        edge.backend.forget();
        edge.backend.always(failure);
        let bind = Event::bind("sn-failed");
        assert_eq!(edge.errcode(&edge.send(&clients[0], &edge.account.seal(&bind)).await), Some(7), "{words}");
        edge.backend.always(Behaviour::verdict(0));
        for client in &clients {
            assert_eq!(edge.errcode(&edge.send(client, &edge.account.seal(&bind)).await), Some(7), "{words}");
        }
        assert_eq!(edge.backend.count(), 1, "{words}");
        let next = Event::bind("sn-failed");
        assert_eq!(edge.errcode(&edge.send(&clients[0], &edge.account.seal(&next)).await), Some(0), "{words}");
    }
    edge.until_ended("bind", "duplicate", 8).await.unwrap();
    edge.assert_clean().await;
}

#[tokio::test]
async fn an_event_that_failed_is_delivered_when_it_is_sent_again() {
    let edge = Edge::start(|bootstrap| bootstrap).await;
    let clients = edge.one_client_per_worker().await.unwrap();
    for failure in failures() {
        let words = failure.to_string();
        edge.backend.forget();
        edge.backend.always(failure);
        let unbind = Event::unbind("sn-released");
        let answer = edge.send(&clients[0], &edge.account.seal(&unbind)).await;
        assert_eq!(answer.status, 503, "{words}");
        assert!(answer.rejection().is_some(), "{words}");
        edge.backend.always(Behaviour::success());
        for client in [&clients[1], &clients[0], &clients[1]] {
            let answer = edge.send(client, &edge.account.seal(&unbind)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "success"), "{words}");
        }
        assert_eq!(edge.backend.count(), 2, "{words}: one failed attempt, one delivery, and no further one");
    }
    edge.until_ended("unbind", "delivered", 4).await.unwrap();
    edge.until_ended("unbind", "duplicate", 8).await.unwrap();
    edge.assert_clean().await;
}

#[tokio::test]
async fn copies_in_flight_share_the_failure_and_the_next_one_is_delivered() {
    let _machine = MACHINE.read().await;
    let edge = Edge::start(patient).await;
    let clients = edge.one_client_per_worker().await.unwrap();
    edge.backend.always(Behaviour::status(500).after(Duration::from_millis(1500)));
    let unbind = Event::unbind("sn-shared");
    let first = edge.sending(&clients[0], edge.account.seal(&unbind));
    edge.backend.wait_for(1).await.unwrap();
    let copies = clients.each_ref().map(|client| edge.sending(client, edge.account.seal(&unbind)));
    edge.until_waiting(2).await.unwrap();
    for waiting in [first].into_iter().chain(copies) {
        assert_eq!(waiting.await.unwrap().status, 503);
    }
    assert_eq!(edge.backend.count(), 1);
    edge.backend.always(Behaviour::success());
    let answer = edge.send(&clients[1], &edge.account.seal(&unbind)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "success"));
    assert_eq!(edge.backend.count(), 2);
    edge.assert_clean().await;
}
