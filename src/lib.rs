//! `rusty_torrent`: wget for torrents.
//!
//! The house, floor by floor. A room uses rooms on floors below its own, and on its own floor only
//! those named before it; a test holds this true.
//!
//! ```text
//! 5  status_line piece_map progress json json_lines hook options help manual completions ceiling
//!    torrents values given arguments viewer ways show verify preflight create run
//!    choice look course cli main  what is shown and typed
//! 4  engine/                threads: event, resolve, hops, agent, announcer, preflight, retrieval,
//!                           local, dht, discovery, listener, greeter, outside, aside, recheck, chunk,
//!                           upload, session, webseed, outlet, recorder, writer, pool, coordinator,
//!                           metadata, watch, download, verification, create
//! 3  system/                walls to the OS: buffer, route, link, signals, allowance, storage, ground,
//!                           tree, resume, sandbox
//! 2  policy/                decisions, no I/O, time passed in: completion, selection, memory, rate,
//!                           bucket, noise, choker, serving, metadata, exchange, pipeline, rarity,
//!                           picker, blame, mirrors, swarm, conversation, fetch, inquiry, encryption,
//!                           peer_book, origins, tiers, reach, nonces, tokens, answers, peer_store,
//!                           routing, lookup, dht
//! 1  protocol/              bytes <-> values, no I/O: bencode, names, url, web_seed, lsd, magnet, metainfo,
//!                           handshake, message, extension, metadata, tracker, tracker_http, tracker_udp,
//!                           exchange, resume, mse, node_id, krpc, node_file, socks, creation
//! 0  limits units bitfield order text error stopwatch
//! ```

pub mod arguments;
pub mod bitfield;
pub mod ceiling;
pub mod choice;
pub mod cli;
pub mod completions;
pub mod course;
pub mod create;
pub mod engine;
pub mod error;
pub mod given;
pub mod help;
pub mod hook;
pub mod json;
pub mod json_lines;
pub mod limits;
pub mod look;
pub mod manual;
pub mod options;
pub mod order;
pub mod piece_map;
pub mod policy;
pub mod preflight;
pub mod progress;
pub mod protocol;
pub mod run;
pub mod show;
pub mod status_line;
#[cfg(test)]
mod stopwatch;
pub mod system;
pub mod text;
pub mod torrents;
pub mod units;
pub mod values;
pub mod verify;
pub mod viewer;
pub mod ways;
