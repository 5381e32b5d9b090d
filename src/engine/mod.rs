//! The threads, and what runs on them.

pub mod announcer;
pub mod recheck;
