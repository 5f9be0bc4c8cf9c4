//! Latest score of each customer; the wish for their profile is made in the same transaction.

use std::collections::{BTreeMap, HashMap};

use super::Store;
use super::customers::CustomerNumber;
use super::db::{Arg, BulkColumn, DbRow};
use super::error::StoreError;
use super::leases::Lease;
use super::outbox;
use super::positions::check_lease;
use super::time;
use super::wish::Profile;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, Estimate, Interval, ModelName, ModelVersion, Probability, Tier};

/// A score as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredScore {
    pub estimate: Estimate,
    pub model: ModelName,
    pub version: ModelVersion,
    /// The time the features told of.
    pub features_as_of: Timestamp,
    pub scored_at: Timestamp,
}

/// What became of scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScoresSaved {
    pub written: u64,
    /// Passed over: a later score is kept.
    pub older: u64,
    /// Passed over: erased in the meantime.
    pub unknown: u64,
    /// Profiles that are to be written now, over all targets.
    pub wishes: u64,
}

impl Store {
    /// Saves scores and what each target's profiles should say, whole or not at all. `targets` are the names of the places
    /// that profiles are written to.
    ///
    /// # Errors
    /// When nothing was saved, or that is not known.
    pub async fn save_scores(
        &self,
        scores: &[(CustomerNumber, StoredScore, Profile)],
        targets: &[&str],
        now: Timestamp,
        lease: Option<&Lease>,
    ) -> Result<ScoresSaved, StoreError> {
        const KNOWN: &str = "WITH given(num) AS ({rows}) \
                             SELECT c.num, s.scored_ms FROM given CROSS JOIN customers c \
                             LEFT JOIN scores s ON s.customer = c.num WHERE c.num = given.num";
        const UPSERT: &str = "INSERT INTO scores (customer, value_usd, low_usd, high_usd, risk, confidence, tier, \
                              model, version, features_as_of_ms, scored_ms) {rows} \
                              ON CONFLICT (customer) DO UPDATE SET value_usd = excluded.value_usd, \
                              low_usd = excluded.low_usd, high_usd = excluded.high_usd, risk = excluded.risk, \
                              confidence = excluded.confidence, tier = excluded.tier, model = excluded.model, \
                              version = excluded.version, features_as_of_ms = excluded.features_as_of_ms, \
                              scored_ms = excluded.scored_ms";
        let mut tx = self.write("written").await?;
        check_lease(&mut tx, lease).await?;
        let mut latest: BTreeMap<i64, (&StoredScore, &Profile)> = BTreeMap::new();
        for (number, score, profile) in scores {
            let kept = latest.entry(number.0).or_insert((score, profile));
            if score.scored_at >= kept.0.scored_at {
                *kept = (score, profile);
            }
        }
        let numbers = BulkColumn::Ints(latest.keys().copied().collect());
        let mut known = BTreeMap::new();
        for row in tx.bulk_rows(KNOWN, &[numbers]).await? {
            known.insert(row.int(0)?, row.opt_int(1)?);
        }
        let asked = latest.len();
        latest.retain(|number, _| known.contains_key(number));
        let unknown = (asked - latest.len()) as u64;
        latest.retain(
            |number, (score, _)| !matches!(known.get(number), Some(Some(ms)) if *ms > score.scored_at.as_millisecond()),
        );
        let older = (asked - latest.len()) as u64 - unknown;
        tx.bulk(UPSERT, &columns(&latest)).await?;
        let mut wishes = 0;
        for target in targets {
            let wished = latest.iter().map(|(number, (_, profile))| (*number, profile.wish()));
            wishes += outbox::wish(&mut tx, target, wished.collect(), now, None).await?;
        }
        tx.commit().await?;
        Ok(ScoresSaved { written: latest.len() as u64, older, unknown, wishes })
    }

    /// The tiers of the latest scores of these customers; those without a score are left out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn tiers_of(&self, customers: &[CustomerNumber]) -> Result<HashMap<CustomerNumber, Tier>, StoreError> {
        const FIND: &str = "WITH given(num) AS ({rows}) SELECT s.customer, s.tier FROM given CROSS JOIN scores s \
                            WHERE s.customer = given.num";
        let mut tx = self.read("read").await?;
        let numbers = BulkColumn::Ints(customers.iter().map(|number| number.0).collect());
        let rows = tx.bulk_rows(FIND, &[numbers]).await?;
        rows.iter().map(|row| Ok((CustomerNumber(row.int(0)?), tier(row.text(1)?)?))).collect()
    }

    /// One customer's latest score.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn score_of(&self, customer: &CustomerKey) -> Result<Option<StoredScore>, StoreError> {
        const FIND: &str = "SELECT s.value_usd, s.low_usd, s.high_usd, s.risk, s.confidence, s.tier, s.model, \
                            s.version, s.features_as_of_ms, s.scored_ms FROM customers c \
                            JOIN scores s ON s.customer = c.num WHERE c.key = $1";
        let mut tx = self.read("read").await?;
        let row = tx.row(FIND, &[Arg::Bytes(customer.as_bytes())]).await?;
        row.map(|row| score(&row)).transpose()
    }
}

fn columns(scores: &BTreeMap<i64, (&StoredScore, &Profile)>) -> [BulkColumn; 11] {
    let all = || scores.values().map(|(score, _)| *score);
    let reals =
        |each: fn(&Estimate) -> Option<f64>| BulkColumn::OptReals(all().map(|score| each(&score.estimate)).collect());
    [
        BulkColumn::Ints(scores.keys().copied().collect()),
        BulkColumn::Reals(all().map(|score| score.estimate.value).collect()),
        reals(|estimate| estimate.interval.map(Interval::low)),
        reals(|estimate| estimate.interval.map(Interval::high)),
        reals(|estimate| estimate.risk.map(Probability::get)),
        reals(|estimate| estimate.confidence.map(Probability::get)),
        BulkColumn::Texts(all().map(|score| score.estimate.tier.as_str().to_owned()).collect()),
        BulkColumn::Texts(all().map(|score| score.model.as_str().to_owned()).collect()),
        BulkColumn::Texts(all().map(|score| score.version.as_str().to_owned()).collect()),
        BulkColumn::Ints(all().map(|score| score.features_as_of.as_millisecond()).collect()),
        BulkColumn::Ints(all().map(|score| score.scored_at.as_millisecond()).collect()),
    ]
}

fn score(row: &DbRow) -> Result<StoredScore, StoreError> {
    let value = row.real(0)?;
    let interval = match (row.opt_real(1)?, row.opt_real(2)?) {
        (Some(low), Some(high)) => Interval::around(value, low, high),
        (Some(_), None) | (None, Some(_) | None) => None,
    };
    let named = |column: &'static str, value: &str| StoreError::Unreadable { column, value: value.to_owned() };
    let model = row.text(6)?;
    let version = row.text(7)?;
    Ok(StoredScore {
        estimate: Estimate {
            value,
            interval,
            risk: row.opt_real(3)?.and_then(Probability::clamped),
            confidence: row.opt_real(4)?.and_then(Probability::clamped),
            // Not kept: whoever routes by a stored score has its confidence.
            tier_probability: None,
            tier: tier(row.text(5)?)?,
        },
        model: ModelName::parse(model).map_err(|_| named("scores.model", model))?,
        version: ModelVersion::parse(version).map_err(|_| named("scores.version", version))?,
        features_as_of: time(row.int(8)?, "scores.features_as_of_ms")?,
        scored_at: time(row.int(9)?, "scores.scored_ms")?,
    })
}

pub(super) fn tier(text: &str) -> Result<Tier, StoreError> {
    let found = Tier::ALL.into_iter().find(|tier| tier.as_str() == text);
    found.ok_or_else(|| StoreError::Unreadable { column: "tier", value: text.to_owned() })
}
