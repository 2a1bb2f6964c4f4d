//! At most once: who gets a callback first, and what its copies are answered.
//!
//! A callback is claimed under its name, which is its receive id and its `req_id`. The first
//! claim wins and makes the call; every later one is told the recorded reply or, while the call is
//! in flight, to wait for it. Workers share nothing but a key-value store with compare-and-swap,
//! so the records lie in a table of bounded size over such a [`Store`]: see [`table`].
//!
//! A claim, and a settlement, is one read and one conditional write. When another worker writes in
//! between, the round is repeated, [`MAX_ROUNDS`] times at most; running out fails closed.

pub mod record;
pub mod resp;
pub mod shared;
pub mod table;

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};
use thiserror::Error;

pub use self::record::Standing;
use self::table::{Geometry, Record, Set, State};
use crate::reply::Reply;

/// A key-value store shared by all workers.
pub trait Store {
    /// The value under `key`, if there is one, with the number that a later [`Store::set`] must
    /// show.
    fn get(&self, key: &str) -> (Option<Vec<u8>>, Option<u32>);

    /// Writes, if `key` still has the number that `get` gave; without one, if it has no value yet.
    /// Says whether it wrote.
    fn set(&self, key: &str, value: &[u8], number: Option<u32>) -> bool;
}

/// Rounds of read and conditional write before a claim or settlement gives up.
pub const MAX_ROUNDS: usize = 32;

/// Length of the key that names are hashed under, in bytes.
pub const HASH_KEY_LEN: usize = 16;

/// What a callback is recorded under: a 128-bit keyed hash of its name. The key is random and
/// never leaves the process, so nobody can aim for a collision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey([u8; 16]);

impl RecordKey {
    /// The bytes, to send to another worker.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The key that [`RecordKey::as_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Where a waiting worker listens: the id of its queue, never 0.
pub type Listener = u32;

/// What became of a claim.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody had it before: whoever holds the ticket makes the call, and settles or releases.
    Won(Ticket),
    /// The call of an earlier claim has not ended.
    InFlight {
        /// The record to wait for.
        key: RecordKey,
        /// Whether the end will be sent to the listener. If not, as no place was left for it, only
        /// [`Records::look`] tells.
        announced: bool,
    },
    /// An earlier claim was settled with this; as failed, too, where its call never came back.
    Settled(Reply),
    /// No room: every place is held by a live record.
    Full,
    /// The store could not be read or written.
    Unavailable,
}

/// The right to make the one call for a record. There is one for every claim that was won, and it is
/// used up by settling or releasing; a record whose ticket is lost stays in flight, and fails closed.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    key: RecordKey,
    /// Tells this claim from a later one under the same key.
    deadline: u32,
}

impl Ticket {
    /// The record that was claimed.
    pub fn key(&self) -> RecordKey {
        self.key
    }
}

/// Why a claim was neither settled nor released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotConcluded {
    /// The record is no longer this claim's, as after a leap of the clock. Nobody is told,
    /// since whoever waits under the key waits for another call.
    #[error("the record is another claim's")]
    Superseded,
    /// The store could not be read or written. The claim stays in flight, so that copies fail closed.
    #[error("the store could not be read or written")]
    Unavailable,
}

/// The table of records, as one worker sees it.
#[derive(Debug)]
pub struct Records {
    geometry: Geometry,
    hash_key: [u8; HASH_KEY_LEN],
    ttl_seconds: u32,
}

/// Names in the store hold the version of what lies under them: another layout must not read this one's.
const HASH_KEY_NAME: &str = "wecom/v1/hash_key";
const CAPACITY_NAME: &str = "wecom/v1/capacity";

impl Records {
    /// Opens the table that the store holds, or creates it with this capacity and this random hash
    /// key. A table that exists keeps its own: `capacity` of a later configuration takes effect when
    /// the process starts anew. `None` if the store cannot be read or written, or if there is no
    /// hash key yet and none is given.
    pub fn open(
        store: &impl Store,
        capacity: u32,
        ttl_seconds: u32,
        hash_key: Option<[u8; HASH_KEY_LEN]>,
    ) -> Option<Self> {
        let found_or = |name: &str, value: Option<&[u8]>| match store.get(name) {
            (Some(value), _) => Some(value),
            (None, number) => {
                store.set(name, value?, number); // or another worker did just now
                store.get(name).0
            }
        };
        let hash_key = found_or(HASH_KEY_NAME, hash_key.as_ref().map(<[u8; HASH_KEY_LEN]>::as_slice))?;
        let capacity = found_or(CAPACITY_NAME, Some(&capacity.to_be_bytes()))?;
        Some(Self {
            hash_key: hash_key.try_into().ok()?,
            geometry: Geometry::for_capacity(u32::from_be_bytes(capacity.try_into().ok()?)),
            ttl_seconds,
        })
    }

    /// How many records the table is made for.
    pub fn capacity(&self) -> u32 {
        self.geometry.capacity()
    }

    /// The key of a name.
    pub fn key(&self, name: &[u8]) -> RecordKey {
        let mut hasher = SipHasher24::new_with_key(&self.hash_key);
        hasher.write(name);
        RecordKey(hasher.finish128().as_bytes())
    }

    /// Claims a key. `now` and `deadline` are Unix seconds; by the deadline a call that was made
    /// will have ended, and a claim that is still in flight then never will.
    pub fn claim(&self, store: &impl Store, key: RecordKey, now: u32, deadline: u32, listener: Listener) -> Claim {
        self.update(store, key, |set| match set.find(key.as_bytes(), now) {
            Some(Record { state: State::Settled(reply), .. }) => Update::Leave(Claim::Settled(reply)),
            Some(Record { state: State::InFlight { deadline, .. }, .. }) if deadline < now => {
                Update::Leave(Claim::Settled(Reply::Failed))
            }
            Some(Record { state: State::InFlight { deadline, mut listeners }, expires }) => {
                if listeners.contains(&listener) {
                    return Update::Leave(Claim::InFlight { key, announced: true });
                }
                listeners.push(listener);
                let record = Record { state: State::InFlight { deadline, listeners }, expires };
                if set.put(key.as_bytes(), &record, now) {
                    Update::Write(Claim::InFlight { key, announced: true })
                } else {
                    Update::Leave(Claim::InFlight { key, announced: false })
                }
            }
            None => {
                let state = State::InFlight { deadline, listeners: Vec::new() };
                // Outlives the call, however short records live.
                let expires = now.saturating_add(self.ttl_seconds).max(deadline.saturating_add(1));
                if set.put(key.as_bytes(), &Record { state, expires }, now) {
                    Update::Write(Claim::Won(Ticket { key, deadline }))
                } else {
                    Update::Leave(Claim::Full)
                }
            }
        })
        .unwrap_or(Claim::Unavailable)
    }

    /// Looks without claiming. `None` if the store cannot be read.
    pub fn look(&self, store: &impl Store, key: RecordKey, now: u32) -> Option<Standing> {
        self.update(store, key, |set| {
            Update::Leave(match set.find(key.as_bytes(), now).map(|record| record.state) {
                Some(State::Settled(reply)) => Standing::Settled(reply),
                Some(State::InFlight { .. }) => Standing::InFlight,
                None => Standing::Absent,
            })
        })
    }

    /// Records the reply to a callback that was claimed, as [`record::kept`] has it. Gives the listeners
    /// to be told.
    ///
    /// # Errors
    /// [`NotConcluded`]: then nothing is recorded.
    pub fn settle(
        &self,
        store: &impl Store,
        ticket: Ticket,
        reply: &Reply,
        now: u32,
    ) -> Result<Vec<Listener>, NotConcluded> {
        self.end_claim(store, &ticket, Some(reply), now)
    }

    /// Gives up a claim, so that the next copy is first again. Gives the listeners to be told.
    ///
    /// # Errors
    /// [`NotConcluded`]: then nothing is changed.
    pub fn release(&self, store: &impl Store, ticket: Ticket, now: u32) -> Result<Vec<Listener>, NotConcluded> {
        self.end_claim(store, &ticket, None, now)
    }

    fn end_claim(
        &self,
        store: &impl Store,
        ticket: &Ticket,
        reply: Option<&Reply>,
        now: u32,
    ) -> Result<Vec<Listener>, NotConcluded> {
        let key = ticket.key.as_bytes();
        self.update(store, ticket.key, |set| match set.find(key, now) {
            Some(Record { state: State::InFlight { listeners, deadline }, expires }) if deadline == ticket.deadline => {
                match reply {
                    Some(reply) => {
                        // No sooner than it was claimed for: the clock may have been set back, and be set right.
                        let expires = now.saturating_add(self.ttl_seconds).max(expires);
                        let record = Record { state: State::Settled(reply.clone()), expires };
                        // It fits: a reply's bytes are cut to a record's room.
                        if !set.put(key, &record, now) {
                            return Update::Leave(Err(NotConcluded::Unavailable));
                        }
                    }
                    None => set.remove(key),
                }
                Update::Write(Ok(listeners))
            }
            _ => Update::Leave(Err(NotConcluded::Superseded)),
        })
        .unwrap_or(Err(NotConcluded::Unavailable))
    }

    /// Reads the key's set, lets `change` work on it, and writes it back if nobody else did
    /// meanwhile; else begins again. `None` when the rounds are used up, or the store holds
    /// something else.
    fn update<T>(&self, store: &impl Store, key: RecordKey, change: impl Fn(&mut Set) -> Update<T>) -> Option<T> {
        let name = self.geometry.name_of_set(key.as_bytes());
        for _ in 0..MAX_ROUNDS {
            let (value, number) = store.get(&name);
            let mut set = match value {
                Some(bytes) => self.geometry.set_from(bytes)?,
                None => self.geometry.empty_set(),
            };
            match change(&mut set) {
                Update::Leave(result) => return Some(result),
                Update::Write(result) => {
                    if store.set(&name, set.as_bytes(), number) {
                        return Some(result);
                    }
                }
            }
        }
        None
    }
}

enum Update<T> {
    Leave(T),
    Write(T),
}

#[cfg(all(test, not(target_family = "wasm")))]
#[path = "tests.rs"]
mod tests;
