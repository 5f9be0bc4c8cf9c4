//! The scoring pipeline.
