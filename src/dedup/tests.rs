//! The table under every interleaving: against a model, against the scheduler, and at full size.
#![allow(clippy::restriction)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::reply::Relayed;
use crate::wecom::verdict::Verdict;

/// A store as the host has it: a number per write, compared on the next.
#[derive(Debug, Default)]
struct Shared {
    values: HashMap<String, (Vec<u8>, u32)>,
    writes: u32,
}

impl Shared {
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

impl Store for Rc<RefCell<Shared>> {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        self.borrow().get(key)
    }

    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool {
        self.borrow_mut().set(key, value, number)
    }
}

/// The table, and the store that it lies in.
struct Table<S> {
    records: Records,
    store: S,
}

impl<S: Store> Table<S> {
    fn open(store: S, capacity: u32, ttl: u32) -> Self {
        Self { records: Records::open(&store, capacity, ttl, Some([9; HASH_KEY_LEN])).unwrap(), store }
    }

    fn key(&self, name: &[u8]) -> RecordKey {
        self.records.key(name)
    }

    fn claim(&self, key: RecordKey, now: u32, deadline: u32, listener: Listener) -> Claim {
        self.records.claim(&self.store, key, now, deadline, listener)
    }

    /// A claim that is won.
    fn won(&self, key: RecordKey, now: u32, deadline: u32, listener: Listener) -> Ticket {
        match self.claim(key, now, deadline, listener) {
            Claim::Won(ticket) => ticket,
            other => panic!("not won: {other:?}"),
        }
    }

    fn look(&self, key: RecordKey, now: u32) -> Option<Standing> {
        self.records.look(&self.store, key, now)
    }

    fn settle(&self, ticket: Ticket, reply: &Reply, now: u32) -> Result<Vec<Listener>, NotConcluded> {
        self.records.settle(&self.store, ticket, reply, now)
    }

    fn release(&self, ticket: Ticket, now: u32) -> Result<Vec<Listener>, NotConcluded> {
        self.records.release(&self.store, ticket, now)
    }
}

fn table(capacity: u32, ttl: u32) -> Table<Rc<RefCell<Shared>>> {
    Table::open(Rc::default(), capacity, ttl)
}

fn reply(code: u32) -> Reply {
    Reply::Verdict(Verdict::new(code, None))
}

fn announced(key: RecordKey) -> Claim {
    Claim::InFlight { key, announced: true }
}

#[test]
fn the_first_claim_wins_and_its_copies_get_its_reply() {
    let table = table(10, 100);
    let key = table.key(b"r1");
    let ticket = table.won(key, 0, 3, 7);
    assert_eq!(ticket.key(), key);
    assert_eq!(table.claim(key, 0, 3, 7), announced(key));
    assert_eq!(table.claim(key, 1, 3, 8), announced(key));
    assert_eq!(table.look(key, 1), Some(Standing::InFlight));
    assert_eq!(table.settle(ticket, &reply(4), 2), Ok(vec![7, 8]));
    assert_eq!(table.look(key, 2), Some(Standing::Settled(reply(4))));
    assert_eq!(table.claim(key, 101, 104, 7), Claim::Settled(reply(4)));
    let _ = table.won(key, 102, 105, 7); // its record has expired
}

#[test]
fn a_released_key_is_free_again() {
    let table = table(10, 100);
    let key = table.key(b"r1");
    let ticket = table.won(key, 0, 3, 7);
    assert_eq!(table.claim(key, 0, 3, 8), announced(key));
    assert_eq!(table.release(ticket, 1), Ok(vec![8]));
    assert_eq!(table.look(key, 1), Some(Standing::Absent));
    let _ = table.won(key, 1, 4, 8);
}

#[test]
fn a_call_that_never_came_back_is_a_failure_and_not_a_second_call() {
    let short = table(10, 1);
    let key = short.key(b"r1");
    let _ = short.won(key, 0, 3, 7);
    assert_eq!(short.claim(key, 3, 6, 8), announced(key), "lives as long as the call, however short the ttl");
    let _ = short.won(key, 4, 7, 8);
    let long = table(10, 100);
    let key = long.key(b"r2");
    let _ = long.won(key, 0, 3, 7);
    assert_eq!(long.claim(key, 3, 6, 8), announced(key));
    assert_eq!(long.claim(key, 4, 7, 8), Claim::Settled(Reply::Failed));
}

#[test]
fn a_call_that_ends_after_its_record_concludes_no_other() {
    let table = table(10, 1);
    let key = table.key(b"r1");
    let late = [table.won(key, 0, 3, 7), table.won(key, 9, 12, 8)]; // the clock has leapt
    let own = table.won(key, 20, 23, 8);
    let [first, second] = late;
    assert_eq!(table.settle(first, &reply(0), 20), Err(NotConcluded::Superseded));
    assert_eq!(table.release(second, 20), Err(NotConcluded::Superseded));
    assert_eq!(table.claim(key, 20, 23, 9), announced(key));
    assert_eq!(table.settle(own, &reply(1), 20), Ok(vec![9]));
    assert_eq!(table.look(key, 20), Some(Standing::Settled(reply(1))));
}

#[test]
fn more_listeners_than_there_is_room_for_are_not_announced_to() {
    let table = table(10, 100);
    let key = table.key(b"r1");
    let ticket = table.won(key, 0, 3, 1);
    for listener in 1..=u32::try_from(table::MAX_LISTENERS).unwrap() {
        assert_eq!(table.claim(key, 0, 3, listener), announced(key));
    }
    assert_eq!(table.claim(key, 0, 3, 1000), Claim::InFlight { key, announced: false });
    assert_eq!(table.settle(ticket, &reply(0), 1).unwrap().len(), table::MAX_LISTENERS);
}

#[test]
fn a_full_table_refuses_and_never_evicts() {
    let table = table(4, 100);
    let keys: Vec<_> = (0..5_u8).map(|n| table.key(&[n])).collect();
    for key in &keys[..4] {
        let ticket = table.won(*key, 0, 3, 1);
        table.settle(ticket, &reply(0), 0).unwrap();
    }
    assert_eq!(table.claim(keys[4], 99, 102, 1), Claim::Full);
    for key in &keys[..4] {
        assert_eq!(table.claim(*key, 99, 102, 1), Claim::Settled(reply(0)));
    }
    let _ = table.won(keys[4], 100, 103, 1); // expired records make room
}

#[test]
fn those_who_join_share_the_hash_key_and_the_first_ones_capacity() {
    let store: Rc<RefCell<Shared>> = Rc::default();
    assert!(Records::open(&store, 100, 9, None).is_none(), "nothing to hash with");
    let first = Records::open(&store, 100, 9, Some([1; HASH_KEY_LEN])).unwrap();
    let second = Records::open(&store, 5000, 9, Some([2; HASH_KEY_LEN])).unwrap();
    let third = Records::open(&store, 5000, 9, None).unwrap();
    assert_eq!(first.key(b"x"), second.key(b"x"));
    assert_eq!(first.key(b"x"), third.key(b"x"));
    assert_eq!((second.capacity(), third.capacity()), (100, 100));
}

#[test]
fn a_store_that_holds_something_else_is_not_opened() {
    for (name, value) in [(HASH_KEY_NAME, &b"short"[..]), (CAPACITY_NAME, b"x")] {
        let store: Rc<RefCell<Shared>> = Rc::default();
        Store::set(&store, name, value, None);
        assert!(Records::open(&store, 100, 9, Some([1; HASH_KEY_LEN])).is_none(), "{name}");
    }
}

/// A store that never lets a write through.
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

#[test]
fn a_store_that_never_lets_a_write_through_is_given_up() {
    let table = Table::open(Contended(RefCell::new(0)), 9, 9);
    assert_eq!(table.claim(table.key(b"x"), 0, 1, 1), Claim::Unavailable);
    assert_eq!(*table.store.0.borrow(), MAX_ROUNDS);
}

#[test]
fn what_is_no_set_is_not_overwritten() {
    let table = table(10, 100);
    let key = table.key(b"r1");
    let ticket = table.won(key, 0, 3, 7);
    let name = table.records.geometry.name_of_set(key.as_bytes());
    let (_, number) = Store::get(&table.store, &name);
    assert!(Store::set(&table.store, &name, b"something else", number));
    assert_eq!(table.claim(key, 0, 3, 7), Claim::Unavailable);
    assert_eq!(table.look(key, 0), None);
    assert_eq!(table.settle(ticket, &reply(0), 0), Err(NotConcluded::Unavailable));
    assert_eq!(Store::get(&table.store, &name).0.unwrap(), b"something else");
}

#[test]
fn a_claim_and_a_settlement_are_one_write_each() {
    let table = table(10, 100);
    let before = table.store.borrow().writes;
    let key = table.key(b"r1");
    let ticket = table.won(key, 0, 3, 7);
    table.settle(ticket, &reply(0), 0).unwrap();
    let _ = table.claim(key, 0, 3, 7);
    assert_eq!(table.store.borrow().writes - before, 2);
}

#[test]
fn an_object_too_long_for_a_record_is_not_recorded_cut() {
    let table = table(10, 100);
    let key = table.key(b"r1");
    let ticket = table.won(key, 0, 3, 7);
    let object = Reply::Relayed(Relayed::Object(vec![b' '; 200]));
    assert_eq!(table.settle(ticket, &object, 0), Err(NotConcluded::Unavailable));
    assert_eq!(table.look(key, 0), Some(Standing::InFlight));
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
    reply: Option<Reply>,
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
        let store: Rc<RefCell<Shared>> = Rc::default();
        let workers: Vec<_> = (0..3).map(|_| Table::open(Rc::clone(&store), capacity, ttl)).collect();
        let mut model: BTreeMap<u8, Modelled> = BTreeMap::new();
        let mut tickets: BTreeMap<u8, Vec<Ticket>> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            let taken = |tickets: &mut BTreeMap<u8, Vec<Ticket>>, key, ago| {
                let tickets = tickets.get_mut(&key)?;
                let index = tickets.len().checked_sub(1 + ago)?;
                Some(tickets.remove(index))
            };
            let live = |model: &BTreeMap<u8, Modelled>, key: u8| model.get(&key).filter(|m| m.expires > now).cloned();
            match step {
                Step::Wait { seconds } => now += seconds,
                Step::Claim { worker, key } => {
                    let table = &workers[worker];
                    let claim = table.claim(table.key(&[key]), now, now + 3, u32::try_from(worker).unwrap() + 1);
                    let full = model.values().filter(|m| m.expires > now).count() >= usize::try_from(capacity).unwrap();
                    match live(&model, key) {
                        Some(Modelled { reply: Some(reply), .. }) => prop_assert_eq!(claim, Claim::Settled(reply)),
                        Some(Modelled { deadline, .. }) if deadline < now => {
                            prop_assert_eq!(claim, Claim::Settled(Reply::Failed));
                        }
                        Some(_) => prop_assert_eq!(claim, announced(table.key(&[key]))),
                        None if full => prop_assert_eq!(claim, Claim::Full),
                        None => {
                            let Claim::Won(ticket) = claim else { panic!("not won: {claim:?}") };
                            let expires = (now + ttl).max(now + 4);
                            model.insert(key, Modelled { expires, deadline: now + 3, reply: None });
                            tickets.entry(key).or_default().push(ticket);
                        }
                    }
                }
                Step::Settle { key, ago } => {
                    let Some(ticket) = taken(&mut tickets, key, ago) else { continue };
                    let by = ticket.deadline;
                    let told = workers[0].settle(ticket, &reply(key.into()), now);
                    let own = live(&model, key).filter(|m| m.reply.is_none() && m.deadline == by);
                    prop_assert_eq!(told.is_ok(), own.is_some());
                    if let Some(Modelled { deadline, expires, .. }) = own {
                        let reply = Some(reply(key.into()));
                        model.insert(key, Modelled { expires: expires.max(now + ttl), deadline, reply });
                    }
                }
                Step::Release { key, ago } => {
                    let Some(ticket) = taken(&mut tickets, key, ago) else { continue };
                    let by = ticket.deadline;
                    let told = workers[1].release(ticket, now);
                    let own = live(&model, key).filter(|m| m.reply.is_none() && m.deadline == by);
                    prop_assert_eq!(told.is_ok(), own.is_some());
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
struct Interleaved(loom::sync::Arc<loom::sync::Mutex<Shared>>);

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
    work: impl Fn(&Table<Interleaved>, Listener) -> T + Copy + Send + Sync + 'static,
    check: impl Fn(T, T) + Send + Sync + 'static,
) {
    loom::model(move || {
        let store = Interleaved(loom::sync::Arc::new(loom::sync::Mutex::new(Shared::default())));
        let (one, two) = (Table::open(store.clone(), 2, 100), Table::open(store, 2, 100));
        let one = loom::thread::spawn(move || work(&one, 1));
        let two = loom::thread::spawn(move || work(&two, 2));
        check(one.join().unwrap(), two.join().unwrap());
    });
}

/// What became of one of two copies.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    /// It was first, and these were to be told of its end.
    First(Vec<Listener>),
    Waits,
    Told(Reply),
}

fn became(
    table: &Table<Interleaved>,
    listener: Listener,
    conclude: impl Fn(Ticket) -> Result<Vec<Listener>, NotConcluded>,
) -> Became {
    match table.claim(table.key(b"same"), 0, 3, listener) {
        Claim::Won(ticket) => Became::First(conclude(ticket).unwrap()),
        Claim::InFlight { announced: true, .. } => Became::Waits,
        Claim::Settled(reply) => Became::Told(reply),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_interleaving_of_two_copies_has_one_first_and_tells_the_other() {
    interleave(
        |table, listener| became(table, listener, |ticket| table.settle(ticket, &reply(4), 0)),
        |one, two| match (one, two) {
            (Became::First(_), Became::Told(told)) | (Became::Told(told), Became::First(_)) => {
                assert_eq!(told, reply(4));
            }
            (Became::First(told), Became::Waits) => assert_eq!(told, [2]),
            (Became::Waits, Became::First(told)) => assert_eq!(told, [1]),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn every_interleaving_of_a_copy_with_a_release_leaves_one_first_or_tells_it() {
    interleave(
        |table, listener| became(table, listener, |ticket| table.release(ticket, 0)),
        |one, two| match (one, two) {
            (Became::First(_), Became::First(_)) => {} // one after the other
            (Became::First(told), Became::Waits) => assert_eq!(told, [2]),
            (Became::Waits, Became::First(told)) => assert_eq!(told, [1]),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn every_interleaving_of_two_neighbours_in_a_set_keeps_both() {
    interleave(
        |table, listener| {
            let key = table.key(&listener.to_be_bytes());
            let ticket = table.won(key, 0, 3, listener);
            table.settle(ticket, &reply(1), 0).unwrap();
            table.claim(key, 0, 3, listener)
        },
        |one, two| assert_eq!((one, two), (Claim::Settled(reply(1)), Claim::Settled(reply(1)))),
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
        let table = table(CAPACITY, TTL);
        let in_ttl = u64::from(CAPACITY) * percent / 100;
        let mut refused = 0;
        for n in 0..1_000_000_u64 {
            let now = u32::try_from(n * u64::from(TTL) / in_ttl).unwrap();
            let key = table.key(&n.to_be_bytes());
            match table.claim(key, now, now + 3, 1) {
                Claim::Won(ticket) => assert_eq!(table.settle(ticket, &Reply::Failed, now), Ok(Vec::new())),
                Claim::Full => refused += 1,
                other => panic!("{n} is taken for a duplicate: {other:?}"),
            }
        }
        let bytes: usize = table.store.borrow().values.values().map(|(value, _)| value.len()).sum();
        println!("load {percent} %: {refused} of 1000000 refused, {bytes} bytes");
        assert!(refused <= most_refused, "{refused} refused at {percent} %");
        assert!(u64::try_from(bytes).unwrap() <= table.records.geometry.max_bytes() + 64);
    }
}
