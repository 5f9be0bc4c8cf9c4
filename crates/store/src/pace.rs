//! The pace of tokens: what was asked of the platform with each, changed by all who use one, one after the other.

use super::Store;
use super::db::Arg;
use super::error::StoreError;
use scoreline_domain::time::Timestamp;

/// The name of the server's clock, which all who share a database share.
const DATABASE_CLOCK: &str = "database";

impl Store {
    /// Replaces what is kept of a token. `change` is given that, and the name and the milliseconds of a clock: PostgreSQL's own,
    /// or of a file, which belongs to one machine, `machine` and what `now` says. Both are called while nobody else writes,
    /// so whoever comes later is never told an earlier time of the same clock, unless that was set back.
    ///
    /// # Errors
    /// When it may not be kept.
    pub async fn change_pace(
        &self,
        bucket: &str,
        machine: &str,
        now: impl FnOnce() -> i64 + Send,
        change: impl FnOnce(Option<&str>, &str, i64) -> String + Send,
    ) -> Result<(), StoreError> {
        const KEEP: &str = "INSERT INTO pace (bucket, kept) VALUES ($1, $2) \
                            ON CONFLICT (bucket) DO UPDATE SET kept = excluded.kept";
        let mut tx = self.write("written").await?;
        let row = tx.row("SELECT kept FROM pace WHERE bucket = $1", &[Arg::Text(bucket)]).await?;
        let kept = row.as_ref().map(|row| row.text(0)).transpose()?;
        let (clock, now) = if self.inner.db.is_shared() {
            (DATABASE_CLOCK, tx.clock(Timestamp::UNIX_EPOCH).await?)
        } else {
            (machine, now())
        };
        let next = change(kept, clock, now);
        tx.run(KEEP, &[Arg::Text(bucket), Arg::Text(&next)]).await?;
        tx.commit().await
    }
}
