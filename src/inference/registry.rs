//! What is loaded and what serves.
