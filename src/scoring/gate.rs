//! Whether a version that nobody chose may take over: it answers the requests of the version it is compared with, and
//! customers drawn from that version's frozen bins. What answers too differently is held for a person to look at.

use fastrand::Rng;

use super::estimate::Wish;
use super::task::{TaskScore, outcome_rows};
use scoreline_domain::{Tier, catalogued};
use scoreline_engine::features::drift::DriftBins;
use scoreline_engine::features::{FeatureRule, Value};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::{GoldenValue, ReadCustomer};
use scoreline_engine::inference::manifest::Task;

/// Customers drawn beside the golden requests.
const DRAWN: usize = 256;
/// The same customers in every comparison: a restart comes to the same.
const SEED: u64 = 1;
/// Fewest customers that both versions answer: less says nothing.
const FEWEST: usize = 16;
/// A mean this many times larger or smaller is another model.
const MEAN_FACTOR: f64 = 2.0;
/// A tier's share, or that of leads to be called first, may move by this much.
const SHARE: f64 = 0.2;
/// The documented limit of leads that are called first.
const FIRST_LEADS: u8 = 70;

type Customer = Vec<(String, Option<GoldenValue>)>;

/// Why `newcomer` may not take over from `reference`, in words; `None` when it may.
pub fn departure(newcomer: &ModelSnapshot, reference: &ModelSnapshot) -> Option<String> {
    let customers = customers(reference);
    let (new, old) = (answers(newcomer, &customers), answers(reference, &customers));
    let known = old.iter().flatten().count();
    let both: Vec<_> = new.iter().zip(&old).filter_map(|(new, old)| Some((new.as_ref()?, old.as_ref()?))).collect();
    if both.len() < FEWEST.min(known) {
        let lost = known - both.len();
        return Some(format!(
            "it gives no answer to {lost} of {known} customers that `{}` answers",
            reference.version()
        ));
    }
    if both.len() < FEWEST {
        return None;
    }
    let of = |tell: fn(&TaskScore) -> f64| {
        let mean = |scores: &mut dyn Iterator<Item = f64>| scores.sum::<f64>() / both.len() as f64;
        (mean(&mut both.iter().map(|(new, _)| tell(new))), mean(&mut both.iter().map(|(_, old)| tell(old))))
    };
    let (new_mean, old_mean) = of(amount);
    let asked = format!("of {} customers drawn from the frozen bins of `{}`", both.len(), reference.version());
    if new_mean > MEAN_FACTOR * old_mean || old_mean > MEAN_FACTOR * new_mean {
        return Some(format!("its mean is {new_mean:.4} against {old_mean:.4}, {asked}"));
    }
    for (name, is_in) in groups(reference.task()) {
        let (new, old) = of(is_in);
        if (new - old).abs() > SHARE {
            return Some(format!("{:.0} % are {name} against {:.0} %, {asked}", 100.0 * new, 100.0 * old));
        }
    }
    None
}

/// US dollars, or a probability.
fn amount(score: &TaskScore) -> f64 {
    match score {
        TaskScore::Clv(estimate) => estimate.value,
        TaskScore::Lead(lead) => lead.probability.get(),
    }
}

/// A name, and 1 for those who are in it.
type Group = (&'static str, fn(&TaskScore) -> f64);

/// What customers are routed or called by, with 1 for those who are in it.
fn groups(task: Task) -> Vec<Group> {
    fn is_tier(score: &TaskScore, tier: Tier) -> f64 {
        f64::from(u8::from(matches!(score, TaskScore::Clv(estimate) if estimate.tier == tier)))
    }
    match task {
        Task::Clv => vec![
            (Tier::High.as_str(), |score| is_tier(score, Tier::High)),
            (Tier::Medium.as_str(), |score| is_tier(score, Tier::Medium)),
            (Tier::Low.as_str(), |score| is_tier(score, Tier::Low)),
        ],
        Task::Lead => vec![("called first", |score| {
            f64::from(u8::from(matches!(score, TaskScore::Lead(lead) if lead.priority > FIRST_LEADS)))
        })],
    }
}

/// The golden requests of a version and customers drawn from its bins.
fn customers(reference: &ModelSnapshot) -> Vec<Customer> {
    let golden = reference.golden().iter().map(|row| row.request.features.clone().into_iter().collect());
    let mut random = Rng::with_seed(SEED);
    let mut draw =
        || reference.schema().rules().iter().map(|rule| (rule.name.clone(), drawn(rule, &mut random))).collect();
    golden.chain(std::iter::repeat_with(&mut draw).take(DRAWN)).collect()
}

fn drawn(rule: &FeatureRule, random: &mut Rng) -> Option<GoldenValue> {
    let value = match &rule.drift {
        Some(bins) => in_bins(bins, rule, random)?,
        None => rule.min + random.f64() * (rule.max - rule.min),
    };
    if !rule.categories.is_empty() {
        return rule.categories.get(value as usize).cloned().map(GoldenValue::Text);
    }
    let is_whole = catalogued(&rule.name).is_some_and(|feature| feature.whole);
    Some(GoldenValue::Number(if is_whole { value.ceil() } else { value }))
}

/// A value of a cell that is drawn by its share; `None` is missing.
fn in_bins(bins: &DriftBins, rule: &FeatureRule, random: &mut Rng) -> Option<f64> {
    let mut left = random.f64();
    let shares = bins.cell_shares();
    let last = shares.len() - 1;
    let cell = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    let bin = match cell.unwrap_or(last) {
        0 => return None,
        1 => return Some(0.0),
        cell => cell - 2,
    };
    if let Some(never) = rule.never
        && bin == bins.edges.len()
        && never > rule.max
    {
        return Some(never);
    }
    let low = bin.checked_sub(1).map_or(rule.min, |below| bins.edges[below]);
    let high = bins.edges.get(bin).copied().unwrap_or(rule.max).max(low);
    // The upper edge belongs to the bin, the lower does not.
    Some(high - random.f64() * (high - low))
}

/// What a version answers each customer; `None` for one it refuses or has only a baseline for.
fn answers(snapshot: &ModelSnapshot, customers: &[Customer]) -> Vec<Option<TaskScore>> {
    let schema = snapshot.schema();
    let mut raw = Vec::with_capacity(customers.len() * schema.len());
    let mut places = vec![None; customers.len()];
    for (place, customer) in places.iter_mut().zip(customers) {
        let known = customer.iter().filter(|(name, _)| schema.position(name).is_some());
        let named = known.map(|(name, value)| (name.as_str(), value.as_ref().map(Value::from)));
        if let Ok(ReadCustomer::Known(given)) = snapshot.read(named) {
            *place = Some(raw.len() / schema.len());
            raw.extend_from_slice(&given.raw);
        }
    }
    if raw.is_empty() {
        return vec![None; customers.len()];
    }
    let scored = outcome_rows(snapshot, &raw, Wish::default()).unwrap_or_default();
    places.into_iter().map(|place| scored.get(place?)?.as_ref().ok().copied()).collect()
}
