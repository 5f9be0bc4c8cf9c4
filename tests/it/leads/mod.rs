//! Scores of leads on their way to the dialer: how they come in, how they are pushed, how they grow old.

mod api;
mod figures;
mod push;
pub mod served;

use std::sync::{Arc, OnceLock};

use scoreline_store::{Store, StoreSettings};

/// A store of a test's own.
pub async fn store(folder: &tempfile::TempDir) -> Arc<OnceLock<Store>> {
    let store = Store::open(&StoreSettings::sqlite(folder.path().join("scoreline.db"))).await.expect("opened");
    let cell = Arc::new(OnceLock::new());
    cell.set(store).ok().expect("empty");
    cell
}
