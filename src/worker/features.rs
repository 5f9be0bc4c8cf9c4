//! Histories become feature vectors: of customers something was recorded of, of those whose vector changes because time
//! passes, and of those whose queues' sentiment stands in for their own. One pass, page by page: memory does not grow with
//! the number of customers.
//!
//! Features are sums of whole numbers: milliseconds, millionths of sentiment, label numbers. Their value does not
//! depend on the order of rows, and an incremental pass equals a full one bit for bit.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use metrics::{counter, describe_counter};
use serde::{Deserialize, Serialize};

use super::lease::{HeldLease, Leases};
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use super::{JobError, position};
use scoreline_domain::JobName;
use scoreline_domain::text::hex;
use scoreline_domain::time::{Stopwatch, Timestamp};
use scoreline_engine::features::interactions::{LOOK_BACK_DAYS, QueueSentiment, QueueSum};
use scoreline_engine::features::{CustomerFold, catalogue_row};
use scoreline_store::{Computed, Cursor, FeatureRow, History, Saved, ScanRequest, Which};

/// Interactions of a page: some ten megabytes.
const PAGE: usize = 50_000;
/// Where it is kept what all vectors were made with.
const MADE_WITH_KEPT: &str = "features";

/// Folds histories.
#[derive(Clone)]
pub struct FeaturePass {
    leases: Leases,
}

/// What a complete pass made all vectors with that depend on more than their customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MadeWith {
    /// The mark of the catalogue: rows of another one cannot be read.
    catalogue: String,
    /// Label, scored interactions and the sum of their scores of each queue; absent while a pass takes others in.
    queues: Option<Vec<(u32, i64, i64)>>,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldedPass {
    pub customers: u64,
    pub interactions: u64,
    pub purchases: u64,
    /// Vectors that were kept.
    pub written: u64,
    /// Customers of whom more was recorded during the pass: the next one comes back to them.
    pub still_due: u64,
    pub elapsed: Duration,
}

/// Whose vectors are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of those whose vector may differ from what is kept.
    Due,
    Everybody,
}

impl FeaturePass {
    pub fn new(leases: Leases) -> Self {
        Self { leases }
    }

    /// One pass as of now, telling `observe` after each page. `None` while another process is at it.
    ///
    /// # Errors
    /// When the store does not answer. What was kept stays, and the next pass does the rest.
    pub async fn run(
        &self,
        whose: Whose,
        observe: impl FnMut(&FoldedPass) + Send,
    ) -> Result<Option<FoldedPass>, JobError> {
        let Some(held) = self.leases.take(JobName::Features).await? else { return Ok(None) };
        held.during(self.pass(&held, whose, observe)).await.map(Some)
    }

    async fn pass(
        &self,
        held: &HeldLease,
        whose: Whose,
        mut observe: impl FnMut(&FoldedPass) + Send,
    ) -> Result<FoldedPass, JobError> {
        let watch = Stopwatch::start();
        let (store, clock) = (self.leases.store(), self.leases.clock());
        let as_of = clock.now();
        let window = PassWindow {
            as_of,
            from: as_of.checked_sub(SignedDuration::from_hours(24 * LOOK_BACK_DAYS)).unwrap_or(Timestamp::MIN),
        };
        let sums = store.queue_sums(window.as_of, window.from).await?;
        let sums = sums.iter().map(|sum| (sum.queue, QueueSum { scored: sum.scored, millionths: sum.sum_millionths }));
        let queues = Arc::new(QueueSentiment::from_sums(sums));
        let made_with = MadeWith { catalogue: catalogue(), queues: Some(sums_of(&queues)) };
        let known = position::kept::<MadeWith>(&self.leases, MADE_WITH_KEPT).await?;
        let filled = known.as_ref().is_none_or(|known| known.queues != made_with.queues);
        let which = match whose {
            Whose::Due if known.as_ref().is_some_and(|known| known.catalogue == made_with.catalogue) => {
                Which::Due { as_of, filled }
            }
            // Rows of another catalogue cannot be read.
            Whose::Due | Whose::Everybody => Which::All,
        };
        if filled && let Some(known) = &known {
            // From here on some rows are made with the old sums and some with the new ones.
            position::keep(&self.leases, held, MADE_WITH_KEPT, &MadeWith { queues: None, ..known.clone() }).await?;
        }

        let mut folded = FoldedPass::default();
        let mut after: Option<Cursor> = None;
        loop {
            let scan = ScanRequest { which, after, interactions: PAGE, since: Some(window.from) };
            let page = store.scan(&scan).await?;
            after = page.next;
            if !page.histories.is_empty() {
                let (computed, counts) = self.fold(page.histories, as_of, &queues).await?;
                let Saved { written, still_dirty, .. } = store.save_features(&computed, Some(held.lease())).await?;
                folded.customers += counts.customers;
                folded.interactions += counts.interactions;
                folded.purchases += counts.purchases;
                folded.written += written;
                folded.still_due += still_dirty;
                folded.elapsed = watch.elapsed();
                counter!("scoreline_features_customers_total").increment(counts.customers);
                counter!("scoreline_features_interactions_total").increment(counts.interactions);
                observe(&folded);
            }
            if after.is_none() {
                break;
            }
        }
        if known.as_ref() != Some(&made_with) {
            position::keep(&self.leases, held, MADE_WITH_KEPT, &made_with).await?;
        }
        folded.elapsed = watch.elapsed();
        folded.report();
        Ok(folded)
    }

    /// On a thread that may be busy for a while: the requests' own are not.
    async fn fold(
        &self,
        histories: Vec<History>,
        as_of: Timestamp,
        queues: &Arc<QueueSentiment>,
    ) -> Result<(Vec<Computed>, FoldedPass), JobError> {
        let queues = Arc::clone(queues);
        let folded = tokio::task::spawn_blocking(move || fold(&histories, as_of, &queues)).await;
        folded.map_err(|_| JobError::Panicked { doing: "folding histories" })
    }
}

/// The look-back window of a pass.
#[derive(Clone, Copy, Debug)]
struct PassWindow {
    as_of: Timestamp,
    from: Timestamp,
}

impl Job for FeaturePass {
    fn name(&self) -> JobName {
        JobName::Features
    }

    fn activate<'a>(&'a self, _: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            let observe = |folded: &FoldedPass| {
                progress.set("customers", folded.customers);
                progress.set("interactions", folded.interactions);
                progress.set("written", folded.written);
            };
            Ok(self.run(Whose::Due, observe).await?.map_or(JobEnd::Elsewhere, |_| JobEnd::Done))
        })
    }
}

impl FoldedPass {
    pub fn interactions_per_second(&self) -> f64 {
        self.interactions as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn report(&self) {
        if self.customers > 0 {
            let Self { customers, interactions, purchases, written, .. } = *self;
            let seconds = self.elapsed.as_secs_f64();
            let rate = self.interactions_per_second() as u64;
            tracing::info!(customers, interactions, purchases, written, seconds, rate, "features were computed");
        }
    }
}

/// The mark that rows of this program's catalogue begin with.
fn catalogue() -> String {
    let bytes = catalogue_row::to_bytes(&catalogue_row::row(None, None));
    hex(&bytes[..8])
}

fn sums_of(queues: &QueueSentiment) -> Vec<(u32, i64, i64)> {
    queues.sums().iter().map(|(queue, sum)| (queue.0, sum.scored.cast_signed(), sum.millionths)).collect()
}

fn fold(histories: &[History], as_of: Timestamp, queues: &QueueSentiment) -> (Vec<Computed>, FoldedPass) {
    let mut fold = CustomerFold::as_of(as_of);
    let mut counts = FoldedPass::default();
    let mut computed = Vec::with_capacity(histories.len());
    for history in histories {
        fold.clear();
        for interaction in history.interaction_rows() {
            // The store keeps none that ends before it starts.
            counts.interactions += u64::from(fold.interaction(&interaction).is_ok());
        }
        for purchase in history.purchase_rows() {
            // Nor a purchase that cannot be, and it hands them out in the order of their days.
            counts.purchases += u64::from(fold.purchase(&purchase).is_ok());
        }
        counts.customers += 1;
        let vector = fold.vector(queues);
        computed.push(Computed {
            number: history.number,
            mark: history.mark,
            features: Some(FeatureRow {
                as_of: vector.as_of,
                vector: Box::new(catalogue_row::to_bytes(&vector.values)),
                next_change_at: vector.next_change_at,
                fills_from_queue: vector.depends_on_queues,
            }),
        });
    }
    (computed, counts)
}

/// Tells the recorder what the metrics of the pass mean.
pub(super) fn describe() {
    describe_counter!("scoreline_features_customers_total", "Customers whose features were computed.");
    describe_counter!("scoreline_features_interactions_total", "Interactions that were folded into features.");
}
