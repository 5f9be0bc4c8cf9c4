//! Outcomes, each once, and the predictions that wait for them. What a prediction says is JSON that others make and read;
//! here it is found by customer, model and time.

use std::collections::{HashMap, HashSet};

use super::Store;
use super::customers::{digest, erased};
use super::db::{Arg, BulkColumn, DbRow, Tx};
use super::error::StoreError;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};

/// A prediction as it is kept. Whole seconds: answers show no more of their time.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptPrediction {
    pub version: ModelVersion,
    pub scored_s: i64,
    /// When the horizon is over.
    pub matures_s: i64,
    /// JSON.
    pub text: String,
}

/// A prediction that waits for its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingPrediction {
    pub customer: CustomerKey,
    pub model: ModelName,
    pub prediction: KeptPrediction,
}

/// An outcome as it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldOutcome {
    pub customer: CustomerKey,
    pub model: ModelName,
    pub spend_usd: f64,
    pub observed_at: Timestamp,
    /// The prediction it belongs to; the one that waits when absent.
    pub prediction: Option<KeptPrediction>,
}

/// An outcome that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptOutcome {
    pub seq: i64,
    pub model: ModelName,
    pub spend_usd: f64,
    pub mature: bool,
    /// The prediction's JSON.
    pub prediction: String,
}

/// What became of an outcome; with the prediction it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    Kept {
        mature: bool,
        prediction: KeptPrediction,
    },
    /// Known already; nothing was changed.
    Duplicate(KeptPrediction),
    /// No prediction was given and none waits.
    Unmatched,
    /// The customer was erased.
    Erased,
}

/// What makes an outcome the same as another: customer, model, version, time and whether it was mature.
type Once = (CustomerKey, ModelName, ModelVersion, i64, bool);

impl Store {
    /// Keeps outcomes, whole or not at all; one ruling each, in order. What is kept under an earlier key of a customer is
    /// first put under the current one (`moved`). Only the newest `most` outcomes are remembered.
    ///
    /// # Errors
    /// When nothing was kept, or that is not known: then they are told again.
    pub async fn tell_outcomes(
        &self,
        told: &[ToldOutcome],
        moved: &[(CustomerKey, CustomerKey)],
        most: usize,
    ) -> Result<Vec<Ruling>, StoreError> {
        const FORGET: &str =
            "DELETE FROM outcomes WHERE seq <= (SELECT value FROM counters WHERE name = 'outcome') - $1";
        let mut tx = self.write("told outcomes").await?;
        carry_over(&mut tx, moved).await?;
        let rulings = tell(&mut tx, told).await?;
        tx.run(FORGET, &[Arg::Int(i64::try_from(most).unwrap_or(i64::MAX))]).await?;
        tx.commit().await?;
        Ok(rulings)
    }

    /// Keeps predictions for their outcome, as long as there are fewer than `most`. How many of these are kept now.
    ///
    /// # Errors
    /// When nothing was kept, or that is not known.
    pub async fn keep_predictions(
        &self,
        mut predictions: Vec<WaitingPrediction>,
        most: usize,
    ) -> Result<usize, StoreError> {
        let mut tx = self.write("told predictions").await?;
        let row = tx.row("SELECT COUNT(*) FROM predictions", &[]).await?;
        let there = row.map_or(Ok(0), |row| row.int(0))?;
        predictions.truncate(most.saturating_sub(usize::try_from(there).unwrap_or(usize::MAX)));
        keep(&mut tx, &predictions).await?;
        tx.commit().await?;
        Ok(predictions.len())
    }

    /// Lets predictions go that matured before this second.
    ///
    /// # Errors
    /// When they are still there, or that is not known.
    pub async fn expire_predictions(&self, before_s: i64) -> Result<u64, StoreError> {
        let mut tx = self.write("cleared of old predictions").await?;
        let gone = tx.run("DELETE FROM predictions WHERE matures_s < $1", &[Arg::Int(before_s)]).await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// Of whom a prediction waits, by model, and the second of the last one.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn last_predictions(&self) -> Result<HashMap<(CustomerKey, ModelName), i64>, StoreError> {
        const LAST: &str = "SELECT customer, model, MAX(scored_s) FROM predictions GROUP BY customer, model";
        let mut tx = self.read("read").await?;
        let rows = tx.rows(LAST, &[]).await?;
        rows.iter().map(|row| Ok(((customer(row, 0)?, model(row, 1)?), row.int(2)?))).collect()
    }

    /// Outcomes after `seq` (0 for all), at most `limit`, in the order they were told: nothing before `seq` appears later.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn outcomes_since(&self, seq: i64, limit: usize) -> Result<Vec<KeptOutcome>, StoreError> {
        const SINCE: &str = "SELECT seq, model, spend_usd, mature, prediction FROM outcomes WHERE seq > $1 \
                             ORDER BY seq LIMIT $2";
        let mut tx = self.read("read").await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.rows(SINCE, &[Arg::Int(seq), Arg::Int(limit)]).await?;
        let kept = |row: &DbRow| {
            Ok(KeptOutcome {
                seq: row.int(0)?,
                model: model(row, 1)?,
                spend_usd: row.real(2)?,
                mature: row.int(3)? == 1,
                prediction: row.text(4)?.to_owned(),
            })
        };
        rows.iter().map(kept).collect()
    }

    /// How many predictions wait, and how many outcomes are remembered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn outcome_counts(&self) -> Result<(u64, u64), StoreError> {
        const COUNT: &str = "SELECT (SELECT COUNT(*) FROM predictions), (SELECT COUNT(*) FROM outcomes)";
        let mut tx = self.read("counted").await?;
        let Some(row) = tx.row(COUNT, &[]).await? else { return Ok((0, 0)) };
        Ok((row.int(0)?.cast_unsigned(), row.int(1)?.cast_unsigned()))
    }
}

/// Keeps predictions, but those of erased customers.
pub(super) async fn keep(tx: &mut Tx, predictions: &[WaitingPrediction]) -> Result<(), StoreError> {
    const KEEP: &str = "INSERT INTO predictions (customer, model, scored_s, matures_s, prediction) {rows} \
                        ON CONFLICT (customer, model, scored_s) DO NOTHING";
    let erased = erased(tx, predictions.iter().map(|one| one.customer).collect()).await?;
    let living: Vec<_> = predictions.iter().filter(|one| !erased.contains(&digest(&one.customer))).collect();
    let columns = [
        BulkColumn::Keys(living.iter().map(|one| *one.customer.as_bytes()).collect()),
        BulkColumn::Texts(living.iter().map(|one| one.model.to_string()).collect()),
        BulkColumn::Ints(living.iter().map(|one| one.prediction.scored_s).collect()),
        BulkColumn::Ints(living.iter().map(|one| one.prediction.matures_s).collect()),
        BulkColumn::Texts(living.iter().map(|one| one.prediction.text.clone()).collect()),
    ];
    tx.bulk(KEEP, &columns).await?;
    Ok(())
}

/// Keeps outcomes, but those of erased customers and those that are known.
pub(super) async fn tell(tx: &mut Tx, told: &[ToldOutcome]) -> Result<Vec<Ruling>, StoreError> {
    const KNOWN: &str = "WITH given(place, customer, model, version, scored_s, mature) AS ({rows}) \
                         SELECT given.place FROM given CROSS JOIN outcomes o WHERE o.customer = given.customer \
                         AND o.model = given.model AND o.version = given.version AND o.scored_s = given.scored_s \
                         AND o.mature = given.mature";
    const KEEP: &str = "INSERT INTO outcomes (seq, customer, model, version, scored_s, mature, spend_usd, observed_ms, \
                        prediction) {rows}";
    let erased = erased(tx, told.iter().map(|one| one.customer).collect()).await?;
    let open = told.iter().filter(|one| one.prediction.is_none()).map(|one| one.customer);
    let waiting = waiting(tx, open.collect()).await?;
    // A ruling for each, as if none of them were known.
    let mut rulings = Vec::with_capacity(told.len());
    let mut rows: Vec<(i64, &ToldOutcome, KeptPrediction, bool)> = Vec::new();
    let mut pending: HashSet<Once> = HashSet::new();
    for (place, one) in (0..).zip(told) {
        if erased.contains(&digest(&one.customer)) {
            rulings.push(Ruling::Erased);
            continue;
        }
        let observed_s = one.observed_at.as_second();
        let waiting = || waiting.get(&(one.customer, one.model.clone())).and_then(|all| belongs_to(all, observed_s));
        let Some(prediction) = one.prediction.clone().or_else(|| waiting().cloned()) else {
            rulings.push(Ruling::Unmatched);
            continue;
        };
        let mature = observed_s >= prediction.matures_s;
        let once = (one.customer, one.model.clone(), prediction.version.clone(), prediction.scored_s, mature);
        if pending.insert(once) {
            rulings.push(Ruling::Kept { mature, prediction: prediction.clone() });
            rows.push((place, one, prediction, mature));
        } else {
            rulings.push(Ruling::Duplicate(prediction));
        }
    }
    let once = |rows: &[(i64, &ToldOutcome, KeptPrediction, bool)]| {
        [
            BulkColumn::Keys(rows.iter().map(|(_, one, ..)| *one.customer.as_bytes()).collect()),
            BulkColumn::Texts(rows.iter().map(|(_, one, ..)| one.model.to_string()).collect()),
            BulkColumn::Texts(rows.iter().map(|(_, _, prediction, _)| prediction.version.to_string()).collect()),
            BulkColumn::Ints(rows.iter().map(|(_, _, prediction, _)| prediction.scored_s).collect()),
            BulkColumn::Ints(rows.iter().map(|(.., mature)| i64::from(*mature)).collect()),
        ]
    };
    let places = BulkColumn::Ints(rows.iter().map(|(place, ..)| *place).collect());
    let known = tx.bulk_rows(KNOWN, &[&[places][..], &once(&rows)].concat()).await?;
    let known: HashSet<i64> = known.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
    for (place, ruling) in (0..).zip(&mut rulings) {
        if let Ruling::Kept { prediction, .. } = ruling
            && known.contains(&place)
        {
            *ruling = Ruling::Duplicate(prediction.clone());
        }
    }
    rows.retain(|(place, ..)| !known.contains(place));
    if rows.is_empty() {
        return Ok(rulings);
    }
    // Numbers for new ones alone: outcomes that are told again push none of the remembered ones out.
    let first = tx.take("outcome", rows.len()).await?;
    let seqs = BulkColumn::Ints((first..).take(rows.len()).collect());
    let rest = [
        BulkColumn::Reals(rows.iter().map(|(_, one, ..)| one.spend_usd).collect()),
        BulkColumn::Ints(rows.iter().map(|(_, one, ..)| one.observed_at.as_millisecond()).collect()),
        BulkColumn::Texts(rows.iter().map(|(_, _, prediction, _)| prediction.text.clone()).collect()),
    ];
    tx.bulk(KEEP, &[&[seqs][..], &once(&rows), &rest].concat()).await?;
    Ok(rulings)
}

/// The prediction an outcome without one belongs to: the last whose horizon was over, else the first. `all` are in the
/// order of their time.
fn belongs_to(all: &[KeptPrediction], observed_s: i64) -> Option<&KeptPrediction> {
    all.iter().rev().find(|prediction| prediction.matures_s <= observed_s).or_else(|| all.first())
}

type Waiting = HashMap<(CustomerKey, ModelName), Vec<KeptPrediction>>;

/// The predictions that wait for outcomes of these customers, in the order of their time.
async fn waiting(tx: &mut Tx, customers: Vec<CustomerKey>) -> Result<Waiting, StoreError> {
    const FIND: &str = "WITH given(customer) AS ({rows}) \
                        SELECT p.customer, p.model, p.scored_s, p.matures_s, p.prediction \
                        FROM given CROSS JOIN predictions p WHERE p.customer = given.customer";
    /// What the columns beside the text do not say.
    #[derive(serde::Deserialize)]
    struct Named {
        version: ModelVersion,
    }
    let mut keys: Vec<_> = customers.into_iter().map(|customer| *customer.as_bytes()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut found = Waiting::new();
    for row in tx.bulk_rows(FIND, &[BulkColumn::Keys(keys)]).await? {
        let text = row.text(4)?.to_owned();
        let unreadable =
            |_| StoreError::Unreadable { column: "predictions.prediction", value: "no version".to_owned() };
        let Named { version } = serde_json::from_str(&text).map_err(unreadable)?;
        let prediction = KeptPrediction { version, scored_s: row.int(2)?, matures_s: row.int(3)?, text };
        found.entry((customer(&row, 0)?, model(&row, 1)?)).or_default().push(prediction);
    }
    for all in found.values_mut() {
        all.sort_by_key(|prediction| prediction.scored_s);
    }
    Ok(found)
}

/// Puts what is kept under one key of a customer under another: the pepper was changed.
pub(super) async fn carry_over(tx: &mut Tx, moved: &[(CustomerKey, CustomerKey)]) -> Result<(), StoreError> {
    const MOVE: [&str; 4] = [
        "UPDATE predictions SET customer = $2 WHERE customer = $1 AND NOT EXISTS (SELECT 1 FROM predictions o \
         WHERE o.customer = $2 AND o.model = predictions.model AND o.scored_s = predictions.scored_s)",
        "DELETE FROM predictions WHERE customer = $1 AND customer <> $2",
        "UPDATE outcomes SET customer = $2 WHERE customer = $1 AND NOT EXISTS (SELECT 1 FROM outcomes o \
         WHERE o.customer = $2 AND o.model = outcomes.model AND o.version = outcomes.version \
         AND o.scored_s = outcomes.scored_s AND o.mature = outcomes.mature)",
        "DELETE FROM outcomes WHERE customer = $1 AND customer <> $2",
    ];
    for (from, to) in moved.iter().filter(|(from, to)| from != to) {
        for sql in MOVE {
            tx.run(sql, &[Arg::Bytes(from.as_bytes()), Arg::Bytes(to.as_bytes())]).await?;
        }
    }
    Ok(())
}

fn customer(row: &DbRow, column: usize) -> Result<CustomerKey, StoreError> {
    row.array(column, "predictions.customer").map(CustomerKey::from_digest)
}

fn model(row: &DbRow, column: usize) -> Result<ModelName, StoreError> {
    let text = row.text(column)?;
    ModelName::parse(text).map_err(|_| StoreError::Unreadable { column: "model", value: text.to_owned() })
}
