//! The documented answer, as it stands on the wire: absent values are omitted, numbers are finite, amounts are in cents.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use jiff::civil::Date;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use utoipa::ToSchema;

use super::explanation::{Explained, ExplanationBody, UsdExplanation};
use crate::http::openapi::shape;
use crate::routing::Routing;
use crate::scoring::explanation::NotExplained;
use crate::scoring::task::Score;
use crate::scoring::{Scored, Warning};
use scoreline_domain::score::{cents, round};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Estimate, Tier};

/// Reply of `POST /v1/predict/clv` and, with `routing`, of `POST /v1/route/tier`.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClvAnswer<'a> {
    /// `success`, or `fallback` when no model answered.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing: Option<RoutingBody<'a>>,
    prediction: PredictionBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsdExplanation>)]
    explanation: Option<ExplanationBody<'a>>,
    metadata: AnswerMetadata<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ClvPrediction)]
pub(super) struct PredictionBody {
    pub clv_value_usd: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_interval_low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_interval_high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_probability: Option<f64>,
    #[schema(schema_with = shape::tier)]
    pub clv_tier: Tier,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Routing)]
struct RoutingBody<'a> {
    #[schema(schema_with = shape::tier)]
    clv_tier: Tier,
    skill_id: &'a str,
    priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    low_confidence: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<&'static str>,
    use_default_routing: bool,
    /// Routed as if there were no score, to learn what the scores earn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    control: bool,
}

/// What is said about an answer of any task.
#[derive(Serialize, ToSchema)]
#[serde(bound = "")]
#[schema(bound = "E: 'static", as = AnswerMetadata)]
pub(crate) struct AnswerMetadata<'a, E = Estimate> {
    model: &'a str,
    model_version: &'a str,
    inference_latency_ms: f64,
    request_id: &'a str,
    /// `model`, `cache`, `stale_cache`, `cold_start` or `fallback`.
    source: &'static str,
    /// Why no model answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[schema(schema_with = shape::moment)]
    scored_at: Seconds,
    age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = shape::moment)]
    features_as_of: Option<FeatureSeconds>,
    /// Only of features that were stored: what a request brings is as old as its caller says.
    #[serde(skip_serializing_if = "Option::is_none")]
    features_age_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_level: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    horizon_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<BaselineBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_population: Option<ReferenceBody<'a>>,
    /// A word each, and behind a colon what it is about.
    #[schema(value_type = Vec<String>)]
    warnings: WarningList<'a, E>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = UsedBaseline)]
struct BaselineBody<'a> {
    level: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    /// Customers, or leads, behind the figure.
    customers: u32,
    weight: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Date)]
    as_of: Option<Date>,
}

/// Whom a lead's priority is a place among.
#[derive(Serialize, ToSchema)]
#[schema(as = ReferencePopulation)]
struct ReferenceBody<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    leads: u32,
    #[schema(schema_with = shape::moment)]
    made_at: Seconds,
}

/// What the transport knows about a request beside its question.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub request_id: &'a str,
    pub features_as_of: Option<Timestamp>,
}

impl<'a> ClvAnswer<'a> {
    pub(crate) fn new(scored: &'a Scored, routing: Option<Routing<'a>>, context: Context<'a>) -> Self {
        Self {
            status: status(scored),
            routing: routing.map(|routing| RoutingBody {
                clv_tier: routing.tier,
                skill_id: &routing.route.skill_id,
                priority: routing.route.priority,
                queue: routing.route.queue.as_deref(),
                low_confidence: routing.low_confidence,
                badge: routing.badge(),
                use_default_routing: routing.use_default,
                control: routing.control,
            }),
            prediction: PredictionBody::new(&scored.estimate),
            explanation: None,
            metadata: AnswerMetadata::new(scored, context),
        }
    }

    /// Adds what came of `explain`, if it was asked for.
    #[must_use]
    pub(crate) fn explained(mut self, explained: Option<&Explained>) -> Self {
        self.explanation = self.metadata.explanation(explained);
        self
    }
}

impl<'a, E: Score> AnswerMetadata<'a, E> {
    pub(crate) fn new(scored: &'a Scored<E>, context: Context<'a>) -> Self {
        let manifest = scored.snapshot.manifest();
        Self {
            model: scored.snapshot.name().as_str(),
            model_version: scored.version.as_str(),
            inference_latency_ms: round(scored.latency_ms, 1e4),
            request_id: context.request_id,
            source: scored.source.as_str(),
            reason: scored.reason.map(crate::scoring::FallbackReason::as_str),
            scored_at: Seconds(scored.scored_at),
            age_seconds: scored.age_seconds,
            features_as_of: scored.features_as_of.or(context.features_as_of).map(FeatureSeconds),
            features_age_seconds: scored.features_age_seconds(),
            interval_level: scored.interval_level,
            horizon_days: manifest.horizon_days,
            baseline: scored.baseline.as_ref().map(|used| BaselineBody {
                level: used.level,
                name: &used.name,
                customers: used.customers,
                weight: round(used.weight, 1e4),
                as_of: used.as_of,
            }),
            reference_population: manifest.lead.as_ref().map(|lead| ReferenceBody {
                name: &lead.population,
                leads: lead.rows,
                made_at: Seconds(lead.made_at),
            }),
            warnings: WarningList { scored, not_explained: None },
        }
    }

    /// The explanation, or in the warnings why there is none. Nothing when none was asked for.
    pub(super) fn explanation(&mut self, explained: Option<&Explained>) -> Option<ExplanationBody<'a>> {
        let explained = explained?;
        self.warnings.not_explained = explained.missing();
        explained.body(self.warnings.scored)
    }
}

impl PredictionBody {
    pub(super) fn new(estimate: &Estimate) -> Self {
        Self {
            clv_value_usd: cents(estimate.value),
            confidence_interval_low: estimate.interval.map(|interval| cents(interval.low())),
            confidence_interval_high: estimate.interval.map(|interval| cents(interval.high())),
            risk_score: estimate.risk.map(|risk| round(risk.get(), 1e4)),
            confidence_score: estimate.confidence.map(|confidence| round(confidence.get(), 1e4)),
            tier_probability: estimate.tier_probability.map(|share| round(share.get(), 1e4)),
            clv_tier: estimate.tier,
        }
    }
}

pub(crate) fn status<E>(scored: &Scored<E>) -> &'static str {
    if scored.source.is_success() { "success" } else { "fallback" }
}

/// A time to the second, as the documented answer writes it.
pub(crate) struct Seconds(pub Timestamp);

/// As `Seconds`, of features: those of one pass of the features job are dated alike, and not like the answers.
pub(crate) struct FeatureSeconds(pub Timestamp);

/// The time that was written last. Answers of one second are dated alike, and a date costs more to write than a model to
/// run.
struct LastWritten(i64, String);

impl LastWritten {
    const fn nothing() -> Self {
        Self(i64::MIN, String::new())
    }

    fn text(&mut self, time: Timestamp) -> &str {
        let Self(second, text) = self;
        if *second != time.as_second() {
            *second = time.as_second();
            *text = Timestamp::from_second(*second).unwrap_or(time).to_string();
        }
        text
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = Timestamp::from_second(self.0.as_second()).unwrap_or(self.0);
        fmt::Display::fmt(&whole, f)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        thread_local!(static LAST: RefCell<LastWritten> = const { RefCell::new(LastWritten::nothing()) });
        LAST.with_borrow_mut(|last| serializer.serialize_str(last.text(self.0)))
    }
}

impl Serialize for FeatureSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        thread_local!(static LAST: RefCell<LastWritten> = const { RefCell::new(LastWritten::nothing()) });
        LAST.with_borrow_mut(|last| serializer.serialize_str(last.text(self.0)))
    }
}

/// The warnings of an answer as text: a fixed word, and the feature where there is one.
pub(crate) struct WarningList<'a, E = Estimate> {
    pub scored: &'a Scored<E>,
    pub not_explained: Option<NotExplained>,
}

impl<E> WarningList<'_, E> {
    pub(crate) fn each<F>(&self, mut write: impl FnMut(&str) -> Result<(), F>) -> Result<(), F> {
        for &warning in &self.scored.warnings {
            write(&warning_text(self.scored, warning))?;
        }
        if let Some(reason) = self.not_explained {
            write(&not_explained_text(reason))?;
        }
        Ok(())
    }
}

/// A warning of an answer as text.
pub(super) fn warning_text<E>(scored: &Scored<E>, warning: Warning) -> Cow<'_, str> {
    let text = warning.text(&scored.snapshot);
    if warning == Warning::VersionNotLoaded {
        return Cow::Owned(format!("{text}: answered by {}", scored.version));
    }
    text
}

/// Why there is no explanation, among the warnings.
pub(super) fn not_explained_text(reason: NotExplained) -> String {
    format!("explain_not_available: {}", reason.as_str())
}

impl<E> Serialize for WarningList<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        self.each(|text| list.serialize_element(text))?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rounding_keeps_an_interval_around_its_value(low in 0.0..1e9f64, a in 0.0..1e9f64, b in 0.0..1e9f64) {
            let value = low + a;
            let high = low + a + b;
            prop_assert!(cents(low) <= cents(value) && cents(value) <= cents(high));
        }
    }

    #[test]
    fn times_are_written_to_the_second_whichever_came_before() {
        let written = |text: &str| {
            let time: Timestamp = text.parse().expect("a time");
            String::from_utf8(crate::http::wire::json::to_vec(&Seconds(time))).expect("JSON is UTF-8")
        };
        assert_eq!(written("2026-11-21T10:00:00.9Z"), "\"2026-11-21T10:00:00Z\"");
        assert_eq!(written("2026-11-21T10:00:01Z"), "\"2026-11-21T10:00:01Z\"");
        assert_eq!(written("2026-11-21T10:00:00Z"), "\"2026-11-21T10:00:00Z\"");
        assert_eq!(written("-009999-01-02T01:59:59Z"), "\"-009999-01-02T01:59:59Z\"");
    }

    #[test]
    fn huge_amounts_survive_rounding() {
        assert_eq!(cents(f64::MAX), f64::MAX);
        assert_eq!(cents(4500.004), 4500.0);
    }
}
