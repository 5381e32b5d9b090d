//! Tells which files are complete, from the pieces that are verified. It counts the missing pieces
//! of each file, so that a look costs as much as has changed.

use crate::bitfield::Bitfield;
use crate::units::Geometry;

/// What is missing of each file.
pub struct Completion {
    geometry: Geometry,
    /// The pieces that were counted.
    seen: Bitfield,
    files: Vec<Missing>,
}

/// What is missing of one.
#[derive(Clone, Copy)]
struct Missing {
    /// Where it begins: bytes of the torrent.
    begin: u64,
    /// Pieces that are not verified and that it has a part of.
    pieces: u32,
    /// It is to be told of.
    counts: bool,
}

/// Bytes that a file takes here, as the plan of the memory has it.
pub const FILE_BYTES: usize = size_of::<Missing>();

impl Completion {
    /// Files of these lengths, one after the other, in bytes. Those that do not count, such as
    /// padding, are never told of. Nothing is verified yet.
    pub fn new(geometry: Geometry, files: impl ExactSizeIterator<Item = (u64, bool)>) -> Self {
        // A table that grows would take up to three times as much.
        let mut table = Vec::with_capacity(files.len());
        let (mut begin, piece_length) = (0_u64, u64::from(geometry.piece_length()));
        for (length, counts) in files {
            let end = begin.saturating_add(length);
            let pieces = match length {
                0 => 0,
                _ => (end - 1) / piece_length - begin / piece_length + 1,
            };
            let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
            table.push(Missing { begin, pieces, counts });
            begin = end;
        }
        Self { geometry, seen: Bitfield::none(geometry), files: table }
    }

    /// The files that are complete: their places in the torrent.
    pub fn complete(&self) -> impl Iterator<Item = usize> {
        let done = |(_, file): &(usize, &Missing)| file.counts && file.pieces == 0;
        self.files.iter().enumerate().filter(done).map(|(place, _)| place)
    }

    /// These pieces are verified. Calls `tell` with the place of each file that is complete now
    /// and was not before; an empty one is so from the start.
    pub fn look(&mut self, had: &Bitfield, mut tell: impl FnMut(usize)) {
        for piece in had.beyond(&self.seen, self.geometry) {
            let begin = self.geometry.offset_of(piece);
            let end = begin + u64::from(self.geometry.length_of(piece));
            let first = self.files.partition_point(|file| file.begin <= begin).saturating_sub(1);
            for (place, file) in self.files.iter_mut().enumerate().skip(first) {
                if file.begin >= end {
                    break;
                }
                if file.pieces > 0 {
                    file.pieces -= 1;
                    if file.pieces == 0 && file.counts {
                        tell(place);
                    }
                }
            }
        }
        self.seen.clone_from(had);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(piece_length: u32, lengths: &[(u64, bool)]) -> Completion {
        let total = lengths.iter().map(|(length, _)| length).sum();
        let geometry = Geometry::new(total, piece_length).unwrap();
        Completion::new(geometry, lengths.iter().copied())
    }

    fn look(completion: &mut Completion, had: &mut Bitfield, pieces: &[u32]) -> Vec<usize> {
        for piece in pieces {
            had.insert(completion.geometry.piece(*piece).unwrap());
        }
        let mut told = Vec::new();
        completion.look(had, |place| told.push(place));
        told
    }

    #[test]
    fn a_file_is_complete_with_the_last_of_its_pieces() {
        // Pieces of 10: 0 is the first file's, 1 is of three, 2 of padding and the last two.
        let files = [
            (15, true),
            (0, true),
            (2, true),
            (5, true),
            (4, false),
            (0, true),
            (1, true),
            (3, true),
        ];
        let mut files = completion(10, &files);
        let mut had = Bitfield::none(files.geometry);
        assert_eq!(files.complete().collect::<Vec<_>>(), [1, 5]);
        assert_eq!(look(&mut files, &mut had, &[1]), [2]);
        assert_eq!(look(&mut files, &mut had, &[]), [0; 0]);
        assert_eq!(look(&mut files, &mut had, &[2]), [3, 6, 7]);
        assert_eq!(look(&mut files, &mut had, &[0]), [0]);
        assert_eq!(files.complete().collect::<Vec<_>>(), [0, 1, 2, 3, 5, 6, 7]);
    }

    #[test]
    fn it_agrees_with_a_count_of_all_pieces() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let count = rng.usize(1..30);
            let mut lengths: Vec<(u64, bool)> =
                (0..count).map(|_| (rng.u64(0..40) * rng.u64(0..2), rng.u8(0..4) > 0)).collect();
            lengths.push((1, true));
            let mut files = completion(rng.u32(1..50), &lengths);
            let geometry = files.geometry;
            let mut had = Bitfield::none(geometry);
            let mut told: Vec<usize> = files.complete().collect();
            while !had.is_full() {
                let pieces: Vec<u32> =
                    (0..rng.u32(1..5)).map(|_| rng.u32(0..geometry.pieces())).collect();
                told.extend(look(&mut files, &mut had, &pieces));
                told.sort_unstable();
                let mut begin = 0;
                let mut expected = Vec::new();
                for (place, (length, counts)) in lengths.iter().enumerate() {
                    let bytes = begin..begin + length;
                    let there = *length == 0
                        || geometry.all_pieces().all(|piece| {
                            let at = geometry.offset_of(piece);
                            let end = at + u64::from(geometry.length_of(piece));
                            had.has(piece) || at >= bytes.end || end <= bytes.start
                        });
                    if *counts && there {
                        expected.push(place);
                    }
                    begin += length;
                }
                assert_eq!(told, expected);
                assert_eq!(files.complete().collect::<Vec<_>>(), expected);
            }
        }
    }
}
