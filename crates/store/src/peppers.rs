//! Under which peppers customers are kept: with others nobody would be found again.
//!
//! A pepper that follows another one hashes the keys that are there, so that no identifier is needed to change it. The
//! ones before are kept, sealed so that only the newest opens them.

use std::sync::atomic::Ordering;

use super::Store;
use super::db::{Arg, BulkColumn, Tx};
use super::error::StoreError;
use super::schema;

/// A pepper that something is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PepperLayer {
    /// What tells it apart.
    pub id: String,
    /// The pepper, readable to whoever has the newest one; absent for the newest itself.
    pub sealed: Option<Vec<u8>>,
}

/// What is known of the peppers, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownPeppers {
    pub layers: Vec<PepperLayer>,
    /// Of a version that did not put them in order.
    pub unordered: Vec<String>,
    /// Whether anything is kept of anybody.
    pub any_customer: bool,
}

impl KnownPeppers {
    /// Whether nothing is kept, under whichever pepper.
    pub fn is_new(&self) -> bool {
        self.layers.is_empty() && self.unordered.is_empty() && !self.any_customer
    }
}

impl Store {
    /// # Errors
    /// When they cannot be read.
    pub async fn peppers(&self) -> Result<KnownPeppers, StoreError> {
        let mut tx = self.read("read").await?;
        let layers = layers(&mut tx).await?;
        let rows = tx.rows("SELECT id FROM peppers ORDER BY id", &[]).await?;
        let unordered = rows.iter().map(|row| row.text(0).map(str::to_owned)).collect::<Result<_, _>>()?;
        let any_customer =
            tx.row("SELECT 1 FROM customers UNION ALL SELECT 1 FROM leads LIMIT 1", &[]).await?.is_some();
        Ok(KnownPeppers { layers, unordered, any_customer })
    }

    /// Keeps these layers in the place of `before`. When there were layers, all keys that are kept are to be hashed by the
    /// newest one from now on. `false` when another process came first, or is not done with the keys of the layer before.
    ///
    /// # Errors
    /// When nothing was changed, or that is not known.
    pub async fn keep_peppers(&self, before: &[PepperLayer], layers: &[PepperLayer]) -> Result<bool, StoreError> {
        const KEEP: &str = "INSERT INTO pepper_layers (layer, id, sealed) {rows}";
        const KEYS: &str = "INSERT INTO rekeying (key) SELECT key FROM customers UNION SELECT key FROM leads UNION \
                            SELECT customer FROM predictions UNION SELECT customer FROM outcomes UNION \
                            SELECT customer FROM last_tiers UNION \
                            SELECT customer FROM questions WHERE LENGTH(customer) = 32 UNION \
                            SELECT customer FROM conversations WHERE LENGTH(customer) = 32 UNION \
                            SELECT customer FROM replay_log WHERE LENGTH(customer) = 32";
        let mut tx = self.write("told the pepper").await?;
        let is_busy = tx.row("SELECT 1 FROM rekeying LIMIT 1", &[]).await?.is_some();
        if is_busy || self::layers(&mut tx).await? != before {
            return Ok(false);
        }
        tx.run("DELETE FROM pepper_layers", &[]).await?;
        tx.run("DELETE FROM peppers", &[]).await?;
        let columns = [
            BulkColumn::Ints((1..).take(layers.len()).collect()),
            BulkColumn::Texts(layers.iter().map(|layer| layer.id.clone()).collect()),
            BulkColumn::OptBytes(layers.iter().map(|layer| layer.sealed.clone()).collect()),
        ];
        tx.bulk(KEEP, &columns).await?;
        if layers.len() > 1 {
            tx.run(KEYS, &[]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Writes from now on only for as long as the newest pepper is this layer, counted from 1: another replica may be told
    /// of a newer one.
    pub fn use_pepper(&self, layer: usize) {
        self.inner.pepper.store(i64::try_from(layer).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Looks whether another process has changed what this one must know.
    ///
    /// # Errors
    /// `NewerPepper` when keys are made with a pepper that it was not told, `Newer` when its program is too old for the schema.
    pub(super) async fn check_standing(&self, tx: &mut Tx) -> Result<(), StoreError> {
        const CHANGED: &str = "SELECT 0, id FROM pepper_layers WHERE layer > $1 UNION ALL \
                               SELECT schema_version, '' FROM oldest_program WHERE schema_version > $2 LIMIT 1";
        let used = match self.inner.pepper.load(Ordering::Relaxed) {
            // It was not told any.
            0 => i64::MAX,
            layer => layer,
        };
        let known = schema::newest();
        let Some(row) = tx.row(CHANGED, &[Arg::Int(used), Arg::Int(known)]).await? else { return Ok(()) };
        match row.int(0)? {
            0 => Err(StoreError::NewerPepper { id: row.text(1)?.to_owned() }),
            oldest => Err(StoreError::Newer { found: oldest, known }),
        }
    }
}

async fn layers(tx: &mut Tx) -> Result<Vec<PepperLayer>, StoreError> {
    let rows = tx.rows("SELECT id, sealed FROM pepper_layers ORDER BY layer", &[]).await?;
    let layer = |row: &super::db::DbRow| {
        Ok(PepperLayer { id: row.text(0)?.to_owned(), sealed: row.opt_bytes(1)?.map(<[u8]>::to_vec) })
    };
    rows.iter().map(layer).collect()
}
