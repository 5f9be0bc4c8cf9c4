//! The doctor of an organisation, for a command: asked once, and whatever it tried is undone, also when it is interrupted.

use anyhow::{Context as _, anyhow};

use super::jobs;
use crate::config::Settings;
use crate::lifecycle::Signals;
use scoreline_domain::privacy::IdHasher;
use scoreline_genesys::doctor::{Examination, Finding};

/// Examines the organisation of the settings until a signal comes.
///
/// # Errors
/// When there is none, or a signal came.
pub fn examine(settings: &Settings, wanted: &Examination) -> anyhow::Result<Vec<Finding>> {
    // Nothing of a customer is asked for, so nobody is hashed.
    let platform = jobs::platform(settings, &settings.privacy, IdHasher::new(&settings.privacy))?;
    let mut doctor = platform.context("there is no organisation to look at: set `[genesys]`")?.doctor();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("runtime cannot start")?.block_on(async {
        let mut signals = Signals::listen();
        let signal = tokio::select! {
            () = doctor.examine(wanted) => return Ok(doctor.findings()),
            signal = signals.next() => signal,
        };
        doctor.leave().await;
        Err(anyhow!("interrupted by {signal}"))
    })
}
