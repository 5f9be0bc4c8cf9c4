//! Every error a client can get: one table of codes, one place that turns them into responses.

use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::{self, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::request_id::RequestMetadata;
use crate::http::admission::{Overloaded, RETRY_AFTER_SECONDS};
use crate::scoring::AskFault;
use scoreline_domain::privacy::screen::{RefusedText, public};
use scoreline_listener::HeadFault;
use scoreline_store::StoreError;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:ident;)*) => {
        /// Stable codes: clients match on these, not on messages.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }
        }
    };
}

impl Code {
    /// The status for a data action. With HTTP 200 its flow goes on by the values in the body; a mistake of setup takes the
    /// failure path, where whoever sets it up sees it.
    pub(crate) fn flat_status(self) -> StatusCode {
        if self.is_of_setup() { self.status() } else { StatusCode::OK }
    }

    /// The status for the Open Inference Protocol, whose clients know 400 for what is wrong with a request.
    pub(crate) fn inference_status(self) -> StatusCode {
        match self.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        }
    }

    /// When asking again may help, in seconds, where that is for the server to say.
    pub(crate) fn retry_after(self) -> Option<u32> {
        let is_of_store = matches!(self, Self::OutcomesUnavailable | Self::StoreUnavailable | Self::ErasureIncomplete);
        if is_of_store { Some(STORE_AGAIN_SECONDS) } else { (self == Self::Overloaded).then_some(RETRY_AFTER_SECONDS) }
    }

    /// Whether it is a mistake in how a caller was set up, and no matter of this one question.
    pub(crate) fn is_of_setup(self) -> bool {
        matches!(self, Self::Unauthenticated | Self::Forbidden | Self::NotFound | Self::MethodNotAllowed)
    }
}

/// When facts that could not be kept are best told again: a database that was restarted is mostly back by then.
const STORE_AGAIN_SECONDS: u32 = 5;

/// What can be wrong with a question to a model.
pub(crate) const ASK: [Code; 6] = [
    Code::InvalidFeature,
    Code::PiiRefused,
    Code::UnknownModel,
    Code::VersionNotLoaded,
    Code::NoModel,
    Code::Overloaded,
];

codes! {
    /// A head that HTTP does not allow: the connection is closed behind the answer.
    MalformedRequest = "malformed_request", BAD_REQUEST;
    /// A body in a transfer coding that is not known here.
    UnknownCoding = "unknown_transfer_coding", NOT_IMPLEMENTED;
    /// The body is not JSON.
    MalformedJson = "malformed_json", BAD_REQUEST;
    /// A request field is unknown, missing or of the wrong type.
    InvalidField = "invalid_field", UNPROCESSABLE_ENTITY;
    /// A text of the request is personal data, or looks like it.
    PiiRefused = "pii_refused", UNPROCESSABLE_ENTITY;
    /// The customer was erased; nothing is kept of them.
    CustomerErased = "customer_erased", GONE;
    /// The tombstone or a place could not be written; asking again goes on.
    ErasureIncomplete = "erasure_incomplete", SERVICE_UNAVAILABLE;
    /// A feature is unknown, required and missing, mistyped, not finite or impossible.
    InvalidFeature = "invalid_feature", UNPROCESSABLE_ENTITY;
    UnknownModel = "unknown_model", UNPROCESSABLE_ENTITY;
    /// Strict mode: the requested version is not loaded.
    VersionNotLoaded = "model_version_not_loaded", UNPROCESSABLE_ENTITY;
    TooManyRows = "too_many_rows", PAYLOAD_TOO_LARGE;
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT;
    BodyUnreadable = "body_unreadable", BAD_REQUEST;
    /// A body in a content coding that is not known here.
    UnknownEncoding = "unknown_content_encoding", UNSUPPORTED_MEDIA_TYPE;
    /// A body of a type that is not known here.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE;
    /// An outcome without a prediction, of a customer none is recorded of.
    NoPrediction = "no_prediction", UNPROCESSABLE_ENTITY;
    /// Outcomes are not kept here: the settings say so, and sending them again does not help.
    OutcomesNotKept = "outcomes_not_kept", CONFLICT;
    /// Outcomes cannot be kept: too many at once, or the disk fails.
    OutcomesUnavailable = "outcomes_unavailable", SERVICE_UNAVAILABLE;
    /// The database is not open yet or gives no answer. Nothing that answers predictions asks it.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE;
    /// More to do than can be done in time; `Retry-After` says when to ask again.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE;
    /// No credentials, or none that are valid.
    Unauthenticated = "unauthenticated", UNAUTHORIZED;
    /// Valid credentials without the scope of the route.
    Forbidden = "forbidden", FORBIDDEN;
    /// A browser was made to ask by a page of another site.
    CrossSite = "cross_site", FORBIDDEN;
    /// A caller above its rate.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS;
    NotFound = "not_found", NOT_FOUND;
    /// A newer fact is kept.
    Conflict = "conflict", CONFLICT;
    /// A model version cannot be promoted, or rolled back to, as things are.
    ModelNotChanged = "model_not_changed", CONFLICT;
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// A call of a protocol that is not answered here.
    UnknownCall = "unknown_call", NOT_IMPLEMENTED;
    /// No model is loaded: there is not even a baseline to answer from.
    NoModel = "no_model", SERVICE_UNAVAILABLE;
    Internal = "internal", INTERNAL_SERVER_ERROR;
}

/// An error on its way out. It travels as a response extension until `observe` writes its body, because only there
/// the request id is known.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub code: Code,
    pub message: String,
    /// Path of the offending field, such as `features.recency_days`.
    pub field: Option<String>,
    /// The caller's own request id, once the body was read that far.
    pub request_id: Option<String>,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, request_id: None }
    }

    /// A field that callers named themselves is not repeated when its name is personal data.
    pub(crate) fn field(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = field.into();
        match public_name(&field) {
            Ok(()) => Self { field: Some(field), ..Self::new(code, message) },
            Err(why) => Self::personal_name(&field, None, why),
        }
    }

    /// A field whose name is personal data: it is told by its `place` among those beside it.
    pub(crate) fn personal_name(field: &str, place: Option<usize>, why: RefusedText) -> Self {
        let above = if field.starts_with("features.") { "features" } else { "body" };
        let field = place.map_or_else(|| "a field".to_owned(), |place| format!("field {place}"));
        let message = format!("the name of {field} in `{above}` {why}");
        Self { field: Some(above.to_owned()), ..Self::new(Code::PiiRefused, message) }
    }

    #[must_use]
    pub(crate) fn of_request(self, id: Option<&str>) -> Self {
        Self { request_id: id.map(str::to_owned), ..self }
    }

    pub(crate) fn store_not_open() -> Self {
        Self::new(Code::StoreUnavailable, "the store is not open yet; the log says what it waits for")
    }

    /// As it stands on the wire of the Open Inference Protocol.
    pub(crate) fn inference_body<'a>(&'a self, generated_id: &'a str) -> InferenceErrorBody<'a> {
        let request_id = self.request_id.as_deref().unwrap_or(generated_id);
        InferenceErrorBody { error: &self.message, code: self.code.as_str(), request_id }
    }

    /// The documented error body.
    pub(crate) fn body<'a>(&'a self, generated_id: &'a str) -> ErrorBody<'a> {
        ErrorBody {
            status: "error",
            error: ErrorDetail { code: self.code.as_str(), message: &self.message, field: self.field.as_deref() },
            metadata: RequestMetadata { request_id: self.request_id.as_deref().unwrap_or(generated_id) },
        }
    }
}

/// An error in the words of the Open Inference Protocol.
#[derive(Serialize, ToSchema)]
#[schema(as = InferenceError)]
pub(crate) struct InferenceErrorBody<'a> {
    error: &'a str,
    code: &'static str,
    request_id: &'a str,
}

/// Characters that are shown of a name that callers made up.
pub(crate) const LONGEST_NAME: usize = 80;

/// Looks at the name of a field, also without the names above it: those hide what it looks like by itself.
///
/// # Errors
/// When it is personal data.
pub(crate) fn public_name(field: &str) -> Result<(), RefusedText> {
    let below = field.match_indices('.').map(|(dot, _)| &field[dot + 1..]);
    std::iter::once(field).chain(below).try_for_each(public)
}

#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    status: &'static str,
    error: ErrorDetail<'a>,
    metadata: RequestMetadata<'a>,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetail<'a> {
    /// Stays the same; match on it, and not on the message.
    code: &'static str,
    message: &'a str,
    /// Path of the field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl From<HeadFault> for ApiError {
    fn from(fault: HeadFault) -> Self {
        let (code, header) = match fault {
            HeadFault::Host => (Code::MalformedRequest, HOST),
            HeadFault::Repeated => (Code::MalformedRequest, TRANSFER_ENCODING),
            HeadFault::UnknownCoding => (Code::UnknownCoding, TRANSFER_ENCODING),
        };
        Self::field(code, header.as_str(), fault.to_string())
    }
}

impl From<Overloaded> for ApiError {
    fn from(overloaded: Overloaded) -> Self {
        Self::new(Code::Overloaded, overloaded.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(err: StoreError) -> Self {
        tracing::warn!(error = %err, "the store gave no answer");
        Self::new(Code::StoreUnavailable, "the store gives no answer; the log says why")
    }
}

impl From<AskFault> for ApiError {
    fn from(fault: AskFault) -> Self {
        let message = fault.to_string();
        match fault {
            AskFault::Feature(feature) => {
                Self::field(Code::InvalidFeature, format!("features.{}", feature.feature), message)
            }
            AskFault::Nothing => Self::field(Code::InvalidField, "features", message),
            AskFault::UnknownModel { .. } | AskFault::OtherTask { .. } => {
                Self::field(Code::UnknownModel, "model", message)
            }
            AskFault::IntervalLevel { .. } => Self::field(Code::InvalidField, "interval_level", message),
            AskFault::VersionNotLoaded { .. } => Self::field(Code::VersionNotLoaded, "model_version", message),
            AskFault::NoModel { .. } => Self::new(Code::NoModel, message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        error_response(self)
    }
}

/// An empty reply that only carries an error to `observe`, where its body is written.
pub(crate) fn error_response<B: Default>(error: ApiError) -> http::Response<B> {
    let mut response = http::Response::new(B::default());
    *response.status_mut() = error.code.status();
    response.extensions_mut().insert(error);
    response
}
