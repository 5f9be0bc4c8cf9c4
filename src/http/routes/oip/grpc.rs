//! The Open Inference Protocol as calls of gRPC, on the listener of everything else. What is asked is answered by the functions
//! that answer it over HTTP; an error goes out as `observe` writes it for gRPC.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{ErrorResponse, IntoResponse as _, Response};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{NamedModel, infer, model, repository, server, statistics};
use crate::http::edge::auth::Asker;
use crate::http::edge::body;
use crate::http::edge::deadline::OwnDeadline;
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::grpc::is_grpc;
use crate::http::routes::health::not_ready;
use crate::http::state::SharedState;
use crate::http::wire::oip::grpc as wire;
use crate::http::wire::oip::messages::{
    HealthCheckRequest, HealthCheckResponse, InferStatistics, ModelIndex, ModelInferRequest, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatistics, ModelStatisticsRequest,
    ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse, ServerLiveResponse,
    ServerMetadataResponse, ServerReadyResponse, StatisticDuration, TensorMetadata,
};

/// What a call is told of its request.
#[derive(Clone)]
struct Call {
    app: SharedState,
    asker: Asker,
    deadline: Option<Duration>,
}

/// What is wrong with a call: an `ApiError`, or a refusal with its headers.
type Answered<A> = Result<A, ErrorResponse>;

/// Bytes of a message's frame beside the message.
const FRAME: usize = 5;

/// Reads one message, and answers with one.
async fn unary<Q, A, F>(app: SharedState, request: Request, answer: impl Fn(Call, Q) -> F + Send + Sync) -> Response
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Answered<A>> + Send,
{
    match read(&app, request).await {
        Ok((call, request)) => answered(call, request, answer).await,
        Err(refused) => Err::<Response, _>(refused).into_response(),
    }
}

/// The body of a call, under the limits of a batch.
async fn read(app: &SharedState, request: Request) -> Answered<(Call, Request)> {
    if !is_grpc(request.headers()) {
        let problem = "header `content-type` must be `application/grpc`";
        return Err(ApiError::field(Code::UnsupportedMediaType, CONTENT_TYPE.as_str(), problem).into());
    }
    let (mut parts, body) = request.into_parts();
    let OwnDeadline(own) = OwnDeadline::from_request_parts(&mut parts, app).await?;
    let deadline = [own, timeout(&parts.headers)].into_iter().flatten().min();
    let body = body::read(body, app.settings.batch_body_limit + FRAME, app.settings.body_timeout).await?;
    let call = Call { app: app.clone(), asker: Asker::of(&parts.extensions), deadline };
    Ok((call, Request::from_parts(parts, Body::from(body))))
}

async fn answered<Q, A, F>(call: Call, request: Request, answer: impl Fn(Call, Q) -> F + Send + Sync) -> Response
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Answered<A>> + Send,
{
    let limit = call.app.settings.batch_body_limit;
    let refusal = Mutex::new(None);
    let service = service_fn(|question: tonic::Request<Q>| {
        let answer = answer(call.clone(), question.into_inner());
        let refusal = &refusal;
        async move {
            answer.await.map(tonic::Response::new).map_err(|refused| {
                let refused = Err::<Response, _>(refused).into_response();
                *refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
                tonic::Status::unknown("refused")
            })
        }
    });
    let codec = ProstCodec::<A, Q>::default();
    let grpc = Grpc::new(codec).max_decoding_message_size(limit);
    let mut grpc = grpc.accept_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Deflate);
    let response = grpc.unary(service, request).await;
    if let Some(refused) = refusal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return refused;
    }
    match tonic::Status::from_header_map(response.headers()) {
        Some(status) => unread(&status, limit).into_response(),
        None => response.map(Body::new),
    }
}

/// The error of a message that could not be read. What was wrong with it is not repeated.
fn unread(status: &tonic::Status, limit: usize) -> ApiError {
    let code = status.code();
    if matches!(code, tonic::Code::OutOfRange | tonic::Code::ResourceExhausted) {
        ApiError::new(Code::BodyTooLarge, format!("a message must be at most {limit} bytes, also when unpacked"))
    } else if code == tonic::Code::Unimplemented {
        ApiError::new(Code::UnknownEncoding, "header `grpc-encoding` must be `gzip`, `deflate` or `identity`")
    } else {
        ApiError::new(Code::BodyUnreadable, "the message cannot be read as the protocol has it")
    }
}

/// The caller's deadline, as gRPC writes it: at most eight digits and a unit. What is written otherwise is passed over.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let written = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = written.split_at_checked(written.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(count),
        "M" => Duration::from_mins(count),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

impl NamedModel {
    /// As a message names it: without a version it is empty.
    fn of_message(name: &str, version: &str) -> Self {
        Self { model: name.to_owned(), version: (!version.is_empty()).then(|| version.to_owned()) }
    }
}

pub(crate) async fn model_infer(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |call, question: ModelInferRequest| async move {
        let named = NamedModel::of_message(&question.model_name, &question.model_version);
        let snapshot = named.asked(&call.app, &call.asker)?;
        let asked = wire::question(&question)?;
        let answer = infer::answer(&call.app, &snapshot, named.version.as_deref(), asked, call.deadline).await?;
        Ok(wire::response(&question, answer))
    })
    .await
}

pub(crate) async fn server_live(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |_, ()| async move { Ok(ServerLiveResponse { live: true }) }).await
}

pub(crate) async fn server_ready(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |call, ()| async move {
        Ok(ServerReadyResponse { ready: not_ready(&call.app.scorer, &call.app.readiness).is_none() })
    })
    .await
}

pub(crate) async fn model_ready(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |call, question: ModelReadyRequest| async move {
        NamedModel::of_message(&question.name, &question.version).ready(&call.app)?;
        Ok(ModelReadyResponse { ready: true })
    })
    .await
}

pub(crate) async fn server_metadata(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |call, ()| async move {
        call.asker.admit(None)?;
        Ok(ServerMetadataResponse {
            name: server::NAME.to_owned(),
            version: server::VERSION.to_owned(),
            extensions: server::EXTENSIONS.map(str::to_owned).to_vec(),
        })
    })
    .await
}

pub(crate) async fn model_metadata(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |call, question: ModelMetadataRequest| async move {
        let named = NamedModel::of_message(&question.name, &question.version);
        let snapshot = named.asked(&call.app, &call.asker)?;
        let tensor = |tensor: model::TensorMetadata<'_>| TensorMetadata {
            name: tensor.name.to_owned(),
            datatype: tensor.datatype.as_str().to_owned(),
            shape: tensor.shape.to_vec(),
        };
        Ok(ModelMetadataResponse {
            name: snapshot.name().to_string(),
            versions: vec![snapshot.version().to_string()],
            platform: model::platform(&snapshot),
            inputs: model::inputs(&snapshot).map(tensor).collect(),
            outputs: model::outputs(&snapshot).map(tensor).collect(),
        })
    })
    .await
}

pub(crate) async fn model_statistics(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |call, question: ModelStatisticsRequest| async move {
        let models = if question.name.is_empty() {
            statistics::of_all(&call.app, &call.asker)?
        } else {
            let named = NamedModel::of_message(&question.name, &question.version);
            vec![statistics::of(&call.app, &*named.asked(&call.app, &call.asker)?)]
        };
        Ok(ModelStatisticsResponse { model_stats: models.into_iter().map(ModelStatistics::from).collect() })
    })
    .await
}

impl From<statistics::ModelStatistics> for ModelStatistics {
    fn from(told: statistics::ModelStatistics) -> Self {
        let duration = |time: statistics::CountedTime| Some(StatisticDuration { count: time.count, ns: time.ns });
        let times = told.inference_stats;
        Self {
            name: told.name,
            version: told.version,
            inference_count: told.inference_count,
            execution_count: told.execution_count,
            inference_stats: Some(InferStatistics {
                success: duration(times.success),
                fail: duration(times.fail),
                queue: duration(times.queue),
                compute_input: duration(times.compute_input),
                compute_infer: duration(times.compute_infer),
                compute_output: duration(times.compute_output),
            }),
        }
    }
}

pub(crate) async fn repository_index(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |call, question: RepositoryIndexRequest| async move {
        let entries = repository::entries(&call.app.scorer, question.ready).into_iter();
        let index = |repository::IndexEntry { name, version, state, reason }| ModelIndex {
            name,
            version,
            state: state.to_owned(),
            reason,
        };
        Ok(RepositoryIndexResponse { models: entries.map(index).collect() })
    })
    .await
}

/// Loads and unloads nothing.
pub(crate) async fn repository_refuse(State(app): State<SharedState>, request: Request) -> Response {
    unary(app, request, |_, ()| async move { Err::<(), _>(repository::refuse().await.into()) }).await
}

/// `grpc.health.v1.Health/Check`, of this server, or of a model by its name.
pub(crate) async fn health_check(State(app): State<SharedState>, request: Request) -> Response {
    /// Values of `ServingStatus`.
    const SERVING: i32 = 1;
    const NOT_SERVING: i32 = 2;
    unary(app, request, |call, question: HealthCheckRequest| async move {
        let is_ready = match question.service.as_str() {
            "" => not_ready(&call.app.scorer, &call.app.readiness).is_none(),
            name => {
                let ready = NamedModel::of_message(name, "").ready(&call.app);
                ready.map(|_| true).or_else(|err| if err.code == Code::NoModel { Ok(false) } else { Err(err) })?
            }
        };
        Ok(HealthCheckResponse { status: if is_ready { SERVING } else { NOT_SERVING } })
    })
    .await
}

/// What the protocol or its extensions have, and this server has not.
pub(crate) async fn unknown() -> ApiError {
    ApiError::new(Code::UnknownCall, "there is no such call")
}
