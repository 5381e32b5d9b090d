//! Walls to the operating system.

pub mod buffer;
pub mod link;
pub mod signals;
pub mod storage;
