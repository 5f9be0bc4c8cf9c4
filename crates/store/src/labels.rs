//! Names of queues and topics, kept once: interactions refer to them by number.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use super::Store;
use super::db::{BulkColumn, Tx};
use super::error::StoreError;
use scoreline_domain::LabelId;

/// Labels by text and by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    by_text: HashMap<Arc<str>, LabelId>,
    by_id: HashMap<LabelId, Arc<str>>,
}

impl Labels {
    fn insert(&mut self, id: LabelId, text: &str) {
        let text: Arc<str> = text.into();
        self.by_text.insert(text.clone(), id);
        self.by_id.insert(id, text);
    }

    pub(super) fn id(&self, text: &str) -> Option<LabelId> {
        self.by_text.get(text).copied()
    }

    pub(super) fn text(&self, id: LabelId) -> Option<&Arc<str>> {
        self.by_id.get(&id)
    }
}

impl Store {
    /// Every queue and topic by number.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn labels(&self) -> Result<HashMap<LabelId, Arc<str>>, StoreError> {
        let mut tx = self.read("read").await?;
        let mut labels = HashMap::new();
        for row in tx.rows("SELECT num, text FROM labels", &[]).await? {
            labels.insert(label(row.int(0)?)?, row.text(1)?.into());
        }
        Ok(labels)
    }

    /// The labels of these texts, new ones included, beside what is already known of others. Whoever commits remembers
    /// them with `remember`.
    pub(super) async fn intern<'a>(&self, tx: &mut Tx, texts: BTreeSet<&'a str>) -> Result<Labels, StoreError> {
        const FIND: &str = "WITH given(text) AS ({rows}) \
                            SELECT l.num, l.text FROM given CROSS JOIN labels l WHERE l.text = given.text";
        let mut labels = self.inner.labels.read().unwrap_or_else(PoisonError::into_inner).clone();
        let unknown = |labels: &Labels, texts: BTreeSet<&'a str>| -> Vec<String> {
            texts.into_iter().filter(|text| labels.id(text).is_none()).map(str::to_owned).collect()
        };
        let missing = unknown(&labels, texts.clone());
        for row in tx.bulk_rows(FIND, &[BulkColumn::Texts(missing)]).await? {
            labels.insert(label(row.int(0)?)?, row.text(1)?);
        }
        let new = unknown(&labels, texts);
        if !new.is_empty() {
            let first = tx.take("label", new.len()).await?;
            let nums: Vec<_> = (first..).take(new.len()).collect();
            for (num, text) in nums.iter().zip(&new) {
                labels.insert(label(*num)?, text);
            }
            tx.bulk("INSERT INTO labels (num, text) {rows}", &[BulkColumn::Ints(nums), BulkColumn::Texts(new)]).await?;
        }
        Ok(labels)
    }

    /// Reads labels that another replica added, so that stored numbers can be compared by their text.
    pub(super) async fn know(
        &self,
        tx: &mut Tx,
        labels: &mut Labels,
        ids: BTreeSet<LabelId>,
    ) -> Result<(), StoreError> {
        const FIND: &str = "WITH given(num) AS ({rows}) \
                            SELECT l.num, l.text FROM given CROSS JOIN labels l WHERE l.num = given.num";
        let unknown: Vec<_> =
            ids.into_iter().filter(|id| labels.text(*id).is_none()).map(|id| i64::from(id.0)).collect();
        for row in tx.bulk_rows(FIND, &[BulkColumn::Ints(unknown)]).await? {
            labels.insert(label(row.int(0)?)?, row.text(1)?);
        }
        Ok(())
    }

    /// Labels are never taken back: once committed they can be remembered.
    pub(super) fn remember(&self, labels: Labels) {
        let mut known = self.inner.labels.write().unwrap_or_else(PoisonError::into_inner);
        if labels.by_id.len() > known.by_id.len() {
            *known = labels;
        }
    }
}

pub(super) fn label(num: i64) -> Result<LabelId, StoreError> {
    let unreadable = |_| StoreError::Unreadable { column: "labels.num", value: num.to_string() };
    u32::try_from(num).map(LabelId).map_err(unreadable)
}

/// Label numbers as they are kept: four bytes each, little-endian.
pub(super) fn pack(labels: &[LabelId]) -> Vec<u8> {
    labels.iter().flat_map(|label| label.0.to_le_bytes()).collect()
}

pub(super) fn unpack(bytes: &[u8]) -> impl Iterator<Item = LabelId> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| LabelId(u32::from_le_bytes(*chunk)))
}
