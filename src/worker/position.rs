//! How far a job has come, kept in the store as JSON under a name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::JobError;
use super::lease::{HeldLease, Leases};

/// What was last kept; `None` for what another version of the program kept, with a word in the log.
///
/// # Errors
/// When the store does not say.
pub(super) async fn kept<T: DeserializeOwned>(leases: &Leases, name: &'static str) -> Result<Option<T>, JobError> {
    let Some((kept, _)) = leases.store().position(name).await? else { return Ok(None) };
    let read = serde_json::from_str(&kept);
    if let Err(err) = &read {
        tracing::warn!(name, error = %err, "position is of another version: it begins anew");
    }
    Ok(read.ok())
}

/// Keeps it, while the lease is held.
///
/// # Errors
/// When the lease is lost, or the store does not take it.
pub(super) async fn keep<T: Serialize>(
    leases: &Leases,
    held: &HeldLease,
    name: &'static str,
    position: &T,
) -> Result<(), JobError> {
    let position = written(name, position)?;
    Ok(leases.store().save_position(name, &position, leases.clock().now(), Some(held.lease())).await?)
}

/// As it is kept, for those who keep it with something else.
pub(super) fn written<T: Serialize>(name: &'static str, position: &T) -> Result<String, JobError> {
    serde_json::to_string(position).map_err(|err| JobError::Position { source_name: name, err })
}
