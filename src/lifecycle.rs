//! Signals, stop tokens and supervised tasks.
