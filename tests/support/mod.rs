//! What the tests talk to.
#![allow(dead_code, unreachable_pub)] // each test uses a part of it
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod tracker;
