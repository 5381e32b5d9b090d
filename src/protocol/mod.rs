//! Bytes to values and back: what files, trackers and peers say. No room here does I/O.

pub mod bencode;
pub mod creation;
pub mod exchange;
pub mod extension;
pub mod handshake;
pub mod krpc;
pub mod lsd;
pub mod magnet;
pub mod message;
pub mod metadata;
pub mod metainfo;
pub mod mse;
pub mod names;
pub mod node_file;
pub mod node_id;
pub mod resume;
pub mod socks;
pub mod tracker;
pub mod tracker_http;
pub mod tracker_udp;
pub mod url;
pub mod web_seed;
