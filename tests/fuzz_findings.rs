//! What fuzzing has found, each case as the shortest sequence of steps that showed it. The numbers
//! are those of `World::step` in `fuzz/src/exchange/world.rs`; what must hold is asserted there.
#![cfg(not(target_family = "wasm"))]
#![allow(missing_docs)]

/// No freshness, records of one second (and of five with the newer configuration), room for 64.
const SHORT_RECORDS: [u8; 4] = [1, 0, 1, 3];

const BIND_ARRIVES: [u8; 4] = [0, 0, 0, 0];
const UNBIND_ARRIVES: [u8; 4] = [0, 0, 3, 0];
const CALLS_ARE_MADE: [u8; 4] = [15, 0, 0, 0];
const THE_CLOCK_LEAPS: [u8; 4] = [9, 0, 9, 0];

/// A call ends well, with `success`.
const fn call_ends(n: u8) -> [u8; 4] {
    [11, n, 8, 0]
}

fn exchange(steps: &[[u8; 4]]) {
    fuzz::exchange(&[&[SHORT_RECORDS], steps].concat().concat());
}

#[test]
fn a_call_that_outlives_its_record_concludes_no_other_claim() {
    exchange(&[UNBIND_ARRIVES, CALLS_ARE_MADE, THE_CLOCK_LEAPS, BIND_ARRIVES, call_ends(0)]);
}

/// It was errcode 7, but counted as `delivered`.
#[test]
fn a_bind_that_hears_of_another_types_call_counts_as_failed() {
    exchange(&[BIND_ARRIVES, THE_CLOCK_LEAPS, UNBIND_ARRIVES, CALLS_ARE_MADE, call_ends(1)]);
}
