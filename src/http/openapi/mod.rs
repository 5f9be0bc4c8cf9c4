//! The OpenAPI document of a listener: what its routes take and give, made of the route table and of what stands on the
//! wire.
//!
//! An endpoint describes itself as an `Operation` beside its handler, in the types that it reads and writes. The table says
//! where it is and who may ask. What the models that serve take is put in for each of them, so the document says what this
//! server takes now; it is made anew when another version serves, and never for a request that is answered.

mod features;
mod glossary;
mod operation;
pub(crate) mod shape;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::{HeaderValue, Method};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::documents::Document;
use super::edge::auth::{Access, SCORING, SIGNATURE};
use super::edge::error::{Code, ErrorBody};
use crate::auth::Scope;
use crate::scoring::Scorer;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;

pub(crate) use operation::{Operation, Tag};
use operation::{Schemas, reference};

/// Makes the description of a route.
pub(crate) type Describe = fn() -> Operation;

/// A row of the route table, as the document shows it.
pub(crate) struct DescribedRoute {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub describe: Describe,
}

/// The document of these routes, and of the versions that serve.
pub(crate) fn document(
    title: &str,
    routes: impl Iterator<Item = DescribedRoute>,
    serving: &[Arc<ModelSnapshot>],
    scorer: &Scorer,
    asks_for_credentials: bool,
) -> Document {
    let body = serde_json::to_vec(&written(title, routes, serving, scorer, asks_for_credentials));
    let body = body.expect("texts can be written");
    let digest = Sha256::digest(&body).first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let etag = HeaderValue::from_str(&format!("\"{digest:016x}\"")).expect("digits are visible");
    Document { body: body.into(), etag }
}

fn written(
    title: &str,
    routes: impl Iterator<Item = DescribedRoute>,
    serving: &[Arc<ModelSnapshot>],
    scorer: &Scorer,
    asks_for_credentials: bool,
) -> Value {
    let mut schemas = Schemas::default();
    let error = schemas.response::<ErrorBody<'_>>("Error");
    let mut paths = Map::new();
    let mut tags = BTreeSet::new();
    let mut has_tokens = false;
    for route in routes {
        let DescribedRoute { method, path, access, describe } = route;
        has_tokens |= path == TOKENS;
        let mut operation = describe();
        tags.insert(operation.tag);
        operation.refuse(&refusals(access, &method, operation.tag));
        let (mut written, found) = operation.write();
        schemas.take(found);
        written["security"] = security(access, asks_for_credentials);
        let place = paths.entry(path.replace("{*", "{")).or_insert_with(|| json!({}));
        place[method.as_str().to_ascii_lowercase()] = written;
    }
    let mut schemes = json!({
        "key": {"type": "http", "scheme": "bearer", "description": "An API key of the credentials file, or a token."},
        "certificate": {"type": "mutualTLS", "description": "A client's certificate that the credentials file names."},
        "signature": {
            "type": "apiKey", "in": "header", "name": SIGNATURE,
            "description": "A message signed as Standard Webhooks says.",
        },
    });
    if has_tokens {
        let scopes: Map<String, Value> =
            Scope::ALL.iter().map(|scope| (scope.as_str().to_owned(), scope_meaning(*scope).into())).collect();
        schemes["client"] = json!({
            "type": "oauth2",
            "flows": {"clientCredentials": {"tokenUrl": TOKENS, "scopes": scopes}},
        });
    }
    let mut components = schemas.finish();
    features::put_in(&mut components, serving, scorer);
    let models: Vec<Value> = serving.iter().map(|snapshot| features::model(snapshot)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
            "description": "Fields of answers are additive: read those that you know. What is absent is left out, never null.",
            "x-models": models,
        },
        "servers": [{"url": "/"}],
        "tags": tags.iter().map(|tag| json!({"name": tag.as_str(), "description": tag.meaning()})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": schemes,
            "headers": {"RequestId": {
                "description": "The id of the request: the caller's own, or a new one.",
                "required": true, "schema": {"type": "string", "minLength": 1, "maxLength": 128},
            }},
            "responses": {"Error": {
                "description": "What is wrong, by a code that stays.",
                "headers": operation::request_id(),
                "content": {"application/json": {"schema": error}},
            }},
        },
    })
}

/// Where tokens are given.
const TOKENS: &str = "/oauth/token";

/// What the edge answers before a handler is asked.
fn refusals(access: Access, method: &Method, tag: Tag) -> Vec<Code> {
    let mut codes = vec![Code::Internal];
    if access != Access::Open {
        codes.extend([Code::Unauthenticated, Code::Forbidden, Code::RateLimited]);
    }
    if *method != Method::GET && tag == Tag::Administration {
        codes.push(Code::CrossSite);
    }
    codes
}

/// Any of these lets a caller in. Where nobody is asked, none is one of them.
fn security(access: Access, asks_for_credentials: bool) -> Value {
    let scopes: &[Scope] = match &access {
        Access::Open => return json!([]),
        Access::Scoped(scope) | Access::SignedOr(scope) => std::slice::from_ref(scope),
        Access::Scoring => &SCORING,
    };
    let mut any = Vec::new();
    for scope in scopes {
        let named = [scope.as_str()];
        any.extend([json!({"key": named}), json!({"certificate": named})]);
        if *scope != Scope::Admin {
            any.push(json!({"client": named}));
        }
    }
    if matches!(access, Access::SignedOr(_)) {
        any.push(json!({"signature": []}));
    }
    if !asks_for_credentials {
        any.push(json!({}));
    }
    any.into()
}

fn scope_meaning(scope: Scope) -> &'static str {
    match scope {
        Scope::Predict => "Customers' values and routing.",
        Scope::Leads => "Priorities of leads.",
        Scope::Events => "Outcomes, purchases and events.",
        Scope::Admin => "Erasure, and the admin listener.",
    }
}

/// The models that serve a task, its default first.
fn of_task<'s>(serving: &'s [Arc<ModelSnapshot>], task: Task, scorer: &Scorer) -> Vec<&'s ModelSnapshot> {
    let mut models: Vec<_> = serving.iter().map(AsRef::as_ref).filter(|snapshot| snapshot.task() == task).collect();
    let default = scorer.default_of(task);
    models.sort_by_key(|snapshot| (snapshot.name() != default, snapshot.name().to_string()));
    models
}
