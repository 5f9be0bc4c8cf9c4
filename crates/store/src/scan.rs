//! Histories in pages, for whoever folds them into features: memory is bounded by a page, or by one customer's history
//! where that is larger.

use std::collections::VecDeque;
use std::ops::Range;

use jiff::civil::Date;

use super::Store;
use super::customers::CustomerNumber;
use super::db::{Arg, BulkColumn, DbRow, Tx};
use super::error::StoreError;
use super::labels::{label, unpack};
use super::purchases::day;
use super::record::{channel, handle_ms, sentiment};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Channel, CustomerKey, LabelId, Sentiment};

/// Customers whose rows are asked for at a time.
const GROUP: usize = 256;

/// Whose histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every customer's.
    All,
    /// Of those whose features may differ from what is kept: something was recorded since, or time alone changes them by
    /// `as_of`; and, with `filled`, of those whose sentiment a queue's stands in for.
    Due { as_of: Timestamp, filled: bool },
}

/// What a page should hold.
#[derive(Clone, Copy, Debug)]
pub struct ScanRequest {
    pub which: Which,
    /// Where the page before ended; the first page when absent.
    pub after: Option<Cursor>,
    /// A page ends once it holds this many interactions.
    pub interactions: usize,
    /// Only interactions that started later, such as since the look-back window began.
    pub since: Option<Timestamp>,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(i64);

/// Some customers' histories, seen at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    pub histories: Vec<History>,
    /// None on the last page.
    pub next: Option<Cursor>,
}

/// How often a customer had changed when it was read: see `Computed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeMark(pub(super) i64);

/// What is known of one customer.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub customer: CustomerKey,
    pub number: CustomerNumber,
    /// Absent when their features told everything.
    pub mark: Option<ChangeMark>,
    /// By start.
    pub interactions: Vec<StoredInteraction>,
    /// By day.
    pub purchases: Vec<StoredPurchase>,
    topics: Vec<LabelId>,
}

/// One closed interaction, ready to be folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredInteraction {
    /// Milliseconds since 1970.
    pub start_ms: i64,
    pub end_ms: i64,
    pub channel: Channel,
    pub handle_ms: Option<u32>,
    pub sentiment: Option<Sentiment>,
    pub queue: Option<LabelId>,
    topics: Range<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredPurchase {
    pub day: Date,
    pub amount_usd: f64,
    pub items: f64,
}

impl History {
    /// The topics of one of its interactions, rising.
    pub fn topics(&self, interaction: &StoredInteraction) -> &[LabelId] {
        self.topics.get(interaction.topics.start as usize..interaction.topics.end as usize).unwrap_or_default()
    }

    fn add(&mut self, row: &DbRow) -> Result<(), StoreError> {
        let from = self.topics.len() as u32;
        if let Some(bytes) = row.opt_bytes(7)? {
            self.topics.extend(unpack(bytes));
        }
        self.interactions.push(StoredInteraction {
            start_ms: row.int(1)?,
            end_ms: row.int(2)?,
            channel: channel(row.int(3)?)?,
            handle_ms: row.opt_int(4)?.map(handle_ms).transpose()?,
            queue: row.opt_int(5)?.map(label).transpose()?,
            sentiment: row.opt_int(6)?.map(sentiment).transpose()?,
            topics: from..self.topics.len() as u32,
        });
        Ok(())
    }
}

impl Store {
    /// The next page of histories. Pages are seen at different moments: what changes between them is marked again.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn scan(&self, scan: &ScanRequest) -> Result<HistoryPage, StoreError> {
        let mut tx = self.read("read").await?;
        // Customers of few interactions each: more than these are not needed for a page.
        let most = scan.interactions.clamp(GROUP, 100_000);
        let mut waiting = customers(&mut tx, scan, most).await?;
        let more = waiting.len() == most;
        let mut page = HistoryPage { histories: Vec::new(), next: None };
        let mut held = 0;
        while held < scan.interactions.max(1) && !waiting.is_empty() {
            let group = waiting.drain(..waiting.len().min(GROUP)).collect();
            let group = fill(&mut tx, group, scan.since).await?;
            held += group.iter().map(|history| history.interactions.len()).sum::<usize>();
            page.histories.extend(group);
        }
        if more || !waiting.is_empty() {
            page.next = page.histories.last().map(|history| Cursor(history.number.0));
        }
        Ok(page)
    }

    /// One customer's history; `None` for a customer the store does not know.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn history(&self, customer: &CustomerKey) -> Result<Option<History>, StoreError> {
        const FIND: &str = "SELECT c.num, c.key, d.mark FROM customers c LEFT JOIN dirty d ON d.customer = c.num \
                            WHERE c.key = $1";
        let mut tx = self.read("read").await?;
        let Some(row) = tx.row(FIND, &[Arg::Bytes(customer.as_bytes())]).await? else { return Ok(None) };
        Ok(fill(&mut tx, vec![empty(&row)?], None).await?.pop())
    }
}

async fn customers(tx: &mut Tx, scan: &ScanRequest, most: usize) -> Result<VecDeque<History>, StoreError> {
    const ALL: &str = "SELECT c.num, c.key, d.mark FROM customers c LEFT JOIN dirty d ON d.customer = c.num \
                       WHERE c.num > $1 ORDER BY c.num LIMIT $2";
    const DUE: &str = "SELECT c.num, c.key, d.mark FROM (\
                       SELECT customer FROM dirty WHERE customer > $1 \
                       UNION SELECT customer FROM features WHERE next_change_ms <= $3 AND customer > $1 \
                       UNION SELECT customer FROM features WHERE fills_from_queue = 1 AND customer > $1 AND 1 = $4) u \
                       JOIN customers c ON c.num = u.customer LEFT JOIN dirty d ON d.customer = c.num \
                       ORDER BY c.num LIMIT $2";
    let after = Arg::Int(scan.after.map_or(0, |cursor| cursor.0));
    let most = Arg::Int(i64::try_from(most).unwrap_or(i64::MAX));
    let rows = match scan.which {
        Which::All => tx.rows(ALL, &[after, most]).await?,
        Which::Due { as_of, filled } => {
            let args = [after, most, Arg::Int(as_of.as_millisecond()), Arg::Int(i64::from(filled))];
            tx.rows(DUE, &args).await?
        }
    };
    rows.iter().map(empty).collect()
}

fn empty(row: &DbRow) -> Result<History, StoreError> {
    Ok(History {
        number: CustomerNumber(row.int(0)?),
        customer: CustomerKey::from_digest(row.array(1, "customers.key")?),
        mark: row.opt_int(2)?.map(ChangeMark),
        interactions: Vec::new(),
        purchases: Vec::new(),
        topics: Vec::new(),
    })
}

/// Reads what is known of these customers, who are in the order of their numbers.
async fn fill(tx: &mut Tx, mut group: Vec<History>, since: Option<Timestamp>) -> Result<Vec<History>, StoreError> {
    const INTERACTIONS: &str = "WITH given(customer, since) AS ({rows}) \
                                SELECT i.customer, i.start_ms, i.end_ms, i.channel, i.handle_ms, i.queue, \
                                i.sentiment, i.topics FROM given CROSS JOIN interactions i \
                                WHERE i.customer = given.customer AND i.start_ms > given.since \
                                ORDER BY i.customer, i.start_ms, i.id";
    const PURCHASES: &str = "WITH given(customer) AS ({rows}) \
                             SELECT p.customer, p.day, p.amount_usd, p.items FROM given CROSS JOIN purchases p \
                             WHERE p.customer = given.customer ORDER BY p.customer, p.day, p.id";
    let numbers: Vec<_> = group.iter().map(|history| history.number.0).collect();
    let since = vec![since.map_or(i64::MIN, Timestamp::as_millisecond); numbers.len()];
    let rows = tx.bulk_rows(INTERACTIONS, &[BulkColumn::Ints(numbers.clone()), BulkColumn::Ints(since)]).await?;
    each(&mut group, &rows, History::add)?;
    let rows = tx.bulk_rows(PURCHASES, &[BulkColumn::Ints(numbers)]).await?;
    each(&mut group, &rows, |history, row| {
        let (day, amount_usd, items) = (day(row.int(1)?)?, row.real(2)?, row.real(3)?);
        history.purchases.push(StoredPurchase { day, amount_usd, items });
        Ok(())
    })?;
    Ok(group)
}

/// Gives each row to the history of its customer, both in the order of their numbers.
fn each(
    group: &mut [History],
    rows: &[DbRow],
    mut give: impl FnMut(&mut History, &DbRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut position = 0;
    for row in rows {
        let number = row.int(0)?;
        while group.get(position).is_some_and(|history| history.number.0 < number) {
            position += 1;
        }
        if let Some(history) = group.get_mut(position).filter(|history| history.number.0 == number) {
            give(history, row)?;
        }
    }
    Ok(())
}
