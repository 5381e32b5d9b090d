//! Owns a rate as people want to read it: the mean over the last seconds, and the time left.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::RATE_TICKS;

/// A counter looked at now and again.
#[derive(Default)]
pub struct Rate {
    /// When it was looked at, and what it said; the oldest first.
    looks: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// The counter says `count` at `now`.
    pub fn look(&mut self, count: u64, now: Instant) {
        if self.looks.len() > RATE_TICKS {
            self.looks.pop_front();
        }
        self.looks.push_back((now, count));
    }

    /// Counts per second, over the looks that are remembered.
    pub fn per_second(&self) -> u64 {
        let (Some((began, from)), Some((now, to))) = (self.looks.front(), self.looks.back()) else {
            return 0;
        };
        let elapsed = (*now - *began).as_micros();
        let count = u128::from(to.saturating_sub(*from)) * 1_000_000;
        u64::try_from(count.checked_div(elapsed).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// How long `left` more will take at this rate. `None` while nothing moves.
    pub fn time_for(&self, left: u64) -> Option<Duration> {
        left.checked_div(self.per_second()).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_the_last_looks() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut rate = Rate::default();
        assert_eq!((rate.per_second(), rate.time_for(5)), (0, None));
        rate.look(0, start);
        assert_eq!(rate.per_second(), 0);
        for at in 1..=10 {
            rate.look(u64::from(at) * 1_000, start + second * at);
        }
        assert_eq!(rate.per_second(), 1_000);
        assert_eq!(rate.time_for(30_500), Some(Duration::from_secs(30)));
        for at in 11..=40 {
            rate.look(10_000, start + second * at);
        }
        assert_eq!((rate.per_second(), rate.time_for(5)), (0, None));
    }
}
