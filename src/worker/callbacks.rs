//! Answers that somebody waits for are told: signed, again and again with longer pauses, until the receiver takes them or a
//! day is over. A kill costs a callback that is told twice, under the same id.

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use jiff::SignedDuration;
use metrics::{counter, describe_counter};
use serde_json::value::RawValue;

use super::JobError;
use super::backoff::{Pauses, after};
use super::lease::{HeldLease, Leases};
use super::predictions::{KEPT_FOR, report};
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use crate::sinks::SinkFault;
use crate::sinks::callback::{Callbacks, QuestionBody, QuestionReport};
use scoreline_domain::JobName;
use scoreline_domain::time::Timestamp;
use scoreline_store::{CallbackOutcome, DueCallback, QuestionStage};

/// Callbacks that are told at a time: a receiver that does not answer holds up no more.
const AT_ONCE: usize = 32;
const PAUSES: Pauses = Pauses { first: Duration::from_secs(5), most: Duration::from_hours(1) };
/// How long a callback is tried.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Tells what is due.
#[derive(Clone)]
pub struct TellCallbacks {
    pub leases: Leases,
    pub callbacks: Callbacks,
}

impl TellCallbacks {
    async fn pass(&self, held: &HeldLease, progress: &JobProgress) -> Result<(), JobError> {
        let (store, clock) = (self.leases.store(), self.leases.clock());
        loop {
            let due = store.due_callbacks(clock.now(), AT_ONCE).await?;
            if due.is_empty() {
                return Ok(());
            }
            let told = join_all(due.iter().map(|due| self.tell(due))).await;
            let now = clock.now();
            let mut settled = Vec::with_capacity(due.len());
            for (due, told) in due.into_iter().zip(told) {
                let (result, outcome) = outcome(&due, told, now);
                progress.add(result, 1);
                counter!("scoreline_callbacks_total", "result" => result).increment(1);
                settled.push((due.id, outcome));
            }
            store.settle_callbacks(&settled, after(now, KEPT_FOR), held.lease()).await?;
        }
    }

    async fn tell(&self, due: &DueCallback) -> Result<(), SinkFault> {
        let DueCallback { id, callback, refused, answer, accepted_at, finished_at, .. } = due;
        let unreadable = |_| SinkFault::Dead { reason: "its answer is of another version".to_owned() };
        let answer: &RawValue = serde_json::from_str(answer).map_err(unreadable)?;
        let job = QuestionBody::new(id, *accepted_at, Some((*finished_at, *refused)));
        let report = QuestionReport { job, answer: Some(answer) };
        self.callbacks.tell(callback, id, serde_json::to_vec(&report).map_err(unreadable)?).await
    }
}

fn outcome(due: &DueCallback, told: Result<(), SinkFault>, now: Timestamp) -> (&'static str, CallbackOutcome) {
    match told {
        Ok(()) => ("told", CallbackOutcome::Told),
        Err(SinkFault::Dead { reason }) => ("dead", CallbackOutcome::GivenUp { reason: reason.into() }),
        Err(SinkFault::Retry { reason, .. }) if now.duration_since(due.finished_at) > GIVE_UP_AFTER => {
            ("dead", CallbackOutcome::GivenUp { reason: format!("given up: {reason}").into() })
        }
        Err(SinkFault::Retry { after: asked, reason }) => {
            let at = after(now, asked.max(PAUSES.after(due.attempts, fastrand::f64())));
            ("failed", CallbackOutcome::Retry { reason: reason.into(), at })
        }
    }
}

impl Job for TellCallbacks {
    fn name(&self) -> JobName {
        JobName::Callbacks
    }

    fn activate<'a>(&'a self, _: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            let (store, now) = (self.leases.store(), self.leases.clock().now());
            let next = store.next_question(QuestionStage::Telling).await?;
            if next.is_none_or(|at| at > now) {
                return Ok(JobEnd::Idle { until: next });
            }
            let Some(held) = self.leases.take(JobName::Callbacks).await? else { return Ok(JobEnd::Elsewhere) };
            held.during(self.pass(&held, progress)).await?;
            report(store).await?;
            Ok(JobEnd::Done)
        })
    }
}

/// Tells the recorder what the metrics of callbacks mean.
pub(super) fn describe() {
    describe_counter!(
        "scoreline_callbacks_total",
        "Attempts to tell a callback, by how they ended: told, failed, dead."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(attempts: u32) -> DueCallback {
        DueCallback {
            id: "id".to_owned(),
            callback: "https://hooks.example.com".to_owned(),
            refused: false,
            answer: "{}".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            attempts,
        }
    }

    #[test]
    fn pauses_double_up_to_an_hour_unless_the_receiver_asks_for_more() {
        let first = Duration::from_secs(5);
        assert_eq!((PAUSES.after(0, 1.0), PAUSES.after(1, 1.0), PAUSES.after(1, 0.0)), (first, 2 * first, first));
        assert_eq!(PAUSES.after(500, 1.0), Duration::from_hours(1));
        let asked = SinkFault::Retry { after: Duration::from_mins(7), reason: "it answered 429".to_owned() };
        let (result, outcome) = outcome(&due(0), Err(asked), Timestamp::UNIX_EPOCH);
        let at = after(Timestamp::UNIX_EPOCH, Duration::from_mins(7));
        assert_eq!((result, outcome), ("failed", CallbackOutcome::Retry { reason: "it answered 429".into(), at }));
    }

    #[test]
    fn a_callback_is_given_up_after_a_day_and_not_before() {
        let failing = || Err(SinkFault::Retry { after: Duration::ZERO, reason: "it answered 500".to_owned() });
        let hours = |hours| after(Timestamp::UNIX_EPOCH, Duration::from_hours(hours));
        assert_eq!(outcome(&due(30), failing(), hours(23)).0, "failed");
        let (result, outcome) = outcome(&due(30), failing(), hours(25));
        assert_eq!(
            (result, outcome),
            ("dead", CallbackOutcome::GivenUp { reason: "given up: it answered 500".into() })
        );
    }
}
