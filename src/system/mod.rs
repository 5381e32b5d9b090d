//! Walls to the operating system.

pub mod link;
pub mod signals;
pub mod buffer;
pub mod storage;
