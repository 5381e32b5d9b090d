//! `rusty_torrent`: wget for torrents.
//!
//! The house, floor by floor. A room uses rooms on floors below its own, and on its own floor only
//! those named before it; a test holds this true.
//!
//! ```text
//! 5  main.rs cli progress   what was typed, what is shown, the exit status
//! 4  engine/                threads: coordinator, pool, session, writer, announcer, recheck
//! 3  system/                walls to the OS: link, waker, signals, storage
//! 2  policy/                decisions, no I/O, time passed in: picker, conversation, peer book, tiers
//! 1  protocol/              bytes <-> values, no I/O: bencode, names, metainfo, handshake, message, trackers
//! 0  units bitfield limits error text
//! ```

pub mod bitfield;
pub mod cli;
pub mod engine;
pub mod error;
pub mod limits;
pub mod policy;
pub mod progress;
pub mod protocol;
#[cfg(test)]
mod stopwatch;
pub mod system;
pub mod text;
pub mod units;
