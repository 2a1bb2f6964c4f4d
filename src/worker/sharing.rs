//! What a worker does with the record that replicas share, if there is one.
//!
//! The process's own table comes first: only who is first there asks Redis, and everybody else in this
//! process waits for that one. So a callback costs Redis one claim and one settlement, however many
//! copies come here.
//!
//! Before the decision, trouble with Redis means that nothing was called: the claim in the own table is
//! given up, so that a copy may try again. After it, the verdict stands: it is in the own table, and is
//! told even if Redis does not take it; it is then written later.

use std::cell::{Cell, RefCell};

use log::Level;

use super::life::{self, Held, Settlement, Step};
use super::{Call, InProgress, Worker};
use crate::callout::{Conclusion, Response, UpstreamRequest};
use crate::config::{OnError, Redis};
use crate::dedup::shared::{Concluded, Found, Name, Shared, Trouble};
use crate::dedup::{Listener, RecordKey};
use crate::host::{Count, Exchanged, Host, StreamId};
use crate::outcome::Outcome;
use crate::reply::Reply;

/// The shared record, and what is to be done about it later.
pub(super) struct Sharing {
    shared: Shared,
    cluster: String,
    timeout_ms: u64,
    on_error: OnError,
    /// Whether a claim of this process's that the own table does not know was surely lost. Where stale
    /// callbacks are taken, it may be one whose record here has expired while its call goes on.
    adopts: bool,
    later: RefCell<Vec<(u64, Later)>>,
    /// Whether Redis is to be greeted at the next tick.
    greets: Cell<bool>,
    /// The second in which trouble was last written to the log.
    said: Cell<u64>,
}

enum Later {
    Look(Call, life::Claim),
    Settle(Settlement),
}

/// What a call needs of the shared record.
pub(super) enum Share {
    /// There is none.
    Nothing,
    /// It is to be claimed under this name, and known by that steady millisecond.
    ToClaim(Name, u64),
    /// It is claimed; or it could not be, and this process decides alone.
    Held(Held),
}

/// An exchange with Redis that has not ended.
pub(super) struct Exchange {
    began_ms: u64,
    what: What,
}

enum What {
    Claim(Call, life::Claim),
    Settlement(Settlement, Option<Announcement>),
    Release,
    Greeting,
}

/// What is told when a settlement has been written, or could not be.
pub(super) struct Announcement {
    pub(super) key: RecordKey,
    pub(super) listeners: Vec<Listener>,
    pub(super) first: StreamId,
    pub(super) conclusion: Conclusion,
}

/// The name in the store of the digest of the configuration under which Redis was greeted.
const GREETED: &str = "wecom/v1/greeted";

impl Sharing {
    pub(super) fn new(redis: &Redis, ttl_seconds: u32, adopts: bool, replica: [u8; 16]) -> Self {
        Self {
            shared: Shared::new(redis, ttl_seconds, replica),
            cluster: redis.cluster().to_owned(),
            timeout_ms: redis.timeout_ms(),
            on_error: redis.on_error(),
            adopts,
            later: RefCell::default(),
            greets: Cell::new(true),
            said: Cell::new(0),
        }
    }

    /// The shared record's name of a callback.
    pub(super) fn name(&self, name: &[u8]) -> Name {
        self.shared.name(name)
    }

    /// Whether it needs ticks, for what is to be done later.
    pub(super) fn is_idle(&self) -> bool {
        self.later.borrow().is_empty() && !self.greets.get()
    }

    /// Whether something is left that must not be lost.
    pub(super) fn is_done(&self) -> bool {
        self.later.borrow().is_empty()
    }
}

impl<H: Host> Worker<H> {
    /// Claims the shared record for a call, which is made if it is won.
    pub(super) fn claim_shared(&self, call: Call, name: Name, until_ms: u64) {
        let Some(sharing) = &self.sharing else { return self.decide(call) };
        if call.job.request(self.now().steady_ms).is_none() {
            return self.fail(call, Outcome::Deadline, "its time was over before its record could be claimed");
        }
        match self.host.random().zip(self.host.random()) {
            Some(random) => {
                let (claim, request) = life::Claim::new(&sharing.shared, name, random, until_ms, sharing.adopts);
                self.ask(sharing, &request, What::Claim(call, claim));
            }
            None => self.give_up(sharing, call, &Trouble::NoRandom),
        }
    }

    /// Has the verdict written, and then told, if there is anybody to be told.
    pub(super) fn settle_shared(&self, held: Held, reply: &Reply, announcement: Option<Announcement>) {
        match &self.sharing {
            Some(sharing) => {
                let settlement = held.settlement(&sharing.shared, reply);
                let request = settlement.request(&sharing.shared);
                self.ask(sharing, &request, What::Settlement(settlement, announcement));
            }
            None => announcement.into_iter().for_each(|announcement| self.announce(announcement)),
        }
    }

    /// Has the shared record given up. Nobody waits for that: where it fails, the record expires.
    pub(super) fn release_shared(&self, held: &Held) {
        if let Some(sharing) = &self.sharing {
            let request = held.release(&sharing.shared);
            self.ask(sharing, &request, What::Release);
        }
    }

    /// An exchange has ended.
    pub(super) fn exchange_ended(&self, exchange: Exchange, response: Option<Response<'_>>) {
        let Some(sharing) = &self.sharing else { return };
        let Exchange { began_ms, what } = exchange;
        self.go_on(sharing, began_ms, what, Ok(response));
    }

    /// Does what is due.
    pub(super) fn tick_shared(&self, now_ms: u64) {
        let Some(sharing) = &self.sharing else { return };
        if sharing.greets.take()
            && self.is_first_to_greet(sharing)
            && let Some(nonce) = self.host.random()
        {
            let request = sharing.shared.greeting(nonce);
            self.ask(sharing, &request, What::Greeting);
        }
        loop {
            let due = {
                let mut later = sharing.later.borrow_mut();
                later.iter().position(|(at_ms, _)| *at_ms <= now_ms).map(|index| later.swap_remove(index).1)
            };
            match due {
                Some(Later::Look(call, claim)) => {
                    let (claim, request) = claim.look(&sharing.shared);
                    self.ask(sharing, &request, What::Claim(call, claim));
                }
                Some(Later::Settle(settlement)) => {
                    self.host.count(Count::RepeatsWaiting(-1));
                    let request = settlement.request(&sharing.shared);
                    self.ask(sharing, &request, What::Settlement(settlement, None));
                }
                None => return,
            }
        }
    }

    /// Begins an exchange.
    fn ask(&self, sharing: &Sharing, request: &[u8], what: What) {
        let began_ms = self.now().steady_ms;
        let request = UpstreamRequest {
            cluster: &sharing.cluster,
            // Envoy wants them, and sends none.
            headers: vec![
                (":method", "POST"),
                (":path", "/"),
                (":authority", &sharing.cluster),
                ("x-envoy-max-retries", "0"),
            ],
            body: request,
            timeout_ms: sharing.timeout_ms,
        };
        match self.host.call(&request) {
            Ok(id) => {
                self.calls.borrow_mut().insert(id, InProgress::Exchange(Exchange { began_ms, what }));
            }
            Err(_) => self.go_on(sharing, began_ms, what, Err(Trouble::NotBegun)),
        }
    }

    /// Goes on from the end of an exchange.
    fn go_on(&self, sharing: &Sharing, began_ms: u64, what: What, end: Result<Option<Response<'_>>, Trouble>) {
        match what {
            What::Claim(call, claim) => {
                let held = claim.held();
                let found = end.and_then(|answer| sharing.shared.found(held.name(), Some(held.pending()), answer));
                self.note(sharing, began_ms, found.as_ref().map(exchanged));
                let now_ms = self.now().steady_ms;
                let step = claim.answered(&sharing.shared, found, || self.host.random(), now_ms);
                self.take_step(sharing, call, step);
            }
            What::Settlement(settlement, announcement) => {
                let concluded = end.and_then(|answer| settlement.concluded(&sharing.shared, answer));
                self.note(sharing, began_ms, concluded.as_ref().map(concluded_as));
                match concluded {
                    Ok(Concluded::Written | Concluded::Superseded) => {}
                    Ok(Concluded::Orphan(pending)) if sharing.adopts => {
                        self.settle_later(sharing, settlement.of(pending));
                    }
                    Ok(Concluded::Orphan(_)) => {}
                    Err(_) => self.settle_later(sharing, settlement),
                }
                if let Some(announcement) = announcement {
                    self.announce(announcement);
                }
            }
            What::Release => {
                let released = end.and_then(|answer| sharing.shared.acknowledged(answer));
                self.note(sharing, began_ms, released.as_ref().map(|()| Exchanged::Released));
            }
            What::Greeting => {
                let greeted = end.and_then(|answer| sharing.shared.acknowledged(answer));
                self.note(sharing, began_ms, greeted.as_ref().map(|()| Exchanged::Greeted));
            }
        }
    }

    fn take_step(&self, sharing: &Sharing, mut call: Call, step: Step) {
        match step {
            Step::Won(held) => {
                call.share = Share::Held(held);
                self.decide(call);
            }
            Step::Ask(claim, request) => self.ask(sharing, &request, What::Claim(call, claim)),
            Step::LookAt(at_ms, claim) => self.do_later(sharing, at_ms, Later::Look(call, claim)),
            Step::Settled(reply) => {
                let conclusion = Conclusion {
                    reply,
                    outcome: Outcome::Duplicate,
                    reason: "as on another replica".into(),
                    is_kept: true,
                };
                self.record_and_tell(call, conclusion);
            }
            Step::GivenUp => {
                self.fail(call, Outcome::DuplicateInFlight, "the first of its copies failed on another replica")
            }
            Step::Late => {
                self.fail(
                    call,
                    Outcome::Deadline,
                    "the call of the first of its copies, on another replica, had not ended",
                );
            }
            Step::Trouble(held, trouble) if sharing.on_error == OnError::Refuse || !trouble.leaves_the_choice() => {
                if trouble.leaves_it_open() {
                    self.release_shared(&held); // or it would keep other replicas out until it expires
                }
                self.give_up(sharing, call, &trouble);
            }
            Step::Trouble(held, _) => {
                self.host.count(Count::DecidedLocally { endpoint: call.job.endpoint() });
                call.share = Share::Held(held);
                self.decide(call);
            }
        }
    }

    /// Nothing was called, so a copy may try again.
    fn give_up(&self, sharing: &Sharing, call: Call, trouble: &Trouble) {
        let reason = format!("the shared record, cluster '{}': {trouble}", sharing.cluster);
        self.fail(call, Outcome::RecordUnavailable, reason);
    }

    fn fail(&self, call: Call, outcome: Outcome, reason: impl Into<std::borrow::Cow<'static, str>>) {
        let conclusion = Conclusion { reply: Reply::Failed, outcome, reason: reason.into(), is_kept: false };
        self.record_and_tell(call, conclusion);
    }

    fn settle_later(&self, sharing: &Sharing, settlement: Settlement) {
        match settlement.later(self.now().steady_ms) {
            Some((at_ms, settlement)) => {
                self.host.count(Count::RepeatsWaiting(1));
                self.do_later(sharing, at_ms, Later::Settle(settlement));
            }
            None => self.host.count(Count::SettlementDropped),
        }
    }

    fn do_later(&self, sharing: &Sharing, at_ms: u64, what: Later) {
        sharing.later.borrow_mut().push((at_ms, what));
        self.set_ticks(true);
    }

    /// Counts an exchange, and says once a second what was wrong with one.
    fn note(&self, sharing: &Sharing, began_ms: u64, result: Result<Exchanged, &Trouble>) {
        let now_ms = self.now().steady_ms;
        let elapsed_ms = now_ms.saturating_sub(began_ms);
        let what = result.unwrap_or_else(Exchanged::of);
        self.host.count(Count::Exchanged { what, elapsed_ms });
        if let Err(trouble) = result
            && sharing.said.replace(now_ms / 1000) != now_ms / 1000
        {
            self.host.log(Level::Warn, format_args!("dedup.redis: cluster '{}': {trouble}", sharing.cluster));
        }
    }

    /// One worker greets for all, once under each configuration.
    fn is_first_to_greet(&self, sharing: &Sharing) -> bool {
        let digest = sharing.shared.digest(&sharing.cluster);
        let (known, number) = self.host.get(GREETED);
        known.as_deref() != Some(digest.as_slice()) && self.host.set(GREETED, &digest, number)
    }
}

fn concluded_as(concluded: &Concluded) -> Exchanged {
    match concluded {
        Concluded::Written => Exchanged::Written,
        Concluded::Superseded => Exchanged::Superseded,
        Concluded::Orphan(_) => Exchanged::Orphan,
    }
}

fn exchanged(found: &Found) -> Exchanged {
    match found {
        Found::Own => Exchanged::Claimed,
        Found::Absent => Exchanged::Absent,
        Found::Pending => Exchanged::Pending,
        Found::Orphan(_) => Exchanged::Orphan,
        Found::Settled(_) => Exchanged::Settled,
    }
}
