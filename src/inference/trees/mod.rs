//! Tree ensembles compiled to flat arrays.
