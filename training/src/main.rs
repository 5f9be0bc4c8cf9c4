//! `scoreline-training`: trains, calibrates and packs the model bundles that scoreline serves.

fn main() {}
