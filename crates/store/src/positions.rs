//! Where each extraction stands, and whether whoever writes still may.

use super::Store;
use super::db::{Arg, Tx};
use super::error::StoreError;
use super::leases::Lease;
use super::time;
use scoreline_domain::time::Timestamp;

impl Store {
    /// Where the extraction of a source stands, as it was recorded (JSON), and when that was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn position(&self, source: &str) -> Result<Option<(String, Timestamp)>, StoreError> {
        let mut tx = self.read("read").await?;
        let row = tx.row("SELECT position, saved_ms FROM positions WHERE source = $1", &[Arg::Text(source)]).await?;
        row.map(|row| Ok((row.text(0)?.to_owned(), time(row.int(1)?, "positions.saved_ms")?))).transpose()
    }

    /// Sets the position of a source by itself: to begin anew, or when a step brought no rows.
    ///
    /// # Errors
    /// When it is not saved, or the lease was lost.
    pub async fn save_position(
        &self,
        source: &str,
        position: &str,
        at: Timestamp,
        lease: Option<&Lease>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, lease).await?;
        save(&mut tx, source, position, at).await?;
        tx.commit().await
    }
}

pub(super) async fn save(tx: &mut Tx, source: &str, position: &str, at: Timestamp) -> Result<(), StoreError> {
    const SAVE: &str = "INSERT INTO positions (source, position, saved_ms) VALUES ($1, $2, $3) \
                        ON CONFLICT (source) DO UPDATE SET position = excluded.position, saved_ms = excluded.saved_ms";
    tx.run(SAVE, &[Arg::Text(source), Arg::Text(position), Arg::Int(at.as_millisecond())]).await?;
    Ok(())
}

/// Writers are alone, so what this finds still holds when the transaction commits.
pub(super) async fn check_lease(tx: &mut Tx, lease: Option<&Lease>) -> Result<(), StoreError> {
    let Some(lease) = lease else { return Ok(()) };
    let row = tx.row("SELECT fence FROM leases WHERE job = $1", &[Arg::Text(lease.job())]).await?;
    if row.map(|row| row.int(0)).transpose()? == Some(lease.fence()) {
        return Ok(());
    }
    Err(StoreError::LeaseLost { job: lease.job().into() })
}
