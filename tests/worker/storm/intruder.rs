//! Who else can write to Redis.

use wecom_callback_filter::reply::Reply;
use wecom_callback_filter::wecom::verdict::Verdict;

use super::*;

/// What somebody does who can write to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intruder {
    /// Writes what no replica has written for this record: noise, a list, a broken value, one of another
    /// record's.
    Scribbles,
    /// Also deletes, and puts back what a record was before, which is as good as deleting.
    Replays,
    /// Approves of everything, as only who knows the secret can.
    KnowsTheSecret,
}

impl Storm {
    /// Something is done to one record, or to all. The replicas need not agree about it any more.
    pub(super) fn intrude(&mut self) {
        let Some(intruder) = self.plan.intruder else { return };
        let index = self.rng.usize(0..self.records.len());
        self.taint(&[index]);
        let key = self.records[index].key.clone();
        match intruder {
            Intruder::Replays if self.chance(60) => self.put_back(index, &key),
            Intruder::Scribbles | Intruder::Replays => self.scribble(index, &key),
            Intruder::KnowsTheSecret => {
                let edge = &self.places[0].edge;
                let shared = settings::shared(edge);
                let name = shared.name(&settings::name(edge, &format!("storm-{}", index + 1)));
                let approved = shared.settled(&name, &Reply::Verdict(Verdict::new(0, None)), [7; 16]);
                // It has no bytes but those that it settles with.
                let batch = shared.settle(&name, &shared.pending(&name, [7; 16]), &approved);
                let value = model::redis::commands(&batch).expect("whole commands")[0][5].clone();
                self.redis.put(&key, &value);
            }
        }
    }

    fn put_back(&mut self, index: usize, key: &str) {
        match self.rng.u32(0..10) {
            0 => {
                self.counted("records deleted");
                self.redis.clear();
                let all: Vec<_> = (0..self.records.len()).collect();
                self.taint(&all);
            }
            1..5 => {
                self.counted("records deleted");
                self.redis.delete(key);
            }
            _ => {
                let Some(value) = self.rng.choice(&self.records[index].values).cloned() else { return };
                self.counted("records put back");
                self.redis.put(key, &value);
            }
        }
    }

    fn scribble(&mut self, index: usize, key: &str) {
        self.counted("records scribbled on");
        let others = (0..self.records.len()).filter(|other| *other != index);
        let of_others: Vec<_> = others.flat_map(|other| self.records[other].values.clone()).collect();
        let own = self.redis.value(key).filter(|own| !own.is_empty());
        match (self.rng.u32(0..4), own, self.rng.choice(of_others)) {
            (0, ..) => self.redis.put_list(key),
            (1, _, Some(of_another)) => self.redis.put(key, &of_another),
            (2, Some(mut own), _) => {
                let byte = self.rng.usize(0..own.len());
                own[byte] ^= 1 << self.rng.u32(0..8);
                self.redis.put(key, &own);
            }
            (3, Some(own), _) => self.redis.put(key, &own[..self.rng.usize(0..own.len())]),
            _ => {
                let noise: Vec<_> = (0..self.rng.usize(0..140)).map(|_| self.rng.u8(..)).collect();
                self.redis.put(key, &noise);
            }
        }
    }
}
