//! How often tiers would change if every customer were rescored for a year, with and without the dead band.
//!
//! Scores are computed every four hours, but features count days: five of the six scores of a day are the same, so that
//! one a day is computed. The model is the one of `clv-purchases`, fitted once; only what is known grows.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use scoreline::packing::report::Progress;
use scoreline::packing::split::mix;
use scoreline::scoring::estimate::{Wish, estimate_rows};
use scoreline::scoring::predictive::HurdleLogNormal;
use scoreline_domain::Tier;
use scoreline_engine::features::purchases::PurchaseHistory;
use scoreline_engine::inference::bundle::ModelSnapshot;
use scoreline_engine::inference::manifest::TierThresholds;

use crate::cdnow::Customer;

/// The simulated year.
const FIRST_DAY: Date = date(1997, 7, 1);
const DAYS: i64 = 365;

/// Scores of one day.
const RESCORES_A_DAY: u32 = 6;

/// A flip that is taken back within this many days was none.
const REVERSED_WITHIN_DAYS: i64 = 30;

/// Under the literal rule a customer moves when the other side of the limit is at least this probable.
const LIKELY: f64 = 0.6;

/// How tiers are assigned over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// By value alone.
    ByValue,
    /// With the bundle's dead band.
    DeadBand,
    /// Only when the other side of a limit is likelier than `LIKELY`.
    OtherSideLikely,
}

/// What a rule did in the year.
#[derive(Clone, Debug, Default)]
struct Tally {
    flips: u64,
    reversed: u64,
    /// Customer-days in Low, Medium and High.
    days: [u64; 3],
}

/// One rule's course of one customer.
struct Course {
    tier: Tier,
    /// The last flip: its day and the tier that was left.
    last: Option<(i64, Tier)>,
}

/// Rescores some customers for a year and returns the table of flips.
///
/// # Errors
/// When the snapshot is no purchase model or the histories cannot be read.
pub(crate) fn simulate(
    snapshot: &ModelSnapshot,
    customers: &[Customer],
    sample: usize,
    progress: &Progress,
) -> anyhow::Result<String> {
    progress.step("rescoring a year");
    let rules = [Rule::ByValue, Rule::DeadBand, Rule::OtherSideLikely];
    let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
    let mut chosen: Vec<&Customer> = customers.iter().collect();
    chosen.sort_by_key(|customer| mix(customer.id));
    chosen.truncate(sample);
    for customer in &chosen {
        let mut courses: [Option<Course>; 3] = [None, None, None];
        for (day, answer) in answers(snapshot, customer)? {
            for ((rule, course), tally) in rules.iter().zip(&mut courses).zip(&mut tallies) {
                rule.follow(course, day, &answer, snapshot, tally);
            }
        }
    }
    table(&rules, &tallies, chosen.len())
}

/// A day's score.
struct Answer {
    value: f64,
    hurdle: HurdleLogNormal,
}

/// The scores of one customer, from the first purchase on or the first day of the year.
fn answers(snapshot: &ModelSnapshot, customer: &Customer) -> anyhow::Result<Vec<(i64, Answer)>> {
    let names: Vec<&str> = snapshot.schema().rules().iter().map(|rule| rule.name.as_str()).collect();
    let mut days = Vec::new();
    let mut raw = Vec::new();
    for day in 0..DAYS {
        let mut history = PurchaseHistory::as_of(FIRST_DAY.checked_add(day.days())?);
        for purchase in &customer.purchases {
            history.add(purchase)?;
        }
        let Some(features) = history.features() else { continue };
        let named = features.named();
        days.push(day);
        let value = |name: &&str| named.iter().find(|(known, _)| known == name).and_then(|(_, value)| *value);
        raw.extend(names.iter().map(|name| value(name).unwrap_or(f64::NAN)));
    }
    let outputs = scoreline_engine::inference::bundle::run_rows(snapshot, &raw)?;
    let roles = snapshot.roles();
    let shape = roles.log_mean.as_ref().zip(roles.log_sigma.as_ref());
    let (mean, sigma) = shape.context("the model gives no distribution")?;
    let estimates = estimate_rows(snapshot, &raw, Wish::default())?;
    let width = snapshot.engine().outputs().len();
    let answers = days.into_iter().zip(estimates).zip(outputs.chunks_exact(width)).map(|((day, estimate), outputs)| {
        let estimate = estimate?;
        let zero = estimate.risk.context("the model gives no risk")?.get();
        let hurdle = HurdleLogNormal { zero, mean: mean.of(outputs), sigma: sigma.of(outputs) };
        Ok((day, Answer { value: estimate.value, hurdle }))
    });
    answers.collect()
}

impl Rule {
    fn follow(
        self,
        course: &mut Option<Course>,
        day: i64,
        answer: &Answer,
        snapshot: &ModelSnapshot,
        tally: &mut Tally,
    ) {
        let tier = match (self, &course) {
            (Self::ByValue, _) | (_, None) => snapshot.tier_from(answer.value, None),
            (Self::DeadBand, Some(course)) => snapshot.tier_from(answer.value, Some(course.tier)),
            (Self::OtherSideLikely, Some(course)) => likely(snapshot.tiers(), answer, course.tier),
        };
        tally.days[Tier::ALL.iter().position(|known| *known == tier).unwrap_or_default()] += 1;
        let course = course.get_or_insert(Course { tier, last: None });
        if tier == course.tier {
            return;
        }
        tally.flips += 1;
        if course.last.is_some_and(|(flipped, left)| left == tier && day - flipped <= REVERSED_WITHIN_DAYS) {
            tally.reversed += 1;
        }
        *course = Course { tier, last: Some((day, course.tier)) };
    }
}

/// The tier when a limit is passed only where its other side is likely under the predictive distribution.
fn likely(limits: TierThresholds, answer: &Answer, tier: Tier) -> Tier {
    let above = |limit: f64, was_above: bool| {
        let below = answer.hurdle.below(limit);
        if was_above { below < LIKELY } else { 1.0 - below >= LIKELY }
    };
    if above(limits.high, tier >= Tier::High) {
        Tier::High
    } else if above(limits.medium, tier >= Tier::Medium) {
        Tier::Medium
    } else {
        Tier::Low
    }
}

fn table(rules: &[Rule], tallies: &[Tally], customers: usize) -> anyhow::Result<String> {
    let mut text = format!(
        "{customers} customers rescored every {} hours from {FIRST_DAY} for {DAYS} days\n\n\
         rule                                  flips a year  taken back in {REVERSED_WITHIN_DAYS} days     Low  Medium    High\n",
        24 / RESCORES_A_DAY
    );
    for (rule, tally) in rules.iter().zip(tallies) {
        let name = match rule {
            Rule::ByValue => "by value alone",
            Rule::DeadBand => "with the bundle's dead band",
            Rule::OtherSideLikely => "only when the other side has P >= 0.6",
        };
        let days: u64 = tally.days.iter().sum();
        let years = days as f64 / DAYS as f64;
        let share = tally.days.map(|spent| 100.0 * spent as f64 / days.max(1) as f64);
        writeln!(
            text,
            "{name:<38}{:>12.3}{:>23.4}{:>7.1}%{:>7.1}%{:>7.1}%",
            tally.flips as f64 / years,
            tally.reversed as f64 / years,
            share[0],
            share[1],
            share[2]
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_passed_where_its_other_side_is_likely() {
        let limits = TierThresholds { medium: 10.0, high: 100.0 };
        let answer = |zero, mean| Answer { value: 0.0, hurdle: HurdleLogNormal { zero, mean, sigma: 0.1 } };
        // Buys with 0.65, then surely 20: above 10 with 0.65, above 100 never.
        assert_eq!(likely(limits, &answer(0.35, 3.0), Tier::Low), Tier::Medium);
        assert_eq!(likely(limits, &answer(0.45, 3.0), Tier::Low), Tier::Low, "0.55 is not enough to rise");
        assert_eq!(likely(limits, &answer(0.45, 3.0), Tier::Medium), Tier::Medium, "nor 0.45 to fall");
        assert_eq!(likely(limits, &answer(0.65, 3.0), Tier::High), Tier::Low, "both limits are passed at once");
    }
}
