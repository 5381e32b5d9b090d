//! Decides when how many bytes may pass under a rate limit: a token bucket in the form of virtual
//! scheduling (the GCRA of ITU-T I.371).
//!
//! Whoever wants to pass bytes gets in line: each reservation begins where the one before it ends,
//! and its bytes may pass when all of them are paid for. So nothing passes too early, not even at
//! the start, and everybody who asks for a quantum at a time gets the same share. A line that was
//! empty for a while is taken to have been so for `RATE_SAVED_MAX_MS` at most: that makes up for
//! whoever wakes up late, and is all that can pass at once after a pause.

use std::time::{Duration, Instant};

use crate::limits::{QUANTA_PER_S_MAX, QUANTUM_MAX_BYTES, QUANTUM_MIN_BYTES, RATE_SAVED_MAX_MS};

const SAVED_MAX: Duration = Duration::from_millis(RATE_SAVED_MAX_MS as u64);
/// What a byte costs. At r bytes a second, r of these units go by in a nanosecond: both are whole
/// numbers, so nothing is ever rounded.
const BYTE: u128 = 1_000_000_000;

/// A line of those who want to pass bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    bytes_per_s: u64,
    epoch: Instant,
    /// When the last reservation ends: nanoseconds since `epoch`, times `bytes_per_s`.
    end: u128,
}

impl Bucket {
    /// An empty line at `now`, for so many bytes a second; 0 counts as 1.
    pub fn new(bytes_per_s: u64, now: Instant) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), epoch: now, end: 0 }
    }

    /// How many bytes one asks for at a time: few at a low rate, so that the turn of each comes
    /// often.
    pub fn quantum(&self) -> u32 {
        let share = u32::try_from(self.bytes_per_s / QUANTA_PER_S_MAX).unwrap_or(u32::MAX);
        share.clamp(QUANTUM_MIN_BYTES, QUANTUM_MAX_BYTES)
    }

    /// Gets in line at `now` with so many bytes. They may pass at the time that is returned.
    pub fn reserve(&mut self, bytes: u32, now: Instant) -> Instant {
        let begin = self.end.max(self.earliest(now));
        self.end = begin.saturating_add(u128::from(bytes) * BYTE);
        let ns = self.end.div_ceil(u128::from(self.bytes_per_s));
        self.epoch + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// So many bytes that were reserved will not pass: who comes next need not wait for them.
    pub fn give_back(&mut self, bytes: u32) {
        self.end = self.end.saturating_sub(u128::from(bytes) * BYTE);
    }

    /// Whether the limit is what is waited for: more is wanted than may pass.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.end > self.earliest(now)
    }

    /// Where a reservation that is made at `now` can begin.
    fn earliest(&self, now: Instant) -> u128 {
        let ns = now.saturating_duration_since(self.epoch).saturating_sub(SAVED_MAX).as_nanos();
        ns.saturating_mul(u128::from(self.bytes_per_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    /// Readers at a line, in simulated time (nanoseconds). Bytes come for each at its own rate.
    struct World {
        start: Instant,
        bucket: Bucket,
        rng: fastrand::Rng,
        /// Bytes a second that come for each reader, and how many it has read.
        readers: Vec<(u64, u64)>,
        /// When bytes passed, and how many.
        passed: Vec<(u64, u64)>,
        /// Who does something when: to get in line, or to read so many bytes.
        plans: BTreeMap<(u64, usize), u32>,
    }

    impl World {
        fn new(bytes_per_s: u64, appetites: &[u64]) -> Self {
            let start = Instant::now();
            Self {
                start,
                bucket: Bucket::new(bytes_per_s, start),
                rng: fastrand::Rng::with_seed(1),
                readers: appetites.iter().map(|appetite| (*appetite, 0)).collect(),
                passed: Vec::new(),
                plans: (0..appetites.len()).map(|reader| ((0, reader), 0)).collect(),
            }
        }

        /// Each wakes up late, by up to `late` nanoseconds.
        fn run(&mut self, until: u64, late: u64) {
            while let Some(((now, reader), bytes)) = self.plans.pop_first() {
                if now >= until {
                    self.plans.insert((now, reader), bytes);
                    return;
                }
                let (appetite, read) = &mut self.readers[reader];
                if bytes > 0 {
                    *read += u64::from(bytes);
                    self.passed.push((now, u64::from(bytes)));
                }
                let came = u128::from(*appetite) * u128::from(now) / u128::from(SECOND);
                let there = u64::try_from(came).unwrap() - *read;
                let plan = match u32::try_from(there).unwrap_or(u32::MAX) {
                    0 => (now + MS + self.rng.u64(..=late), 0),
                    there => {
                        let bytes = there.min(self.bucket.quantum());
                        let at = self.bucket.reserve(bytes, self.start + Duration::from_nanos(now));
                        let at = u64::try_from((at - self.start).as_nanos()).unwrap();
                        // Whoever need not sleep does not wake up late.
                        let wakes = if at > now { at + self.rng.u64(..=late) } else { now };
                        (wakes, bytes)
                    }
                };
                self.plans.insert((plan.0, reader), plan.1);
            }
        }

        /// Bytes that passed from second `from` to second `to`.
        fn between(&self, from: u64, to: u64) -> u64 {
            let during = |(at, _): &&(u64, u64)| (from * SECOND..to * SECOND).contains(at);
            self.passed.iter().filter(during).map(|(_, bytes)| bytes).sum()
        }
    }

    #[test]
    fn a_limit_is_reached_and_kept_in_every_window_by_one_reader_or_many() {
        for rate in [20 << 10, 100 << 10, 1 << 20, 10 << 20, 100 << 20] {
            for readers in [1, 2, 40] {
                // From half of a fair share to all there is and more; together they want more.
                let appetites: Vec<u64> =
                    (1..=readers).map(|number| 2 * rate * number / readers).collect();
                let mut world = World::new(rate, &appetites);
                world.run(31 * SECOND, 5 * MS);
                for from in 0..=20 {
                    let percent = world.between(from, from + 10) * 100 / (10 * rate);
                    let what = format!("{rate} B/s, {readers} readers, from {from} s: {percent} %");
                    // Until bytes have come there is nothing to pass.
                    assert!((97..=102).contains(&percent) || from == 0 && percent > 90, "{what}");
                }
            }
        }
    }

    #[test]
    fn who_wants_the_same_gets_the_same_and_who_wants_little_gets_all_of_it() {
        let rate = 1 << 20;
        let appetites: Vec<u64> = (0..40).map(|n| if n < 20 { rate } else { 10_000 }).collect();
        let mut world = World::new(rate, &appetites);
        world.run(60 * SECOND, 5 * MS);
        let read: Vec<u64> = world.readers.iter().map(|(_, read)| *read).collect();
        let (greedy, modest) = read.split_at(20);
        let share = (60 * rate - 20 * 60 * 10_000) / 20;
        for read in greedy {
            assert!((share * 95 / 100..share * 105 / 100).contains(read), "{read} of {share}");
        }
        for read in modest {
            assert!((570_000..=600_000).contains(read), "{read}");
        }
    }

    #[test]
    fn nothing_passes_too_early_at_the_start_and_little_after_a_pause() {
        let rate = 1 << 20;
        let saved = rate * u64::from(RATE_SAVED_MAX_MS) / 1_000;
        let mut world = World::new(rate, &[rate * 10; 40]);
        world.run(3 * SECOND, 0);
        let mut sum = 0;
        for (at, bytes) in &world.passed {
            sum += bytes;
            let allowed = u128::from(*at) * u128::from(rate) / u128::from(SECOND);
            assert!(u128::from(sum) <= allowed, "{sum} bytes after {at} ns");
        }
        // The machine sleeps for an hour: then it is everybody's turn at once, and the line is empty.
        let plans = std::mem::take(&mut world.plans);
        let hour = 3_600 * SECOND;
        world.plans = plans.into_iter().map(|((_, who), what)| ((hour, who), what)).collect();
        let quantum = u64::from(world.bucket.quantum());
        world.run(hour + 10 * SECOND, 0);
        let burst = world.between(3_600, 3_601);
        assert!(burst <= rate + saved + 40 * quantum, "{burst} in a second");
        let after = world.between(3_601, 3_610);
        assert!((9 * rate - quantum..=9 * rate + quantum).contains(&after), "{after} in 9 s");
    }

    #[test]
    fn after_a_pause_no_more_passes_at_once_than_what_may_be_saved() {
        for rate in [1 << 10, 1 << 20, 10 << 30] {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, start);
            for pause in [0, 1, 60, 1_000_000] {
                let now = start + Duration::from_secs(pause);
                let (mut at_once, step) = (0, rate / 64);
                while bucket.reserve(u32::try_from(step).unwrap(), now) <= now {
                    at_once += step;
                }
                let saved = rate * u64::from(RATE_SAVED_MAX_MS) / 1_000;
                let expected = if pause == 0 { 0 } else { saved / step * step };
                assert_eq!(at_once, expected, "{rate} B/s after {pause} s");
                assert!(bucket.is_busy(now));
                assert!(!bucket.is_busy(now + Duration::from_secs(1)));
            }
        }
    }

    #[test]
    fn however_it_is_cut_up_the_same_takes_the_same_time() {
        let start = Instant::now();
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..200 {
            let digits = rng.u32(10..=63);
            let rate = rng.u64(1..=1 << digits);
            let mut bucket = Bucket::new(rate, start);
            let mut sum = 0_u128;
            for _ in 0..1_000 {
                let digits = rng.u32(..31);
                let bytes = rng.u32(1..=1 << digits);
                let before = bucket;
                let at = bucket.reserve(bytes, start);
                sum += u128::from(bytes);
                // To the nanosecond, whatever was added up before.
                let ns = (sum * 1_000_000_000).div_ceil(u128::from(rate));
                assert_eq!((at - start).as_nanos(), ns.min(u128::from(u64::MAX)));
                if rng.bool() {
                    let back = rng.u32(..=bytes);
                    bucket.give_back(back);
                    sum -= u128::from(back);
                    assert_eq!(bucket.end - before.end, u128::from(bytes - back) * BYTE);
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_is_for_the_next_one() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1_000, start);
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(bucket.reserve(500, start), after(500));
        assert_eq!(bucket.reserve(500, start), after(1_000));
        bucket.give_back(400);
        assert_eq!(bucket.reserve(100, start), after(700));
        bucket.give_back(u32::MAX);
        assert_eq!(bucket.reserve(100, start), after(100));
    }

    #[test]
    fn a_quantum_is_a_twentieth_of_a_second_within_bounds() {
        let cases = [
            (0, 1 << 10),
            (1 << 10, 1 << 10),
            (100 << 10, 5 << 10),
            (1 << 20, 52_428),
            (100 << 20, 64 << 10),
            (u64::MAX, 64 << 10),
        ];
        for (rate, quantum) in cases {
            assert_eq!(Bucket::new(rate, Instant::now()).quantum(), quantum, "{rate}");
        }
    }
}
