//! Questions that were answered before, put to another version: what shadow does beside live answers, afterwards.
//!
//! Rows, statistics and the runs themselves are those of a trial (`candidate.rs`, `monitoring/comparison.rs`), so both say the
//! same of the same questions. What a trial cannot say comes on top: which answers would be a baseline's, and which features
//! the other version misses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::candidate::judge;
use super::estimate::Wish;
use super::task::Score;
use super::{Ask, Scored, Scorer};
use crate::monitoring::comparison::{Comparison, Judgement, Summary};
use crate::monitoring::replay_log::{LoggedAnswer, LoggedFeatures, LoggedQuestion, LoggedValue};
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelVersion, Source, Tier};
use scoreline_engine::features::{FeatureFault, Value};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::ReadCustomer;

/// What a version makes of the questions that others answered.
pub struct Replay {
    against: Arc<ModelSnapshot>,
    /// By the version that answered.
    pairs: BTreeMap<ModelVersion, Pair>,
}

/// One version that answered beside the one that is asked now.
struct Pair {
    /// The version that answered, where it is still there: what it takes is measured here.
    before: Option<Arc<ModelSnapshot>>,
    comparison: Comparison,
    found: Replayed,
}

/// How the answers to one version's questions would change.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// The version that answered.
    pub before: ModelVersion,
    pub questions: u64,
    /// Those that the other version's model is asked about.
    pub known: u64,
    /// What answered, and what would answer now.
    pub sources: BTreeMap<(&'static str, &'static str), u64>,
    /// Of the rows that both models scored; `None` where there are none. Times are of this machine; that of the version
    /// that answered is not a number when it is not there.
    pub summary: Option<Summary>,
    /// Rows of each tier, by the tier they would be in, from the lowest on.
    pub tiers: [[u64; Tier::ALL.len()]; Tier::ALL.len()],
    /// Features that the other version reads and was not given, with the number of those rows.
    pub missing: BTreeMap<String, u64>,
    /// Rows that the version that answered says something else about now: its bundle or the tiers' limits have changed.
    pub differing: u64,
    /// Why the other version cannot answer, the first reason.
    pub refusal: Option<String>,
}

/// The question cannot be answered as it was asked.
const REFUSED: &str = "refused";
/// The model failed.
const FAILED: &str = "failed";

impl Replay {
    /// `before` gives the versions that answered, as far as they are there.
    pub fn new(against: Arc<ModelSnapshot>) -> Self {
        Self { against, pairs: BTreeMap::new() }
    }

    /// Whether a question is to this model.
    pub fn is_about(&self, question: &LoggedQuestion<'_>) -> bool {
        question.model == *self.against.name()
    }

    /// Puts one question to the version. `before` finds the one that answered; it is asked for once.
    pub async fn ask(
        &mut self,
        question: &LoggedQuestion<'_>,
        before: impl FnOnce(&ModelVersion) -> Option<Arc<ModelSnapshot>>,
    ) {
        let pair = match self.pairs.entry(question.version.clone()) {
            Entry::Occupied(pair) => pair.into_mut(),
            Entry::Vacant(place) => {
                let before = before(&question.version).filter(|found| found.task() == self.against.task());
                place.insert(Pair::new(question.version.clone(), before))
            }
        };
        pair.ask(&self.against, question).await;
    }

    /// What was found, by the version that answered.
    pub fn found(&self) -> Vec<Replayed> {
        self.pairs.values().map(|pair| Replayed { summary: pair.comparison.summary(), ..pair.found.clone() }).collect()
    }
}

impl Pair {
    fn new(version: ModelVersion, before: Option<Arc<ModelSnapshot>>) -> Self {
        let found = Replayed {
            before: version,
            questions: 0,
            known: 0,
            sources: BTreeMap::new(),
            summary: None,
            tiers: Default::default(),
            missing: BTreeMap::new(),
            differing: 0,
            refusal: None,
        };
        // Nobody waits, so that quantiles can be over all rows: sixteen bytes each.
        Self { before, comparison: Comparison::new(usize::MAX), found }
    }

    async fn ask(&mut self, against: &ModelSnapshot, question: &LoggedQuestion<'_>) {
        let LoggedAnswer { source, score, tier } = question.answer;
        let wish = Wish { level: question.level, previous: question.previous };
        let now = match read(against, question) {
            Ok(ReadCustomer::New) => Ok(Source::ColdStart.as_str()),
            Ok(ReadCustomer::Known(given)) => {
                self.found.known += 1;
                for position in &given.missing {
                    let name = &against.schema().rules()[usize::from(*position)].name;
                    match self.found.missing.get_mut(name) {
                        Some(rows) => *rows += 1,
                        None => drop(self.found.missing.insert(name.clone(), 1)),
                    }
                }
                match judge(against, &given.raw, wish).await {
                    Ok(Ok(judged)) => {
                        if source == Source::Model {
                            let seconds = self.again(question, wish).await;
                            self.compare(Judgement { score, tier, seconds }, judged);
                        }
                        Ok(Source::Model.as_str())
                    }
                    Ok(Err(failure)) => Err((FAILED, failure.to_string())),
                    Err(panicked) => Err((FAILED, panicked.to_string())),
                }
            }
            Err(fault) => Err((REFUSED, fault.to_string())),
        };
        let now = now.unwrap_or_else(|(word, reason)| {
            self.found.refusal.get_or_insert(reason);
            word
        });
        self.found.questions += 1;
        *self.found.sources.entry((source.as_str(), now)).or_default() += 1;
    }

    fn compare(&mut self, before: Judgement, now: Judgement) {
        self.comparison.record(&before, &now);
        if let Some((before, now)) = before.tier.zip(now.tier) {
            let place = |tier| Tier::ALL.iter().position(|known| *known == tier).unwrap_or_default();
            self.found.tiers[place(before)][place(now)] += 1;
        }
    }

    /// Asks the version that answered once more; how long it takes here.
    async fn again(&mut self, question: &LoggedQuestion<'_>, wish: Wish) -> f64 {
        let Some(before) = &self.before else { return f64::NAN };
        let judged = match read(before, question) {
            Ok(ReadCustomer::Known(given)) => judge(before, &given.raw, wish).await.ok().and_then(Result::ok),
            Ok(ReadCustomer::New) | Err(_) => None,
        };
        let is_same = |judged: &Judgement| (judged.score, judged.tier) == (question.answer.score, question.answer.tier);
        self.found.differing += u64::from(!judged.as_ref().is_some_and(is_same));
        judged.map_or(f64::NAN, |judged| judged.seconds)
    }
}

/// What a question says of its customer, as a model reads it.
fn read(snapshot: &ModelSnapshot, question: &LoggedQuestion<'_>) -> Result<ReadCustomer, FeatureFault> {
    let Some(features) = &question.features else { return Ok(ReadCustomer::New) };
    snapshot.read(features.iter().map(|(name, value)| {
        let value = match value {
            LoggedValue::Number(number) => Value::Number(*number),
            LoggedValue::Category(name) => Value::Text(name),
        };
        (&**name, Some(value))
    }))
}

impl Scorer {
    /// Offers an answered question to the replay log, where there is one.
    pub(super) fn log_question<E: Score>(&self, scored: &Scored<E>, ask: &Ask<'_>, previous: Option<Tier>) {
        let Some(log) = self.parts.monitoring.replay_log() else { return };
        log.offer(ask.customer, || LoggedQuestion {
            // To the second: two logs are not to be laid beside one another.
            asked_at: Timestamp::from_second(scored.scored_at.as_second()).unwrap_or(scored.scored_at),
            model: scored.snapshot.name().clone(),
            version: scored.version.clone(),
            features: self.logged_features(scored, ask),
            level: ask.level,
            previous,
            answer: LoggedAnswer {
                source: scored.source,
                score: scored.estimate.amount(),
                tier: scored.estimate.tier(),
            },
        });
    }

    /// What was known of the customer: numbers, and categories of the model that answered.
    fn logged_features<'q, E: Score>(&self, scored: &Scored<E>, ask: &Ask<'q>) -> Option<LoggedFeatures<'q>> {
        let number = |number: f64| number.is_finite().then_some(LoggedValue::Number(number));
        if let Some(features) = ask.features {
            let schema = scored.snapshot.schema();
            let logged = features.iter().filter_map(|(name, value)| {
                let value = (*value)?;
                let rule = schema.position(name).map(|position| &schema.rules()[position]);
                let logged = match rule.filter(|rule| !rule.categories.is_empty()) {
                    Some(rule) => {
                        let text = value.text().filter(|text| rule.category(text).is_some())?;
                        LoggedValue::Category(Cow::Borrowed(text))
                    }
                    None => number(value.number().ok()?)?,
                };
                Some((Cow::Borrowed(*name), logged))
            });
            return Some(logged.collect());
        }
        let stored = ask.stored.copied().or_else(|| self.stored(E::TASK, ask));
        // Others may have come in since.
        let stored = stored.filter(|stored| Some(stored.as_of) == scored.features_as_of)?;
        let named = CATALOGUE.iter().zip(stored.values);
        Some(named.filter_map(|(feature, value)| Some((Cow::Borrowed(feature.name), number(value)?))).collect())
    }
}
