//! Decisions, made over values with the time passed in. No room here does I/O or reads the clock.

pub mod blame;
pub mod bucket;
pub mod choker;
pub mod conversation;
pub mod encryption;
pub mod exchange;
pub mod fetch;
pub mod inquiry;
pub mod memory;
pub mod metadata;
pub mod mirrors;
pub mod noise;
pub mod origins;
pub mod peer_book;
pub mod picker;
pub mod pipeline;
pub mod rarity;
pub mod rate;
pub mod serving;
pub mod swarm;
pub mod tiers;
