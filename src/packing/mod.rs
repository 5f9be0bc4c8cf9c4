//! From a model file to a bundle: calibrated, measured on customers it had not seen, written with its golden rows.
//!
//! A model's statistics, calibration, baselines, drift reference and golden rows become a bundle (`assemble`); the golden
//! answers come from the library that will serve it. Columns that know the outcome are looked for first (`leaks`). The
//! bundle's figures come from the server's own code (`quality`). A model from elsewhere (`pack`) is compared with what its
//! own library predicts (`library`), and no bundle with nonsensical errors is published without a reason.
//!
//! Training of our own models stands on this, in a crate of its own.

pub mod assemble;
mod baseline;
pub mod calibrate;
pub mod drift;
pub mod fitted;
pub mod html;
pub mod leaks;
pub(crate) mod library;
mod logit;
pub mod luck;
pub mod metrics;
mod order;
pub(crate) mod pack;
pub mod quality;
pub mod report;
pub mod split;
pub mod statistics;
pub mod table;

use self::assemble::Staged;
pub use self::baseline::{Peer, weights};
use self::leaks::LeakReport;
use self::quality::Quality;
use self::table::Row;

/// A finished run: the bundle, not published yet, and how good it is.
pub struct Trained {
    pub staged: Staged,
    /// The whole first, then each partial one.
    pub quality: Vec<Quality>,
    pub leaks: LeakReport,
    /// What the report draws.
    pub evidence: html::run::Evidence,
    /// How it answers beside its own library, when that was asked.
    pub checked: Option<String>,
}

/// The customers that baselines describe.
pub fn peers<'r>(rows: &[&'r Row]) -> Vec<Peer<'r>> {
    let peers = rows.iter().map(|row| Peer {
        spend_usd: row.spend_usd,
        acquisition_channel: &row.acquisition_channel,
        segment: &row.segment,
    });
    peers.collect()
}
