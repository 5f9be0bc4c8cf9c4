//! `scoreline-training`: trains, calibrates and packs the model bundles that scoreline serves.

mod assemble;
mod baseline;
mod btyd;
mod calibrate;
mod cdnow;
mod cli;
mod cohort;
mod compare;
mod drift;
mod fit;
mod flips;
mod folds;
mod forest;
mod generator;
mod html;
mod lead;
mod leaks;
mod logit;
mod metrics;
mod pack;
mod product;
mod quality;
mod report;
mod split;
mod statistics;
mod table;
mod train;
mod tweedie;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
