//! Many callbacks, one in five a copy, on two replicas, while Redis is paused, killed, restarted and cut.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
/// When an answer fails the test, by Envoy's own clock, from the headers to the last byte. Not as promised:
/// Envoy's timers come late on a machine that is busy, and what is later than promised is counted and printed.
/// Not later either: after 4 s Envoy itself ends a request (`max_stream_duration`), and what would never have
/// been answered must not pass for late. Clients measure more, as they wait for this process and for Envoy to
/// get to them at all: that is printed too, and says more of the machine than of the filter.
const TOO_LATE_MS: u64 = 3900;
/// How many may be in flight. Far more than there are at that rate.
const IN_FLIGHT: usize = 900;

/// What clients were told.
#[derive(Debug, Default)]
struct Told {
    /// The verdicts, by bind.
    verdicts: HashMap<u64, Vec<u32>>,
    slowest: Duration,
    /// How many answers came later than promised.
    late: usize,
    /// Requests without a verdict, by what came instead.
    failures: BTreeMap<String, usize>,
}

impl Told {
    fn add(&mut self, of: u64, verdict: Result<u32, String>, after: Duration) {
        match verdict {
            Ok(verdict) => self.verdicts.entry(of).or_default().push(verdict),
            Err(what) => *self.failures.entry(what).or_default() += 1,
        }
        self.slowest = self.slowest.max(after);
        self.late += usize::from(after > IN_TIME);
    }

    /// What was said of a bind, but for errcode 7.
    fn decided(&self, of: u64) -> impl Iterator<Item = u32> {
        self.verdicts.get(&of).into_iter().flatten().copied().filter(|verdict| *verdict != 7)
    }
}

/// A verdict, or what came instead of one: a reset, a closed connection, another status.
async fn told(edge: &Edge, event: &Event) -> Result<u32, String> {
    let answer = edge.send(&edge.account.seal(event)).await;
    let answer = answer.map_err(|error| format!("no answer: {}", error.root_cause()))?;
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.text()));
    }
    let reply = answer.decrypt(&edge.account).map_err(|_| "no sealed answer".to_owned())?;
    reply.errcode().ok_or_else(|| "no verdict".to_owned())
}

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
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut sending = JoinSet::new();
    let mut told = Told::default();
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
        let permit = Arc::clone(&in_flight).acquire_owned().await.unwrap();
        sending.spawn(async move {
            let began = Instant::now();
            let verdict = self::told(&edge, &event).await;
            drop(permit);
            (of, verdict, began.elapsed())
        });
        while let Some(ended) = sending.try_join_next() {
            let (of, verdict, after) = ended.unwrap();
            told.add(of, verdict, after);
        }
    }
    while let Some(ended) = sending.join_next().await {
        let (of, verdict, after) = ended.unwrap();
        told.add(of, verdict, after);
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
         {} delivered, the slowest answer after {} ms, {} later than {} ms, {} without a verdict: {:?}",
        delivered.len(),
        told.slowest.as_millis(),
        told.late,
        IN_TIME.as_millis(),
        told.failures.values().sum::<usize>(),
        told.failures
    );
    let answered = || edges.iter().map(|edge| durations_ms(edge).len()).sum::<usize>();
    let logged = async || answered() as u64 >= callbacks;
    let _ = until("the access logs were written", logged).await; // or it is said below what is missing
    let answered = answered();
    for (name, edge) in ["one", "other"].iter().zip(&edges) {
        println!(
            "{name}: {}",
            counts(edge, "wasmcustom.wecom.endpoint=lock.event=bind.outcome=", ".callbacks_total").await
        );
        println!("{name}: {}", counts(edge, "wasmcustom.wecom.result=", ".record_exchanges_total").await);
        let durations_ms = durations_ms(edge);
        println!(
            "{name}: by Envoy's clock, the slowest of {} answers after {} ms, {} later than {} ms; Envoy itself ended {}",
            durations_ms.len(),
            durations_ms.last().unwrap(),
            durations_ms.iter().filter(|ms| u128::from(**ms) > IN_TIME.as_millis()).count(),
            IN_TIME.as_millis(),
            ended_by_envoy(edge).await
        );
    }
    assert!(told.failures.is_empty(), "not answered with a verdict: {:?}", told.failures);
    assert_eq!(answered, callbacks as usize, "lines in the access logs");
    for edge in &edges {
        assert_eq!(ended_by_envoy(edge).await, 0, "requests that Envoy ended, as nobody answered them");
        let slowest_ms = durations_ms(edge).last().copied();
        assert!(slowest_ms <= Some(TOO_LATE_MS), "answered after {slowest_ms:?} ms");
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
        assert_eq!(one, other, "the replicas disagree about {number}; clients were told {:?}", told.verdicts[&number]);
        assert!(one == decision(number) || one == 7, "{number}: {one}");
        failed += u64::from(one == 7);
        let told: Vec<_> = told.decided(number).collect();
        assert!(told.iter().all(|told| *told == one), "{number}: {told:?}, and now {one}");
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

/// How many requests Envoy has ended itself: as they took too long, or were reset.
async fn ended_by_envoy(edge: &Edge) -> u64 {
    let stats = edge.envoy.stats().await.unwrap();
    let why = ["max_duration_reached", "idle_timeout", "timeout", "tx_reset"];
    why.iter().map(|why| stats[&format!("http.edge.downstream_rq_{why}")]).sum()
}

/// How long Envoy took to answer each bind, in milliseconds and in ascending order.
fn durations_ms(edge: &Edge) -> Vec<u64> {
    let lines = edge.envoy.access_log();
    let mut durations_ms: Vec<_> = lines.iter().map(|line| line["duration_ms"].as_u64().unwrap()).collect();
    durations_ms.sort_unstable();
    durations_ms
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
