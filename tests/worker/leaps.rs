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
