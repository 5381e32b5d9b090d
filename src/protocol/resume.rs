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
    /// The torrent's files in its order, padding included.
    pub files: Vec<FileState>,
}

impl Record {
    /// The bytes that [`Record::decode`] understands.
    pub fn encode(&self) -> Vec<u8> {
        let state = |file: &FileState| [file.length.to_be_bytes(), file.modified_ns.to_be_bytes()];
        let files: Vec<u8> = self.files.iter().flat_map(state).flatten().collect();
        Item::dict([
            ("files", Item::bytes(files)),
            ("info-hash", Item::bytes(self.info_hash.0)),
            ("pieces", Item::bytes(self.pieces.as_bytes())),
        ])
        .encode()
    }

    /// No record of a torrent with these measures is longer.
    pub fn length_max(geometry: Geometry, files: usize) -> u64 {
        (STATE_LENGTH * files + Bitfield::wire_length(geometry) + FRAME_LENGTH) as u64
    }

    /// Reads a record of this torrent; `None` if it is something else, whatever that may be.
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
        let files_match = states.len() == files && rest.is_empty();
        let files = states.iter().map(|state| {
            let (length, modified) = state.split_at(STATE_LENGTH / 2);
            Some(FileState {
                length: u64::from_be_bytes(length.try_into().ok()?),
                modified_ns: i64::from_be_bytes(modified.try_into().ok()?),
            })
        });
        let files = files.collect::<Option<_>>().filter(|_| files_match)?;
        Some(Self { info_hash, pieces, files })
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
        (Record { info_hash: InfoHash([7; 20]), pieces, files }, geometry)
    }

    #[test]
    fn a_record_survives_the_way_to_bytes_and_back() {
        let (record, geometry) = record();
        let read = Record::decode(&record.encode(), record.info_hash, geometry, 3);
        assert!(record.encode().len() as u64 <= Record::length_max(geometry, 3));
        assert_eq!(read, Some(record));
    }

    #[test]
    fn what_is_no_record_of_this_torrent_is_nothing() {
        let (record, geometry) = record();
        let bytes = record.encode();
        let decode = |bytes: &[u8]| Record::decode(bytes, record.info_hash, geometry, 3);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "cut to {length}");
        }
        assert_eq!(decode(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(decode(&vec![b'l'; 100_000]), None);
        assert_eq!(Record::decode(&bytes, InfoHash([8; 20]), geometry, 3), None);
        assert_eq!(Record::decode(&bytes, record.info_hash, geometry, 2), None);
        let other = Geometry::new(1600, 10).unwrap();
        assert_eq!(Record::decode(&bytes, record.info_hash, other, 3), None);
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
