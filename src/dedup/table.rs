//! The table: a fixed number of sets, each a bounded number of entries in one value of the store.
//!
//! A shared store of a proxy grows with every new key and never shrinks, so the keys are the sets'
//! numbers and nothing else. A record's hash picks its set; a set keeps up to [`WAYS`] live records.
//! **A live record is never evicted**: that would allow a second delivery. A new record whose set has
//! no room is refused instead.
//!
//! # How rare that is
//!
//! With capacity *c* there are 2*c* places, [`WAYS`] = 64 to a set. At a load of λ·*c* live
//! records a set holds on average 32 λ of them, Poisson-distributed, and a new record is refused
//! with the probability that its set holds 64 or more:
//!
//! | load | mean of a set | refused |
//! |---|---|---|
//! | 50 % | 16 | 1.4·10⁻¹⁹ |
//! | 80 % | 25.6 | 1.3·10⁻¹⁰ |
//! | 100 % | 32 | 4.1·10⁻⁷ |
//!
//! Up to a capacity of 64 there is one set of just as many places, and nothing is refused below
//! 100 %. A test simulates the table and another computes the figures above.
//!
//! # What a set is stored as
//!
//! Its entries, one after the other, each as long as it needs to be: hash (16 bytes), expiry (4), state
//! (1), length of the content (1), content. A bind that was accepted takes 29 bytes; no entry takes more
//! than [`MAX_ENTRY_LEN`] = 128, so the table never takes more than 256 bytes for each record of its
//! capacity. Every claim copies its whole set twice, out of the store and into it: short entries are
//! what makes it quick.
//!
//! # What has expired
//!
//! By a clock that is ahead for a while, live records have expired. They must be there when it is right
//! again, so an entry stays for as long again as it has lived, and longer where its place is not needed: a new
//! record takes two places of those that are over by then, which lets a set become short again, or in a
//! full set the place of the one that expired first. Whoever has a place keeps it and takes no other.

use super::record;
use crate::reply::Reply;

/// Entries of a set, at most.
pub const WAYS: usize = 64;

/// Bytes of an entry, at most.
pub const MAX_ENTRY_LEN: usize = 128;

const HASH_LEN: usize = 16;
const HEAD_LEN: usize = HASH_LEN + 6;
const MAX_CONTENT_LEN: usize = MAX_ENTRY_LEN - HEAD_LEN;

/// Listeners that an entry in flight has room for, beside its deadline.
pub const MAX_LISTENERS: usize = (MAX_CONTENT_LEN - 4) / 4;

/// How many places a new record takes, at most.
const MOST_GIVEN_UP: usize = 2;

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

    /// Bytes of the whole table, at most.
    pub fn max_bytes(&self) -> u64 {
        let set = self.ways.saturating_mul(MAX_ENTRY_LEN);
        u64::from(self.sets).saturating_mul(u64::try_from(set).unwrap_or(u64::MAX))
    }

    /// The store's key of the set that a hash belongs to.
    pub fn name_of_set(&self, hash: &[u8; HASH_LEN]) -> String {
        let [a, b, c, d, ..] = *hash;
        let number = u32::from_be_bytes([a, b, c, d]).checked_rem(self.sets).unwrap_or(0);
        format!("wecom/v2/set/{number}")
    }

    /// A set with nothing in it.
    pub fn empty_set(&self) -> Set {
        Set { bytes: Vec::new(), ways: self.ways }
    }

    /// The set that was stored as those bytes. `None` if they are no set of this geometry.
    pub fn set_from(&self, bytes: Vec<u8>) -> Option<Set> {
        let (mut rest, mut entries) = (bytes.as_slice(), 0_usize);
        while !rest.is_empty() {
            (_, rest) = Entry::split(rest)?;
            entries = entries.saturating_add(1);
        }
        (entries <= self.ways).then_some(Set { bytes, ways: self.ways })
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
pub struct Set {
    bytes: Vec<u8>,
    ways: usize,
}

impl Set {
    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The live record of that hash.
    pub fn find(&self, hash: &[u8; HASH_LEN], now: u32) -> Option<Record> {
        self.entries().find(|entry| entry.hash == hash && entry.is_live(now)).and_then(|entry| entry.record())
    }

    /// Writes a record over the hash's own or, without one, where there is room. Says whether there was, in
    /// the set and in its entry.
    #[must_use]
    pub fn put(&mut self, hash: &[u8; HASH_LEN], record: &Record, now: u32) -> bool {
        let (state, content) = match &record.state {
            State::InFlight { deadline, listeners } => {
                let words = std::iter::once(deadline).chain(listeners);
                (IN_FLIGHT, words.flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>())
            }
            State::Settled(reply) => (SETTLED, record::encode(reply)),
        };
        let Some(len) = u8::try_from(content.len()).ok().filter(|_| content.len() <= MAX_CONTENT_LEN) else {
            return false;
        };
        let gone = self.given_up_for(hash, record, now);
        let mut bytes = Vec::with_capacity(self.bytes.len().saturating_add(HEAD_LEN).saturating_add(content.len()));
        let mut others = 0_usize;
        for entry in self.entries().filter(|entry| entry.hash != hash && !gone.contains(entry.hash)) {
            bytes.extend_from_slice(entry.bytes);
            others = others.saturating_add(1);
        }
        if others >= self.ways {
            return false;
        }
        bytes.extend_from_slice(hash);
        bytes.extend_from_slice(&record.expires.to_be_bytes());
        bytes.extend_from_slice(&[state, len]);
        bytes.extend_from_slice(&content);
        self.bytes = bytes;
        true
    }

    /// Whose places a record takes, all of them expired.
    fn given_up_for(&self, hash: &[u8; HASH_LEN], record: &Record, now: u32) -> Vec<[u8; HASH_LEN]> {
        if self.entries().any(|entry| entry.hash == hash) {
            return Vec::new();
        }
        let lifetime = record.expires.saturating_sub(now);
        let mut expired: Vec<_> = self.entries().filter(|entry| !entry.is_live(now)).collect();
        expired.sort_by_key(|entry| entry.expires);
        let over = expired.iter().filter(|entry| entry.expires.saturating_add(lifetime) <= now).count();
        let is_full = self.entries().count() >= self.ways;
        expired.iter().take(over.clamp(usize::from(is_full), MOST_GIVEN_UP)).map(|entry| *entry.hash).collect()
    }

    /// Frees the hash's entry.
    pub fn remove(&mut self, hash: &[u8; HASH_LEN]) {
        let others = self.entries().filter(|entry| entry.hash != hash);
        self.bytes = others.flat_map(|entry| entry.bytes).copied().collect();
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let entry;
            (entry, rest) = Entry::split(rest)?;
            Some(entry)
        })
    }
}

/// An entry, as bytes of its set.
struct Entry<'a> {
    /// All of it.
    bytes: &'a [u8],
    hash: &'a [u8; HASH_LEN],
    expires: u32,
    state: u8,
    content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The first of them, and the rest.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (hash, rest) = bytes.split_first_chunk::<HASH_LEN>()?;
        let (expires, rest) = rest.split_first_chunk::<4>()?;
        let (&[state, len], rest) = rest.split_first_chunk::<2>()?;
        let len = usize::from(len);
        let (content, rest) = rest.split_at_checked(len).filter(|_| len <= MAX_CONTENT_LEN)?;
        match state {
            IN_FLIGHT if len >= 4 && len.is_multiple_of(4) => {} // its deadline, and listeners
            SETTLED => {}
            _ => return None,
        }
        let bytes = bytes.get(..HEAD_LEN.saturating_add(len))?;
        Some((Self { bytes, hash, expires: u32::from_be_bytes(*expires), state, content }, rest))
    }

    fn is_live(&self, now: u32) -> bool {
        self.expires > now
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
        assert_eq!(name(0), "wecom/v2/set/0");
        assert_eq!(name(2047), "wecom/v2/set/2047");
        assert_eq!(name(2048), "wecom/v2/set/0", "there are as many sets as the capacity asks for, and no more");
        assert_eq!(Geometry::for_capacity(64).name_of_set(&[255; 16]), "wecom/v2/set/0");
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
        assert!(set.put(&[1; 16], &object(MAX_CONTENT_LEN - 1), 0));
        assert_eq!(set.find(&[1; 16], 0), Some(object(MAX_CONTENT_LEN - 1)));
        assert!(!set.put(&[1; 16], &object(MAX_CONTENT_LEN), 0));
    }

    #[test]
    fn an_expired_record_keeps_its_place_for_as_long_again_as_it_lived() {
        let mut set = Geometry::for_capacity(64).empty_set();
        for n in 1..=9 {
            assert!(set.put(&[n; 16], &settled(10), 0));
        }
        assert!(set.put(&[10; 16], &settled(29), 19), "they expired nine seconds ago");
        assert_eq!(set.entries().count(), 10);
        assert!(set.put(&[11; 16], &settled(30), 20), "ten");
        assert_eq!(set.entries().count(), 9, "two for one");
        assert!(set.put(&[3; 16], &settled(30), 20), "who has a place takes no other");
        assert_eq!(set.entries().count(), 9);
        let left: Vec<u8> = (1..=11).filter(|n| set.find(&[*n; 16], 0).is_some()).collect();
        assert_eq!(left, [3, 4, 5, 6, 7, 8, 9, 10, 11], "the clock is right again");
    }

    #[test]
    fn in_a_full_set_the_record_that_expired_first_makes_room() {
        let mut set = Geometry::for_capacity(3).empty_set();
        for (n, expires) in [(1, 12), (2, 11), (3, 13)] {
            assert!(set.put(&[n; 16], &settled(expires), 0));
        }
        assert!(set.put(&[4; 16], &settled(99), 12));
        let left: Vec<u8> = (1..=4).filter(|n| set.find(&[*n; 16], 0).is_some()).collect();
        assert_eq!(left, [1, 3, 4]);
    }

    #[test]
    fn a_bind_takes_as_little_as_the_documentation_says() {
        let mut set = Geometry::for_capacity(64).empty_set();
        let accepted = Record { state: State::Settled(Reply::Verdict(Verdict::new(0, None))), expires: 9 };
        assert!(set.put(&[1; 16], &accepted, 0));
        assert_eq!(set.as_bytes().len(), 29);
    }

    #[test]
    fn a_set_that_is_cut_short_or_too_long_is_none() {
        let table = Geometry::for_capacity(2);
        let mut set = table.empty_set();
        assert!(set.put(&[1; 16], &settled(9), 0));
        assert!(set.put(&[2; 16], &Record { state: State::Settled(Reply::Failed), expires: 9 }, 0));
        let bytes = set.as_bytes().to_vec();
        assert_eq!(table.set_from(bytes.clone()), Some(set));
        for cut in 0..bytes.len() {
            assert_eq!(table.set_from(bytes[..cut].to_vec()).is_some(), [0, 23].contains(&cut), "{cut} bytes");
        }
        assert_eq!(table.set_from([&bytes[..], &bytes[..23]].concat()), None, "three entries, of two");
        let with = |len: u8| [&[1; 20][..], &[SETTLED, len], &vec![0; usize::from(len)]].concat();
        assert!(table.set_from(with(106)).is_some());
        assert_eq!(table.set_from(with(107)), None, "an entry that is too long");
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
        assert_eq!(Geometry::for_capacity(65_536).max_bytes(), 16 << 20);
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
