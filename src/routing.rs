//! The tier policy: score to tier, skill and priority.
