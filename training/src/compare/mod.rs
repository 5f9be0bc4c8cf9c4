//! One table of everything: heuristics, purchase models, regressions, trees and the shipped model on the same customers
//! of two data sets, with how sure each figure is.

mod bootstrap;
mod contender;
mod print;
mod python;
mod task;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use scoreline_domain::time::Stopwatch;

use self::bootstrap::Measured;
use self::contender::{Contender, ContenderOutcome};

pub(crate) use self::print::{Format, print, write};
pub(crate) use self::python::Python;
use self::task::{Task, Trial};
use crate::cdnow;
use scoreline::packing::report::Progress;

/// What is compared on what.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub cdnow: PathBuf,
    pub online_retail: PathBuf,
    /// Folds of CDNOW, at least 2.
    pub folds: u64,
    pub resamples: usize,
    pub seed: u64,
    /// For each model and data set.
    pub time_limit: Duration,
    pub python: Python,
}

/// The models on one data set.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub title: String,
    pub lines: Vec<Line>,
}

/// One model.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub label: &'static str,
    /// The figures, or why there are none.
    pub measured: Result<Measured, String>,
    /// To fit and predict once, the mean of the folds.
    pub seconds: f64,
    /// What is worth knowing of the first fold's fit; may be empty.
    pub fit: String,
}

impl Comparison {
    /// Runs everything, one model after the other.
    pub(crate) fn run(&self, progress: &Progress) -> anyhow::Result<Vec<Standing>> {
        progress.step("reading purchases");
        let cdnow = cdnow::read(&self.cdnow)?;
        let online_retail = cdnow::read(&self.online_retail)?;
        let trials = [Trial::cdnow(&cdnow, self.folds, self.seed)?, Trial::online_retail(&online_retail, self.seed)?];
        Ok(trials.into_iter().map(|trial| self.standing(trial, progress)).collect())
    }

    /// Steps that `run` shows.
    pub(crate) fn steps(&self) -> u64 {
        let contenders = Contender::all(&self.python).len() as u64;
        1 + (contenders + 1) * 2
    }

    fn standing(&self, trial: Trial, progress: &Progress) -> Standing {
        let actual = trial.outcomes();
        let tasks: Vec<_> = trial.tasks.into_iter().map(Arc::new).collect();
        let mut outcomes = Vec::new();
        for contender in Contender::all(&self.python) {
            let label = contender.label();
            let name = trial.title.split(':').next().unwrap_or_default();
            progress.step(format!("{name}: {label}"));
            let watch = Stopwatch::start();
            let mut values = Vec::with_capacity(actual.len());
            let mut fit = String::new();
            let mut trouble = None;
            for (number, task) in (1..).zip(&tasks) {
                progress.say(format!("{name}: {label}, {number} of {}", tasks.len()));
                match limited(&contender, task, self.time_limit.saturating_sub(watch.elapsed())) {
                    Ok((predicted, said)) => {
                        values.extend(predicted);
                        if number == 1 {
                            fit = said;
                        }
                    }
                    Err(why) => {
                        trouble = Some(why);
                        break;
                    }
                }
            }
            let seconds = watch.elapsed().as_secs_f64() / tasks.len() as f64;
            outcomes.push((label, trouble.map_or(Ok(values), Err), seconds, fit));
        }
        progress.step("drawing customers again");
        let predictions: Vec<_> = outcomes.iter().filter_map(|(_, outcome, _, _)| outcome.as_deref().ok()).collect();
        let mut measured = bootstrap::measure(&actual, &predictions, self.resamples, self.seed).into_iter();
        let lines = outcomes.into_iter().filter_map(|(label, outcome, seconds, fit)| {
            let measured = match outcome {
                Ok(_) => Ok(measured.next()?),
                Err(why) => Err(why),
            };
            Some(Line { label, measured, seconds, fit })
        });
        Standing { title: trial.title, lines: lines.collect() }
    }
}

/// Predictions of a model, or what its row says instead. A model that runs out of time is left behind: its thread ends
/// with the command.
fn limited(contender: &Contender, task: &Arc<Task>, limit: Duration) -> Result<(Vec<f64>, String), String> {
    let (sender, receiver) = mpsc::channel();
    let (contender, task, expected) = (contender.clone(), Arc::clone(task), task.test.len());
    std::thread::spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = sender.send(contender.run(&task, limit));
    });
    match receiver.recv_timeout(limit) {
        Ok(Ok(ContenderOutcome::Predicted(values, _))) if values.len() != expected => {
            Err(format!("failed: {} values for {expected} customers", values.len()))
        }
        Ok(Ok(ContenderOutcome::Predicted(values, fit))) if values.iter().all(|value| value.is_finite()) => {
            Ok((values, fit))
        }
        Ok(Ok(ContenderOutcome::Predicted(..))) => Err("failed: a value is not finite".to_owned()),
        Ok(Ok(ContenderOutcome::Skipped(why))) => Err(format!("skipped: {why}")),
        Ok(Ok(ContenderOutcome::Stopped)) | Err(RecvTimeoutError::Timeout) => Err("stopped".to_owned()),
        Ok(Err(error)) => Err(format!("failed: {error:#}")),
        Err(RecvTimeoutError::Disconnected) => Err("failed: it panicked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cdnow::Customer;

    fn customers() -> Vec<Customer> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cdnow/transactions_dev.csv");
        cdnow::read(&path).expect("the file").into_iter().step_by(8).collect()
    }

    fn nowhere() -> Python {
        Python { interpreter: "no-such-python".into(), script: "train.py".into() }
    }

    #[test]
    fn every_model_of_rust_predicts_and_is_better_than_the_mean() {
        let trial = Trial::cdnow(&customers(), 2, 42).expect("a trial");
        let actual: Vec<_> = trial.tasks[0].test.iter().map(|case| case.member.spend_usd).collect();
        let task = Arc::new(trial.tasks[0].clone());
        for contender in Contender::all(&nowhere()) {
            let found = limited(&contender, &task, Duration::from_mins(10)).map(|(values, _)| values);
            match contender {
                Contender::Python(..) => {
                    let why = found.expect_err("there is no Python");
                    assert!(why.starts_with("skipped: cannot run `no-such-python`"), "{why}");
                }
                Contender::Mean => assert!(found.expect("predicts").windows(2).all(|pair| pair[0] == pair[1])),
                Contender::Repeat
                | Contender::Recent
                | Contender::BgNbd
                | Contender::MbgNbd
                | Contender::ParetoNbd
                | Contender::Hurdle
                | Contender::TweedieGlm
                | Contender::SmartcoreForest
                | Contender::SmartcoreBoosting
                | Contender::Shipped => {
                    let gini = scoreline::packing::metrics::normalized_gini(&actual, &found.expect("predicts"));
                    assert!((0.5..0.85).contains(&gini), "{}: {gini}", contender.label());
                }
            }
        }
    }

    #[test]
    fn a_model_without_time_is_stopped() {
        let trial = Trial::cdnow(&customers(), 2, 42).expect("a trial");
        let task = Arc::new(trial.tasks[0].clone());
        assert_eq!(limited(&Contender::SmartcoreForest, &task, Duration::ZERO), Err("stopped".to_owned()));
    }
}
