//! `scoreline-training`: trains, calibrates and packs the model bundles that scoreline serves.

mod assemble;
mod baseline;
mod calibrate;
mod cdnow;
mod cli;
mod cohort;
mod fit;
mod forest;
mod generator;
mod lead;
mod metrics;
mod normal;
mod pack;
mod product;
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
