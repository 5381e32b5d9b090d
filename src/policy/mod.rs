//! Decisions, made over values with the time passed in. No room here does I/O or reads the clock.
