//! Owns every bound: lengths, counts, queues, retries and times, each with its unit last.
//! A number that limits what a file, a tracker or a peer can make us do stands here and nowhere
//! else.

// ---- torrent files -----------------------------------------------------------------------------

/// A torrent file larger than this is not read. The largest real ones have some 20 MiB.
pub const TORRENT_LENGTH_MAX_BYTES: u64 = 64 << 20;
/// Lists and dictionaries inside each other, in any bencode from anywhere.
pub const BENCODE_DEPTH_MAX: usize = 32;
/// Files in a torrent.
pub const FILES_MAX: usize = 1 << 20;
/// Directories above a file, its own name counted.
pub const PATH_DEPTH_MAX: usize = 100;
/// Bytes of one path component: the limit of Linux's file systems.
pub const NAME_LENGTH_MAX_BYTES: usize = 255;
/// Bytes of a path below the output directory, under Linux's PATH_MAX of 4096 with room for it.
pub const PATH_LENGTH_MAX_BYTES: usize = 3072;
/// The longest piece. Real torrents end at 64 MiB; offsets in a piece must fit a `u32`.
pub const PIECE_LENGTH_MAX_BYTES: u32 = 1 << 30;
/// Bytes of a whole torrent: what a file offset can say.
pub const TOTAL_LENGTH_MAX_BYTES: u64 = i64::MAX as u64;
/// Tracker tiers that are kept.
pub const TIERS_MAX: usize = 32;
/// Trackers that are kept, in all tiers.
pub const TRACKERS_MAX: usize = 200;
/// Bytes of a tracker's URL; longer ones are passed over.
pub const URL_LENGTH_MAX_BYTES: usize = 4096;
/// Text from a torrent, tracker or peer is cut to this many characters before it is shown.
pub const FOREIGN_TEXT_MAX_CHARS: usize = 200;

// ---- peers' wire -------------------------------------------------------------------------------

/// Bytes that one request asks for. Every client answers 16 KiB; some refuse more.
pub const BLOCK_LENGTH: u32 = 16 << 10;
/// Bytes of an extension message (BEP 10). Longer ones end the session.
pub const EXTENDED_LENGTH_MAX_BYTES: u32 = 1 << 20;
/// Requests that are out to one peer at most, however fast it is and whatever its `reqq` allows.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 500;
/// Requests that are out to a peer of which nothing is known yet.
pub const REQUESTS_IN_FLIGHT_START: u32 = 16;
/// Requests that are out to the slowest peer.
pub const REQUESTS_IN_FLIGHT_MIN: u32 = 2;
/// The `reqq` we announce: requests of a peer that we would queue.
pub const REQUESTS_QUEUED_MAX: u32 = 500;
/// Pieces of a peer's allowed-fast set that are remembered (BEP 6 recommends 10).
pub const ALLOWED_FAST_MAX: usize = 64;
