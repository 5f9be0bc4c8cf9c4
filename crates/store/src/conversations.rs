//! The last answer of each conversation that is going on: what an agent is shown of it, by whichever replica is asked.

use super::Store;
use super::customers::{digest, erased};
use super::db::{Arg, BulkColumn};
use super::error::StoreError;
use super::time;
use scoreline_domain::CustomerKey;
use scoreline_domain::time::Timestamp;

/// One conversation's last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationRow {
    /// Keyed hash of the conversation's identifier.
    pub conversation: [u8; 32],
    /// Whom it was about, customer or lead; nobody where the question named none.
    pub customer: Option<CustomerKey>,
    /// JSON without an identifier.
    pub answer: String,
    pub answered_at: Timestamp,
}

impl Store {
    /// Keeps answers, each in the place of an older one of its conversation. Of whoever was erased nothing is kept. A conversation
    /// stands once among `rows`.
    ///
    /// # Errors
    /// When none is kept, or that is not known.
    pub async fn keep_conversations(&self, rows: Vec<ConversationRow>) -> Result<(), StoreError> {
        const KEEP: &str = "INSERT INTO conversations (conversation, customer, answer, answered_ms) {rows} \
                            ON CONFLICT (conversation) DO UPDATE SET customer = excluded.customer, \
                            answer = excluded.answer, answered_ms = excluded.answered_ms \
                            WHERE conversations.answered_ms <= excluded.answered_ms";
        let mut tx = self.write("told answers of conversations").await?;
        let gone = erased(&mut tx, rows.iter().filter_map(|row| row.customer).collect()).await?;
        let is_kept = |row: &ConversationRow| row.customer.is_none_or(|customer| !gone.contains(&digest(&customer)));
        let rows: Vec<_> = rows.into_iter().filter(is_kept).collect();
        let customer =
            |row: &ConversationRow| row.customer.map_or_else(Vec::new, |customer| customer.as_bytes().to_vec());
        let columns = [
            BulkColumn::Keys(rows.iter().map(|row| row.conversation).collect()),
            BulkColumn::Bytes(rows.iter().map(customer).collect()),
            BulkColumn::Texts(rows.iter().map(|row| row.answer.clone()).collect()),
            BulkColumn::Ints(rows.iter().map(|row| row.answered_at.as_millisecond()).collect()),
        ];
        tx.bulk(KEEP, &columns).await?;
        tx.commit().await
    }

    /// The last answer of a conversation; `None` when none is kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn conversation(&self, conversation: &[u8; 32]) -> Result<Option<ConversationRow>, StoreError> {
        const FIND: &str = "SELECT customer, answer, answered_ms FROM conversations WHERE conversation = $1";
        let mut tx = self.read("read").await?;
        let Some(row) = tx.row(FIND, &[Arg::Bytes(conversation)]).await? else { return Ok(None) };
        let has_customer = !row.bytes(0)?.is_empty();
        let customer = has_customer.then(|| row.array(0, "conversations.customer")).transpose()?;
        Ok(Some(ConversationRow {
            conversation: *conversation,
            customer: customer.map(CustomerKey::from_digest),
            answer: row.text(1)?.to_owned(),
            answered_at: time(row.int(2)?, "conversations.answered_ms")?,
        }))
    }

    /// Lets answers go that are from before a time; how many.
    ///
    /// # Errors
    /// When they are still there, or that is not known.
    pub async fn forget_conversations(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write("cleared of old conversations").await?;
        let before = Arg::Int(before.as_millisecond());
        let gone = tx.run("DELETE FROM conversations WHERE answered_ms < $1", &[before]).await?;
        tx.commit().await?;
        Ok(gone)
    }
}
