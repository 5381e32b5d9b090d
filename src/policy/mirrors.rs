//! Decides which mirror is asked next, for how much at a time, and when one that failed is asked
//! again.
//!
//! A connection stays with its mirror as long as that brings something. Otherwise it goes to the
//! next one that nobody has tried, in their order; then to the fastest one that has room. One that
//! fails, is busy or is much slower than another gives way for a while, longer each time; one that
//! can't serve the torrent, or sent wrong bytes, is gone for the run.

use std::time::{Duration, Instant};

use crate::limits::{
    MIRROR_CONNECTIONS_MAX, MIRROR_PAUSE_LONELY_MAX_MS, MIRROR_PAUSE_MAX_MS, MIRROR_PAUSE_MIN_MS,
    MIRROR_SLOWER_MAX, RUN_LENGTH_MAX_BYTES, RUN_LENGTH_MIN_BYTES, RUN_LENGTH_START_BYTES,
    RUN_TIME_MS,
};
use crate::protocol::web_seed::MirrorError;
use crate::units::Count;

const PAUSE_MIN: Duration = Duration::from_millis(MIRROR_PAUSE_MIN_MS as u64);
const PAUSE_MAX: Duration = Duration::from_millis(MIRROR_PAUSE_MAX_MS as u64);
const PAUSE_LONELY_MAX: Duration = Duration::from_millis(MIRROR_PAUSE_LONELY_MAX_MS as u64);

/// What is known of one mirror.
#[derive(Clone, Debug, Default)]
struct Mirror {
    /// Connections that fetch from it.
    connections: usize,
    /// What one of them brought in a second while nothing of ours held it up, in the mean.
    bytes_per_s: Option<u64>,
    /// The same with what held it up.
    pace_per_s: Option<u64>,
    /// From the request to the first byte, the last time.
    delay: Duration,
    /// Times in a row that it failed.
    failures: u32,
    not_before: Option<Instant>,
    /// It is not asked any more.
    gone: bool,
    error: Option<MirrorError>,
}

impl Mirror {
    fn is_ready(&self, now: Instant) -> bool {
        !self.gone
            && self.connections < MIRROR_CONNECTIONS_MAX
            && self.not_before.is_none_or(|at| at <= now)
    }

    /// The higher, the sooner it is asked.
    fn rank(&self) -> (u8, u64) {
        match (self.bytes_per_s, &self.error) {
            (None, None) if self.connections == 0 => (3, 0),
            (Some(bytes_per_s), _) => (2, bytes_per_s),
            (None, Some(_)) => (1, 0),
            (None, None) => (0, 0),
        }
    }
}

/// How a fetch from a mirror went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fetched {
    /// Bytes that came.
    pub bytes: u64,
    /// From the request to the end.
    pub elapsed: Duration,
    /// As much of it was for a limit of ours.
    pub held: Duration,
    /// Until the first byte came.
    pub delay: Duration,
}

/// All mirrors, by their numbers.
#[derive(Debug, Default)]
pub struct Mirrors {
    mirrors: Vec<Mirror>,
}

impl Mirrors {
    /// So many mirrors, to be tried in their order.
    pub fn new(count: usize) -> Self {
        Self { mirrors: vec![Mirror::default(); count] }
    }

    // ---- whom to ask ---------------------------------------------------------------------------

    /// The mirror that a connection asks next, which has asked number `stay` before. It has one
    /// connection more from now on, until [`Mirrors::leave`] or [`Mirrors::on_end`].
    pub fn take(&mut self, stay: Option<usize>, now: Instant) -> Option<usize> {
        let is_ready = |index: &usize| self.mirrors.get(*index).is_some_and(|m| m.is_ready(now));
        let ready = self.mirrors.iter().enumerate().filter(|(_, mirror)| mirror.is_ready(now));
        // Of those that are alike the first.
        let best = || ready.rev().max_by_key(|(_, mirror)| mirror.rank()).map(|(index, _)| index);
        let index = stay.filter(is_ready).or_else(best)?;
        self.mirrors.get_mut(index)?.connections += 1;
        Some(index)
    }

    /// A connection found nothing to fetch.
    pub fn leave(&mut self, index: usize) {
        if let Some(mirror) = self.mirrors.get_mut(index) {
            mirror.connections = mirror.connections.saturating_sub(1);
        }
    }

    /// When a mirror that pauses may be asked again.
    pub fn next_at(&self) -> Option<Instant> {
        let pausing = self.mirrors.iter().filter(|mirror| !mirror.gone);
        pausing.filter_map(|mirror| mirror.not_before).min()
    }

    /// Whether there is another mirror that could be asked now.
    pub fn is_replaceable(&self, index: usize, now: Instant) -> bool {
        (0..).zip(&self.mirrors).any(|(other, mirror)| other != index && mirror.is_ready(now))
    }

    /// Whether it is not to be asked any more.
    pub fn is_gone(&self, index: usize) -> bool {
        self.mirrors.get(index).is_none_or(|mirror| mirror.gone)
    }

    // ---- for how much --------------------------------------------------------------------------

    /// Bytes to ask for at a time: what takes it a few seconds.
    pub fn run_length(&self, index: usize) -> u64 {
        match self.pace_per_s(index) {
            None => RUN_LENGTH_START_BYTES,
            Some(pace) => (pace.saturating_mul(u64::from(RUN_TIME_MS)) / 1_000)
                .clamp(RUN_LENGTH_MIN_BYTES, RUN_LENGTH_MAX_BYTES),
        }
    }

    /// How long it will be until so many bytes are here.
    pub fn expected(&self, index: usize, bytes: u64) -> Duration {
        let usual = RUN_LENGTH_START_BYTES * 1_000 / u64::from(RUN_TIME_MS);
        let pace = self.pace_per_s(index).unwrap_or(usual).max(1);
        let delay = self.mirrors.get(index).map_or(Duration::ZERO, |mirror| mirror.delay);
        delay + Duration::from_millis(bytes.saturating_mul(1_000) / pace)
    }

    fn pace_per_s(&self, index: usize) -> Option<u64> {
        self.mirrors.get(index)?.pace_per_s
    }

    // ---- what became of it ---------------------------------------------------------------------

    /// A fetch ended. `lonely`: nobody else brings anything. Returns what is to be told of it: that
    /// the mirror gives way, or is gone.
    pub fn on_end(
        &mut self,
        index: usize,
        fetched: &Fetched,
        error: Option<MirrorError>,
        lonely: bool,
        now: Instant,
    ) -> Option<MirrorError> {
        self.leave(index);
        let lonely = lonely && self.at_work() == 0;
        let mirror = self.mirrors.get_mut(index).filter(|mirror| !mirror.gone)?;
        if fetched.bytes > 0 {
            (mirror.failures, mirror.error) = (0, None);
            mirror.delay = fetched.delay;
            let bare = fetched.elapsed.saturating_sub(fetched.held);
            mirror.bytes_per_s = Some(mean(mirror.bytes_per_s, per_s(fetched.bytes, bare)));
            mirror.pace_per_s =
                Some(mean(mirror.pace_per_s, per_s(fetched.bytes, fetched.elapsed)));
        }
        let is_slow = || self.is_slow(index, now).then_some(MirrorError::Slow);
        let error = error.or_else(is_slow)?;
        let mirror = self.mirrors.get_mut(index)?;
        // What another connection was told already is no news.
        if mirror.not_before.is_some_and(|at| at > now) {
            return None;
        }
        mirror.gone = error.is_lasting();
        mirror.failures += 1;
        let doubled = PAUSE_MIN * 2_u32.saturating_pow((mirror.failures - 1).min(16));
        let pause = match error {
            MirrorError::Busy(Some(pause)) => pause.max(PAUSE_MIN),
            // It may be our own network that is gone: that it is back is to be found out soon.
            _ if lonely => doubled.min(PAUSE_LONELY_MAX),
            _ => doubled.min(PAUSE_MAX),
        };
        mirror.not_before = Some(now + pause);
        mirror.error = Some(error.clone());
        Some(error)
    }

    /// Whether another one is so much faster that it, or one that nobody knows yet, is better.
    fn is_slow(&self, index: usize, now: Instant) -> bool {
        let rate = |mirror: &Mirror| mirror.bytes_per_s.unwrap_or(0);
        let best = self.mirrors.iter().filter(|mirror| !mirror.gone).map(rate).max();
        let ours = self.mirrors.get(index).map_or(0, rate);
        let is_slow = |than: u64| ours.saturating_mul(MIRROR_SLOWER_MAX) < than;
        let is_better = |mirror: &Mirror| match mirror.bytes_per_s {
            Some(bytes_per_s) => is_slow(bytes_per_s),
            None => mirror.error.is_none(),
        };
        best.is_some_and(is_slow)
            && self.mirrors.iter().any(|mirror| mirror.is_ready(now) && is_better(mirror))
    }

    /// It sent wrong bytes.
    pub fn ban(&mut self, index: usize) {
        if let Some(mirror) = self.mirrors.get_mut(index) {
            mirror.gone = true;
            mirror.error = Some(MirrorError::Unusable("wrong data".to_owned()));
        }
    }

    // ---- how it stands -------------------------------------------------------------------------

    /// How many mirrors are being fetched from.
    pub fn at_work(&self) -> usize {
        self.mirrors.iter().filter(|mirror| mirror.connections > 0).count()
    }

    /// How many connections they have.
    pub fn connections(&self) -> usize {
        self.mirrors.iter().map(|mirror| mirror.connections).sum()
    }

    /// Whether there is none, or none that may be asked ever again.
    pub fn are_gone(&self) -> bool {
        self.mirrors.iter().all(|mirror| mirror.gone)
    }

    /// What stands in the way, in a few words; nothing if there is no mirror.
    pub fn summary(&self) -> Option<String> {
        let count = Count(self.mirrors.len(), "mirror");
        let error = self.mirrors.iter().rev().find_map(|mirror| mirror.error.as_ref());
        let error = error.map_or(String::new(), |error| format!(", e.g. {error}"));
        match (self.mirrors.len(), self.mirrors.iter().filter(|mirror| mirror.gone).count()) {
            (0, _) => None,
            (all, gone) if all == gone => Some(format!("{count}, none of use{error}")),
            (_, 0) => Some(format!("{count}{error}")),
            (_, gone) => Some(format!("{count}, {gone} of no use{error}")),
        }
    }
}

/// The mean of what was and what is.
fn mean(before: Option<u64>, now: u64) -> u64 {
    before.map_or(now, |before| before / 2 + now / 2)
}

fn per_s(bytes: u64, time: Duration) -> u64 {
    let per_s = u128::from(bytes) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(per_s).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// So many bytes in a second.
    fn fetched(bytes: u64) -> Fetched {
        Fetched { bytes, elapsed: s(1), ..Fetched::default() }
    }

    fn failed() -> MirrorError {
        MirrorError::Failed("no answer".to_owned())
    }

    #[test]
    fn each_connection_begins_with_a_mirror_of_its_own_and_stays_there() {
        let now = Instant::now();
        let mut mirrors = Mirrors::new(3);
        let taken: Vec<_> = (0..7).map(|_| mirrors.take(None, now)).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2), None]);
        assert_eq!((mirrors.at_work(), mirrors.connections()), (3, 6));
        for index in [2, 1] {
            assert_eq!(mirrors.on_end(index, &fetched(MIB), None, false, now), None);
            assert_eq!(mirrors.take(Some(index), now), Some(index));
        }
        (0..3).for_each(|index| mirrors.leave(index));
        assert_eq!(mirrors.take(Some(7), now), Some(1), "who brought something comes first");
        assert_eq!(Mirrors::default().take(None, now), None);
    }

    #[test]
    fn what_is_known_and_fast_comes_before_what_failed_but_after_what_is_new() {
        let now = Instant::now();
        let mut mirrors = Mirrors::new(4);
        for (bytes, error) in [(0, Some(failed())), (MIB, None), (2 * MIB, None)] {
            let index = mirrors.take(None, now).unwrap();
            mirrors.on_end(index, &fetched(bytes), error, false, now);
        }
        let later = now + s(60);
        let order: Vec<_> = (0..8).map(|_| mirrors.take(None, later).unwrap()).collect();
        assert_eq!(order, [3, 2, 2, 1, 1, 0, 0, 3]);
    }

    #[test]
    fn who_fails_pauses_twice_as_long_each_time() {
        let mut now = Instant::now();
        let mut mirrors = Mirrors::new(2);
        let mut pauses = Vec::new();
        for _ in 0..14 {
            assert_eq!(mirrors.take(Some(0), now), Some(0));
            assert_eq!(
                mirrors.on_end(0, &Fetched::default(), Some(failed()), false, now),
                Some(failed())
            );
            assert_eq!(mirrors.take(Some(0), now), Some(1), "the other one is asked meanwhile");
            mirrors.leave(1);
            let at = mirrors.next_at().unwrap();
            pauses.push(u32::try_from((at - now).as_millis()).unwrap());
            now = at;
        }
        assert_eq!(pauses[0], MIRROR_PAUSE_MIN_MS);
        assert!(pauses.windows(2).all(|pair| pair[1] == (2 * pair[0]).min(MIRROR_PAUSE_MAX_MS)));
        assert_eq!(pauses[13], MIRROR_PAUSE_MAX_MS);
        // Something came before it failed: it begins anew.
        mirrors.take(Some(0), now);
        mirrors.on_end(0, &fetched(1), Some(MirrorError::Short), false, now);
        assert_eq!(mirrors.next_at(), Some(now + PAUSE_MIN));
    }

    #[test]
    fn when_nobody_else_is_left_a_pause_is_short() {
        let mut now = Instant::now();
        let mut mirrors = Mirrors::new(1);
        for _ in 0..20 {
            mirrors.take(None, now);
            mirrors.on_end(0, &Fetched::default(), Some(failed()), true, now);
            let at = mirrors.next_at().unwrap();
            assert!(at - now <= PAUSE_LONELY_MAX);
            now = at;
        }
        // A server that says how long knows why.
        mirrors.take(None, now);
        let busy = MirrorError::Busy(Some(s(3_000)));
        mirrors.on_end(0, &Fetched::default(), Some(busy), true, now);
        assert_eq!(mirrors.next_at(), Some(now + s(3_000)));
    }

    #[test]
    fn two_connections_that_fail_at_once_count_once() {
        let now = Instant::now();
        let mut mirrors = Mirrors::new(1);
        for _ in 0..2 {
            mirrors.take(None, now);
        }
        let busy = |seconds| Some(MirrorError::Busy(Some(s(seconds))));
        assert_eq!(mirrors.on_end(0, &Fetched::default(), busy(9), true, now), busy(9));
        assert_eq!(mirrors.on_end(0, &Fetched::default(), busy(2), true, now), None);
        assert_eq!(mirrors.next_at(), Some(now + s(9)));
    }

    #[test]
    fn who_can_not_serve_the_torrent_is_gone() {
        let now = Instant::now();
        let mut mirrors = Mirrors::new(3);
        for error in [MirrorError::Status(404), MirrorError::NoParts] {
            let index = mirrors.take(None, now).unwrap();
            assert!(!mirrors.is_gone(index) && !mirrors.are_gone());
            mirrors.on_end(index, &fetched(5), Some(error), false, now);
            assert!(mirrors.is_gone(index));
        }
        assert_eq!(mirrors.take(None, now), Some(2));
        assert!(!mirrors.is_replaceable(2, now + s(9_999)));
        mirrors.ban(2);
        assert!(mirrors.are_gone() && mirrors.is_gone(2) && mirrors.is_gone(3));
        assert_eq!(mirrors.on_end(2, &fetched(5), Some(failed()), false, now), None);
        assert_eq!((mirrors.take(None, now + s(9_999)), mirrors.next_at()), (None, None));
        assert_eq!(mirrors.summary().unwrap(), "3 mirrors, none of use, e.g. wrong data");
        assert!(Mirrors::default().are_gone() && Mirrors::default().summary().is_none());
    }

    #[test]
    fn who_is_much_slower_gives_way_if_there_is_somebody_better() {
        let now = Instant::now();
        let cases = [
            // Rates of the others; whether the first with 1 MiB/s gives way.
            (vec![], false),
            (vec![Some(MIB)], false),
            (vec![Some(MIB * MIRROR_SLOWER_MAX)], false),
            (vec![Some(MIB * MIRROR_SLOWER_MAX + 1)], true),
            (vec![None], false),
            (vec![Some(100 * MIB), None], true),
        ];
        for (others, gives_way) in cases {
            let mut mirrors = Mirrors::new(1 + others.len());
            for (index, bytes) in (1..).zip(&others) {
                mirrors.mirrors[index].bytes_per_s = *bytes;
            }
            mirrors.take(Some(0), now);
            let told = mirrors.on_end(0, &fetched(MIB), None, false, now);
            assert_eq!(told, gives_way.then_some(MirrorError::Slow), "{others:?}");
            assert_eq!(mirrors.take(Some(0), now) == Some(0), !gives_way);
        }
        // The faster one has no room, and nobody else is new.
        let mut mirrors = Mirrors::new(2);
        mirrors.mirrors[1] =
            Mirror { bytes_per_s: Some(100 * MIB), connections: 2, ..Mirror::default() };
        mirrors.take(Some(0), now);
        assert_eq!(mirrors.on_end(0, &fetched(MIB), None, false, now), None);
    }

    #[test]
    fn what_a_limit_of_ours_held_up_makes_runs_short_but_nobody_slow() {
        let now = Instant::now();
        let mut mirrors = Mirrors::new(1);
        assert_eq!(mirrors.run_length(0), RUN_LENGTH_START_BYTES);
        mirrors.take(None, now);
        let held = Fetched { bytes: MIB, elapsed: s(10), held: s(9), delay: s(0) };
        mirrors.on_end(0, &held, None, false, now);
        assert_eq!(mirrors.mirrors[0].bytes_per_s, Some(MIB));
        assert_eq!(mirrors.run_length(0), MIB / 10 * 4);
        assert_eq!(mirrors.expected(0, MIB).as_secs(), 10);
        for (bytes, length) in [(1, RUN_LENGTH_MIN_BYTES), (1 << 40, RUN_LENGTH_MAX_BYTES)] {
            let mut mirrors = Mirrors::new(1);
            mirrors.take(None, now);
            mirrors.on_end(0, &fetched(bytes), None, false, now);
            assert_eq!(mirrors.run_length(0), length);
        }
    }
}
