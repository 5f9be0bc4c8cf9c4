//! A look at every serving model and at every step of its ladder, off the request path: an answer that is needed only
//! when things go wrong is found broken before they do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::baseline::KnownLabels;
use super::caught::{Panicked, caught};
use super::estimate::Wish;
use super::run::{self, TimeLimit};
use super::task::{Score, StandIn, TaskScore};
use super::{Scorer, golden};
use scoreline_domain::{Estimate, LeadScore, ModelName};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::ReadCustomer;
use scoreline_engine::inference::manifest::Task;

/// Probes what serves. One for the process; it remembers what it found, to tell changes only.
pub struct SelfProbe {
    scorer: Scorer,
    found: BTreeMap<(ModelName, &'static str), bool>,
}

/// What one path of one model answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub model: ModelName,
    /// `model`, `segment`, `channel` or `neutral`.
    pub path: &'static str,
    /// Why it is not sound, if it is not.
    pub problem: Option<String>,
}

impl SelfProbe {
    pub fn new(scorer: Scorer) -> Self {
        Self { scorer, found: BTreeMap::new() }
    }

    /// Asks every path of every serving model once. Nothing of it is cached, counted as a prediction or monitored. A
    /// model behind an open breaker is asked when a probe is due, so that it recovers without calls.
    pub async fn round(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for snapshot in self.scorer.registry().all_serving() {
            findings.extend(self.look_at(&snapshot).await);
        }
        for finding in &findings {
            self.tell(finding);
        }
        // Of a model that is gone nothing is said any more.
        self.found.retain(|(model, path), _| {
            let stays = findings.iter().any(|finding| finding.model == *model && finding.path == *path);
            if !stays {
                set_ok(model, path, f64::NAN);
            }
            stays
        });
        findings
    }

    async fn look_at(&self, snapshot: &Arc<ModelSnapshot>) -> Vec<Finding> {
        let finding =
            |path, sound: Result<(), String>| Finding { model: snapshot.name().clone(), path, problem: sound.err() };
        let deadline = self.scorer.parts.settings.deadline;
        let time = TimeLimit { full: deadline, left: deadline };
        let model = match snapshot.task() {
            Task::Clv => caught(answers::<Estimate>(snapshot, time)).await,
            Task::Lead => caught(answers::<LeadScore>(snapshot, time)).await,
        };
        let model = model.unwrap_or_else(|Panicked| Some(Err("the model panicked".to_owned())));
        let ladder = match snapshot.task() {
            Task::Clv => ladder::<Estimate>(snapshot),
            Task::Lead => ladder::<LeadScore>(snapshot),
        };
        model
            .map(|sound| ("model", sound))
            .into_iter()
            .chain(ladder)
            .map(|(path, sound)| finding(path, sound))
            .collect()
    }

    fn tell(&mut self, Finding { model, path, problem }: &Finding) {
        let ok = problem.is_none();
        set_ok(model, path, if ok { 1.0 } else { 0.0 });
        let before = self.found.insert((model.clone(), *path), ok);
        match problem {
            Some(reason) if before != Some(false) => tracing::error!(%model, path, reason, "self-probe fails"),
            None if before == Some(false) => tracing::info!(%model, path, "self-probe is well again"),
            Some(_) | None => {}
        }
    }
}

fn set_ok(model: &ModelName, path: &'static str, value: f64) {
    metrics::gauge!("scoreline_self_probe_ok", "model" => model.to_string(), "path" => path).set(value);
}

/// The model on its first golden row that is not of a new customer; `None` when it has none.
async fn answers<E: Score>(snapshot: &ModelSnapshot, time: TimeLimit) -> Option<Result<(), String>> {
    let (row, given) = snapshot.golden().iter().find_map(|row| {
        let features = row.request.features.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
        match snapshot.read(features) {
            Ok(ReadCustomer::Known(given)) => Some((row, given)),
            Ok(ReadCustomer::New) | Err(_) => None,
        }
    })?;
    let answer = run::ask::<E>(snapshot, &given.raw, Wish::default(), time).await;
    Some(match answer {
        Ok(score) => golden::agrees(snapshot, row, &score.into_outcome()),
        Err(failure) => Err(failure.to_string()),
    })
}

/// One look-up in each table that the bundle has.
fn ladder<E: Score>(snapshot: &ModelSnapshot) -> Vec<(&'static str, Result<(), String>)> {
    let manifest = snapshot.manifest();
    let channel = match &manifest.lead {
        Some(lead) => lead.sources.keys().next(),
        None => manifest.baselines.channel.keys().next(),
    };
    let segment = manifest.baselines.segment.keys().next();
    let mut steps = vec![("neutral", KnownLabels::default())];
    steps.extend(channel.map(|name| ("channel", KnownLabels { channel: Some(name), segment: None })));
    steps.extend(segment.map(|name| ("segment", KnownLabels { channel: None, segment: Some(name) })));
    steps.into_iter().map(|(path, known)| (path, stands_in::<E>(snapshot, path, known))).collect()
}

fn stands_in<E: Score>(snapshot: &ModelSnapshot, path: &str, known: KnownLabels<'_>) -> Result<(), String> {
    let (score, used) = E::stand_in(snapshot, known, StandIn::Failure);
    let level = if used.level == "lead_source" { "channel" } else { used.level };
    if level != path {
        return Err(format!("the `{level}` baseline answered"));
    }
    let numbers = match score.into_outcome() {
        TaskScore::Clv(estimate) => {
            let ends = estimate.interval.map_or([estimate.value; 2], |interval| [interval.low(), interval.high()]);
            [ends[0], estimate.value, ends[1]]
        }
        TaskScore::Lead(lead) => [lead.probability.get(); 3],
    };
    if numbers.iter().all(|number| number.is_finite()) && numbers.is_sorted() {
        Ok(())
    } else {
        Err(format!("the `{level}` baseline is {numbers:?}"))
    }
}
