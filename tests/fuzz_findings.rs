//! What fuzzing has found, each case as the shortest sequence of steps that showed it. What must hold
//! is asserted in `fuzz/src/exchange/oracle.rs`.
#![cfg(not(target_family = "wasm"))]
#![allow(missing_docs)]

use fuzz::exchange::{Step, input};

/// No freshness, records of one second (and of five with the newer configuration), room for 64.
const SHORT_RECORDS: [u8; 4] = [1, 0, 1, 3];

const BIND_ARRIVES: Step = Step::Arrive { worker: 0, what: 0, flaw: 0 };
const UNBIND_ARRIVES: Step = Step::Arrive { worker: 0, what: 3, flaw: 0 };
const CALLS_ARE_MADE: Step = Step::ReadAllQueues;
const THE_CLOCK_LEAPS: Step = Step::Leap { direction: 0, seconds: 9 };

/// A call ends well, with `success`.
const fn call_ends(call: u8) -> Step {
    Step::EndCall { call, response: 8 }
}

fn exchange(steps: &[Step]) {
    let target = fuzz::TARGETS.into_iter().find(|target| target.name() == "exchange");
    assert!(target.is_some());
    if let Some(target) = target {
        target.run(&input(SHORT_RECORDS, steps));
    }
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
