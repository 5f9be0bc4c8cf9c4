//! What the compared models are given: customers to learn from, customers to predict, on both data sets.

use anyhow::Context as _;
use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use scoreline::packing::split::{Split, mix};
use scoreline::packing::table::Table;

use crate::cdnow::Customer;
use crate::cohort::{Member, Window, members_in, spent};
use crate::product;

/// The days behind `Case::recent_spend`.
pub(super) const RECENT_DAYS: u32 = 91;

/// Online Retail: learn from what followed the end of May, predict what followed the end of August.
const LEARN: Window = Window { as_of: date(2011, 5, 31), horizon_days: 91 };
const PREDICT: Window = Window { as_of: date(2011, 8, 31), horizon_days: 91 };

/// One customer.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub member: Member,
    /// Days from the first purchase in the data to the as-of day, both included.
    pub observed_days: f64,
    /// In the last [`RECENT_DAYS`] days, the as-of day included.
    pub recent_spend: f64,
}

/// Fit on some customers, predict others.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub train: Vec<Case>,
    pub test: Vec<Case>,
    /// Their purchase features: the rows of `train` as split `fit`, then those of `test` as split `test`.
    pub table: Table,
    pub horizon_days: f64,
    pub seed: u64,
}

/// A data set with its tasks; each customer to predict is in exactly one.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub title: String,
    pub tasks: Vec<Task>,
}

impl Task {
    fn new(train: Vec<Case>, test: Vec<Case>, window: Window, seed: u64) -> anyhow::Result<Self> {
        anyhow::ensure!(!train.is_empty() && !test.is_empty(), "nobody is left to learn from or to predict");
        let as_split =
            |cases: &[Case], split| cases.iter().map(|case| Member { split, ..case.member.clone() }).collect();
        let mut members: Vec<Member> = as_split(&train, Split::Fit);
        members.extend::<Vec<_>>(as_split(&test, Split::Test));
        let table = product::purchases_table(&members);
        Ok(Self { train, test, table, horizon_days: f64::from(window.horizon_days), seed })
    }
}

impl Trial {
    /// CDNOW: 39 weeks known, 39 weeks asked; every customer is predicted by models that did not learn from them.
    pub(super) fn cdnow(customers: &[Customer], folds: u64, seed: u64) -> anyhow::Result<Self> {
        let cases = cases(customers, Window::CDNOW, seed)?;
        let fold = |case: &Case| mix(case.member.id ^ mix(seed)) % folds;
        let part = |test: bool, k| cases.iter().filter(|case| (fold(case) == k) == test).cloned().collect();
        let tasks = (0..folds).map(|k| Task::new(part(false, k), part(true, k), Window::CDNOW, seed));
        let tasks = tasks.collect::<anyhow::Result<Vec<_>>>()?;
        let title = format!(
            "CDNOW: features as of {}, spend in the next {} days; {} customers, out of fold in {folds} folds; USD",
            Window::CDNOW.as_of,
            Window::CDNOW.horizon_days,
            cases.len()
        );
        Ok(Self { title, tasks })
    }

    /// Online Retail: models learn from an earlier quarter than the one they predict, and Christmas is in the later.
    pub(super) fn online_retail(customers: &[Customer], seed: u64) -> anyhow::Result<Self> {
        let train = cases(customers, LEARN, seed)?;
        let test = cases(customers, PREDICT, seed)?;
        let title = format!(
            "Online Retail: learnt as of {} ({} customers), predicted as of {} ({} customers), spend in the next {} days; \
             GBP, gross of cancellations",
            LEARN.as_of,
            train.len(),
            PREDICT.as_of,
            test.len(),
            PREDICT.horizon_days
        );
        Ok(Self { title, tasks: vec![Task::new(train, test, PREDICT, seed)?] })
    }

    /// Outcomes of everybody who is predicted, task by task.
    pub(super) fn outcomes(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|task| &task.test).map(|case| case.member.spend_usd).collect()
    }
}

fn cases(customers: &[Customer], window: Window, seed: u64) -> anyhow::Result<Vec<Case>> {
    let days = customers.iter().flat_map(|customer| &customer.purchases).map(|purchase| purchase.date);
    let first: Date = days.min().context("no purchases")?;
    let before = window.as_of.checked_sub(i64::from(RECENT_DAYS).days())?;
    let observed_days = f64::from(first.until(window.as_of)?.get_days() + 1);
    let mut members = members_in(customers, window, seed)?.into_iter().peekable();
    let mut cases = Vec::with_capacity(customers.len());
    for customer in customers {
        if let Some(member) = members.next_if(|member| member.id == customer.id) {
            cases.push(Case { member, observed_days, recent_spend: spent(customer, before, window.as_of) });
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::cdnow;

    fn read(file: &str) -> Vec<Customer> {
        cdnow::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file)).expect("the file")
    }

    #[test]
    fn every_customer_of_cdnow_is_predicted_once_by_others() {
        let customers = read("cdnow/transactions_dev.csv");
        let trial = Trial::cdnow(&customers, 5, 42).expect("a trial");
        let mut predicted = BTreeSet::new();
        for task in &trial.tasks {
            assert!((2_900..3_700).contains(&task.test.len()), "{}", task.test.len());
            assert_eq!(task.train.len() + task.test.len(), 16_391);
            let learnt: BTreeSet<_> = task.train.iter().map(|case| case.member.id).collect();
            for case in &task.test {
                assert!(!learnt.contains(&case.member.id) && predicted.insert(case.member.id));
                assert_eq!(case.observed_days, 273.0);
            }
            assert_eq!(task.table.part(Split::Fit).len(), task.train.len());
        }
        assert_eq!(predicted.len(), 16_391);
    }

    #[test]
    fn online_retail_is_learnt_before_it_is_predicted() {
        let trial = Trial::online_retail(&read("online_retail/transactions.csv"), 42).expect("a trial");
        let [task] = &trial.tasks[..] else { panic!("one task") };
        assert_eq!((task.train.len(), task.test.len()), (2_718, 3_317));
        assert_eq!((task.train[0].observed_days, task.test[0].observed_days), (182.0, 274.0));
        // Customer 12347 by hand: 382.52 on 2011-06-09 and 584.91 on 2011-08-02, within both; 636.25 on 2011-04-07, in neither.
        let of = |cases: &[Case]| cases.iter().find(|case| case.member.id == 12_347).cloned().expect("the customer");
        let learnt = of(&task.train);
        let predicted = of(&task.test);
        assert!((learnt.member.spend_usd - (382.52 + 584.91)).abs() < 1e-9, "{}", learnt.member.spend_usd);
        assert!((predicted.recent_spend - (382.52 + 584.91)).abs() < 1e-9, "{}", predicted.recent_spend);
        assert_eq!(predicted.member.purchases.purchase_count, 5.0);
    }
}
