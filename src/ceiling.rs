//! Owns the line that the process's memory is kept below, and what is said where that is too low.

use std::io;

use crate::error::Fatal;
use crate::limits::{PEERS_DEFAULT, TORRENT_LENGTH_MAX_BYTES};
use crate::policy::memory::{self, Needs, Plan};
use crate::protocol::metainfo::Measures;
use crate::system::allowance;
use crate::units::Bytes;

/// Bytes as they can be typed, rounded up.
pub fn in_units(bytes: u64) -> String {
    format!("{}M", bytes.div_ceil(1 << 20))
}

/// Bytes of memory that the run may take.
#[derive(Clone, Copy)]
pub struct Ceiling {
    /// So many.
    pub bytes: u64,
    /// It was not `--max-memory` that drew the line.
    pub of_the_process: bool,
}

impl Ceiling {
    /// What was given, or what the process is left with, if that is less.
    pub fn new(given: u64) -> Self {
        let left = allowance::memory_left().unwrap_or(u64::MAX);
        Self { bytes: given.min(left), of_the_process: left < given }
    }

    /// The same while so many bytes are taken by something else.
    #[must_use]
    pub fn beside(self, taken: u64) -> Self {
        Self { bytes: self.bytes.saturating_sub(taken), ..self }
    }

    /// Bytes of a torrent file that may be read: of one of this length, if it tells.
    ///
    /// # Errors
    /// It is too long.
    pub fn room_for_torrent(self, length: Option<u64>) -> Result<u64, Fatal> {
        match length {
            None => Ok(self.room_for_unknown()),
            Some(length) if length > TORRENT_LENGTH_MAX_BYTES => {
                Err(too_long(TORRENT_LENGTH_MAX_BYTES))
            }
            Some(length) if memory::can_be_measured(self.bytes, length) => Ok(length),
            Some(length) => Err(self.too_little_to_read(length)),
        }
    }

    /// What is read moves about while it grows.
    fn room_for_unknown(self) -> u64 {
        TORRENT_LENGTH_MAX_BYTES.min(self.bytes / 4)
    }

    /// The error for a torrent file that was read as far as there was room for, and has not ended.
    pub fn endless(self) -> Fatal {
        match self.room_for_unknown() {
            TORRENT_LENGTH_MAX_BYTES => too_long(TORRENT_LENGTH_MAX_BYTES),
            room => {
                let room = Bytes(room);
                let more =
                    if self.of_the_process { "raise ulimit" } else { "give more --max-memory" };
                Fatal::BadTorrent(format!(
                    "more than {room} came, and its length was not told; save it to a file first, \
                     or {more}"
                ))
            }
        }
    }

    fn too_little_to_read(self, length: u64) -> Fatal {
        // What is in it is not known. Little else than hashes is in one that is so large.
        let measures = Measures {
            info_bytes: length,
            pieces: length / 20,
            piece_length: 1,
            files: 1,
            tiers: 1,
            ..Measures::default()
        };
        let peers = PEERS_DEFAULT;
        let hashes = Needs { torrent_bytes: length, measures, peers, ..Needs::default() };
        let needed = Plan::new(0, &hashes).err().unwrap_or(length);
        // What its files take comes on top, and is told when it can be seen.
        self.too_little("to read this torrent", needed)
    }

    /// The error for a torrent that takes more.
    pub fn too_little(self, what_for: &str, needed: u64) -> Fatal {
        let (given, needed) = (Bytes(self.bytes), in_units(needed));
        if self.of_the_process {
            let why = format!("ulimit leaves {given}, and {needed} at least are needed {what_for}");
            return Fatal::System("go on with so little memory", io::Error::other(why));
        }
        let why =
            format!("{given} are too little {what_for}, it needs --max-memory {needed} at least");
        Fatal::Usage(why)
    }
}

/// The error for a torrent file of more bytes than these.
pub fn too_long(limit: u64) -> Fatal {
    Fatal::BadTorrent(format!("the file is larger than {}", Bytes(limit)))
}
