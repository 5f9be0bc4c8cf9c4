//! The compared models: each learns from a task's customers and says what its other customers will spend.

use std::time::Duration;

use anyhow::Context as _;
use scoreline::packing::split::Split;
use scoreline::packing::statistics;
use scoreline_engine::features::FeatureSchema;
use scoreline_engine::inference::FeatureMatrix;
use scoreline_engine::inference::linear::{self, LinearModel};

use super::python::{self, Python};
use super::task::{Case, RECENT_DAYS, Task};
use crate::btyd::{self, BgNbd, DAYS_IN_A_WEEK, GammaGamma, History, MbgNbd, ParetoNbd, Purchasing};
use crate::cohort::Member;
use crate::fit::{Prepared, Sign, hurdle};
use crate::{forest, product, train, tweedie};

/// A model of the comparison.
#[derive(Clone, Debug)]
pub(super) enum Contender {
    /// Everybody spends the mean of those learnt from.
    Mean,
    /// Everybody goes on spending at the rate seen so far, but for the first purchase, which made them a customer.
    Repeat,
    /// Everybody goes on spending at the rate of the last 91 days.
    Recent,
    BgNbd,
    MbgNbd,
    ParetoNbd,
    Hurdle,
    TweedieGlm,
    SmartcoreForest,
    SmartcoreBoosting,
    /// `LightGBM` by `train.py`: its learner.
    Python(&'static str, Python),
    Shipped,
}

/// What became of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ContenderOutcome {
    /// A value for each customer of `Task::test`, and what is worth knowing of the fit.
    Predicted(Vec<f64>, String),
    /// It cannot run here, and what would help.
    Skipped(String),
    /// It ran out of time.
    Stopped,
}

impl Contender {
    /// Every model, in the order of the table; the shipped one is last.
    pub(super) fn all(python: &Python) -> Vec<Self> {
        vec![
            Self::Mean,
            Self::Repeat,
            Self::Recent,
            Self::BgNbd,
            Self::MbgNbd,
            Self::ParetoNbd,
            Self::Hurdle,
            Self::TweedieGlm,
            Self::SmartcoreForest,
            Self::SmartcoreBoosting,
            Self::Python("lightgbm-tweedie", python.clone()),
            Self::Python("lightgbm-hurdle", python.clone()),
            Self::Shipped,
        ]
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Repeat => "repeat spend so far, scaled",
            Self::Recent => "last 91 days, scaled",
            Self::BgNbd => "BG/NBD x Gamma-Gamma",
            Self::MbgNbd => "MBG/NBD x Gamma-Gamma",
            Self::ParetoNbd => "Pareto/NBD x Gamma-Gamma",
            Self::Hurdle => "hurdle",
            Self::TweedieGlm => "Tweedie GLM (own IRLS)",
            Self::SmartcoreForest => "forest (smartcore)",
            Self::SmartcoreBoosting => "boosting (smartcore)",
            Self::Python("lightgbm-hurdle", _) => "LightGBM hurdle",
            Self::Python(..) => "LightGBM Tweedie",
            Self::Shipped => "shipped: clv-purchases",
        }
    }

    /// Learns and predicts. Python is stopped at the limit; all others run to their end.
    pub(super) fn run(&self, task: &Task, limit: Duration) -> anyhow::Result<ContenderOutcome> {
        let predicted = match self {
            Self::Mean => mean(task),
            Self::Repeat => each(task, |Case { member: Member { purchases, .. }, observed_days, .. }| {
                (purchases.total_spend_usd - purchases.first_order_usd) / observed_days
            }),
            Self::Recent => each(task, |case| case.recent_spend / f64::from(RECENT_DAYS)),
            Self::BgNbd => return buy_till_you_die::<BgNbd>(task),
            Self::MbgNbd => return buy_till_you_die::<MbgNbd>(task),
            Self::ParetoNbd => return buy_till_you_die::<ParetoNbd>(task),
            Self::Hurdle => Learnt::on(task)?.linear(|fit, variants| hurdle(fit, variants, |_| Sign::Free))?,
            Self::TweedieGlm => Learnt::on(task)?.linear(tweedie::tweedie)?,
            Self::SmartcoreForest => {
                let Learnt { fit, wanted, uses } = Learnt::on(task)?;
                forest::predictions(&fit.design(&uses)?, &wanted.design(&uses)?, task.seed)?
            }
            Self::SmartcoreBoosting => {
                let Learnt { fit, wanted, uses } = Learnt::on(task)?;
                forest::boosted(&fit.design(&uses)?, &wanted.design(&uses)?, task.seed)?
            }
            Self::Python(learner, python) => return python::run(python, learner, task, limit),
            Self::Shipped => shipped(task)?,
        };
        Ok(ContenderOutcome::Predicted(predicted, String::new()))
    }
}

/// The recipe of `clv-purchases`, as `scoreline-training clv-purchases` fits it.
fn shipped(task: &Task) -> anyhow::Result<Vec<f64>> {
    let fitted = train::fit(&product::clv_purchases(), &task.table.part(Split::Fit))?;
    let outcomes = fitted.outputs(&task.table.part(Split::Test), &[])?;
    Ok(outcomes.into_iter().map(|outcome| outcome.value).collect())
}

fn mean(task: &Task) -> Vec<f64> {
    let total: f64 = task.train.iter().map(|case| case.member.spend_usd).sum();
    vec![total / task.train.len() as f64; task.test.len()]
}

/// A rate a day, over the horizon.
fn each(task: &Task, a_day: impl Fn(&Case) -> f64) -> Vec<f64> {
    task.test.iter().map(|case| a_day(case) * task.horizon_days).collect()
}

/// Learns from purchases only: no outcome is looked at.
fn buy_till_you_die<M: Purchasing>(task: &Task) -> anyhow::Result<ContenderOutcome> {
    let histories = |cases: &[Case]| cases.iter().map(|case| History::of(&case.member.purchases)).collect::<Vec<_>>();
    let known = histories(&task.train);
    let purchasing = btyd::fit::<M>(&known)?;
    let amounts = btyd::fit::<GammaGamma>(&known)?;
    let q = amounts.model.q;
    anyhow::ensure!(q > 1.0, "Gamma-Gamma's q is {q:.2}: amounts have no mean");
    let weeks = task.horizon_days / DAYS_IN_A_WEEK;
    let value = |history: &History| btyd::expected_spend(&purchasing.model, &amounts.model, history, weeks);
    let values = histories(&task.test).iter().map(value).collect();
    Ok(ContenderOutcome::Predicted(values, format!("{}; amounts {}", purchasing.summary(), amounts.summary())))
}

/// A task as the learners on features see it: prepared by rules that know the customers to learn from only.
struct Learnt {
    fit: Prepared,
    wanted: Prepared,
    uses: Vec<String>,
}

impl Learnt {
    fn on(task: &Task) -> anyhow::Result<Self> {
        let plans = product::clv_purchases().features;
        let schema = FeatureSchema::new(statistics::rules(&plans, &task.table.part(Split::Fit))?, true)?;
        let prepared = |split| Prepared::new(&schema, &task.table.part(split));
        let uses = plans.into_iter().map(|plan| plan.name).collect();
        Ok(Self { fit: prepared(Split::Fit), wanted: prepared(Split::Test), uses })
    }

    fn linear(
        &self,
        fit: impl Fn(&Prepared, &[Vec<String>]) -> anyhow::Result<LinearModel>,
    ) -> anyhow::Result<Vec<f64>> {
        values(&fit(&self.fit, std::slice::from_ref(&self.uses))?, &self.wanted)
    }
}

/// Runs a linear model as the server does.
fn values(model: &LinearModel, wanted: &Prepared) -> anyhow::Result<Vec<f64>> {
    let names: Vec<_> = wanted.names.iter().map(String::as_str).collect();
    let backend = linear::load(&model.write(), &names)?;
    let width = backend.outputs().len();
    let value = backend.outputs().iter().position(|name| name == "value").context("a value is an output")?;
    let mut outputs = vec![0.0; wanted.spend_usd.len() * width];
    backend.predict(FeatureMatrix::new(&wanted.values, names.len()), &mut outputs)?;
    Ok(outputs.into_iter().skip(value).step_by(width).collect())
}
