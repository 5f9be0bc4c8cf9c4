//! One runner among replicas: a job runs under a lease of the store, which is renewed while it works. What is written
//! under a lease that somebody else has taken meanwhile fails, so that no two runners ever mix.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::JobError;
use scoreline_domain::JobName;
use scoreline_domain::time::Clock;
use scoreline_store::{Lease, Store, StoreError};

/// How long a runner may not be heard of before another takes over.
const TTL: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(8);

/// Takes leases for this process. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    store: Store,
    holder: Arc<str>,
    clock: Arc<dyn Clock>,
}

/// A lease that is held.
pub struct HeldLease {
    leases: Leases,
    lease: Lease,
}

impl Leases {
    /// `holder` is this process's own name. Where one process at a time can open the store it is always the same, so
    /// that a process that starts after a kill need not wait for what the one before it held.
    pub fn new(store: Store, holder: &str, clock: Arc<dyn Clock>) -> Self {
        Self { store, holder: holder.into(), clock }
    }

    pub fn holder(&self) -> &str {
        &self.holder
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// `None` while another process is at it.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn take(&self, job: JobName) -> Result<Option<HeldLease>, StoreError> {
        let lease = self.store.lease(job.as_str(), &self.holder, TTL, self.clock.now()).await?;
        Ok(lease.map(|lease| HeldLease { leases: self.clone(), lease }))
    }
}

impl HeldLease {
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Works for as long as the lease is held, then gives it back.
    ///
    /// # Errors
    /// What went wrong with the work, or with the lease: then the work was dropped.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T, JobError>>) -> Result<T, JobError> {
        let done = tokio::select! {
            biased;
            done = work => done,
            lost = self.renew() => return Err(lost.into()),
        };
        if let Err(err) = self.leases.store.release(&self.lease).await {
            // It runs out by itself.
            tracing::debug!(job = self.lease.job(), error = %err, "lease could not be given back");
        }
        done
    }

    /// Returns when the lease is lost, or may be.
    async fn renew(&self) -> StoreError {
        let mut misses = Duration::ZERO;
        loop {
            sleep(RENEW).await;
            match self.leases.store.renew(&self.lease, TTL, self.leases.clock.now()).await {
                Ok(()) => misses = Duration::ZERO,
                Err(err) => {
                    misses += RENEW;
                    if !err.is_passing() || misses + RENEW >= TTL {
                        return err;
                    }
                }
            }
        }
    }
}
