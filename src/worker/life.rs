//! One record's life in Redis, from its claim to its last settlement, as one process drives it.
//!
//! ```text
//!  claim ─┬─ own ────────────────────▶ Won: decide, then settle or release ─▶ told ─▶ repeat until settled
//!         ├─ orphan ─ adopt ─ own ───▶ Won; claim again if it was given up meanwhile
//!         ├─ pending ─ look ⟲ ───────▶ Settled, GivenUp, or Late
//!         ├─ settled ────────────────▶ Settled
//!         └─ trouble ────────────────▶ Trouble
//! ```
//!
//! Only who is first in this process's own table claims here, so of each record a process drives one
//! life at a time.

use crate::callout::Response;
use crate::dedup::shared::{Concluded, Found, Name, Nonce, Pending, Settled, Shared, Trouble};
use crate::reply::Reply;
use zeroize::Zeroizing;

/// How soon a record that another replica works on is looked at again, in milliseconds; doubled each time.
const FIRST_LOOK_MS: u64 = 25;
/// The longest pause between two looks, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 200;
/// How long before its time is over a record is looked at once more, in milliseconds: two ticks.
const LAST_LOOK_BEFORE_MS: u64 = 50;
/// How often one claim adopts an orphan.
const MAX_ADOPTIONS: u8 = 2;

/// The pauses before a settlement that failed is tried again, in milliseconds.
const FIRST_REPEAT_MS: u64 = 200;
const LAST_REPEAT_MS: u64 = 25_600;

/// A record that is being claimed.
pub(super) struct Claim {
    held: Held,
    asked: Asked,
    adoptions: u8,
    pause_ms: u64,
    until_ms: u64,
    /// Whether a claim of this process's that nobody here works on may be adopted.
    adopts: bool,
}

/// A record, and the value that it has while its claim holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    name: Name,
    pending: Pending,
    /// For the settlement, which may not fail for want of random numbers: somebody has decided by then.
    iv: Nonce,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Claim,
    Adoption,
    Look,
}

/// What follows from an answer.
pub(super) enum Step {
    /// Nobody had it: decide.
    Won(Held),
    /// Ask this at once.
    Ask(Claim, Zeroizing<Vec<u8>>),
    /// Ask again at that time.
    LookAt(u64, Claim),
    /// Another replica's call has ended with this.
    Settled(Reply),
    /// Another replica had it and gave it up.
    GivenUp,
    /// Another replica's call has not ended in time.
    Late,
    /// Nothing is known of it; it may still be held.
    Trouble(Held, Trouble),
}

impl Claim {
    /// Begins, with random bytes for the claim and for its settlement. The record is to be known by that steady millisecond.
    pub(super) fn new(
        shared: &Shared,
        name: Name,
        (nonce, iv): (Nonce, Nonce),
        until_ms: u64,
        adopts: bool,
    ) -> (Self, Zeroizing<Vec<u8>>) {
        let pending = shared.pending(&name, nonce);
        let request = shared.claim(&name, &pending);
        let held = Held { name, pending, iv };
        (Self { held, asked: Asked::Claim, adoptions: 0, pause_ms: FIRST_LOOK_MS, until_ms, adopts }, request)
    }

    /// The record.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Asks what has become of it.
    pub(super) fn look(mut self, shared: &Shared) -> (Self, Zeroizing<Vec<u8>>) {
        self.asked = Asked::Look;
        let request = shared.look(&self.held.name);
        (self, request)
    }

    /// Goes on from what it was found to be. `nonce` is for a value to adopt it with.
    pub(super) fn answered(
        mut self,
        shared: &Shared,
        found: Result<Found, Trouble>,
        nonce: impl FnOnce() -> Option<Nonce>,
        now_ms: u64,
    ) -> Step {
        match found {
            // Read back by the very request that wrote it, or by a look after one whose answer was lost.
            Ok(Found::Own) => Step::Won(self.held),
            Ok(Found::Settled(reply)) => Step::Settled(reply),
            Ok(Found::Pending) => self.look_later(now_ms),
            Ok(Found::Orphan(_)) if !self.adopts => self.look_later(now_ms),
            Ok(Found::Orphan(orphan)) if self.adoptions < MAX_ADOPTIONS => {
                let Some(nonce) = nonce() else { return Step::Trouble(self.held, Trouble::NoRandom) };
                self.adoptions = self.adoptions.saturating_add(1);
                self.asked = Asked::Adoption;
                self.held.pending = shared.pending(&self.held.name, nonce);
                let request = shared.adopt(&self.held.name, &orphan, &self.held.pending);
                Step::Ask(self, request)
            }
            Ok(Found::Absent) if self.asked == Asked::Look => Step::GivenUp,
            // It has been given up just now: it is anybody's.
            Ok(Found::Absent) if self.asked == Asked::Adoption => {
                self.asked = Asked::Claim;
                let request = shared.claim(&self.held.name, &self.held.pending);
                Step::Ask(self, request)
            }
            // Neither what was written nor anything else: somebody deletes what replicas write.
            Ok(Found::Absent | Found::Orphan(_)) => Step::Trouble(self.held, Trouble::Unreadable),
            // It is another's in any case; Redis may be back in time.
            Err(trouble) if self.asked == Asked::Look && !trouble.is_forgery() => self.look_later(now_ms),
            Err(trouble) => Step::Trouble(self.held, trouble),
        }
    }

    fn look_later(mut self, now_ms: u64) -> Step {
        let last_ms = self.until_ms.saturating_sub(LAST_LOOK_BEFORE_MS);
        let at_ms = now_ms.saturating_add(self.pause_ms).min(last_ms);
        if at_ms <= now_ms {
            return Step::Late;
        }
        self.pause_ms = self.pause_ms.saturating_mul(2).min(LONGEST_PAUSE_MS);
        Step::LookAt(at_ms, self)
    }
}

impl Held {
    /// What settles it.
    pub(super) fn settlement(self, shared: &Shared, kept: &Reply) -> Settlement {
        let settled = shared.settled(&self.name, kept, self.iv);
        Settlement { held: self, settled, pause_ms: FIRST_REPEAT_MS }
    }

    /// What gives it up.
    pub(super) fn release(&self, shared: &Shared) -> Zeroizing<Vec<u8>> {
        shared.release(&self.name, &self.pending)
    }

    /// Its name.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// The value that was written, if one was.
    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }
}

/// The end of a call, to be written to Redis.
pub(super) struct Settlement {
    held: Held,
    settled: Settled,
    pause_ms: u64,
}

impl Settlement {
    /// What writes it.
    pub(super) fn request(&self, shared: &Shared) -> Zeroizing<Vec<u8>> {
        shared.settle(&self.held.name, &self.held.pending, &self.settled)
    }

    /// What an answer says of it.
    pub(super) fn concluded(&self, shared: &Shared, answer: Option<Response<'_>>) -> Result<Concluded, Trouble> {
        shared.concluded(&self.held.name, &self.settled, answer)
    }

    /// The same, of a record that has this value while its claim holds.
    pub(super) fn of(mut self, pending: Pending) -> Self {
        self.held.pending = pending;
        self
    }

    /// When to try again after a failure, and the settlement; `None` if it was tried long enough.
    pub(super) fn later(mut self, now_ms: u64) -> Option<(u64, Self)> {
        let at_ms = now_ms.saturating_add(self.pause_ms);
        let again = self.pause_ms <= LAST_REPEAT_MS;
        self.pause_ms = self.pause_ms.saturating_mul(2);
        again.then_some((at_ms, self))
    }
}
