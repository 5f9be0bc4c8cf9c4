//! `POST /v1/predict/clv/async`: a prediction that nobody waits for. A success means that the question is on disk; the answer
//! is looked at, or told to a callback. What can be wrong with a question is said at once, as by `POST /v1/predict/clv`.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::question::ClvQuestion;
use crate::http::edge::body::Payload;
use crate::http::edge::deadline::{Hurry, kept_in_time};
use crate::http::edge::error::{ASK, ApiError, Code};
use crate::http::edge::request_id::{RequestId, RequestMetadata, with_request_id};
use crate::http::openapi::{Operation, Tag, shape};
use crate::http::state::{Jobs, QuestionDesk};
use crate::http::wire::Explained;
use crate::http::wire::answer::{ClvAnswer, Context};
use crate::http::wire::json::{parse_object, respond, to_vec};
use crate::http::wire::raw_object::RawObject;
use crate::http::wire::request::PredictRequest;
use crate::scoring::{Ask, FallbackReason, Prefer, Scored, Scorer, Warning};
use crate::sinks::callback::QuestionBody;
use scoreline_domain::JobName;
use scoreline_domain::privacy::IdHasher;
use scoreline_store::{NewQuestion, QuestionAnswer, QuestionRuling, WaitingQuestion};

/// Questions and answers that are kept at a time, each for a day after its end.
const MOST_KEPT: u64 = 100_000;
/// Names whom to tell.
const CALLBACK: &str = "callback_url";
/// What is not kept: who the customer is, whom to tell, and what changes nothing.
const NOT_KEPT: [&str; 4] = ["customerId", "conversationId", "request_id", CALLBACK];

#[derive(Serialize, ToSchema)]
#[schema(as = QuestionAccepted)]
struct Accepted<'a> {
    status: &'static str,
    job: QuestionBody<'a>,
    metadata: RequestMetadata<'a>,
}

pub(crate) fn describe() -> Operation {
    let example = json!({"customerId": "CUST-000042", "features": {"recency_days": 12, "frequency_count": 48}});
    Operation::new(Tag::Customers, "predict_clv_later", "What a customer is worth, answered later")
        .about("A success means that the question is on disk. The answer is looked at, or told to `callback_url`.")
        .takes_any(
            |schemas| {
                schemas.request_with::<PredictRequest<'_>>("LaterRequest", vec![(CALLBACK, shape::callback())], &[])
            },
            &example,
        )
        .gives::<Accepted<'static>>(StatusCode::ACCEPTED, "Where the answer will be.")
        .points(StatusCode::ACCEPTED, "location", "Where the answer will be.")
        .leads_to(StatusCode::ACCEPTED, "job", "id", "$response.body#/job/id")
        .refuses(&ASK)
        .refuses(&[Code::CustomerErased, Code::StoreUnavailable])
}

pub(crate) async fn handle(
    State(scorer): State<Scorer>,
    State(hasher): State<IdHasher>,
    State(jobs): State<Jobs>,
    id: RequestId,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let later: RawObject<'_> = parse_object(&body)?;
    let whole = later.without(&[CALLBACK]);
    let request: PredictRequest<'_> = parse_object(&whole)?;
    let question = ClvQuestion::new(&request, hasher.screen(), || id.as_str(), Hurry::default())?;
    let request_id = question.context().request_id;
    let customer = question.check(&scorer, &hasher)?;
    let callback = later.text(CALLBACK).map_err(|err| err.of_request(Some(request_id)))?;
    if let Some(callback) = callback.as_deref() {
        may_be_told(&jobs.questions, callback).map_err(|err| err.of_request(Some(request_id)))?;
    }
    let kept = kept(&later, request_id);
    let (job, accepted_at) = (uuid::Uuid::new_v4().to_string(), scorer.now());
    let new = NewQuestion { id: &job, customer, request: &kept, callback: callback.as_deref(), accepted_at };
    let asking = jobs.questions.opened()?.ask_question(&new, MOST_KEPT);
    match kept_in_time(Code::StoreUnavailable, asking).await?? {
        QuestionRuling::Kept => {}
        QuestionRuling::Erased => {
            return Err(ApiError::new(Code::CustomerErased, "the customer was erased; nothing is kept of them"));
        }
        QuestionRuling::Full => {
            let problem = format!("{MOST_KEPT} questions and answers are kept already; ask again later");
            return Err(ApiError::new(Code::Overloaded, problem));
        }
    }
    (jobs.nudge)(JobName::Predictions);
    let answer = Accepted {
        status: "accepted",
        job: QuestionBody::new(&job, accepted_at, None),
        metadata: RequestMetadata { request_id },
    };
    let mut response = respond(StatusCode::ACCEPTED, &answer);
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/jobs/{job}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(with_request_id(response, request_id))
}

fn may_be_told(desk: &QuestionDesk, callback: &str) -> Result<(), ApiError> {
    let refused = |problem: String| ApiError::field(Code::InvalidField, CALLBACK, format!("`{CALLBACK}` {problem}"));
    let Some(hosts) = &desk.callbacks else {
        return Err(refused(
            "cannot be told: the server has no `write_back.callbacks.secret_file` to sign with".to_owned(),
        ));
    };
    hosts.check(callback).map(drop).map_err(|fault| refused(fault.to_string()))
}

/// The question without who it is about, under the id that it is answered with.
fn kept(later: &RawObject<'_>, request_id: &str) -> String {
    let mut kept = to_vec(&RequestMetadata { request_id });
    let rest = later.without(&NOT_KEPT);
    if rest.len() > 2 {
        kept.pop();
        kept.push(b',');
        kept.extend_from_slice(&rest[1..]);
    }
    String::from_utf8(kept).unwrap_or_default()
}

/// Answers a question that was kept, as `POST /v1/predict/clv` would now. `None` when the model has no time for it, or what
/// is stored is still being read, and the question `can_wait`.
pub async fn answer_later(
    scorer: &Scorer,
    hasher: &IdHasher,
    question: &WaitingQuestion,
    can_wait: bool,
) -> Option<QuestionAnswer> {
    let (refused, answer) = match answer(scorer, hasher, question, can_wait).await {
        Ok(answer) => (false, answer?),
        Err(error) if can_wait && error.code == Code::NoModel => return None,
        Err(error) => (true, to_vec(&error.body(&question.id))),
    };
    Some(QuestionAnswer { id: question.id.clone(), refused, answer: String::from_utf8(answer).unwrap_or_default() })
}

async fn answer(
    scorer: &Scorer,
    hasher: &IdHasher,
    kept: &WaitingQuestion,
    can_wait: bool,
) -> Result<Option<Vec<u8>>, ApiError> {
    let request: PredictRequest<'_> = parse_object(kept.request.as_bytes())?;
    // What there was to be refused was refused when the question came.
    let features_as_of = request.features_as_of()?;
    let context = Context { request_id: request.id().unwrap_or(&kept.id), features_as_of };
    let of_request = |error: ApiError| error.of_request(request.id());
    let features = request.named_features();
    let (customer, dated) = (kept.customer, features_as_of);
    let ask = Ask { customer, dated, ..request.ask(features.as_deref(), hasher, Prefer::Exact) };
    let scored = scorer.score(ask).await.map_err(|fault| of_request(ApiError::from(fault)))?;
    if can_wait && is_early(&scored) {
        return Ok(None);
    }
    let explained = match request.explain.and_then(|explain| explain.0) {
        Some(detail) => {
            let customer = kept.customer.filter(|_| features.is_none());
            Some(Explained::new(scorer.explain(features.as_deref(), customer, &scored, detail).await, scorer))
        }
        None => None,
    };
    Ok(Some(to_vec(&ClvAnswer::new(&scored, None, context).explained(explained.as_ref()))))
}

/// Whether a better answer can be had in a while.
fn is_early(scored: &Scored) -> bool {
    let busy = match scored.reason {
        Some(FallbackReason::Overloaded | FallbackReason::Deadline | FallbackReason::BreakerOpen) => true,
        Some(FallbackReason::ModelError) | None => false,
    };
    busy || scored.warnings.contains(&Warning::NothingStoredYet)
}
