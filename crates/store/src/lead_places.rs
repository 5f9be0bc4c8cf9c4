//! Where leads stand among those scored before them, for each version of a model: replicas and restarts go on from there.

use scoreline_domain::RollingPlaces;
use scoreline_domain::time::Timestamp;

use super::Store;
use super::db::{Arg, Tx};
use super::error::StoreError;

/// What was not moved for so long is forgotten: its version has not served since.
const KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

impl Store {
    /// Where leads of the version with this digest stand; `None` before its first lead, or when what is kept is unreadable.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn lead_places(&self, version: &[u8; 32]) -> Result<Option<RollingPlaces>, StoreError> {
        read(&mut self.read("read").await?, version).await
    }

    /// Moves where leads of a version stand; as they stand then.
    ///
    /// # Errors
    /// When it is not kept, or that is not known.
    pub async fn move_lead_places(
        &self,
        version: &[u8; 32],
        at: Timestamp,
        change: impl FnOnce(&mut RollingPlaces),
    ) -> Result<RollingPlaces, StoreError> {
        const KEEP: &str = "INSERT INTO lead_places (version, places, moved_ms) VALUES ($1, $2, $3) \
                            ON CONFLICT (version) DO UPDATE SET places = excluded.places, moved_ms = excluded.moved_ms";
        const FORGET: &str = "DELETE FROM lead_places WHERE moved_ms < $1";
        let mut tx = self.write("told where leads stand").await?;
        let mut places = read(&mut tx, version).await?.unwrap_or_default();
        change(&mut places);
        let (bytes, now) = (places.to_bytes(), at.as_millisecond());
        tx.run(KEEP, &[Arg::Bytes(version), Arg::Bytes(&bytes), Arg::Int(now)]).await?;
        tx.run(FORGET, &[Arg::Int(now - KEPT_MS)]).await?;
        tx.commit().await?;
        Ok(places)
    }
}

async fn read(tx: &mut Tx, version: &[u8; 32]) -> Result<Option<RollingPlaces>, StoreError> {
    let row = tx.row("SELECT places FROM lead_places WHERE version = $1", &[Arg::Bytes(version)]).await?;
    Ok(row.map(|row| row.bytes(0).map(RollingPlaces::from_bytes)).transpose()?.flatten())
}
