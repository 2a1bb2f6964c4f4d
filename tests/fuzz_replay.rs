//! The fuzz targets of `fuzz/`, on the stable compiler and without a search: over their seeds, and
//! over some thousand variations of them, the same ones every time.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::restriction, missing_docs)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const VARIATIONS: u32 = 2_000;

fn replay(name: &str) {
    let target = fuzz::target(name).unwrap();
    let seeds: Vec<_> = target.seeds().into_iter().map(|(_, bytes)| bytes).collect();
    assert!(!seeds.is_empty());
    for seed in &seeds {
        target.run(seed);
    }

    let config = Config { cases: VARIATIONS, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let edits = vec(edit(), 1..6);
    let outcome = runner.run(&(any::<Index>(), any::<Index>(), edits), |(one, other, edits)| {
        let mut bytes = one.get(&seeds).clone();
        for edit in edits {
            let other: &Vec<u8> = other.get(&seeds);
            edit.apply(&mut bytes, other);
        }
        target.run(&bytes);
        Ok::<_, TestCaseError>(())
    });
    if let Err(failure) = outcome {
        panic!("{name}: {failure}");
    }
}

/// What is done to a seed. The places are relative, so that each fits every length.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Truncate(Index),
    /// Goes on with another seed from there.
    Splice(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        2 => (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        2 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), 1..9_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => (at(), 1..65_usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        1 => at().prop_map(Edit::Truncate),
        2 => (at(), at()).prop_map(|(at, from)| Edit::Splice(at, from)),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, other: &[u8]) {
        let place = |at: &Index, len: usize| at.index(len + 1);
        let len = bytes.len();
        match self {
            Self::Set(at, byte) if len > 0 => bytes[at.index(len)] = *byte,
            Self::Flip(at, bit) if len > 0 => bytes[at.index(len)] ^= 1 << bit,
            Self::Set(..) | Self::Flip(..) => {}
            Self::Insert(at, more) => {
                let at = place(at, len);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(at, len);
                bytes.drain(at..len.min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = place(at, len);
                let piece = bytes[at..len.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Truncate(at) => bytes.truncate(place(at, len)),
            Self::Splice(at, from) => {
                bytes.truncate(place(at, len));
                bytes.extend(&other[place(from, other.len())..]);
            }
        }
    }
}

#[test]
fn no_query_is_read_as_another() {
    replay("query");
}

#[test]
fn no_body_gives_a_ciphertext_that_is_not_there() {
    replay("envelope");
}

#[test]
fn no_plaintext_under_a_known_key_is_taken_apart_wrongly() {
    replay("open");
}

#[test]
fn no_message_is_taken_for_another_callback() {
    replay("callback");
}

#[test]
fn no_response_binds_unless_it_says_so() {
    replay("reply");
}

#[test]
fn no_answer_of_redis_wins_a_claim_but_the_bytes_that_were_written() {
    replay("redis");
}

#[test]
fn no_configuration_passes_out_of_bounds_or_shows_a_secret() {
    replay("config");
}

#[test]
fn no_order_of_events_breaks_the_two_rules() {
    replay("exchange");
}

#[test]
fn every_target_is_replayed() {
    assert_eq!(
        fuzz::TARGETS.map(|target| target.name()),
        ["query", "envelope", "open", "callback", "reply", "redis", "config", "exchange"]
    );
}
