//! `scoreline-training`: trains the model bundles that scoreline ships.
//!
//! A model's birth: raw data are folded into features with the server's own code. Columns that know the outcome are looked
//! for (`leaks`). The model is fitted on all customers. It is calibrated on predictions of each customer by
//! a model that had not seen them (`folds`). The same procedure without one fold of customers, run through the server's
//! own code, gives the reported figures (`train`). What makes a bundle of a model is `scoreline::packing`.

mod btyd;
mod cdnow;
mod cli;
mod cohort;
mod compare;
mod fit;
mod flips;
mod folds;
mod forest;
mod generator;
mod lead;
mod leaks;
mod product;
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
