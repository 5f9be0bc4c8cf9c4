//! Who may do a job among replicas. Every new holder has a higher fence, and what is written under an older one fails.
//!
//! Where several processes write, the database's clock says when a lease has run out: one of a process whose own clock is
//! ahead would keep the others away for as long.

use std::time::Duration;

use super::Store;
use super::db::Arg;
use super::error::StoreError;
use super::positions::check_lease;
use scoreline_domain::time::Timestamp;

/// The right to do a job until it runs out and somebody else takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    job: Box<str>,
    holder: Box<str>,
    fence: i64,
}

impl Lease {
    pub fn job(&self) -> &str {
        &self.job
    }

    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Higher than that of every earlier holder.
    pub fn fence(&self) -> i64 {
        self.fence
    }
}

impl Store {
    /// Takes a job's lease when nobody holds it or it has run out; `None` while somebody holds it. `holder` is one
    /// process's own name: who has it already takes it anew. `now` counts in a file, which has one writer.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn lease(
        &self,
        job: &str,
        holder: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        const TAKE: &str = "INSERT INTO leases (job, holder, fence, until_ms) VALUES ($1, $2, $3, $4) \
                            ON CONFLICT (job) DO UPDATE SET holder = excluded.holder, fence = excluded.fence, \
                            until_ms = excluded.until_ms \
                            WHERE leases.until_ms <= $5 OR leases.holder = excluded.holder";
        let mut tx = self.write("written").await?;
        let fence = tx.take("fence", 1).await?;
        let now_ms = tx.clock(now).await?;
        let until = Arg::Int(later(now_ms, ttl));
        let args = [Arg::Text(job), Arg::Text(holder), Arg::Int(fence), until, Arg::Int(now_ms)];
        if tx.run(TAKE, &args).await? == 0 {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(Lease { job: job.into(), holder: holder.into(), fence }))
    }

    /// Holds a lease for longer; one that has run out too, as long as nobody else took it.
    ///
    /// # Errors
    /// `LeaseLost` when somebody else has it.
    pub async fn renew(&self, lease: &Lease, ttl: Duration, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, Some(lease)).await?;
        let until = later(tx.clock(now).await?, ttl);
        let args = [Arg::Text(&lease.job), Arg::Int(until)];
        tx.run("UPDATE leases SET until_ms = $2 WHERE job = $1", &args).await?;
        tx.commit().await
    }

    /// Lets others take it at once.
    ///
    /// # Errors
    /// As `renew`.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, Some(lease)).await?;
        tx.run("DELETE FROM leases WHERE job = $1", &[Arg::Text(&lease.job)]).await?;
        tx.commit().await
    }
}

/// Milliseconds of a time later on.
pub(super) fn after(now: Timestamp, by: Duration) -> i64 {
    later(now.as_millisecond(), by)
}

fn later(now_ms: i64, by: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}
