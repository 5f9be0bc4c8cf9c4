//! Questions that came to be answered later: taken from the store, answered as a live call is, and kept there with their
//! answers. A kill costs a question that is answered twice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::JobError;
use super::backoff::after;
use super::lease::{HeldLease, Leases};
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use scoreline_domain::JobName;
use scoreline_domain::time::Timestamp;
use scoreline_store::{QuestionAnswer, QuestionCounts, QuestionStage, Store, WaitingQuestion};

/// Questions of one transaction.
const PAGE: usize = 256;
/// Questions that are answered before others may have the thread.
const SPELL: usize = 16;
/// A model that has no time now is asked again after so long.
const AGAIN: Duration = Duration::from_secs(5);
/// From this age on a question takes whatever answer there is.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// How long an answer can be looked at.
pub(super) const KEPT_FOR: Duration = Duration::from_hours(24);

/// Answers one question; `None` when the model has no time for it now, and the question can wait (the second argument).
pub type AnswerLater = Arc<dyn Fn(WaitingQuestion, bool) -> BoxFuture<'static, Option<QuestionAnswer>> + Send + Sync>;

/// Answers what waits.
#[derive(Clone)]
pub struct Predictions {
    pub leases: Leases,
    pub answer: AnswerLater,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AnsweredPass {
    answered: u64,
    refused: u64,
    postponed: u64,
}

impl Predictions {
    async fn pass(&self, held: &HeldLease, progress: &JobProgress) -> Result<AnsweredPass, JobError> {
        let (store, clock) = (self.leases.store(), self.leases.clock());
        let mut done = AnsweredPass::default();
        loop {
            let waiting = store.waiting_questions(clock.now(), PAGE).await?;
            if waiting.is_empty() {
                break;
            }
            let (answers, postponed) = self.answer_all(waiting, clock.now()).await;
            let now = clock.now();
            done.refused += answers.iter().filter(|answer| answer.refused).count() as u64;
            done.answered += answers.iter().filter(|answer| !answer.refused).count() as u64;
            done.postponed += postponed.len() as u64;
            store.answer_questions(&answers, now, after(now, KEPT_FOR), held.lease()).await?;
            store.postpone_questions(&postponed, after(now, AGAIN), held.lease()).await?;
            progress.set("answered", done.answered);
            progress.set("refused", done.refused);
            progress.set("postponed", done.postponed);
        }
        for (result, count) in [("answered", done.answered), ("refused", done.refused), ("postponed", done.postponed)] {
            counter!("scoreline_questions_total", "result" => result).increment(count);
        }
        Ok(done)
    }

    async fn answer_all(&self, waiting: Vec<WaitingQuestion>, now: Timestamp) -> (Vec<QuestionAnswer>, Vec<String>) {
        let mut answers = Vec::with_capacity(waiting.len());
        let mut postponed = Vec::new();
        for (number, question) in waiting.into_iter().enumerate() {
            if number % SPELL == SPELL - 1 {
                tokio::task::yield_now().await;
            }
            let id = question.id.clone();
            let can_wait = now.duration_since(question.accepted_at) < PATIENCE;
            match (self.answer)(question, can_wait).await {
                Some(answer) => answers.push(answer),
                None => postponed.push(id),
            }
        }
        (answers, postponed)
    }
}

impl Job for Predictions {
    fn name(&self) -> JobName {
        JobName::Predictions
    }

    fn activate<'a>(&'a self, _: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            let (store, now) = (self.leases.store(), self.leases.clock().now());
            if store.next_question(QuestionStage::Over).await?.is_some_and(|at| at <= now) {
                store.forget_questions(now).await?;
            }
            let next = store.next_question(QuestionStage::Waiting).await?;
            if next.is_none_or(|at| at > now) {
                report(store).await?;
                return Ok(JobEnd::Idle { until: next });
            }
            let Some(held) = self.leases.take(JobName::Predictions).await? else { return Ok(JobEnd::Elsewhere) };
            held.during(self.pass(&held, progress)).await?;
            report(store).await?;
            Ok(JobEnd::Done)
        })
    }
}

/// Sets the gauges of what waits.
pub(super) async fn report(store: &Store) -> Result<(), JobError> {
    let QuestionCounts { waiting, telling, over } = store.question_counts().await?;
    for (stage, count) in [("waiting", waiting), ("telling", telling), ("over", over)] {
        gauge!("scoreline_questions_kept", "stage" => stage).set(count as f64);
    }
    Ok(())
}

/// Tells the recorder what the metrics of questions mean.
pub(super) fn describe() {
    describe_counter!("scoreline_questions_total", "Questions that were to be answered later, by what became of them.");
    describe_gauge!("scoreline_questions_kept", "Questions in the store: waiting, telling their callback, over.");
}
