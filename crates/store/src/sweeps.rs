//! Sweeps: a target's own job that turns scores older than a moment to nothing. It is written down before it is asked for,
//! so that whoever takes over knows of it; what it did is taken over when it has ended.

use super::Store;
use super::db::Arg;
use super::error::StoreError;
use super::leases::Lease;
use super::positions::check_lease;
use super::time;
use scoreline_domain::time::Timestamp;

/// A sweep that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningSweep {
    pub started_at: Timestamp,
    /// Scores from before this moment become nothing.
    pub cutoff: Timestamp,
    /// What the target calls it; empty while that is not known.
    pub job: String,
}

impl Store {
    /// # Errors
    /// When it cannot be read.
    pub async fn sweep_of(&self, target: &str) -> Result<Option<RunningSweep>, StoreError> {
        let mut tx = self.read("read").await?;
        let find = "SELECT started_ms, cutoff_ms, job FROM sweeps WHERE target = $1";
        let row = tx.row(find, &[Arg::Text(target)]).await?;
        let sweep = |row: super::db::DbRow| {
            Ok(RunningSweep {
                started_at: time(row.int(0)?, "sweeps.started_ms")?,
                cutoff: time(row.int(1)?, "sweeps.cutoff_ms")?,
                job: row.text(2)?.to_owned(),
            })
        };
        row.map(sweep).transpose()
    }

    /// Writes down that a sweep is about to be asked for, or what the target calls it.
    ///
    /// # Errors
    /// When it is not written down, or the lease was lost: it must not be asked for then.
    pub async fn begin_sweep(&self, target: &str, sweep: &RunningSweep, lease: &Lease) -> Result<(), StoreError> {
        const BEGIN: &str = "INSERT INTO sweeps (target, started_ms, cutoff_ms, job) VALUES ($1, $2, $3, $4) \
                             ON CONFLICT (target) DO UPDATE SET started_ms = excluded.started_ms, \
                             cutoff_ms = excluded.cutoff_ms, job = excluded.job";
        let mut tx = self.write("told of a sweep").await?;
        check_lease(&mut tx, Some(lease)).await?;
        let (started, cutoff) = (sweep.started_at.as_millisecond(), sweep.cutoff.as_millisecond());
        let args = [Arg::Text(target), Arg::Int(started), Arg::Int(cutoff), Arg::Text(&sweep.job)];
        tx.run(BEGIN, &args).await?;
        tx.commit().await
    }

    /// Takes over what a sweep did, up to `limit` rows; how many. 0 when all is taken over, and the sweep is forgotten. Rows
    /// that were written while it ran are read: it may have come after them.
    ///
    /// # Errors
    /// When that is not known, or the lease was lost.
    pub async fn end_sweep(
        &self,
        target: &str,
        sweep: &RunningSweep,
        now: Timestamp,
        limit: usize,
        lease: &Lease,
    ) -> Result<u64, StoreError> {
        const SWEPT: &str = "UPDATE wishes SET says = '0', applied = '0', applied_ms = calculated_ms, seq = seq + 1, \
                             written_ms = $3, last_error = NULL WHERE target = $1 AND subject IN (SELECT subject FROM wishes \
                             WHERE target = $1 AND says <> '0' AND calculated_ms < $2 AND state = 'applied' \
                             AND (written_ms IS NULL OR written_ms < $4) AND inflight_seq IS NULL LIMIT $5)";
        const MEANWHILE: &str = "UPDATE wishes SET state = 'unknown', next_ms = $3, urgency = 0 \
                                 WHERE target = $1 AND state = 'applied' AND written_ms >= $2 AND says <> '0'";
        let mut tx = self.write("told what a sweep did").await?;
        check_lease(&mut tx, Some(lease)).await?;
        let (started, cutoff) = (sweep.started_at.as_millisecond(), sweep.cutoff.as_millisecond());
        let now = Arg::Int(now.as_millisecond());
        let limit = Arg::Int(i64::try_from(limit).unwrap_or(i64::MAX));
        let swept = tx.run(SWEPT, &[Arg::Text(target), Arg::Int(cutoff), now, Arg::Int(started), limit]).await?;
        if swept == 0 {
            tx.run(MEANWHILE, &[Arg::Text(target), Arg::Int(started), now]).await?;
            tx.run("DELETE FROM sweeps WHERE target = $1", &[Arg::Text(target)]).await?;
        }
        tx.commit().await?;
        Ok(swept)
    }

    /// Forgets a sweep that did not do its work. Rows that were written while it ran are read.
    ///
    /// # Errors
    /// When that is not known, or the lease was lost.
    pub async fn drop_sweep(&self, target: &str, sweep: &RunningSweep, lease: &Lease) -> Result<(), StoreError> {
        const MEANWHILE: &str = "UPDATE wishes SET state = 'unknown', urgency = 0 \
                                 WHERE target = $1 AND state = 'applied' AND written_ms >= $2 AND says <> '0'";
        let mut tx = self.write("told what a sweep did").await?;
        check_lease(&mut tx, Some(lease)).await?;
        tx.run(MEANWHILE, &[Arg::Text(target), Arg::Int(sweep.started_at.as_millisecond())]).await?;
        tx.run("DELETE FROM sweeps WHERE target = $1", &[Arg::Text(target)]).await?;
        tx.commit().await
    }
}
