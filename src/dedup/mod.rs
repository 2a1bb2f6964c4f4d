//! At most once: who gets a callback first, and what its copies are answered.
//!
//! A callback is claimed under its name, which is its endpoint's path and its `req_id`. The first
//! claim wins and makes the call; every later one is told the recorded reply or, while the call is
//! in flight, to wait for it. Workers share nothing but a key-value store with compare-and-swap,
//! so the record is a table of fixed size over such a [`Store`]: see [`table`].
//!
//! A claim, and a settlement, is one read and one conditional write. When another worker writes in
//! between, the round is repeated, [`MAX_ROUNDS`] times at most; running out fails closed.

pub mod table;

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use self::table::{Entry, Geometry, Set, State};

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
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Where a waiting worker listens: the id of its queue, never 0.
pub type Listener = u32;

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody had it before: the caller makes the call, and must settle or release.
    First,
    /// It was settled: the recorded reply, encoded. Empty where the first one never came back.
    Recorded(Vec<u8>),
    /// The first one is at it. The settlement will be sent to the listener.
    InFlight,
    /// As `InFlight`, but no listener's place was left: look again with [`Records::look`].
    InFlightUnheard,
    /// No room: every place is held by a live record.
    Full,
    /// The store did not play along.
    Unavailable,
}

/// Why a settlement was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRecorded;

/// The record of duplicates, as one worker sees it.
#[derive(Debug)]
pub struct Records<S> {
    store: S,
    geometry: Geometry,
    hash_key: [u8; HASH_KEY_LEN],
    ttl_seconds: u32,
}

/// Names in the store begin with the layout's version: another layout must not read this one's.
const HASH_KEY_NAME: &str = "wecom/v1/hash_key";
const CAPACITY_NAME: &str = "wecom/v1/capacity";

impl<S: Store> Records<S> {
    /// Joins the record that the store holds, or founds it with this capacity and this random
    /// hash key. A record that exists keeps its own: `capacity` of a later configuration takes
    /// effect when the process starts anew. `None` if the store does not play along, or if there
    /// is no hash key yet and none is given.
    pub fn open(store: S, capacity: u32, ttl_seconds: u32, hash_key: Option<[u8; HASH_KEY_LEN]>) -> Option<Self> {
        let founded = |name: &str, value: Option<&[u8]>| match store.get(name) {
            (Some(value), _) => Some(value),
            (None, number) => {
                store.set(name, value?, number); // or another worker did just now
                store.get(name).0
            }
        };
        let hash_key = founded(HASH_KEY_NAME, hash_key.as_ref().map(<[u8; HASH_KEY_LEN]>::as_slice))?;
        let capacity = founded(CAPACITY_NAME, Some(&capacity.to_be_bytes()))?;
        Some(Self {
            hash_key: hash_key.try_into().ok()?,
            geometry: Geometry::for_capacity(u32::from_be_bytes(capacity.try_into().ok()?)),
            ttl_seconds,
            store,
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
    pub fn claim(&self, key: RecordKey, now: u32, deadline: u32, listener: Listener) -> Claim {
        self.update(key, |set| match set.find(key.as_bytes(), now) {
            Some(Entry { state: State::Settled(reply), .. }) => Update::Leave(Claim::Recorded(reply)),
            Some(Entry { state: State::InFlight { deadline, .. }, .. }) if deadline < now => {
                Update::Leave(Claim::Recorded(Vec::new()))
            }
            Some(Entry { state: State::InFlight { deadline, mut listeners }, expires }) => {
                if listeners.contains(&listener) {
                    return Update::Leave(Claim::InFlight);
                }
                listeners.push(listener);
                let entry = Entry { state: State::InFlight { deadline, listeners }, expires };
                if set.put(key.as_bytes(), &entry, now) {
                    Update::Write(Claim::InFlight)
                } else {
                    Update::Leave(Claim::InFlightUnheard)
                }
            }
            None => {
                let state = State::InFlight { deadline, listeners: Vec::new() };
                // Outlives the call, however short records live.
                let expires = now.saturating_add(self.ttl_seconds).max(deadline.saturating_add(1));
                if set.put(key.as_bytes(), &Entry { state, expires }, now) {
                    Update::Write(Claim::First)
                } else {
                    Update::Leave(Claim::Full)
                }
            }
        })
        .unwrap_or(Claim::Unavailable)
    }

    /// Looks without claiming. `First` means that there is no record.
    pub fn look(&self, key: RecordKey, now: u32) -> Claim {
        self.update(key, |set| {
            Update::Leave(match set.find(key.as_bytes(), now).map(|entry| entry.state) {
                Some(State::Settled(reply)) => Claim::Recorded(reply),
                Some(State::InFlight { .. }) => Claim::InFlight,
                None => Claim::First,
            })
        })
        .unwrap_or(Claim::Unavailable)
    }

    /// Records the reply for a key that this caller claimed first, with that deadline. Gives the
    /// listeners to be told; `None` if the record is no longer this claim's, as after a leap of the
    /// clock: then nobody is to be told, since who waits under the key waits for another call.
    ///
    /// # Errors
    /// [`NotRecorded`] if the store does not play along. The claim stays in flight, so that copies
    /// fail closed.
    pub fn settle(
        &self,
        key: RecordKey,
        deadline: u32,
        reply: &[u8],
        now: u32,
    ) -> Result<Option<Vec<Listener>>, NotRecorded> {
        let expires = now.saturating_add(self.ttl_seconds);
        self.conclude(key, deadline, Some(Entry { state: State::Settled(reply.to_vec()), expires }), now)
    }

    /// Gives up a key that this caller claimed first, with that deadline, so that the next copy is
    /// first again. Gives what [`Records::settle`] gives.
    ///
    /// # Errors
    /// As [`Records::settle`].
    pub fn release(&self, key: RecordKey, deadline: u32, now: u32) -> Result<Option<Vec<Listener>>, NotRecorded> {
        self.conclude(key, deadline, None, now)
    }

    fn conclude(
        &self,
        key: RecordKey,
        claimed: u32,
        entry: Option<Entry>,
        now: u32,
    ) -> Result<Option<Vec<Listener>>, NotRecorded> {
        self.update(key, |set| match set.find(key.as_bytes(), now).map(|found| found.state) {
            Some(State::InFlight { listeners, deadline }) if deadline == claimed => {
                match &entry {
                    Some(entry) => {
                        if !set.put(key.as_bytes(), entry, now) {
                            return Update::Leave(Err(NotRecorded));
                        }
                    }
                    None => set.remove(key.as_bytes()),
                }
                Update::Write(Ok(Some(listeners)))
            }
            _ => Update::Leave(Ok(None)),
        })
        .unwrap_or(Err(NotRecorded))
    }

    /// Reads the key's set, lets `change` work on it, and writes it back if nobody else did
    /// meanwhile; else begins again. `None` when the rounds are used up, or the store holds
    /// something else.
    fn update<T>(&self, key: RecordKey, change: impl Fn(&mut Set) -> Update<T>) -> Option<T> {
        let name = self.geometry.name_of_set(key.as_bytes());
        for _ in 0..MAX_ROUNDS {
            let (value, number) = self.store.get(&name);
            let mut set = match value {
                Some(bytes) => self.geometry.set_from(bytes)?,
                None => self.geometry.empty_set(),
            };
            match change(&mut set) {
                Update::Leave(result) => return Some(result),
                Update::Write(result) => {
                    if self.store.set(&name, set.as_bytes(), number) {
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
