//! Owns the resume record: which pieces were verified and flushed, and how each file looked then.
//!
//! The record only saves the time to hash what is there. A piece counts without being hashed if
//! every file it lies in has the length and the time of its last change that the record names;
//! whatever else is found, or is wrong with the record, means hashing.

use super::bencode::{Item, Value};
use crate::bitfield::Bitfield;
use crate::units::{Geometry, InfoHash};

/// Bytes of one file's state: two numbers of 8 bytes, the most significant first.
const STATE_LENGTH: usize = 16;

/// Bytes of a piece's number.
const PIECE_LENGTH: usize = 4;

/// Bytes of what stands around the fields, with room to spare.
const FRAME_LENGTH: usize = 128;

/// How a file looked; zeros for one that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileState {
    /// Bytes.
    pub length: u64,
    /// When its content was last changed: nanoseconds since 1970.
    pub modified_ns: i64,
}

/// What was known when the record was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Pieces that were verified, and whose bytes were flushed to the file system.
    pub pieces: Bitfield,
    /// The torrent's files in its order, padding included; then that of what is kept aside.
    pub files: Vec<FileState>,
    /// The pieces that have a place in what is kept aside of files that were not selected, in the
    /// order of these places.
    pub aside: Vec<u32>,
}

impl Record {
    /// The bytes that [`Record::decode`] understands.
    pub fn encode(&self) -> Vec<u8> {
        let state = |file: &FileState| [file.length.to_be_bytes(), file.modified_ns.to_be_bytes()];
        let kept = self.files.len().saturating_sub(usize::from(self.aside.is_empty()));
        let files: Vec<u8> = self.files.iter().take(kept).flat_map(state).flatten().collect();
        let aside: Vec<u8> = self.aside.iter().flat_map(|piece| piece.to_be_bytes()).collect();
        let entries = [
            ("aside", aside.as_slice()),
            ("files", &files),
            ("info-hash", &self.info_hash.0),
            ("pieces", self.pieces.as_bytes()),
        ];
        let nothing = usize::from(aside.is_empty());
        Item::dict(entries.into_iter().skip(nothing).map(|(key, bytes)| (key, Item::bytes(bytes))))
            .encode()
    }

    /// No record of a torrent with these measures is longer.
    pub fn length_max(geometry: Geometry, files: usize) -> u64 {
        let aside = PIECE_LENGTH * geometry.pieces() as usize;
        (STATE_LENGTH * (files + 1) + Bitfield::wire_length(geometry) + aside + FRAME_LENGTH) as u64
    }

    /// Reads a record of this torrent, which has so many files; `None` if it is something else,
    /// whatever that may be.
    pub fn decode(
        bytes: &[u8],
        info_hash: InfoHash,
        geometry: Geometry,
        files: usize,
    ) -> Option<Self> {
        let (record, _) = Value::parse_prefix(bytes).ok().filter(|(_, rest)| rest.is_empty())?;
        let field = |key: &str| record.get(key).and_then(Value::bytes);
        if field("info-hash")? != info_hash.0 {
            return None;
        }
        let pieces = Bitfield::from_wire(field("pieces")?, geometry)?;
        let (states, rest) = field("files")?.as_chunks::<STATE_LENGTH>();
        let aside_known = field("aside");
        let files_match =
            states.len() == files + usize::from(aside_known.is_some()) && rest.is_empty();
        let states_read = states.iter().map(|state| {
            let (length, modified) = state.split_at(STATE_LENGTH / 2);
            Some(FileState {
                length: u64::from_be_bytes(length.try_into().ok()?),
                modified_ns: i64::from_be_bytes(modified.try_into().ok()?),
            })
        });
        let found: Option<Vec<FileState>> = states_read.collect();
        let mut found = found.filter(|_| files_match)?;
        found.resize(files + 1, FileState::default());
        let (numbers, rest) = aside_known.unwrap_or_default().as_chunks::<PIECE_LENGTH>();
        if aside_known.is_some() == numbers.is_empty() || !rest.is_empty() {
            return None;
        }
        let mut known = Bitfield::none(geometry);
        let mut aside = Vec::with_capacity(numbers.len());
        for number in numbers {
            // Each has one place.
            let piece = geometry.piece(u32::from_be_bytes(*number))?;
            aside.push(known.insert(piece).then_some(piece.get())?);
        }
        Some(Self { info_hash, pieces, files: found, aside })
    }

    /// Whether the file at this place in the torrent, which is found like this, is as it was.
    pub fn knows(&self, index: usize, found: FileState) -> bool {
        found != FileState::default() && self.files.get(index) == Some(&found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (Record, Geometry) {
        let geometry = Geometry::new(1600, 100).unwrap();
        let mut pieces = Bitfield::none(geometry);
        pieces.insert(geometry.piece(3).unwrap());
        let state = |length, modified_ns| FileState { length, modified_ns };
        let files =
            vec![state(0, 0), state(u64::MAX, i64::MIN), state(7, 1_790_000_000_123_456_789)];
        (Record { info_hash: InfoHash([7; 20]), pieces, files, aside: vec![9, 0] }, geometry)
    }

    #[test]
    fn a_record_survives_the_way_to_bytes_and_back() {
        let (record, geometry) = record();
        let read = Record::decode(&record.encode(), record.info_hash, geometry, 2);
        let mut plain = Record { aside: Vec::new(), ..record.clone() };
        plain.files[2] = FileState::default();
        assert!(!plain.encode().windows(5).any(|word| word == b"aside"));
        assert_eq!(Record::decode(&plain.encode(), plain.info_hash, geometry, 2), Some(plain));
        assert!(record.encode().len() as u64 <= Record::length_max(geometry, 2));
        assert_eq!(read, Some(record));
    }

    #[test]
    fn what_is_no_record_of_this_torrent_is_nothing() {
        let (record, geometry) = record();
        let bytes = record.encode();
        let decode = |bytes: &[u8]| Record::decode(bytes, record.info_hash, geometry, 2);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "cut to {length}");
        }
        assert_eq!(decode(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(decode(&vec![b'l'; 100_000]), None);
        assert_eq!(Record::decode(&bytes, InfoHash([8; 20]), geometry, 2), None);
        assert_eq!(Record::decode(&bytes, record.info_hash, geometry, 3), None);
        let other = Geometry::new(1600, 10).unwrap();
        assert_eq!(Record::decode(&bytes, record.info_hash, other, 2), None);
        for aside in [vec![16], vec![1, 2, 1]] {
            assert_eq!(decode(&Record { aside, ..record.clone() }.encode()), None);
        }
        // Whatever byte is damaged, it is read as nothing or as another record, without a panic.
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            assert_ne!(decode(&damaged), Some(record.clone()), "byte {at}");
        }
    }

    #[test]
    fn a_file_is_known_only_if_nothing_about_it_changed() {
        let (record, _) = record();
        let found = record.files[2];
        assert!(record.knows(2, found));
        assert!(!record.knows(2, FileState { length: 8, ..found }));
        let touched = |ns| FileState { modified_ns: found.modified_ns + ns, ..found };
        assert!(!record.knows(2, touched(1)) && !record.knows(2, touched(-1)));
        assert!(!record.knows(0, FileState::default()), "a file that is not there");
        assert!(!record.knows(3, found));
    }
}
