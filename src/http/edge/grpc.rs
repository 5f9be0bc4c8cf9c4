//! Errors as gRPC has them: a status in the head of an answer that has no body.

use axum::http::header::CONTENT_TYPE;
use axum::http::{self, HeaderMap, StatusCode};

use super::error::{ApiError, Code};

/// Whether a request is a call of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The answer to a call that fails.
pub(crate) fn failed<B: Default>(error: &ApiError) -> http::Response<B> {
    tonic::Status::new(code(error.code), error.message.as_str()).into_http()
}

/// What clients of gRPC know of a code. Some of them ask again by themselves for `RESOURCE_EXHAUSTED` and `UNAVAILABLE`.
fn code(code: Code) -> tonic::Code {
    match code.status() {
        StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
        StatusCode::FORBIDDEN => tonic::Code::PermissionDenied,
        StatusCode::NOT_FOUND => tonic::Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::NOT_IMPLEMENTED => {
            tonic::Code::Unimplemented
        }
        StatusCode::REQUEST_TIMEOUT => tonic::Code::DeadlineExceeded,
        StatusCode::TOO_MANY_REQUESTS => tonic::Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE if code == Code::Overloaded => tonic::Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
        StatusCode::INTERNAL_SERVER_ERROR => tonic::Code::Internal,
        _ => tonic::Code::InvalidArgument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_knows_what_is_wrong_and_what_may_be_asked_again() {
        for (ours, theirs) in [
            (Code::NotFound, tonic::Code::NotFound),
            (Code::InvalidField, tonic::Code::InvalidArgument),
            (Code::TooManyRows, tonic::Code::InvalidArgument),
            (Code::PiiRefused, tonic::Code::InvalidArgument),
            (Code::Unauthenticated, tonic::Code::Unauthenticated),
            (Code::Forbidden, tonic::Code::PermissionDenied),
            (Code::RateLimited, tonic::Code::ResourceExhausted),
            (Code::Overloaded, tonic::Code::ResourceExhausted),
            (Code::NoModel, tonic::Code::Unavailable),
            (Code::UnknownCall, tonic::Code::Unimplemented),
            (Code::Internal, tonic::Code::Internal),
        ] {
            assert_eq!(code(ours), theirs, "{ours:?}");
        }
    }
}
