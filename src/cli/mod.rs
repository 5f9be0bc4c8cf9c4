//! Command line: what a person types, and nothing else.
