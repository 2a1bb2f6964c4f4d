//! The record under every interleaving: against a model, against the scheduler, and at full size.
#![allow(clippy::restriction)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::callout::Reply;

/// A store as the host has it: a number per write, compared on the next.
#[derive(Debug, Default)]
struct Host {
    values: HashMap<String, (Vec<u8>, u32)>,
    writes: u32,
}

impl Host {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        self.values.get(key).map_or((None, None), |(value, number)| (Some(value.clone()), Some(*number)))
    }

    fn set(&mut self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        if self.values.get(key).is_some_and(|(_, current)| Some(*current) != number) {
            return false;
        }
        self.writes += 1;
        self.values.insert(key.to_owned(), (value.to_vec(), self.writes));
        true
    }
}

impl Store for Rc<RefCell<Host>> {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        self.borrow().get(key)
    }

    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        self.borrow_mut().set(key, value, number)
    }
}

fn records(capacity: u32, ttl: u32) -> Records<Rc<RefCell<Host>>> {
    Records::open(Rc::default(), capacity, ttl, Some([9; HASH_KEY_LEN])).unwrap()
}

#[test]
fn the_first_claim_wins_and_its_copies_get_its_reply() {
    let records = records(10, 100);
    let key = records.key(b"r1");
    assert_eq!(records.claim(key, 0, 3, 7), Claim::First);
    assert_eq!(records.claim(key, 0, 3, 7), Claim::InFlight);
    assert_eq!(records.claim(key, 1, 3, 8), Claim::InFlight);
    assert_eq!(records.look(key, 1), Claim::InFlight);
    assert_eq!(records.settle(key, 3, b"reply", 2), Ok(Some(vec![7, 8])));
    assert_eq!(records.claim(key, 101, 104, 7), Claim::Recorded(b"reply".to_vec()));
    assert_eq!(records.claim(key, 102, 105, 7), Claim::First, "its record has expired");
}

#[test]
fn a_released_key_is_free_again() {
    let records = records(10, 100);
    let key = records.key(b"r1");
    assert_eq!(records.claim(key, 0, 3, 7), Claim::First);
    assert_eq!(records.claim(key, 0, 3, 8), Claim::InFlight);
    assert_eq!(records.release(key, 3, 1), Ok(Some(vec![8])));
    assert_eq!(records.look(key, 1), Claim::First);
    assert_eq!(records.claim(key, 1, 4, 8), Claim::First);
}

#[test]
fn a_call_that_never_came_back_is_a_failure_and_not_a_second_call() {
    let records = records(10, 1);
    let key = records.key(b"r1");
    assert_eq!(records.claim(key, 0, 3, 7), Claim::First);
    assert_eq!(records.claim(key, 3, 6, 8), Claim::InFlight, "lives as long as the call, however short the ttl");
    let records = Records { ttl_seconds: 100, ..records };
    let key = records.key(b"r2");
    assert_eq!(records.claim(key, 0, 3, 7), Claim::First);
    assert_eq!(records.claim(key, 4, 7, 8), Claim::Recorded(Vec::new()));
    assert_eq!(Reply::decode(b""), Reply::Failed);
}

#[test]
fn a_call_that_ends_after_its_record_concludes_no_other() {
    let records = records(10, 1);
    let key = records.key(b"r1");
    assert_eq!(records.claim(key, 0, 3, 7), Claim::First);
    assert_eq!(records.claim(key, 9, 12, 8), Claim::First, "the clock has leapt");
    assert_eq!(records.settle(key, 3, b"late", 9), Ok(None));
    assert_eq!(records.release(key, 3, 9), Ok(None));
    assert_eq!(records.claim(key, 9, 12, 9), Claim::InFlight);
    assert_eq!(records.settle(key, 12, b"own", 9), Ok(Some(vec![9])));
}

#[test]
fn more_listeners_than_there_is_room_for_are_unheard() {
    let records = records(10, 100);
    let key = records.key(b"r1");
    assert_eq!(records.claim(key, 0, 3, 1), Claim::First);
    for listener in 1..=u32::try_from(table::MAX_LISTENERS).unwrap() {
        assert_eq!(records.claim(key, 0, 3, listener), Claim::InFlight);
    }
    assert_eq!(records.claim(key, 0, 3, 1000), Claim::InFlightUnheard);
    assert_eq!(records.settle(key, 3, b"x", 1).unwrap().unwrap().len(), table::MAX_LISTENERS);
}

#[test]
fn a_full_table_refuses_and_never_evicts() {
    let records = records(4, 100);
    let keys: Vec<_> = (0..5_u8).map(|n| records.key(&[n])).collect();
    for key in &keys[..4] {
        assert_eq!(records.claim(*key, 0, 3, 1), Claim::First);
        records.settle(*key, 3, b"x", 0).unwrap();
    }
    assert_eq!(records.claim(keys[4], 99, 102, 1), Claim::Full);
    for key in &keys[..4] {
        assert_eq!(records.claim(*key, 99, 102, 1), Claim::Recorded(b"x".to_vec()));
    }
    assert_eq!(records.claim(keys[4], 100, 103, 1), Claim::First, "expired records make room");
}

#[test]
fn those_who_join_share_the_hash_key_and_the_first_ones_capacity() {
    let host: Rc<RefCell<Host>> = Rc::default();
    assert!(Records::open(Rc::clone(&host), 100, 9, None).is_none(), "nothing to hash with");
    let first = Records::open(Rc::clone(&host), 100, 9, Some([1; HASH_KEY_LEN])).unwrap();
    let second = Records::open(Rc::clone(&host), 5000, 9, Some([2; HASH_KEY_LEN])).unwrap();
    let third = Records::open(host, 5000, 9, None).unwrap();
    assert_eq!(first.key(b"x"), second.key(b"x"));
    assert_eq!(first.key(b"x"), third.key(b"x"));
    assert_eq!((second.capacity(), third.capacity()), (100, 100));
}

#[test]
fn a_store_that_never_lets_a_write_through_is_given_up() {
    struct Contended(RefCell<usize>);
    impl Store for Contended {
        fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
            match key {
                HASH_KEY_NAME => (Some(vec![0; HASH_KEY_LEN]), Some(1)),
                CAPACITY_NAME => (Some(vec![0, 0, 0, 9]), Some(1)),
                _ => (None, None),
            }
        }

        fn set(&self, _: &str, _: &[u8], _: Option<u32>) -> bool {
            *self.0.borrow_mut() += 1;
            false
        }
    }
    let records = Records::open(Contended(RefCell::new(0)), 9, 9, None).unwrap();
    assert_eq!(records.claim(records.key(b"x"), 0, 1, 1), Claim::Unavailable);
    assert_eq!(*records.store.0.borrow(), MAX_ROUNDS);
}

#[test]
fn what_is_no_table_is_not_overwritten() {
    let records = records(10, 100);
    let key = records.key(b"r1");
    let name = records.geometry.name_of_set(key.as_bytes());
    records.store.borrow_mut().set(&name, b"something else", None);
    assert_eq!(records.claim(key, 0, 3, 7), Claim::Unavailable);
    assert_eq!(records.settle(key, 3, b"x", 0), Err(NotRecorded));
}

#[test]
fn a_claim_and_a_settlement_are_one_write_each() {
    let records = records(10, 100);
    let before = records.store.borrow().writes;
    let key = records.key(b"r1");
    records.claim(key, 0, 3, 7);
    records.settle(key, 3, b"x", 0).unwrap();
    records.claim(key, 0, 3, 7);
    assert_eq!(records.store.borrow().writes - before, 2);
}

// ---- Against a model.

#[derive(Debug, Clone)]
enum Step {
    Claim {
        worker: usize,
        key: u8,
    },
    /// By the claim made so many before the last one of the key.
    Settle {
        key: u8,
        ago: usize,
    },
    Release {
        key: u8,
        ago: usize,
    },
    Wait {
        seconds: u32,
    },
}

/// What a plain map with a clock says: until when a key lives, and how it ended, if it did.
#[derive(Debug, Clone)]
struct Modelled {
    expires: u32,
    deadline: u32,
    reply: Option<Vec<u8>>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..6_u8;
    let step = prop_oneof![
        4 => (0..3_usize, key.clone()).prop_map(|(worker, key)| Step::Claim { worker, key }),
        2 => (key.clone(), 0..2_usize).prop_map(|(key, ago)| Step::Settle { key, ago }),
        1 => (key, 0..2_usize).prop_map(|(key, ago)| Step::Release { key, ago }),
        2 => (0..15_u32).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several workers over one store, any order of claims, settlements, releases and time.
    #[test]
    fn no_interleaving_admits_a_second_first_for_a_live_key(steps in steps(), capacity in 1..8_u32, ttl in 1..40_u32) {
        let host: Rc<RefCell<Host>> = Rc::default();
        let workers: Vec<_> = (0..3)
            .map(|_| Records::open(Rc::clone(&host), capacity, ttl, Some([5; HASH_KEY_LEN])).unwrap())
            .collect();
        let mut model: BTreeMap<u8, Modelled> = BTreeMap::new();
        let mut claims: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            let claimed = |claims: &BTreeMap<u8, Vec<u32>>, key, ago| {
                claims.get(&key).and_then(|deadlines| deadlines.iter().rev().nth(ago).copied()).unwrap_or(u32::MAX)
            };
            let live = |model: &BTreeMap<u8, Modelled>, key: u8| model.get(&key).filter(|m| m.expires > now).cloned();
            match step {
                Step::Wait { seconds } => now += seconds,
                Step::Claim { worker, key } => {
                    let records = &workers[worker];
                    let claim = records.claim(records.key(&[key]), now, now + 3, u32::try_from(worker).unwrap() + 1);
                    let full = model.values().filter(|m| m.expires > now).count() >= usize::try_from(capacity).unwrap();
                    let expected = match live(&model, key) {
                        Some(Modelled { reply: Some(reply), .. }) => Claim::Recorded(reply),
                        Some(Modelled { deadline, .. }) if deadline < now => Claim::Recorded(Vec::new()),
                        Some(_) => Claim::InFlight,
                        None if full => Claim::Full,
                        None => {
                            let expires = (now + ttl).max(now + 4);
                            model.insert(key, Modelled { expires, deadline: now + 3, reply: None });
                            claims.entry(key).or_default().push(now + 3);
                            Claim::First
                        }
                    };
                    prop_assert_eq!(claim, expected);
                }
                Step::Settle { key, ago } => {
                    let (records, by) = (&workers[0], claimed(&claims, key, ago));
                    let told = records.settle(records.key(&[key]), by, &[key], now).unwrap();
                    let own = live(&model, key).filter(|m| m.reply.is_none() && m.deadline == by);
                    prop_assert_eq!(told.is_some(), own.is_some());
                    if let Some(Modelled { deadline, .. }) = own {
                        model.insert(key, Modelled { expires: now + ttl, deadline, reply: Some(vec![key]) });
                    }
                }
                Step::Release { key, ago } => {
                    let (records, by) = (&workers[1], claimed(&claims, key, ago));
                    let told = records.release(records.key(&[key]), by, now).unwrap();
                    let own = live(&model, key).filter(|m| m.reply.is_none() && m.deadline == by);
                    prop_assert_eq!(told.is_some(), own.is_some());
                    if own.is_some() {
                        model.remove(&key);
                    }
                }
            }
        }
    }
}

// ---- Against the scheduler.

#[derive(Clone)]
struct Interleaved(loom::sync::Arc<loom::sync::Mutex<Host>>);

impl Store for Interleaved {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        self.0.lock().unwrap().get(key)
    }

    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        self.0.lock().unwrap().set(key, value, number)
    }
}

/// Runs two workers over one store in every way in which their reads and writes can interleave.
fn interleave<T: 'static>(
    work: impl Fn(&Records<Interleaved>, Listener) -> T + Copy + Send + Sync + 'static,
    check: impl Fn(T, T) + Send + Sync + 'static,
) {
    loom::model(move || {
        let store = Interleaved(loom::sync::Arc::new(loom::sync::Mutex::new(Host::default())));
        let open = || Records::open(store.clone(), 2, 100, Some([5; HASH_KEY_LEN])).unwrap();
        let (one, two) = (open(), open());
        let one = loom::thread::spawn(move || work(&one, 1));
        let two = loom::thread::spawn(move || work(&two, 2));
        check(one.join().unwrap(), two.join().unwrap());
    });
}

#[test]
fn every_interleaving_of_two_copies_has_one_first_and_tells_the_other() {
    interleave(
        |records, listener| {
            let key = records.key(b"same");
            let claim = records.claim(key, 0, 3, listener);
            let told = if claim == Claim::First { records.settle(key, 3, b"reply", 0).unwrap() } else { None };
            (claim, told)
        },
        |one, two| match (&one, &two) {
            ((Claim::First, _), (Claim::Recorded(reply), _)) | ((Claim::Recorded(reply), _), (Claim::First, _)) => {
                assert_eq!(reply, b"reply");
            }
            ((Claim::First, told), (Claim::InFlight, _)) => assert_eq!(told, &Some(vec![2])),
            ((Claim::InFlight, _), (Claim::First, told)) => assert_eq!(told, &Some(vec![1])),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn every_interleaving_of_a_copy_with_a_release_leaves_one_first_or_tells_it() {
    interleave(
        |records, listener| {
            let key = records.key(b"same");
            let claim = records.claim(key, 0, 3, listener);
            let told = if claim == Claim::First { records.release(key, 3, 0).unwrap() } else { None };
            (claim, told)
        },
        |one, two| match (&one, &two) {
            ((Claim::First, _), (Claim::First, _)) => {} // one after the other
            ((Claim::First, told), (Claim::InFlight, _)) => assert_eq!(told, &Some(vec![2])),
            ((Claim::InFlight, _), (Claim::First, told)) => assert_eq!(told, &Some(vec![1])),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn every_interleaving_of_two_neighbours_in_a_set_keeps_both() {
    interleave(
        |records, listener| {
            let key = records.key(&listener.to_be_bytes());
            assert_eq!(records.claim(key, 0, 3, listener), Claim::First);
            records.settle(key, 3, &[1], 0).unwrap();
            records.claim(key, 0, 3, listener)
        },
        |one, two| assert_eq!((one, two), (Claim::Recorded(vec![1]), Claim::Recorded(vec![1]))),
    );
}

// ---- At full size.

/// A million different callbacks through the table of default size, the clock moving so that the
/// load settles at the given share of the capacity. Nothing is mistaken for a duplicate, the
/// table does not grow, and what is refused stays where the arithmetic has it.
#[test]
fn a_million_binds_pass_through_a_table_that_does_not_grow() {
    const CAPACITY: u32 = 65_536;
    const TTL: u32 = 1260;
    for (percent, most_refused) in [(50, 0), (80, 3), (100, 40)] {
        let records = records(CAPACITY, TTL);
        let in_ttl = u64::from(CAPACITY) * percent / 100;
        let mut refused = 0;
        for n in 0..1_000_000_u64 {
            let now = u32::try_from(n * u64::from(TTL) / in_ttl).unwrap();
            let key = records.key(&n.to_be_bytes());
            match records.claim(key, now, now + 3, 1) {
                Claim::First => assert_eq!(records.settle(key, now + 3, b"\x01", now), Ok(Some(Vec::new()))),
                Claim::Full => refused += 1,
                other => panic!("{n} is taken for a duplicate: {other:?}"),
            }
        }
        let bytes: usize = records.store.borrow().values.values().map(|(value, _)| value.len()).sum();
        println!("load {percent} %: {refused} of 1000000 refused, {bytes} bytes");
        assert!(refused <= most_refused, "{refused} refused at {percent} %");
        assert!(u64::try_from(bytes).unwrap() <= records.geometry.bytes() + 64);
    }
}
