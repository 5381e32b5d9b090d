//! The output files: where bytes lie, and how they get there.
