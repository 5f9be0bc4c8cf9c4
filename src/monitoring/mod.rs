//! What happens to a model after it serves: drift of its inputs and scores, and how its answers turned out.

pub mod chi_square;
pub mod counts;
pub mod drift;
pub mod psi;
pub mod window;

pub use drift::DriftMonitor;
pub use window::WindowSettings;
