//! Identifiers become keyed hashes at the edge.
