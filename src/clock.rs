//! Time, as a worker measures it.
//!
//! The host tells Unix time, and no other: it can be set back. A deadline that went by it would then
//! move away, so deadlines go by a clock that stands still in that moment and runs on from there.

use std::cell::Cell;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix time, in milliseconds: what others mean by their timestamps.
    pub unix_ms: u64,
    /// Milliseconds that never decrease on one worker: what deadlines go by. Equal to Unix time as long
    /// as that is not set back.
    pub steady_ms: u64,
}

impl Now {
    /// That moment on a clock that was never set back.
    pub const fn at(unix_ms: u64) -> Self {
        Self { unix_ms, steady_ms: unix_ms }
    }
}

/// A worker's clock.
#[derive(Debug, Default)]
pub struct Clock {
    last_unix_ms: Cell<u64>,
    set_back_ms: Cell<u64>,
}

impl Clock {
    /// Takes what Unix time it is. What passed between the reading before it and a set-back is not
    /// counted: while anything waits, less than one tick.
    pub fn now(&self, unix_ms: u64) -> Now {
        let set_back_ms = self.last_unix_ms.replace(unix_ms).saturating_sub(unix_ms);
        let set_back_ms = self.set_back_ms.get().saturating_add(set_back_ms);
        self.set_back_ms.set(set_back_ms);
        Now { unix_ms, steady_ms: unix_ms.saturating_add(set_back_ms) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;

    #[test]
    fn steady_time_goes_on_from_where_unix_time_is_set_back() {
        let clock = Clock::default();
        assert_eq!(clock.now(5_000), Now::at(5_000));
        assert_eq!(clock.now(5_100), Now::at(5_100));
        assert_eq!(clock.now(2_100), Now { unix_ms: 2_100, steady_ms: 5_100 });
        assert_eq!(clock.now(2_150), Now { unix_ms: 2_150, steady_ms: 5_150 });
        assert_eq!(clock.now(2_149), Now { unix_ms: 2_149, steady_ms: 5_150 }, "set back again");
        assert_eq!(clock.now(9_149), Now { unix_ms: 9_149, steady_ms: 12_150 }, "and forwards");
    }
}
