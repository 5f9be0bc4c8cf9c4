//! `scoreline features`: what there is to know of a customer, purchases into the store, training data out of it.

mod catalogue;
mod export;
mod import;
mod table;

use clap::Subcommand;

use super::Failure;
use crate::config::Settings;

#[derive(Debug, Subcommand)]
pub(super) enum FeaturesCommand {
    /// Show every feature with its unit, range and what counts as of a time
    Catalogue(catalogue::Catalogue),
    /// Take a log of purchases (CSV, NDJSON, Parquet or Arrow) into the store
    ImportPurchases(import::Import),
    /// Write training data: features as of a time, and what was spent after it
    Export(export::Export),
}

impl FeaturesCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        match self {
            Self::Catalogue(catalogue) => catalogue.run(),
            Self::ImportPurchases(import) => import.run(settings),
            Self::Export(export) => export.run(settings),
        }
    }
}
