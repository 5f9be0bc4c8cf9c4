//! The outbox of profiles: what each customer's profile should say in a target, written until it does.
//!
//! A row holds a wish, not a message: values are absolute, so that writing one twice does no harm. At most one write of a
//! row is in the air, under a lease that outlives it. A wish that changes meanwhile stays to be written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Store;
use super::customers::CustomerNumber;
use super::db::{Arg, BulkColumn, DbRow, Tx};
use super::error::StoreError;
use super::leases::after;
use super::scores::tier;
use super::time;
use super::wish::{KnownWish, Profile, WishDecision, WishState, decide};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, SealedId};

/// A write to be made now.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub number: CustomerNumber,
    pub customer: CustomerKey,
    /// Absent when the platform's identifier was never told.
    pub contact: Option<SealedId>,
    pub profile: Profile,
    /// What the profile was last known to say.
    pub last: Option<Profile>,
    /// Failed attempts so far.
    pub attempts: u32,
    seq: i64,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The profile says so now.
    Applied,
    /// Not, or nobody knows: again at that time. The reason must not name the customer.
    Retry { reason: Box<str>, at: Timestamp },
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
    /// When the profile was seen to say what nobody here had written; absent when it was not.
    pub edited_at: Option<Timestamp>,
}

/// How settled claims landed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landed {
    pub taken: u64,
    /// The lease ran out and another process claimed it, or the customer was erased.
    pub lost: u64,
}

/// How many rows of a target are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileCounts {
    /// To be written, failed ones included.
    pub pending: u64,
    /// Of the pending ones, those that failed before.
    pub failing: u64,
    pub applied: u64,
    pub dead: u64,
    /// Of all, those that somebody else had changed when they were written once more.
    pub edited: u64,
}

/// A wish that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedWrite {
    pub number: CustomerNumber,
    pub customer: CustomerKey,
    pub dead: bool,
    pub attempts: u32,
    pub reason: Box<str>,
    /// When it is tried again, unless it is dead.
    pub next_at: Timestamp,
}

impl Store {
    /// Claims writes that are due in a target, the longest waiting first. They are `holder`'s alone for as long as `ttl`,
    /// which must be longer than a write can take.
    ///
    /// # Errors
    /// When nothing was claimed, or that is not known: what was, is claimed again after `ttl`.
    pub async fn claim_profiles(
        &self,
        target: &str,
        holder: &str,
        limit: usize,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Vec<Claim>, StoreError> {
        const DUE: &str = "SELECT p.customer, c.key, c.contact, p.value_usd, p.tier, p.confidence, p.risk, \
                           p.calculated_ms, p.attempts, p.seq, p.applied_value_usd, p.applied_tier, \
                           p.applied_confidence, p.applied_risk, p.applied_calculated_ms FROM profiles p JOIN customers c ON c.num = p.customer \
                           WHERE p.target = $1 AND p.state = 'pending' AND p.next_ms <= $2 \
                           AND (p.lease_until_ms IS NULL OR p.lease_until_ms <= $2) \
                           ORDER BY p.next_ms, p.customer LIMIT $3";
        const TAKE: &str = "WITH given(target, customer, holder, until_ms) AS ({rows}) \
                            UPDATE profiles SET inflight_seq = seq, lease_holder = given.holder, \
                            lease_until_ms = given.until_ms FROM given \
                            WHERE profiles.target = given.target AND profiles.customer = given.customer";
        let mut tx = self.write("written").await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.rows(DUE, &[Arg::Text(target), Arg::Int(now.as_millisecond()), Arg::Int(limit)]).await?;
        let claims: Vec<Claim> = rows.iter().map(claim).collect::<Result<_, _>>()?;
        let columns = [
            BulkColumn::Texts(vec![target.to_owned(); claims.len()]),
            BulkColumn::Ints(claims.iter().map(|claim| claim.number.0).collect()),
            BulkColumn::Texts(vec![holder.to_owned(); claims.len()]),
            BulkColumn::Ints(vec![after(now, ttl); claims.len()]),
        ];
        tx.bulk(TAKE, &columns).await?;
        tx.commit().await?;
        Ok(claims)
    }

    /// Frees what `holder` claimed and never settled: for a process that begins and had that name before a kill. How many.
    ///
    /// # Errors
    /// When that is not known: they are claimed again once their lease runs out.
    pub async fn take_back_claims(&self, target: &str, holder: &str) -> Result<u64, StoreError> {
        const FREE: &str = "UPDATE profiles SET lease_holder = NULL, lease_until_ms = NULL \
                            WHERE target = $1 AND state = 'pending' AND lease_holder = $2";
        let mut tx = self.write("written").await?;
        let freed = tx.run(FREE, &[Arg::Text(target), Arg::Text(holder)]).await?;
        tx.commit().await?;
        Ok(freed)
    }

    /// Tells what became of claimed writes.
    ///
    /// # Errors
    /// When that is not known: unless it is told again, they are claimed again once their lease runs out.
    pub async fn settle_profiles(
        &self,
        target: &str,
        holder: &str,
        settled: &[Settled<'_>],
    ) -> Result<Landed, StoreError> {
        let mut tx = self.write("written").await?;
        let mut landed = Landed::default();
        for one in settled {
            if settle(&mut tx, target, holder, one).await? {
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
    pub async fn profile_counts(&self, target: &str) -> Result<ProfileCounts, StoreError> {
        const COUNT: &str = "SELECT state, COUNT(*), CAST(SUM(CASE WHEN attempts > 0 THEN 1 ELSE 0 END) AS BIGINT), \
                             COUNT(edited_ms) FROM profiles WHERE target = $1 GROUP BY state";
        let mut tx = self.read("counted").await?;
        let mut counts = ProfileCounts::default();
        for row in tx.rows(COUNT, &[Arg::Text(target)]).await? {
            let count = row.int(1)?.cast_unsigned();
            let failing = row.int(2)?.cast_unsigned();
            counts.edited += row.int(3)?.cast_unsigned();
            match state(row.text(0)?)? {
                WishState::Pending => (counts.pending, counts.failing) = (count, failing),
                WishState::Applied => counts.applied = count,
                WishState::Dead => counts.dead = count,
            }
        }
        Ok(counts)
    }

    /// Failed wishes of a target with their reasons: dead ones and ones that are tried again, those tried most often first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn profile_failures(&self, target: &str, limit: usize) -> Result<Vec<FailedWrite>, StoreError> {
        const LIST: &str = "SELECT p.customer, c.key, p.state, p.attempts, p.last_error, p.next_ms FROM profiles p \
                            JOIN customers c ON c.num = p.customer WHERE p.target = $1 AND p.state <> 'applied' \
                            AND p.last_error IS NOT NULL ORDER BY p.attempts DESC, p.customer LIMIT $2";
        let mut tx = self.read("read").await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.rows(LIST, &[Arg::Text(target), Arg::Int(limit)]).await?;
        let failure = |row: &DbRow| {
            Ok(FailedWrite {
                number: CustomerNumber(row.int(0)?),
                customer: CustomerKey::from_digest(row.array(1, "customers.key")?),
                dead: state(row.text(2)?)? == WishState::Dead,
                attempts: attempts(row.int(3)?),
                reason: row.text(4)?.into(),
                next_at: time(row.int(5)?, "profiles.next_ms")?,
            })
        };
        rows.iter().map(failure).collect()
    }

    /// Lets the dead wishes of a target be tried again now; how many.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn retry_dead_profiles(&self, target: &str, now: Timestamp) -> Result<u64, StoreError> {
        const RETRY: &str = "UPDATE profiles SET state = 'pending', attempts = 0, next_ms = $2 \
                             WHERE target = $1 AND state = 'dead'";
        let mut tx = self.write("written").await?;
        let retried = tx.run(RETRY, &[Arg::Text(target), Arg::Int(now.as_millisecond())]).await?;
        tx.commit().await?;
        Ok(retried)
    }
}

/// Makes wishes of a target; how many are to be written. One for each customer.
pub(super) async fn wish(
    tx: &mut Tx,
    target: &str,
    wishes: BTreeMap<i64, Profile>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    const WRITE: &str = "INSERT INTO profiles (target, customer, seq, value_usd, tier, confidence, risk, calculated_ms, \
                         state, applied_seq, attempts, next_ms) {rows} \
                         ON CONFLICT (target, customer) DO UPDATE SET \
                         seq = profiles.seq + 1, value_usd = excluded.value_usd, tier = excluded.tier, \
                         confidence = excluded.confidence, risk = excluded.risk, \
                         calculated_ms = excluded.calculated_ms, state = excluded.state, attempts = 0, \
                         next_ms = excluded.next_ms, last_error = NULL";
    let known = known(tx, target, wishes.keys().copied().collect()).await?;
    let mut changes: Vec<(i64, Profile, WishState)> = Vec::new();
    for (number, wish) in wishes {
        match decide(known.get(&number), &wish) {
            WishDecision::Keep => {}
            WishDecision::Write => changes.push((number, wish, WishState::Pending)),
            WishDecision::Settle => changes.push((number, wish, WishState::Applied)),
        }
    }
    let profiles = || changes.iter().map(|(_, profile, _)| profile);
    let columns = [
        BulkColumn::Texts(vec![target.to_owned(); changes.len()]),
        BulkColumn::Ints(changes.iter().map(|(number, ..)| *number).collect()),
        BulkColumn::Ints(vec![1; changes.len()]),
        BulkColumn::Reals(profiles().map(|profile| profile.value_usd).collect()),
        BulkColumn::Texts(profiles().map(|profile| profile.tier.as_str().to_owned()).collect()),
        BulkColumn::OptReals(profiles().map(|profile| profile.confidence).collect()),
        BulkColumn::OptReals(profiles().map(|profile| profile.risk).collect()),
        BulkColumn::Ints(profiles().map(|profile| profile.calculated_at.as_millisecond()).collect()),
        BulkColumn::Texts(changes.iter().map(|(.., state)| state.as_str().to_owned()).collect()),
        BulkColumn::Ints(vec![0; changes.len()]),
        BulkColumn::Ints(vec![0; changes.len()]),
        BulkColumn::Ints(vec![now.as_millisecond(); changes.len()]),
    ];
    tx.bulk(WRITE, &columns).await?;
    Ok(changes.iter().filter(|(.., state)| *state == WishState::Pending).count() as u64)
}

async fn known(tx: &mut Tx, target: &str, customers: Vec<i64>) -> Result<BTreeMap<i64, KnownWish>, StoreError> {
    const FIND: &str = "WITH given(target, customer) AS ({rows}) \
                        SELECT p.customer, p.value_usd, p.tier, p.confidence, p.risk, p.calculated_ms, p.state, \
                        p.applied_value_usd, p.applied_tier, p.applied_confidence, p.applied_risk, p.attempts, \
                        p.inflight_seq FROM given CROSS JOIN profiles p \
                        WHERE p.target = given.target AND p.customer = given.customer";
    let mut known = BTreeMap::new();
    let targets = vec![target.to_owned(); customers.len()];
    for row in tx.bulk_rows(FIND, &[BulkColumn::Texts(targets), BulkColumn::Ints(customers)]).await? {
        let calculated_at = time(row.int(5)?, "profiles.calculated_ms")?;
        let wished = profile(&row, 1, calculated_at)?;
        let applied = row.opt_real(7)?.map(|_| profile(&row, 7, calculated_at)).transpose()?;
        let sent = row.int(11)? > 0 || row.opt_int(12)?.is_some();
        let found = KnownWish { wished, applied, state: state(row.text(6)?)?, sent };
        known.insert(row.int(0)?, found);
    }
    Ok(known)
}

/// Whether the claim was still the holder's.
async fn settle(tx: &mut Tx, target: &str, holder: &str, one: &Settled<'_>) -> Result<bool, StoreError> {
    // A wish that changed while this was written stays, unless the profile says by chance what it wishes for.
    const APPLIED: &str = "UPDATE profiles SET applied_seq = $4, applied_value_usd = $5, applied_tier = $6, \
                           applied_confidence = $7, applied_risk = $8, applied_calculated_ms = $9, \
                           edited_ms = COALESCE($10, edited_ms), inflight_seq = NULL, lease_holder = NULL, \
                           lease_until_ms = NULL, attempts = 0, last_error = NULL, \
                           state = CASE WHEN seq = $4 OR (value_usd = $5 AND tier = $6 \
                           AND confidence IS NOT DISTINCT FROM $7 AND risk IS NOT DISTINCT FROM $8) \
                           THEN 'applied' ELSE state END \
                           WHERE target = $1 AND customer = $2 AND lease_holder = $3 AND inflight_seq = $4";
    // What failed was the wish that was sent, not the one that came since. It may have arrived all the same, so the attempt
    // stays counted: what the profile says is not known.
    const FAILED: &str = "UPDATE profiles SET inflight_seq = NULL, lease_holder = NULL, lease_until_ms = NULL, \
                          attempts = attempts + 1, last_error = $5, \
                          next_ms = CASE WHEN seq = $4 THEN $6 ELSE next_ms END, \
                          state = CASE WHEN seq = $4 THEN $7 ELSE state END \
                          WHERE target = $1 AND customer = $2 AND lease_holder = $3 AND inflight_seq = $4";
    const UNTRIED: &str = "UPDATE profiles SET inflight_seq = NULL, lease_holder = NULL, lease_until_ms = NULL \
                           WHERE target = $1 AND customer = $2 AND lease_holder = $3 AND inflight_seq = $4";
    let Claim { number, profile, seq, .. } = one.claim;
    let mut args = vec![Arg::Text(target), Arg::Int(number.0), Arg::Text(holder), Arg::Int(*seq)];
    let sql = match &one.outcome {
        WriteOutcome::Applied => {
            args.extend([Arg::Real(profile.value_usd), Arg::Text(profile.tier.as_str())]);
            args.extend([Arg::OptReal(profile.confidence), Arg::OptReal(profile.risk)]);
            let edited_ms = one.edited_at.map(Timestamp::as_millisecond);
            args.extend([Arg::Int(profile.calculated_at.as_millisecond()), Arg::OptInt(edited_ms)]);
            APPLIED
        }
        WriteOutcome::Retry { reason, at } => {
            args.extend([Arg::Text(reason), Arg::Int(at.as_millisecond()), Arg::Text(WishState::Pending.as_str())]);
            FAILED
        }
        WriteOutcome::Dead { reason } => {
            args.extend([Arg::Text(reason), Arg::Int(0), Arg::Text(WishState::Dead.as_str())]);
            FAILED
        }
        WriteOutcome::Untried => UNTRIED,
    };
    Ok(tx.run(sql, &args).await? > 0)
}

fn claim(row: &DbRow) -> Result<Claim, StoreError> {
    let calculated_at = time(row.int(7)?, "profiles.calculated_ms")?;
    let last_at = row.opt_int(14)?.map(|at| time(at, "profiles.applied_calculated_ms")).transpose()?;
    Ok(Claim {
        number: CustomerNumber(row.int(0)?),
        customer: CustomerKey::from_digest(row.array(1, "customers.key")?),
        contact: row.opt_bytes(2)?.map(|bytes| SealedId(bytes.into())),
        profile: profile(row, 3, calculated_at)?,
        last: last_at.map(|at| profile(row, 10, at)).transpose()?,
        attempts: attempts(row.int(8)?),
        seq: row.int(9)?,
    })
}

/// Value, tier, confidence and risk, from a column on.
fn profile(row: &DbRow, from: usize, calculated_at: Timestamp) -> Result<Profile, StoreError> {
    Ok(Profile {
        value_usd: row.real(from)?,
        tier: tier(row.text(from + 1)?)?,
        confidence: row.opt_real(from + 2)?,
        risk: row.opt_real(from + 3)?,
        calculated_at,
    })
}

fn state(text: &str) -> Result<WishState, StoreError> {
    WishState::parse(text).ok_or_else(|| StoreError::Unreadable { column: "profiles.state", value: text.to_owned() })
}

fn attempts(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
