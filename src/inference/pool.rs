//! Backends that need threads of their own, behind a bounded queue.
