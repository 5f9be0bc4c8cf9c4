//! `POST /oauth/token`: the client credentials grant, for platforms whose credential type calls a token endpoint.
//! Errors have the body of RFC 6749 section 5.2, not ours.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::auth::{Authenticator, GrantFault, GrantRequest, GrantedToken};
use crate::http::edge::body::Payload;
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::head::{Head, Repeated};
use crate::http::edge::refusal::Refusal;
use crate::http::openapi::{Operation, Tag};
use crate::http::wire::json::respond;
use scoreline_listener::PeerAddress;

/// Named as RFC 6749 section 5.1 names it.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
struct Success {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TokenRefused)]
struct Refused {
    error: &'static str,
    error_description: String,
}

pub(crate) fn describe() -> Operation {
    let form = json!({
        "type": "object", "required": ["grant_type"],
        "properties": {
            "grant_type": {"type": "string", "enum": ["client_credentials"]},
            "scope": {"type": "string", "description": "Apart by blanks; without it, all of the client."},
            "client_id": {"type": "string"},
            "client_secret": {"type": "string"},
        },
    });
    let refused = "Errors are those of RFC 6749 section 5.2.";
    let operation = Operation::new(Tag::Server, "oauth_token", "A token for a client of the credentials file")
        .about("The client stands in the form or in the header, as Basic. Where no client is known, there is no such path.")
        .takes_form(&form)
        .gives::<Success>(StatusCode::OK, "A token.");
    let statuses = [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
    let statuses = statuses.into_iter().chain([StatusCode::INTERNAL_SERVER_ERROR]);
    let operation = statuses.fold(operation, |operation, status| operation.gives::<Refused>(status, refused));
    operation.refuses(&[Code::NotFound])
}

pub(crate) async fn handle(
    State(authenticator): State<Option<Arc<Authenticator>>>,
    headers: HeaderMap,
    extensions: Extensions,
    Payload(body): Payload,
) -> Response {
    let Some(authenticator) = authenticator else {
        let message = "tokens are not issued here: `auth.credentials_file` is not set";
        return ApiError::new(Code::NotFound, message).into_response();
    };
    let address = extensions.get::<PeerAddress>().map(|address| address.0.ip());
    let granted = match Head::of_map(&headers).authorization.once() {
        Err(Repeated) => Err(GrantFault::InvalidRequest("there must be one authorization header at most")),
        Ok(authorization) => authenticator.grant(&GrantRequest {
            authorization,
            content_type: headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes),
            body: &body,
            from: address,
        }),
    };
    let mut response = match granted {
        Ok(GrantedToken { access_token, expires_in, scope }) => {
            respond(StatusCode::OK, &Success { access_token, token_type: "Bearer", expires_in, scope })
        }
        Err(fault) => refused(fault, address),
    };
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, never);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn refused(fault: GrantFault, address: Option<IpAddr>) -> Response {
    metrics::counter!("scoreline_oauth_refused_total", "error" => fault.code()).increment(1);
    let status = match fault {
        GrantFault::InvalidRequest(_) | GrantFault::UnsupportedGrantType | GrantFault::InvalidScope => {
            StatusCode::BAD_REQUEST
        }
        GrantFault::InvalidClient => StatusCode::UNAUTHORIZED,
        GrantFault::TooFast { .. } => StatusCode::TOO_MANY_REQUESTS,
        GrantFault::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = respond(status, &Refused { error: fault.code(), error_description: fault.to_string() });
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
        response.extensions_mut().insert(Refusal { reason: fault.code(), caller: None, address });
    }
    if fault == GrantFault::InvalidClient {
        let challenge = HeaderValue::from_static("Basic realm=\"scoreline\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    if let GrantFault::TooFast { retry_after } = fault {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}
