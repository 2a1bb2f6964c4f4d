//! Replicas over a Redis that executes what it is asked and may do so late, twice or never, while its
//! answers are lost, cut or swapped; clients that leave, copies everywhere, replicas that die.
//!
//! Time and all that happens come from a seed, so that one that breaks a promise is played again, and
//! told event by event. [`plans`] has the tests, [`promises`] what must hold. `STORM_SEEDS=100000 cargo test --test worker storm` plays more of them.

mod plans;
mod promises;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;
use model::redis::{Flaw, Redis, Refusal};
use wecom_callback_filter::host::Exchanged;
use wecom_callback_filter::outcome::Outcome;

use super::*;

/// When every storm begins, in Unix milliseconds.
const BEGINS_MS: u64 = 1_800_000_000_000;

/// How long trouble is made, in milliseconds.
const STORM_MS: u64 = 3_000;

/// How long it may take until all that is left over has been repeated, in milliseconds.
const QUIET_MS: u64 = 30_000;

/// By when who stays is answered, in milliseconds from the headers: WeCom gives up at 3000.
const ANSWERED_WITHIN_MS: u64 = 2_900;

const RECORD: &str = "record";

/// How long a call may take, and an exchange with Redis, in milliseconds. Most storms take the defaults.
const TIMEOUTS_MS: [[u64; 2]; 6] = [[900, 100], [900, 100], [900, 100], [200, 50], [2_800, 300], [1_500, 1_000]];

/// The verdict on a bind about which nobody decided.
const FAILED: u32 = 7;

/// What one storm is made of.
#[derive(Debug, Clone, Copy)]
struct Plan {
    replicas: usize,
    /// Whether a replica decides alone where Redis says nothing.
    local: bool,
    /// Whether workers die too, and the host has now and then no random numbers and no store: then
    /// replicas need not agree, as a record may fail for good on one of them.
    poor: bool,
    /// A fault that Redis has.
    flaw: Option<Flaw>,
    /// Whether claims are taken for won where the write was acknowledged.
    trusts_ok: bool,
}

const USUAL: Plan = Plan { replicas: 2, local: false, poor: false, flaw: None, trusts_ok: false };

/// A promise that was broken.
type Broken = String;

/// What is to happen, and to whom. A replica is known by its place and how often it was restarted.
#[derive(Debug, Clone)]
enum Happens {
    Arrives {
        place: usize,
        record: usize,
    },
    Complete {
        client: usize,
    },
    Leaves {
        client: usize,
    },
    Reads {
        replica: Replica,
        worker: WorkerId,
    },
    Ticks {
        replica: Replica,
        worker: WorkerId,
    },
    Decides {
        replica: Replica,
        call: CallId,
        record: usize,
        says: Says,
    },
    /// Redis takes a batch that was sent to it.
    Executes {
        exchange: usize,
    },
    /// A worker hears of the end of an exchange.
    Ends {
        exchange: usize,
    },
    Dies {
        place: usize,
    },
    WorkerDies {
        place: usize,
    },
    Updates {
        place: usize,
    },
    Weather,
}

type Replica = (usize, usize);

/// What a call to an upstream comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Errcode(u32),
    Success,
    BrokenOff,
    Error,
}

/// What becomes of an answer of Redis's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    Cut,
    /// Exchanged for that of another, if another is there.
    Swapped,
    /// Nothing comes within the timeout, or the connection breaks.
    Lost,
    /// Nobody takes the connection.
    Refused,
}

struct Exchange {
    replica: Replica,
    call: CallId,
    batch: Vec<u8>,
    answer: Option<Vec<u8>>,
    fate: Fate,
    /// Whether its end has been told.
    ended: bool,
}

struct Client {
    replica: Replica,
    worker: WorkerId,
    id: StreamId,
    record: usize,
    began_ms: u64,
    left: bool,
    /// The status that it got, and the verdict if there was one.
    answered: Option<(u32, Option<u32>)>,
}

/// A callback, and what its upstream was asked and said.
struct Record {
    is_bind: bool,
    request: Request,
    /// Who asked, and what was said if anybody has heard it.
    calls: Vec<(Replica, CallId, Option<Says>)>,
}

struct Place {
    edge: Edge,
    lives: usize,
    /// The calls that are known already.
    seen: BTreeSet<CallId>,
    reads: BTreeSet<WorkerId>,
    /// The workers of the configuration that holds, two of them.
    workers: [WorkerId; 2],
    /// Workers whose configuration is replaced, but which still have streams.
    leaving: Vec<WorkerId>,
}

/// How bad things are, in per cent.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    lost: u32,
    not_executed: u32,
    refused: u32,
    delayed: u32,
    twice: u32,
    swapped: u32,
    cut: u32,
    slow: u32,
    not_begun: u32,
    messages_lost: u32,
}

struct Storm {
    plan: Plan,
    rng: Rng,
    /// How long a call may take, and an exchange with Redis, in milliseconds.
    timeouts_ms: [u64; 2],
    now_ms: u64,
    redis: Redis,
    places: Vec<Place>,
    records: Vec<Record>,
    clients: Vec<Client>,
    exchanges: Vec<Exchange>,
    /// What is to happen, by time and then in the order in which it was planned.
    ahead: BTreeMap<(u64, u64), Happens>,
    planned: u64,
    weather: Weather,
    processes: u64,
    verdicts: u32,
    counts: BTreeMap<String, i64>,
    /// What happened, in words, if somebody wants to read it.
    story: Option<String>,
}

/// What storms came to, all together.
#[derive(Default)]
struct Toll {
    storms: usize,
    callbacks: usize,
    calls: usize,
    counts: BTreeMap<String, i64>,
}

thread_local! {
    /// Sealed once: time begins anew with every storm.
    static REQUESTS: Vec<(bool, Request)> = {
        let edge = Edge::of(Process::new(BEGINS_MS));
        let sealed = |is_bind: bool, req_id: &str| {
            let event = if is_bind { bind() } else { unbind() };
            (is_bind, edge.seal(event.req_id(req_id)))
        };
        vec![sealed(true, "storm-1"), sealed(true, "storm-2"), sealed(false, "storm-3"), sealed(false, "storm-4")]
    };
}

fn play(seed: u64, plan: Plan, toll: &mut Toll) -> Result<(), Broken> {
    let mut storm = Storm::new(seed, plan, false);
    let result = storm.run();
    storm.add_to(toll);
    result
}

impl Storm {
    fn new(seed: u64, plan: Plan, tells: bool) -> Self {
        let redis = Redis::new(BEGINS_MS);
        if let Some(flaw) = plan.flaw {
            redis.break_by(flaw);
        }
        let records = REQUESTS.with(|requests| {
            let record = |(is_bind, request): &(bool, Request)| Record {
                is_bind: *is_bind,
                request: request.clone(),
                calls: Vec::new(),
            };
            requests.iter().map(record).collect()
        });
        let mut rng = Rng::with_seed(seed);
        let timeouts_ms = *rng.choice(&TIMEOUTS_MS).expect("there are some");
        let mut storm = Self {
            plan,
            rng,
            timeouts_ms,
            now_ms: BEGINS_MS,
            redis,
            places: Vec::new(),
            records,
            clients: Vec::new(),
            exchanges: Vec::new(),
            ahead: BTreeMap::new(),
            planned: 0,
            weather: Weather::default(),
            processes: 0,
            verdicts: 0,
            counts: BTreeMap::new(),
            story: tells.then(String::new),
        };
        for place in 0..plan.replicas {
            let first = storm.start(place, 0);
            storm.places.push(first);
        }
        storm
    }

    /// A process at that place.
    fn start(&mut self, place: usize, lives: usize) -> Place {
        self.processes += 1;
        let edge = Edge::of(Process::with_seed(self.now_ms, self.processes));
        let workers = [(); 2].map(|()| self.start_worker(&edge, (place, lives)));
        Place { edge, lives, seen: BTreeSet::new(), reads: BTreeSet::new(), workers, leaving: Vec::new() }
    }

    fn start_worker(&mut self, edge: &Edge, replica: Replica) -> WorkerId {
        let on_error = if self.plan.local { "local" } else { "refuse" };
        let [call_ms, exchange_ms] = self.timeouts_ms;
        let worker = edge.start_worker(|config| {
            config["endpoints"][0]["decision"]["timeout_ms"] = call_ms.into();
            config["endpoints"][0]["events"]["timeout_ms"] = call_ms.into();
            config["dedup"] = json!({ "redis": {
                "cluster": RECORD, "secret": "the-record-secret-of-32-characters",
                "timeout_ms": exchange_ms, "on_error": on_error,
            }});
        });
        let at_ms = self.now_ms + self.rng.u64(0..50);
        self.plan_at(at_ms, Happens::Ticks { replica, worker });
        worker
    }

    fn plan_at(&mut self, at_ms: u64, what: Happens) {
        self.planned += 1;
        self.ahead.insert((at_ms, self.planned), what);
    }

    /// Whether trouble is still made.
    fn is_on(&self) -> bool {
        self.now_ms < BEGINS_MS + STORM_MS
    }

    fn chance(&mut self, per_cent: u32) -> bool {
        self.rng.u32(0..100) < per_cent
    }

    fn run(&mut self) -> Result<(), Broken> {
        self.plan_trouble();
        self.until(BEGINS_MS + STORM_MS)?;
        self.become_quiet()?;
        self.all_say_the_same()
    }

    fn plan_trouble(&mut self) {
        self.plan_at(BEGINS_MS, Happens::Weather);
        for record in 0..self.records.len() {
            // Copies come close together, and again later, as WeCom's retries do.
            for _ in 0..self.rng.u32(1..4) {
                let at_ms = BEGINS_MS + self.rng.u64(0..STORM_MS - 500);
                for _ in 0..self.rng.u32(1..4) {
                    let place = self.rng.usize(0..self.plan.replicas);
                    let at_ms = at_ms + self.rng.u64(0..60);
                    self.plan_at(at_ms, Happens::Arrives { place, record });
                }
            }
        }
        if self.chance(40) {
            let (at_ms, place) = (self.rng.u64(0..STORM_MS), self.rng.usize(0..self.plan.replicas));
            self.plan_at(BEGINS_MS + at_ms, Happens::Dies { place });
        }
        if self.plan.poor && self.chance(40) {
            let (at_ms, place) = (self.rng.u64(0..STORM_MS), self.rng.usize(0..self.plan.replicas));
            self.plan_at(BEGINS_MS + at_ms, Happens::WorkerDies { place });
        }
        if self.chance(30) {
            let (at_ms, place) = (self.rng.u64(0..STORM_MS), self.rng.usize(0..self.plan.replicas));
            self.plan_at(BEGINS_MS + at_ms, Happens::Updates { place });
        }
    }

    /// Lets happen what is due by then.
    fn until(&mut self, end_ms: u64) -> Result<(), Broken> {
        while let Some(((at_ms, _), what)) = self.next_by(end_ms) {
            self.set_clock(at_ms);
            let is_tick = matches!(what, Happens::Ticks { .. });
            let in_words = self.story.as_ref().map(|_| format!("{:5} {}", at_ms - BEGINS_MS, self.in_words(&what)));
            let touched = self.happens(what)?;
            if let Some((story, line)) = self.story.as_mut().zip(in_words).filter(|_| !is_tick || touched.is_some()) {
                writeln!(story, "{line}").unwrap();
            }
            if let Some(place) = touched {
                self.look_at(place)?;
            }
            self.nobody_waits_too_long()?;
        }
        self.set_clock(end_ms);
        self.nobody_waits_too_long()
    }

    fn next_by(&mut self, end_ms: u64) -> Option<((u64, u64), Happens)> {
        let first = self.ahead.first_entry().filter(|entry| entry.key().0 <= end_ms)?;
        Some(first.remove_entry())
    }

    fn set_clock(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.redis.set_clock(now_ms);
        self.places.iter().for_each(|place| place.edge.process.set_clock(now_ms));
    }

    /// Whether that replica has not died since.
    fn lives(&self, (place, lives): Replica) -> bool {
        self.places[place].lives == lives
    }

    /// Does what happens. Gives the place of the replica that it happened to.
    fn happens(&mut self, what: Happens) -> Result<Option<usize>, Broken> {
        let now_ms = self.now_ms;
        match what {
            Happens::Arrives { place, record } => {
                let worker = self.places[place].workers[self.rng.usize(0..2)];
                let lives = self.places[place].lives;
                let id = self.places[place].edge.headers(worker, &self.records[record].request);
                let client = self.clients.len();
                let (left, answered) = (false, None);
                let replica = (place, lives);
                self.clients.push(Client { replica, worker, id, record, began_ms: now_ms, left, answered });
                let late_ms = if self.chance(10) { self.rng.u64(0..1_500) } else { self.rng.u64(0..5) };
                self.plan_at(now_ms + late_ms, Happens::Complete { client });
                if self.is_on() && self.chance(20) {
                    let after_ms = self.rng.u64(0..1_500);
                    self.plan_at(now_ms + after_ms, Happens::Leaves { client });
                }
                Ok(Some(place))
            }
            Happens::Complete { client } => {
                let Client { replica, id, record, left, .. } = self.clients[client];
                if left || !self.lives(replica) {
                    return Ok(None);
                }
                let sends = u32::from(self.chance(self.weather.messages_lost));
                let troubles = model::Troubles { sends, ..self.poverty() };
                let process = &self.places[replica.0].edge.process;
                process.trouble(|now| *now = troubles);
                process.complete(id, &self.records[record].request.body_bytes());
                process.trouble(|now| *now = model::Troubles::default());
                Ok(Some(replica.0))
            }
            Happens::Leaves { client } => {
                let Client { replica, id, left, answered, .. } = self.clients[client];
                if left || answered.is_some() || !self.lives(replica) {
                    return Ok(None);
                }
                self.clients[client].left = true;
                self.places[replica.0].edge.process.leave(id);
                Ok(Some(replica.0))
            }
            Happens::Reads { replica, worker } => {
                if !self.lives(replica) {
                    return Ok(None);
                }
                let messages = if self.chance(50) { usize::MAX } else { 1 };
                let lost_messages = u32::from(self.chance(self.weather.messages_lost));
                let calls = u32::from(self.chance(self.weather.not_begun));
                let troubles = model::Troubles { lost_messages, calls, ..self.poverty() };
                let place = &mut self.places[replica.0];
                place.reads.remove(&worker);
                place.edge.process.trouble(|now| *now = troubles);
                place.edge.process.read_queue(worker, messages);
                place.edge.process.trouble(|now| *now = model::Troubles::default());
                Ok(Some(replica.0))
            }
            Happens::Ticks { replica, worker } => {
                if !self.lives(replica) || !self.places[replica.0].edge.process.is_running(worker) {
                    return Ok(None);
                }
                let pause_ms = self.rng.u64(25..=50);
                self.plan_at(now_ms + pause_ms, Happens::Ticks { replica, worker });
                let process = &self.places[replica.0].edge.process;
                if !process.is_ticking(worker) {
                    return Ok(None);
                }
                process.tick(worker);
                Ok(Some(replica.0))
            }
            Happens::Decides { replica, call, record, says } => {
                if !self.lives(replica) {
                    return Ok(None);
                }
                let known = &mut self.records[record].calls;
                let heard = known.iter_mut().find(|(by, id, _)| (*by, *id) == (replica, call));
                heard.expect("a call that was made").2 = Some(says);
                let troubles = self.poverty();
                let edge = &self.places[replica.0].edge;
                edge.process.trouble(|now| *now = troubles);
                let response = match says {
                    Says::Errcode(errcode) => Some(received("200", &json!({ "errcode": errcode }).to_string())),
                    Says::Success => Some(received("200", "success")),
                    Says::BrokenOff => None,
                    Says::Error => Some(received("500", "")),
                };
                edge.process.tell_end(call, response);
                edge.process.trouble(|now| *now = model::Troubles::default());
                Ok(Some(replica.0))
            }
            Happens::Executes { exchange } => {
                let Exchange { batch, answer, .. } = &mut self.exchanges[exchange];
                *answer = Some(self.redis.execute(batch));
                Ok(None)
            }
            Happens::Ends { exchange } => Ok(self.end_exchange(exchange)),
            Happens::Dies { place } => {
                self.counted("replicas died");
                self.collect(place);
                let lives = self.places[place].lives + 1;
                let next = self.start(place, lives);
                self.places[place] = next;
                Ok(Some(place))
            }
            Happens::WorkerDies { place } => {
                self.counted("workers died");
                let index = self.rng.usize(0..2);
                let Place { edge, lives, workers, .. } = &self.places[place];
                let (replica, dead) = ((place, *lives), workers[index]);
                edge.process.kill_worker(dead);
                let edge = Edge::of(edge.process.clone());
                self.places[place].workers[index] = self.start_worker(&edge, replica);
                let its = |client: &&mut Client| (client.replica, client.worker) == (replica, dead);
                // They hang, until Envoy itself ends them.
                self.clients.iter_mut().filter(its).for_each(|client| client.left = true);
                Ok(Some(place))
            }
            Happens::Updates { place } => {
                self.counted("configurations replaced");
                let index = self.rng.usize(0..2);
                let Place { edge, lives, workers, .. } = &self.places[place];
                let (replica, old) = ((place, *lives), workers[index]);
                let edge = Edge::of(edge.process.clone());
                let new = self.start_worker(&edge, replica);
                self.places[place].workers[index] = new;
                self.places[place].leaving.push(old);
                Ok(Some(place))
            }
            Happens::Weather => {
                self.change_weather();
                Ok(None)
            }
        }
    }

    /// What the host has not got just now.
    fn poverty(&mut self) -> model::Troubles {
        let poor = self.plan.poor && self.is_on();
        let random = if poor && self.chance(5) { self.rng.u32(1..3) } else { 0 };
        let contended = if poor && self.chance(5) { self.rng.u32(1..70) } else { 0 };
        model::Troubles { random, contended, ..model::Troubles::default() }
    }

    fn change_weather(&mut self) {
        self.weather = match self.rng.u32(0..5) {
            0 => Weather::default(),
            1 => Weather { not_executed: 60, refused: 30, ..Weather::default() }, // away
            2 => Weather { lost: 50, delayed: 20, twice: 30, ..Weather::default() },
            3 => Weather { swapped: 40, cut: 30, slow: 50, twice: 20, ..Weather::default() },
            _ => Weather {
                lost: 15,
                not_executed: 10,
                refused: 5,
                delayed: 15,
                twice: 15,
                swapped: 10,
                cut: 5,
                slow: 20,
                not_begun: 5,
                messages_lost: 10,
            },
        };
        let refusal = match self.rng.u32(0..12) {
            0 => Some(Refusal::Writes("OOM command not allowed when used memory > 'maxmemory'.".to_owned())),
            1 => Some(Refusal::Keys("MOVED 3999 10.0.0.1:6379".to_owned())),
            2 => Some(Refusal::All("LOADING Redis is loading the dataset in memory".to_owned())),
            _ => None,
        };
        self.redis.refuse(refusal);
        let next_ms = self.now_ms + self.rng.u64(20..600);
        if next_ms < BEGINS_MS + STORM_MS {
            self.plan_at(next_ms, Happens::Weather);
        }
    }

    /// Takes up what a replica has done: its calls, its messages, its answers.
    fn look_at(&mut self, place: usize) -> Result<(), Broken> {
        let replica = (place, self.places[place].lives);
        for (id, call) in self.places[place].edge.process.calls() {
            if self.places[place].seen.insert(id) {
                match call.cluster.as_str() {
                    RECORD => self.send(replica, id, call),
                    _ => self.ask(replica, id, &call)?,
                }
            }
        }
        for worker in 0..self.places[place].edge.process.workers() {
            let process = &self.places[place].edge.process;
            let waiting = process.is_running(worker) && process.waiting_messages(worker) > 0;
            if waiting && self.places[place].reads.insert(worker) {
                let at_ms = self.now_ms + self.rng.u64(0..3);
                self.plan_at(at_ms, Happens::Reads { replica, worker });
            }
        }
        let Place { edge, leaving, .. } = &mut self.places[place];
        leaving.retain(|worker| {
            let has_streams = edge.process.open().iter().any(|(of, _)| of == worker);
            if !has_streams {
                let _ = edge.process.retire_worker(*worker);
            }
            has_streams
        });
        self.hear_answers(place)
    }

    /// A worker has sent a batch to Redis: its fate is decided.
    fn send(&mut self, replica: Replica, call: CallId, made: Call) {
        let Weather { lost, not_executed, refused, delayed, twice, swapped, cut, slow, .. } = self.weather;
        let exchange = self.exchanges.len();
        let began_ms = self.now_ms;
        let timeout_ms = made.timeout_ms;
        let mut executes_ms = Some(if self.chance(slow) { self.rng.u64(0..timeout_ms) } else { self.rng.u64(0..3) });
        let mut fate = Fate::Whole;
        let dice = self.rng.u32(0..100);
        if dice < lost {
            fate = Fate::Lost;
        } else if dice < lost + not_executed {
            (fate, executes_ms) = (Fate::Lost, None);
        } else if dice < lost + not_executed + refused {
            (fate, executes_ms) = (Fate::Refused, None);
        } else if dice < lost + not_executed + refused + delayed {
            // The connection is given up, and what it carried is taken some time later.
            (fate, executes_ms) = (Fate::Lost, Some(timeout_ms + self.rng.u64(0..2_000)));
        } else if self.chance(swapped) {
            fate = Fate::Swapped;
        } else if self.chance(cut) {
            fate = Fate::Cut;
        }
        if let Some(executes_ms) = executes_ms {
            self.plan_at(began_ms + executes_ms, Happens::Executes { exchange });
            if self.chance(twice) {
                let within_ms = if self.chance(50) { 100 } else { 2_000 };
                let again_ms = executes_ms + self.rng.u64(0..within_ms);
                self.plan_at(began_ms + again_ms, Happens::Executes { exchange });
            }
        }
        let ends_ms = match fate {
            Fate::Lost if self.chance(70) => timeout_ms,
            Fate::Lost => self.rng.u64(0..=timeout_ms), // a reset
            Fate::Refused => self.rng.u64(0..3),
            Fate::Whole | Fate::Cut => {
                let within_ms = if self.chance(slow) { timeout_ms } else { 3 };
                executes_ms.unwrap_or(timeout_ms) + self.rng.u64(0..within_ms)
            }
            Fate::Swapped => executes_ms.unwrap_or(timeout_ms) + self.rng.u64(0..60),
        };
        self.exchanges.push(Exchange { replica, call, batch: made.body, answer: None, fate, ended: false });
        self.plan_at(began_ms + ends_ms.min(timeout_ms), Happens::Ends { exchange });
    }

    fn end_exchange(&mut self, index: usize) -> Option<usize> {
        if self.exchanges[index].fate == Fate::Swapped {
            let has_answer = |other: &usize| {
                let Exchange { answer, ended, .. } = &self.exchanges[*other];
                *other != index && answer.is_some() && !ended
            };
            let others: Vec<_> = (0..self.exchanges.len()).filter(has_answer).collect();
            // The answer to the same question is the hardest to tell from one's own.
            let asked = |other: &usize| asked(&self.exchanges[*other].batch);
            let alike: Vec<_> = others.iter().copied().filter(|other| asked(other) == asked(&index)).collect();
            if let Some(other) = self.rng.choice(if alike.is_empty() { others } else { alike }) {
                let answer = self.exchanges[index].answer.take();
                self.exchanges[index].answer = std::mem::replace(&mut self.exchanges[other].answer, answer);
                self.counted("answers swapped");
            }
        }
        self.exchanges[index].ended = true;
        let Exchange { replica, call, batch, answer, fate, .. } = &self.exchanges[index];
        let (replica, call, fate) = (*replica, *call, *fate);
        let mut answer = answer.clone();
        if self.plan.trusts_ok {
            answer = answer.map(|answer| as_won_if_acknowledged(batch, answer));
        }
        if fate == Fate::Cut {
            self.counted("answers cut");
            answer = answer.map(|answer| answer[..self.rng.usize(0..answer.len())].to_vec());
        }
        if !self.lives(replica) {
            return None;
        }
        let troubles = self.poverty();
        let process = &self.places[replica.0].edge.process;
        process.trouble(|now| *now = troubles);
        match fate {
            Fate::Whole | Fate::Cut | Fate::Swapped => process.tell_end(call, answer.as_deref().map(model::connected)),
            Fate::Lost => process.tell_end(call, None),
            Fate::Refused => process.tell_end(call, Some(model::not_connected())),
        }
        process.trouble(|now| *now = model::Troubles::default());
        Some(replica.0)
    }

    /// Trouble is over: everything is brought to its end.
    fn become_quiet(&mut self) -> Result<(), Broken> {
        self.weather = Weather::default();
        self.redis.refuse(None);
        let end_ms = self.now_ms + QUIET_MS;
        while self.now_ms < end_ms {
            let until_ms = self.now_ms + 50;
            self.until(until_ms)?;
            let busy = self.places.iter().any(|place| {
                let process = &place.edge.process;
                let ticks = |worker| process.is_running(worker) && process.is_ticking(worker);
                !process.open().is_empty() || !process.calls().is_empty() || (0..process.workers()).any(ticks)
            });
            let ahead = self.ahead.values().any(|what| !matches!(what, Happens::Ticks { .. }));
            if !busy && !ahead {
                return self.nothing_is_counted_as_waiting();
            }
        }
        let calls: Vec<_> = self.places.iter().map(|place| place.edge.process.calls().len()).collect();
        Err(format!("no quiet after {QUIET_MS} ms: {calls:?} calls, {} ahead", self.ahead.len()))
    }

    fn in_words(&self, what: &Happens) -> String {
        let of = |exchange: usize| {
            let Exchange { replica, call, batch, fate, .. } = &self.exchanges[exchange];
            let commands = model::redis::commands(batch).expect("whole commands");
            let words = commands.iter().map(|words| String::from_utf8_lossy(&words[0]).into_owned());
            format!("{replica:?} {call:?} {:?} {fate:?}", words.collect::<Vec<_>>())
        };
        match what {
            Happens::Executes { exchange } => format!("Executes {}", of(*exchange)),
            Happens::Ends { exchange } => format!("Ends {}", of(*exchange)),
            Happens::Complete { client } | Happens::Leaves { client } => {
                let Client { replica, id, record, .. } = &self.clients[*client];
                format!("{what:?} {replica:?} {id:?} record {record}")
            }
            what => format!("{what:?}"),
        }
    }

    fn counted(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Takes what a replica has counted.
    fn collect(&mut self, place: usize) {
        let others = ["lock decided locally", "settlements dropped"].map(str::to_owned);
        let of_redis = Exchanged::ALL.into_iter().map(|what| format!("redis {}", what.name()));
        for what in of_redis.chain(others) {
            let count = self.places[place].edge.process.counted(&what);
            *self.counts.entry(what).or_default() += count;
        }
    }

    fn add_to(mut self, toll: &mut Toll) {
        for place in 0..self.places.len() {
            self.collect(place);
        }
        toll.storms += 1;
        toll.callbacks += self.clients.len();
        toll.calls += self.records.iter().map(|record| record.calls.len()).sum::<usize>();
        for (what, count) in self.counts {
            *toll.counts.entry(what).or_default() += count;
        }
    }
}

/// The first command of a batch and its key.
fn asked(batch: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let words = model::redis::commands(batch)?.into_iter().next()?;
    let key = if words[0] == b"EVAL" { words.get(3) } else { words.get(1) };
    Some((words[0].clone(), key?.clone()))
}

/// What an answer would mean to whoever takes `+OK` for a won claim, and does not look at what was read
/// back: the value that was to be written stands in its place.
fn as_won_if_acknowledged(batch: &[u8], answer: Vec<u8>) -> Vec<u8> {
    let commands = model::redis::commands(batch).expect("whole commands");
    match commands.first().map(Vec::as_slice) {
        Some([set, _, pending, ..]) if set == b"SET" && answer.starts_with(b"+OK\r\n$") => {
            [format!("+OK\r\n${}\r\n", pending.len()).as_bytes(), pending, b"\r\n+OK\r\n"].concat()
        }
        _ => answer,
    }
}
