//! Pure state machines against failing parts: they are told the time and what happened, and say what may be done.

pub mod breaker;
