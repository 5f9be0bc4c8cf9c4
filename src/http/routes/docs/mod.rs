//! `GET /openapi.json` and `GET /docs`: the document of a listener, and Swagger UI over it. Both are open: they say what may be
//! asked, and neither what is answered nor about whom.
//!
//! Swagger UI is in the program, so nothing is loaded from elsewhere while it is built or runs. It needs styles of its own
//! making inside the page; scripts come from this server alone.

use std::io::{Cursor, Read as _};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

use crate::http::documents::{Document, LastDocument};
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::headers::JSON;
use crate::http::openapi::{DescribedRoute, Operation, Tag, document};
use crate::http::state::HttpState;

const PAGE: &str = include_str!("docs.html");
/// What of Swagger UI the page needs.
const SCRIPT: &str = "swagger-ui-bundle.js";
const STYLES: &str = "swagger-ui.css";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; \
                      connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

pub(crate) fn describe_document() -> Operation {
    Operation::new(Tag::Server, "openapi", "This document")
        .about("It names the features of the models that serve now, and changes when another version serves.")
        .gives_text(StatusCode::OK, "application/json", "The document.")
        .points(StatusCode::OK, "etag", "The document.")
        .points(StatusCode::NOT_MODIFIED, "etag", "It is still the one of `if-none-match`.")
}

pub(crate) fn describe_page() -> Operation {
    Operation::new(Tag::Server, "docs", "This document for people").gives_text(StatusCode::OK, "text/html", "The page.")
}

pub(crate) fn describe_file() -> Operation {
    Operation::new(Tag::Server, "docs_file", "What the page of this document is made of")
        .at("file", "Name of the file.")
        .gives_text(StatusCode::OK, "text/javascript", "A script.")
        .gives_text(StatusCode::OK, "text/css", "Styles.")
        .refuses(&[Code::NotFound])
}

/// The document of these routes.
pub(crate) fn openapi(
    app: &HttpState,
    last: &LastDocument,
    title: &str,
    routes: impl Iterator<Item = DescribedRoute>,
    headers: &HeaderMap,
) -> Response {
    let serving = app.scorer.registry().all_serving();
    let made_of = serving.iter().map(|snapshot| snapshot.digest().to_string()).collect();
    let make = || document(title, routes, &serving, &app.scorer, app.auth.is_some());
    let Document { body, etag } = last.of(made_of, make);
    let mut response = if is_known(headers, &etag) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(body.into());
        response.headers_mut().insert(CONTENT_TYPE, JSON.clone());
        response
    };
    response.headers_mut().insert(ETAG, etag);
    response
}

/// Whether the caller has the document of this tag.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut tags = known.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

/// `GET /docs`
pub(crate) async fn page() -> Response {
    let mut response = of_text(PAGE, "text/html; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// `GET /docs/{file}`
pub(crate) async fn file(name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    static SWAGGER_UI: LazyLock<[String; 2]> = LazyLock::new(|| [SCRIPT, STYLES].map(unpacked));
    let unknown = || ApiError::new(Code::NotFound, "there is no such file; the page is at `/docs`");
    let Path(name) = name.map_err(|_| unknown())?;
    let [script, styles] = &*SWAGGER_UI;
    Ok(match name.as_str() {
        SCRIPT => of_text(script, "text/javascript; charset=utf-8"),
        STYLES => of_text(styles, "text/css; charset=utf-8"),
        "begin.js" => of_text(include_str!("begin.js"), "text/javascript; charset=utf-8"),
        _ => return Err(unknown()),
    })
}

fn of_text(text: &'static str, content: &'static str) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

/// A file of Swagger UI, out of the archive that is in the program.
fn unpacked(name: &str) -> String {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("an archive");
    let ending = format!("/dist/{name}");
    let path = archive.file_names().flatten().find(|path| path.ends_with(&ending)).expect("a file").into_owned();
    let mut text = String::new();
    archive.by_name(&path).expect("a file").read_to_string(&mut text).expect("text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_document_is_not_sent_again() {
        let etag = HeaderValue::from_static("\"0123\"");
        let asked = |tags: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for tag in tags {
                headers.append(IF_NONE_MATCH, HeaderValue::from_static(tag));
            }
            is_known(&headers, &etag)
        };
        for known in [&["\"0123\""][..], &["*"], &["\"x\", W/\"0123\""], &["\"x\"", "\"0123\""]] {
            assert!(asked(known), "{known:?}");
        }
        for other in [&[][..], &["\"x\""], &["0123"], &[""]] {
            assert!(!asked(other), "{other:?}");
        }
    }
}
