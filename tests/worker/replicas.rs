//! Replicas that share their record in Redis: what becomes of a callback on one of them, and of its
//! copies on the others, whatever Redis does.

use log::Level;
use model::redis::{Redis, Refusal};
use wecom_callback_filter::wecom::callback::EventType;

use super::*;

/// What seals the records, and what must be in no line of the log.
const SECRET: &str = "the-record-secret-of-32-characters";
const PASSWORD: &str = "the-password";

/// The cluster of `dedup.redis`, and how long an exchange with it may take by default.
const RECORD: &str = "record";
const EXCHANGE_MS: u64 = 100;

/// How long a call may take together with the exchanges around it.
const PATIENCE_MS: u64 = TIMEOUT_MS + 2 * EXCHANGE_MS;

/// Replicas of two workers each, and what they share.
struct Fleet {
    redis: Redis,
    replicas: Vec<Edge>,
}

impl Fleet {
    /// With two replicas, which have greeted Redis.
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, with the members of `dedup.redis` changed.
    fn with(change: impl Fn(&mut Value)) -> Self {
        let fleet = Self::unready(change);
        fleet.greet();
        fleet
    }

    fn unready(change: impl Fn(&mut Value)) -> Self {
        let now_ms = unix_now() * 1000;
        let mut fleet = Self { redis: Redis::new(now_ms), replicas: Vec::new() };
        for _ in 0..2 {
            fleet.start_replica(&change);
        }
        fleet
    }

    /// Starts a process of its own, and gives its number.
    fn start_replica(&mut self, change: impl Fn(&mut Value)) -> usize {
        let number = self.replicas.len();
        let now_ms = self.replicas.first().map_or_else(|| unix_now() * 1000, |replica| replica.process.now_ms());
        self.redis.set_clock(now_ms);
        let edge = Edge::of(Process::with_seed(now_ms, 1 + number as u64));
        for _ in 0..2 {
            edge.start_worker(|config| share(config, &change));
        }
        self.replicas.push(edge);
        number
    }

    /// Has every replica greet Redis, so that nothing but callbacks is left to be done.
    fn greet(&self) {
        for edge in &self.replicas {
            edge.tick_all();
        }
        self.serve();
        for edge in &self.replicas {
            edge.tick_all();
        }
    }

    /// Time passes, without a tick.
    fn pass(&self, ms: u64) {
        self.replicas.iter().for_each(|edge| edge.pass(ms));
        self.redis.set_clock(self.replicas[0].process.now_ms());
    }

    /// Time passes, and every worker ticks that asked to.
    fn wait(&self, ms: u64) {
        self.pass(ms);
        self.replicas.iter().for_each(Edge::tick_all);
    }

    /// A request arrives whole at a replica, and its worker claims it.
    fn arrive(&self, replica: usize, request: &Request) -> StreamId {
        let edge = &self.replicas[replica];
        let id = edge.arrive(0, request);
        edge.process.settle_messages();
        id
    }

    /// The same, and Redis answers: whose call it is is known.
    fn claimed(&self, replica: usize, request: &Request) -> StreamId {
        let id = self.arrive(replica, request);
        self.answered(replica);
        id
    }

    /// The one exchange of a replica with Redis.
    #[track_caller]
    fn exchange(&self, replica: usize) -> (CallId, Call) {
        let exchanges = self.replicas[replica].process.calls_to(RECORD);
        assert_eq!(exchanges.len(), 1, "{exchanges:?}");
        exchanges.into_iter().next().unwrap()
    }

    /// Redis executes it and answers.
    #[track_caller]
    fn answered(&self, replica: usize) {
        let (id, call) = self.exchange(replica);
        let answer = self.redis.execute(&call.body);
        self.replicas[replica].process.end_exchange(id, Some(&answer));
    }

    /// Redis executes it, and its answer is lost.
    #[track_caller]
    fn answer_lost(&self, replica: usize) {
        let (id, call) = self.exchange(replica);
        self.redis.execute(&call.body);
        self.replicas[replica].process.end_exchange(id, None);
    }

    /// The same of a claim, and Redis never gets what would give it up.
    #[track_caller]
    fn claim_lost(&self, replica: usize) {
        self.answer_lost(replica);
        assert_eq!(commands(&self.exchange(replica).1), ["EVAL", "QUIT"]);
        self.answered_with(replica, None);
    }

    /// It gets that answer, and Redis knows nothing of it.
    #[track_caller]
    fn answered_with(&self, replica: usize, answer: Option<&[u8]>) {
        let id = self.exchange(replica).0;
        self.replicas[replica].process.end_exchange(id, answer);
    }

    /// Answers everything that is asked, until nothing is.
    fn serve(&self) {
        loop {
            let before: usize = self.replicas.iter().map(|edge| edge.process.calls_made_to(RECORD)).sum();
            for edge in &self.replicas {
                edge.process.settle_messages();
                for (id, call) in edge.process.calls_to(RECORD) {
                    edge.process.end_exchange(id, Some(&self.redis.execute(&call.body)));
                }
                edge.process.settle_messages();
            }
            let asked: usize = self.replicas.iter().map(|edge| edge.process.calls_made_to(RECORD)).sum();
            if asked == before {
                return;
            }
        }
    }

    /// The one decision that a replica has asked for.
    #[track_caller]
    fn decision(&self, replica: usize) -> (CallId, Call) {
        let calls = self.replicas[replica].process.calls_to("decision");
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.into_iter().next().unwrap()
    }

    /// Its upstream decides.
    #[track_caller]
    fn decides(&self, replica: usize, errcode: u32) {
        self.replicas[replica].decides(self.decision(replica).0, errcode);
    }

    /// How many decisions were ever asked for.
    fn decisions(&self) -> usize {
        self.replicas.iter().map(|edge| edge.process.calls_made_to("decision")).sum()
    }

    /// How often an exchange of a replica came to that.
    fn exchanged(&self, replica: usize, what: &str) -> i64 {
        self.replicas[replica].process.counted(&format!("redis {what}"))
    }

    #[track_caller]
    fn verdict(&self, replica: usize, id: StreamId, errcode: u32, outcome: &str) {
        self.replicas[replica].verdict(id, errcode, outcome);
    }

    #[track_caller]
    fn waits(&self, replica: usize, id: StreamId) {
        self.replicas[replica].waits(id);
    }

    /// The key of the one record in Redis.
    #[track_caller]
    fn key(&self) -> String {
        let keys = self.redis.keys();
        assert_eq!(keys.len(), 1, "{keys:?}");
        keys.into_iter().next().unwrap()
    }

    /// Insists that a copy on each replica is told that, without another call.
    #[track_caller]
    fn all_say(&self, request: &Request, errcode: u32) {
        let decisions = self.decisions();
        for (number, edge) in self.replicas.iter().enumerate() {
            let id = edge.arrive(1, request);
            self.serve();
            edge.verdict(id, errcode, "duplicate");
            assert_eq!(self.decisions(), decisions, "replica {number} asked again");
        }
        self.is_quiet();
    }

    /// Insists that nothing is left over, in any replica.
    #[track_caller]
    fn is_quiet(&self) {
        for edge in &self.replicas {
            edge.is_quiet();
            assert!(edge.process.calls().is_empty(), "{:?}", edge.process.calls());
            edge.tick_all();
            edge.tick_all();
            let idle = (0..edge.process.workers()).all(|worker| !edge.process.is_ticking(worker));
            assert!(idle, "an idle worker costs nothing");
        }
    }
}

/// Adds `dedup.redis` to a configuration.
fn share(config: &mut Value, change: impl Fn(&mut Value)) {
    let mut redis = json!({ "cluster": RECORD, "secret": SECRET });
    change(&mut redis);
    config["dedup"] = json!({ "redis": redis });
}

fn local(redis: &mut Value) {
    redis["on_error"] = "local".into();
}

/// What commands are in a batch.
fn commands(call: &Call) -> Vec<String> {
    let commands = model::redis::commands(&call.body).expect("whole commands");
    commands.into_iter().map(|words| String::from_utf8(words[0].clone()).unwrap()).collect()
}

#[test]
fn a_claim_that_is_won_is_decided_then_settled_and_then_told() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.arrive(0, &request);
    assert_eq!(fleet.decisions(), 0, "nothing is called before the claim is won");
    let claim = fleet.exchange(0).1;
    assert_eq!(commands(&claim), ["SET", "GET", "QUIT"]);
    assert_eq!((claim.timeout_ms, claim.header("x-envoy-max-retries")), (EXCHANGE_MS, Some("0")));
    fleet.answered(0);
    assert_eq!(fleet.decision(0).1.header("x-wecom-req-id"), Some("r1"));
    let pending = fleet.redis.value(&fleet.key());
    fleet.decides(0, 4);
    fleet.waits(0, first); // until it is settled
    assert_eq!(commands(&fleet.exchange(0).1), ["EVAL", "QUIT"]);
    assert_eq!(fleet.redis.value(&fleet.key()), pending);
    fleet.answered(0);
    assert_ne!(fleet.redis.value(&fleet.key()), pending);
    fleet.verdict(0, first, 4, "refused");
    assert_eq!((fleet.exchanged(0, "claimed"), fleet.exchanged(0, "written")), (1, 1));
    fleet.all_say(&request, 4);
}

#[test]
fn copies_on_the_same_replica_cost_redis_nothing() {
    let fleet = Fleet::new();
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    let before = fleet.redis.batches();
    let first = fleet.arrive(0, &request);
    let while_it_is_asked = [edge.arrive(0, &request), edge.arrive(1, &request)];
    fleet.answered(0);
    let while_it_is_decided = [edge.arrive(0, &request), edge.arrive(1, &request)];
    fleet.decides(0, 0);
    fleet.answered(0);
    edge.process.settle_messages();
    let later = edge.arrive(1, &request);
    fleet.verdict(0, first, 0, "bound");
    for copy in while_it_is_asked.into_iter().chain(while_it_is_decided) {
        fleet.verdict(0, copy, 0, "duplicate_in_flight");
    }
    fleet.verdict(0, later, 0, "duplicate");
    assert_eq!((fleet.redis.batches() - before, fleet.decisions()), (2, 1));
    fleet.is_quiet();
}

#[test]
fn a_copy_on_another_replica_looks_ever_less_often_and_is_told_the_verdict() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.claimed(0, &request);
    let copy = fleet.claimed(1, &request);
    let also = fleet.replicas[1].arrive(1, &request); // costs nothing
    let mut pauses = Vec::new();
    let mut pause = 0;
    while pauses.len() < 6 {
        fleet.wait(1);
        pause += 1;
        if !fleet.replicas[1].process.calls_to(RECORD).is_empty() {
            assert_eq!(commands(&fleet.exchange(1).1), ["GET", "QUIT"]);
            fleet.answered(1);
            pauses.push(std::mem::take(&mut pause));
        }
    }
    assert_eq!(pauses, [25, 50, 100, 200, 200, 200]);
    fleet.decides(0, 0);
    fleet.answered(0);
    fleet.verdict(0, first, 0, "bound");
    fleet.waits(1, copy);
    fleet.wait(200);
    fleet.answered(1);
    fleet.replicas[1].process.settle_messages();
    fleet.verdict(1, copy, 0, "duplicate");
    fleet.verdict(1, also, 0, "duplicate_in_flight");
    assert_eq!((fleet.decisions(), fleet.exchanged(1, "pending"), fleet.exchanged(1, "settled")), (1, 7, 1));
    fleet.all_say(&request, 0);
}

#[test]
fn a_copy_that_comes_later_to_another_replica_is_told_the_recorded_verdict_sealed_for_it() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.claimed(0, &request);
    let (call, _) = fleet.decision(0);
    fleet.replicas[0].ends(call, "200", r#"{"errcode": 77, "errmsg": "told to nobody else"}"#);
    fleet.answered(0);
    fleet.verdict(0, first, 77, "refused");
    let value = fleet.redis.value(&fleet.key()).unwrap();
    assert!(!value.windows(6).any(|piece| piece == b"nobody"), "Redis is not shown what an upstream said");
    fleet.pass(1000);
    let copy = fleet.claimed(1, &request);
    fleet.verdict(1, copy, 77, "duplicate");
    let read = |replica: usize, id| {
        let edge: &Edge = &fleet.replicas[replica];
        edge.account.open_reply(&edge.finished(id).unwrap().answer.unwrap().body).unwrap()
    };
    assert_eq!(read(1, copy).text(), read(0, first).text());
    assert_ne!(read(1, copy).timestamp, read(0, first).timestamp);
    assert_eq!(fleet.decisions(), 1);
    fleet.all_say(&request, 77);
}

#[test]
fn what_another_type_of_callback_is_told_is_recorded_too() {
    let fleet = Fleet::new();
    let edge = &fleet.replicas[0];
    let backend = |replica: usize| fleet.replicas[replica].process.calls_to("backend")[0].0;
    let request = edge.seal(unbind());
    let first = fleet.claimed(0, &request);
    edge.ends(backend(0), "200", "success");
    fleet.answered(0);
    edge.plain(first, 200, "delivered");
    let copy = fleet.claimed(1, &request);
    fleet.replicas[1].plain(copy, 200, "duplicate");

    let request = edge.seal(Event::of(EventType::UserScan, "sn").req_id("r2"));
    fleet.claimed(0, &request);
    edge.ends(backend(0), "200", r#"{"online_status":1}"#);
    fleet.answered(0);
    let copy = fleet.claimed(1, &request);
    let answer = fleet.replicas[1].finished(copy).unwrap().answer.unwrap();
    assert_eq!(edge.account.open_reply(&answer.body).unwrap().text(), r#"{"online_status":1}"#);
    fleet.is_quiet();
}

#[test]
fn two_replicas_that_claim_at_once_decide_once() {
    for first in [0, 1] {
        let fleet = Fleet::new();
        let request = fleet.replicas[0].seal(bind());
        let ids = [fleet.arrive(0, &request), fleet.arrive(1, &request)];
        let other = 1 - first;
        fleet.answered(first);
        fleet.answered(other);
        fleet.decides(first, 0);
        fleet.answered(first);
        fleet.wait(25);
        fleet.answered(other);
        fleet.verdict(first, ids[first], 0, "bound");
        fleet.verdict(other, ids[other], 0, "duplicate");
        assert_eq!(fleet.decisions(), 1);
        fleet.all_say(&request, 0);
    }
}

#[test]
fn a_copy_of_an_event_that_another_replica_gave_up_fails_and_the_retry_is_delivered_there() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(unbind());
    let first = fleet.claimed(0, &request);
    let copy = fleet.claimed(1, &request);
    let (call, _) = fleet.replicas[0].process.calls_to("backend").remove(0);
    fleet.replicas[0].process.end_call(call, None);
    fleet.replicas[0].plain(first, 503, "upstream_unreachable"); // nobody waits for the release
    assert_eq!(commands(&fleet.exchange(0).1), ["EVAL", "QUIT"]);
    fleet.answered(0);
    assert_eq!((fleet.redis.keys().len(), fleet.exchanged(0, "released")), (0, 1));
    fleet.wait(25);
    fleet.answered(1);
    fleet.replicas[1].plain(copy, 503, "duplicate_in_flight");

    let again = fleet.claimed(1, &request);
    let (call, _) = fleet.replicas[1].process.calls_to("backend").remove(0);
    fleet.replicas[1].ends(call, "200", "success");
    fleet.answered(1);
    fleet.replicas[1].plain(again, 200, "delivered");
    let later = fleet.claimed(0, &request);
    fleet.replicas[0].plain(later, 200, "duplicate");
    fleet.is_quiet();
}

#[test]
fn a_release_that_fails_is_not_repeated_and_the_same_replica_delivers_again() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(unbind());
    fleet.claimed(0, &request);
    let (call, _) = fleet.replicas[0].process.calls_to("backend").remove(0);
    fleet.replicas[0].process.end_call(call, None);
    fleet.answered_with(0, None);
    assert_eq!(fleet.exchanged(0, "unreachable"), 1);
    fleet.is_quiet();
    let again = fleet.claimed(0, &request); // an orphan now
    fleet.answered(0);
    let (call, _) = fleet.replicas[0].process.calls_to("backend").remove(0);
    fleet.replicas[0].ends(call, "200", "success");
    fleet.answered(0);
    fleet.replicas[0].plain(again, 200, "delivered");
    fleet.is_quiet();
}

#[test]
fn a_copy_whose_first_is_late_fails_within_its_own_patience() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    fleet.claimed(0, &request);
    fleet.pass(50);
    let copy = fleet.claimed(1, &request);
    let began_ms = fleet.replicas[1].process.now_ms();
    let mut looks = 0;
    while fleet.replicas[1].finished(copy).is_none() {
        fleet.wait(25);
        if !fleet.replicas[1].process.calls_to(RECORD).is_empty() {
            fleet.answered(1);
            looks += 1;
        }
    }
    fleet.verdict(1, copy, 7, "deadline");
    let took_ms = fleet.replicas[1].finished(copy).unwrap().at_ms - began_ms;
    assert!((PATIENCE_MS - 50..=PATIENCE_MS).contains(&took_ms), "{took_ms} ms");
    assert_eq!((looks, fleet.decisions()), (8, 1)); // at 25, 75, 175, 375, 575, 775, 975 and 50 before its end
    fleet.decides(0, 0); // the first had more time than it needed
    fleet.serve();
    fleet.all_say(&request, 0);
}

#[test]
fn whatever_the_timeouts_everybody_is_answered_in_time() {
    for (timeout_ms, exchange_ms) in [(2800, 100), (2800, 1000), (1, 1), (900, 1000), (2649, 100)] {
        let mut fleet = Fleet { redis: Redis::new(0), replicas: Vec::new() };
        for _ in 0..2 {
            let number = fleet.start_replica(|redis| redis["timeout_ms"] = exchange_ms.into());
            fleet.replicas[number].start_worker(|config| {
                config["endpoints"][0]["decision"]["timeout_ms"] = timeout_ms.into();
                share(config, |redis| redis["timeout_ms"] = exchange_ms.into());
            });
        }
        fleet.greet();
        let patience_ms = (timeout_ms + 2 * exchange_ms).min(2850);
        let request = fleet.replicas[0].seal(bind());
        for late_ms in [0, 1500] {
            let request = fleet.replicas[0].seal(bind().req_id(&format!("after {late_ms}")));
            let edge = &fleet.replicas[0];
            let id = edge.headers(2, &request);
            let began_ms = edge.process.now_ms();
            fleet.wait(late_ms / 2);
            edge.process.buffered(id, 1);
            fleet.wait(late_ms / 2);
            edge.process.complete(id, &request.body_bytes());
            edge.process.settle_messages();
            let asked_ms = edge.process.now_ms();
            fleet.answered(0);
            // The call gets what its claim leaves, less what its settlement may take.
            let until_ms = (asked_ms + patience_ms).min(began_ms + 2850);
            let call = fleet.decision(0).1;
            assert_eq!(
                call.timeout_ms,
                timeout_ms.min(until_ms - exchange_ms - asked_ms),
                "{timeout_ms} {exchange_ms}"
            );
            fleet.wait(call.timeout_ms);
            edge.process.end_call(fleet.decision(0).0, None);
            fleet.wait(exchange_ms);
            if let Some((exchange, _)) = edge.process.calls_to(RECORD).pop() {
                edge.process.end_exchange(exchange, None);
            }
            let at_ms = edge.finished(id).expect("answered").at_ms;
            assert!(at_ms <= began_ms + 2850, "{} ms of {timeout_ms} {exchange_ms}", at_ms - began_ms);
            fleet.wait(60_000);
            fleet.serve();
        }
        drop(request);
    }
}

#[test]
fn a_claim_that_takes_its_time_leaves_the_call_the_rest() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let id = fleet.arrive(0, &request);
    fleet.pass(EXCHANGE_MS);
    fleet.answered(0);
    assert_eq!(fleet.decision(0).1.timeout_ms, TIMEOUT_MS);
    fleet.decides(0, 0);
    fleet.answered(0);
    fleet.verdict(0, id, 0, "bound");

    // A worker that was busy for so long that nobody may act on it any more.
    let request = fleet.replicas[0].seal(bind().req_id("r2"));
    let id = fleet.replicas[0].sent(0, &request);
    fleet.pass(2850);
    fleet.replicas[0].process.settle_messages();
    fleet.verdict(0, id, 7, "deadline");
    assert_eq!(fleet.decisions(), 1);
    // Nobody was asked, and Redis knows nothing of it: a copy elsewhere is the first.
    let copy = fleet.claimed(1, &request);
    fleet.decides(1, 4);
    fleet.answered(1);
    fleet.verdict(1, copy, 4, "refused");
    fleet.all_say(&request, 4);
}

#[test]
fn a_claim_whose_answer_was_lost_is_given_up_so_that_any_replica_may_decide() {
    for replica in [0, 1] {
        let fleet = Fleet::new();
        let request = fleet.replicas[0].seal(bind());
        let first = fleet.arrive(0, &request);
        fleet.answer_lost(0);
        fleet.verdict(0, first, 7, "record_unavailable"); // at once: nobody waits for the release
        assert_eq!((fleet.decisions(), fleet.redis.keys().len()), (0, 1));
        fleet.answered(0);
        assert!(fleet.redis.keys().is_empty());
        let again = fleet.claimed(replica, &request);
        fleet.decides(replica, 4);
        fleet.answered(replica);
        fleet.verdict(replica, again, 4, "refused");
        fleet.all_say(&request, 4);
    }
}

#[test]
fn an_orphan_that_is_given_up_before_it_is_adopted_is_claimed_anew() {
    for taken in [false, true] {
        let fleet = Fleet::new();
        let request = fleet.replicas[0].seal(bind());
        fleet.arrive(0, &request);
        fleet.answer_lost(0);
        let (release, call) = fleet.exchange(0);
        let again = fleet.replicas[0].arrive(1, &request);
        fleet.replicas[0].process.settle_messages();
        let answer_next = || {
            let mut calls = fleet.replicas[0].process.calls_to(RECORD).into_iter();
            let (id, call) = calls.find(|(id, _)| *id != release).expect("an exchange");
            fleet.replicas[0].process.end_exchange(id, Some(&fleet.redis.execute(&call.body)));
            commands(&call)
        };
        assert_eq!(answer_next(), ["SET", "GET", "QUIT"]); // finds the orphan
        fleet.replicas[0].process.end_exchange(release, Some(&fleet.redis.execute(&call.body)));
        let other = taken.then(|| fleet.claimed(1, &request));
        assert_eq!(commands(&fleet.exchange(0).1), ["EVAL", "QUIT"]);
        fleet.answered(0); // nothing is left to be adopted, or another's is there
        if let Some(other) = other {
            fleet.decides(1, 0);
            fleet.answered(1);
            fleet.wait(25);
            fleet.serve();
            fleet.verdict(1, other, 0, "bound");
            fleet.verdict(0, again, 0, "duplicate");
        } else {
            assert_eq!(commands(&fleet.exchange(0).1), ["SET", "GET", "QUIT"]);
            fleet.answered(0);
            fleet.decides(0, 0);
            fleet.answered(0);
            fleet.verdict(0, again, 0, "bound");
        }
        assert_eq!(fleet.decisions(), 1);
        fleet.all_say(&request, 0);
    }
}

#[test]
fn an_answer_that_was_lost_leaves_an_orphan_that_the_same_replica_adopts() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.arrive(0, &request);
    let waits = fleet.replicas[0].arrive(1, &request);
    fleet.claim_lost(0);
    fleet.replicas[0].process.settle_messages();
    fleet.verdict(0, first, 7, "record_unavailable");
    fleet.verdict(0, waits, 7, "duplicate_in_flight");
    assert_eq!((fleet.decisions(), fleet.exchanged(0, "unreachable")), (0, 2));
    let orphan = fleet.redis.value(&fleet.key());
    let elsewhere = fleet.claimed(1, &request); // it may be decided about, for all that replica 1 knows

    let again = fleet.claimed(0, &request);
    assert_eq!((commands(&fleet.exchange(0).1), fleet.decisions()), (vec!["EVAL".to_owned(), "QUIT".to_owned()], 0));
    fleet.answered(0);
    assert_ne!(fleet.redis.value(&fleet.key()), orphan, "a value of its own");
    assert_eq!((fleet.exchanged(0, "orphan"), fleet.exchanged(0, "claimed")), (1, 1));
    fleet.decides(0, 0);
    fleet.answered(0);
    fleet.verdict(0, again, 0, "bound");
    fleet.wait(25);
    fleet.answered(1);
    fleet.verdict(1, elsewhere, 0, "duplicate");
    assert_eq!(fleet.decisions(), 1);
    fleet.all_say(&request, 0);
}

#[test]
fn a_claim_that_arrives_late_cannot_take_what_has_been_decided() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.arrive(0, &request);
    let (_, late) = fleet.exchange(0);
    fleet.answered_with(0, None);
    fleet.verdict(0, first, 7, "record_unavailable");
    fleet.answered(0);
    let other = fleet.claimed(1, &request);
    fleet.redis.execute(&late.body);
    fleet.decides(1, 0);
    fleet.redis.execute(&late.body);
    fleet.answered(1);
    fleet.redis.execute(&late.body);
    fleet.verdict(1, other, 0, "bound");
    assert_eq!(fleet.decisions(), 1);
    fleet.all_say(&request, 0);
}

#[test]
fn an_adoption_that_arrives_late_does_not_undo_a_settlement() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    fleet.arrive(0, &request);
    fleet.claim_lost(0);
    fleet.claimed(0, &request);
    let (_, adoption) = fleet.exchange(0);
    fleet.answered_with(0, None);
    fleet.answered(0);
    let again = fleet.claimed(0, &request);
    fleet.answered(0);
    fleet.redis.execute(&adoption.body);
    fleet.decides(0, 4);
    fleet.answered(0);
    fleet.redis.execute(&adoption.body);
    fleet.verdict(0, again, 4, "refused");
    assert_eq!(fleet.decisions(), 1);
    fleet.all_say(&request, 4);
}

#[test]
fn who_finds_orphan_after_orphan_gives_up() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    fleet.arrive(0, &request);
    fleet.claim_lost(0);
    let id = fleet.arrive(0, &request);
    for _ in 0..3 {
        fleet.waits(0, id);
        let orphan = fleet.redis.value(&fleet.key()).unwrap();
        let is_claim = commands(&fleet.exchange(0).1).contains(&"SET".to_owned());
        let answer = [
            if is_claim { &b"$-1\r\n"[..] } else { b"" },
            format!("${}\r\n", orphan.len()).as_bytes(),
            &orphan,
            b"\r\n+OK\r\n",
        ]
        .concat();
        fleet.answered_with(0, Some(&answer));
    }
    fleet.verdict(0, id, 7, "record_unavailable");
    assert_eq!((fleet.decisions(), fleet.exchanged(0, "orphan")), (0, 3));
    fleet.answered(0);
    fleet.is_quiet();
}

#[test]
fn a_claimant_that_dies_fails_its_copies_and_nobody_delivers_again_until_the_record_expires() {
    let mut fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    fleet.claimed(0, &request);
    assert_eq!(fleet.decision(0).1.cluster, "decision");
    let dead = fleet.replicas.remove(0); // in the middle of its call
    let restarted = fleet.start_replica(|_| {});
    fleet.greet();
    for replica in [0, restarted, 0] {
        let copy = fleet.claimed(replica, &request);
        for _ in 0..60 {
            fleet.wait(25);
            fleet.serve();
        }
        fleet.verdict(replica, copy, 7, "deadline");
    }
    assert_eq!((fleet.decisions(), fleet.redis.keys().len()), (0, 1));
    fleet.pass(1_260_000);
    assert!(fleet.redis.keys().is_empty());
    fleet.is_quiet();
    drop(dead);
}

#[test]
fn a_replica_knows_after_its_restart_what_was_decided_before() {
    let mut fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    fleet.claimed(0, &request);
    fleet.decides(0, 4);
    fleet.answered(0);
    fleet.replicas.clear();
    fleet.start_replica(|_| {});
    fleet.greet();
    fleet.all_say(&request, 4);
    assert_eq!(fleet.decisions(), 0);
}

#[test]
fn a_record_expires_and_its_callback_is_a_new_one() {
    let mut fleet = Fleet { redis: Redis::new(0), replicas: Vec::new() };
    for _ in 0..2 {
        fleet.start_replica(|_| {});
    }
    // Seconds shorter than any call are raised for Redis.
    for (ttl_seconds, lives_ms) in [(1, 5000), (30, 30_000)] {
        let workers: Vec<_> = fleet
            .replicas
            .iter()
            .map(|edge| {
                edge.start_worker(|config| {
                    share(config, |_| {});
                    config["freshness_seconds"] = 0.into();
                    config["dedup"]["ttl_seconds"] = ttl_seconds.into();
                })
            })
            .collect();
        fleet.greet();
        let request = fleet.replicas[0].seal(bind().req_id(&format!("for {ttl_seconds}")));
        for _ in 0..2 {
            let id = fleet.replicas[0].arrive(workers[0], &request);
            fleet.serve();
            assert_eq!(fleet.redis.lives_ms(&fleet.key()), Some(lives_ms));
            fleet.decides(0, 0);
            fleet.serve();
            fleet.verdict(0, id, 0, "bound");
            assert_eq!(fleet.redis.lives_ms(&fleet.key()), Some(lives_ms));
            fleet.wait(lives_ms - 1);
            let copy = fleet.replicas[1].arrive(workers[1], &request);
            fleet.serve();
            fleet.verdict(1, copy, 0, "duplicate");
            fleet.wait(lives_ms.max(2 * 1000 * ttl_seconds)); // the copy's own record as well
        }
    }
}

/// How a claim can come to nothing.
const TROUBLES: [(&str, Fault); 9] = [
    ("unreachable", Fault::NotBegun),
    ("unreachable", Fault::NotConnected),
    ("unreachable", Fault::Ends(None)),
    ("unreadable", Fault::Ends(Some(b""))),
    ("unreadable", Fault::Ends(Some(b"+OK\r\n$-1\r\n+O"))),
    ("unreadable", Fault::Ends(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"))),
    ("absent", Fault::Ends(Some(b"+OK\r\n$-1\r\n+OK\r\n"))),
    ("refused", Fault::Ends(Some(b"-MOVED 3999 10.0.0.1:6379\r\n-MOVED 3999 10.0.0.1:6379\r\n+OK\r\n"))),
    ("refused", Fault::Refused("OOM command not allowed when used memory > 'maxmemory'.")),
];

#[derive(Clone, Copy)]
enum Fault {
    NotBegun,
    NotConnected,
    Ends(Option<&'static [u8]>),
    Refused(&'static str),
}

impl Fleet {
    /// A request arrives whole at a replica, and its claim comes to nothing.
    fn claim_fails(&self, replica: usize, request: &Request, fault: Fault) -> StreamId {
        let process = &self.replicas[replica].process;
        if matches!(fault, Fault::NotBegun) {
            process.trouble(|troubles| troubles.calls = 1);
        }
        let id = self.arrive(replica, request);
        match fault {
            Fault::NotBegun => {}
            Fault::NotConnected => process.refuse_exchange(self.exchange(replica).0),
            Fault::Ends(answer) => self.answered_with(replica, answer),
            Fault::Refused(line) => {
                self.redis.refuse(Some(Refusal::Writes(line.to_owned())));
                self.answered(replica);
                self.redis.refuse(None);
            }
        }
        id
    }
}

#[test]
fn trouble_before_the_decision_refuses_and_a_copy_may_try_again() {
    for (counted, fault) in TROUBLES {
        let fleet = Fleet::new();
        let request = fleet.replicas[0].seal(bind());
        for failed in 1..=2 {
            let id = fleet.claim_fails(0, &request, fault);
            fleet.verdict(0, id, 7, "record_unavailable");
            assert_eq!((fleet.decisions(), fleet.exchanged(0, counted)), (0, failed), "{counted}");
            // What may have been written is given up.
            let may_hold = matches!(fault, Fault::Ends(_)) && counted != "refused";
            assert_eq!(fleet.replicas[0].process.calls_to(RECORD).len(), usize::from(may_hold), "{counted}");
            fleet.serve();
        }
        let other = fleet.claimed(1, &request);
        fleet.decides(1, 0);
        fleet.answered(1);
        fleet.verdict(1, other, 0, "bound");
        let again = fleet.claimed(0, &request);
        fleet.verdict(0, again, 0, "duplicate");
        assert_eq!(fleet.decisions(), 1);
        fleet.all_say(&request, 0);
    }
}

#[test]
fn where_that_is_wanted_each_replica_decides_at_most_once_without_redis_and_settles_later() {
    for (counted, fault) in TROUBLES {
        let fleet = Fleet::with(local);
        let request = fleet.replicas[0].seal(bind());
        let first = fleet.claim_fails(0, &request, fault);
        let copy = fleet.replicas[0].arrive(1, &request);
        assert_eq!((fleet.decisions(), fleet.exchanged(0, counted)), (1, 1), "{counted}");
        assert_eq!(fleet.replicas[0].process.counted("lock decided locally"), 1);
        fleet.decides(0, 0);
        fleet.answered_with(0, None);
        fleet.replicas[0].process.settle_messages();
        fleet.verdict(0, first, 0, "bound");
        fleet.verdict(0, copy, 0, "duplicate_in_flight");
        let later = fleet.arrive(0, &request);
        fleet.verdict(0, later, 0, "duplicate");
        assert_eq!((fleet.decisions(), fleet.redis.keys().len()), (1, 0), "at most once for each replica");
        fleet.wait(200);
        fleet.answered(0);
        fleet.all_say(&request, 0);
    }
}

#[test]
fn a_redis_without_memory_still_tells_what_was_decided() {
    for change in [|_: &mut Value| {}, local] {
        let fleet = Fleet::with(change);
        let request = fleet.replicas[0].seal(bind());
        fleet.claimed(0, &request);
        let waits = fleet.arrive(1, &request);
        fleet.redis.refuse(Some(Refusal::Writes("OOM command not allowed".to_owned())));
        fleet.answered(1);
        fleet.waits(1, waits);
        fleet.redis.refuse(None);
        fleet.decides(0, 4);
        fleet.answered(0);
        fleet.redis.refuse(Some(Refusal::Writes("OOM command not allowed".to_owned())));
        fleet.wait(25);
        fleet.answered(1);
        fleet.verdict(1, waits, 4, "duplicate");
        fleet.all_say(&request, 4);
        assert_eq!(fleet.decisions(), 1);

        let mut fleet = fleet;
        let restarted = fleet.start_replica(change);
        fleet.greet();
        let copy = fleet.claimed(restarted, &request);
        fleet.verdict(restarted, copy, 4, "duplicate");
        assert_eq!(fleet.decisions(), 1);
    }
}

#[test]
fn what_failed_for_good_fails_on_every_replica() {
    // A bind whose call could not even begin, and a command that may have been carried out.
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.arrive(0, &request);
    let (id, call) = fleet.exchange(0);
    fleet.replicas[0].process.trouble(|troubles| troubles.calls = 1);
    fleet.replicas[0].process.end_exchange(id, Some(&fleet.redis.execute(&call.body)));
    fleet.answered(0);
    fleet.verdict(0, first, 7, "upstream_unreachable");
    fleet.all_say(&request, 7);

    let request = fleet.replicas[0].seal(Event::remote_open_door("sn").req_id("r2"));
    let first = fleet.claimed(0, &request);
    let (call, _) = fleet.replicas[0].process.calls_to("backend").remove(0);
    fleet.replicas[0].process.end_call(call, None);
    fleet.answered(0);
    fleet.replicas[0].plain(first, 503, "upstream_unreachable");
    let copy = fleet.claimed(1, &request);
    fleet.replicas[1].plain(copy, 503, "duplicate");
    assert_eq!(fleet.replicas[1].process.calls_made_to("backend"), 0);
    fleet.is_quiet();
}

#[test]
fn a_look_that_fails_is_tried_again_whatever_is_wanted_since_another_replica_decides() {
    for change in [|_: &mut Value| {}, local] {
        let fleet = Fleet::with(change);
        let request = fleet.replicas[0].seal(bind());
        let first = fleet.claimed(0, &request);
        let copy = fleet.claimed(1, &request);
        fleet.wait(25);
        fleet.answered_with(1, None);
        fleet.wait(50);
        fleet.replicas[1].process.refuse_exchange(fleet.exchange(1).0);
        fleet.replicas[1].process.trouble(|troubles| troubles.calls = 1);
        fleet.wait(100); // this one does not even begin
        assert!(fleet.replicas[1].process.calls().is_empty());
        fleet.waits(1, copy);
        fleet.decides(0, 0);
        fleet.answered(0);
        fleet.wait(200);
        fleet.answered(1);
        fleet.verdict(0, first, 0, "bound");
        fleet.verdict(1, copy, 0, "duplicate");
        assert_eq!((fleet.decisions(), fleet.exchanged(1, "unreachable")), (1, 3));
        fleet.all_say(&request, 0);
    }
}

#[test]
fn a_record_that_no_replica_wrote_refuses_whatever_is_wanted() {
    for change in [|_: &mut Value| {}, local] {
        // The value of another record, in the place of this one's.
        let swapped = {
            let fleet = Fleet::new();
            let request = fleet.replicas[0].seal(bind().req_id("another"));
            fleet.claimed(0, &request);
            fleet.decides(0, 0);
            fleet.answered(0);
            fleet.redis.value(&fleet.key()).unwrap()
        };
        for value in [None, Some(&b""[..]), Some(b"\x01\x01"), Some(b"{\"errcode\":0}"), Some(&swapped)] {
            let fleet = Fleet::with(change);
            let request = fleet.replicas[0].seal(bind());
            fleet.claimed(0, &request);
            let key = fleet.key();
            match value {
                Some(value) => fleet.redis.put(&key, value),
                None => fleet.redis.put_list(&key),
            }
            let copy = fleet.claimed(1, &request);
            fleet.verdict(1, copy, 7, "record_unavailable");
            assert_eq!((fleet.decisions(), fleet.exchanged(1, "forged")), (1, 1));
            assert_eq!(fleet.replicas[1].process.counted("lock decided locally"), 0);
            fleet.decides(0, 0);
            fleet.answered(0); // and it stays as it is
            assert_eq!((fleet.redis.keys().len(), fleet.redis.value(&key).as_deref()), (1, value));
        }
    }
}

#[test]
fn a_record_that_is_forged_while_a_copy_looks_refuses_it() {
    let fleet = Fleet::with(local);
    let request = fleet.replicas[0].seal(bind());
    fleet.claimed(0, &request);
    let copy = fleet.claimed(1, &request);
    fleet.redis.put(&fleet.key(), b"{\"errcode\":0}");
    fleet.wait(25);
    fleet.answered(1);
    fleet.verdict(1, copy, 7, "record_unavailable");
    assert_eq!(fleet.decisions(), 1);
}

#[test]
fn without_random_numbers_nothing_is_claimed_whatever_is_wanted() {
    for change in [|_: &mut Value| {}, local] {
        let fleet = Fleet::with(change);
        let edge = &fleet.replicas[0];
        let request = edge.seal(bind());
        let id = edge.sent(0, &request);
        edge.process.trouble(|troubles| troubles.random = 1);
        edge.process.settle_messages();
        fleet.verdict(0, id, 7, "record_unavailable");
        assert!(edge.process.calls().is_empty());

        let id = fleet.arrive(0, &request);
        fleet.answer_lost(0); // an orphan …
        if fleet.decisions() > 0 {
            continue; // … that this replica has decided about alone
        }
        fleet.answered_with(0, None);
        fleet.verdict(0, id, 7, "record_unavailable");
        let id = fleet.arrive(0, &request);
        edge.process.trouble(|troubles| troubles.random = 1);
        fleet.answered(0);
        fleet.verdict(0, id, 7, "record_unavailable");
        assert_eq!((fleet.decisions(), edge.process.troubles().random), (0, 0));
        fleet.is_quiet();
    }
}

#[test]
fn once_it_is_claimed_a_record_needs_no_random_numbers_to_be_settled() {
    let fleet = Fleet::new();
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    let first = fleet.claimed(0, &request);
    edge.process.trouble(|troubles| troubles.random = 1); // the answer to WeCom cannot be sealed
    fleet.decides(0, 0);
    fleet.answered(0);
    edge.plain(first, 503, "seal_failed");
    assert_eq!(edge.process.troubles().random, 0);
    fleet.all_say(&request, 0);
}

#[test]
fn without_random_numbers_at_its_start_a_replica_refuses_everything() {
    let mut fleet = Fleet::new();
    let edge = Edge::of(Process::with_seed(fleet.replicas[0].process.now_ms(), 99));
    edge.start_worker(|_| {}); // so that there is a table of records
    edge.process.trouble(|troubles| troubles.random = 2);
    let worker = edge.start_worker(|config| share(config, |_| {}));
    let id = edge.arrive(worker, &edge.seal(bind()));
    edge.verdict(id, 7, "record_unavailable");
    assert_eq!(edge.logged("no random numbers"), 1);
    edge.is_quiet();
    fleet.replicas.clear();
}

#[test]
fn a_settlement_that_fails_is_told_all_the_same_and_repeated_until_it_is_dropped() {
    let fleet = Fleet::new();
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    let first = fleet.claimed(0, &request);
    fleet.decides(0, 0);
    fleet.answered_with(0, None);
    fleet.verdict(0, first, 0, "bound");
    let mut pauses = Vec::new();
    let mut pause = 0;
    while edge.process.counted("settlements dropped") == 0 {
        assert_eq!(edge.process.counted("repeats waiting"), 1);
        fleet.wait(50);
        pause += 50;
        if !edge.process.calls_to(RECORD).is_empty() {
            assert_eq!(edge.process.counted("repeats waiting"), 0);
            fleet.answered_with(0, None);
            pauses.push(std::mem::take(&mut pause));
        }
    }
    assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600]);
    assert_eq!((edge.process.counted("repeats waiting"), edge.process.counted("settlements dropped")), (0, 1));
    assert_eq!(fleet.exchanged(0, "unreachable"), 9);
    fleet.is_quiet();
    // Nobody delivers it again, on any replica.
    let copy = fleet.claimed(1, &request);
    for _ in 0..50 {
        fleet.wait(25);
        fleet.serve();
    }
    fleet.verdict(1, copy, 7, "deadline");
    let here = fleet.arrive(0, &request);
    fleet.verdict(0, here, 0, "duplicate");
    assert_eq!(fleet.decisions(), 1);
}

#[test]
fn a_settlement_is_repeated_until_it_is_written_whatever_became_of_the_first() {
    for written_at_once in [false, true] {
        let fleet = Fleet::new();
        let request = fleet.replicas[0].seal(bind());
        let first = fleet.claimed(0, &request);
        fleet.decides(0, 4);
        if written_at_once {
            fleet.answer_lost(0)
        } else {
            fleet.answered_with(0, Some(b"-LOADING\r\n+OK\r\n"))
        }
        fleet.verdict(0, first, 4, "refused");
        fleet.wait(199);
        assert!(fleet.replicas[0].process.calls().is_empty());
        fleet.wait(1);
        fleet.answered(0);
        assert_eq!(fleet.exchanged(0, "written"), 1);
        fleet.all_say(&request, 4);
    }
}

#[test]
fn a_settlement_restores_what_redis_has_lost_and_overwrites_nothing_else() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    fleet.claimed(0, &request);
    fleet.redis.clear();
    fleet.decides(0, 0);
    fleet.answered(0);
    fleet.all_say(&request, 0);

    let request = fleet.replicas[0].seal(bind().req_id("r2"));
    let first = fleet.claimed(0, &request);
    fleet.redis.clear();
    let other = fleet.claimed(1, &request); // a Redis that forgets cannot keep anybody from that
    fleet.decides(0, 0);
    fleet.answered(0);
    fleet.verdict(0, first, 0, "bound");
    assert_eq!(fleet.exchanged(0, "superseded"), 1);
    fleet.decides(1, 4);
    fleet.answered(1);
    fleet.verdict(1, other, 4, "refused");
    fleet.is_quiet();
}

#[test]
fn a_configuration_update_does_not_lose_a_settlement() {
    let fleet = Fleet::new();
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    let first = fleet.claimed(0, &request);
    fleet.decides(0, 0);
    fleet.answered_with(0, None);
    fleet.verdict(0, first, 0, "bound");
    let updated = edge.start_worker(|config| share(config, |redis| redis["timeout_ms"] = 200.into()));
    assert!(!edge.process.retire_worker(0), "a settlement waits");
    assert!(edge.process.retire_worker(1));
    fleet.wait(200);
    fleet.answered_with(0, None);
    assert!(!edge.process.has_retired(0));
    fleet.wait(400);
    fleet.answered(0);
    assert!(edge.process.has_retired(0));
    let here = edge.arrive(updated, &request);
    edge.verdict(here, 0, "duplicate");
    let copy = fleet.claimed(1, &request);
    fleet.verdict(1, copy, 0, "duplicate");
    assert_eq!(fleet.decisions(), 1);
}

#[test]
fn a_configuration_update_lets_who_left_its_client_behind_look_and_decide() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.claimed(0, &request);
    let copy = fleet.claimed(1, &request);
    let edge = &fleet.replicas[1];
    edge.process.leave(copy);
    assert!(!edge.process.retire_worker(0), "it looks");
    fleet.wait(25);
    fleet.decides(0, 4);
    fleet.answered(0);
    fleet.answered(1);
    assert!(edge.process.has_retired(0));
    assert_eq!((edge.ended("bind", "duplicate"), edge.ended("bind", "client_gone")), (1, 0));
    fleet.verdict(0, first, 4, "refused");
    let here = edge.arrive(1, &request);
    edge.verdict(here, 4, "duplicate");
}

#[test]
fn a_client_that_leaves_is_counted_once_with_what_came_of_it() {
    // While the claim is asked for.
    let fleet = Fleet::new();
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    let first = fleet.arrive(0, &request);
    edge.process.leave(first);
    fleet.answered(0);
    fleet.decides(0, 0);
    fleet.answered(0);
    edge.gone(first);
    assert_eq!((edge.ended("bind", "bound"), edge.ended("bind", "client_gone")), (1, 0));
    fleet.all_say(&request, 0);

    // The same, and it comes to nothing.
    let request = edge.seal(bind().req_id("r2"));
    let first = fleet.arrive(0, &request);
    edge.process.leave(first);
    fleet.answered_with(0, None);
    fleet.answered(0);
    assert_eq!((edge.ended("bind", "record_unavailable"), edge.ended("bind", "client_gone")), (1, 0));

    // While it is looked at, until it is late.
    let request = edge.seal(bind().req_id("r3"));
    fleet.claimed(1, &request);
    let copy = fleet.claimed(0, &request);
    edge.process.leave(copy);
    for _ in 0..50 {
        fleet.wait(25);
        fleet.serve();
    }
    assert_eq!((edge.ended("bind", "deadline"), edge.ended("bind", "client_gone")), (1, 0));
    fleet.decides(1, 0);
    fleet.serve();

    // While it is settled.
    let request = edge.seal(bind().req_id("r4"));
    let first = fleet.claimed(0, &request);
    fleet.decides(0, 4);
    edge.process.leave(first);
    fleet.answered(0);
    assert_eq!((edge.ended("bind", "refused"), edge.ended("bind", "client_gone")), (1, 0));
    fleet.is_quiet();
}

#[test]
fn redis_is_greeted_once_by_each_process_and_again_under_another_configuration() {
    let fleet = Fleet::unready(|_| {});
    let edge = &fleet.replicas[0];
    assert!(edge.process.calls().is_empty(), "not while it is configured: calls are for later");
    edge.tick_all();
    assert_eq!(commands(&fleet.exchange(0).1), ["SET", "GET", "EVAL", "QUIT"], "what callbacks will need");
    fleet.answered(0);
    assert_eq!((fleet.exchanged(0, "greeted"), fleet.redis.keys().len()), (1, 0));
    edge.tick_all();
    assert!((0..2).all(|worker| !edge.process.is_ticking(worker)), "an idle worker costs nothing");

    let same = edge.start_worker(|config| share(config, |_| {}));
    edge.process.tick(same);
    assert!(edge.process.calls().is_empty());
    for change in [
        (|redis: &mut Value| redis["password"] = PASSWORD.into()) as fn(&mut Value),
        |redis| redis["cluster"] = "elsewhere".into(),
        |redis| redis["secret"] = "another-record-secret-of-32-chars".into(),
        |_| {},
    ] {
        let worker = edge.start_worker(|config| share(config, change));
        edge.process.tick(worker);
        let calls = edge.process.calls();
        assert_eq!(calls.len(), 1);
        edge.process.end_exchange(calls[0].0, Some(&fleet.redis.execute(&calls[0].1.body)));
        edge.process.tick(worker);
        assert!(!edge.process.is_ticking(worker));
    }
    assert_eq!((fleet.exchanged(0, "greeted"), fleet.exchanged(0, "refused")), (4, 1));
}

#[test]
fn a_redis_that_takes_no_writes_is_known_before_the_first_bind() {
    for (line, word) in [("OOM command not allowed", "OOM"), ("READONLY You can't write", "READONLY")] {
        let fleet = Fleet::unready(|_| {});
        fleet.redis.refuse(Some(Refusal::Writes(line.to_owned())));
        fleet.greet();
        assert_eq!(fleet.exchanged(0, "refused"), 1);
        assert_eq!(fleet.replicas[0].logged(&format!("dedup.redis: cluster 'record': {word}")), 1);
        fleet.is_quiet();
    }
}

#[test]
fn a_worker_that_is_replaced_before_it_greets_does_not_stay_for_that() {
    let fleet = Fleet::unready(|_| {});
    let process = &fleet.replicas[0].process;
    assert!(process.retire_worker(0));
    assert!(!process.is_ticking(0) && process.calls().is_empty());
}

#[test]
fn a_wrong_password_is_said_before_the_first_bind_with_rediss_own_word_and_no_secret() {
    let password = |redis: &mut Value| {
        redis["password"] = PASSWORD.into();
        redis["username"] = "the-user".into();
    };
    let fleet = Fleet::unready(password);
    fleet.redis.require("the-user", "another password");
    fleet.greet();
    let edge = &fleet.replicas[0];
    assert_eq!((fleet.exchanged(0, "refused"), fleet.redis.executed("AUTH")), (1, 2));
    let request = edge.seal(bind());
    let id = fleet.claimed(0, &request);
    fleet.verdict(0, id, 7, "record_unavailable");

    fleet.redis.require("the-user", PASSWORD);
    let id = fleet.claimed(0, &request);
    fleet.decides(0, 0);
    fleet.answered(0);
    fleet.verdict(0, id, 0, "bound");
    let log = edge.process.log();
    let warned = log.iter().filter(|(level, line)| *level == Level::Warn && line.contains("WRONGPASS"));
    assert_eq!(warned.count(), 2, "{log:?}"); // the exchange, once a second, and the callback
    assert_eq!(edge.logged("dedup.redis: cluster 'record': WRONGPASS"), 1);
    for secret in [SECRET, PASSWORD, "the-user", "another password"] {
        assert_eq!(edge.logged(secret), 0, "{secret}");
    }
    fleet.all_say(&request, 0);
}

#[test]
fn what_is_wrong_with_redis_is_said_once_a_second_in_its_own_word() {
    for (line, said) in [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("READONLY You can't write against a read only replica.", "READONLY"),
        ("NOPERM User the-user has no permissions to run the 'set' command", "NOPERM"),
        ("a line that Redis never wrote: the-password", "an error without a word"),
    ] {
        let fleet = Fleet::new();
        let edge = &fleet.replicas[0];
        let lines = || edge.logged(&format!("dedup.redis: cluster 'record': {said}"));
        fleet.redis.refuse(Some(Refusal::Writes(line.to_owned())));
        for n in 0..30 {
            let request = edge.seal(bind().req_id(&format!("r{n}")));
            fleet.claimed(0, &request);
        }
        assert_eq!(lines(), 1, "{:?}", edge.process.log());
        fleet.pass(1000);
        fleet.claimed(0, &edge.seal(bind()));
        assert_eq!((lines(), fleet.exchanged(0, "refused")), (2, 31));
        assert_eq!(edge.logged("the-"), 0, "only the word is said");
        fleet.is_quiet();
    }
}

#[test]
fn answers_that_are_swapped_or_cut_anywhere_make_nobody_first() {
    let fleet = Fleet::new();
    let [one, other] = ["r1", "r2"].map(|req_id| fleet.replicas[0].seal(bind().req_id(req_id)));
    let ids = [fleet.arrive(0, &one), fleet.arrive(1, &other)];
    let calls = [fleet.exchange(0), fleet.exchange(1)];
    let answers = calls.each_ref().map(|(_, call)| fleet.redis.execute(&call.body));
    fleet.replicas[0].process.end_exchange(calls[0].0, Some(&answers[1]));
    fleet.replicas[1].process.end_exchange(calls[1].0, Some(&answers[0]));
    fleet.verdict(0, ids[0], 7, "record_unavailable");
    fleet.verdict(1, ids[1], 7, "record_unavailable");
    assert_eq!((fleet.exchanged(0, "forged"), fleet.decisions()), (1, 0));

    for cut in 0..answers[0].len() {
        let id = fleet.arrive(0, &one);
        fleet.answered_with(0, Some(&answers[0][..cut]));
        fleet.verdict(0, id, 7, "record_unavailable");
        fleet.answered_with(0, None);
    }
    assert_eq!(fleet.decisions(), 0);
    fleet.is_quiet();
}

#[test]
fn what_one_secret_sealed_another_opens_while_it_is_rotated() {
    const NEXT: &str = "the-next-record-secret-of-32-chars";
    let rotating = |redis: &mut Value| {
        redis["secret"] = NEXT.into();
        redis["previous_secret"] = SECRET.into();
    };
    let mut fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.claimed(0, &request);
    let next = fleet.start_replica(rotating);
    let only_next = fleet.start_replica(|redis| redis["secret"] = NEXT.into());
    fleet.greet();
    let copy = fleet.claimed(next, &request);
    fleet.waits(next, copy); // the same record, pending
    let refused = fleet.claimed(only_next, &request);
    fleet.verdict(only_next, refused, 7, "record_unavailable");
    fleet.decides(0, 4);
    fleet.answered(0);
    fleet.wait(25);
    fleet.answered(next);
    fleet.verdict(0, first, 4, "refused");
    fleet.verdict(next, copy, 4, "duplicate");

    // And an orphan of this process's, from before its configuration was replaced.
    let request = fleet.replicas[0].seal(bind().req_id("r2"));
    fleet.arrive(0, &request);
    fleet.answer_lost(0);
    let edge = &fleet.replicas[0];
    let worker = edge.start_worker(|config| share(config, rotating));
    edge.process.tick(worker);
    fleet.serve();
    let again = edge.arrive(worker, &request);
    fleet.serve();
    fleet.decides(0, 0);
    fleet.serve();
    edge.verdict(again, 0, "bound");
}

#[test]
fn a_call_that_was_never_handed_over_claims_nothing_anywhere() {
    let fleet = Fleet::new();
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    edge.process.trouble(|troubles| troubles.sends = 1);
    let id = edge.arrive(0, &request);
    edge.verdict(id, 7, "upstream_unreachable");
    assert!(edge.process.calls().is_empty());
    let other = fleet.claimed(1, &request);
    fleet.decides(1, 0);
    fleet.answered(1);
    fleet.verdict(1, other, 0, "bound");
    fleet.all_say(&request, 0);
}

#[test]
fn who_decides_alone_after_an_adoption_that_failed_settles_it_later() {
    let fleet = Fleet::with(local);
    let request = fleet.replicas[0].seal(unbind());
    let backend = || fleet.replicas[0].process.calls_to("backend").remove(0).0;
    fleet.arrive(0, &request);
    fleet.answer_lost(0); // an orphan; decided alone
    fleet.replicas[0].process.end_call(backend(), None);
    fleet.answered_with(0, None); // and not released
    let again = fleet.claimed(0, &request);
    fleet.answered_with(0, None); // the adoption
    fleet.replicas[0].ends(backend(), "200", "success");
    fleet.answered(0);
    fleet.replicas[0].plain(again, 200, "delivered");
    assert_eq!(fleet.exchanged(0, "orphan"), 2); // that of the first claim is still there
    fleet.wait(200);
    fleet.answered(0);
    let copy = fleet.claimed(1, &request);
    fleet.replicas[1].plain(copy, 200, "duplicate");
    fleet.is_quiet();
}

#[test]
fn a_settlement_that_hears_anothers_answer_is_repeated() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.claimed(0, &request);
    let elsewhere = fleet.replicas[1].seal(bind().req_id("r2"));
    fleet.claimed(1, &elsewhere);
    // What looks at these records say before the settlement comes: pending, and another's.
    let looks = fleet.redis.keys().into_iter().map(|key| fleet.redis.value(&key).unwrap());
    let looks: Vec<_> =
        looks.map(|value| [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n+OK\r\n"].concat()).collect();
    fleet.decides(0, 4);
    fleet.answered_with(0, Some(&looks[0]));
    fleet.verdict(0, first, 4, "refused");
    fleet.wait(200);
    fleet.answered_with(0, Some(&looks[1]));
    fleet.wait(400);
    fleet.answered(0);
    assert_eq!((fleet.exchanged(0, "orphan"), fleet.exchanged(0, "forged"), fleet.exchanged(0, "written")), (1, 1, 1));
    let copy = fleet.claimed(1, &request);
    fleet.verdict(1, copy, 4, "duplicate");
}

#[test]
fn without_a_shared_record_nothing_is_asked_of_redis_and_an_idle_worker_does_not_tick() {
    let edge = Edge::new();
    assert!((0..2).all(|worker| !edge.process.is_ticking(worker)));
    let (first, call) = edge.called(0, &edge.seal(bind()));
    edge.decides(call, 0);
    edge.verdict(first, 0, "bound");
    assert_eq!(edge.process.calls_made(), 1);
    edge.is_quiet();
}

#[test]
fn a_body_that_leaves_no_time_for_a_call_is_not_failed_for_good() {
    let fleet = Fleet::with(|redis| redis["timeout_ms"] = 1000.into());
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    edge.process.buffered(id, 1);
    fleet.pass(1_900);
    edge.process.complete(id, &request.body_bytes());
    edge.process.settle_messages();
    fleet.verdict(0, id, 7, "deadline");
    assert!(edge.process.calls().is_empty(), "nothing is claimed that nobody can decide about");
    fleet.claimed(1, &request);
    assert_eq!(fleet.decisions(), 1);
}

#[test]
fn a_record_tells_its_verdict_by_nothing_but_what_is_sealed() {
    let lengths = [0, 1, 4, 1999].map(|errcode| {
        let fleet = Fleet::new();
        let request = fleet.replicas[0].seal(bind());
        fleet.claimed(0, &request);
        fleet.decides(0, errcode);
        fleet.answered(0);
        fleet.redis.value(&fleet.key()).unwrap().len()
    });
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
}

#[test]
fn a_greeting_leaves_alone_what_others_wrote() {
    let fleet = Fleet::unready(|redis| redis["key_prefix"] = "".into());
    fleet.redis.put("greeting", b"hello");
    fleet.greet();
    assert_eq!(fleet.redis.value("greeting").as_deref(), Some(&b"hello"[..]));
}

/// Where stale callbacks are taken, a record here may expire while its call goes on: then a claim of this
/// process's that nobody here knows of was not lost.
#[test]
fn where_stale_callbacks_are_taken_no_claim_is_adopted_and_a_late_verdict_is_written_all_the_same() {
    let mut fleet = Fleet { redis: Redis::new(0), replicas: Vec::new() };
    for _ in 0..2 {
        let number = fleet.start_replica(|_| {});
        for _ in 0..2 {
            fleet.replicas[number].start_worker(|config| {
                share(config, |_| {});
                config["freshness_seconds"] = 0.into();
                config["dedup"]["ttl_seconds"] = 30.into();
            });
        }
    }
    fleet.greet();
    let edge = &fleet.replicas[0];
    let request = edge.seal(bind());
    let first = edge.arrive(2, &request);
    edge.process.settle_messages();
    fleet.answered(0);
    edge.pass(31_000); // this machine's clock leaps, Redis's does not
    let copy = edge.arrive(2, &request);
    edge.process.settle_messages();
    fleet.answered(0);
    assert_eq!(fleet.decisions(), 1, "delivered again while its record lives in Redis");
    fleet.decides(0, 4);
    fleet.answered(0);
    assert_eq!(fleet.exchanged(0, "written"), 1);
    assert!(edge.finished(first).is_none(), "ends by its deadline");
    edge.pass(25);
    edge.tick_all();
    fleet.serve();
    fleet.verdict(0, copy, 4, "duplicate");
}

#[test]
fn a_clock_that_is_set_back_makes_no_answer_late() {
    let fleet = Fleet::new();
    let request = fleet.replicas[0].seal(bind());
    let first = fleet.claimed(0, &request);
    let elsewhere = fleet.claimed(1, &request);
    let beside = fleet.replicas[0].arrive(1, &request);
    for edge in &fleet.replicas {
        edge.process.set_clock(edge.process.now_ms() - 90_000);
    }
    for _ in 0..PATIENCE_MS / 25 + 1 {
        fleet.wait(25);
        fleet.serve();
    }
    fleet.verdict(1, elsewhere, 7, "deadline");
    fleet.verdict(0, beside, 7, "deadline");
    fleet.waits(0, first); // for its call, which has a timeout of its own
    fleet.decides(0, 0);
    fleet.serve();
    fleet.verdict(0, first, 0, "bound");
    fleet.all_say(&request, 0);
}
