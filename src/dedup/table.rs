//! The table: a fixed number of sets, each a fixed number of entries in one value of the store.
//!
//! A shared store of a proxy grows with every new key and never shrinks, so the keys are the sets'
//! numbers and nothing else. A record's hash picks its set; within it any free or expired entry
//! will do. **A live record is never evicted**: that would allow a second delivery. A new record
//! whose set has no room is refused instead.
//!
//! # How rare that is
//!
//! With capacity *c* there are 2*c* entries, [`WAYS`] = 64 to a set. At a load of λ·*c* live
//! records a set holds on average 32 λ of them, Poisson-distributed, and a new record is refused
//! with the probability that its set holds 64 or more:
//!
//! | load | mean of a set | refused |
//! |---|---|---|
//! | 50 % | 16 | 1.4·10⁻¹⁹ |
//! | 80 % | 25.6 | 1.3·10⁻¹⁰ |
//! | 100 % | 32 | 4.1·10⁻⁷ |
//!
//! Up to a capacity of 64 there is one set of just as many entries, and nothing is refused below
//! 100 %. A test simulates the table and another computes the figures above.
//!
//! An entry has [`ENTRY_LEN`] = 128 bytes, so the table takes 256 bytes a record: 16 MiB by
//! default, taken as sets are first used.

use super::record;
use crate::reply::Reply;

/// Entries of a set.
pub const WAYS: usize = 64;

/// Bytes of an entry: hash, expiry, state, length, content.
pub const ENTRY_LEN: usize = 128;

const HASH_LEN: usize = 16;
const CONTENT_LEN: usize = ENTRY_LEN - HASH_LEN - 6;

/// Listeners that an entry in flight has room for, beside its deadline.
pub const MAX_LISTENERS: usize = (CONTENT_LEN - 4) / 4;

const FREE: u8 = 0;
const IN_FLIGHT: u8 = 1;
const SETTLED: u8 = 2;

/// How many sets of how many entries there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    capacity: u32,
    sets: u32,
    ways: usize,
}

impl Geometry {
    /// The geometry for that many live records.
    pub fn for_capacity(capacity: u32) -> Self {
        let capacity = capacity.max(1);
        match usize::try_from(capacity) {
            Ok(ways) if ways <= WAYS => Self { capacity, sets: 1, ways },
            _ => Self { capacity, sets: capacity.saturating_mul(2).div_ceil(64), ways: WAYS },
        }
    }

    /// The number of live records it is made for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of the whole table, once every set has been used.
    pub fn bytes(&self) -> u64 {
        u64::from(self.sets).saturating_mul(u64::try_from(self.set_len()).unwrap_or(u64::MAX))
    }

    /// The store's key of the set that a hash belongs to.
    pub fn name_of_set(&self, hash: &[u8; HASH_LEN]) -> String {
        let [a, b, c, d, ..] = *hash;
        let number = u32::from_be_bytes([a, b, c, d]).checked_rem(self.sets).unwrap_or(0);
        format!("wecom/v1/set/{number}")
    }

    /// A set with nothing in it.
    pub fn empty_set(&self) -> Set {
        Set(vec![0; self.set_len()])
    }

    /// The set that was stored as those bytes. `None` if they are no set of this geometry.
    pub fn set_from(&self, bytes: Vec<u8>) -> Option<Set> {
        (bytes.len() == self.set_len()).then_some(Set(bytes))
    }

    fn set_len(&self) -> usize {
        self.ways.saturating_mul(ENTRY_LEN)
    }
}

/// One record, as an entry of a set holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is in its life.
    pub state: State,
    /// The Unix second in which it is gone.
    pub expires: u32,
}

/// Where a record is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its call is being made.
    InFlight {
        /// The Unix second by which the call has ended.
        deadline: u32,
        /// Who waits for the end.
        listeners: Vec<u32>,
    },
    /// Its call has ended: the reply, as far as a record keeps it.
    Settled(Reply),
}

/// The entries that share one value of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set(Vec<u8>);

impl Set {
    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The live record of that hash.
    pub fn find(&self, hash: &[u8; HASH_LEN], now: u32) -> Option<Record> {
        self.slots().find(|slot| slot.is_live(now) && *slot.hash == *hash).and_then(|slot| slot.record())
    }

    /// Writes a record over the hash's live one or, without one, where there is room. Says whether
    /// there was, in the set and in its entry.
    #[must_use]
    pub fn put(&mut self, hash: &[u8; HASH_LEN], record: &Record, now: u32) -> bool {
        let (state, content) = match &record.state {
            State::InFlight { deadline, listeners } => {
                let words = std::iter::once(deadline).chain(listeners);
                (IN_FLIGHT, words.flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>())
            }
            State::Settled(reply) => (SETTLED, record::encode(reply)),
        };
        let Ok(len) = u8::try_from(content.len()) else { return false };
        if content.len() > CONTENT_LEN {
            return false;
        }
        let own = self.slots().position(|slot| slot.is_live(now) && *slot.hash == *hash);
        let Some(index) = own.or_else(|| self.slots().position(|slot| !slot.is_live(now))) else {
            return false;
        };
        let Some(slot) = self.0.as_chunks_mut::<ENTRY_LEN>().0.get_mut(index) else { return false };
        *slot = [0; ENTRY_LEN];
        let fields = hash.iter().copied().chain(record.expires.to_be_bytes()).chain([state, len]).chain(content);
        for (byte, field) in slot.iter_mut().zip(fields) {
            *byte = field;
        }
        true
    }

    /// Frees the hash's entries.
    pub fn remove(&mut self, hash: &[u8; HASH_LEN]) {
        for slot in self.0.as_chunks_mut::<ENTRY_LEN>().0 {
            if slot.starts_with(hash) {
                *slot = [0; ENTRY_LEN];
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.0.as_chunks::<ENTRY_LEN>().0.iter().filter_map(Slot::read)
    }
}

/// An entry, as bytes of its set.
struct Slot<'a> {
    hash: &'a [u8; HASH_LEN],
    expires: u32,
    state: u8,
    content: &'a [u8],
}

impl<'a> Slot<'a> {
    fn read(bytes: &'a [u8; ENTRY_LEN]) -> Option<Self> {
        let (hash, rest) = bytes.split_first_chunk::<HASH_LEN>()?;
        let (expires, rest) = rest.split_first_chunk::<4>()?;
        let ([state, len], rest) = rest.split_first_chunk::<2>()?;
        let content = rest.get(..usize::from(*len)).unwrap_or_default();
        Some(Self { hash, expires: u32::from_be_bytes(*expires), state: *state, content })
    }

    fn is_live(&self, now: u32) -> bool {
        self.state != FREE && self.expires > now
    }

    fn record(&self) -> Option<Record> {
        let state = match self.state {
            IN_FLIGHT => {
                let mut words = self.content.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
                State::InFlight { deadline: words.next()?, listeners: words.collect() }
            }
            _ => State::Settled(record::decode(self.content)),
        };
        Some(Record { state, expires: self.expires })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction, clippy::cast_precision_loss)]
    use super::*;
    use crate::reply::Relayed;
    use crate::wecom::verdict::{MAX_ERRMSG_LEN, Verdict};

    fn settled(expires: u32) -> Record {
        Record { state: State::Settled(Reply::Failed), expires }
    }

    #[test]
    fn entries_come_back_until_they_expire() {
        let mut set = Geometry::for_capacity(2).empty_set();
        let flying = Record { state: State::InFlight { deadline: 7, listeners: vec![1, 2] }, expires: 10 };
        assert!(set.put(&[1; 16], &flying, 0));
        assert!(set.put(&[2; 16], &settled(5), 0));
        assert_eq!(set.find(&[1; 16], 9), Some(flying));
        assert_eq!(set.find(&[1; 16], 10), None);
        assert_eq!(set.find(&[2; 16], 4), Some(settled(5)));
        assert_eq!(set.find(&[3; 16], 4), None);
        assert!(!set.put(&[3; 16], &settled(9), 4), "both places are live");
        assert!(set.put(&[3; 16], &settled(9), 5), "the second has expired");
        assert_eq!(set.find(&[2; 16], 4), None);
        set.remove(&[3; 16]);
        assert_eq!(set.find(&[3; 16], 5), None);
        assert!(set.find(&[1; 16], 5).is_some(), "only what was to be removed is");
    }

    #[test]
    fn a_hash_picks_its_set_among_all_of_them() {
        let table = Geometry::for_capacity(65_536);
        let name = |number: u32| {
            let mut hash = [9; 16];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            table.name_of_set(&hash)
        };
        assert_eq!(name(0), "wecom/v1/set/0");
        assert_eq!(name(2047), "wecom/v1/set/2047");
        assert_eq!(name(2048), "wecom/v1/set/0", "there are as many sets as the capacity asks for, and no more");
        assert_eq!(Geometry::for_capacity(64).name_of_set(&[255; 16]), "wecom/v1/set/0");
    }

    #[test]
    fn an_entry_has_room_for_what_it_promises() {
        let mut set = Geometry::for_capacity(1).empty_set();
        let with =
            |listeners| Record { state: State::InFlight { deadline: 1, listeners: vec![1; listeners] }, expires: 9 };
        assert!(set.put(&[1; 16], &with(MAX_LISTENERS), 0));
        assert!(!set.put(&[1; 16], &with(MAX_LISTENERS + 1), 0));
        assert_eq!(set.find(&[1; 16], 0), Some(with(MAX_LISTENERS)), "a write without room changes nothing");
        let longest = Record {
            state: State::Settled(Reply::Verdict(Verdict::new(7, Some("x".repeat(MAX_ERRMSG_LEN))))),
            expires: 9,
        };
        assert_eq!(
            record::encode(&Reply::Verdict(Verdict::new(7, Some("x".repeat(999))))).len(),
            record::MAX_REPLY_LEN
        );
        assert!(set.put(&[1; 16], &longest, 0));
        let object =
            |length| Record { state: State::Settled(Reply::Relayed(Relayed::Object(vec![b' '; length]))), expires: 9 };
        assert!(set.put(&[1; 16], &object(CONTENT_LEN - 1), 0));
        assert_eq!(set.find(&[1; 16], 0), Some(object(CONTENT_LEN - 1)));
        assert!(!set.put(&[1; 16], &object(CONTENT_LEN), 0));
    }

    #[test]
    fn small_tables_hold_just_their_capacity() {
        for capacity in [1, 2, 63, 64] {
            let mut set = Geometry::for_capacity(capacity).empty_set();
            for n in 0..capacity {
                assert!(set.put(&u128::from(n).to_be_bytes(), &settled(9), 0));
            }
            assert!(!set.put(&[255; 16], &settled(9), 0));
        }
        assert_eq!(Geometry::for_capacity(65_536).bytes(), 16 << 20);
    }

    /// P(X ≥ 64) for a Poisson variable of that mean.
    fn overflow(mean: f64) -> f64 {
        let mut term = (-mean).exp();
        let mut tail = 0.0;
        for k in 1..400 {
            term *= mean / f64::from(k);
            if k >= 64 {
                tail += term;
            }
        }
        tail
    }

    #[test]
    fn the_figures_in_the_documentation_are_right() {
        for (load, figure) in [(0.5, 1.4e-19), (0.8, 1.3e-10), (1.0, 4.1e-7)] {
            let ratio = overflow(32.0 * load) / figure;
            assert!((0.95..1.05).contains(&ratio), "at {load}: {:e}, not {figure:e}", overflow(32.0 * load));
        }
    }
}
