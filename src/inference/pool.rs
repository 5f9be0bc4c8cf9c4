//! Backends that need threads of their own, behind a bounded queue.
use super::backend::*;
use std::time::Duration;
pub struct Pool;
impl Pool {
    pub fn start(_: &str, _: Vec<Box<dyn Backend>>, _: usize) -> Self {
        Self
    }
    pub fn inputs(&self) -> usize {
        0
    }
    pub fn outputs(&self) -> &[String] {
        &[]
    }
    pub fn predict_blocking(&self, _: Vec<f64>) -> Result<Vec<f64>, BackendError> {
        Err(BackendError::Overloaded)
    }
    pub async fn predict(&self, _: Vec<f64>, _: Duration) -> Result<Vec<f64>, BackendError> {
        Err(BackendError::Overloaded)
    }
}
