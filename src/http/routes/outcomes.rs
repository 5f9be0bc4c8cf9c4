//! `POST /v1/outcomes`: what customers really spent. One JSON object, a JSON array or NDJSON; a success means that the
//! outcome is on disk. A bad row of a batch is a row result, as in a batch of predictions.

use std::cell::RefCell;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::http::edge::body::BatchPayload;
use crate::http::edge::deadline::kept_in_time;
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::request_id::{RequestId, RequestMetadata, with_request_id};
use crate::http::openapi::{Operation, Tag, shape};
use crate::http::state::HttpSettings;
use crate::http::wire::json::{append, parse, parse_object, respond};
use crate::http::wire::personal::refusal;
use crate::http::wire::rows::{Batch, BatchMetadata, RowError, Rows, reply};
use crate::http::wire::values::{WireText, optional, optional_text, optional_tier};
use crate::monitoring::ledger::LedgerError;
use crate::monitoring::outcome::{LevelInterval, Outcome, Prediction, Verdict};
use crate::monitoring::{Ledger, Monitoring, assigned_tier};
use crate::scoring::Scorer;
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Probability, Tier};
use scoreline_engine::inference::ModelSnapshot;

/// How far another machine's clock may be ahead.
const CLOCK_SKEW_SECONDS: u64 = 300;
/// Why there is no ledger.
pub(crate) const NOT_KEPT: &str = "outcomes are not kept: `monitoring.outcomes` is false";

pub(crate) fn describe() -> Operation {
    let example =
        json!({"customerId": "CUST-000042", "actual_spend_usd": 4200.5, "observed_at": "2026-11-28T10:00:00Z"});
    Operation::new(Tag::Facts, "report_outcomes", "Takes what customers really spent")
        .about("A success means that it is on disk. Without `prediction`, the one that is recorded of the customer counts.")
        .takes_rows::<OutcomeRequest<'static>>(true, &example)
        .gives::<OutcomeAnswer<'static>>(StatusCode::OK, "An outcome, or results of rows.")
        .gives_rows::<Batch<'static, OutcomeAnswer<'static>>>("OutcomeBatch", "An outcome, or results of rows.")
        .refuses(&[Code::PiiRefused, Code::NoPrediction, Code::CustomerErased])
        .refuses(&[Code::OutcomesNotKept, Code::OutcomesUnavailable])
}

pub(crate) async fn handle(
    State(scorer): State<Scorer>,
    State(hasher): State<IdHasher>,
    State(monitoring): State<Monitoring>,
    State(settings): State<HttpSettings>,
    id: RequestId,
    BatchPayload(body): BatchPayload,
) -> Result<Response, ApiError> {
    let ledger = monitoring.ledger().ok_or_else(|| ApiError::new(Code::OutcomesNotKept, NOT_KEPT))?;
    let reader = OutcomeReader {
        scorer: &scorer,
        hasher: &hasher,
        monitoring: &monitoring,
        now: scorer.now(),
        moved: RefCell::default(),
    };
    if is_single(&body) {
        let outcome = reader.read(&body)?;
        let spend_usd = outcome.spend_usd;
        let kept = ledger.report(vec![outcome], reader.moved.into_inner());
        let verdicts = kept_in_time(Code::OutcomesUnavailable, kept).await??;
        let outcome = verdicts.first().map_or_else(|| Err(no_prediction()), |it| OutcomeBody::new(it, spend_usd))?;
        let metadata = Some(RequestMetadata { request_id: id.as_str() });
        let response = respond(StatusCode::OK, &OutcomeAnswer { status: "success", outcome, metadata });
        return Ok(with_request_id(response, id.as_str()));
    }
    let Rows { rows, is_array } = Rows::split(&body, settings.batch_rows)?;
    let read: Vec<_> = rows.iter().map(|row| reader.read(row)).collect();
    let kept = report(ledger, read, reader.moved.into_inner());
    let judged = kept_in_time(Code::OutcomesUnavailable, kept).await??;
    let mut results = Vec::with_capacity(rows.len() * 192);
    let mut errors = 0;
    for (number, outcome) in judged.into_iter().enumerate() {
        if number > 0 {
            results.push(if is_array { b',' } else { b'\n' });
        }
        match outcome {
            Ok(outcome) => append(&mut results, &OutcomeAnswer { status: "success", outcome, metadata: None }),
            Err(error) => {
                errors += 1;
                let row_id = format!("{}-{number}", id.as_str());
                append(&mut results, &RowError { row: number, error: error.body(&row_id) });
            }
        }
    }
    Ok(reply(results, is_array, BatchMetadata { rows: rows.len(), errors, request_id: id.as_str() }))
}

/// Keeps the rows that can be read, all in one commit, and puts each verdict where its row was.
async fn report(
    ledger: &Ledger,
    read: Vec<Result<Outcome, ApiError>>,
    moved: Vec<(CustomerKey, CustomerKey)>,
) -> Result<Vec<Result<OutcomeBody, ApiError>>, ApiError> {
    let good: Vec<Outcome> = read.iter().flatten().cloned().collect();
    let mut verdicts = if good.is_empty() { Vec::new() } else { ledger.report(good, moved).await? }.into_iter();
    let judge = |row: Result<Outcome, ApiError>| {
        let spend_usd = row?.spend_usd;
        OutcomeBody::new(&verdicts.next().ok_or_else(no_prediction)?, spend_usd)
    };
    Ok(read.into_iter().map(judge).collect())
}

/// One object, however many lines it takes. Broken JSON counts as one unless its first line stands by itself.
pub(super) fn is_single(body: &[u8]) -> bool {
    if body.trim_ascii_start().first() == Some(&b'[') {
        return false;
    }
    let mut lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    lines.next().is_none() || parse::<serde::de::IgnoredAny>(first).is_err()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Outcome)]
struct OutcomeRequest<'a> {
    #[serde(borrow, default, deserialize_with = "optional_text", rename = "customerId")]
    #[schema(schema_with = shape::text, required)]
    customer_id: Option<WireText<'a>>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(schema_with = shape::amount, required)]
    actual_spend_usd: Option<f64>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::moment, required)]
    observed_at: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_name)]
    model: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional")]
    prediction: Option<PredictionRequest<'a>>,
}

/// The prediction as it was answered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OutcomePrediction)]
struct PredictionRequest<'a> {
    #[serde(default, deserialize_with = "optional")]
    #[schema(schema_with = shape::amount, required)]
    clv_value_usd: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(minimum = 0)]
    confidence_interval_low: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(minimum = 0)]
    confidence_interval_high: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(exclusive_minimum = 0, exclusive_maximum = 1)]
    interval_level: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(minimum = 0, maximum = 1)]
    risk_score: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(minimum = 0, maximum = 1)]
    confidence_score: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(minimum = 0, maximum = 1)]
    tier_probability: Option<f64>,
    #[serde(default, deserialize_with = "optional_tier")]
    #[schema(schema_with = shape::optional_tier)]
    clv_tier: Option<Tier>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::name, required)]
    model_version: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::moment, required)]
    scored_at: Option<WireText<'a>>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(minimum = 1)]
    horizon_days: Option<u32>,
}

/// Turns request rows into outcomes.
struct OutcomeReader<'a> {
    scorer: &'a Scorer,
    hasher: &'a IdHasher,
    monitoring: &'a Monitoring,
    now: Timestamp,
    /// Earlier and current keys of the customers read so far, while the pepper is being changed.
    moved: RefCell<Vec<(CustomerKey, CustomerKey)>>,
}

impl OutcomeReader<'_> {
    fn read(&self, row: &[u8]) -> Result<Outcome, ApiError> {
        let request: OutcomeRequest<'_> = parse_object(row)?;
        let nobody = || invalid("customerId", "is required: it must be a text or a whole number");
        let customer_id = request.customer_id.ok_or_else(nobody)?;
        let screen = self.hasher.screen();
        screen.identifier(&customer_id).map_err(|why| refusal("customerId", why))?;
        if let Some(model) = request.model.as_deref() {
            screen.text(model).map_err(|why| refusal("model", why))?;
        }
        let customer = self.hasher.key(&customer_id);
        if self.hasher.is_rotating() {
            let earlier = self.hasher.keys(&customer_id).previous;
            self.moved.borrow_mut().extend(earlier.into_iter().map(|earlier| (earlier, customer)));
        }
        let spend_usd = amount(required(request.actual_spend_usd, "actual_spend_usd")?, "actual_spend_usd")?;
        let observed_at = time(&required(request.observed_at, "observed_at")?, "observed_at")?;
        if seconds_between(self.now, observed_at) > CLOCK_SKEW_SECONDS {
            return Err(invalid("observed_at", "must not be in the future"));
        }
        let model = match request.model.as_deref() {
            Some(name) => ModelName::parse(name).map_err(|err| invalid("model", &format!("cannot be used: {err}")))?,
            None => self.scorer.default_model().clone(),
        };
        let serving = self.scorer.registry().serving(&model);
        let control = self.monitoring.is_control(customer);
        let prediction = request.prediction.map(|it| it.read(serving.as_deref())).transpose()?;
        let prediction = prediction.map(|prediction| Prediction { control, ..prediction });
        Ok(Outcome { customer, model, spend_usd, observed_at, prediction })
    }
}

impl PredictionRequest<'_> {
    /// `serving` stands in for the horizon and the tier limits, which an answer does not carry.
    fn read(self, serving: Option<&ModelSnapshot>) -> Result<Prediction, ApiError> {
        let version = required(self.model_version, "prediction.model_version")?;
        let version = ModelVersion::parse(&version)
            .map_err(|err| invalid("prediction.model_version", &format!("cannot be used: {err}")))?;
        let horizon_days = self.horizon_days.or_else(|| serving.and_then(|snapshot| snapshot.manifest().horizon_days));
        let bounds = (self.confidence_interval_low, self.confidence_interval_high, self.interval_level);
        let interval = match bounds {
            (None, None, None) => None,
            (Some(low), Some(high), Some(level)) => Some(interval(low, high, level)?),
            _ => {
                let problem = "must come together: `confidence_interval_low`, `confidence_interval_high` and \
                               `interval_level`, or none of them";
                return Err(invalid("prediction.interval_level", problem));
            }
        };
        let confidence = probability(self.confidence_score, "prediction.confidence_score")?;
        let in_tier = probability(self.tier_probability, "prediction.tier_probability")?;
        Ok(Prediction {
            version,
            scored_at: time(&required(self.scored_at, "prediction.scored_at")?, "prediction.scored_at")?,
            horizon_days: required(horizon_days.filter(|days| *days > 0), "prediction.horizon_days")?,
            value: amount(required(self.clv_value_usd, "prediction.clv_value_usd")?, "prediction.clv_value_usd")?,
            interval,
            risk: probability(self.risk_score, "prediction.risk_score")?.map(Probability::get),
            tier: self.clv_tier.zip(serving).map(|(tier, snapshot)| assigned_tier(snapshot, tier, in_tier, confidence)),
            control: false,
        })
    }
}

fn interval(low: f64, high: f64, level: f64) -> Result<LevelInterval, ApiError> {
    let low = amount(low, "prediction.confidence_interval_low")?;
    let high = amount(high, "prediction.confidence_interval_high")?;
    if low > high {
        let problem = "must not be below `prediction.confidence_interval_low`";
        return Err(invalid("prediction.confidence_interval_high", problem));
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(invalid("prediction.interval_level", "must be above 0 and below 1"));
    }
    Ok(LevelInterval { low, high, level })
}

fn invalid(field: &str, problem: &str) -> ApiError {
    ApiError::field(Code::InvalidField, field, format!("`{field}` {problem}"))
}

fn required<T>(value: Option<T>, field: &str) -> Result<T, ApiError> {
    value.ok_or_else(|| invalid(field, "is required"))
}

fn amount(value: f64, field: &str) -> Result<f64, ApiError> {
    let usable = value.is_finite() && value >= 0.0;
    if usable { Ok(value) } else { Err(invalid(field, "must be a finite amount of US dollars, 0 or more")) }
}

fn time(text: &str, field: &str) -> Result<Timestamp, ApiError> {
    text.parse().map_err(|_| invalid(field, "must be an RFC 3339 time such as `2026-11-21T10:00:00Z`"))
}

fn probability(value: Option<f64>, field: &str) -> Result<Option<Probability>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    match Probability::clamped(value) {
        Some(probability) if probability.get() == value => Ok(Some(probability)),
        Some(_) | None => Err(invalid(field, "must be from 0 to 1")),
    }
}

fn no_prediction() -> ApiError {
    let problem = "no prediction of this customer is recorded; give `prediction`, as it was answered";
    ApiError::field(Code::NoPrediction, "prediction", problem)
}

fn erased() -> ApiError {
    ApiError::field(Code::CustomerErased, "customerId", "this customer was erased; nothing is kept of them")
}

impl From<LedgerError> for ApiError {
    fn from(err: LedgerError) -> Self {
        Self::new(Code::OutcomesUnavailable, err.to_string())
    }
}

#[derive(Serialize, ToSchema)]
struct OutcomeAnswer<'a> {
    status: &'static str,
    outcome: OutcomeBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<RequestMetadata<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OutcomeVerdict)]
struct OutcomeBody {
    result: &'static str,
    model_version: String,
    /// Of the prediction it was compared with, to the second.
    #[schema(format = DateTime)]
    scored_at: String,
    horizon_days: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    inside_interval: Option<bool>,
}

impl OutcomeBody {
    fn new(verdict: &Verdict, spend_usd: f64) -> Result<Self, ApiError> {
        let (prediction, interval) = match verdict {
            Verdict::Recorded(prediction) => (prediction, prediction.interval),
            // A part of a spend, or another one than was recorded, says nothing about the interval.
            Verdict::Immature(prediction) | Verdict::Duplicate(prediction) => (prediction, None),
            Verdict::Unmatched => return Err(no_prediction()),
            Verdict::Erased => return Err(erased()),
        };
        Ok(Self {
            result: verdict.as_str(),
            model_version: prediction.version.to_string(),
            scored_at: format!("{:.0}", prediction.scored_at),
            horizon_days: prediction.horizon_days,
            inside_interval: interval.map(|interval| interval.low <= spend_usd && spend_usd <= interval.high),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_may_take_many_lines() {
        assert!(is_single(b"{\"a\": 1}"));
        assert!(is_single(b"{\n  \"a\": 1\n}\n"));
        assert!(is_single(b"not json at all"));
        assert!(is_single(b""));
        assert!(!is_single(b"{\"a\": 1}\n{\"a\": 2}\n"));
        assert!(!is_single(b"{\"a\": 1}\nbroken"));
        assert!(!is_single(b" [{\"a\": 1}]"));
    }
}
