//! `scoreline genesys`: what belongs to the platform that scores go to: a simulated one, what it needs, and what is wrong with it.

mod doctor;
mod export;
mod simulate;

use clap::Subcommand;

use super::{Failure, print};
use crate::config::SettingsSource;

#[derive(Debug, Subcommand)]
pub(super) enum GenesysCommand {
    /// Serve a simulated platform: history, sentiment, profiles, contact lists, with faults by script
    Simulate(Box<simulate::Simulate>),
    /// Write files for the platform: data actions, routing rules, a campaign that calls the best lead first
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Say what will not work with the organisation, and what to do about it
    Doctor(doctor::DoctorArgs),
}

impl GenesysCommand {
    pub(super) fn run(self, source: &SettingsSource) -> Result<(), Failure> {
        match self {
            // Needs no settings, and none that are wrong keep it from starting.
            Self::Simulate(simulate) => simulate.run(),
            Self::Export(command) => command.run(&source.read()?.settings),
            Self::Doctor(doctor) => doctor.run(&source.read()?.settings),
        }
    }
}
