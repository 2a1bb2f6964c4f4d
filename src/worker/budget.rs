//! How much of the log one worker fills with what any stranger can cause.

use crate::outcome::Noise;

/// Lines a second.
const LINES: u32 = 10;

/// One budget for each kind of noise.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    strangers: Budget,
    holders: Budget,
}

impl Budgets {
    /// The budget of that kind.
    pub(super) fn of(&mut self, noise: Noise) -> &mut Budget {
        match noise {
            Noise::Strangers => &mut self.strangers,
            Noise::Holders => &mut self.holders,
        }
    }

    /// Asks each.
    pub(super) fn each<T>(&mut self, mut ask: impl FnMut(&mut Budget) -> T) -> [T; 2] {
        [ask(&mut self.strangers), ask(&mut self.holders)]
    }

    /// Whether any has something left to be said.
    pub(super) fn has_kept_back(&self) -> bool {
        self.strangers.kept_back > 0 || self.holders.kept_back > 0
    }
}

/// Admits so many lines a second, and knows how many it kept back. Seconds are those of the clock.
#[derive(Debug, Default)]
pub(super) struct Budget {
    second: u64,
    written: u32,
    kept_back: u64,
}

impl Budget {
    /// Whether a line may be written at that time, in Unix milliseconds.
    pub(super) fn admits(&mut self, now_ms: u64) -> bool {
        self.turn_to(now_ms);
        if self.written < LINES {
            self.written = self.written.saturating_add(1);
            return true;
        }
        self.kept_back = self.kept_back.saturating_add(1);
        false
    }

    /// How many lines were kept back in a second that is over: to be said once.
    pub(super) fn take_kept_back(&mut self, now_ms: u64) -> Option<u64> {
        if self.second == now_ms / 1000 { None } else { self.take_all() }
    }

    /// How many lines were kept back so far.
    pub(super) fn take_all(&mut self) -> Option<u64> {
        (self.kept_back > 0).then(|| std::mem::take(&mut self.kept_back))
    }

    fn turn_to(&mut self, now_ms: u64) {
        let second = now_ms / 1000;
        if self.second != second {
            self.second = second;
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_says_at_its_end_how_many_it_kept_back() {
        let mut budget = Budget::default();
        let admitted = (0..500).filter(|n| budget.admits(5_000 + n)).count();
        assert_eq!(admitted, 10);
        assert_eq!(budget.take_kept_back(5_999), None, "the second is not over");
        assert_eq!(budget.kept_back, 490);
        assert_eq!(budget.take_kept_back(6_000), Some(490));
        assert_eq!((budget.take_kept_back(6_000), budget.kept_back), (None, 0));
        assert!(budget.admits(6_000));
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_second_too() {
        let mut budget = Budget::default();
        let admitted = (0..11).filter(|_| budget.admits(9_000)).count();
        assert_eq!(admitted, 10);
        assert!(budget.admits(1_000));
        assert_eq!(budget.take_kept_back(1_000), None, "said with the end of this second");
        assert_eq!(budget.take_kept_back(2_000), Some(1));
    }
}
