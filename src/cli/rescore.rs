//! `scoreline rescore`: features, scores and profiles brought up to date once, without a server.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, print};
use crate::app::{jobs, stored};
use crate::config::Settings;
use crate::worker::features::{FoldedPass, Whose};
use crate::worker::rescore::Rescored;
use crate::worker::write_back::WrittenBack;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct RescoreArgs {
    /// Compute everybody's features anew, not only those that may have changed
    #[arg(long)]
    all: bool,
}

const HELP: &str = "\
Examples:
  scoreline extract --once && scoreline rescore
  scoreline rescore --all

`scoreline serve` does this by itself after each extraction. While a server runs on the same file, ask it instead:
  curl -X POST 127.0.0.1:8081/admin/jobs/features/run";

impl RescoreArgs {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let whose = if self.all { Whose::Everybody } else { Whose::Due };
        let (folded, rescored, written) = stored::run_until_signal(jobs::rescore_once(settings, whose))?;
        print(&summary(&folded, &rescored, written.as_ref()))
    }
}

fn summary(folded: &FoldedPass, rescored: &Rescored, written: Option<&WrittenBack>) -> String {
    let mut text = String::new();
    let seconds = folded.elapsed.as_secs_f64();
    let rate = folded.interactions_per_second();
    let FoldedPass { customers, interactions, purchases, .. } = folded;
    let _ = writeln!(
        text,
        "features: {customers} customers, {interactions} interactions and {purchases} purchases in {seconds:.1} s \
         ({rate:.0} interactions/s)"
    );
    let Rescored { customers, cold, failed, wishes, elapsed } = rescored;
    let seconds = elapsed.as_secs_f64();
    let _ = writeln!(
        text,
        "scores: {customers} customers in {seconds:.1} s, {cold} of them without history, {failed} not scored; {wishes} \
         profiles changed"
    );
    let _ = match written {
        Some(WrittenBack { written, edited, failed, dead }) => {
            let edited = if *edited > 0 { format!(" ({edited} changed by somebody else)") } else { String::new() };
            writeln!(text, "written back: {written}{edited}, {failed} to be tried again, {dead} given up")
        }
        None => writeln!(text, "written back: nothing, `write_back.sink` is `none`"),
    };
    text
}
