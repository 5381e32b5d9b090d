//! Owns the nouns of the wire and of the torrent: piece, block, info-hash, peer id, and the
//! arithmetic between them. An index that came from outside becomes a [`PieceIndex`] here, once,
//! and is never checked again.

use std::fmt;

use crate::limits::{BLOCK_LENGTH, MIRRORS_MAX};

/// SHA-1 of the info dictionary's exact bytes: a torrent's name on the network.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// The 20 bytes by which a client calls itself for one run (BEP 20 gives them their form).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId(pub [u8; 20]);

impl InfoHash {
    /// Reads 40 digits of base 16.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut hash = [0; 20];
        let pairs = digits.as_bytes().as_chunks::<2>();
        let fits = pairs.0.len() == hash.len() && pairs.1.is_empty();
        for (byte, pair) in hash.iter_mut().zip(pairs.0) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(16 * high? + low?).ok()?;
        }
        fits.then_some(Self(hash))
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A piece that exists: made only by a [`Geometry`], so holding one is the proof.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The number as it goes over the wire.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number as a position in a table with one entry for each piece.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One session with one peer. Numbered in the order in which sessions began, never used twice. The
/// last numbers are those of mirrors: whatever comes from one, over however many connections, is
/// of the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The number of the mirror in this place, the first [`MIRRORS_MAX`] of which have one.
    pub fn of_mirror(place: usize) -> Self {
        let place = place.min(MIRRORS_MAX - 1);
        Self(u32::MAX - u32::try_from(place).unwrap_or(0))
    }

    /// The place of the mirror that has this number.
    pub fn mirror(self) -> Option<usize> {
        let place = (u32::MAX - self.0) as usize;
        (place < MIRRORS_MAX).then_some(place)
    }
}

/// What one request asks for: `length` bytes of `piece`, from its byte `begin` on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    /// The piece it is a part of.
    pub piece: PieceIndex,
    /// Bytes from the start of the piece.
    pub begin: u32,
    /// Bytes; at least 1.
    pub length: u32,
}

impl Block {
    /// Its place among the piece's blocks, for a block that starts where blocks of ours start.
    pub fn number(self) -> u32 {
        self.begin / BLOCK_LENGTH
    }
}

/// How the torrent's bytes fall into pieces and blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    total: u64,
    piece_length: u32,
    pieces: u32,
}

impl Geometry {
    /// A torrent of `total` bytes in pieces of `piece_length` bytes, the last one shorter.
    /// `None` if either is 0 or there would be more pieces than a `u32` counts.
    pub fn new(total: u64, piece_length: u32) -> Option<Self> {
        if total == 0 || piece_length == 0 {
            return None;
        }
        let pieces = u32::try_from(total.div_ceil(u64::from(piece_length))).ok()?;
        Some(Self { total, piece_length, pieces })
    }

    /// Bytes in all.
    pub fn total(self) -> u64 {
        self.total
    }

    /// Bytes in every piece but perhaps the last.
    pub fn piece_length(self) -> u32 {
        self.piece_length
    }

    /// How many pieces there are.
    pub fn pieces(self) -> u32 {
        self.pieces
    }

    /// The piece with this number, if there is one.
    pub fn piece(self, number: u32) -> Option<PieceIndex> {
        (number < self.pieces).then_some(PieceIndex(number))
    }

    /// Every piece, in order.
    pub fn all_pieces(self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator {
        (0..self.pieces).map(PieceIndex)
    }

    /// Bytes from the start of the torrent to the start of `piece`.
    pub fn offset_of(self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Bytes in `piece`.
    pub fn length_of(self, piece: PieceIndex) -> u32 {
        let rest = self.total - self.offset_of(piece);
        u32::try_from(rest).unwrap_or(u32::MAX).min(self.piece_length)
    }

    /// How many blocks `piece` is asked for in.
    pub fn blocks_in(self, piece: PieceIndex) -> u32 {
        self.length_of(piece).div_ceil(BLOCK_LENGTH)
    }

    /// Block `number` of `piece`. The caller keeps `number` below [`Geometry::blocks_in`].
    pub fn block(self, piece: PieceIndex, number: u32) -> Block {
        let begin = number * BLOCK_LENGTH;
        debug_assert!(begin < self.length_of(piece));
        Block { piece, begin, length: (self.length_of(piece) - begin).min(BLOCK_LENGTH) }
    }

    /// The range a peer named, if it lies inside an existing piece and is not empty.
    pub fn range(self, piece: u32, begin: u32, length: u32) -> Option<Block> {
        let piece = self.piece(piece)?;
        let end = begin.checked_add(length)?;
        (length > 0 && end <= self.length_of(piece)).then_some(Block { piece, begin, length })
    }
}

/// Bytes as people read them: `1023 B`, `1.5 KiB`, `2.0 GiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        #[allow(clippy::cast_precision_loss)] // shown with one decimal
        let mut value = self.0 as f64 / 1024.0;
        let mut units = UNITS.iter();
        let mut unit = units.next().unwrap_or(&"");
        // 1023.95 would be printed as 1024.0.
        while value >= 1023.95 {
            let Some(next) = units.next() else { break };
            (value, unit) = (value / 1024.0, next);
        }
        write!(f, "{value:.1} {unit}")
    }
}

/// So many of something: `1 peer`, `2 peers`.
pub struct Count<T>(pub T, pub &'static str);

impl<T: fmt::Display + PartialEq + From<u8>> fmt::Display for Count<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        let plural = if *count == T::from(1) { "" } else { "s" };
        write!(f, "{count} {what}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_and_the_last_block_are_shorter() {
        let geometry = Geometry::new(100_000, 65_536).unwrap();
        assert_eq!(geometry.pieces(), 2);
        let last = geometry.piece(1).unwrap();
        assert_eq!(geometry.length_of(last), 34_464);
        assert_eq!(geometry.blocks_in(last), 3);
        assert_eq!(geometry.block(last, 2), Block { piece: last, begin: 32_768, length: 1_696 });
        assert_eq!(geometry.piece(2), None);
    }

    #[test]
    fn sizes_that_make_no_torrent_are_refused() {
        for (total, piece_length) in [(0, 16_384), (1, 0), (u64::MAX, 1)] {
            assert_eq!(Geometry::new(total, piece_length), None, "{total} {piece_length}");
        }
        let huge = Geometry::new(u64::from(u32::MAX) * 16_384, 16_384).unwrap();
        let last = huge.piece(u32::MAX - 1).unwrap();
        assert_eq!(huge.offset_of(last) + 16_384, huge.total());
    }

    #[test]
    fn a_range_from_a_peer_is_checked_once() {
        let geometry = Geometry::new(100_000, 65_536).unwrap();
        let cases = [
            ((0, 0, 65_536), true),
            ((0, 0, 65_537), false),
            ((0, 65_535, 1), true),
            ((0, 65_536, 1), false),
            ((0, 0, 0), false),
            ((1, 32_768, 1_696), true),
            ((1, 32_768, 1_697), false),
            ((2, 0, 1), false),
            ((0, u32::MAX, 2), false),
            ((u32::MAX, 0, 1), false),
        ];
        for ((piece, begin, length), good) in cases {
            assert_eq!(
                geometry.range(piece, begin, length).is_some(),
                good,
                "{piece} {begin} {length}"
            );
        }
    }

    #[test]
    fn mirrors_are_told_from_peers() {
        for place in [0, 1, MIRRORS_MAX - 1] {
            assert_eq!(SessionId::of_mirror(place).mirror(), Some(place));
        }
        for peer in [0, 1, u32::MAX / 2] {
            assert_eq!(SessionId(peer).mirror(), None);
        }
    }

    #[test]
    fn bytes_read_well() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (2 << 30, "2.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
