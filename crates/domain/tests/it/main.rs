//! The breaker and the screen for personal data, over many random inputs.

mod breaker;
mod scrub;
