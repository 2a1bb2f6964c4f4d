//! What must hold, whatever happens.
//!
//! | promise | holds |
//! |---|---|
//! | who asks to be refused where Redis fails never decides alone | always |
//! | a process makes one call for a record | always |
//! | all together make one call that Redis has granted, however many decide alone | unless somebody deletes in Redis or puts back what was there |
//! | a record in Redis outlives the call that it was granted for | as the one above |
//! | nobody is told what no call about this very record has said | always |
//! | a process tells no other verdict than that of its own call | always; but records may expire |
//! | who stays is answered in time | always; a clock that is set back may cost a tick |
//! | when all is quiet, nobody waits or is counted as waiting | always; the count of a dead worker stays |
//! | when all is quiet, all say the same, and what was heard | of records that are not tainted |
//!
//! The second is as long as the record lives, and a callback that failed may be delivered again unless it is
//! a bind: that is meant by "one". With what somebody deletes, the promise over all replicas is lost by nature:
//! what a second replica would have to know is gone. The one for each process is kept by its own record.
//!
//! A record is tainted, so that one replica may say errcode 7 where another knows the verdict, or each the
//! verdict of a call of its own,
//!
//! - where the host failed while it worked on the record: it could not write down what it heard, or had no
//!   random numbers to ask with; or a worker died with it;
//! - where a replica that decides alone could perhaps not begin its call: that has failed for it alone;
//! - where a clock leapt beyond the life of a record in a process, and back: what was in flight then is found
//!   again, and its deadline is long over;
//! - where somebody else wrote to it in Redis;
//! - where its verdict could not be written to Redis for so long that it was given up, which is counted.
//!
//! Nor need they agree where workers do not open each other's values, as their secrets were not changed in order.

use super::*;

macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}

/// By when who stays is answered, in milliseconds from the headers: WeCom gives up at 3000.
const ANSWERED_WITHIN_MS: u64 = 2_900;

/// What is lost of a worker's time at most when its clock is set back, in milliseconds: a tick.
const LOST_WHEN_SET_BACK_MS: u64 = 50;

/// The verdict on a bind about which nobody decided.
const FAILED: u32 = 7;

/// What one replica says of a record: a status, and the verdict on a bind.
type Said = (u32, Option<u32>);

impl Storm {
    /// A worker has called an upstream; alone, if Redis has not granted it.
    pub(super) fn ask(&mut self, replica: Replica, id: CallId, call: &Call, alone: bool) -> Result<(), Broken> {
        let req_id = call.header("x-wecom-req-id").expect("every callback has one");
        let index = (1..=self.records.len()).position(|n| req_id == format!("storm-{n}")).expect("one of ours");
        let Settings { local, timeouts_ms, .. } = self.places[replica.0].settings[call.worker];
        hold!(local || !alone, "{replica:?} decides alone about {req_id}, and is not to");
        hold!(call.timeout_ms <= timeouts_ms[0], "{req_id} may take {} ms", call.timeout_ms);
        let (now_ms, forgets) = (self.redis_ms(), self.redis_forgets());
        let Record { is_bind, calls, key, kept_until_ms, .. } = &self.records[index];
        let again: Vec<_> = calls
            .iter()
            .filter(|asked| asked.by == replica || self.plan.insists || !(alone || asked.alone || forgets))
            .filter(|asked| asked.until_ms > now_ms)
            .filter(|asked| *is_bind || !matches!(asked.says, Some(Says::BrokenOff | Says::Error)))
            .collect();
        hold!(again.is_empty(), "{req_id} is delivered again, by {replica:?} after {again:?}");
        if !alone && !forgets {
            let lives_ms = self.redis.lives_ms(key);
            let outlives = lives_ms.is_some_and(|lives_ms| lives_ms >= call.timeout_ms);
            hold!(outlives, "{req_id} may take {} ms, and its record lives for {lives_ms:?}", call.timeout_ms);
        }
        let until_ms = if alone { u64::MAX } else { *kept_until_ms };
        let is_bind = *is_bind;
        let asked = Asked { by: replica, worker: call.worker, id, says: None, alone, until_ms };
        self.records[index].calls.push(asked);
        let says = match self.rng.u32(0..10) {
            _ if !self.is_on() && !is_bind => Says::Success,
            0 => Says::BrokenOff,
            1 => Says::Error,
            2..4 if !is_bind => Says::Error, // to be delivered again
            _ if is_bind => {
                self.verdicts += 1;
                Says::Errcode(if self.chance(30) { 0 } else { 1_000 + self.verdicts })
            }
            _ => Says::Success,
        };
        let after_ms = if self.chance(20) { self.rng.u64(0..=call.timeout_ms) } else { self.rng.u64(0..80) };
        let at_ms = self.now_ms + after_ms.min(call.timeout_ms);
        self.plan_at(at_ms, Happens::Decides { replica, call: id, record: index, says });
        Ok(())
    }

    /// Whether Redis may have lost what it has acknowledged.
    fn redis_forgets(&self) -> bool {
        self.plan.intruder == Some(Intruder::Replays)
    }

    pub(super) fn hear_answers(&mut self, place: usize) -> Result<(), Broken> {
        let replica = (place, self.places[place].lives);
        for finished in self.places[place].edge.process.take_finished() {
            let Some(answer) = finished.answer else { continue };
            let known = |client: &Client| (client.replica, client.id) == (replica, finished.stream);
            let index = self.clients.iter().position(known).expect("one that came");
            let Client { record, began_ms, left, answered, .. } = self.clients[index];
            hold!(answered.is_none() && !left, "{:?} is answered once too often", finished.stream);
            let took_ms = self.now_ms - began_ms;
            hold!(took_ms <= self.within_ms(place, began_ms), "{:?} had to wait for {took_ms} ms", finished.stream);
            let Record { is_bind, calls, .. } = &self.records[record];
            let said = |says| calls.iter().any(|asked| asked.says == Some(says));
            let outcome = finished.report.outcome;
            let verdict = if matches!(outcome, Outcome::Stale | Outcome::StaleMessage) {
                let ahead_ms = self.clocks[place].ahead_ms;
                hold!(ahead_ms.abs() >= FAR_MS, "a callback is stale, and the clock is {ahead_ms} ms ahead");
                None
            } else if answer.status == 503 && outcome == Outcome::SealFailed {
                hold!(self.plan.poor, "there are random numbers");
                None
            } else if answer.status == 503 && outcome == Outcome::NoBody {
                hold!(self.plan.leaps, "nobody waits as long for a body");
                None
            } else if *is_bind {
                hold!(answer.status == 200, "a bind is answered with {}", answer.status);
                let reply = self.places[place].edge.account.open_reply(&answer.body).map_err(|e| e.to_string())?;
                let errcode = reply.errcode().ok_or("no verdict")?;
                hold!(errcode == FAILED || said(Says::Errcode(errcode)), "nobody has said {errcode}");
                let own = calls.iter().filter(|asked| asked.by == replica && !self.plan.expires);
                let own: Vec<_> = own.filter_map(|asked| asked.says).collect();
                let holds = errcode == FAILED || own.iter().all(|says| *says == Says::Errcode(errcode));
                hold!(holds, "{replica:?} says {errcode}, and its own call {own:?}");
                Some(errcode)
            } else {
                let delivered = answer.status == 200 && answer.body == b"success";
                hold!(delivered || answer.status == 503, "an event is answered with {}", answer.status);
                hold!(!delivered || said(Says::Success), "nobody has said success");
                None
            };
            self.clients[index].answered = Some((answer.status, verdict));
        }
        Ok(())
    }

    /// How long somebody may wait who began then.
    fn within_ms(&self, place: usize, began_ms: u64) -> u64 {
        let set_back = self.clocks[place].set_back.iter().filter(|at_ms| **at_ms >= began_ms).count() as u64;
        ANSWERED_WITHIN_MS + set_back * LOST_WHEN_SET_BACK_MS
    }

    pub(super) fn nobody_waits_too_long(&self) -> Result<(), Broken> {
        for client in &self.clients {
            let Client { replica, id, began_ms, left, answered, .. } = *client;
            let waits = !left && answered.is_none() && self.lives(replica);
            let for_ms = self.now_ms - began_ms;
            let holds = !waits || for_ms <= ANSWERED_WITHIN_MS || for_ms <= self.within_ms(replica.0, began_ms);
            hold!(holds, "{id:?} at {replica:?} had to wait for {for_ms} ms");
        }
        Ok(())
    }

    pub(super) fn nothing_is_counted_as_waiting(&self) -> Result<(), Broken> {
        for place in self.places.iter().filter(|place| !place.lost_a_worker) {
            for what in ["copies waiting", "repeats waiting"] {
                let count = place.edge.process.counted(what);
                hold!(count == 0, "{count} {what}, and all is quiet");
            }
        }
        Ok(())
    }

    /// Asks everyone about everything, twice: the first round may still find orphans.
    pub(super) fn all_say_the_same(&mut self) -> Result<(), Broken> {
        for record in 0..self.records.len() {
            let calls = self.records[record].calls.len();
            let mut said = Vec::new();
            for _ in 0..2 {
                said.clear();
                for place in 0..self.places.len() {
                    let client = self.clients.len();
                    self.happens(Happens::Arrives { place, record })?;
                    self.look_at(place)?;
                    self.become_quiet()?;
                    let answered = self.clients[client].answered;
                    said.push(answered.ok_or_else(|| format!("client {client} is not answered, and all is quiet"))?);
                }
            }
            if self.plan.expires {
                let called = self.records[record].calls.len() - calls;
                hold!(called == 1, "record {record} has expired, and is then delivered {called} times");
            }
            if self.need_not_agree(record) {
                let all_agree = said.iter().all(|one| *one == said[0]);
                self.counted(if all_agree { "tainted records agreed on" } else { "tainted records disagreed on" });
            } else {
                self.agree(record, &said)?;
                self.counted("records agreed on");
            }
        }
        Ok(())
    }

    fn need_not_agree(&self, record: usize) -> bool {
        let dropped = |place: &Place| place.edge.process.counted("settlements dropped") > 0;
        let excused = self.records[record].tainted
            || self.plan.rotation == Rotation::OutOfOrder
            || self.counts.get("settlements dropped").is_some_and(|dropped| *dropped > 0)
            || self.places.iter().any(dropped);
        excused && !self.plan.insists
    }

    /// Who has made a call and lives on says what it has heard. All others say the same: what Redis granted, if
    /// it granted a call that somebody lives to tell of; else what it was first told.
    fn agree(&self, record: usize, said: &[Said]) -> Result<(), Broken> {
        let Record { is_bind, calls, .. } = &self.records[record];
        let expected = |asked: &Asked| match asked.says? {
            Says::Errcode(errcode) => Some((200, Some(errcode))),
            Says::Success => Some((200, None)),
            Says::BrokenOff | Says::Error if *is_bind => Some((200, Some(FAILED))),
            Says::BrokenOff | Says::Error => None, // and delivered again
        };
        let now_ms = self.redis_ms();
        let heard = calls.iter().filter(|asked| self.lives(asked.by) && asked.until_ms > now_ms);
        let heard: Vec<_> = heard.filter_map(|asked| Some((asked, expected(asked)?))).collect();
        let alone = |place: usize| heard.iter().find(|(asked, _)| asked.alone && asked.by.0 == place);
        let granted = heard.iter().find(|(asked, _)| !asked.alone).map(|(_, expected)| *expected);
        let mut others = granted;
        for (place, one) in said.iter().enumerate() {
            match alone(place).filter(|_| !self.plan.insists) {
                Some((_, own)) => hold!(one == own, "record {record} is {one:?} at {place}, which has heard {own:?}"),
                None => {
                    let all = *others.get_or_insert(*one);
                    hold!(*one == all, "record {record} is {said:?}, as the replicas say; {granted:?} was heard");
                }
            }
        }
        Ok(())
    }
}
