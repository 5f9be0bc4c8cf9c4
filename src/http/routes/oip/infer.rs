//! `POST /v2/models/{model}/infer`: the rows of a request, each scored as a request of `/v1`. One row is a live call, more
//! are a batch. A row that cannot be answered as asked refuses its request: there is no place for an error among the rows.

use std::io::Read as _;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use serde_json::json;

use super::{MODEL, ModelPath, NamedModel, VERSION};
use crate::http::admission::{Class, GivingWay, Overloaded, Permit, WhenOverloaded};
use crate::http::edge::auth::Asker;
use crate::http::edge::body;
use crate::http::edge::deadline::{BatchTime, Hurry, OwnDeadline};
use crate::http::edge::error::{ASK, ApiError, Code};
use crate::http::edge::request_id::with_request_id;
use crate::http::openapi::{Operation, Tag};
use crate::http::routes::predict_lead;
use crate::http::routes::question::ClvQuestion;
use crate::http::state::{HttpState, SharedState};
use crate::http::wire::Explain;
use crate::http::wire::Explained;
use crate::http::wire::oip::TaskOutputs;
use crate::http::wire::oip::{
    AnswerBody, AnswerInColumns, Columns, InferAnswer, InferQuestion, InferRequest, JSON_LENGTH, JsonQuestion,
};
use crate::http::wire::request::checked_id;
use crate::scoring::{Prefer, Scored, Scorer};
use scoreline_domain::{Estimate, LeadScore};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;

pub(crate) fn describe() -> Operation {
    described("v2_infer")
}

pub(crate) fn describe_of_version() -> Operation {
    described("v2_infer_version").at("version", VERSION)
}

fn described(id: &'static str) -> Operation {
    let tensor = |name: &str, value: f64| json!({"name": name, "datatype": "FP32", "shape": [1, 1], "data": [value]});
    let example = json!({"inputs": [tensor("recency_days", 12.0), tensor("frequency_count", 48.0)]});
    Operation::new(Tag::Inference, id, "Scores rows, one tensor for each feature")
        .about("With `inference-header-content-length`, raw tensors stand behind the JSON. Bodies may be packed by gzip or deflate.")
        .at("model", MODEL)
        .in_time()
        .takes::<InferRequest>(&example)
        .gives::<AnswerBody<'static>>(StatusCode::OK, "A tensor for each output.")
        .gives_text(StatusCode::OK, "application/octet-stream", "A tensor for each output.")
        .refuses_inference(&[Code::NotFound, Code::TooManyRows, Code::UnknownEncoding])
        .refuses(&ASK)
}

pub(crate) async fn handle(
    State(app): State<SharedState>,
    asker: Asker,
    path: ModelPath,
    OwnDeadline(deadline): OwnDeadline,
    request: Request,
) -> axum::response::Result<Response> {
    let named = NamedModel::of(path)?;
    let snapshot = named.asked(&app, &asker)?;
    let (parts, body) = request.into_parts();
    let (limit, json_length) = (app.settings.batch_body_limit, json_length(&parts.headers)?);
    let body = body::read(body, limit, app.settings.body_timeout).await?;
    let body = decoded(&parts.headers, body, limit).await?;
    let JsonQuestion { question, form } = JsonQuestion::read(&body, json_length)?;
    let answer = answer(&app, &snapshot, named.version.as_deref(), question, deadline).await?;
    let response = form.respond(&answer);
    Ok(match &answer.id {
        Some(id) => with_request_id(response, id),
        None => response,
    })
}

/// How many bytes of the body are JSON, where the caller says so.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let mut values = headers.get_all(&JSON_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.filter(|_| values.next().is_none()).map(Some).ok_or_else(|| {
        let problem = format!("header `{JSON_LENGTH}` must be one number of bytes");
        ApiError::field(Code::InvalidField, JSON_LENGTH.as_str(), problem)
    })
}

/// Bytes that are unpacked before live calls get their turn.
const PIECE: u64 = 64 * 1024;

/// The body without its content coding.
async fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, ApiError> {
    let coding = headers.get(CONTENT_ENCODING).map_or(b"".as_slice(), HeaderValue::as_bytes);
    let mut packed: Box<dyn std::io::Read + Send + '_> =
        if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") {
            return Ok(body);
        } else if coding.eq_ignore_ascii_case(b"gzip") {
            Box::new(MultiGzDecoder::new(&*body))
        } else if coding.eq_ignore_ascii_case(b"deflate") {
            Box::new(ZlibDecoder::new(&*body))
        } else {
            let problem = "header `content-encoding` must be `gzip`, `deflate` or `identity`";
            return Err(ApiError::field(Code::UnknownEncoding, CONTENT_ENCODING.as_str(), problem));
        };
    let mut whole = Vec::new();
    let mut way = GivingWay::start();
    loop {
        let broken = |_| ApiError::new(Code::BodyUnreadable, "body cannot be unpacked as its `content-encoding` says");
        if packed.by_ref().take(PIECE).read_to_end(&mut whole).map_err(broken)? == 0 {
            return Ok(whole.into());
        }
        if whole.len() > limit {
            return Err(ApiError::new(Code::BodyTooLarge, format!("body must be at most {limit} bytes when unpacked")));
        }
        way.pause().await;
    }
}

/// Answers a question to the model of `snapshot`, whose caller may have asked for this version.
///
/// # Errors
/// What is wrong with it, or with one of its rows.
pub(super) async fn answer(
    app: &HttpState,
    snapshot: &ModelSnapshot,
    version: Option<&str>,
    question: InferQuestion<'_>,
    deadline: Option<Duration>,
) -> Result<InferAnswer, ApiError> {
    let InferQuestion { id, parameters, inputs, outputs } = question;
    let id = id.as_deref().map(|id| checked_id("id", id, app.hasher.screen())).transpose()?;
    let explain = parameters.explain.filter(|explain| explain.0.is_some());
    let timeout = parameters.timeout.filter(|micros| *micros > 0).map(Duration::from_micros);
    let deadline = [deadline, timeout].into_iter().flatten().min();
    let answer = async {
        let columns = Columns::read(snapshot, version, parameters, inputs, app.settings.batch_rows)?;
        let mut pace = Pace::enter(app, columns.rows, deadline)?;
        match snapshot.task() {
            Task::Clv => {
                let answer = AnswerInColumns::new::<Estimate>(snapshot, &outputs, explain.is_some(), columns.rows)?;
                fill::<Estimate>(answer, app, &columns, explain, &mut pace).await
            }
            Task::Lead => {
                let answer = AnswerInColumns::new::<LeadScore>(snapshot, &outputs, explain.is_some(), columns.rows)?;
                fill::<LeadScore>(answer, app, &columns, explain, &mut pace).await
            }
        }
    };
    // Boxed: two tasks have two futures.
    let answer = Box::pin(answer).await.map_err(|err| err.of_request(id))?;
    Ok(answer.finish(snapshot.name().as_str(), id.map(str::to_owned)))
}

/// Scores row by row.
async fn fill<E: InferTask>(
    mut answer: AnswerInColumns,
    app: &HttpState,
    columns: &Columns<'_>,
    explain: Option<Explain>,
    pace: &mut Pace<'_>,
) -> Result<AnswerInColumns, ApiError> {
    let mut rows = Vec::with_capacity(columns.rows);
    for row in 0..columns.rows {
        let scored = E::score(app, columns, row, pace.hurry()).await;
        rows.push(scored.map_err(|err| of_row(err, row, columns.rows))?);
        pace.pause().await;
    }
    E::place(&app.scorer, &mut rows);
    let explain = explain.filter(|_| answer.explains());
    for (row, scored) in rows.iter().enumerate() {
        let explained = match explain {
            Some(explain) => E::explain(app, columns, row, explain, scored).await?,
            None => None,
        };
        answer.push(scored, explained.as_ref());
        pace.pause().await;
    }
    Ok(answer)
}

/// The error of one row, counted from 0, of several.
fn of_row(error: ApiError, row: usize, rows: usize) -> ApiError {
    if rows == 1 {
        return error;
    }
    ApiError { message: format!("row {row}: {}", error.message), ..error }
}

/// At what pace rows are scored: one is a live call, more are a batch.
enum Pace<'p> {
    Live { hurry: Hurry, _permit: Result<Permit<'p>, Overloaded> },
    Batch { time: BatchTime, way: GivingWay, _permit: Permit<'p> },
}

impl<'p> Pace<'p> {
    fn enter(app: &'p HttpState, rows: usize, deadline: Option<Duration>) -> Result<Self, ApiError> {
        if rows == 1 {
            let permit = app.admission.enter(Class::Live);
            let refuse = app.admission.when_overloaded() == WhenOverloaded::Refuse;
            let hurry = Hurry { deadline, shed: permit.is_err(), refuse };
            return Ok(Self::Live { hurry, _permit: permit });
        }
        let permit = app.admission.enter(Class::Batch)?;
        let time = BatchTime::start(app.settings.batch_deadline, deadline);
        Ok(Self::Batch { time, way: GivingWay::start(), _permit: permit })
    }

    fn hurry(&self) -> Hurry {
        match self {
            Self::Live { hurry, .. } => *hurry,
            Self::Batch { time, .. } => time.next_row(),
        }
    }

    async fn pause(&mut self) {
        match self {
            Self::Live { .. } => {}
            Self::Batch { way, .. } => way.pause().await,
        }
    }
}

/// How a row is scored, by the functions that answer `/v1`.
trait InferTask: TaskOutputs {
    fn score(
        app: &HttpState,
        columns: &Columns<'_>,
        row: usize,
        hurry: Hurry,
    ) -> impl Future<Output = Result<Scored<Self>, ApiError>> + Send;

    /// Places the rows of one request, where a score is a place.
    fn place(scorer: &Scorer, rows: &mut [Scored<Self>]);

    fn explain(
        app: &HttpState,
        columns: &Columns<'_>,
        row: usize,
        explain: Explain,
        scored: &Scored<Self>,
    ) -> impl Future<Output = Result<Option<Explained>, ApiError>> + Send;
}

/// A row has no id of its own: its request's is said.
const NO_ID: &str = "";

impl InferTask for Estimate {
    async fn score(app: &HttpState, columns: &Columns<'_>, row: usize, hurry: Hurry) -> Result<Scored, ApiError> {
        let request = columns.clv(row, None)?;
        let question = ClvQuestion::new(&request, app.hasher.screen(), || NO_ID, hurry)?;
        question.score(&app.scorer, &app.hasher, Prefer::Exact).await
    }

    fn place(_: &Scorer, _: &mut [Scored]) {}

    async fn explain(
        app: &HttpState,
        columns: &Columns<'_>,
        row: usize,
        explain: Explain,
        scored: &Scored,
    ) -> Result<Option<Explained>, ApiError> {
        let request = columns.clv(row, Some(explain))?;
        let question = ClvQuestion::new(&request, app.hasher.screen(), || NO_ID, Hurry::default())?;
        Ok(question.explain(&app.scorer, &app.hasher, scored).await)
    }
}

impl InferTask for LeadScore {
    async fn score(app: &HttpState, columns: &Columns<'_>, row: usize, hurry: Hurry) -> Result<Scored<Self>, ApiError> {
        let request = columns.lead(row, None)?;
        let scored = predict_lead::score_of_many(&request, &app.scorer, &app.hasher, || NO_ID, hurry).await;
        scored.map(|(scored, _)| scored)
    }

    /// As `/v1/predict/lead` places one, and its batch several.
    fn place(scorer: &Scorer, rows: &mut [Scored<Self>]) {
        match rows {
            [lead] => scorer.place_lead(lead),
            leads => scorer.place_together(leads.iter_mut()),
        }
    }

    async fn explain(
        app: &HttpState,
        columns: &Columns<'_>,
        row: usize,
        explain: Explain,
        scored: &Scored<Self>,
    ) -> Result<Option<Explained>, ApiError> {
        let request = columns.lead(row, Some(explain))?;
        Ok(predict_lead::explain(&request, &app.scorer, scored).await)
    }
}
