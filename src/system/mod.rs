//! Walls to the operating system.

pub mod allowance;
pub mod buffer;
pub mod ground;
pub mod link;
pub mod resume;
pub mod route;
pub mod sandbox;
pub mod signals;
pub mod storage;
pub mod tree;
