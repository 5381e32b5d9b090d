//! The threads, and what runs on them.
