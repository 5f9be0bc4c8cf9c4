//! Leak checks that need what a training run knows, and `check` on any CSV. The checks of columns are
//! `scoreline::packing::leaks`.

pub(crate) mod as_of;
pub(crate) mod command;
pub(crate) mod null_set;
pub(crate) mod training;
