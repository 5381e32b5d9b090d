//! What the tests talk to and run.
#![allow(dead_code, unreachable_pub)] // each test uses a part of it
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod case;
pub mod leech;
pub mod mount;
pub mod network;
pub mod peer;
pub mod program;
pub mod scratch;
pub mod seeder;
pub mod socks;
pub mod torrent;
pub mod tracker;
pub mod veil;
pub mod web;
pub mod wire;
