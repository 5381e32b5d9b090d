//! Owns the set of pieces somebody has: one bit for each piece, the first in the highest bit of
//! the first byte, as it goes over the wire (BEP 3, "bitfield").

use crate::units::{Geometry, PieceIndex};

/// A set of pieces of one torrent. Bits past the last piece are always 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bitfield {
    bytes: Vec<u8>,
    pieces: u32,
    count: u32,
}

impl Bitfield {
    /// No piece.
    pub fn none(geometry: Geometry) -> Self {
        let pieces = geometry.pieces();
        Self { bytes: vec![0; Self::wire_length(geometry)], pieces, count: 0 }
    }

    /// Every piece.
    pub fn all(geometry: Geometry) -> Self {
        let mut all = Self::none(geometry);
        all.bytes.fill(0xff);
        all.clear_spare_bits();
        all.count = all.pieces;
        all
    }

    /// The set a peer sent. `None` unless it has exactly the right number of bytes. Spare bits
    /// that are set are read as 0: old clients send them, and they name no piece.
    pub fn from_wire(bytes: &[u8], geometry: Geometry) -> Option<Self> {
        if bytes.len() != Self::wire_length(geometry) {
            return None;
        }
        let mut read = Self { bytes: bytes.to_vec(), pieces: geometry.pieces(), count: 0 };
        read.clear_spare_bits();
        read.count = read.bytes.iter().map(|byte| byte.count_ones()).sum();
        Some(read)
    }

    /// Bytes that a bitfield of this torrent has on the wire.
    pub fn wire_length(geometry: Geometry) -> usize {
        geometry.pieces().div_ceil(8) as usize
    }

    /// The bytes for the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `piece` is in the set.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.bytes.get(piece.index() / 8).is_some_and(|byte| byte & Self::mask(piece) != 0)
    }

    /// Puts `piece` into the set; false if it was there.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let Some(byte) = self.bytes.get_mut(piece.index() / 8) else { return false };
        let new = *byte & Self::mask(piece) == 0;
        *byte |= Self::mask(piece);
        self.count += u32::from(new);
        new
    }

    /// Takes `piece` out of the set; false if it was not there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let Some(byte) = self.bytes.get_mut(piece.index() / 8) else { return false };
        let had = *byte & Self::mask(piece) != 0;
        *byte &= !Self::mask(piece);
        self.count -= u32::from(had);
        had
    }

    /// The pieces that are in the set and not in `other`, which is of the same torrent.
    pub fn beyond<'a>(
        &'a self,
        other: &'a Self,
        geometry: Geometry,
    ) -> impl Iterator<Item = PieceIndex> + 'a {
        let bytes = (0_u32..).zip(self.bytes.iter().zip(&other.bytes));
        let changed = bytes.filter(|(_, (byte, other))| *byte & !*other != 0);
        changed
            .flat_map(move |(number, _)| {
                (8 * number..8 * number + 8).map_while(move |n| geometry.piece(n))
            })
            .filter(|piece| self.has(*piece) && !other.has(*piece))
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.pieces
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn mask(piece: PieceIndex) -> u8 {
        0x80 >> (piece.get() % 8)
    }

    fn clear_spare_bits(&mut self) {
        let spare = (8 - self.pieces % 8) % 8;
        if let Some(last) = self.bytes.last_mut() {
            *last &= 0xff << spare;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(pieces: u32) -> Geometry {
        Geometry::new(u64::from(pieces), 1).unwrap()
    }

    #[test]
    fn the_first_piece_is_the_highest_bit() {
        let geometry = geometry(10);
        let mut set = Bitfield::none(geometry);
        for number in [0, 9] {
            assert!(set.insert(geometry.piece(number).unwrap()));
        }
        assert!(!set.insert(geometry.piece(9).unwrap()));
        assert_eq!(set.as_bytes(), [0x80, 0x40]);
        assert_eq!(set.count(), 2);
        assert!(set.remove(geometry.piece(0).unwrap()));
        assert!(!set.remove(geometry.piece(0).unwrap()));
        assert_eq!((set.count(), set.as_bytes()), (1, [0x00, 0x40].as_slice()));
    }

    #[test]
    fn all_has_no_spare_bits_and_is_full() {
        for pieces in [1, 7, 8, 9, 64, 65] {
            let all = Bitfield::all(geometry(pieces));
            assert!(all.is_full());
            assert_eq!(Bitfield::from_wire(all.as_bytes(), geometry(pieces)), Some(all));
        }
        assert_eq!(Bitfield::all(geometry(9)).as_bytes(), [0xff, 0x80]);
    }

    #[test]
    fn only_the_exact_length_is_read_and_spare_bits_count_for_nothing() {
        assert_eq!(Bitfield::from_wire(&[0xff], geometry(9)), None);
        assert_eq!(Bitfield::from_wire(&[0xff; 3], geometry(9)), None);
        let read = Bitfield::from_wire(&[0xff, 0xff], geometry(9)).unwrap();
        assert!(read.is_full());
        assert_eq!(read.as_bytes(), [0xff, 0x80]);
    }
}
