//! How a bench is run and summed up.

/// Smallest, median and largest, as `[min, median, max]` with the median in the middle.
pub fn median_of(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// `cargo bench -- --test`: run everything once, measure nothing.
pub fn is_smoke() -> bool {
    std::env::args().any(|argument| argument == "--test")
}
