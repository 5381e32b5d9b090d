//! Decides whom we upload to (BEP 3, "choking"). While something is missing, slots are earned: they
//! go to those that bring us most, but for one that is given away, to learn who else would. What
//! nobody earned is had in turns. Who has everything gives in turns, too, so that nobody waits for
//! ever, and some of it to those that take it fastest, so that it spreads.
//!
//! Who is not interested has no slot, and none is kept for it beyond the slots as BEP 3 has it: who
//! brings us much and becomes interested has a slot with the next round, which is soon enough, and
//! nobody can gather unchokes that are all used at once later.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::iter;
use std::time::{Duration, Instant};

use crate::limits::{
    CHOKE_ROUND_MS, OPTIMISTIC_MS, OPTIMISTIC_SLOTS_MAX, SEED_TURN_MS, UPLOAD_SLOTS_MAX,
    UPLOAD_SLOTS_MIN,
};
use crate::order::sort_by_key;
use crate::units::SessionId;

const ROUND: Duration = Duration::from_millis(CHOKE_ROUND_MS as u64);
const OPTIMISTIC: Duration = Duration::from_millis(OPTIMISTIC_MS as u64);
const SEED_TURN: Duration = Duration::from_millis(SEED_TURN_MS as u64);
/// A newcomer's lots, where another peer has one (BEP 3): it has nothing yet to earn a slot with.
const NEWCOMER_LOTS: usize = 3;
/// One slot of a seed in so many is for the fastest.
const FASTEST_ONE_IN: usize = 4;
/// Who has a slot already counts one part in so many faster: no two peers are ever quite equal, and to
/// choke one for another that is as good costs both connections their speed.
const HOME_ADVANTAGE_ONE_IN: u64 = 8;

/// A peer, as whoever chooses sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its session.
    pub session: SessionId,
    /// It wants something that we have.
    pub interested: bool,
    /// By us, now.
    pub unchoked: bool,
    /// Bytes of wanted blocks it brought us in a second, the mean of the last round.
    pub received_per_s: u64,
    /// Bytes of blocks we sent it in a second, the mean of the last round.
    pub sent_per_s: u64,
    /// When we last choked or unchoked it; when it joined if never.
    pub changed: Instant,
    /// When its session began.
    pub joined: Instant,
    /// It owes us blocks and has sent none for a minute.
    pub snubs: bool,
}

impl Candidate {
    /// It was never unchoked.
    fn is_new(&self) -> bool {
        !self.unchoked && self.changed == self.joined
    }

    /// For so long it has been unchoked, or choked.
    fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.changed)
    }

    /// Its place among others by a rate of its: the fastest comes first, and on a tie whoever is
    /// at home there, for the longest time.
    fn place(&self, per_s: u64, at_home: bool) -> impl Ord + use<> {
        let advantage = if at_home { per_s / HOME_ADVANTAGE_ONE_IN } else { 0 };
        let counts = per_s.saturating_add(advantage);
        (Reverse(counts), !at_home, self.changed, self.session)
    }

    /// Its place among others that take turns: whose turn lasts, then who waits longest, then whose
    /// turn is over.
    fn place_in_turn(&self, turn: Duration, now: Instant) -> impl Ord + use<> {
        let time = self.time(now);
        let (group, time) = match self.unchoked {
            true if time < turn => (0, time),
            true => (2, time),
            false => (1, Duration::MAX.saturating_sub(time)),
        };
        (group, time, self.session)
    }
}

/// Chooses the peers we upload to.
pub struct Choker {
    rng: fastrand::Rng,
    /// Who was drawn by lot, and when. As many as `OPTIMISTIC_SLOTS_MAX`.
    optimistic: Vec<(SessionId, Instant)>,
}

impl Choker {
    /// Nobody was chosen yet. The lots come from `rng`.
    pub fn new(rng: fastrand::Rng) -> Self {
        Self { rng, optimistic: Vec::new() }
    }

    /// Who is to be unchoked from `now` until the next round, after [`CHOKE_ROUND_MS`]; all others
    /// are to be choked. They are interested, and at most `slots`. `seeding` if nothing is missing
    /// here. The order of the candidates makes no difference.
    pub fn round(
        &mut self,
        candidates: &[Candidate],
        slots: usize,
        seeding: bool,
        now: Instant,
    ) -> BTreeSet<SessionId> {
        let interested = candidates.iter().filter(|candidate| candidate.interested);
        let mut round = Round { left: interested.collect(), chosen: BTreeSet::new(), slots };
        if seeding {
            give_in_turns(&mut round, now);
        } else {
            self.trade(&mut round, now);
        }
        round.chosen
    }

    /// Something is missing here: slots are for those that bring it.
    fn trade(&mut self, round: &mut Round<'_>, now: Instant) {
        let drawn: Vec<SessionId> = self.optimistic.iter().map(|(session, _)| *session).collect();
        let at_home = |peer: &Candidate| peer.unchoked && !drawn.contains(&peer.session);
        // Who was let in between rounds could not show yet what it is worth.
        let early = |peer: &Candidate| at_home(peer) && peer.time(now) < ROUND && !peer.snubs;
        round.give(round.slots, early, |peer| (peer.changed, peer.session));
        let earns = |peer: &Candidate| peer.received_per_s > 0 && !peer.snubs;
        round.give(round.open().saturating_sub(1), earns, |peer| {
            peer.place(peer.received_per_s, at_home(peer))
        });
        self.give_by_lot(round, now);
        round.give(round.open(), |peer| !peer.snubs, |peer| peer.place_in_turn(OPTIMISTIC, now));
    }

    /// Gives one slot to whom the lot falls on; and while peers snub us, those that they had, too:
    /// somebody better has to be found.
    fn give_by_lot(&mut self, round: &mut Round<'_>, now: Instant) {
        let snubs = round.left.iter().filter(|peer| peer.snubs).count();
        let most = round.open().min(snubs.saturating_add(1)).min(OPTIMISTIC_SLOTS_MAX);
        // Who has earned a slot meanwhile leaves the one it was given to somebody else.
        self.optimistic.retain(|(session, since)| {
            let waits = round.left.iter().any(|peer| peer.session == *session);
            waits && now.saturating_duration_since(*since) < OPTIMISTIC
        });
        self.optimistic.truncate(most);
        for (session, _) in &self.optimistic {
            round.give(1, |peer| peer.session == *session, |peer| peer.session);
        }
        while self.optimistic.len() < most {
            let Some(session) = self.draw(&mut round.left) else { break };
            self.optimistic.push((session, now));
            round.give(1, |peer| peer.session == session, |peer| peer.session);
        }
    }

    /// Draws one of those that wait.
    fn draw(&mut self, peers: &mut [&Candidate]) -> Option<SessionId> {
        sort_by_key(peers, |peer| peer.session);
        let waiting = peers.iter().filter(|peer| !peer.unchoked);
        let lots = waiting.flat_map(|peer| {
            let lots = if peer.is_new() { NEWCOMER_LOTS } else { 1 };
            iter::repeat_n(peer.session, lots)
        });
        self.rng.choice(lots.collect::<Vec<_>>())
    }
}

/// Nothing is missing here, so nobody can earn a slot. No lots are drawn: with turns, how long a
/// peer waits has a bound.
fn give_in_turns(round: &mut Round<'_>, now: Instant) {
    let fastest = round.slots / FASTEST_ONE_IN;
    round.give(
        fastest,
        |peer| peer.sent_per_s > 0,
        |peer| peer.place(peer.sent_per_s, peer.unchoked),
    );
    round.give(round.open(), |_| true, |peer| peer.place_in_turn(SEED_TURN, now));
}

/// A round that is being decided.
struct Round<'a> {
    /// Who is interested and has no slot yet.
    left: Vec<&'a Candidate>,
    /// Who has one.
    chosen: BTreeSet<SessionId>,
    /// How many there are.
    slots: usize,
}

impl Round<'_> {
    /// Slots that nobody has yet.
    fn open(&self) -> usize {
        self.slots.saturating_sub(self.chosen.len())
    }

    /// Gives at most `count` slots to those that `may` have one, in the order of their `place`.
    fn give<P: Ord>(
        &mut self,
        count: usize,
        may: impl Fn(&Candidate) -> bool,
        place: impl Fn(&Candidate) -> P,
    ) {
        let mut fit: Vec<&Candidate> = self.left.iter().copied().filter(|peer| may(peer)).collect();
        sort_by_key(&mut fit, |peer| place(peer));
        self.chosen.extend(fit.iter().take(count.min(self.open())).map(|peer| peer.session));
        self.left.retain(|peer| !self.chosen.contains(&peer.session));
    }
}

/// Whether a peer that becomes interested between two rounds is let in at once: whether one of the
/// `slots` is free. Not for a peer that snubs us; it waits for the round.
pub fn admits(candidates: &[Candidate], slots: usize) -> bool {
    let taken = candidates.iter().filter(|peer| peer.interested && peer.unchoked).count();
    taken < slots
}

/// How many peers to upload to at once: the more there is to give, the more of them, but so that
/// each has more, too. The square root of 0.6 KiB/s, as the first client had it. What there is to
/// give is the limit in bytes per second that the user has set, or else what was sent lately.
pub fn slots(sent_per_s: u64, upload_limit_per_s: Option<u64>) -> usize {
    let kibibytes = upload_limit_per_s.unwrap_or(sent_per_s) / 1024;
    let root = (kibibytes.saturating_mul(6) / 10).isqrt();
    let slots = usize::try_from(root).unwrap_or(usize::MAX);
    slots.clamp(UPLOAD_SLOTS_MIN, UPLOAD_SLOTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Peers that a choker deals with, round after round.
    struct Game {
        choker: Choker,
        peers: Vec<Candidate>,
        now: Instant,
    }

    impl Game {
        /// Sessions 0, 1, 2 and so on, that began long ago. Each is interested and was choked since.
        fn new(count: u32, seed: u64) -> Self {
            let joined = Instant::now();
            let choker = Choker::new(fastrand::Rng::with_seed(seed));
            let mut game = Self { choker, peers: Vec::new(), now: joined };
            (0..count).for_each(|_| game.join());
            game.now += 1_000 * SECOND;
            game.peers.iter_mut().for_each(|peer| peer.changed = joined + SECOND);
            game
        }

        fn join(&mut self) {
            self.peers.push(Candidate {
                session: SessionId(u32::try_from(self.peers.len()).unwrap()),
                interested: true,
                unchoked: false,
                received_per_s: 0,
                sent_per_s: 0,
                changed: self.now,
                joined: self.now,
                snubs: false,
            });
        }

        /// One round, 10 s after the one before. Does as it says.
        fn round(&mut self, slots: usize, seeding: bool) -> BTreeSet<u32> {
            let chosen = self.choker.round(&self.peers, slots, seeding, self.now);
            for peer in &mut self.peers {
                let unchoked = chosen.contains(&peer.session);
                if peer.unchoked != unchoked {
                    (peer.unchoked, peer.changed) = (unchoked, self.now);
                }
            }
            self.now += ROUND;
            chosen.into_iter().map(|session| session.0).collect()
        }
    }

    /// Who has a slot whatever the lots say, and who has one with some of them.
    fn always_and_ever(
        count: u32,
        slots: usize,
        seeding: bool,
        change: impl Fn(&mut [Candidate], Instant),
    ) -> (Vec<u32>, Vec<u32>) {
        let mut rounds = (0..200).map(|seed| {
            let mut game = Game::new(count, seed);
            change(&mut game.peers, game.now);
            game.round(slots, seeding)
        });
        let first = rounds.next().unwrap();
        let (mut always, mut ever) = (first.clone(), first);
        for round in rounds {
            always.retain(|session| round.contains(session));
            ever.extend(round);
        }
        (always.into_iter().collect(), ever.into_iter().collect())
    }

    type Change = fn(&mut [Candidate], Instant);
    /// How many peers and slots there are, who has a slot always, and who ever.
    type Case<'a> = (&'a str, u32, usize, Change, &'a [u32], &'a [u32]);

    #[test]
    fn slots_are_earned_while_something_is_missing() {
        let cases: [Case<'_>; 15] = [
            ("nobody is there", 0, 4, |_, _| {}, &[], &[]),
            ("no slots", 5, 0, |_, _| {}, &[], &[]),
            ("the only slot is given away", 3, 1, bring, &[], &[0, 1, 2]),
            ("to the fastest, and by lot", 5, 3, bring, &[3, 4], &[0, 1, 2, 3, 4]),
            ("all have room", 3, 4, bring, &[0, 1, 2], &[0, 1, 2]),
            ("exactly all have room", 4, 4, bring, &[0, 1, 2, 3], &[0, 1, 2, 3]),
            (
                "what nobody earned is had by lot and by who waits longest",
                5,
                3,
                |peers, now| {
                    peers[4].received_per_s = 1;
                    peers[2].changed = now - 999 * SECOND - SECOND / 2;
                },
                &[2, 4],
                &[0, 1, 2, 3, 4],
            ),
            (
                "who has had what nobody earned makes room",
                5,
                3,
                |peers, now| {
                    for peer in &mut peers[..3] {
                        (peer.unchoked, peer.changed) = (true, now - OPTIMISTIC);
                    }
                    peers[1].changed += ROUND;
                },
                &[1, 3, 4],
                &[1, 3, 4],
            ),
            (
                "whoever is not interested has none",
                5,
                3,
                |peers, now| {
                    bring(peers, now);
                    peers[4].interested = false;
                    (peers[3].interested, peers[3].unchoked) = (false, true);
                },
                &[0, 1, 2],
                &[0, 1, 2],
            ),
            (
                "on a tie, whoever is unchoked stays",
                6,
                3,
                |peers, _| {
                    peers.iter_mut().for_each(|peer| peer.received_per_s = 100);
                    (peers[3].unchoked, peers[4].unchoked) = (true, true);
                },
                &[3, 4],
                &[0, 1, 2, 3, 4, 5],
            ),
            (
                "and for somebody a little faster",
                3,
                2,
                |peers, _| {
                    peers.iter_mut().for_each(|peer| peer.received_per_s = 112);
                    (peers[1].received_per_s, peers[1].unchoked) = (100, true);
                },
                &[1],
                &[0, 1, 2],
            ),
            (
                "but not for somebody much faster",
                3,
                2,
                |peers, _| {
                    peers[0].received_per_s = 113;
                    (peers[1].received_per_s, peers[1].unchoked) = (100, true);
                },
                &[0, 2],
                &[0, 2],
            ),
            (
                "whoever was let in between rounds stays for a whole one",
                5,
                3,
                |peers, now| {
                    bring(peers, now);
                    (peers[0].unchoked, peers[0].changed) = (true, now - ROUND + SECOND);
                },
                &[0, 4],
                &[0, 1, 2, 3, 4],
            ),
            (
                "whoever snubs us has nothing but its lot",
                6,
                3,
                |peers, now| {
                    bring(peers, now);
                    peers[4].snubs = true;
                    (peers[5].snubs, peers[5].unchoked) = (true, true);
                },
                &[2, 3],
                &[0, 1, 2, 3, 4],
            ),
            (
                "even if it was let in between rounds",
                3,
                2,
                |peers, now| {
                    bring(peers, now);
                    (peers[2].snubs, peers[2].unchoked) = (true, true);
                    peers[2].changed = now - SECOND;
                },
                &[0, 1],
                &[0, 1],
            ),
        ];
        for (what, count, slots, change, always, ever) in cases {
            let (is_always, is_ever) = always_and_ever(count, slots, false, change);
            assert_eq!((is_always.as_slice(), is_ever.as_slice()), (always, ever), "{what}");
        }
    }

    /// Each peer brings more than the one before.
    fn bring(peers: &mut [Candidate], _now: Instant) {
        for (number, peer) in (1..).zip(peers) {
            peer.received_per_s = 100 * number;
        }
    }

    #[test]
    fn a_seed_gives_to_the_fastest_and_to_who_waits() {
        let cases: [(&str, u32, usize, Change, &[u32]); 10] = [
            ("nobody is there", 0, 4, |_, _| {}, &[]),
            ("no slots", 5, 0, |_, _| {}, &[]),
            ("all have room", 3, 4, |_, _| {}, &[0, 1, 2]),
            ("what they brought is no matter", 3, 2, bring, &[0, 1]),
            (
                "whoever waits longest is first",
                6,
                2,
                |peers, now| {
                    peers[2].changed = now - 999 * SECOND - SECOND / 2;
                    peers[4].changed = now - 999 * SECOND - SECOND / 4;
                },
                &[2, 4],
            ),
            (
                "a turn lasts its time",
                4,
                2,
                |peers, now| {
                    (peers[2].unchoked, peers[2].changed) = (true, now - SEED_TURN + SECOND);
                    (peers[3].unchoked, peers[3].changed) = (true, now - SEED_TURN);
                },
                &[0, 2],
            ),
            (
                "and goes on while nobody waits",
                4,
                2,
                |peers, now| {
                    (peers[0].interested, peers[1].interested) = (false, false);
                    (peers[2].unchoked, peers[2].changed) = (true, now - SEED_TURN);
                    (peers[3].unchoked, peers[3].changed) = (true, now - SEED_TURN);
                },
                &[2, 3],
            ),
            (
                "one in four is for the fastest",
                8,
                4,
                |peers, now| {
                    for peer in &mut peers[4..] {
                        (peer.unchoked, peer.changed) = (true, now - SEED_TURN);
                    }
                    bring(peers, now);
                    peers[6].sent_per_s = 200;
                    peers[7].sent_per_s = 100;
                },
                &[0, 1, 2, 6],
            ),
            (
                "but not for whoever takes nothing",
                8,
                4,
                |peers, now| {
                    for peer in &mut peers[4..] {
                        (peer.unchoked, peer.changed) = (true, now - SEED_TURN);
                    }
                },
                &[0, 1, 2, 3],
            ),
            (
                "fewer slots cut the oldest turn short",
                4,
                2,
                |peers, now| {
                    for (number, peer) in (1..).zip(peers) {
                        (peer.unchoked, peer.changed) = (true, now - number * SECOND);
                    }
                },
                &[0, 1],
            ),
        ];
        for (what, count, slots, change, expected) in cases {
            let (always, ever) = always_and_ever(count, slots, true, change);
            assert_eq!((always.as_slice(), ever.as_slice()), (expected, expected), "{what}");
        }
    }

    #[test]
    fn newcomers_are_drawn_three_times_as_often() {
        let drawn = (0..4_000).filter(|seed| {
            let mut game = Game::new(6, *seed);
            (0..2).for_each(|_| game.join());
            game.round(1, false).iter().all(|session| *session >= 6)
        });
        // Two with three lots against six with one: a half. Five times the deviation.
        let share = drawn.count();
        assert!(share.abs_diff(2_000) < 160, "{share} of 4000");
    }

    #[test]
    fn what_was_given_away_goes_to_somebody_else_after_three_rounds() {
        let mut game = Game::new(5, 1);
        let rounds: Vec<_> = (0..30).map(|_| game.round(1, false)).collect();
        for turn in rounds.chunks(3) {
            assert!(turn.iter().all(|round| *round == turn[0]), "{turn:?}");
        }
        assert!(rounds.chunks(3).zip(rounds.chunks(3).skip(1)).all(|(a, b)| a[0] != b[0]));
    }

    #[test]
    fn whoever_earns_the_slot_it_was_given_stays_and_the_next_is_drawn() {
        let mut game = Game::new(6, 1);
        for peer in &mut game.peers[..2] {
            peer.received_per_s = 100;
        }
        let given = *game.round(3, false).iter().find(|session| **session > 1).unwrap();
        game.peers[given as usize].received_per_s = 200;
        let next = game.round(3, false);
        assert!(next.contains(&given));
        assert_eq!(next.iter().filter(|session| **session <= 1).count(), 1);
        assert_eq!(next.len(), 3);
        assert!(game.choker.optimistic.iter().all(|(session, _)| session.0 != given));
    }

    #[test]
    fn the_more_snub_us_the_more_is_given_away() {
        // Snubbing, others, slots; drawn by lot, chosen in all.
        let cases = [
            (0, 20, 8, 1, 8),
            (1, 20, 8, 2, 8),
            (2, 20, 8, 3, 8),
            (10, 20, 8, OPTIMISTIC_SLOTS_MAX, 8),
            (10, 20, 3, 3, 3),
            (10, 20, 0, 0, 0),
            // Rather than to give it to them, it is not given at all.
            (20, 0, 8, OPTIMISTIC_SLOTS_MAX, OPTIMISTIC_SLOTS_MAX),
        ];
        for (snubbing, others, slots, drawn, chosen) in cases {
            let mut game = Game::new(snubbing + others, 1);
            for peer in &mut game.peers[..snubbing as usize] {
                peer.snubs = true;
            }
            let round = game.round(slots, false);
            let lots = game.choker.optimistic.len();
            assert_eq!((lots, round.len()), (drawn, chosen), "{snubbing} of {others}, {slots}");
            game.peers.iter_mut().for_each(|peer| peer.snubs = false);
            game.round(slots, false);
            assert_eq!(game.choker.optimistic.len(), drawn.min(1), "when they do no longer");
        }
    }

    #[test]
    fn a_seed_lets_everybody_in_before_long() {
        let (count, slots) = (20, 4);
        let mut game = Game::new(count, 1);
        let began = game.now;
        let mut last_served = vec![began; count as usize];
        for round in 0..200 {
            // As many more as it can serve, and one that takes it faster than all others.
            if round % 2 == 0 {
                game.join();
                last_served.push(game.now);
            }
            let now = game.now;
            let chosen = game.round(slots, true);
            // At the worst, all others are before it, and one of the slots is not for those that wait.
            let turns = game.peers.len().div_ceil(slots - 1);
            let bound = SEED_TURN * u32::try_from(turns).unwrap();
            for peer in &mut game.peers {
                let last_served = &mut last_served[peer.session.0 as usize];
                let rate = if peer.session.0 == 7 { 1_000 } else { 100 };
                peer.sent_per_s = if peer.unchoked { rate } else { 0 };
                if chosen.contains(&peer.session.0) {
                    *last_served = now;
                }
                let waited = now - *last_served;
                assert!(waited <= bound, "{:?} waits for {waited:?}", peer.session);
            }
        }
        assert!(game.peers[7].unchoked, "the fastest stays");
    }

    #[test]
    fn equals_are_not_choked_for_each_other() {
        let mut game = Game::new(12, 1);
        game.peers.iter_mut().for_each(|peer| peer.received_per_s = 100);
        let first = game.round(5, false);
        let mut kept = first.clone();
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..60 {
            game.peers.iter_mut().for_each(|peer| peer.received_per_s = rng.u64(100..112));
            kept.retain({
                let round = game.round(5, false);
                move |session| round.contains(session)
            });
        }
        assert_eq!(kept.len(), 4, "all but the one that was drawn: {first:?}");
    }

    #[test]
    fn a_free_slot_is_given_at_once() {
        let mut game = Game::new(6, 1);
        for (slots, admitted) in [(0, false), (1, true)] {
            assert_eq!(admits(&game.peers, slots), admitted);
        }
        game.round(4, true);
        assert!(!admits(&game.peers, 4));
        let leaves = game.peers.iter_mut().find(|peer| peer.unchoked).unwrap();
        leaves.interested = false;
        assert!(admits(&game.peers, 4), "whoever is not interested takes no slot");
    }

    #[test]
    fn whatever_the_peers_slots_are_full_and_never_more_than_that() {
        let mut rng = fastrand::Rng::with_seed(1);
        let now = Instant::now() + 1_000 * SECOND;
        for seed in 0..3_000 {
            let count = rng.u32(0..30);
            let mut peers: Vec<Candidate> = (0..count)
                .map(|session| {
                    let joined = now - SECOND * rng.u32(0..100);
                    let changed = if rng.bool() { joined } else { now - SECOND * rng.u32(0..100) };
                    Candidate {
                        session: SessionId(session),
                        interested: rng.u8(0..4) > 0,
                        unchoked: rng.bool(),
                        received_per_s: if rng.bool() { 0 } else { rng.u64(..) },
                        sent_per_s: if rng.bool() { 0 } else { rng.u64(..) },
                        changed: changed.max(joined),
                        joined,
                        snubs: rng.u8(0..4) == 0,
                    }
                })
                .collect();
            let (slots, seeding) = (rng.usize(0..12), rng.bool());
            let mut choker = Choker::new(fastrand::Rng::with_seed(seed));
            let mut again = Choker::new(fastrand::Rng::with_seed(seed));
            for round in 0..5 {
                let now = now + ROUND * round;
                let chosen = choker.round(&peers, slots, seeding, now);
                rng.shuffle(&mut peers);
                assert_eq!(chosen, again.round(&peers, slots, seeding, now), "the order matters");
                assert!(chosen.len() <= slots);
                assert!(choker.optimistic.len() <= OPTIMISTIC_SLOTS_MAX);
                let by_id = |session| peers.iter().find(|peer| peer.session == session).unwrap();
                assert!(chosen.iter().all(|session| by_id(*session).interested));
                let fair = |peer: &&Candidate| peer.interested && (seeding || !peer.snubs);
                let served = chosen.iter().filter(|session| fair(&by_id(**session))).count();
                let snubs = chosen.len() - served;
                assert!(snubs <= OPTIMISTIC_SLOTS_MAX);
                assert_eq!(served, peers.iter().filter(fair).count().min(slots - snubs));
                for peer in &mut peers {
                    let unchoked = chosen.contains(&peer.session);
                    if peer.unchoked != unchoked {
                        (peer.unchoked, peer.changed) = (unchoked, now);
                    }
                    peer.interested ^= rng.u8(0..8) == 0;
                }
            }
        }
    }

    #[test]
    fn slots_follow_the_square_root_of_what_there_is_to_give() {
        const KIB: u64 = 1_024;
        let cases = [
            (0, None, UPLOAD_SLOTS_MIN),
            (26 * KIB, None, 4),
            (42 * KIB, None, 5),
            (100 * KIB, None, 7),
            (1_000 * KIB, None, 24),
            (u64::MAX, None, UPLOAD_SLOTS_MAX),
            (0, Some(100 * KIB), 7),
            (1_000 * KIB, Some(100 * KIB), 7),
            (1_000 * KIB, Some(0), UPLOAD_SLOTS_MIN),
            (0, Some(u64::MAX), UPLOAD_SLOTS_MAX),
        ];
        for (sent, limit, expected) in cases {
            assert_eq!(slots(sent, limit), expected, "{sent}, {limit:?}");
        }
    }
}
