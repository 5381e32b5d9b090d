//! The threads, and what runs on them.

mod agent;
pub mod announcer;
pub mod aside;
pub mod chunk;
pub mod coordinator;
pub mod create;
pub mod dht;
pub mod discovery;
pub mod download;
pub mod event;
pub mod greeter;
mod hops;
pub mod listener;
pub mod local;
pub mod metadata;
pub mod outlet;
pub mod outside;
pub mod pool;
pub mod recheck;
pub mod recorder;
mod resolve;
pub mod retrieval;
pub mod session;
pub mod upload;
mod watch;
pub mod webseed;
pub mod writer;
