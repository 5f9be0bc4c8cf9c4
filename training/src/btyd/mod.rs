//! "Buy till you die": models of when customers buy, when they silently leave and what an order is worth, from nothing
//! but the dates and amounts of their purchases.
//!
//! Time is in weeks. A customer is a [`History`]: repeat purchase days, the time of the last one, the time of
//! observation, both since the first purchase, and the mean amount of a repeat purchase day. Parameters are fitted by
//! maximum likelihood over their logarithms, so that they are positive.

mod bgnbd;
mod gamma_gamma;
mod mbgnbd;
mod optimize;
mod pareto_nbd;
mod special;

use std::collections::BTreeMap;

use scoreline_engine::features::purchases::PurchaseFeatures;

pub(crate) use self::bgnbd::BgNbd;
pub(crate) use self::gamma_gamma::GammaGamma;
pub(crate) use self::mbgnbd::MbgNbd;
pub(crate) use self::pareto_nbd::ParetoNbd;

pub(crate) const DAYS_IN_A_WEEK: f64 = 7.0;

/// What the models know of a customer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct History {
    /// Purchase days after the first (x).
    pub repeats: f64,
    /// Weeks from the first purchase to the last (`t_x`); 0 without a repeat purchase.
    pub last: f64,
    /// Weeks from the first purchase to the day of observation (T).
    pub age: f64,
    /// Mean amount of a repeat purchase day; 0 without one.
    pub mean_amount: f64,
}

impl History {
    /// Of a customer's purchase features: days become weeks, purchases of one day count once.
    pub(crate) fn of(purchases: &PurchaseFeatures) -> Self {
        let repeats = purchases.purchase_count - 1.0;
        let repeat_spend = purchases.total_spend_usd - purchases.first_order_usd;
        Self {
            repeats,
            last: (purchases.tenure_days - purchases.recency_days) / DAYS_IN_A_WEEK,
            age: purchases.tenure_days / DAYS_IN_A_WEEK,
            // Sums of cents leave a rest where nothing was spent.
            mean_amount: if repeat_spend > 0.005 { repeat_spend / repeats } else { 0.0 },
        }
    }
}

/// A distribution of histories with positive parameters.
pub(crate) trait Model: Sized {
    /// What the papers call the parameters.
    const NAMES: &'static [&'static str];

    /// Where the search starts, in the order of `NAMES`.
    const START: &'static [f64];

    /// From parameters in the order of `NAMES`.
    fn of(parameters: &[f64]) -> Self;

    /// In the order of `NAMES`.
    fn parameters(&self) -> Vec<f64>;

    /// What the likelihood reads of a history; `None` for one it says nothing about.
    fn reads(history: &History) -> Option<History>;

    /// Log-likelihood of one history.
    fn log_likelihood(&self, history: &History) -> f64;
}

/// A model of when customers buy.
pub(crate) trait Purchasing: Model {
    /// Probability that the customer has not left.
    fn alive(&self, history: &History) -> f64;

    /// Expected purchase days in the next `weeks`, the chance of having left included.
    fn expected_purchases(&self, history: &History, weeks: f64) -> f64;
}

/// A fitted model.
#[derive(Clone, Debug)]
pub(crate) struct Fitted<M> {
    pub model: M,
    /// Of all histories together, at the maximum.
    pub log_likelihood: f64,
}

impl<M: Model> Fitted<M> {
    /// The parameters and the log-likelihood, for people.
    pub(crate) fn summary(&self) -> String {
        let parameters = self.model.parameters();
        let named: Vec<_> = M::NAMES.iter().zip(parameters).map(|(name, value)| format!("{name} {value:.4}")).collect();
        format!("{}, log-likelihood {:.1}", named.join(", "), self.log_likelihood)
    }
}

/// Expected spend in the next `weeks`: expected purchase days times expected amount (Fader, Hardie & Lee 2005, "RFM and
/// CLV"), which takes how much a customer spends to be independent of how often.
pub(crate) fn expected_spend(purchasing: &impl Purchasing, amounts: &GammaGamma, history: &History, weeks: f64) -> f64 {
    purchasing.expected_purchases(history, weeks) * amounts.expected_amount(history)
}

/// Fits by maximum likelihood.
///
/// # Errors
/// When no history says anything, or the data do not settle the parameters.
pub(crate) fn fit<M: Model>(histories: &[History]) -> anyhow::Result<Fitted<M>> {
    let counted = tally::<M>(histories);
    let customers: f64 = counted.iter().map(|(_, count)| count).sum();
    anyhow::ensure!(customers > 0.0, "no customer has the purchases this model reads");
    let total = |model: &M| counted.iter().map(|(history, count)| count * model.log_likelihood(history)).sum::<f64>();
    let at = |logs: &[f64]| M::of(&logs.iter().map(|log| log.exp()).collect::<Vec<_>>());
    let start: Vec<f64> = M::START.iter().map(|parameter| parameter.ln()).collect();
    let found = optimize::minimize(&start, |logs| -total(&at(logs)) / customers)?;
    let model = at(&found);
    let log_likelihood = total(&model);
    Ok(Fitted { model, log_likelihood })
}

/// Equal histories once, with their number: days are whole, and most customers bought once.
fn tally<M: Model>(histories: &[History]) -> Vec<(History, f64)> {
    let mut counts = BTreeMap::<[u64; 4], (History, f64)>::new();
    for history in histories.iter().filter_map(M::reads) {
        let History { repeats, last, age, mean_amount } = history;
        let key = [repeats, last, age, mean_amount].map(f64::to_bits);
        counts.entry(key).or_insert((history, 0.0)).1 += 1.0;
    }
    counts.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_distr::{Beta, Distribution as _, Exp, Gamma};

    use super::*;

    /// The published 1/10 sample of CDNOW, summarised over its first 39 weeks.
    fn sample() -> Vec<History> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cdnow_sample/summary.csv");
        let mut reader = csv::Reader::from_path(path).expect("the file");
        let row = |record: Result<(u32, f64, f64, f64, f64), csv::Error>| {
            let (_, repeats, last, age, mean_amount) = record.expect("a row");
            History { repeats, last, age, mean_amount }
        };
        reader.deserialize().map(row).collect()
    }

    fn near(found: &[f64], expected: &[f64], relative: f64) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= relative * b.abs(), "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn published_parameters_are_found_on_the_published_sample() {
        let sample = sample();
        assert_eq!(sample.len(), 2357);
        // Fader, Hardie & Lee (2005) give both.
        let bg = fit::<BgNbd>(&sample).expect("fits");
        near(&bg.model.parameters(), &[0.243, 4.414, 0.793, 2.426], 2e-3);
        assert!((bg.log_likelihood + 9582.4).abs() < 0.05, "{}", bg.log_likelihood);
        let pareto = fit::<ParetoNbd>(&sample).expect("fits");
        near(&pareto.model.parameters(), &[0.553, 10.578, 0.606, 11.669], 2e-3);
        assert!((pareto.log_likelihood + 9595.0).abs() < 0.05, "{}", pareto.log_likelihood);
        // Fader & Hardie (2013).
        let amounts = fit::<GammaGamma>(&sample).expect("fits");
        near(&amounts.model.parameters(), &[6.25, 3.74, 15.44], 2e-3);
    }

    /// Customers who behave as a model says: age, then purchase times, by first principles.
    fn simulated(
        customers: u32,
        mut person: impl FnMut(&mut Xoshiro256PlusPlus, f64) -> Vec<f64>,
    ) -> (Vec<History>, Vec<f64>) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut afterwards = Vec::new();
        let histories = (0..customers).map(|_| {
            let age = random.random_range(27.0..39.0);
            let times = person(&mut random, age + 39.0);
            let seen: Vec<f64> = times.iter().copied().filter(|time| *time <= age).collect();
            afterwards.push((times.len() - seen.len()) as f64);
            let last = seen.last().copied().unwrap_or(0.0);
            History { repeats: seen.len() as f64, last, age, mean_amount: 0.0 }
        });
        (histories.collect(), afterwards)
    }

    fn gamma(shape: f64, rate: f64) -> Gamma<f64> {
        Gamma::new(shape, 1.0 / rate).expect("a distribution")
    }

    /// The parameters come back, and what is expected after the day of observation is what then happened.
    fn recovered<M: Purchasing>(expected: &[f64], (histories, afterwards): (Vec<History>, Vec<f64>)) {
        let model = fit::<M>(&histories).expect("fits").model;
        near(&model.parameters(), expected, 0.15);
        let forecast: f64 = histories.iter().map(|history| model.expected_purchases(history, 39.0)).sum();
        near(&[forecast], &[afterwards.iter().sum()], 0.03);
    }

    #[test]
    fn simulated_dropouts_at_purchases_are_recovered() {
        for at_first_purchase in [false, true] {
            let rates = gamma(0.8, 6.0);
            let leaving = Beta::new(1.2, 3.0).expect("a distribution");
            let customers = simulated(40_000, |random, until| {
                let rate = rates.sample(random);
                let leaves = leaving.sample(random);
                let mut times = Vec::new();
                let mut time = 0.0;
                if at_first_purchase && random.random_bool(leaves) {
                    return times;
                }
                loop {
                    time += Exp::new(rate).expect("a rate").sample(random);
                    if time > until {
                        return times;
                    }
                    times.push(time);
                    if random.random_bool(leaves) {
                        return times;
                    }
                }
            });
            if at_first_purchase {
                recovered::<MbgNbd>(&[0.8, 6.0, 1.2, 3.0], customers);
            } else {
                recovered::<BgNbd>(&[0.8, 6.0, 1.2, 3.0], customers);
            }
        }
    }

    #[test]
    fn simulated_lifetimes_are_recovered() {
        let rates = gamma(0.8, 6.0);
        let lives = gamma(0.9, 12.0);
        let customers = simulated(40_000, |random, until| {
            let rate = rates.sample(random);
            let leaving = lives.sample(random);
            let end = Exp::new(leaving).expect("a rate").sample(random).min(until);
            let mut times = Vec::new();
            let mut time = 0.0;
            loop {
                time += Exp::new(rate).expect("a rate").sample(random);
                if time > end {
                    return times;
                }
                times.push(time);
            }
        });
        recovered::<ParetoNbd>(&[0.8, 6.0, 0.9, 12.0], customers);
    }

    #[test]
    fn simulated_amounts_are_recovered() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(8);
        let scales = gamma(3.0, 20.0);
        let customers: Vec<History> = (0..20_000)
            .map(|_| {
                let repeats = f64::from(random.random_range(1..6_u32));
                let scale = scales.sample(&mut random);
                let total = gamma(4.0 * repeats, scale).sample(&mut random);
                History { repeats, last: 1.0, age: 2.0, mean_amount: total / repeats }
            })
            .collect();
        let amounts = fit::<GammaGamma>(&customers).expect("fits").model;
        near(&amounts.parameters(), &[4.0, 3.0, 20.0], 0.1);
        // The mean over customers of p / scale is p gamma / (q - 1) = 40.
        let newcomer = History { repeats: 0.0, last: 0.0, age: 2.0, mean_amount: 0.0 };
        near(&[amounts.expected_amount(&newcomer)], &[40.0], 0.03);
    }

    #[test]
    fn a_history_is_read_from_features() {
        use jiff::civil::date;
        use scoreline_domain::Purchase;
        use scoreline_engine::features::purchases::PurchaseHistory;

        let purchase = |day, amount_usd| Purchase { date: date(1997, 1, day), amount_usd, items: Some(1.0) };
        let mut purchases = [purchase(1, 10.0), purchase(8, 4.0), purchase(8, 5.0), purchase(15, 12.0)];
        let features = PurchaseHistory::from_unsorted(date(1997, 1, 29), &mut purchases).expect("possible").features();
        let expected = History { repeats: 2.0, last: 2.0, age: 4.0, mean_amount: 10.5 };
        assert_eq!(History::of(&features.expect("purchases")), expected);
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        assert!(fit::<BgNbd>(&[]).is_err());
        let once = History { repeats: 0.0, last: 0.0, age: 9.0, mean_amount: 0.0 };
        assert!(fit::<GammaGamma>(&[once]).is_err());
    }
}
