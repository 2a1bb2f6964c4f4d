//! Whole callbacks: several of the filter's workers in one process, several copies of several
//! callbacks, and whatever can happen to them, in any order.
//!
//! The first four bytes choose a configuration, every further four are one [`Step`]. The workers are
//! the filter's own, on the host of the crate `model`; here stands only what they are held against.
//! What WeCom sent is known ([`request`]), and so is what each upstream's response means
//! ([`responses`]), so that the [`oracle`] knows of every answer whether it may be given:
//!
//! * An authenticated bind is answered with a sealed verdict and nothing else; with another than
//!   errcode 7 only if a call for its record came back with just that.
//! * A record has one call at most while it lives.
//! * Every request is answered once, in time and with a body, or its client has left.
//! * What is not authentic never gets as far as a call.

mod oracle;
mod request;
pub(crate) mod responses;
mod step;

use self::oracle::Oracle;
pub use self::step::{Step, trouble};
use crate::target::{Seed, Target, seed};

/// Longest sequence of steps that is carried out.
const MAX_STEPS: usize = 120;

/// Four bytes of configuration, then four to a step.
pub(crate) struct Exchange;

impl Target for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn run(&self, data: &[u8]) {
        let Some((&choices, steps)) = data.split_first_chunk::<4>() else { return };
        let steps: Vec<_> = steps.as_chunks::<4>().0.iter().take(MAX_STEPS).map(|step| Step::decode(*step)).collect();
        let _shown = ShownOnPanic(choices, &steps);
        let mut oracle = Oracle::new(choices);
        for step in &steps {
            oracle.step(*step);
        }
        oracle.end();
    }

    fn seeds(&self) -> Vec<Seed> {
        seeds()
    }
}

/// Tells the steps that broke a promise by their names.
struct ShownOnPanic<'a>([u8; 4], &'a [Step]);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("under {:?}: {:?}", self.0, self.1);
        }
    }
}

/// The input that means those steps under that configuration.
pub fn input(configuration: [u8; 4], steps: &[Step]) -> Vec<u8> {
    [configuration].into_iter().chain(steps.iter().map(|step| step.encode())).flatten().collect()
}

/// Sequences that go a long way, for the search to begin with: a callback each and what becomes of it.
fn seeds() -> Vec<Seed> {
    use Step::{Buffer, Complete, Kill, Leap, Leave, ReadAllQueues, Trouble};
    const BIND: u8 = 0;
    const UNBIND: u8 = 3;
    const USER_SCAN: u8 = 4;
    const NAMELESS: u8 = 3 << 5;
    const OTHER_ID: u8 = 32;
    const TICK: Step = Step::Tick { workers: 3 };
    let arrive = |worker, what| Step::Arrive { worker, what, flaw: 0 };
    let headers = |what| Step::ArriveWithoutBody { worker: 0, what, flaw: 0 };
    let ended = |response| Step::EndCall { call: 0, response };
    let later = |count| Step::Pass { unit: 3, count };
    let trouble = |kind, extent| Trouble { kind, extent };
    let sequence = |name: &str, config, steps: &[Step]| seed(name, input(config, steps));
    let usual = [0, 0, 1, 3];
    let mut seeds = vec![
        sequence("bound", usual, &[arrive(0, BIND), ReadAllQueues, ended(1), arrive(1, BIND)]),
        sequence(
            "copies-in-flight",
            usual,
            &[
                arrive(0, BIND),
                arrive(0, BIND),
                arrive(1, BIND),
                ReadAllQueues,
                later(1),
                ended(3),
                ReadAllQueues,
                TICK,
            ],
        ),
        sequence("copy-times-out", usual, &[arrive(0, BIND), arrive(2, BIND), ReadAllQueues, later(5), TICK, ended(1)]),
        sequence(
            "released",
            usual,
            &[arrive(0, UNBIND), arrive(1, UNBIND), ReadAllQueues, ended(0), arrive(1, UNBIND)],
        ),
        sequence("object", usual, &[arrive(0, USER_SCAN), ReadAllQueues, ended(15), arrive(1, USER_SCAN)]),
        sequence(
            "long-object",
            usual,
            &[
                arrive(0, USER_SCAN),
                arrive(0, USER_SCAN),
                arrive(1, USER_SCAN),
                ReadAllQueues,
                ended(16),
                arrive(1, USER_SCAN),
            ],
        ),
        sequence("nameless", [1, 0, 0, 2], &[arrive(0, NAMELESS), arrive(1, NAMELESS), ReadAllQueues, ended(8)]),
        sequence(
            "client-gone",
            usual,
            &[arrive(0, BIND), ReadAllQueues, Leave { stream: 0 }, ended(1), arrive(0, BIND)],
        ),
        sequence(
            "worker-dies",
            usual,
            &[arrive(0, BIND), arrive(1, BIND), ReadAllQueues, Kill { worker: 0 }, later(6), TICK],
        ),
        sequence(
            "slow-body",
            usual,
            &[headers(BIND), Buffer { stream: 0, blocks: 2 }, Complete { stream: 0, body: 0 }, ReadAllQueues, ended(1)],
        ),
        sequence("no-body", usual, &[headers(BIND), later(10), TICK]),
        sequence(
            "expired",
            [1, 0, 0, 0],
            &[arrive(0, BIND), ReadAllQueues, ended(1), Leap { direction: 0, seconds: 9 }, arrive(1, BIND)],
        ),
        sequence("full", [0, 0, 0, 0], &[arrive(0, BIND), arrive(1, BIND | OTHER_ID)]),
        sequence(
            "crowded",
            usual,
            &[arrive(0, BIND), trouble(trouble::CROWD, 0), arrive(1, BIND), later(1), TICK, TICK],
        ),
        sequence("not-woken", usual, &[trouble(trouble::NOT_SENT, 1), arrive(0, BIND), arrive(1, BIND)]),
        sequence(
            "wake-lost",
            usual,
            &[trouble(trouble::LOST_MESSAGE, 1), arrive(0, BIND), later(9), TICK, arrive(1, BIND)],
        ),
        sequence("no-call", usual, &[trouble(trouble::NO_CALL, 1), arrive(0, BIND), ReadAllQueues, arrive(1, BIND)]),
        sequence(
            "cancelled",
            usual,
            &[arrive(0, BIND), ReadAllQueues, trouble(trouble::CANCELLED_CALL, 0), later(9), TICK, arrive(1, BIND)],
        ),
        sequence(
            "no-random",
            usual,
            &[trouble(trouble::NO_RANDOM, 1), arrive(0, BIND), trouble(trouble::NO_RANDOM, 3), ReadAllQueues, ended(1)],
        ),
        sequence(
            "not-recorded",
            usual,
            &[arrive(0, BIND), ReadAllQueues, trouble(trouble::CONTENDED, 70), ended(1), arrive(1, BIND)],
        ),
        sequence("lost", usual, &[arrive(0, BIND), trouble(trouble::LOST_STREAM, 0), ReadAllQueues, ended(1), TICK]),
        sequence(
            "stale-notice",
            usual,
            &[
                arrive(1, UNBIND),
                ReadAllQueues,
                arrive(0, UNBIND),
                ended(0),
                arrive(0, UNBIND),
                ReadAllQueues,
                ended(8),
            ],
        ),
        sequence(
            "stale-verdict",
            [1, 0, 1, 3],
            &[
                arrive(1, BIND),
                ReadAllQueues,
                arrive(0, BIND),
                ended(1),
                Leap { direction: 0, seconds: 1 },
                arrive(0, BIND),
                ReadAllQueues,
                ended(3),
            ],
        ),
        sequence("ends-at-once", [4, 0, 1, 3], &[arrive(0, BIND), arrive(0, BIND), ReadAllQueues, ended(1)]),
    ];
    for flaw in 192..192 + request::FLAWS.len() as u8 {
        let arrive = Step::Arrive { worker: 0, what: BIND, flaw };
        seeds.push(sequence(&format!("flaw-{flaw}"), usual, &[arrive, ReadAllQueues, ended(1)]));
    }
    for body in 248..=255 {
        let steps = [headers(BIND), Complete { stream: 0, body }, ReadAllQueues];
        seeds.push(sequence(&format!("body-{body}"), usual, &steps));
    }
    seeds
}
