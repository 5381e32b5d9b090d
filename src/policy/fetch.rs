//! Decides what one connection to a mirror does: what it fetches next, which blocks are in what
//! comes, and when to break it off.
//!
//! A fetch is one run of blocks. Its bytes come in order; a block that is whole is handed in like one
//! of a peer. A turn of a connection calls [`Fetch::hand_in`] with the swarm in hand.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::bitfield::Bitfield;
use crate::limits::{
    BLOCK_LENGTH, HUNGRY_LOOK_MS, LATE_GAIN_MS, LATE_REQUESTS_MAX, MIRROR_SLOW_BYTES,
    MIRROR_SLOW_MS, RUN_LENGTH_MIN_BYTES, RUN_PIECES_MAX,
};
use crate::policy::conversation::Received;
use crate::policy::mirrors::Fetched;
use crate::policy::picker::{Arrival, Run};
use crate::policy::swarm::Swarm;
use crate::protocol::web_seed::MirrorError;
use crate::units::{Block, Geometry, SessionId};

const HUNGRY_LOOK: Duration = Duration::from_millis(HUNGRY_LOOK_MS as u64);
const SLOW: Duration = Duration::from_millis(MIRROR_SLOW_MS as u64);

/// What a connection does next.
pub enum Task {
    /// Fetch this.
    Fetch(Fetch),
    /// Look again then: there is nothing to fetch, or nobody to ask.
    Wait(Instant),
    /// End: there will never be anything again.
    Over,
}

/// Why a fetch is broken off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Nobody waits for it any longer.
    Needless,
    /// The mirror can't, or not now.
    Failed(MirrorError),
}

impl From<MirrorError> for Broken {
    fn from(error: MirrorError) -> Self {
        Self::Failed(error)
    }
}

/// One of the connections to mirrors.
pub struct Hand {
    number: usize,
    /// What a mirror has: everything.
    have: Bitfield,
    /// The mirror that it asked last.
    mirror: Option<usize>,
}

impl Hand {
    /// The connection with this number, below `MIRROR_WORKERS_MAX`.
    pub fn new(number: usize, geometry: Geometry) -> Self {
        Self { number, have: Bitfield::all(geometry), mirror: None }
    }

    /// Decides what to do next. `permits` is how many piece jobs may be begun; it is left as how
    /// many may be still. `may_race`: a second request for a block could bring it sooner.
    pub fn next(
        &mut self,
        swarm: &mut Swarm,
        permits: &mut u32,
        may_race: bool,
        now: Instant,
    ) -> Task {
        if swarm.stop || swarm.picker.is_done() || swarm.mirrors.are_gone() {
            return Task::Over;
        }
        let look = now + HUNGRY_LOOK;
        let Some(mirror) = swarm.mirrors.take(self.mirror, now) else {
            // While one is at work it may get room, or break off, at any time.
            let is_idle = swarm.mirrors.at_work() == 0;
            return Task::Wait(swarm.mirrors.next_at().filter(|_| is_idle).unwrap_or(look));
        };
        let early = self.run(swarm, mirror, *permits, now);
        let run = early.or_else(|| may_race.then(|| self.late_run(swarm, mirror, now)).flatten());
        let Some(run) = run else {
            swarm.mirrors.leave(mirror);
            return Task::Wait(look);
        };
        *permits -= run.pieces.end - run.pieces.start;
        self.mirror = Some(mirror);
        Task::Fetch(Fetch {
            mirror,
            who: SessionId::of_mirror(mirror),
            geometry: swarm.geometry(),
            left: run.bytes,
            pieces: run.pieces,
            began: now,
            first_byte: None,
            read: 0,
            held: Duration::ZERO,
            mark: (now, 0),
        })
    }

    /// What nobody has been asked for.
    fn run(&self, swarm: &mut Swarm, mirror: usize, permits: u32, now: Instant) -> Option<Run> {
        let now_ms = swarm.ms(now);
        let connections = (swarm.sessions() + swarm.mirrors.connections()) as u64;
        let (picker, mirrors) = (&mut swarm.picker, &swarm.mirrors);
        // No more than its share of what is left, so that all are done at about the same time.
        let share = picker.missing_bytes() / connections.max(1);
        let bytes = mirrors.run_length(mirror).min(share.max(RUN_LENGTH_MIN_BYTES));
        let pieces = RUN_PIECES_MAX.min(picker.begun_share()).min(permits);
        if pieces == 0 {
            return None;
        }
        let due_ms = |bytes| now_ms.saturating_add(ms(mirrors.expected(mirror, bytes)));
        let who = SessionId::of_mirror(mirror);
        picker.take_run((who, self.number), &self.have, (bytes, pieces), due_ms)
    }

    /// In the end game: what somebody else is late with.
    fn late_run(&self, swarm: &mut Swarm, mirror: usize, now: Instant) -> Option<Run> {
        if !swarm.picker.is_end_game() {
            return None;
        }
        let expected = swarm.mirrors.expected(mirror, u64::from(BLOCK_LENGTH));
        let (now_ms, due_ms) = (swarm.ms(now), swarm.ms(now + expected));
        let times = (now_ms.saturating_sub(LATE_GAIN_MS), due_ms.saturating_add(LATE_GAIN_MS));
        let who = SessionId::of_mirror(mirror);
        swarm.picker.ask_late_run(who, &self.have, times, LATE_REQUESTS_MAX)
    }
}

fn ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// A run of blocks on its way from a mirror.
#[derive(Debug)]
pub struct Fetch {
    mirror: usize,
    who: SessionId,
    geometry: Geometry,
    /// Bytes of the torrent that were not handed in yet: it begins where a block begins.
    left: Range<u64>,
    /// Pieces that there is a job for.
    pieces: Range<u32>,
    began: Instant,
    first_byte: Option<Instant>,
    read: u64,
    held: Duration,
    /// When it was last looked at how much came, and how much it had been by then.
    mark: (Instant, u64),
}

impl Fetch {
    /// The mirror's number.
    pub fn mirror(&self) -> usize {
        self.mirror
    }

    /// What is still to come: bytes of the torrent.
    pub fn left(&self) -> Range<u64> {
        self.left.clone()
    }

    /// So many bytes came.
    pub fn on_read(&mut self, bytes: usize, now: Instant) {
        self.first_byte.get_or_insert(now);
        self.read += bytes as u64;
    }

    /// A limit of ours held it up for so long.
    pub fn on_held(&mut self, time: Duration) {
        self.held += time;
        self.mark.0 += time;
    }

    /// Hands in the blocks that are whole in the next `bytes` bytes. Those that are to be written
    /// are put into `arrived`, their places counted from the first of these bytes; what is
    /// [left](Self::left) begins behind the last of them. Permits of pieces that are done go back to
    /// `permits`.
    ///
    /// # Errors
    /// It is to be broken off.
    pub fn hand_in(
        &mut self,
        swarm: &mut Swarm,
        bytes: usize,
        arrived: &mut Vec<Received>,
        permits: &mut u32,
        now: Instant,
    ) -> Result<(), Broken> {
        let begin = self.left.start;
        while let Some(block) = self.next_block() {
            let at = usize::try_from(self.left.start - begin).unwrap_or(usize::MAX);
            let length = u64::from(block.length);
            if at.saturating_add(block.length as usize) > bytes {
                break;
            }
            self.left.start += length;
            match swarm.picker.on_block(self.who, block) {
                Arrival::Fresh(others) => {
                    swarm.on_received(self.who, length);
                    others.into_iter().flatten().for_each(|other| swarm.outrun(other));
                    arrived.push(Received { block, at });
                }
                Arrival::Stale => swarm.wasted += length,
            }
        }
        self.end_jobs(swarm, permits, self.left.start);
        if swarm.stop || swarm.mirrors.is_gone(self.mirror) || !self.is_wanted(swarm) {
            return Err(Broken::Needless);
        }
        if now >= self.mark.0 + SLOW {
            let (_, before) = std::mem::replace(&mut self.mark, (now, self.read));
            let is_slow = self.read - before < MIRROR_SLOW_BYTES;
            if is_slow && swarm.mirrors.is_replaceable(self.mirror, now) {
                return Err(MirrorError::Slow.into());
            }
        }
        Ok(())
    }

    /// Ends it: what did not come goes back, and the permits to `permits`. Returns what is to be
    /// told of the mirror, if it gives way to others.
    pub fn end(
        mut self,
        swarm: &mut Swarm,
        broken: Option<Broken>,
        permits: &mut u32,
        now: Instant,
    ) -> Option<MirrorError> {
        let mut free = false;
        while let Some(block) = self.next_block() {
            free |= swarm.picker.give_back(self.who, block);
            self.left.start += u64::from(block.length);
        }
        self.end_jobs(swarm, permits, u64::MAX);
        if free {
            swarm.feed();
        }
        let fetched = Fetched {
            bytes: self.read,
            elapsed: now - self.began,
            held: self.held,
            delay: self.first_byte.map_or(Duration::ZERO, |first| first - self.began),
        };
        let error = match broken {
            Some(Broken::Failed(error)) => Some(error),
            Some(Broken::Needless) | None => None,
        };
        let lonely = swarm.sessions() == 0;
        swarm.mirrors.on_end(self.mirror, &fetched, error, lonely, now)
    }

    /// The first block of what is left.
    fn next_block(&self) -> Option<Block> {
        self.block_at(self.left.start)
    }

    fn block_at(&self, at: u64) -> Option<Block> {
        if at >= self.left.end {
            return None;
        }
        let piece = u32::try_from(at / u64::from(self.geometry.piece_length())).ok()?;
        let piece = self.geometry.piece(piece)?;
        let begin = u32::try_from(at - self.geometry.offset_of(piece)).ok()?;
        Some(self.geometry.block(piece, begin / BLOCK_LENGTH))
    }

    /// Whether the mirror's blocks are awaited still: all that is left, or what is behind what
    /// others brought.
    fn is_wanted(&self, swarm: &Swarm) -> bool {
        let mut at = self.left.start;
        while let Some(block) = self.block_at(at) {
            if swarm.picker.is_asked(self.who, block) {
                return true;
            }
            at += u64::from(block.length);
        }
        self.left.is_empty()
    }

    /// Pieces that end before byte `end` are done.
    fn end_jobs(&mut self, swarm: &mut Swarm, permits: &mut u32, end: u64) {
        while let Some(piece) = self.pieces.clone().next().and_then(|at| self.geometry.piece(at)) {
            let length = u64::from(self.geometry.length_of(piece));
            if self.geometry.offset_of(piece) + length > end {
                break;
            }
            swarm.picker.end_job(piece);
            self.pieces.start += 1;
            *permits += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mirrors::Mirrors;

    const BLOCK: u64 = BLOCK_LENGTH as u64;
    const BLOCK_BYTES: usize = BLOCK_LENGTH as usize;

    /// A swarm that lacks everything, of so many pieces of so many blocks, with so many mirrors.
    fn swarm(pieces: u32, blocks: u32, mirrors: usize, now: Instant) -> Swarm {
        let piece_length = blocks * BLOCK_LENGTH;
        let geometry =
            Geometry::new(u64::from(pieces) * u64::from(piece_length), piece_length).unwrap();
        let had = Bitfield::none(geometry);
        let mut swarm = Swarm::new(geometry, had, fastrand::Rng::with_seed(1), now);
        swarm.mirrors = Mirrors::new(mirrors);
        swarm
    }

    fn next(swarm: &mut Swarm, hand: &mut Hand, now: Instant) -> Option<Fetch> {
        let mut permits = 1_000;
        match hand.next(swarm, &mut permits, true, now) {
            Task::Fetch(fetch) => {
                assert_eq!(permits as usize + fetch.pieces.len(), 1_000);
                Some(fetch)
            }
            Task::Wait(_) | Task::Over => None,
        }
    }

    /// Everything of it comes.
    fn finish(mut fetch: Fetch, swarm: &mut Swarm, now: Instant) -> Vec<Received> {
        let (mut arrived, mut permits) = (Vec::new(), 0);
        let jobs = fetch.pieces.len();
        let bytes = usize::try_from(fetch.left.end - fetch.left.start).unwrap();
        fetch.on_read(bytes, now);
        assert_eq!(fetch.hand_in(swarm, bytes, &mut arrived, &mut permits, now), Ok(()));
        assert!(fetch.left().is_empty());
        assert_eq!(fetch.end(swarm, None, &mut permits, now), None);
        assert_eq!(permits as usize, jobs);
        arrived
    }

    #[test]
    fn everything_comes_in_runs_and_every_block_once() {
        let now = Instant::now();
        let mut swarm = swarm(100, 3, 1, now);
        let mut hand = Hand::new(0, swarm.geometry());
        let (mut blocks, mut runs) = (Vec::new(), Vec::new());
        while let Some(fetch) = next(&mut swarm, &mut hand, now) {
            runs.push(fetch.left.start..fetch.left.end);
            let arrived = finish(fetch, &mut swarm, now + Duration::from_millis(100));
            for received in &arrived {
                let offset = swarm.geometry().offset_of(received.block.piece);
                let place = offset + u64::from(received.block.begin);
                assert_eq!(place, runs.last().unwrap().start + received.at as u64);
            }
            blocks.extend(arrived.iter().map(|received| received.block));
            for piece in swarm.geometry().all_pieces() {
                let done = blocks.iter().filter(|block| block.piece == piece).count() == 3;
                if done && !swarm.picker.had().has(piece) {
                    swarm.on_verified(piece);
                }
            }
        }
        assert!(swarm.picker.is_done());
        assert_eq!(blocks.len(), 300);
        assert_eq!((swarm.downloaded, swarm.mirrored, swarm.wasted), (300 * BLOCK, 300 * BLOCK, 0));
        // A MiB at first, then what comes in 4 s of the 10 MiB/s that it turned out to be.
        assert_eq!(runs, [0..63 * BLOCK, 63 * BLOCK..300 * BLOCK]);
        let mut permits = 1_000;
        assert!(matches!(hand.next(&mut swarm, &mut permits, true, now), Task::Over));
    }

    #[test]
    fn near_the_end_connections_and_peers_share_what_is_left() {
        let now = Instant::now();
        let mut swarm = swarm(160, 1, 1, now);
        let mut hands = [0, 1].map(|number| Hand::new(number, swarm.geometry()));
        (0..3).for_each(|peer| swarm.join(SessionId(peer), now));
        // 160 blocks: a fourth, more than the least, and less than what is asked for at first.
        let first = next(&mut swarm, &mut hands[0], now).unwrap();
        assert_eq!(first.left, 0..40 * BLOCK);
        // 120 are left for five.
        let second = next(&mut swarm, &mut hands[1], now).unwrap();
        assert_eq!(second.left.end - second.left.start, 24 * BLOCK);
        assert_eq!((second.mirror(), swarm.mirrors.connections()), (0, 2));
        finish(first, &mut swarm, now);
        let least = next(&mut swarm, &mut hands[0], now).unwrap();
        assert_eq!(least.left.end - least.left.start, 19 * BLOCK);
    }

    #[test]
    fn parts_of_blocks_wait_for_the_rest() {
        let now = Instant::now();
        let mut swarm = swarm(2, 2, 1, now);
        let mut hand = Hand::new(0, swarm.geometry());
        let mut fetch = next(&mut swarm, &mut hand, now).unwrap();
        assert_eq!(fetch.left, 0..4 * BLOCK);
        let (mut arrived, mut permits) = (Vec::new(), 0);
        for (bytes, places, left, jobs) in [
            (BLOCK_BYTES - 1, vec![], 0, 0),
            (BLOCK_BYTES, vec![0], 1, 0),
            (2 * BLOCK_BYTES + 5, vec![0, BLOCK_BYTES], 3, 1),
            (5, vec![], 3, 1),
            (BLOCK_BYTES, vec![0], 4, 2),
        ] {
            arrived.clear();
            fetch.hand_in(&mut swarm, bytes, &mut arrived, &mut permits, now).unwrap();
            assert_eq!(arrived.iter().map(|received| received.at).collect::<Vec<_>>(), places);
            assert_eq!((fetch.left.start / BLOCK, permits), (left, jobs));
        }
    }

    #[test]
    fn what_a_mirror_did_not_bring_is_everybodys_again() {
        let now = Instant::now();
        let mut swarm = swarm(4, 2, 1, now);
        let mut hand = Hand::new(0, swarm.geometry());
        let mut fetch = next(&mut swarm, &mut hand, now).unwrap();
        let mut permits = 0;
        fetch.hand_in(&mut swarm, 3 * BLOCK_BYTES, &mut Vec::new(), &mut permits, now).unwrap();
        assert!(swarm.picker.is_end_game());
        let error = MirrorError::Status(404);
        let told = fetch.end(&mut swarm, Some(error.clone().into()), &mut permits, now);
        assert_eq!((told, permits), (Some(error), 4));
        assert_eq!(swarm.picker.missing_bytes(), 4 * BLOCK);
        let have = Bitfield::all(swarm.geometry());
        let piece = swarm.picker.take_job(&have, None).unwrap();
        assert_eq!(piece.get(), 1, "what is begun is gone on with");
        assert_eq!(swarm.picker.ask(SessionId(7), piece, 0).unwrap().number(), 1);
        let mut permits = 9;
        assert!(matches!(hand.next(&mut swarm, &mut permits, true, now), Task::Over));
    }

    #[test]
    fn what_others_brought_is_not_waited_for() {
        let now = Instant::now();
        let mut swarm = swarm(1, 4, 1, now);
        let mut hand = Hand::new(0, swarm.geometry());
        let mut fetch = next(&mut swarm, &mut hand, now).unwrap();
        let have = Bitfield::all(swarm.geometry());
        let race = |swarm: &mut Swarm, count| {
            for _ in 0..count {
                let block = swarm.picker.ask_late(SessionId(1), &have, 0, 0).unwrap();
                swarm.picker.on_block(SessionId(1), block);
            }
        };
        let (mut arrived, mut permits) = (Vec::new(), 0);
        // The latest first: three of four, and the first one is the mirror's still.
        race(&mut swarm, 3);
        assert_eq!(fetch.hand_in(&mut swarm, 0, &mut arrived, &mut permits, now), Ok(()));
        race(&mut swarm, 1);
        let end = fetch.hand_in(&mut swarm, BLOCK_BYTES, &mut arrived, &mut permits, now);
        assert_eq!((end, arrived.len()), (Err(Broken::Needless), 0));
        assert_eq!((swarm.wasted, swarm.downloaded), (BLOCK, 0));
        assert_eq!(fetch.end(&mut swarm, Some(Broken::Needless), &mut permits, now), None);
        assert!(!swarm.mirrors.is_gone(0));
        // Nothing is left to ask for until the hash is known to be right.
        assert!(matches!(hand.next(&mut swarm, &mut permits, true, now), Task::Wait(_)));
        assert_eq!(swarm.mirrors.connections(), 0);
    }

    #[test]
    fn in_the_end_game_a_mirror_takes_over_what_a_peer_is_late_with() {
        let now = Instant::now();
        let mut swarm = swarm(1, 4, 1, now);
        let have = Bitfield::all(swarm.geometry());
        let piece = swarm.picker.take_job(&have, None).unwrap();
        while swarm.picker.ask(SessionId(1), piece, 60_000).is_some() {}
        let mut hand = Hand::new(0, swarm.geometry());
        let mut permits = 9;
        // Under a limit of ours it would come no sooner.
        assert!(matches!(hand.next(&mut swarm, &mut permits, false, now), Task::Wait(_)));
        let fetch = next(&mut swarm, &mut hand, now).unwrap();
        assert_eq!((fetch.left(), fetch.pieces.len()), (0..4 * BLOCK, 0));
        assert_eq!(finish(fetch, &mut swarm, now).len(), 4);
    }

    #[test]
    fn a_fetch_ends_with_the_run_and_with_a_ban() {
        let now = Instant::now();
        for ends in [
            |swarm: &mut Swarm| swarm.stop(),
            |swarm: &mut Swarm| {
                swarm.ban(SessionId::of_mirror(0));
            },
        ] {
            let mut swarm = swarm(4, 2, 2, now);
            let mut hand = Hand::new(0, swarm.geometry());
            let mut fetch = next(&mut swarm, &mut hand, now).unwrap();
            ends(&mut swarm);
            let (mut arrived, mut permits) = (Vec::new(), 0);
            let end = fetch.hand_in(&mut swarm, 9_999_999, &mut arrived, &mut permits, now);
            // What came is taken, whatever becomes of it.
            assert_eq!((end, arrived.len()), (Err(Broken::Needless), 8));
            assert_eq!(fetch.end(&mut swarm, Some(Broken::Needless), &mut permits, now), None);
        }
    }

    #[test]
    fn a_trickle_is_left_if_there_is_another_mirror() {
        for (mirrors, bytes, held, leaves) in [
            (2, MIRROR_SLOW_BYTES - 1, 0, true),
            (2, MIRROR_SLOW_BYTES, 0, false),
            (2, 0, 1, false),
            (1, 0, 0, false),
        ] {
            let now = Instant::now();
            let mut swarm = swarm(400, 2, mirrors, now);
            let mut hand = Hand::new(0, swarm.geometry());
            let mut fetch = next(&mut swarm, &mut hand, now).unwrap();
            fetch.on_read(usize::try_from(bytes).unwrap(), now);
            fetch.on_held(Duration::from_millis(held));
            let (mut arrived, mut permits) = (Vec::new(), 0);
            let before = now + SLOW - Duration::from_millis(1);
            assert_eq!(fetch.hand_in(&mut swarm, 0, &mut arrived, &mut permits, before), Ok(()));
            let end = fetch.hand_in(&mut swarm, 0, &mut arrived, &mut permits, now + SLOW);
            assert_eq!(end.is_err(), leaves, "{mirrors} {bytes} {held}");
            let other = fetch.end(&mut swarm, end.err(), &mut permits, now + SLOW);
            assert_eq!(other, leaves.then_some(MirrorError::Slow));
            let next = next(&mut swarm, &mut hand, now + SLOW).unwrap();
            assert_eq!(next.mirror(), usize::from(leaves));
        }
    }

    #[test]
    fn while_all_mirrors_pause_it_waits_for_the_first() {
        let now = Instant::now();
        let mut swarm = swarm(4, 1, 2, now);
        let mut hands = [0, 1].map(|number| Hand::new(number, swarm.geometry()));
        let mut permits = 9;
        for seconds in [30, 20] {
            let fetch = next(&mut swarm, &mut hands[0], now).unwrap();
            let pause = Duration::from_secs(seconds);
            let busy = Broken::Failed(MirrorError::Busy(Some(pause)));
            fetch.end(&mut swarm, Some(busy), &mut permits, now);
        }
        for hand in &mut hands {
            let Task::Wait(until) = hand.next(&mut swarm, &mut permits, true, now) else {
                panic!("there is nobody to ask");
            };
            assert_eq!(until, now + Duration::from_secs(20));
        }
        // Without a permit nothing is begun.
        let later = now + Duration::from_secs(20);
        assert!(matches!(hands[0].next(&mut swarm, &mut 0, true, later), Task::Wait(_)));
        assert!(next(&mut swarm, &mut hands[0], later).is_some());
    }
}
