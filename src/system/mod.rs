//! Walls to the operating system.
pub mod storage;
