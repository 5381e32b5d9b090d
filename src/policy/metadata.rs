//! Decides whom to ask for which part of the info dictionary (BEP 9), and whom to believe.
//!
//! 1. What a peer says about the length is a claim. The one that most peers make is tried; when
//!    nothing comes for a while, the next.
//! 2. All who claim it are asked for blocks, each for a few at a time. A block that is late is asked
//!    of another one as well.
//! 3. When all blocks are there, the hash decides. If it is wrong and one peer brought everything,
//!    that is a liar. If several did, nobody knows; from then on one after the other has to bring all
//!    of it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use crate::limits::{
    METADATA_ASKED_MAX, METADATA_BLOCK_BYTES, METADATA_LATE_MS, METADATA_LENT_TIMES_MAX,
    METADATA_QUEUED_MAX, METADATA_STALL_MS,
};
use crate::protocol::metadata;
use crate::units::{InfoHash, SessionId};

const LATE: Duration = Duration::from_millis(METADATA_LATE_MS as u64);
const STALL: Duration = Duration::from_millis(METADATA_STALL_MS as u64);

/// What a block brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// More is needed.
    More,
    /// The whole dictionary, its hash being right.
    Whole(Vec<u8>),
    /// The hash is wrong, and it is this peer's fault.
    Liar(SessionId),
}

struct Peer {
    claim: usize,
    asked: Vec<u32>,
    /// Nothing is asked of it until then.
    paused_until: Option<Instant>,
    /// It had to bring everything alone, and did not.
    failed_alone: bool,
}

impl Peer {
    fn may_be_asked(&self, now: Instant) -> bool {
        self.paused_until.is_none_or(|until| now >= until)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Missing,
    Asked(Instant),
    Here(SessionId),
}

/// The info dictionary, while it is gathered.
pub struct Gathering {
    info_hash: InfoHash,
    bytes_max: usize,
    peers: BTreeMap<SessionId, Peer>,
    /// Claims that led to nothing; all of them are tried again when there is no other.
    doubted: BTreeSet<usize>,
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Since the last block, or since this claim was tried.
    progress: Instant,
    /// Several brought what was wrong together: one has to bring it alone.
    alone: bool,
    /// Who that is now.
    owner: Option<SessionId>,
}

impl Gathering {
    /// Of a dictionary that has `bytes_max` bytes at most.
    pub fn new(info_hash: InfoHash, bytes_max: usize, now: Instant) -> Self {
        Self {
            info_hash,
            bytes_max,
            peers: BTreeMap::new(),
            doubted: BTreeSet::new(),
            bytes: Vec::new(),
            parts: Vec::new(),
            progress: now,
            alone: false,
            owner: None,
        }
    }

    /// Blocks that are there, and that there are.
    pub fn progress(&self) -> (usize, usize) {
        let here = self.parts.iter().filter(|part| matches!(part, Part::Here(_))).count();
        (here, self.parts.len())
    }

    /// A peer has the dictionary, and claims that it has so many bytes. False if it can't.
    pub fn on_claim(&mut self, who: SessionId, bytes: u32) -> bool {
        let claim = usize::try_from(bytes).unwrap_or(usize::MAX);
        let possible = (1..=self.bytes_max).contains(&claim);
        if possible && !self.peers.contains_key(&who) {
            self.peers.insert(
                who,
                Peer { claim, asked: Vec::new(), paused_until: None, failed_alone: false },
            );
        }
        possible
    }

    /// A peer is gone.
    pub fn on_leave(&mut self, who: SessionId, now: Instant) {
        let Some(peer) = self.peers.remove(&who) else { return };
        for number in peer.asked {
            self.return_part(number);
        }
        if self.owner == Some(who) {
            self.restart(now);
        }
    }

    /// The block that this peer is to be asked for now.
    pub fn next(&mut self, who: SessionId, now: Instant) -> Option<u32> {
        self.doubt_if_stalled(now);
        if self.parts.is_empty() {
            self.try_a_claim(now);
        }
        let peer = self.peers.get_mut(&who)?;
        let usable = peer.claim == self.bytes.len()
            && self.owner.is_none_or(|owner| owner == who)
            && peer.asked.len() < METADATA_ASKED_MAX
            && peer.may_be_asked(now);
        if !usable {
            return None;
        }
        self.owner = self.alone.then_some(who);
        let wanted = |part: &Part| match part {
            Part::Missing => Some(None),
            Part::Asked(since) if now >= *since + LATE => Some(Some(*since)),
            _ => None,
        };
        // Who is late with a block is not asked for it again.
        let open = self.parts.iter().zip(0..).filter(|(_, number)| !peer.asked.contains(number));
        let open = open.filter_map(|(part, number)| Some((wanted(part)?, number)));
        let (_, number) = open.min()?;
        peer.asked.push(number);
        *self.parts.get_mut(usize::try_from(number).ok()?)? = Part::Asked(now);
        Some(number)
    }

    /// A peer brought a block.
    pub fn on_block(&mut self, who: SessionId, number: u32, bytes: &[u8], now: Instant) -> Outcome {
        let Some(peer) = self.peers.get_mut(&who) else { return Outcome::More };
        let Some(at) = peer.asked.iter().position(|asked| *asked == number) else {
            return Outcome::More;
        };
        peer.asked.swap_remove(at);
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(part) = self.parts.get_mut(index) else { return Outcome::More };
        let room = self.bytes.chunks_mut(METADATA_BLOCK_BYTES).nth(index);
        let Some(room) = room.filter(|room| room.len() == bytes.len()) else {
            self.on_reject(who, number, now);
            return Outcome::More;
        };
        if matches!(part, Part::Here(_)) {
            return Outcome::More;
        }
        room.copy_from_slice(bytes);
        *part = Part::Here(who);
        self.progress = now;
        if self.parts.iter().all(|part| matches!(part, Part::Here(_))) {
            return self.judge(now);
        }
        Outcome::More
    }

    /// A peer won't bring a block, or brought nonsense.
    pub fn on_reject(&mut self, who: SessionId, number: u32, now: Instant) {
        let Some(peer) = self.peers.get_mut(&who) else { return };
        peer.paused_until = Some(now + STALL);
        peer.asked.retain(|asked| *asked != number);
        self.return_part(number);
        if self.owner == Some(who) {
            self.restart(now);
        }
    }

    fn return_part(&mut self, number: u32) {
        let part = usize::try_from(number).ok().and_then(|index| self.parts.get_mut(index));
        if let Some(part @ Part::Asked(_)) = part {
            *part = Part::Missing;
        }
    }

    fn judge(&mut self, now: Instant) -> Outcome {
        if Sha1::digest(&self.bytes)[..] == self.info_hash.0 {
            return Outcome::Whole(std::mem::take(&mut self.bytes));
        }
        let brought = |part: &Part| if let Part::Here(who) = part { Some(*who) } else { None };
        let mut who = BTreeSet::new();
        who.extend(self.parts.iter().filter_map(brought));
        self.restart(now);
        match (who.len(), who.first()) {
            (1, Some(liar)) => {
                self.peers.remove(liar);
                Outcome::Liar(*liar)
            }
            _ => {
                self.alone = true;
                Outcome::More
            }
        }
    }

    /// When nothing came for a while, whoever was believed may have lied.
    fn doubt_if_stalled(&mut self, now: Instant) {
        if self.parts.is_empty() || now < self.progress + STALL {
            return;
        }
        if let Some(peer) = self.owner.and_then(|owner| self.peers.get_mut(&owner)) {
            peer.paused_until = Some(now + STALL);
            peer.failed_alone = true;
        }
        // One that had to bring it alone and did not says nothing about what others claim as well.
        let claim = self.bytes.len();
        let is_next = |peer: &Peer| peer.claim == claim && !peer.failed_alone;
        if self.owner.is_none() || !self.peers.values().any(is_next) {
            self.doubted.insert(claim);
            self.peers.values_mut().for_each(|peer| peer.failed_alone = false);
        }
        self.restart(now);
    }

    /// Forgets what is there.
    fn restart(&mut self, now: Instant) {
        self.bytes = Vec::new();
        self.parts = Vec::new();
        self.peers.values_mut().for_each(|peer| peer.asked.clear());
        self.owner = None;
        self.progress = now;
    }

    /// The claim that most make of those that are not doubted.
    fn try_a_claim(&mut self, now: Instant) {
        let mut claims: BTreeMap<usize, usize> = BTreeMap::new();
        self.peers.values().for_each(|peer| *claims.entry(peer.claim).or_default() += 1);
        if claims.keys().all(|claim| self.doubted.contains(claim)) {
            self.doubted.clear();
        }
        let trusted = claims.iter().filter(|(claim, _)| !self.doubted.contains(claim));
        let Some((claim, _)) = trusted.max_by_key(|(_, count)| **count) else { return };
        self.bytes = vec![0; *claim];
        self.parts = vec![Part::Missing; claim.div_ceil(METADATA_BLOCK_BYTES)];
        self.progress = now;
    }
}

/// What a peer asks of our info dictionary. It is given what it needs, and not for ever.
#[derive(Default)]
pub struct Lending {
    asked: Vec<u32>,
    /// Blocks that were given.
    given: usize,
}

impl Lending {
    /// The peer asks for a block. False if too much waits already.
    pub fn on_request(&mut self, number: u32) -> bool {
        let room = self.asked.len() < METADATA_QUEUED_MAX;
        if room {
            self.asked.push(number);
        }
        room
    }

    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// The answer to what was asked first.
    pub fn answer<'a>(&mut self, info: &'a [u8]) -> Option<metadata::Message<'a>> {
        if self.asked.is_empty() {
            return None;
        }
        let number = self.asked.remove(0);
        let given_max = METADATA_LENT_TIMES_MAX * info.len().div_ceil(METADATA_BLOCK_BYTES);
        let block = metadata::block(info, number).filter(|_| self.given < given_max);
        self.given += usize::from(block.is_some());
        Some(match block {
            Some(bytes) => metadata::Message::Data(number, bytes),
            None => metadata::Message::Reject(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);
    const C: SessionId = SessionId(3);
    const LENGTH: usize = 5 * METADATA_BLOCK_BYTES + 100;

    fn info() -> Vec<u8> {
        (0..LENGTH).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn gathering(now: Instant) -> Gathering {
        Gathering::new(InfoHash(Sha1::digest(info()).into()), 1 << 20, now)
    }

    /// Everything that the peer is asked for now is answered with what `of` says.
    fn serve(all: &mut Gathering, who: SessionId, of: &[u8], now: Instant) -> Outcome {
        let mut outcome = Outcome::More;
        while let Some(number) = all.next(who, now) {
            outcome = all.on_block(who, number, metadata::block(of, number).unwrap(), now);
        }
        outcome
    }

    #[test]
    fn several_peers_bring_it_together() {
        let now = Instant::now();
        let mut all = gathering(now);
        let length = u32::try_from(LENGTH).unwrap();
        assert!(all.on_claim(A, length) && all.on_claim(B, length));
        let asked: Vec<(SessionId, u32)> =
            (0..3).flat_map(|_| [A, B].map(|who| (who, all.next(who, now).unwrap()))).collect();
        let mut numbers: Vec<u32> = asked.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "each block is asked of one");
        assert_eq!((all.next(A, now), all.progress()), (None, (0, 6)));
        let info = info();
        let mut outcomes = asked.iter().map(|(who, number)| {
            all.on_block(*who, *number, metadata::block(&info, *number).unwrap(), now)
        });
        assert!(outcomes.by_ref().take(5).all(|outcome| outcome == Outcome::More));
        assert_eq!(outcomes.next(), Some(Outcome::Whole(info.clone())));
    }

    #[test]
    fn what_a_peer_does_not_bring_another_one_does() {
        let start = Instant::now();
        let mut all = gathering(start);
        let length = u32::try_from(LENGTH).unwrap();
        assert!([A, B, C].into_iter().all(|who| all.on_claim(who, length)));
        let asked: Vec<u32> = std::iter::from_fn(|| all.next(A, start)).collect();
        assert_eq!(asked.len(), METADATA_ASKED_MAX);
        all.on_reject(A, asked[0], start);
        assert_eq!(all.next(A, start), None, "it is left in peace for a while");
        assert_eq!(serve(&mut all, B, &info(), start), Outcome::More);
        assert_eq!(serve(&mut all, C, &info(), start), Outcome::More, "the rest is not late yet");
        assert!(matches!(serve(&mut all, C, &info(), start + LATE), Outcome::Whole(_)));
        // A peer that leaves gives back at once what it was asked for.
        let mut all = gathering(start);
        assert!([A, B].into_iter().all(|who| all.on_claim(who, length)));
        while all.next(A, start).is_some() {}
        all.on_leave(A, start);
        assert!(matches!(serve(&mut all, B, &info(), start), Outcome::Whole(_)));
    }

    #[test]
    fn a_liar_is_found_at_once_if_it_was_alone_and_later_if_not() {
        let now = Instant::now();
        let (info, lie) = (info(), vec![1; LENGTH]);
        let length = u32::try_from(LENGTH).unwrap();
        let mut all = gathering(now);
        all.on_claim(A, length);
        assert_eq!(serve(&mut all, A, &lie, now), Outcome::Liar(A));
        all.on_claim(B, length);
        assert_eq!(serve(&mut all, B, &info, now), Outcome::Whole(info.clone()));

        let mut all = gathering(now);
        assert!([A, B].into_iter().all(|who| all.on_claim(who, length)));
        let first = all.next(A, now).unwrap();
        all.on_block(A, first, metadata::block(&lie, first).unwrap(), now);
        for _ in 1..6 {
            let number = all.next(B, now).unwrap();
            all.on_block(B, number, metadata::block(&info, number).unwrap(), now);
        }
        assert_eq!(all.progress(), (0, 0), "nobody knows who it was");
        assert_eq!((all.next(A, now), all.next(B, now)), (Some(0), None), "one alone");
        all.on_block(A, 0, metadata::block(&lie, 0).unwrap(), now);
        assert_eq!(serve(&mut all, A, &lie, now), Outcome::Liar(A));
        assert!(matches!(serve(&mut all, B, &info, now), Outcome::Whole(_)));
    }

    #[test]
    fn a_wrong_claim_is_given_up() {
        let start = Instant::now();
        let mut all = gathering(start);
        assert!(!all.on_claim(A, 0) && !all.on_claim(A, u32::MAX) && !all.on_claim(A, 1 << 21));
        // Two of three lie, and bring nothing.
        all.on_claim(A, 77);
        all.on_claim(B, 77);
        all.on_claim(C, u32::try_from(LENGTH).unwrap());
        assert_eq!(all.next(C, start), None);
        assert_eq!((all.next(A, start), all.next(B, start)), (Some(0), None));
        assert_eq!(all.next(C, start + STALL / 2), None);
        assert!(matches!(serve(&mut all, C, &info(), start + STALL), Outcome::Whole(_)));
    }

    #[test]
    fn one_that_is_silent_alone_costs_its_own_time_only() {
        let start = Instant::now();
        let mut all = gathering(start);
        let length = u32::try_from(LENGTH).unwrap();
        let [d, e] = [SessionId(4), SessionId(5)];
        assert!([A, B, C].into_iter().all(|who| all.on_claim(who, length)));
        assert!([d, e].into_iter().all(|who| all.on_claim(who, length + 1)));
        // Two bring it, and it is wrong: from now on one has to bring it alone.
        let mut wrong = info();
        wrong[0] += 1;
        while let Some(number) = all.next(A, start) {
            all.on_block(A, number, metadata::block(&wrong, number).unwrap(), start);
            let Some(number) = all.next(B, start) else { break };
            all.on_block(B, number, metadata::block(&wrong, number).unwrap(), start);
        }
        assert!(all.alone);
        assert!(all.next(A, start).is_some() && all.next(C, start).is_none());
        let later = start + STALL;
        assert_eq!(all.next(d, later), None, "what it claims is not doubted");
        assert!(matches!(serve(&mut all, C, &info(), later), Outcome::Whole(_)));
    }

    #[test]
    fn blocks_of_a_wrong_length_or_that_nobody_asked_for_are_nothing() {
        let now = Instant::now();
        let mut all = gathering(now);
        all.on_claim(A, u32::try_from(LENGTH).unwrap());
        assert_eq!(all.on_block(A, 0, &[0; METADATA_BLOCK_BYTES], now), Outcome::More);
        let number = all.next(A, now).unwrap();
        assert_eq!(all.on_block(B, number, &[0; METADATA_BLOCK_BYTES], now), Outcome::More);
        assert_eq!(all.on_block(A, u32::MAX, &[], now), Outcome::More);
        assert_eq!(all.on_block(A, number, &[0; 5], now), Outcome::More);
        assert_eq!(all.progress(), (0, 6));
        assert_eq!(all.next(A, now), None, "it is left in peace");
        assert!(matches!(serve(&mut all, A, &info(), now + STALL), Outcome::Whole(_)));
    }

    #[test]
    fn the_dictionary_is_lent_a_few_times_and_no_more() {
        let info = info();
        let mut lending = Lending::default();
        assert_eq!(lending.answer(&info), None);
        let mut given = 0;
        for round in 0..10 {
            for number in 0..7 {
                assert!(lending.on_request(number));
                match lending.answer(&info).unwrap() {
                    metadata::Message::Data(block, bytes) => {
                        assert_eq!(Some(bytes), metadata::block(&info, number));
                        assert_eq!(block, number);
                        given += 1;
                    }
                    other => {
                        assert_eq!(other, metadata::Message::Reject(number));
                        assert!(number == 6 || round >= METADATA_LENT_TIMES_MAX);
                    }
                }
            }
        }
        assert_eq!(given, 6 * METADATA_LENT_TIMES_MAX);
        let taken = (0..1000).filter(|number| lending.on_request(*number)).count();
        assert_eq!(taken, METADATA_QUEUED_MAX);
    }
}
