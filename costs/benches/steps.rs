//! How long the steps of a callback take, natively: to compare two versions on one machine.
//!
//!     make bench-micro BENCH='--save-baseline before'
//!     make bench-micro BENCH='--baseline before'
#![allow(missing_docs)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::hint::black_box;
use std::rc::Rc;

use costs::{Kind, RECEIVE_ID, Scene, credential};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use wecom_callback_filter::dedup::{Claim, Records, Store};
use wecom_callback_filter::reply::Reply;
use wecom_callback_filter::wecom::envelope::{self, TimestampForm};
use wecom_callback_filter::wecom::freshness::Freshness;
use wecom_callback_filter::wecom::message::Signed;
use wecom_callback_filter::wecom::query::SignedQuery;
use wecom_callback_filter::wecom::verdict::Verdict;

const NOW: u32 = 1_700_000_000;
const DEADLINE: u32 = NOW + 2;
const LISTENER: u32 = 1;

fn messages(c: &mut Criterion) {
    let request = Scene::new().request(Kind::Bind);
    let (_, query) = request.path.split_once('?').expect("a query");
    let body = request.body.expect("a POST");
    let query = SignedQuery::parse(query.as_bytes()).expect("a right query");
    let ciphertext = envelope::parse_request(&body).expect("a right envelope");
    let (credentials, accepted) = ([Rc::new(credential())], [RECEIVE_ID.to_owned()]);

    let verify = || Signed::verify(black_box(&query), black_box(&ciphertext), &credentials).expect("it is signed");
    c.bench_function("verify", |b| b.iter(verify));

    let fresh = verify().fresh(Freshness::new(0, 0)).expect("freshness is off");
    c.bench_function("open", |b| b.iter(|| black_box(&fresh).open(&accepted).is_ok()));

    let opened = fresh.open(&accepted).expect("it opens");
    let verdict = Verdict::new(0, None).to_json();
    let seal = || opened.sealer().seal(black_box(&verdict), NOW.into(), [0x5a; 24], TimestampForm::String);
    assert!(seal().is_some());
    c.bench_function("seal", |b| b.iter(seal));
}

fn records(c: &mut Criterion) {
    let mut before = Shelf::default();
    let records = Records::open(&before, 64, 86_400, Some([7; 16])).expect("a store that works");
    let claim = |store: &Shelf, name: &str| records.claim(store, records.key(name.as_bytes()), NOW, DEADLINE, LISTENER);
    let won = |store: &Shelf, name: &str| match claim(store, name) {
        Claim::Won(ticket) => ticket,
        other => panic!("{name}: {other:?}"),
    };
    let reply = Reply::Verdict(Verdict::new(0, None));
    let settle = |store: &Shelf, ticket| records.settle(store, ticket, &reply, NOW).is_ok();
    // Half full, as a table that holds as much as it is made for.
    (0..32).for_each(|number| assert!(settle(&before, won(&before, &format!("r{number}")))));
    let mut after = before.clone();
    let _ = won(&after, "new");
    (before.is_frozen, after.is_frozen) = (true, true);
    assert!(settle(&after, won(&before, "new")));

    c.bench_function("claim", |b| b.iter(|| claim(&before, black_box("new"))));
    c.bench_function("claim of a copy", |b| b.iter(|| claim(&before, black_box("r16"))));
    let ticket = || won(&before, "new");
    c.bench_function("settle", |b| b.iter_batched(ticket, |ticket| settle(&after, ticket), BatchSize::SmallInput));
}

/// A store in memory. Once it is frozen, a write succeeds and leaves it as it is, so that every repetition
/// finds the same.
#[derive(Default, Clone)]
struct Shelf {
    values: RefCell<HashMap<String, Vec<u8>>>,
    is_frozen: bool,
}

impl Store for Shelf {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>) {
        let value = self.values.borrow().get(key).cloned();
        let number = value.is_some().then_some(1);
        (value, number)
    }

    fn set(&self, key: &str, value: &[u8], _: Option<u32>) -> bool {
        if !self.is_frozen {
            self.values.borrow_mut().insert(key.to_owned(), value.to_vec());
        }
        true
    }
}

criterion_group!(steps, messages, records);
criterion_main!(steps);
