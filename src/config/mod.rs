//! Settings: defaults, then a file, then the environment; every problem reported at once.
