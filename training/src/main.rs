//! `scoreline-training`: trains, calibrates and packs the model bundles that scoreline serves.
//!
//! A model's birth: raw data are folded into features with the server's own code. Columns that know the outcome are looked
//! for (`leaks`). The model is fitted on all customers. It is calibrated on predictions of each customer by
//! a model that had not seen them (`folds`). The same procedure without one fold of customers, run through the server's
//! own code, gives the reported figures (`quality`, `train`). Model, statistics, calibration, baselines, drift
//! reference and golden rows become a bundle (`assemble`); the golden answers come from the library that will serve it. A model from elsewhere is compared with what its
//! own library predicts (`library`), and no bundle with nonsensical errors is published without a reason.

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
mod library;
mod logit;
mod metrics;
mod order;
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
