//! The streams in progress, each in one stage, and which of them wait for which record.

use hashbrown::HashMap;

use crate::dedup::RecordKey;
use crate::exchange::{Reading, Waiting};
use crate::host::StreamId;

/// Where a stream is on its way. Of one that is answered, or has left, nothing is kept.
pub(super) enum Stage {
    /// Its body is on its way.
    Reading(Reading),
    /// It is complete, with this body, and has not been opened.
    Arrived(Reading, Vec<u8>),
    /// It waits for the call of this record.
    Waiting(RecordKey, Waiting),
}

impl Stage {
    /// The record that it waits for.
    fn record(&self) -> Option<RecordKey> {
        match self {
            Self::Reading(_) | Self::Arrived(..) => None,
            Self::Waiting(key, _) => Some(*key),
        }
    }
}

/// All streams of a worker. What the index by record says follows from the stages, and only the
/// methods here change either.
#[derive(Default)]
pub(super) struct Streams {
    stages: HashMap<StreamId, Stage>,
    by_record: HashMap<RecordKey, Vec<StreamId>>,
}

impl Streams {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether any waits for a record.
    pub(super) fn anybody_waits(&self) -> bool {
        !self.by_record.is_empty()
    }

    /// Adds a stream, or takes it to another stage.
    pub(super) fn insert(&mut self, id: StreamId, stage: Stage) {
        let key = stage.record();
        if let Some(before) = self.stages.insert(id, stage) {
            self.forget_record(id, before.record());
        }
        if let Some(key) = key {
            self.by_record.entry(key).or_default().push(id);
        }
    }

    /// Takes a stream out.
    pub(super) fn take(&mut self, id: StreamId) -> Option<Stage> {
        let stage = self.stages.remove(&id)?;
        self.forget_record(id, stage.record());
        Some(stage)
    }

    /// Takes a stream out if its body is on its way.
    pub(super) fn take_reading(&mut self, id: StreamId) -> Option<Reading> {
        match self.take(id)? {
            Stage::Reading(reading) => Some(reading),
            other => {
                self.insert(id, other);
                None
            }
        }
    }

    /// Takes a stream out, with its body, if it is complete and has not been opened.
    pub(super) fn take_arrived(&mut self, id: StreamId) -> Option<(Reading, Vec<u8>)> {
        match self.take(id)? {
            Stage::Arrived(reading, body) => Some((reading, body)),
            other => {
                self.insert(id, other);
                None
            }
        }
    }

    /// Takes out all that wait for a record, in the order in which they came.
    pub(super) fn take_waiting(&mut self, key: RecordKey) -> Vec<(StreamId, Waiting)> {
        let mut taken = Vec::new();
        for id in self.by_record.remove(&key).unwrap_or_default() {
            if let Some(Stage::Waiting(_, waiting)) = self.stages.remove(&id) {
                taken.push((id, waiting));
            }
        }
        taken
    }

    /// The streams that must be looked after at that time.
    pub(super) fn due(&self, now_ms: u64) -> Vec<StreamId> {
        let due = self.stages.iter().filter(|(_, stage)| match stage {
            Stage::Reading(reading) => reading.is_due(now_ms),
            Stage::Arrived(..) => false, // opened at the next wake, or tick
            Stage::Waiting(_, waiting) => waiting.is_due(now_ms),
        });
        due.map(|(id, _)| *id).collect()
    }

    /// Takes a stream out of the index.
    fn forget_record(&mut self, id: StreamId, key: Option<RecordKey>) {
        let Some(key) = key else { return };
        let Some(ids) = self.by_record.get_mut(&key) else { return };
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            self.by_record.remove(&key);
        }
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use crate::exchange::tests::{reading, waiting};

    const KEYS: [RecordKey; 2] = [RecordKey::from_bytes([1; 16]), RecordKey::from_bytes([2; 16])];

    fn waits(key: usize) -> Stage {
        Stage::Waiting(KEYS[key], waiting())
    }

    fn ids(waiting: Vec<(StreamId, Waiting)>) -> Vec<u32> {
        waiting.into_iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn a_stream_is_in_one_stage_and_waits_for_one_record() {
        let mut streams = Streams::default();
        streams.insert(StreamId(1), Stage::Reading(reading()));
        assert!(streams.take_reading(StreamId(1)).is_some());
        assert!(streams.take_reading(StreamId(1)).is_none(), "taken out");
        streams.insert(StreamId(1), waits(0));
        assert!(streams.take_reading(StreamId(1)).is_none(), "it waits, and goes on waiting");
        streams.insert(StreamId(2), waits(0));
        streams.insert(StreamId(3), waits(0));
        streams.insert(StreamId(2), waits(1)); // to another stage
        streams.take(StreamId(3));
        assert_eq!(ids(streams.take_waiting(KEYS[0])), [1]);
        assert_eq!(ids(streams.take_waiting(KEYS[0])), [0_u32; 0]);
        assert_eq!(ids(streams.take_waiting(KEYS[1])), [2]);
    }

    #[test]
    fn nothing_is_kept_of_streams_that_have_left() {
        let mut streams = Streams::default();
        for id in 0..9 {
            streams.insert(StreamId(id), if id % 2 == 0 { waits(0) } else { Stage::Reading(reading()) });
        }
        for id in 0..9 {
            assert!(streams.take(StreamId(id)).is_some());
            assert!(streams.take(StreamId(id)).is_none());
        }
        assert!(streams.stages.is_empty() && streams.by_record.is_empty());
    }
}
