//! Decides whom we upload to.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::units::SessionId;

/// What is known of one peer.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its session.
    pub session: SessionId,
    /// It wants what we have.
    pub interested: bool,
    /// It may ask now.
    pub unchoked: bool,
    /// Bytes of blocks that were wanted.
    pub received_per_s: u64,
    /// Bytes of blocks that it got.
    pub sent_per_s: u64,
    /// When that was changed last.
    pub changed: Instant,
    /// When it came.
    pub joined: Instant,
    /// It does not bring what we asked for.
    pub snubs: bool,
}

/// The choker.
pub struct Choker {
    _rng: fastrand::Rng,
}

impl Choker {
    /// Its luck comes from `rng`.
    pub fn new(rng: fastrand::Rng) -> Self {
        Self { _rng: rng }
    }

    /// Who may ask.
    pub fn round(
        &mut self,
        candidates: &[Candidate],
        slots: usize,
        _seeding: bool,
        _now: Instant,
    ) -> BTreeSet<SessionId> {
        candidates.iter().filter(|c| c.interested).take(slots).map(|c| c.session).collect()
    }
}

/// How many may ask.
pub fn slots(_sent_per_s: u64, _limit: Option<u64>) -> usize {
    4
}
