//! Owns what all sessions share: the picker, the log of verified pieces, who is banned, whether it
//! is over. It lives under the one lock; whoever holds that does arithmetic only.
//!
//! Nobody is told, everybody looks: a change is made here, the sessions it concerns are named in
//! `rings`, and each of them looks for itself on its next turn.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::policy::picker::Picker;
use crate::units::{Geometry, PieceIndex, SessionId};

/// The state that all sessions look at.
pub struct Swarm {
    /// Which block is asked of whom.
    pub picker: Picker,
    /// The run is over: every session ends.
    pub stop: bool,
    /// Addresses wait for a free place in the pool: who brings nothing should go.
    pub others_wait: bool,
    /// Bytes of blocks that were wanted.
    pub downloaded: u64,
    /// Bytes of blocks that came twice, or whose piece was wrong.
    pub wasted: u64,
    had_bytes: u64,
    geometry: Geometry,
    epoch: Instant,
    verified: Vec<PieceIndex>,
    live: BTreeSet<SessionId>,
    banned: BTreeSet<SessionId>,
    hungry: BTreeSet<SessionId>,
    outrun: BTreeSet<SessionId>,
    rings: Vec<SessionId>,
}

impl Swarm {
    /// The swarm of a torrent of which `had` is there already, with times counted from `epoch`.
    pub fn new(geometry: Geometry, had: Bitfield, rng: fastrand::Rng, epoch: Instant) -> Self {
        let had_bytes = geometry
            .all_pieces()
            .filter(|piece| had.has(*piece))
            .map(|piece| u64::from(geometry.length_of(piece)))
            .sum();
        // All that this list will ever take: one that grows takes up to three times as much.
        let missing = geometry.pieces().saturating_sub(had.count()) as usize;
        Self {
            had_bytes,
            picker: Picker::new(geometry, had, rng),
            stop: false,
            others_wait: false,
            downloaded: 0,
            wasted: 0,
            geometry,
            epoch,
            verified: Vec::with_capacity(missing),
            live: BTreeSet::new(),
            banned: BTreeSet::new(),
            hungry: BTreeSet::new(),
            outrun: BTreeSet::new(),
            rings: Vec::new(),
        }
    }

    /// The torrent's measures.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes of the pieces that are there and verified.
    pub fn had_bytes(&self) -> u64 {
        self.had_bytes
    }

    /// Milliseconds from the start to `time`.
    pub fn ms(&self, time: Instant) -> u32 {
        let ms = time.saturating_duration_since(self.epoch).as_millis();
        u32::try_from(ms).unwrap_or(u32::MAX / 2)
    }

    /// The pieces that were verified since the start, in that order.
    pub fn verified(&self) -> &[PieceIndex] {
        &self.verified
    }

    // ---- sessions ------------------------------------------------------------------------------

    /// A session began.
    pub fn join(&mut self, who: SessionId) {
        self.live.insert(who);
    }

    /// A session ended.
    pub fn leave(&mut self, who: SessionId) {
        self.live.remove(&who);
        self.banned.remove(&who);
        self.hungry.remove(&who);
        self.outrun.remove(&who);
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.live.len()
    }

    /// This session's peer sent wrong data: the session ends on its next turn.
    pub fn ban(&mut self, who: SessionId) {
        if self.live.contains(&who) {
            self.banned.insert(who);
            self.rings.push(who);
        }
    }

    /// Whether this session's peer is banned.
    pub fn is_banned(&self, who: SessionId) -> bool {
        self.banned.contains(&who)
    }

    /// The run is over.
    pub fn stop(&mut self) {
        self.stop = true;
        self.rings.extend(&self.live);
    }

    /// Says whether this session could do more work than it found.
    pub fn set_hungry(&mut self, who: SessionId, hungry: bool) {
        if hungry {
            self.hungry.insert(who);
        } else {
            self.hungry.remove(&who);
        }
    }

    /// There is new work: those that are hungry should look.
    pub fn feed(&mut self) {
        self.rings.append(&mut self.hungry.iter().copied().collect());
        self.hungry.clear();
    }

    /// Somebody else brought a block that this session asked for: it should take its request back.
    pub fn outrun(&mut self, who: SessionId) {
        if self.live.contains(&who) {
            self.outrun.insert(who);
            self.rings.push(who);
        }
    }

    /// Whether this session was outrun since it last asked.
    pub fn take_outrun(&mut self, who: SessionId) -> bool {
        self.outrun.remove(&who)
    }

    /// Takes the list of those whose wakers are to be rung, once the lock is released.
    pub fn take_rings(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.rings)
    }

    // ---- pieces --------------------------------------------------------------------------------

    /// The hash of `piece` is right and its bytes are in the files.
    pub fn on_verified(&mut self, piece: PieceIndex) {
        self.picker.on_verified(piece);
        self.had_bytes += u64::from(self.geometry.length_of(piece));
        self.verified.push(piece);
    }

    /// The hash of `piece` is wrong. Returns who brought which block.
    pub fn on_failed(&mut self, piece: PieceIndex) -> Vec<SessionId> {
        self.wasted += u64::from(self.geometry.length_of(piece));
        let brought = self.picker.on_failed(piece);
        self.feed();
        brought
    }
}
