//! Decides who sent a bad block. A wrong piece from one peer alone is plain. A wrong piece from
//! several is remembered, block by block, until a right one shows which of them were wrong.

use std::collections::BTreeMap;

use crate::limits::{SUSPECT_BLOCKS_MAX, SUSPECT_PIECES_MAX};
use crate::order::sort_by_key;
use crate::units::{PieceIndex, SessionId};

/// SHA-1 of one block.
pub type Digest = [u8; 20];

/// What is known of pieces that were wrong.
#[derive(Default)]
pub struct Blame {
    /// For each piece, every wrong block's sender with the block's number and digest.
    suspects: BTreeMap<PieceIndex, Vec<(usize, SessionId, Digest)>>,
}

impl Blame {
    /// A piece was wrong; `brought` and `digests` have one entry for each of its blocks. Returns
    /// whoever is guilty beyond doubt.
    pub fn on_failed(
        &mut self,
        piece: PieceIndex,
        brought: &[SessionId],
        digests: &[Digest],
    ) -> Option<SessionId> {
        let first = *brought.first()?;
        if brought.iter().all(|by| *by == first) {
            return Some(first);
        }
        if self.suspects.len() >= SUSPECT_PIECES_MAX && !self.suspects.contains_key(&piece) {
            self.suspects.pop_first();
        }
        let evidence = self.suspects.entry(piece).or_default();
        for (number, (by, digest)) in brought.iter().zip(digests).enumerate() {
            if !evidence.contains(&(number, *by, *digest)) {
                evidence.push((number, *by, *digest));
            }
        }
        // What is remembered has its bound in bytes too: pieces may be long.
        while self.blocks() > SUSPECT_BLOCKS_MAX {
            self.suspects.pop_first();
        }
        None
    }

    fn blocks(&self) -> usize {
        self.suspects.values().map(Vec::len).sum()
    }

    /// Whether the digests of this piece's blocks, once it is right, will show who was wrong.
    pub fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.suspects.contains_key(&piece)
    }

    /// A piece is right. Returns everybody who sent a block that differs from it before.
    pub fn on_verified(&mut self, piece: PieceIndex, digests: &[Digest]) -> Vec<SessionId> {
        let evidence = self.suspects.remove(&piece).unwrap_or_default();
        let wrong = evidence.iter().filter(|(number, _, digest)| {
            digests.get(*number).is_some_and(|right| right != digest)
        });
        let mut guilty: Vec<SessionId> = wrong.map(|(_, by, _)| *by).collect();
        sort_by_key(&mut guilty, |who| *who);
        guilty.dedup();
        guilty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    const ANN: SessionId = SessionId(1);
    const BOB: SessionId = SessionId(2);
    const CAT: SessionId = SessionId(3);
    const RIGHT: Digest = [0; 20];
    const WRONG: Digest = [9; 20];

    fn piece(number: u32) -> PieceIndex {
        Geometry::new(1000, 1).unwrap().piece(number).unwrap()
    }

    #[test]
    fn a_single_sender_is_guilty_at_once() {
        let mut blame = Blame::default();
        assert_eq!(blame.on_failed(piece(0), &[ANN, ANN], &[RIGHT, WRONG]), Some(ANN));
        assert!(!blame.is_suspect(piece(0)));
    }

    #[test]
    fn among_several_the_right_piece_tells() {
        let mut blame = Blame::default();
        assert_eq!(blame.on_failed(piece(0), &[ANN, BOB, CAT], &[RIGHT, WRONG, RIGHT]), None);
        assert_eq!(blame.on_failed(piece(0), &[CAT, ANN, CAT], &[WRONG, RIGHT, RIGHT]), None);
        assert!(blame.is_suspect(piece(0)));
        assert_eq!(blame.on_verified(piece(0), &[RIGHT; 3]), [BOB, CAT]);
        assert_eq!(blame.on_verified(piece(0), &[RIGHT; 3]), []);
    }

    #[test]
    fn long_pieces_are_forgotten_sooner() {
        let mut blame = Blame::default();
        let blocks = 1_024;
        for number in 0..50 {
            let brought: Vec<_> = (0..blocks).map(SessionId).collect();
            blame.on_failed(piece(number), &brought, &vec![WRONG; blocks as usize]);
            assert!(blame.blocks() <= SUSPECT_BLOCKS_MAX);
        }
        assert_eq!(blame.suspects.len(), SUSPECT_BLOCKS_MAX / blocks as usize);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut blame = Blame::default();
        for number in 0..1000 {
            blame.on_failed(piece(number), &[ANN, BOB], &[RIGHT, WRONG]);
        }
        assert_eq!(blame.suspects.len(), SUSPECT_PIECES_MAX);
        assert!(blame.is_suspect(piece(999)));
    }
}
