//! Many connections that send nothing, or start requests and never finish them. Callbacks must be
//! served as usual meanwhile.

use std::time::Duration;

use bytes::Bytes;
use testbed::waiting::until;
use testbed::wecom::Client;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::wire::{self, Wire};
use crate::{Bound, Edge};

const CROWD: usize = 1000;

async fn crowd(edge: &Edge, say: impl Fn(usize) -> Vec<u8>) -> Vec<Wire> {
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        let mut wire = Wire::open(edge.envoy.address()).await;
        let words = say(n);
        if !words.is_empty() {
            assert!(wire.write(&words).await);
        }
        crowd.push(wire);
    }
    crowd
}

/// Sends ten callbacks, each on a new connection; each must be answered within WeCom's 3 s.
async fn callbacks_are_served(edge: &Edge, meanwhile: &str) {
    for _ in 0..10 {
        let bind = edge.bind();
        let answer = Client::http1().send(&edge.url(), &bind.request).await.unwrap();
        edge.check(meanwhile, &bind, Some(&answer), Bound);
        assert!(answer.elapsed < Duration::from_secs(3), "{meanwhile}: {:?}", answer.elapsed);
    }
}

/// Waits until a gauge is no larger than that.
async fn falls_to(edge: &Edge, gauge: &str, most: u64) {
    let (what, mut now) = (format!("{gauge} was {most} or less"), 0);
    let fallen = until(&what, async || {
        now = edge.envoy.stat(gauge).await.unwrap_or_else(|| panic!("no gauge {gauge}"));
        now <= most
    });
    let fallen = fallen.await;
    fallen.unwrap_or_else(|error| panic!("{error:#}: it is {now}"));
}

const CONNECTIONS: &str = "http.edge.downstream_cx_active";
const REQUESTS: &str = "http.edge.downstream_rq_active";

#[tokio::test]
async fn a_thousand_stalled_connections_delay_nobody_and_leave_nothing_behind() {
    let edge = Edge::start().await;
    let before = edge.envoy.stat(CONNECTIONS).await.unwrap();

    let idle = crowd(&edge, |_| Vec::new()).await;
    callbacks_are_served(&edge, "a thousand idle connections").await;

    // In turn: stuck in the request line, in the headers, before the body, twice in the body.
    let half_sent = crowd(&edge, |n| {
        let bind = edge.bind();
        let (bytes, body) = (bind.bytes(&[]), bind.body().len());
        let head = bytes.len() - body;
        bytes[..[20, head - 10, head, head + body / 2, head + body - 1][n % 5]].to_vec()
    })
    .await;
    callbacks_are_served(&edge, "a thousand half-sent requests").await;

    let asked = edge.decision.count();
    let mut ends = JoinSet::new();
    for mut wire in half_sent {
        ends.spawn(async move { wire.answer().await });
    }
    let (mut told, mut closed) = (0, 0);
    while let Some(end) = ends.join_next().await {
        match end.unwrap() {
            // Too slow for the filter's timeout or one of Envoy's.
            Some(answer) => {
                assert!(matches!(answer.status, 408 | 503 | 504), "{} {}", answer.status, answer.text());
                told += 1;
            }
            None => closed += 1,
        }
    }
    assert_eq!(told + closed, CROWD);
    assert!(told > CROWD / 2, "{closed} connections were closed without an answer");
    assert_eq!(edge.decision.count(), asked, "half a bind reached the decision endpoint");

    // Clients that disconnect in the middle of their requests.
    let leaving = crowd(&edge, |n| {
        let bytes = edge.bind().bytes(&[]);
        bytes[..bytes.len() - 1 - n % 100].to_vec()
    })
    .await;
    drop(leaving);
    drop(idle);
    callbacks_are_served(&edge, "after the crowds").await;
    falls_to(&edge, REQUESTS, 0).await;
    falls_to(&edge, CONNECTIONS, before).await;
    assert_eq!(edge.decision.count(), asked + 10);
    edge.end().await;
}

#[tokio::test]
async fn slow_senders_do_not_slow_down_the_others() {
    let edge = Edge::start().await;
    let mut slow = JoinSet::new();
    for _ in 0..50 {
        let mut wire = Wire::open(edge.envoy.address()).await;
        let bind = edge.bind();
        slow.spawn(async move {
            let (bytes, body) = (bind.bytes(&[]), bind.body().len());
            wire.write(&bytes[..bytes.len() - body]).await;
            let drip = async {
                let mut pace = tokio::time::interval(Duration::from_millis(100));
                // Until Envoy closes the connection.
                for byte in bind.body() {
                    pace.tick().await;
                    if !wire.write(&[byte]).await {
                        break;
                    }
                }
            };
            // Longer than any of Envoy's timeouts.
            let _ = tokio::time::timeout(Duration::from_secs(7), drip).await;
            (bind, wire.answer().await)
        });
    }
    let client = Client::http1();
    let mut served = 0;
    let mut ended = None;
    while ended.is_none() {
        let bind = edge.bind();
        let answer = client.send(&edge.url(), &bind.request).await.unwrap();
        assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0));
        assert!(answer.elapsed < Duration::from_secs(3), "{:?}", answer.elapsed);
        served += 1;
        tokio::time::sleep(Duration::from_millis(10)).await; // limits the rate
        ended = slow.try_join_next();
    }
    assert!(served > 20, "only {served}");
    while let Some(end) = ended {
        let (bind, answer) = end.unwrap();
        assert_eq!(edge.decision.requests_for(&bind.device_sn).len(), 0);
        if let Some(answer) = answer {
            assert!(matches!(answer.status, 408 | 503 | 504), "{} {}", answer.status, answer.text());
        }
        ended = slow.join_next().await;
    }
    falls_to(&edge, REQUESTS, 0).await;
    edge.end().await;
}

#[tokio::test]
async fn clients_that_never_read_their_answers_hold_nothing_for_long() {
    let edge = Edge::start().await;
    let before = edge.envoy.stat(CONNECTIONS).await.unwrap();
    let mut unread = Vec::new();
    for n in 0..40 {
        let connection = TcpStream::connect(edge.envoy.address()).await.unwrap();
        // With a window of 0, so that Envoy can never send the body of an answer.
        let (mut sender, connection) =
            h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(connection).await.unwrap();
        let driver = tokio::spawn(connection);
        let bind = edge.bind();
        let forged = if n % 2 == 0 { "" } else { "0" };
        let uri = format!("http://edge.example{}{forged}", bind.target());
        let (response, mut body) = sender.send_request(http::Request::post(uri).body(()).unwrap(), false).unwrap();
        match n % 4 {
            0 | 1 => body.send_data(bind.body().into(), true).unwrap(),
            2 => body.send_data(vec![b' '; 100_000].into(), false).unwrap(), // too large
            _ => {}                                                          // no body at all
        }
        unread.push((sender, response, body, driver));
    }
    edge.decision.wait_for(10).await.unwrap();
    callbacks_are_served(&edge, "beside answers that nobody reads").await;
    // The requests end though their clients are still connected.
    falls_to(&edge, REQUESTS, 0).await;
    for (_, _, _, driver) in &unread {
        driver.abort();
    }
    drop(unread);
    falls_to(&edge, CONNECTIONS, before).await;
    assert_eq!(edge.decision.count(), 20);
    edge.end().await;
}

#[tokio::test]
async fn a_flood_of_forged_requests_does_not_delay_valid_ones() {
    let edge = Edge::start().await;
    let address = edge.envoy.address();
    let mut forgers = JoinSet::new();
    for _ in 0..8 {
        let bind = edge.bind();
        let forged = wire::request("POST", format!("{}0", bind.target()).as_bytes(), &[], &bind.body());
        forgers.spawn(async move {
            let mut wire = Wire::open(address).await;
            for _ in 0..250 {
                let answer = wire.ask(&forged).await.expect("an answer on a kept connection");
                assert_eq!((answer.status, answer.rejection().as_deref()), (403, Some("bad_signature")));
            }
        });
    }
    callbacks_are_served(&edge, "beside forgers").await;
    while let Some(end) = forgers.join_next().await {
        end.unwrap();
    }
    assert_eq!(edge.decision.count(), 10);
    edge.end().await;
}
