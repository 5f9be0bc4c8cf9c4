//! `scoreline status`: what is in the store, beside whoever uses it.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, print};
use crate::app::{jobs, stored};
use crate::config::Settings;
use scoreline_genesys::source::Position;
use scoreline_store::{OutboxCounts, Store, StoreCounts, StoreError, WishState};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  scoreline status\n\nA running server knows more: curl 127.0.0.1:8081/admin/jobs")]
pub(super) struct StatusArgs {
    /// Failed writes to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures: usize,
}

/// Sources an extraction may have a position of.
const SOURCES: [&str; 2] = ["platform", "documented"];

impl StatusArgs {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let target = jobs::target(settings);
        let text = stored::run_until_signal(async {
            let store = stored::open_to_read(settings).await?;
            let text = describe(&store, target, self.failures).await;
            store.close().await;
            Ok(text?)
        })?;
        print(&text)
    }
}

async fn describe(store: &Store, target: Option<&str>, failures: usize) -> Result<String, StoreError> {
    let StoreCounts { customers, interactions, purchases, features, scores, dirty } = store.counts().await?;
    let mut text = String::new();
    let _ = writeln!(text, "customers     {customers}");
    // A store of the version before keeps no word of it.
    let left = store.keys_to_change().await.unwrap_or(0);
    if left > 0 {
        let _ = writeln!(text, "pepper        {left} customers have still a key of the one before: a start goes on");
    }
    let oldest =
        store.oldest_interaction().await?.map_or_else(String::new, |oldest| format!(", the oldest of {oldest}"));
    let _ = writeln!(text, "interactions  {interactions}{oldest}");
    let _ = writeln!(text, "purchases     {purchases}");
    let _ = writeln!(text, "features      {features}, {dirty} customers have changed since");
    let _ = writeln!(text, "scores        {scores}");
    // Neither does one of the version before that.
    let questions = store.replay_count().await.unwrap_or(0);
    if questions > 0 {
        let _ = writeln!(text, "replay log    {questions} questions");
    }
    for source in SOURCES {
        if let Some((kept, at)) = store.position(source).await? {
            let _ = writeln!(text, "extraction    {source}, {}, kept {at}", position(&kept));
        }
    }
    let Some(target) = target else {
        let _ = writeln!(text, "write-back    none: `write_back.sink` is `none`");
        return Ok(text);
    };
    let OutboxCounts { pending, failing, applied, absent, dead, .. } = store.outbox_counts(target).await?;
    let _ = writeln!(
        text,
        "write-back    {target}: {applied} written, {pending} waiting, {failing} of them failed before, {absent} without a \
         contact, {dead} given up"
    );
    for failure in store.failed_writes(target, failures).await? {
        let is_over = failure.state == WishState::Dead;
        let state = if is_over { "given up".to_owned() } else { format!("again {}", failure.next_at) };
        let (key, attempts, reason) = (failure.key, failure.attempts, failure.reason);
        let _ = writeln!(text, "  {key:?} {state} after {attempts} attempts: {reason}");
    }
    Ok(text)
}

fn position(kept: &str) -> String {
    let Ok(position) = serde_json::from_str::<Position>(kept) else { return "of another version".to_owned() };
    let window = position.window();
    if let Some(outcome) = position.outcome() {
        let read = outcome.totals.rows;
        return format!(
            "complete up to {}, the last run read {read} conversations since {}",
            outcome.watermark, window.from
        );
    }
    let percent = (position.progress() * 100.0) as u32;
    format!("{percent} % of {} to {}, {}", window.from, window.to, position.phase())
}
