//! The outbox: what each subject should say in a target, delivered until it does. Profiles of customers, scores of leads.
//!
//! A row holds a wish, not a message: values are absolute, so that a backlog is never larger than there are subjects. At most
//! one write of a row is in the air, under a lease that outlives it. A wish that changes meanwhile stays to be written. A
//! row whose write may have arrived, or whose lease ran out, is read before it is written again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Store;
use super::db::{Arg, BulkColumn, DbRow, Tx};
use super::error::StoreError;
use super::leases::after;
use super::time;
use super::wish::{KnownWish, WITH_ALL, Wish, WishDecision, WishState, decide};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, SealedId};

/// A write to be made now.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Hash of the subject's identifier.
    pub key: CustomerKey,
    /// What the platform calls the subject. Absent when that was never told.
    pub sealed: Option<SealedId>,
    /// What is to be said.
    pub says: Box<str>,
    pub calculated_at: Timestamp,
    /// Attempts so far of which nobody knows how they ended.
    pub attempts: u32,
    /// Whether an earlier write may have arrived, or may still.
    pub is_unsettled: bool,
    /// How many rows this one may be written beside.
    pub most: u32,
    /// What the target is known to say, as of when.
    pub applied: Option<(Box<str>, Timestamp)>,
    subject: i64,
    seq: i64,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The target says so now.
    Applied,
    /// The target says something newer, which somebody else wrote: it stays.
    Newer { says: Box<str>, calculated_at: Timestamp },
    /// Written, or nobody knows: the target is read at that time. `most` is how many rows it may be written beside then.
    Unknown { reason: Option<Box<str>>, at: Timestamp, most: u32 },
    /// The target refused all that it was sent with: again, beside fewer.
    Refused { reason: Box<str>, most: u32 },
    /// The target has no such subject: looked at again at that time.
    Absent { at: Timestamp },
    /// It would fail again as it is.
    Dead { reason: Box<str> },
    /// It was not tried: nothing is counted against it.
    Untried,
}

/// A claim with what became of it.
#[derive(Clone, Debug)]
pub struct Settled<'a> {
    pub claim: &'a Claim,
    pub outcome: WriteOutcome,
}

/// How settled claims landed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landed {
    pub taken: u64,
    /// The lease ran out and another process claimed it, or the subject was erased.
    pub lost: u64,
}

/// How many rows of a target are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// To be written, failed ones included.
    pub pending: u64,
    /// Of these, those that failed before.
    pub failing: u64,
    /// Of these, those that are read first.
    pub unknown: u64,
    pub applied: u64,
    /// The target has no such subject.
    pub absent: u64,
    pub dead: u64,
}

/// A wish that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedWrite {
    pub key: CustomerKey,
    pub state: WishState,
    pub attempts: u32,
    pub reason: Box<str>,
    /// When it is tried again, unless it is dead.
    pub next_at: Timestamp,
}

/// One subject's row in one target.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    pub target: String,
    pub state: WishState,
    pub says: Box<str>,
    pub calculated_at: Timestamp,
    pub attempts: u32,
    pub reason: Option<Box<str>>,
    pub next_at: Timestamp,
    /// What the target is known to say, as of when.
    pub applied: Option<(Box<str>, Timestamp)>,
}

impl Claim {
    pub(super) fn subject(&self) -> i64 {
        self.subject
    }
}

impl Store {
    /// Claims writes that are due in a target, the most urgent and longest waiting first. They are `holder`'s alone for as
    /// long as `ttl`, which must be longer than a write can take. Rows that were refused in a batch come after all others.
    ///
    /// # Errors
    /// When nothing was claimed, or that is not known: what was, is claimed again after `ttl`.
    pub async fn claim_writes(
        &self,
        target: &str,
        holder: &str,
        limit: usize,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Vec<Claim>, StoreError> {
        const DUE: &str = "SELECT w.subject, COALESCE(c.key, l.key), COALESCE(c.contact, l.sealed), w.says, w.calculated_ms, \
                           w.attempts, CAST(CASE WHEN w.state = 'unknown' OR w.inflight_seq IS NOT NULL THEN 1 ELSE 0 END \
                           AS BIGINT), w.most, w.seq, w.applied, w.applied_ms FROM wishes w LEFT JOIN customers c ON c.num = w.subject \
                           LEFT JOIN leads l ON l.num = w.subject \
                           WHERE w.target = $1 AND w.state IN ('pending', 'unknown', 'absent') AND w.next_ms <= $2 \
                           AND (w.lease_until_ms IS NULL OR w.lease_until_ms <= $2) \
                           ORDER BY w.most DESC, w.urgency, w.next_ms LIMIT $3";
        const TAKE: &str = "WITH given(target, subject, holder, until_ms) AS ({rows}) \
                            UPDATE wishes SET inflight_seq = seq, lease_holder = given.holder, \
                            lease_until_ms = given.until_ms FROM given \
                            WHERE wishes.target = given.target AND wishes.subject = given.subject";
        let mut tx = self.write("written").await?;
        let limit_arg = Arg::Int(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = tx.rows(DUE, &[Arg::Text(target), Arg::Int(now.as_millisecond()), limit_arg]).await?;
        let mut claims: Vec<Claim> = rows.iter().map(claim).collect::<Result<_, _>>()?;
        let most = claims.first().map_or(0, |claim| claim.most);
        claims.retain(|claim| claim.most == most);
        claims.truncate(most as usize);
        let columns = [
            BulkColumn::Texts(vec![target.to_owned(); claims.len()]),
            BulkColumn::Ints(claims.iter().map(|claim| claim.subject).collect()),
            BulkColumn::Texts(vec![holder.to_owned(); claims.len()]),
            BulkColumn::Ints(vec![after(now, ttl); claims.len()]),
        ];
        tx.bulk(TAKE, &columns).await?;
        tx.commit().await?;
        Ok(claims)
    }

    /// When the next write of a target is due; `None` when none waits. It may be under a lease.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next_write(&self, target: &str) -> Result<Option<Timestamp>, StoreError> {
        const NEXT: &str = "SELECT next_ms FROM wishes WHERE target = $1 AND state IN ('pending', 'unknown', 'absent') \
                            ORDER BY next_ms LIMIT 1";
        let mut tx = self.read("read").await?;
        let row = tx.row(NEXT, &[Arg::Text(target)]).await?;
        row.map(|row| time(row.int(0)?, "wishes.next_ms")).transpose()
    }

    /// How many writes of a target could be claimed, up to `limit`.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub async fn count_due_writes(&self, target: &str, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        const DUE: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM wishes WHERE target = $1 \
                           AND state IN ('pending', 'unknown', 'absent') AND next_ms <= $2 \
                           AND (lease_until_ms IS NULL OR lease_until_ms <= $2) LIMIT $3) AS due";
        let mut tx = self.read("counted").await?;
        let limit = Arg::Int(i64::try_from(limit).unwrap_or(i64::MAX));
        let row = tx.row(DUE, &[Arg::Text(target), Arg::Int(now.as_millisecond()), limit]).await?;
        let due = row.map_or(Ok(0), |row| row.int(0))?;
        Ok(usize::try_from(due).unwrap_or(0))
    }

    /// Tells what became of claimed writes.
    ///
    /// # Errors
    /// When that is not known: unless it is told again, they are claimed again once their lease runs out.
    pub async fn settle_writes(
        &self,
        target: &str,
        holder: &str,
        settled: &[Settled<'_>],
        now: Timestamp,
    ) -> Result<Landed, StoreError> {
        let mut tx = self.write("written").await?;
        let mut landed = Landed::default();
        for one in settled {
            if settle(&mut tx, target, holder, one, now).await? {
                landed.taken += 1;
            } else {
                landed.lost += 1;
            }
        }
        tx.commit().await?;
        Ok(landed)
    }

    /// # Errors
    /// When they cannot be read.
    pub async fn outbox_counts(&self, target: &str) -> Result<OutboxCounts, StoreError> {
        const COUNT: &str = "SELECT state, COUNT(*), CAST(SUM(CASE WHEN last_error IS NOT NULL THEN 1 ELSE 0 END) AS BIGINT) \
                             FROM wishes WHERE target = $1 GROUP BY state";
        let mut tx = self.read("counted").await?;
        let mut counts = OutboxCounts::default();
        for row in tx.rows(COUNT, &[Arg::Text(target)]).await? {
            let (count, failing) = (row.int(1)?.cast_unsigned(), row.int(2)?.cast_unsigned());
            match state(row.text(0)?)? {
                WishState::Pending => {
                    counts.pending += count;
                    counts.failing += failing;
                }
                WishState::Unknown => {
                    counts.pending += count;
                    counts.failing += failing;
                    counts.unknown = count;
                }
                WishState::Applied => counts.applied = count,
                WishState::Absent => counts.absent = count,
                WishState::Dead => counts.dead = count,
            }
        }
        Ok(counts)
    }

    /// The oldest score that waits to be written in a target; `None` when none waits.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn oldest_write(&self, target: &str) -> Result<Option<Timestamp>, StoreError> {
        // The list is the index's own.
        const OLDEST: &str = "SELECT MIN(calculated_ms) FROM wishes WHERE target = $1 \
                              AND state IN ('pending', 'unknown', 'absent') AND state <> 'absent'";
        let mut tx = self.read("read").await?;
        let row = tx.row(OLDEST, &[Arg::Text(target)]).await?;
        let ms = row.map(|row| row.opt_int(0)).transpose()?.flatten();
        ms.map(|ms| time(ms, "wishes.calculated_ms")).transpose()
    }

    /// Failed wishes of a target with their reasons, those tried most often first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn failed_writes(&self, target: &str, limit: usize) -> Result<Vec<FailedWrite>, StoreError> {
        const LIST: &str = "SELECT COALESCE(c.key, l.key), w.state, w.attempts, w.last_error, w.next_ms FROM wishes w \
                            LEFT JOIN customers c ON c.num = w.subject LEFT JOIN leads l ON l.num = w.subject \
                            WHERE w.target = $1 AND w.last_error IS NOT NULL AND w.state <> 'applied' \
                            ORDER BY w.attempts DESC, w.subject LIMIT $2";
        let mut tx = self.read("read").await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.rows(LIST, &[Arg::Text(target), Arg::Int(limit)]).await?;
        let failure = |row: &DbRow| {
            Ok(FailedWrite {
                key: CustomerKey::from_digest(row.array(0, "key")?),
                state: state(row.text(1)?)?,
                attempts: attempts(row.int(2)?),
                reason: row.text(3)?.into(),
                next_at: time(row.int(4)?, "wishes.next_ms")?,
            })
        };
        rows.iter().map(failure).collect()
    }

    /// Lets the dead wishes of a target be tried again now, and those that it did not have; how many.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn retry_writes(&self, target: &str, now: Timestamp) -> Result<u64, StoreError> {
        const RETRY: &str = "UPDATE wishes SET attempts = 0, next_ms = $2, last_error = NULL, \
                             state = CASE WHEN state = 'dead' THEN 'unknown' ELSE state END \
                             WHERE target = $1 AND state IN ('dead', 'absent')";
        let mut tx = self.write("written").await?;
        let retried = tx.run(RETRY, &[Arg::Text(target), Arg::Int(now.as_millisecond())]).await?;
        tx.commit().await?;
        Ok(retried)
    }

    /// One subject's rows, over all targets.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn outbox_of_lead(&self, lead: &CustomerKey) -> Result<Vec<OutboxRow>, StoreError> {
        const FIND: &str = "SELECT w.target, w.state, w.says, w.calculated_ms, w.attempts, w.last_error, w.next_ms, w.applied, \
                            w.applied_ms FROM leads l JOIN wishes w ON w.subject = l.num WHERE l.key = $1 ORDER BY w.target";
        let mut tx = self.read("read").await?;
        let row = |row: &DbRow| {
            Ok(OutboxRow {
                target: row.text(0)?.to_owned(),
                state: state(row.text(1)?)?,
                says: row.text(2)?.into(),
                calculated_at: time(row.int(3)?, "wishes.calculated_ms")?,
                attempts: attempts(row.int(4)?),
                reason: row.opt_text(5)?.map(Into::into),
                next_at: time(row.int(6)?, "wishes.next_ms")?,
                applied: applied(row, 7)?,
            })
        };
        tx.rows(FIND, &[Arg::Bytes(lead.as_bytes())]).await?.iter().map(row).collect()
    }
}

/// Makes wishes of a target; how many are to be written. One for each subject. Where scores grow old, `refresh` is since
/// when one of the same value is written again for its time.
pub(super) async fn wish(
    tx: &mut Tx,
    target: &str,
    wishes: BTreeMap<i64, Wish>,
    now: Timestamp,
    refresh: Option<Timestamp>,
) -> Result<u64, StoreError> {
    let refresh_ms = refresh.map(Timestamp::as_millisecond);
    let known = known(tx, target, wishes.keys().copied().collect()).await?;
    let mut changes: Vec<(i64, Wish, WishState)> = Vec::new();
    for (subject, mut wish) in wishes {
        let known = known.get(&subject);
        match decide(known, &wish, refresh_ms) {
            WishDecision::Keep => {}
            WishDecision::Write => changes.push((subject, wish, WishState::Pending)),
            WishDecision::Settle => {
                wish.calculated_ms = known.and_then(|known| known.applied_ms).unwrap_or(wish.calculated_ms);
                changes.push((subject, wish, WishState::Applied));
            }
        }
    }
    put(tx, target, &changes, now).await?;
    Ok(changes.iter().filter(|(.., state)| *state != WishState::Applied).count() as u64)
}

/// Puts wishes in the place of those that are kept, to be written by now. That an earlier write may have arrived is not
/// forgotten with its wish.
pub(super) async fn put(
    tx: &mut Tx,
    target: &str,
    changes: &[(i64, Wish, WishState)],
    now: Timestamp,
) -> Result<(), StoreError> {
    const WRITE: &str = "INSERT INTO wishes (target, subject, seq, says, calculated_ms, state, urgency, most, attempts, next_ms) \
                         {rows} ON CONFLICT (target, subject) DO UPDATE SET \
                         seq = wishes.seq + 1, says = excluded.says, calculated_ms = excluded.calculated_ms, \
                         state = CASE WHEN wishes.state IN ('unknown', 'dead') AND excluded.state = 'pending' THEN 'unknown' \
                         ELSE excluded.state END, urgency = excluded.urgency, attempts = 0, next_ms = excluded.next_ms, \
                         last_error = NULL, most = CASE WHEN wishes.state = 'dead' THEN wishes.most ELSE excluded.most END";
    let columns = [
        BulkColumn::Texts(vec![target.to_owned(); changes.len()]),
        BulkColumn::Ints(changes.iter().map(|(subject, ..)| *subject).collect()),
        BulkColumn::Ints(vec![1; changes.len()]),
        BulkColumn::Texts(changes.iter().map(|(_, wish, _)| wish.says.to_string()).collect()),
        BulkColumn::Ints(changes.iter().map(|(_, wish, _)| wish.calculated_ms).collect()),
        BulkColumn::Texts(changes.iter().map(|(.., state)| state.as_str().to_owned()).collect()),
        BulkColumn::Ints(changes.iter().map(|(_, wish, _)| wish.urgency).collect()),
        BulkColumn::Ints(vec![i64::from(WITH_ALL); changes.len()]),
        BulkColumn::Ints(vec![0; changes.len()]),
        BulkColumn::Ints(vec![now.as_millisecond(); changes.len()]),
    ];
    tx.bulk(WRITE, &columns).await?;
    Ok(())
}

async fn known(tx: &mut Tx, target: &str, subjects: Vec<i64>) -> Result<BTreeMap<i64, KnownWish>, StoreError> {
    const FIND: &str = "WITH given(target, subject) AS ({rows}) \
                        SELECT w.subject, w.says, w.calculated_ms, w.state, w.applied, w.applied_ms, w.inflight_seq \
                        FROM given CROSS JOIN wishes w WHERE w.target = given.target AND w.subject = given.subject";
    let mut known = BTreeMap::new();
    let targets = vec![target.to_owned(); subjects.len()];
    for row in tx.bulk_rows(FIND, &[BulkColumn::Texts(targets), BulkColumn::Ints(subjects)]).await? {
        let state = state(row.text(3)?)?;
        let found = KnownWish {
            says: row.text(1)?.into(),
            calculated_ms: row.int(2)?,
            state,
            applied: row.opt_text(4)?.map(Into::into),
            applied_ms: row.opt_int(5)?,
            was_sent: state == WishState::Unknown || row.opt_int(6)?.is_some(),
        };
        known.insert(row.int(0)?, found);
    }
    Ok(known)
}

/// Whether the claim was still the holder's.
async fn settle(
    tx: &mut Tx,
    target: &str,
    holder: &str,
    one: &Settled<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // A wish that changed while this was written stays, unless the target says by chance what it wishes for.
    const APPLIED: &str = "UPDATE wishes SET applied = $5, applied_ms = $6, written_ms = $7, inflight_seq = NULL, \
                           lease_holder = NULL, lease_until_ms = NULL, attempts = 0, last_error = NULL, most = $8, \
                           calculated_ms = CASE WHEN seq = $4 OR says = $5 THEN $6 ELSE calculated_ms END, \
                           state = CASE WHEN seq = $4 OR says = $5 THEN 'applied' ELSE 'pending' END \
                           WHERE target = $1 AND subject = $2 AND lease_holder = $3 AND inflight_seq = $4";
    // What failed was the wish that was sent, not the one that came since: that one is due now, and is read first.
    const UNKNOWN: &str = "UPDATE wishes SET inflight_seq = NULL, lease_holder = NULL, lease_until_ms = NULL, \
                           state = 'unknown', attempts = attempts + $7, last_error = COALESCE($5, last_error), next_ms = $6, \
                           most = $8 \
                           WHERE target = $1 AND subject = $2 AND lease_holder = $3 AND inflight_seq = $4";
    const REFUSED: &str = "UPDATE wishes SET inflight_seq = NULL, lease_holder = NULL, lease_until_ms = NULL, \
                           last_error = $5, most = $6 \
                           WHERE target = $1 AND subject = $2 AND lease_holder = $3 AND inflight_seq = $4";
    const ENDED: &str = "UPDATE wishes SET inflight_seq = NULL, lease_holder = NULL, lease_until_ms = NULL, \
                         last_error = CASE WHEN seq = $4 THEN $5 ELSE last_error END, \
                         next_ms = CASE WHEN seq = $4 THEN $6 ELSE next_ms END, \
                         state = CASE WHEN seq = $4 THEN $7 ELSE state END, \
                         attempts = CASE WHEN seq = $4 THEN attempts + $8 ELSE attempts END \
                         WHERE target = $1 AND subject = $2 AND lease_holder = $3 AND inflight_seq = $4";
    const UNTRIED: &str = "UPDATE wishes SET inflight_seq = NULL, lease_holder = NULL, lease_until_ms = NULL, \
                           state = CASE WHEN $5 = 1 AND state = 'pending' THEN 'unknown' ELSE state END \
                           WHERE target = $1 AND subject = $2 AND lease_holder = $3 AND inflight_seq = $4";
    let Claim { subject, says, calculated_at, seq, .. } = one.claim;
    let mut args = vec![Arg::Text(target), Arg::Int(*subject), Arg::Text(holder), Arg::Int(*seq)];
    let applied = |says, at: &Timestamp| {
        let now = now.as_millisecond();
        [Arg::Text(says), Arg::Int(at.as_millisecond()), Arg::Int(now), Arg::Int(i64::from(WITH_ALL))]
    };
    let sql = match &one.outcome {
        WriteOutcome::Applied => {
            args.extend(applied(says, calculated_at));
            APPLIED
        }
        WriteOutcome::Newer { says, calculated_at } => {
            args.extend(applied(says, calculated_at));
            APPLIED
        }
        WriteOutcome::Unknown { reason, at, most } => {
            let failed = i64::from(reason.is_some());
            args.extend([Arg::OptText(reason.as_deref()), Arg::Int(at.as_millisecond()), Arg::Int(failed)]);
            args.push(Arg::Int(i64::from(*most)));
            UNKNOWN
        }
        WriteOutcome::Refused { reason, most } => {
            args.extend([Arg::Text(reason), Arg::Int(i64::from(*most))]);
            REFUSED
        }
        WriteOutcome::Absent { at } => {
            args.extend([Arg::Text("the target has no such contact"), Arg::Int(at.as_millisecond())]);
            args.extend([Arg::Text(WishState::Absent.as_str()), Arg::Int(0)]);
            ENDED
        }
        WriteOutcome::Dead { reason } => {
            args.extend([Arg::Text(reason), Arg::Int(0), Arg::Text(WishState::Dead.as_str()), Arg::Int(1)]);
            ENDED
        }
        WriteOutcome::Untried => {
            args.push(Arg::Int(i64::from(one.claim.is_unsettled)));
            UNTRIED
        }
    };
    Ok(tx.run(sql, &args).await? > 0)
}

fn claim(row: &DbRow) -> Result<Claim, StoreError> {
    Ok(Claim {
        subject: row.int(0)?,
        key: CustomerKey::from_digest(row.array(1, "key")?),
        sealed: row.opt_bytes(2)?.map(|bytes| SealedId(bytes.into())),
        says: row.text(3)?.into(),
        calculated_at: time(row.int(4)?, "wishes.calculated_ms")?,
        attempts: attempts(row.int(5)?),
        is_unsettled: row.int(6)? == 1,
        most: attempts(row.int(7)?).max(1),
        seq: row.int(8)?,
        applied: applied(row, 9)?,
    })
}

/// What the target is known to say, from a column on.
fn applied(row: &DbRow, from: usize) -> Result<Option<(Box<str>, Timestamp)>, StoreError> {
    match (row.opt_text(from)?, row.opt_int(from + 1)?) {
        (Some(says), Some(ms)) => Ok(Some((says.into(), time(ms, "wishes.applied_ms")?))),
        (Some(_) | None, Some(_) | None) => Ok(None),
    }
}

pub(super) fn state(text: &str) -> Result<WishState, StoreError> {
    WishState::parse(text).ok_or_else(|| StoreError::Unreadable { column: "wishes.state", value: text.to_owned() })
}

fn attempts(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
