//! The whole exchange: several workers over one record, several copies of several callbacks, and
//! whatever can happen to them, in any order.
//!
//! The first four bytes choose a configuration, every further four are one step. What WeCom sent
//! is known ([`letter`]), and so is what each upstream's response means ([`script`]); between the
//! two stands a model of the adapter ([`world`]), which carries out what the state machines ask
//! for. Every answer is held against what is known:
//!
//! * An authenticated bind is answered with a sealed verdict and nothing else; with another than
//!   errcode 7 only if a call for its record came back with just that.
//! * A record has one call at most while it lives.
//! * Every request is answered once, in time and with a body, or its client has left.
//! * What is not authentic never gets as far as a claim.

mod letter;
mod script;
mod world;

use self::script::SCRIPT;
use self::world::World;
use crate::seeds::{Seed, seed};

/// Longest sequence of steps that is carried out.
const MAX_STEPS: usize = 120;

/// Four bytes of configuration, then four to a step.
pub fn exchange(data: &[u8]) {
    let Some((&choices, steps)) = data.split_first_chunk::<4>() else { return };
    let mut world = World::new(choices);
    for step in steps.as_chunks::<4>().0.iter().take(MAX_STEPS) {
        world.step(*step);
    }
    world.end();
}

/// Sequences that go a long way, for the search to begin with: a callback each and what becomes of
/// it. The steps' numbers are those of [`World::step`].
pub(crate) fn seeds() -> Vec<Seed> {
    const BIND: u8 = 0;
    const UNBIND: u8 = 3;
    const USER_SCAN: u8 = 4;
    const NAMELESS: u8 = 3 << 5;
    const WORK_OFF: [u8; 4] = [15, 0, 0, 0];
    const TICK: [u8; 4] = [7, 3, 0, 0];
    let arrives = |worker: u8, what: u8| [0, worker, what, 0];
    let ended = |response: u8| [11, 0, response, 0];
    let later = |units: u8| [8, 3, units, 0];
    let sequence = |name: &str, config: [u8; 4], steps: &[[u8; 4]]| seed(name, [&[config], steps].concat().concat());
    let usual = [0, 0, 1, 3];
    let mut seeds = vec![
        sequence("bound", usual, &[arrives(0, BIND), WORK_OFF, ended(1), arrives(1, BIND)]),
        sequence(
            "copies-in-flight",
            usual,
            &[arrives(0, BIND), arrives(0, BIND), arrives(1, BIND), WORK_OFF, later(1), ended(3), WORK_OFF, TICK],
        ),
        sequence("copy-times-out", usual, &[arrives(0, BIND), arrives(2, BIND), WORK_OFF, later(5), TICK, ended(1)]),
        sequence("released", usual, &[arrives(0, UNBIND), arrives(1, UNBIND), WORK_OFF, ended(0), arrives(1, UNBIND)]),
        sequence("object", usual, &[arrives(0, USER_SCAN), WORK_OFF, ended(15), arrives(1, USER_SCAN)]),
        sequence(
            "long-object",
            usual,
            &[
                arrives(0, USER_SCAN),
                arrives(0, USER_SCAN),
                arrives(1, USER_SCAN),
                WORK_OFF,
                ended(16),
                arrives(1, USER_SCAN),
            ],
        ),
        sequence("nameless", [1, 0, 0, 2], &[arrives(0, NAMELESS), arrives(1, NAMELESS), WORK_OFF, ended(8)]),
        sequence("client-gone", usual, &[arrives(0, BIND), WORK_OFF, [6, 0, 0, 0], ended(1), arrives(0, BIND)]),
        sequence("worker-dies", usual, &[arrives(0, BIND), arrives(1, BIND), WORK_OFF, [14, 0, 0, 0], later(6), TICK]),
        sequence("slow-body", usual, &[[3, 0, BIND, 0], [5, 0, 2, 0], [4, 0, 0, 0], WORK_OFF, ended(1)]),
        sequence("no-body", usual, &[[3, 0, BIND, 0], later(10), TICK]),
        sequence("expired", [1, 0, 0, 0], &[arrives(0, BIND), WORK_OFF, ended(1), [9, 0, 9, 0], arrives(1, BIND)]),
        sequence("full", [0, 0, 0, 0], &[arrives(0, BIND), arrives(1, BIND | 32)]),
        sequence("crowded", usual, &[arrives(0, BIND), [13, 5, 0, 0], arrives(1, BIND), later(1), TICK, TICK]),
        sequence("not-woken", usual, &[[13, 2, 1, 0], arrives(0, BIND), arrives(1, BIND)]),
        sequence("no-call", usual, &[[13, 3, 1, 0], arrives(0, BIND), WORK_OFF, arrives(1, BIND)]),
        sequence("no-random", usual, &[[13, 0, 1, 0], arrives(0, BIND), [13, 0, 3, 0], WORK_OFF, ended(1)]),
        sequence("not-recorded", usual, &[arrives(0, BIND), WORK_OFF, [13, 1, 70, 0], ended(1), arrives(1, BIND)]),
        sequence("lost", usual, &[arrives(0, BIND), [13, 4, 0, 0], WORK_OFF, ended(1), TICK]),
    ];
    for flaw in 192..192 + letter::FLAWS.len() as u8 {
        seeds.push(sequence(&format!("flaw-{flaw}"), usual, &[[0, 0, BIND, flaw], WORK_OFF, ended(1)]));
    }
    for body in 248..=255 {
        seeds.push(sequence(&format!("body-{body}"), usual, &[[3, 0, BIND, 0], [4, 0, body, 0], WORK_OFF]));
    }
    seeds
}

/// The scripted responses, as the target `reply` takes them.
pub(crate) fn responses() -> impl Iterator<Item = (usize, Vec<u8>)> {
    let small = SCRIPT.iter().filter_map(|scripted| scripted.response).filter(|response| response.body.len() < 4096);
    small.enumerate().filter_map(|(n, response)| {
        let status: [u8; 3] = response.status.try_into().ok()?;
        let event = if n % 2 == 0 { 0 } else { 7 };
        Some((n, [&[1 | u8::from(response.framed) << 1, event], status.as_slice(), response.body].concat()))
    })
}
