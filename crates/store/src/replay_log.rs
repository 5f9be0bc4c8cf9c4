//! The newest questions with their answers, kept so that another version can be asked the same. Erasing a customer takes
//! theirs with it.

use super::Store;
use super::customers::{digest, erased};
use super::db::{Arg, BulkColumn};
use super::error::StoreError;
use scoreline_domain::CustomerKey;
use scoreline_domain::time::Timestamp;

/// One question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRow {
    /// Whom it was about; nobody where it named none.
    pub customer: Option<CustomerKey>,
    pub asked_at: Timestamp,
    /// JSON without an identifier.
    pub question: String,
}

impl Store {
    /// Keeps questions, the newest `most` of all. Of whoever was erased nothing is kept; how many of `rows` are.
    ///
    /// # Errors
    /// When none is kept, or that is not known.
    pub async fn keep_replay(&self, rows: Vec<ReplayRow>, most: u64) -> Result<u64, StoreError> {
        const KEEP: &str = "INSERT INTO replay_log (seq, customer, asked_ms, question) {rows}";
        let mut tx = self.write("told questions").await?;
        let gone = erased(&mut tx, rows.iter().filter_map(|row| row.customer).collect()).await?;
        let is_kept = |row: &ReplayRow| row.customer.is_none_or(|customer| !gone.contains(&digest(&customer)));
        let rows: Vec<_> = rows.into_iter().filter(is_kept).collect();
        let first = tx.take("replay_log", rows.len()).await?;
        let seqs: Vec<_> = (first..).take(rows.len()).collect();
        let Some(last) = seqs.last().copied() else { return Ok(0) };
        let customer = |row: &ReplayRow| row.customer.map_or_else(Vec::new, |customer| customer.as_bytes().to_vec());
        let columns = [
            BulkColumn::Ints(seqs),
            BulkColumn::Bytes(rows.iter().map(customer).collect()),
            BulkColumn::Ints(rows.iter().map(|row| row.asked_at.as_millisecond()).collect()),
            BulkColumn::Texts(rows.into_iter().map(|row| row.question).collect()),
        ];
        let kept = tx.bulk(KEEP, &columns).await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        tx.run("DELETE FROM replay_log WHERE seq <= $1", &[Arg::Int(last.saturating_sub(most))]).await?;
        tx.commit().await?;
        Ok(kept)
    }

    /// Up to `limit` questions after `seq` (-1 for the first), each with its place, in their order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn replay_after(&self, seq: i64, limit: usize) -> Result<Vec<(i64, String)>, StoreError> {
        const NEXT: &str = "SELECT seq, question FROM replay_log WHERE seq > $1 ORDER BY seq LIMIT $2";
        let mut tx = self.read("read").await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.rows(NEXT, &[Arg::Int(seq), Arg::Int(limit)]).await?;
        rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?.to_owned()))).collect()
    }

    /// How many questions are kept.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub async fn replay_count(&self) -> Result<u64, StoreError> {
        let mut tx = self.read("counted").await?;
        let row = tx.row("SELECT COUNT(*) FROM replay_log", &[]).await?;
        row.map_or(Ok(0), |row| row.int(0).map(i64::cast_unsigned))
    }

    /// Lets questions go that are from before a time; how many.
    ///
    /// # Errors
    /// When they are still there, or that is not known.
    pub async fn forget_replay(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write("cleared of old questions").await?;
        let before = Arg::Int(before.as_millisecond());
        let gone = tx.run("DELETE FROM replay_log WHERE asked_ms < $1", &[before]).await?;
        tx.commit().await?;
        Ok(gone)
    }
}
