//! What must hold, whatever happens.

use super::*;

macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}

impl Storm {
    /// A worker has called an upstream.
    pub(super) fn ask(&mut self, replica: Replica, id: CallId, call: &Call) -> Result<(), Broken> {
        let req_id = call.header("x-wecom-req-id").expect("every callback has one");
        let record = (1..=self.records.len()).position(|n| req_id == format!("storm-{n}")).expect("one of ours");
        let Record { is_bind, calls, .. } = &mut self.records[record];
        let local = self.plan.local;
        let before: Vec<_> = calls.iter().filter(|(by, ..)| !local || *by == replica).collect();
        if *is_bind {
            hold!(before.is_empty(), "{req_id} is delivered again, by {replica:?} after {before:?}");
        } else {
            let may_follow = before.iter().all(|(.., says)| matches!(says, Some(Says::BrokenOff | Says::Error)));
            hold!(may_follow, "{req_id} is delivered again, by {replica:?} after {before:?}");
        }
        hold!(call.timeout_ms <= self.timeouts_ms[0], "{req_id} may take {} ms", call.timeout_ms);
        calls.push((replica, id, None));
        let is_bind = *is_bind;
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
        self.plan_at(at_ms, Happens::Decides { replica, call: id, record, says });
        Ok(())
    }

    pub(super) fn hear_answers(&mut self, place: usize) -> Result<(), Broken> {
        let replica = (place, self.places[place].lives);
        for finished in self.places[place].edge.process.take_finished() {
            let Some(answer) = finished.answer else { continue };
            let known = |client: &&mut Client| (client.replica, client.id) == (replica, finished.stream);
            let client = self.clients.iter_mut().find(known).expect("one that came");
            hold!(client.answered.is_none() && !client.left, "{:?} is answered once too often", finished.stream);
            let took_ms = finished.at_ms - client.began_ms;
            hold!(took_ms <= ANSWERED_WITHIN_MS, "{:?} is answered after {took_ms} ms", finished.stream);
            let Record { is_bind, calls, .. } = &self.records[client.record];
            let said = |says| calls.iter().any(|(.., said)| *said == Some(says));
            if answer.status == 503 && finished.report.outcome == Outcome::SealFailed {
                hold!(self.plan.poor, "there are random numbers");
                client.answered = Some((503, None));
            } else if *is_bind {
                hold!(answer.status == 200, "a bind is answered with {}", answer.status);
                let reply = self.places[place].edge.account.open_reply(&answer.body).map_err(|e| e.to_string())?;
                let errcode = reply.errcode().ok_or("no verdict")?;
                hold!(errcode == FAILED || said(Says::Errcode(errcode)), "nobody has said {errcode}");
                client.answered = Some((200, Some(errcode)));
            } else {
                let delivered = answer.status == 200 && answer.body == b"success";
                hold!(delivered || answer.status == 503, "an event is answered with {}", answer.status);
                hold!(!delivered || said(Says::Success), "nobody has said success");
                client.answered = Some((answer.status, None));
            }
        }
        Ok(())
    }

    pub(super) fn nobody_waits_too_long(&self) -> Result<(), Broken> {
        for client in &self.clients {
            let Client { replica, id, began_ms, left, answered, .. } = *client;
            let waits = !left && answered.is_none() && self.lives(replica);
            let for_ms = self.now_ms - began_ms;
            hold!(!waits || for_ms <= ANSWERED_WITHIN_MS, "{id:?} at {replica:?} waits for {for_ms} ms");
        }
        Ok(())
    }

    pub(super) fn nothing_is_counted_as_waiting(&self) -> Result<(), Broken> {
        for place in self.places.iter().filter(|_| !self.plan.poor) {
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
            if self.plan.local || self.plan.poor {
                continue; // each may have decided alone, or failed
            }
            let all = said[0];
            hold!(said.iter().all(|one| *one == all), "record {record} is {said:?}, as the replicas say");
            // Whoever decided and lives on has told them.
            let calls = self.records[record].calls.iter().filter(|(by, ..)| self.lives(*by));
            let expected = calls.filter_map(|(.., says)| *says).find_map(|says| match says {
                Says::Errcode(errcode) => Some((200, Some(errcode))),
                Says::Success => Some((200, None)),
                Says::BrokenOff | Says::Error if self.records[record].is_bind => Some((200, Some(FAILED))),
                Says::BrokenOff | Says::Error => None, // and delivered again
            });
            hold!(expected.is_none_or(|one| one == all), "record {record} is {all:?}, and {expected:?} was heard");
        }
        Ok(())
    }
}
