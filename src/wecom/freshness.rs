//! Freshness: how far from now a time that the sender wrote may be.
//!
//! Two times are held to it: `timestamp`, which is signed but can be swapped with the nonce, and
//! `createtime`, which is encrypted. What is older than both allow is a replay.

use thiserror::Error;

/// Now, and the largest distance from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    now: u64,
    limit: u64,
}

impl Freshness {
    /// `now` in Unix seconds, `limit` in seconds; a limit of 0 switches the check off.
    pub fn new(now: u64, limit: u64) -> Self {
        Self { now, limit }
    }

    /// Whether times are not checked at all.
    pub fn is_off(&self) -> bool {
        self.limit == 0
    }

    /// Checks the time in a field, in Unix seconds.
    ///
    /// # Errors
    /// [`Stale::Far`] if it is further from now than the limit, in either direction.
    pub fn check(&self, field: &'static str, time: u64) -> Result<(), Stale> {
        let distance = self.now.abs_diff(time);
        if self.is_off() || distance <= self.limit {
            return Ok(());
        }
        let direction = if time < self.now { "behind" } else { "ahead of" };
        Err(Stale::Far { field, distance, direction, limit: self.limit })
    }
}

/// Why a time does not count as fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Stale {
    /// It is too far from now.
    #[error("{field} is {distance} s {direction} the clock, more than {limit} s")]
    Far {
        /// The field's name.
        field: &'static str,
        /// How far from now it is, in seconds.
        distance: u64,
        /// Which side of the clock it is on.
        direction: &'static str,
        /// The largest distance allowed, in seconds.
        limit: u64,
    },
    /// It is not there, in a message that must have it.
    #[error("createtime is missing")]
    Missing,
    /// It is not a time.
    #[error("createtime is neither an unsigned integer nor a string of digits")]
    Malformed,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_time_is_fresh_up_to_the_limit_on_either_side() {
        let fresh = Freshness::new(1000, 600);
        for time in [400, 1000, 1600] {
            assert_eq!(fresh.check("timestamp", time), Ok(()));
        }
        for (time, words) in [
            (399, "timestamp is 601 s behind the clock, more than 600 s"),
            (1601, "timestamp is 601 s ahead of the clock, more than 600 s"),
        ] {
            assert_eq!(fresh.check("timestamp", time).unwrap_err().to_string(), words);
        }
        assert_eq!(fresh.check("timestamp", u64::MAX).is_ok(), Freshness::new(0, 1).check("x", 2).is_ok());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_limit_of_zero_checks_nothing() {
        let off = Freshness::new(1000, 0);
        assert!(off.is_off() && off.check("timestamp", 0).is_ok() && off.check("timestamp", u64::MAX).is_ok());
        assert!(!Freshness::new(1000, 1).is_off());
    }
}
