//! Replicas over a Redis that executes what it is asked and may do so late, twice or never, while its
//! answers are lost, cut or swapped; clients that leave, copies everywhere, replicas that die, clocks that
//! leap, settings that differ, and somebody who writes to Redis.
//!
//! Time and all that happens come from a seed, so that one that breaks a promise is played again, and
//! told event by event. [`plans`] has the tests, [`promises`] what must hold.
//! `STORM_SEEDS=100000 cargo test --test worker storm` plays more of them.

mod intruder;
mod plans;
mod promises;
mod settings;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;
use model::redis::{Flaw, Redis, Refusal};
use wecom_callback_filter::host::Exchanged;
use wecom_callback_filter::outcome::Outcome;

use self::intruder::Intruder;
use self::settings::{Rotation, Settings};
use super::*;

/// When every storm begins, in Unix milliseconds.
const BEGINS_MS: u64 = 1_800_000_000_000;

/// How long trouble is made, in milliseconds.
const STORM_MS: u64 = 3_000;

/// The same where records expire meanwhile.
const LONG_STORM_MS: u64 = 16_000;

/// How long it may take until all that is left over has been repeated, in milliseconds.
const QUIET_MS: u64 = 60_000;

const RECORD: &str = "record";

/// How far clocks leap, in milliseconds.
const LEAPS_MS: [i64; 5] = [30, 400, 3_000, 60_000, 290_000];

/// Farther than records live in the record of a process, in milliseconds. Every callback is stale then.
const FAR_MS: i64 = 2_000_000;

/// What one storm is made of.
#[derive(Debug, Clone, Copy)]
struct Plan {
    replicas: usize,
    /// Whether a replica decides alone where Redis says nothing.
    local: bool,
    /// Whether settings differ from worker to worker: that one, and all timeouts.
    mixed: bool,
    rotation: Rotation,
    /// Whether workers die too, and the host has now and then no random numbers and no store.
    poor: bool,
    /// Whether wall clocks leap, one replica's or all.
    leaps: bool,
    /// Whether records live shorter than the storm.
    expires: bool,
    /// Who else writes to Redis.
    intruder: Option<Intruder>,
    fault: Option<Fault>,
    /// Whether to insist even on what cannot hold under this plan: it must then be seen to break.
    insists: bool,
}

const USUAL: Plan = Plan {
    replicas: 2,
    local: false,
    mixed: false,
    rotation: Rotation::None,
    poor: false,
    leaps: false,
    expires: false,
    intruder: None,
    fault: None,
    insists: false,
};

/// What is wrong, for a promise to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    OfRedis(Flaw),
    /// Claims are taken for won where the write was acknowledged.
    TrustsOk,
    /// The host ticks ten times slower than it is asked to.
    TicksLate,
    /// The store of a process forgets everything, again and again.
    StoreForgets,
}

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
    /// A wall clock is set to so much more than true time: one replica's, or all and Redis's.
    Leaps {
        place: Option<usize>,
        ahead_ms: i64,
    },
    Intrudes,
    Forgets {
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
    worker: WorkerId,
    call: CallId,
    began_ms: u64,
    /// The record that it is about; none of a greeting.
    record: Option<usize>,
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
    /// Its key in Redis.
    key: String,
    calls: Vec<Asked>,
    /// The values that it has had in Redis, the latest last.
    values: Vec<Vec<u8>>,
    /// Until when Redis is to keep the latest, by its own clock.
    kept_until_ms: u64,
    /// Whether something has happened after which the replicas need not agree about it.
    tainted: bool,
}

/// A call to an upstream.
#[derive(Debug)]
struct Asked {
    by: Replica,
    worker: WorkerId,
    id: CallId,
    /// What was said, if anybody has heard it.
    says: Option<Says>,
    /// Whether it was made without Redis.
    alone: bool,
    /// Until when nobody may make another, by Redis's clock.
    until_ms: u64,
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
    /// What every worker was ever configured with.
    settings: Vec<Settings>,
    /// How many calls were made without Redis.
    alone: i64,
    lost_a_worker: bool,
}

/// The wall clocks at one place.
#[derive(Default)]
struct WallClock {
    ahead_ms: i64,
    /// When it was set back, in true time.
    set_back: Vec<u64>,
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
    /// What workers are configured with, as far as all have the same.
    usual: Settings,
    /// True time.
    now_ms: u64,
    redis: Redis,
    redis_ahead_ms: i64,
    places: Vec<Place>,
    clocks: Vec<WallClock>,
    /// How far the rotation of the secret has come at each place.
    steps: Vec<usize>,
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

/// A callback that all storms are about.
#[derive(Clone)]
struct Callback {
    is_bind: bool,
    request: Request,
    key: String,
}

thread_local! {
    /// Sealed once: time begins anew with every storm.
    static CALLBACKS: Vec<Callback> = {
        let edge = Edge::of(Process::new(BEGINS_MS));
        let sealed = |is_bind: bool, req_id: &str| {
            let event = if is_bind { bind() } else { unbind() };
            let key = settings::key(&edge, req_id);
            Callback { is_bind, request: edge.seal(event.req_id(req_id)), key }
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
        if let Some(Fault::OfRedis(flaw)) = plan.fault {
            redis.break_by(flaw);
        }
        let record = |Callback { is_bind, request, key }| Record {
            is_bind,
            request,
            key,
            calls: Vec::new(),
            values: Vec::new(),
            kept_until_ms: 0,
            tainted: false,
        };
        let records = CALLBACKS.with(Clone::clone).into_iter().map(record).collect();
        let mut rng = Rng::with_seed(seed);
        let usual = Settings::any(plan, &mut rng);
        let steps = vec![usual.step; plan.replicas];
        let mut storm = Self {
            plan,
            rng,
            usual,
            now_ms: BEGINS_MS,
            redis,
            redis_ahead_ms: 0,
            places: Vec::new(),
            clocks: (0..plan.replicas).map(|_| WallClock::default()).collect(),
            steps,
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
        let edge = Edge::of(Process::with_seed(self.wall_ms(place), self.processes));
        let mut settings = Vec::new();
        let workers = [(); 2].map(|()| self.start_worker(&edge, (place, lives), &mut settings));
        let (seen, reads, leaving) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Place { edge, lives, seen, reads, workers, leaving, settings, alone: 0, lost_a_worker: false }
    }

    fn start_worker(&mut self, edge: &Edge, replica: Replica, known: &mut Vec<Settings>) -> WorkerId {
        let settings = self.usual.of_another_worker(self.plan, self.steps[replica.0], &mut self.rng);
        let worker = edge.start_worker(|config| settings.configure(config));
        known.push(settings);
        let at_ms = self.now_ms + self.rng.u64(0..50);
        self.plan_at(at_ms, Happens::Ticks { replica, worker });
        worker
    }

    /// Replaces a worker of a place by a new one.
    fn start_another_worker(&mut self, place: usize, index: usize) -> WorkerId {
        let replica = (place, self.places[place].lives);
        let edge = Edge::of(self.places[place].edge.process.clone());
        let mut settings = std::mem::take(&mut self.places[place].settings);
        let worker = self.start_worker(&edge, replica, &mut settings);
        self.places[place].settings = settings;
        std::mem::replace(&mut self.places[place].workers[index], worker)
    }

    fn plan_at(&mut self, at_ms: u64, what: Happens) {
        self.planned += 1;
        self.ahead.insert((at_ms, self.planned), what);
    }

    /// How long trouble is made, in milliseconds.
    fn storm_ms(&self) -> u64 {
        if self.plan.expires { LONG_STORM_MS } else { STORM_MS }
    }

    /// Whether trouble is still made.
    fn is_on(&self) -> bool {
        self.now_ms < BEGINS_MS + self.storm_ms()
    }

    /// What the wall clock at a place says.
    fn wall_ms(&self, place: usize) -> u64 {
        self.now_ms.saturating_add_signed(self.clocks[place].ahead_ms)
    }

    /// What Redis's clock says.
    fn redis_ms(&self) -> u64 {
        self.now_ms.saturating_add_signed(self.redis_ahead_ms)
    }

    fn chance(&mut self, per_cent: u32) -> bool {
        self.rng.u32(0..100) < per_cent
    }

    fn run(&mut self) -> Result<(), Broken> {
        self.plan_trouble();
        self.until(BEGINS_MS + self.storm_ms())?;
        self.become_quiet()?;
        if self.plan.leaps {
            self.happens(Happens::Leaps { place: None, ahead_ms: 0 })?; // somebody sets the clocks
            self.become_quiet()?;
        }
        if self.plan.expires {
            let gone_ms = self.now_ms + self.usual.life_ms() + 1_000;
            self.until(gone_ms)?;
        }
        self.all_say_the_same()
    }

    fn plan_trouble(&mut self) {
        self.plan_at(BEGINS_MS, Happens::Weather);
        let storm_ms = self.storm_ms();
        for record in 0..self.records.len() {
            // Copies come close together, and again later, as WeCom's retries do.
            for _ in 0..self.rng.u32(if self.plan.expires { 3..8 } else { 1..4 }) {
                let at_ms = BEGINS_MS + self.rng.u64(0..storm_ms - 500);
                for _ in 0..self.rng.u32(1..4) {
                    let place = self.rng.usize(0..self.plan.replicas);
                    let at_ms = at_ms + self.rng.u64(0..60);
                    self.plan_at(at_ms, Happens::Arrives { place, record });
                }
            }
        }
        self.plan_some(40, 1, |place, _| Happens::Dies { place });
        if self.plan.poor {
            self.plan_some(40, 1, |place, _| Happens::WorkerDies { place });
        }
        let updates = if self.plan.rotation == Rotation::None { (30, 1) } else { (90, 3) };
        self.plan_some(updates.0, updates.1, |place, _| Happens::Updates { place });
        if self.plan.leaps {
            self.plan_some(60, 4, |place, rng| {
                let place = rng.bool().then_some(place);
                let is_far = place.is_some() && rng.u32(0..10) == 0;
                let by_ms = if is_far { FAR_MS } else { *rng.choice(&LEAPS_MS).expect("there are some") };
                Happens::Leaps { place, ahead_ms: if rng.bool() { by_ms } else { -by_ms } }
            });
        }
        if self.plan.intruder.is_some() {
            self.plan_some(70, 5, |_, _| Happens::Intrudes);
        }
        if self.plan.fault == Some(Fault::StoreForgets) {
            self.plan_some(70, 5, |place, _| Happens::Forgets { place });
        }
    }

    /// Plans something to happen so many times at most, each with that chance.
    fn plan_some(&mut self, per_cent: u32, times: u32, what: impl Fn(usize, &mut Rng) -> Happens) {
        for _ in 0..times {
            if self.chance(per_cent) {
                let (at_ms, place) = (self.rng.u64(0..self.storm_ms()), self.rng.usize(0..self.plan.replicas));
                let what = what(place, &mut self.rng);
                self.plan_at(BEGINS_MS + at_ms, what);
            }
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
        self.redis.set_clock(self.redis_ms());
        for (number, place) in self.places.iter().enumerate() {
            place.edge.process.set_clock(self.wall_ms(number));
        }
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
                let Client { replica, worker, id, record, left, .. } = self.clients[client];
                if left || !self.lives(replica) {
                    return Ok(None);
                }
                let sends = u32::from(self.chance(self.weather.messages_lost));
                let troubles = model::Troubles { sends, ..self.poverty(5) };
                let body = self.records[record].request.body_bytes();
                self.in_trouble(replica, worker, troubles, |process| process.complete(id, &body));
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
                let calls = if self.chance(self.weather.not_begun) { self.rng.u32(1..3) } else { 0 };
                let troubles = model::Troubles { lost_messages, calls, ..self.poverty(5) };
                self.places[replica.0].reads.remove(&worker);
                self.in_trouble(replica, worker, troubles, |process| process.read_queue(worker, messages));
                Ok(Some(replica.0))
            }
            Happens::Ticks { replica, worker } => {
                if !self.lives(replica) || !self.places[replica.0].edge.process.is_running(worker) {
                    return Ok(None);
                }
                let slower = if self.plan.fault == Some(Fault::TicksLate) { 10 } else { 1 };
                let pause_ms = slower * self.rng.u64(25..=50);
                self.plan_at(now_ms + pause_ms, Happens::Ticks { replica, worker });
                if !self.places[replica.0].edge.process.is_ticking(worker) {
                    return Ok(None);
                }
                let troubles = self.poverty(1);
                self.in_trouble(replica, worker, troubles, |process| process.tick(worker));
                Ok(Some(replica.0))
            }
            Happens::Decides { replica, call, record, says } => {
                if !self.lives(replica) {
                    return Ok(None);
                }
                let known = &mut self.records[record].calls;
                let heard = known.iter_mut().find(|asked| (asked.by, asked.id) == (replica, call));
                let heard = heard.expect("a call that was made");
                heard.says = Some(says);
                let worker = heard.worker;
                let response = match says {
                    Says::Errcode(errcode) => Some(received("200", &json!({ "errcode": errcode }).to_string())),
                    Says::Success => Some(received("200", "success")),
                    Says::BrokenOff => None,
                    Says::Error => Some(received("500", "")),
                };
                let sends = u32::from(self.chance(self.weather.messages_lost));
                let troubles = model::Troubles { sends, ..self.poverty(5) };
                self.in_trouble(replica, worker, troubles, |process| process.tell_end(call, response));
                Ok(Some(replica.0))
            }
            Happens::Executes { exchange } => {
                let Exchange { batch, answer, record, .. } = &mut self.exchanges[exchange];
                *answer = Some(self.redis.execute(batch));
                if let Some(record) = *record {
                    self.note_value(record);
                }
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
                let (replica, dead) = ((place, self.places[place].lives), self.places[place].workers[index]);
                self.places[place].edge.process.kill_worker(dead);
                self.places[place].lost_a_worker = true;
                self.start_another_worker(place, index);
                // What it worked on fails in its process, and elsewhere as far as it got.
                self.taint(&self.records_at(replica, dead));
                // They hang, until Envoy itself ends them.
                let its = |client: &&mut Client| (client.replica, client.worker) == (replica, dead);
                self.clients.iter_mut().filter(its).for_each(|client| client.left = true);
                Ok(Some(place))
            }
            Happens::Updates { place } => {
                self.counted("configurations replaced");
                let index = self.rng.usize(0..2);
                if self.plan.rotation == Rotation::InOrder {
                    self.steps[place] = self.usual.step + 1;
                }
                let old = self.start_another_worker(place, index);
                self.places[place].leaving.push(old);
                Ok(Some(place))
            }
            Happens::Leaps { place, ahead_ms } => {
                self.counted("clocks leapt");
                for place in place.map_or(0..self.places.len(), |place| place..place + 1) {
                    let before_ms = std::mem::replace(&mut self.clocks[place].ahead_ms, ahead_ms);
                    if ahead_ms < before_ms {
                        self.clocks[place].set_back.push(now_ms);
                    }
                }
                if place.is_none() {
                    self.redis_ahead_ms = ahead_ms;
                }
                if ahead_ms.abs() >= FAR_MS {
                    // What is in flight there is forgotten in mid-call: it fails there, and nowhere else.
                    let all: Vec<_> = (0..self.records.len()).collect();
                    self.taint(&all);
                }
                self.set_clock(now_ms);
                Ok(None)
            }
            Happens::Intrudes => {
                self.intrude();
                Ok(None)
            }
            Happens::Forgets { place } => {
                self.counted("stores emptied");
                self.places[place].edge.process.empty_store();
                Ok(None)
            }
            Happens::Weather => {
                self.change_weather();
                Ok(None)
            }
        }
    }

    /// What the host has not got just now.
    fn poverty(&mut self, per_cent: u32) -> model::Troubles {
        let poor = self.plan.poor && self.is_on();
        let random = if poor && self.chance(per_cent) { self.rng.u32(1..3) } else { 0 };
        let contended = if poor && self.chance(per_cent) { self.rng.u32(1..70) } else { 0 };
        model::Troubles { random, contended, ..model::Troubles::default() }
    }

    /// Has a worker do something while its host is in trouble. What it works on is tainted if the host had not
    /// got what was asked of it, or if something could not begin where calls were made that Redis has not
    /// granted: one of those may have failed, and for this replica alone.
    fn in_trouble(
        &mut self,
        replica: Replica,
        worker: WorkerId,
        troubles: model::Troubles,
        what: impl FnOnce(&Process),
    ) {
        let process = &self.places[replica.0].edge.process;
        let decided_alone = process.counted("lock decided locally");
        process.trouble(|now| *now = troubles);
        what(process);
        let left = process.troubles();
        process.trouble(|now| *now = model::Troubles::default());
        let is_poor = left.random < troubles.random || left.contended < troubles.contended;
        let may_fail_alone = left.calls < troubles.calls && process.counted("lock decided locally") > decided_alone;
        if is_poor || may_fail_alone {
            self.taint(&self.records_at(replica, worker));
        }
    }

    /// The records that a worker may be working on.
    fn records_at(&self, replica: Replica, worker: WorkerId) -> Vec<usize> {
        let by_it = |of: Replica, by: WorkerId| (of, by) == (replica, worker);
        let waits = |client: &&Client| by_it(client.replica, client.worker) && client.answered.is_none();
        // An exchange ends within a second. Its worker may hear of it somewhat later.
        let is_recent = |began_ms: u64| began_ms + 1_300 > self.now_ms;
        let asks = |exchange: &&Exchange| by_it(exchange.replica, exchange.worker) && is_recent(exchange.began_ms);
        let waiting = self.clients.iter().filter(waits).map(|client| client.record);
        let asking = self.exchanges.iter().filter(asks).filter_map(|exchange| exchange.record);
        let calls = |record: &usize| self.records[*record].calls.iter().any(|asked| by_it(asked.by, asked.worker));
        waiting.chain(asking).chain((0..self.records.len()).filter(calls)).collect()
    }

    fn taint(&mut self, records: &[usize]) {
        records.iter().for_each(|record| self.records[*record].tainted = true);
    }

    /// Takes down what a record is in Redis now.
    fn note_value(&mut self, record: usize) {
        let kept_until_ms = self.redis_ms() + self.usual.life_ms();
        let record = &mut self.records[record];
        let value = self.redis.value(&record.key);
        if let Some(value) = value.filter(|value| record.values.last() != Some(value)) {
            record.values.push(value);
            record.kept_until_ms = kept_until_ms;
        }
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
        if next_ms < BEGINS_MS + self.storm_ms() {
            self.plan_at(next_ms, Happens::Weather);
        }
    }

    /// Takes up what a replica has done: its calls, its messages, its answers.
    fn look_at(&mut self, place: usize) -> Result<(), Broken> {
        let replica = (place, self.places[place].lives);
        // One event leads to several calls. Those that Redis has granted are not told from others among them.
        let alone = self.places[place].edge.process.counted("lock decided locally");
        let is_alone = std::mem::replace(&mut self.places[place].alone, alone) < alone;
        for (id, call) in self.places[place].edge.process.calls() {
            if self.places[place].seen.insert(id) {
                match call.cluster.as_str() {
                    RECORD => self.send(replica, id, call),
                    _ => self.ask(replica, id, &call, is_alone)?,
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
        let key = asked(&made.body).expect("every batch is about a key").1;
        let record = self.records.iter().position(|record| record.key.as_bytes() == key);
        let (worker, batch) = (made.worker, made.body);
        let (answer, ended) = (None, false);
        self.exchanges.push(Exchange { replica, worker, call, began_ms, record, batch, answer, fate, ended });
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
        let Exchange { replica, worker, call, batch, answer, fate, .. } = &self.exchanges[index];
        let (replica, worker, call, fate) = (*replica, *worker, *call, *fate);
        let mut answer = answer.clone();
        if self.plan.fault == Some(Fault::TrustsOk) {
            answer = answer.map(|answer| as_won_if_acknowledged(batch, answer));
        }
        if fate == Fate::Cut {
            self.counted("answers cut");
            answer = answer.map(|answer| answer[..self.rng.usize(0..answer.len())].to_vec());
        }
        if !self.lives(replica) {
            return None;
        }
        let sends = u32::from(self.chance(self.weather.messages_lost));
        let calls = u32::from(self.chance(self.weather.not_begun));
        let troubles = model::Troubles { sends, calls, ..self.poverty(5) };
        let answer = match fate {
            Fate::Whole | Fate::Cut | Fate::Swapped => answer.as_deref().map(model::connected),
            Fate::Lost => None,
            Fate::Refused => Some(model::not_connected()),
        };
        self.in_trouble(replica, worker, troubles, |process| process.tell_end(call, answer));
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
