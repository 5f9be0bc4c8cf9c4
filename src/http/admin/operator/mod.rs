//! `/` of the admin listener: the page for whoever runs this server. What is wrong first, then rates, mixes, models, drift,
//! writes, slots, and a form to try a question.
//!
//! The page is made whole on the server and says everything without a script. With it, parts that have changed are sent as
//! they are made (`live`), and replaced by their id. It never shows an identifier, a customer's values or a secret.

mod access;
mod act;
mod candidates;
mod chart;
mod drift;
mod live;
mod look;
mod mixes;
mod models;
mod rates;
mod status;
mod trouble;
mod tryout;
mod words;
mod writes;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use self::access::PageAccess;
use self::look::{Findings, STORE_LOOK, look};
use crate::auth::{PeerIdentity, Scope};
use crate::http::edge::auth::{Access, ScopeGuard, refused};
use crate::http::edge::error::{Code, error_response};
use crate::http::edge::head::Head;
use crate::http::openapi::{Operation, Tag};
use crate::http::operator_desk::PagePart;
use crate::http::page::{Markup, Page};
use crate::http::state::SharedState;
use scoreline_listener::PeerAddress;

pub(crate) use act::{act, confirm, describe_act, describe_confirm};
pub use live::keep_live;
pub(crate) use live::{describe_live, live};
pub(crate) use tryout::{answer, describe_try};

const STYLES: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const SCRIPT_PATH: &str = "/operator/page.js";

/// What makes a part of the page.
type MakePart = fn(&mut Markup, &Findings);

/// The parts, from top to bottom. The form to try a question stands behind them and is never replaced.
const PARTS: [(&str, MakePart); 9] = [
    ("status", status::part),
    ("rates", rates::part),
    ("mixes", mixes::part),
    ("models", models::part),
    ("journal", models::journal),
    ("candidates", candidates::part),
    ("drift", drift::part),
    ("writes", writes::part),
    ("slots", rates::slots),
];

/// Of what people look at: machines have their own endpoints.
fn described(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Administration, id, summary)
}

pub(crate) fn describe_page() -> Operation {
    described("operator_page", "The operator's page, or its question for a key")
        .gives_text(StatusCode::OK, "text/html", "The page.")
        .refuses(&[Code::Unauthenticated, Code::Forbidden, Code::RateLimited])
}

pub(crate) fn describe_script() -> Operation {
    described("operator_script", "The script of the operator's page").gives_text(
        StatusCode::OK,
        "text/javascript",
        "The script.",
    )
}

/// `GET /`: the page, or the question for a key.
pub(crate) async fn page(
    State(app): State<SharedState>,
    access: PageAccess,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    if let Err(err) = access.admit() {
        return error_response(err);
    }
    if let Some(guard) = ScopeGuard::of(&app, Access::Scoped(Scope::Admin)) {
        let peer = extensions.get::<Arc<PeerIdentity>>().map(AsRef::as_ref);
        if let Err(why) = guard.admit(&Head::of_map(&headers), peer) {
            // A browser that was opened has no key yet; whoever sends one that is not good is told so.
            if headers.contains_key(header::AUTHORIZATION) {
                return refused(why, extensions.get::<PeerAddress>().map(|address| address.0.ip()));
            }
            return question_for_a_key();
        }
    }
    whole(&app, &Markup::default()).await
}

/// `GET /operator/page.js`
pub(crate) async fn script() -> Response {
    let mut response = Response::new(SCRIPT.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    response
}

/// The page with what came of a question that was tried.
async fn whole(app: &SharedState, tried: &Markup) -> Response {
    let findings = look(app, STORE_LOOK).await;
    let mut body = Markup::default();
    body.raw("<main>");
    for part in parts(&findings) {
        body.part(&part);
    }
    tryout::forms(&mut body, &findings, tried);
    body.raw("<p id=\"note\" role=\"alert\"></p></main>");
    respond(&body)
}

/// The parts as they are now.
fn parts(findings: &Findings) -> Vec<Markup> {
    let part = |(id, make): (&'static str, MakePart)| {
        let mut html = Markup::default();
        html.raw("<section id=\"").raw(id).raw("\">");
        make(&mut html, findings);
        html.raw("</section>");
        html
    };
    PARTS.map(part).into()
}

/// As they are sent to those who watch.
fn page_parts(findings: &Findings) -> Vec<PagePart> {
    let ids = PARTS.iter().map(|(id, _)| *id);
    ids.zip(parts(findings)).map(|(id, html)| PagePart { id, html: html.as_str().to_owned() }).collect()
}

fn question_for_a_key() -> Response {
    let mut body = Markup::default();
    body.raw("<main><h1>scoreline</h1><form id=\"key\" method=\"post\" action=\"/\"><p><label for=\"secret\">Key with the scope ");
    body.raw("<code>admin</code></label></p><p><input id=\"secret\" type=\"password\" autocomplete=\"off\" required> ");
    body.raw("<button>Show</button></p></form><p class=\"quiet\">The key stays in the memory of this page and is gone with it.</p>");
    body.raw("<noscript><p class=\"flag\">Here, a key can only be sent by the script of this page, or by whatever stands in ");
    body.raw("front, in the header <code>authorization: Bearer …</code>.</p></noscript><p id=\"note\" role=\"alert\"></p></main>");
    respond(&body)
}

fn respond(body: &Markup) -> Response {
    let script = Some(SCRIPT_PATH);
    let page = Page { lang: "en", title: "scoreline", styles: STYLES, script, framed_by: None, body };
    finished(page.respond(StatusCode::OK))
}

/// The browser has to say where forms come from, which it does not without a referrer.
fn finished(mut response: Response) -> Response {
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}
