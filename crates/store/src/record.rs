//! Taking interactions in: what an extraction step brought and where it stands now, in one transaction.

use std::collections::HashMap;

use super::customers::{ensure, mark_dirty, numbers};
use super::db::{BulkColumn, DbRow, Tx};
use super::error::StoreError;
use super::labels::{Labels, label, pack, unpack};
use super::merge::{Dated, InteractionVersion};
use super::{Lease, Store, positions};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{
    Annotation, Channel, CustomerKey, ExtractedInteraction, Interaction, InteractionId, SealedId, Sentiment,
};

/// One step of an extraction. The larger, the less each row costs: with 10,000 rows spread over many customers twice as
/// much is written per row as with 50,000.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// In any order; several versions of one interaction too. Those without an end are passed over.
    pub interactions: &'a [ExtractedInteraction],
    /// Of interactions recorded before or in this batch.
    pub annotations: &'a [Annotation],
    /// Whose position it is.
    pub source: &'a str,
    /// Where the extraction stands once this is recorded, as JSON.
    pub position: &'a str,
    pub at: Timestamp,
    /// Under which the extraction runs; without one anybody may record.
    pub lease: Option<&'a Lease>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedCounts {
    pub new: u64,
    /// Known interactions of which more is known now, late annotations included.
    pub changed: u64,
    /// Told again without news.
    pub same: u64,
    /// Passed over: they have not ended.
    pub open: u64,
    /// Passed over: they end before they start.
    pub impossible: u64,
    /// Passed over: their customer was erased.
    pub refused: u64,
    /// Annotations of interactions that are not known.
    pub unknown: u64,
}

/// What became of late annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Annotated {
    pub changed: u64,
    pub same: u64,
    pub unknown: u64,
}

/// What is kept now, and what will be.
struct Kept {
    stored: Option<InteractionVersion>,
    version: InteractionVersion,
}

type Versions = HashMap<InteractionId, Kept>;

/// A row to write: customer, start, id and the rest.
type Write<'a> = (i64, i64, [u8; 16], &'a InteractionVersion);

impl Store {
    /// Records a batch and its position, whole or not at all. Telling a batch again, in any order, changes nothing.
    ///
    /// # Errors
    /// When nothing of it was recorded, or that is not known: then it is told again.
    pub async fn record(&self, batch: &Batch<'_>) -> Result<RecordedCounts, StoreError> {
        let mut tx = self.write("written").await?;
        positions::check_lease(&mut tx, batch.lease).await?;
        let mut recorded = RecordedCounts::default();
        let told = self.take_in(&mut tx, batch, &mut recorded).await?;
        positions::save(&mut tx, batch.source, batch.position, batch.at).await?;
        tx.commit().await?;
        self.remember(told);
        Ok(recorded)
    }

    /// Adds what analysis found later. The last annotation of an interaction holds.
    ///
    /// # Errors
    /// As `record`.
    pub async fn annotate(&self, annotations: &[Annotation], lease: Option<&Lease>) -> Result<Annotated, StoreError> {
        let mut tx = self.write("written").await?;
        positions::check_lease(&mut tx, lease).await?;
        let texts = annotations.iter().flat_map(|annotation| &annotation.topics).map(AsRef::as_ref);
        let labels = self.intern(&mut tx, texts.collect()).await?;
        let mut versions = stored(&mut tx, annotations.iter().map(|annotation| annotation.id).collect()).await?;
        let unknown = apply(&mut versions, annotations, &labels);
        let (_, changed) = write(&mut tx, &versions, &HashMap::new()).await?;
        let same = (versions.len() as u64).saturating_sub(changed);
        tx.commit().await?;
        self.remember(labels);
        Ok(Annotated { changed, same, unknown })
    }

    async fn take_in(
        &self,
        tx: &mut Tx,
        batch: &Batch<'_>,
        recorded: &mut RecordedCounts,
    ) -> Result<Labels, StoreError> {
        let mut closed = Vec::with_capacity(batch.interactions.len());
        let mut contacts: HashMap<CustomerKey, Option<&SealedId>> = HashMap::new();
        for told in batch.interactions {
            match told.interaction.end {
                None => recorded.open += 1,
                Some(end) if end < told.interaction.start => recorded.impossible += 1,
                Some(end) => {
                    let contact = contacts.entry(told.interaction.customer).or_default();
                    *contact = contact.or(told.contact.as_ref());
                    closed.push((&told.interaction, end));
                }
            }
        }
        let numbers = ensure(tx, &contacts).await?;
        let known = closed.len();
        closed.retain(|(told, _)| numbers.contains_key(&told.customer));
        recorded.refused = (known - closed.len()) as u64;

        let told = closed.iter().flat_map(|(told, _)| told.topics.iter().chain(&told.queue)).map(AsRef::as_ref);
        let late = batch.annotations.iter().flat_map(|late| &late.topics).map(AsRef::as_ref);
        let mut labels = self.intern(tx, told.chain(late).collect()).await?;

        let late = batch.annotations.iter().map(|late| late.id);
        let mut versions = stored(tx, closed.iter().map(|(told, _)| told.id).chain(late).collect()).await?;
        let queues = versions.values().filter_map(|kept| kept.version.queue);
        self.know(tx, &mut labels, queues.collect()).await?;

        let accepted = closed.len() as u64;
        for (told, end) in closed {
            let version = version(told, end, &labels);
            match versions.remove(&told.id) {
                None => versions.insert(told.id, Kept { stored: None, version }),
                Some(Kept { stored, version: known }) => {
                    versions.insert(told.id, Kept { stored, version: known.merge(version, &labels) })
                }
            };
        }
        recorded.unknown = apply(&mut versions, batch.annotations, &labels);
        (recorded.new, recorded.changed) = write(tx, &versions, &numbers).await?;
        recorded.same = accepted.saturating_sub(recorded.new + recorded.changed);
        Ok(labels)
    }
}

fn version(told: &Interaction, end: Timestamp, labels: &Labels) -> InteractionVersion {
    let end_ms = end.as_millisecond();
    let mut topics: Vec<_> = told.topics.iter().filter_map(|topic| labels.id(topic)).collect();
    topics.sort_unstable();
    topics.dedup();
    InteractionVersion {
        customer: told.customer,
        start_ms: told.start.as_millisecond(),
        end_ms,
        channel: told.channel,
        handle_ms: told.handle_ms,
        queue: told.queue.as_ref().and_then(|queue| labels.id(queue)),
        sentiment: told.sentiment.map(|what| Dated { what, end_ms }),
        topics: (!topics.is_empty()).then_some(Dated { what: topics, end_ms }),
    }
}

/// How many annotations were of interactions that are not known.
fn apply(versions: &mut Versions, annotations: &[Annotation], labels: &Labels) -> u64 {
    let mut unknown = 0;
    for annotation in annotations {
        let Some(Kept { version, .. }) = versions.get_mut(&annotation.id) else {
            unknown += 1;
            continue;
        };
        let end_ms = version.end_ms;
        if let Some(what) = annotation.sentiment {
            version.sentiment = Some(Dated { what, end_ms });
        }
        let mut topics: Vec<_> = annotation.topics.iter().filter_map(|topic| labels.id(topic)).collect();
        topics.sort_unstable();
        topics.dedup();
        if !topics.is_empty() {
            version.topics = Some(Dated { what: topics, end_ms });
        }
    }
    unknown
}

/// What is kept of these interactions.
async fn stored(tx: &mut Tx, ids: Vec<InteractionId>) -> Result<Versions, StoreError> {
    const FIND: &str = "WITH given(id) AS ({rows}) \
                        SELECT i.id, c.key, i.start_ms, i.end_ms, i.channel, i.handle_ms, i.queue, i.sentiment, \
                        i.sentiment_end, i.topics, i.topics_end FROM given CROSS JOIN interactions i \
                        CROSS JOIN customers c WHERE i.id = given.id AND c.num = i.customer";
    let mut ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut versions = HashMap::with_capacity(ids.len());
    for row in tx.bulk_rows(FIND, &[BulkColumn::Ids(ids)]).await? {
        let version = read(&row)?;
        let id = InteractionId(row.array(0, "interactions.id")?);
        versions.insert(id, Kept { stored: Some(version.clone()), version });
    }
    Ok(versions)
}

fn read(row: &DbRow) -> Result<InteractionVersion, StoreError> {
    let end_ms = row.int(3)?;
    let sentiment = row.opt_int(7)?.map(sentiment).transpose()?;
    let sentiment_end = row.opt_int(8)?.unwrap_or(end_ms);
    let topics_end = row.opt_int(10)?.unwrap_or(end_ms);
    let topics = row.opt_bytes(9)?.map(|bytes| unpack(bytes).collect());
    Ok(InteractionVersion {
        customer: CustomerKey::from_digest(row.array(1, "customers.key")?),
        start_ms: row.int(2)?,
        end_ms,
        channel: channel(row.int(4)?)?,
        handle_ms: row.opt_int(5)?.map(handle_ms).transpose()?,
        queue: row.opt_int(6)?.map(label).transpose()?,
        sentiment: sentiment.map(|what| Dated { what, end_ms: sentiment_end }),
        topics: topics.map(|what| Dated { what, end_ms: topics_end }),
    })
}

/// Writes what is new or changed and marks its customers; how many of each.
async fn write(tx: &mut Tx, versions: &Versions, known: &HashMap<CustomerKey, i64>) -> Result<(u64, u64), StoreError> {
    const UPSERT: &str = "INSERT INTO interactions (customer, start_ms, id, end_ms, channel, handle_ms, queue, \
                          sentiment, sentiment_end, topics, topics_end) {rows} \
                          ON CONFLICT (customer, start_ms, id) DO UPDATE SET end_ms = excluded.end_ms, \
                          channel = excluded.channel, handle_ms = excluded.handle_ms, queue = excluded.queue, \
                          sentiment = excluded.sentiment, sentiment_end = excluded.sentiment_end, \
                          topics = excluded.topics, topics_end = excluded.topics_end";
    const REMOVE: &str = "WITH given(id) AS ({rows}) \
                          DELETE FROM interactions WHERE id IN (SELECT given.id FROM given)";
    let changes = || versions.iter().filter(|(_, kept)| kept.stored.as_ref() != Some(&kept.version));
    let mut customers: Vec<_> = changes()
        .flat_map(|(_, kept)| {
            kept.stored.as_ref().map(|stored| stored.customer).into_iter().chain([kept.version.customer])
        })
        .filter(|customer| !known.contains_key(customer))
        .collect();
    customers.sort_unstable();
    customers.dedup();
    let more = numbers(tx, customers).await?;
    let number = |customer: &CustomerKey| {
        let found = known.get(customer).or_else(|| more.get(customer)).copied();
        found.ok_or_else(|| StoreError::Unreadable { column: "customers.key", value: format!("{customer:?}") })
    };
    let mut rows = Vec::new();
    let mut moved = Vec::new();
    let mut dirty = Vec::new();
    let mut new = 0;
    let mut changed = 0;
    for (id, kept) in changes() {
        let customer = number(&kept.version.customer)?;
        dirty.push(customer);
        match &kept.stored {
            None => new += 1,
            Some(stored) => {
                changed += 1;
                if (stored.customer, stored.start_ms) != (kept.version.customer, kept.version.start_ms) {
                    moved.push(id.0);
                    dirty.push(number(&stored.customer)?);
                }
            }
        }
        rows.push((customer, kept.version.start_ms, id.0, &kept.version));
    }
    tx.bulk(REMOVE, &[BulkColumn::Ids(moved)]).await?;
    // Neighbours in the table are written together.
    rows.sort_unstable_by_key(|(customer, start_ms, id, _)| (*customer, *start_ms, *id));
    tx.bulk(UPSERT, &columns(&rows)).await?;
    mark_dirty(tx, dirty).await?;
    Ok((new, changed))
}

fn columns(rows: &[Write<'_>]) -> [BulkColumn; 11] {
    /// Absent where it is the interaction's own end, as it nearly always is.
    fn end_of<T>(found: Option<&Dated<T>>, version: &InteractionVersion) -> Option<i64> {
        found.map(|found| found.end_ms).filter(|end| *end != version.end_ms)
    }
    let ints = |each: fn(&Write<'_>) -> i64| BulkColumn::Ints(rows.iter().map(each).collect());
    let opt_ints = |each: fn(&InteractionVersion) -> Option<i64>| {
        BulkColumn::OptInts(rows.iter().map(|(.., v)| each(v)).collect())
    };
    [
        ints(|(customer, ..)| *customer),
        ints(|(_, start_ms, ..)| *start_ms),
        BulkColumn::Ids(rows.iter().map(|(_, _, id, _)| *id).collect()),
        ints(|(.., version)| version.end_ms),
        ints(|(.., version)| channel_number(version.channel)),
        opt_ints(|version| version.handle_ms.map(i64::from)),
        opt_ints(|version| version.queue.map(|queue| i64::from(queue.0))),
        opt_ints(|version| version.sentiment.as_ref().map(|found| i64::from(found.what.millionths()))),
        opt_ints(|version| end_of(version.sentiment.as_ref(), version)),
        BulkColumn::OptBytes(
            rows.iter().map(|(.., version)| version.topics.as_ref().map(|found| pack(&found.what))).collect(),
        ),
        opt_ints(|version| end_of(version.topics.as_ref(), version)),
    ]
}

fn channel_number(channel: Channel) -> i64 {
    match channel {
        Channel::Voice => 0,
        Channel::Email => 1,
        Channel::Chat => 2,
        Channel::Message => 3,
    }
}

pub(super) fn channel(number: i64) -> Result<Channel, StoreError> {
    let found = Channel::ALL.into_iter().find(|channel| channel_number(*channel) == number);
    found.ok_or_else(|| StoreError::Unreadable { column: "interactions.channel", value: number.to_string() })
}

pub(super) fn handle_ms(ms: i64) -> Result<u32, StoreError> {
    u32::try_from(ms).map_err(|_| StoreError::Unreadable { column: "interactions.handle_ms", value: ms.to_string() })
}

pub(super) fn sentiment(millionths: i64) -> Result<Sentiment, StoreError> {
    let found = i32::try_from(millionths).ok().and_then(Sentiment::from_millionths);
    found.ok_or_else(|| StoreError::Unreadable { column: "interactions.sentiment", value: millionths.to_string() })
}
