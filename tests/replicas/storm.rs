//! Many callbacks, one in five a copy, on two replicas, while Redis is paused, killed, restarted and cut.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use testbed::backend::{Behaviour, Received};
use testbed::redis::Passes;
use testbed::waiting::until;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::*;

/// How many callbacks are sent. `REPLICAS_CALLBACKS` sets another number.
const CALLBACKS: u64 = 20_000;
/// How many a second. Each new one is two connections to Redis and one to the backend, and all of this
/// runs on one machine.
const A_SECOND: u64 = 320;
/// By when a bind is answered, as promised.
const IN_TIME: Duration = Duration::from_millis(2900);
/// What a busy machine may add to it: less than until Envoy ends the request itself.
const SLACK: Duration = Duration::from_millis(1000);
/// How many may be in flight. Far more than there are at that rate.
const IN_FLIGHT: usize = 900;

/// What clients were told of one bind.
#[derive(Debug, Default)]
struct Told(Vec<u32>);

/// A bind by its number. Copies are the same callback, sealed anew.
fn bind(number: u64, createtime: u64) -> Event {
    Event::bind(&format!("sn-{number}")).req_id(&format!("storm-{number}")).createtime(createtime)
}

/// What the backend decides about it: approved, or one of several refusals.
fn decision(number: u64) -> u32 {
    [0, 3, 4, 1][(number % 4) as usize]
}

fn number(request: &Received) -> Option<u64> {
    request.req_id()?.strip_prefix("storm-")?.parse().ok()
}

/// Numbers that look random and are the same in each run.
fn scattered(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_redis_nothing_is_delivered_twice_and_every_answer_is_in_time() {
    let _machine = MACHINE.write().await;
    let Some(replicas) = Replicas::start().await else { return };
    let Replicas { one, other, backend, mut redis, links } = replicas;
    backend.script(|request| {
        let number = number(request)?;
        // Some take their time, so that copies meet calls in flight.
        let pause = [0, 0, 15, 60][(scattered(number) % 4) as usize];
        Some(Behaviour::verdict(decision(number)).after(Duration::from_millis(pause)))
    });
    let callbacks = std::env::var("REPLICAS_CALLBACKS").map_or(CALLBACKS, |number| number.parse().unwrap());

    let over = Arc::new(AtomicBool::new(false));
    let troubles = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let pause = async |ms| sleep(Duration::from_millis(ms)).await;
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                pause(700).await;
                redis.pause().unwrap();
                pause(400).await;
                redis.resume().unwrap();
                pause(700).await;
                links[0].set(Passes::Nothing);
                pause(400).await;
                links[0].set(Passes::Whole);
                pause(700).await;
                for link in &links {
                    link.set(Passes::Requests);
                }
                pause(250).await;
                links[0].set(Passes::HalfAnAnswer);
                links[1].set(Passes::Whole);
                pause(250).await;
                links[0].set(Passes::Whole);
                pause(700).await;
                redis.kill().unwrap();
                pause(300).await;
                redis.start_again().await.unwrap();
                times += 1;
            }
            (redis, links, times)
        }
    });

    let edges = [Arc::new(one), Arc::new(other)];
    let (in_flight, slowest) = (Arc::new(Semaphore::new(IN_FLIGHT)), Arc::new(AtomicU64::new(0)));
    let late = Arc::new(AtomicU64::new(0));
    let mut sending = JoinSet::new();
    let mut told: HashMap<u64, Told> = HashMap::new();
    let mut created: HashMap<u64, u64> = HashMap::new();
    let (mut copies, began) = (0, Instant::now());
    let mut beat = interval(Duration::from_micros(1_000_000 / A_SECOND));
    for index in 0..callbacks {
        beat.tick().await;
        // One in five is a copy of one of the last hundred, and of the last one half of the time.
        let of = match index % 5 {
            4 if scattered(index).is_multiple_of(2) => index - 1,
            4 => (index - 1).saturating_sub(scattered(index) % 100 / 5 * 5),
            _ => index,
        };
        copies += u64::from(of != index);
        let event = bind(of, *created.entry(of).or_insert_with(testbed::wecom::unix_now));
        let edge = Arc::clone(&edges[(scattered(index) / 2 % 2) as usize]);
        let (permit, slowest) = (Arc::clone(&in_flight).acquire_owned().await.unwrap(), Arc::clone(&slowest));
        let late = Arc::clone(&late);
        sending.spawn(async move {
            let (told, after) = timed_verdict(&edge, &event).await;
            drop(permit);
            slowest.fetch_max(u64::try_from(after.as_millis()).unwrap(), Ordering::Relaxed);
            late.fetch_add(u64::from(after > IN_TIME), Ordering::Relaxed);
            assert!(after <= IN_TIME + SLACK, "answered after {after:?}");
            (of, told)
        });
        while let Some(ended) = sending.try_join_next() {
            let (of, verdict) = ended.unwrap();
            told.entry(of).or_default().0.push(verdict);
        }
    }
    while let Some(ended) = sending.join_next().await {
        let (of, verdict) = ended.unwrap();
        told.entry(of).or_default().0.push(verdict);
    }
    let took = began.elapsed();
    over.store(true, Ordering::Relaxed);
    let (_redis, _links, times) = troubles.await.unwrap();

    let mut delivered: BTreeMap<u64, usize> = BTreeMap::new();
    for request in backend.requests() {
        *delivered.entry(number(&request).expect("a bind of this test")).or_default() += 1;
    }
    println!(
        "{callbacks} callbacks, {copies} of them copies, in {took:.1?} while Redis had {times} times four troubles: \
         {} delivered, the slowest answer after {} ms, {} later than {} ms",
        delivered.len(),
        slowest.load(Ordering::Relaxed),
        late.load(Ordering::Relaxed),
        IN_TIME.as_millis()
    );
    for (name, edge) in ["one", "other"].iter().zip(&edges) {
        println!(
            "{name}: {}",
            counts(edge, "wasmcustom.wecom.endpoint=lock.event=bind.outcome=", ".callbacks_total").await
        );
        println!("{name}: {}", counts(edge, "wasmcustom.wecom.result=", ".record_exchanges_total").await);
    }
    let twice: Vec<_> = delivered.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "delivered more than once: {twice:?}");
    assert!(delivered.len() as u64 > (callbacks - copies) / 4, "Redis was away nearly all the time");
    assert!(exchanged(&edges[0], "unreachable").await > 0, "Redis was never away");

    // After quiet: what failed to be written is written, and both say the same of every decided bind.
    for _ in 0..3 {
        let written = async || repeats_waiting(&edges[0]).await + repeats_waiting(&edges[1]).await == 0;
        if until("all settlements were written", written).await.is_ok() {
            break;
        }
    }
    let mut asking = JoinSet::new();
    for number in delivered.into_keys() {
        let permit = Arc::clone(&in_flight).acquire_many_owned(IN_FLIGHT as u32 / 32).await.unwrap();
        let (edges, event) = (edges.clone(), bind(number, created[&number]));
        asking.spawn(async move {
            let said = tokio::join!(in_quiet(&edges[0], &event), in_quiet(&edges[1], &event));
            drop(permit);
            (number, said)
        });
    }
    let mut failed = 0;
    for (number, (one, other)) in asking.join_all().await {
        assert_eq!(one, other, "the replicas disagree about {number}; clients were told {:?}", told[&number]);
        assert!(one == decision(number) || one == 7, "{number}: {one}");
        failed += u64::from(one == 7);
        let told: Vec<_> = told[&number].0.iter().filter(|told| **told != 7).collect();
        assert!(told.iter().all(|told| **told == one), "{number}: {told:?}, and now {one}");
    }
    println!("both replicas agree on every decided bind; {failed} of them are errcode 7, as their call failed");
    for edge in edges {
        end(Arc::try_unwrap(edge).unwrap()).await;
    }
}

/// What a replica says when it can: on a busy machine, now and then an exchange takes too long.
async fn in_quiet(edge: &Edge, event: &Event) -> u32 {
    for _ in 0..5 {
        let said = verdict(edge, event).await;
        if said != 7 {
            return said;
        }
        sleep(Duration::from_millis(200)).await;
    }
    7
}

/// The counters between these two parts of a name, but for those that are 0.
async fn counts(edge: &Edge, begin: &str, end: &str) -> String {
    let stats = edge.envoy.stats().await.unwrap();
    let named = stats.iter().filter_map(|(name, count)| {
        let name = name.strip_prefix(begin)?.strip_suffix(end)?;
        (*count > 0).then(|| format!("{name} {count}"))
    });
    named.collect::<Vec<_>>().join(", ")
}
