//! A wall clock that leaps farther than records live.

use super::*;

/// A verdict that is written down while the clock is wrong is still known when it is right again.
#[test]
fn a_clock_that_is_set_back_and_right_again_forgets_no_verdict() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let right_ms = edge.process.now_ms();
    edge.process.set_clock(right_ms - 2_000_000); // `ttl_seconds` is 1260
    edge.decides(call, 4);
    edge.verdict(first, 4, "refused");
    edge.process.set_clock(right_ms + 1_000);
    let copy = edge.arrive(0, &request);
    edge.process.settle_messages();
    assert_eq!(edge.process.calls_made(), 1, "delivered again");
    edge.verdict(copy, 4, "duplicate");
    edge.is_quiet();
}

/// Two workers and one set of records, in which thirty binds are bound.
fn with_thirty_bound(change: impl Fn(&mut serde_json::Value)) -> (Edge, Vec<Request>) {
    let edge = Edge::without_workers();
    for _ in 0..2 {
        edge.start_worker(|config| {
            config["dedup"] = json!({ "capacity": 64 });
            change(config);
        });
    }
    let requests: Vec<_> = (0..30).map(|n| edge.seal(Event::bind("sn").req_id(&format!("r{n}")))).collect();
    requests.iter().for_each(|request| bound(&edge, request));
    (edge, requests)
}

fn bound(edge: &Edge, request: &Request) {
    let (id, call) = edge.called(0, request);
    edge.decides(call, 0);
    edge.verdict(id, 0, "bound");
}

/// Sends them once more, which must call nobody.
fn all_are_known(edge: &Edge, requests: &[Request]) {
    let before = edge.process.calls_made();
    for request in requests {
        edge.arrive(0, request);
        edge.process.settle_messages();
    }
    assert_eq!(edge.process.calls_made(), before, "delivered again");
}

/// A verdict that is written down while the clock is ahead makes nothing else be forgotten.
#[test]
fn a_verdict_of_a_clock_that_is_ahead_forgets_no_other() {
    let (edge, requests) = with_thirty_bound(|_| {});
    edge.pass(60_000);
    let (first, call) = edge.called(0, &edge.seal(Event::bind("sn").req_id("late")));
    let right_ms = edge.process.now_ms();
    edge.process.set_clock(right_ms + 1_230_000); // the thirty have expired, and this one has not
    edge.decides(call, 0);
    edge.verdict(first, 0, "bound");
    edge.process.set_clock(right_ms + 1_000);
    all_are_known(&edge, &requests);
}

/// Nor does a callback that is new to a clock that is ahead by less than records live.
#[test]
fn a_new_callback_of_a_clock_that_is_ahead_forgets_no_other() {
    for (freshness, ahead_ms) in [(0, 61_000), (600, 1_300_000)] {
        let (edge, requests) = with_thirty_bound(|config| config["freshness_seconds"] = json!(freshness));
        let right_ms = edge.process.now_ms();
        edge.process.set_clock(right_ms + ahead_ms);
        bound(&edge, &edge.seal(Event::bind("sn").req_id("ahead")));
        edge.process.set_clock(right_ms + 1_000);
        all_are_known(&edge, &requests);
    }
}
