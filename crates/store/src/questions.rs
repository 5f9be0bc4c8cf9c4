//! Questions that are answered later: kept until they are answered, their callback is told, and a while longer so that
//! whoever asked can look. Erasing a customer takes their questions and answers with it.
//!
//! One runner answers and one tells, each under its lease, so a row needs no claim: what is written under a lost lease
//! fails, and a kill costs a question that is answered twice or a callback that is told twice, never one that is lost.

use super::Store;
use super::customers::erased;
use super::db::{Arg, DbRow};
use super::error::StoreError;
use super::leases::Lease;
use super::positions::check_lease;
use super::time;
use scoreline_domain::CustomerKey;
use scoreline_domain::time::Timestamp;

/// A question as it comes.
#[derive(Clone, Copy, Debug)]
pub struct NewQuestion<'a> {
    pub id: &'a str,
    pub customer: Option<CustomerKey>,
    /// JSON without an identifier.
    pub request: &'a str,
    /// Whom to tell; nobody when absent.
    pub callback: Option<&'a str>,
    pub accepted_at: Timestamp,
}

/// What became of a question that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionRuling {
    Kept,
    /// The customer was erased.
    Erased,
    /// There are as many as may be.
    Full,
}

/// A question that waits for its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingQuestion {
    pub id: String,
    pub customer: Option<CustomerKey>,
    pub request: String,
    pub accepted_at: Timestamp,
}

/// An answer to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionAnswer {
    pub id: String,
    /// Whether the question could not be answered as asked; then the answer says why.
    pub refused: bool,
    /// JSON.
    pub answer: String,
}

/// A callback to be told now.
#[derive(Clone, Debug, PartialEq)]
pub struct DueCallback {
    pub id: String,
    pub callback: String,
    pub refused: bool,
    pub answer: String,
    pub accepted_at: Timestamp,
    pub finished_at: Timestamp,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// What became of an attempt to tell a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackOutcome {
    Told,
    /// Again at that time. The reason must not name the customer.
    Retry {
        reason: Box<str>,
        at: Timestamp,
    },
    GivenUp {
        reason: Box<str>,
    },
}

/// Where a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionStage {
    Waiting,
    /// Answered, and its callback is not told yet.
    Telling,
    Over,
}

/// A question as whoever asked it may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptQuestion {
    pub stage: QuestionStage,
    pub accepted_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub refused: bool,
    /// JSON; empty before there is one.
    pub answer: String,
    pub has_callback: bool,
    /// Whether the callback was told.
    pub told: bool,
    /// Attempts to tell it.
    pub attempts: u32,
    /// Why the last one failed; empty when it did not.
    pub last_error: String,
    /// When the stage goes on.
    pub next_at: Timestamp,
}

/// How many questions are in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuestionCounts {
    pub waiting: u64,
    pub telling: u64,
    pub over: u64,
}

impl QuestionStage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Telling => "telling",
            Self::Over => "over",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        let all = [Self::Waiting, Self::Telling, Self::Over];
        let found = all.into_iter().find(|stage| stage.as_str() == text);
        found.ok_or_else(|| StoreError::Unreadable { column: "questions.stage", value: text.to_owned() })
    }
}

impl Store {
    /// Keeps a question, unless there are `most` already.
    ///
    /// # Errors
    /// When it is not kept, or that is not known.
    pub async fn ask_question(&self, question: &NewQuestion<'_>, most: u64) -> Result<QuestionRuling, StoreError> {
        const ADD: &str = "INSERT INTO questions (id, customer, request, callback, stage, next_ms, accepted_ms, refused, \
                           answer, told, attempts, last_error) VALUES ($1, $2, $3, $4, 'waiting', $5, $5, 0, '', 0, 0, '')";
        let mut tx = self.write("asked a question").await?;
        let row = tx.row("SELECT COUNT(*) FROM questions", &[]).await?;
        if row.map_or(Ok(0), |row| row.int(0))?.cast_unsigned() >= most {
            return Ok(QuestionRuling::Full);
        }
        if !erased(&mut tx, question.customer.into_iter().collect()).await?.is_empty() {
            return Ok(QuestionRuling::Erased);
        }
        let customer = question.customer.as_ref().map_or(&[][..], |customer| customer.as_bytes());
        let args = [
            Arg::Text(question.id),
            Arg::Bytes(customer),
            Arg::Text(question.request),
            Arg::Text(question.callback.unwrap_or_default()),
            Arg::Int(question.accepted_at.as_millisecond()),
        ];
        tx.run(ADD, &args).await?;
        tx.commit().await?;
        Ok(QuestionRuling::Kept)
    }

    /// Where a question stands; `None` for one that is not known, or no longer.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn question(&self, id: &str) -> Result<Option<KeptQuestion>, StoreError> {
        const FIND: &str = "SELECT stage, accepted_ms, finished_ms, refused, answer, callback, told, attempts, last_error, \
                            next_ms FROM questions WHERE id = $1";
        let mut tx = self.read("read").await?;
        let kept = |row: DbRow| {
            Ok(KeptQuestion {
                stage: QuestionStage::parse(row.text(0)?)?,
                accepted_at: time(row.int(1)?, "questions.accepted_ms")?,
                finished_at: row.opt_int(2)?.map(|ms| time(ms, "questions.finished_ms")).transpose()?,
                refused: row.int(3)? == 1,
                answer: row.text(4)?.to_owned(),
                has_callback: !row.text(5)?.is_empty(),
                told: row.int(6)? == 1,
                attempts: count(row.int(7)?),
                last_error: row.text(8)?.to_owned(),
                next_at: time(row.int(9)?, "questions.next_ms")?,
            })
        };
        tx.row(FIND, &[Arg::Text(id)]).await?.map(kept).transpose()
    }

    /// When the first question of a stage goes on; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next_question(&self, stage: QuestionStage) -> Result<Option<Timestamp>, StoreError> {
        let mut tx = self.read("read").await?;
        let row = tx.row("SELECT MIN(next_ms) FROM questions WHERE stage = $1", &[Arg::Text(stage.as_str())]).await?;
        let ms = row.map(|row| row.opt_int(0)).transpose()?.flatten();
        ms.map(|ms| time(ms, "questions.next_ms")).transpose()
    }

    /// Questions to be answered by now, the longest waiting first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn waiting_questions(&self, now: Timestamp, limit: usize) -> Result<Vec<WaitingQuestion>, StoreError> {
        const DUE: &str = "SELECT id, customer, request, accepted_ms FROM questions \
                           WHERE stage = 'waiting' AND next_ms <= $1 ORDER BY next_ms, id LIMIT $2";
        let mut tx = self.read("read").await?;
        let rows = tx.rows(DUE, &[Arg::Int(now.as_millisecond()), limit_of(limit)]).await?;
        let waiting = |row: &DbRow| {
            let has_customer = !row.bytes(1)?.is_empty();
            let customer = has_customer.then(|| row.array(1, "questions.customer")).transpose()?;
            Ok(WaitingQuestion {
                id: row.text(0)?.to_owned(),
                customer: customer.map(CustomerKey::from_digest),
                request: row.text(2)?.to_owned(),
                accepted_at: time(row.int(3)?, "questions.accepted_ms")?,
            })
        };
        rows.iter().map(waiting).collect()
    }

    /// Keeps answers, and lets their requests go. Those without a callback are over, and kept until `kept_until`.
    ///
    /// # Errors
    /// When none is kept, that is not known, or the lease was lost.
    pub async fn answer_questions(
        &self,
        answers: &[QuestionAnswer],
        now: Timestamp,
        kept_until: Timestamp,
        lease: &Lease,
    ) -> Result<(), StoreError> {
        const ANSWER: &str = "UPDATE questions SET request = '', answer = $2, refused = $3, finished_ms = $4, \
                              stage = CASE WHEN callback = '' THEN 'over' ELSE 'telling' END, \
                              next_ms = CASE WHEN callback = '' THEN $5 ELSE $4 END \
                              WHERE id = $1 AND stage = 'waiting'";
        let mut tx = self.write("told answers").await?;
        check_lease(&mut tx, Some(lease)).await?;
        for QuestionAnswer { id, refused, answer } in answers {
            let (now, kept) = (Arg::Int(now.as_millisecond()), Arg::Int(kept_until.as_millisecond()));
            tx.run(ANSWER, &[Arg::Text(id), Arg::Text(answer), Arg::Int(i64::from(*refused)), now, kept]).await?;
        }
        tx.commit().await
    }

    /// Lets questions wait until a later time.
    ///
    /// # Errors
    /// When that is not known, or the lease was lost.
    pub async fn postpone_questions(&self, ids: &[String], until: Timestamp, lease: &Lease) -> Result<(), StoreError> {
        const LATER: &str = "UPDATE questions SET next_ms = $2 WHERE id = $1 AND stage = 'waiting'";
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, Some(lease)).await?;
        for id in ids {
            tx.run(LATER, &[Arg::Text(id), Arg::Int(until.as_millisecond())]).await?;
        }
        tx.commit().await
    }

    /// Callbacks to be told by now, the longest due first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn due_callbacks(&self, now: Timestamp, limit: usize) -> Result<Vec<DueCallback>, StoreError> {
        const DUE: &str = "SELECT id, callback, refused, answer, accepted_ms, finished_ms, attempts FROM questions \
                           WHERE stage = 'telling' AND next_ms <= $1 ORDER BY next_ms, id LIMIT $2";
        let mut tx = self.read("read").await?;
        let rows = tx.rows(DUE, &[Arg::Int(now.as_millisecond()), limit_of(limit)]).await?;
        let due = |row: &DbRow| {
            Ok(DueCallback {
                id: row.text(0)?.to_owned(),
                callback: row.text(1)?.to_owned(),
                refused: row.int(2)? == 1,
                answer: row.text(3)?.to_owned(),
                accepted_at: time(row.int(4)?, "questions.accepted_ms")?,
                finished_at: time(row.int(5)?, "questions.finished_ms")?,
                attempts: count(row.int(6)?),
            })
        };
        rows.iter().map(due).collect()
    }

    /// Tells what became of callbacks, by question. Those that are over are kept until `kept_until`.
    ///
    /// # Errors
    /// When that is not known, or the lease was lost: they are told again.
    pub async fn settle_callbacks(
        &self,
        settled: &[(String, CallbackOutcome)],
        kept_until: Timestamp,
        lease: &Lease,
    ) -> Result<(), StoreError> {
        const SETTLE: &str = "UPDATE questions SET stage = $2, told = $3, last_error = $4, next_ms = $5, \
                              attempts = attempts + 1 WHERE id = $1 AND stage = 'telling'";
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, Some(lease)).await?;
        for (id, outcome) in settled {
            let (stage, told, error, next) = match outcome {
                CallbackOutcome::Told => (QuestionStage::Over, 1, "", kept_until),
                CallbackOutcome::Retry { reason, at } => (QuestionStage::Telling, 0, &**reason, *at),
                CallbackOutcome::GivenUp { reason } => (QuestionStage::Over, 0, &**reason, kept_until),
            };
            let next = Arg::Int(next.as_millisecond());
            tx.run(SETTLE, &[Arg::Text(id), Arg::Text(stage.as_str()), Arg::Int(told), Arg::Text(error), next]).await?;
        }
        tx.commit().await
    }

    /// Lets questions go that are over and were kept long enough; how many.
    ///
    /// # Errors
    /// When they are still there, or that is not known.
    pub async fn forget_questions(&self, now: Timestamp) -> Result<u64, StoreError> {
        const FORGET: &str = "DELETE FROM questions WHERE stage = 'over' AND next_ms <= $1";
        let mut tx = self.write("cleared of old questions").await?;
        let gone = tx.run(FORGET, &[Arg::Int(now.as_millisecond())]).await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// # Errors
    /// When they cannot be counted.
    pub async fn question_counts(&self) -> Result<QuestionCounts, StoreError> {
        let mut tx = self.read("counted").await?;
        let mut counts = QuestionCounts::default();
        for row in tx.rows("SELECT stage, COUNT(*) FROM questions GROUP BY stage", &[]).await? {
            let count = row.int(1)?.cast_unsigned();
            match QuestionStage::parse(row.text(0)?)? {
                QuestionStage::Waiting => counts.waiting = count,
                QuestionStage::Telling => counts.telling = count,
                QuestionStage::Over => counts.over = count,
            }
        }
        Ok(counts)
    }
}

fn limit_of(limit: usize) -> Arg<'static> {
    Arg::Int(i64::try_from(limit).unwrap_or(i64::MAX))
}

fn count(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
