//! The route table, and the routers made of it. The short lane, scopes and metrics read the same rows.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler as _;
use axum::http::Method;
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, on};

use super::admin::{self, jobs, metrics, models, operator, privacy, push, write_back};
use super::edge::auth::{Access, guarded};
use super::edge::error::{ApiError, Code, error_response};
use super::edge::observe::{self, ErrorForm, Followed, Observe};
use super::edge::origin::refuse_other_sites;
use super::routes::live::Endpoint;
use super::routes::{
    Call, customer_score, customers, health, job, lead_events, lead_scores, leads, oauth_token, oip, outcomes,
    predict_clv_batch, predict_later, predict_lead_batch, purchases, widget,
};
use super::state::SharedState;
use crate::auth::Scope;
use crate::monitoring::traffic::RequestClass;

/// Whose endpoints a route is among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerName {
    Public,
    Admin,
}

/// One row: what is asked where, under which name it is counted, who may ask, and what answers.
pub struct Route {
    pub listener: ListenerName,
    pub method: Method,
    pub path: &'static str,
    /// Label in metrics. Health and administration have one for all of theirs.
    pub name: &'static str,
    pub access: Access,
    pub(super) answer: RouteAnswer,
}

/// What answers a route.
#[derive(Clone, Copy)]
pub(super) enum RouteAnswer {
    /// A live call, which the short lane answers too.
    Live(Endpoint),
    /// An axum handler, made for the row's method.
    Routed(fn(MethodFilter) -> MethodRouter<SharedState>),
}

use Access::{Open, Scoped, Scoring, SignedOr};
use RouteAnswer::{Live, Routed};

/// Name of what is no route, in metrics and in the log.
pub(super) const UNMATCHED: &str = "unmatched";
/// Where the routes for data actions are.
const DATA_ACTIONS: &str = "/v1/genesys/{*action}";
/// Where the routes of the Open Inference Protocol are.
const INFERENCE: &str = "/v2";
const NO_INFERENCE: &str = "/v2/{*path}";
/// What commands of this machine are taken, beside the public listener.
const PURCHASES: &str = "/v1/purchases";
const LEAD_SCORES: &str = "/v1/leads/score";
const RETRY_PUSH: &str = "/admin/push/retry";

/// Every route there is.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    public(Method::POST, "/v1/predict/clv", "predict_clv", Scoped(Scope::Predict), Live(Endpoint::PredictClv)),
    public(Method::POST, "/v1/predict/clv/batch", "predict_clv_batch", Scoped(Scope::Predict), Routed(|method| on(method, predict_clv_batch::handle))),
    public(Method::POST, "/v1/predict/clv/async", "predict_clv_async", Scoped(Scope::Predict), Routed(|method| on(method, predict_later::handle))),
    public(Method::GET, "/v1/jobs/{id}", "job", Scoped(Scope::Predict), Routed(|method| on(method, job::handle))),
    public(Method::POST, "/v1/route/tier", "route_tier", Scoped(Scope::Predict), Live(Endpoint::RouteTier)),
    public(Method::POST, "/v1/genesys/clv", "genesys_clv", Scoped(Scope::Predict), Live(Endpoint::GenesysClv)),
    public(Method::POST, "/v1/genesys/route", "genesys_route", Scoped(Scope::Predict), Live(Endpoint::GenesysRoute)),
    public(Method::POST, "/v1/predict/lead", "predict_lead", Scoped(Scope::Leads), Live(Endpoint::PredictLead)),
    public(Method::POST, "/v1/predict/lead/batch", "predict_lead_batch", Scoped(Scope::Leads), Routed(|method| on(method, predict_lead_batch::handle))),
    public(Method::POST, "/v1/genesys/lead", "genesys_lead", Scoped(Scope::Leads), Live(Endpoint::GenesysLead)),
    public(Method::POST, "/v1/outcomes", "outcomes", Scoped(Scope::Events), Routed(|method| on(method, outcomes::handle))),
    public(Method::POST, PURCHASES, "purchases", Scoped(Scope::Events), Routed(|method| on(method, purchases::handle))),
    public(Method::POST, LEAD_SCORES, "lead_scores", Scoped(Scope::Leads), Routed(|method| on(method, lead_scores::handle))),
    public(Method::POST, "/v1/events/lead-score", "lead_events", SignedOr(Scope::Events), Routed(|method| on(method, lead_events::handle))),
    public(Method::GET, "/v1/leads/next", "leads_next", Scoped(Scope::Leads), Routed(|method| on(method, leads::next))),
    public(Method::GET, "/v1/leads/{id}/score", "lead_score", Scoped(Scope::Leads), Routed(|method| on(method, leads::one))),
    public(Method::DELETE, "/v1/leads/{id}", "lead_erased", Scoped(Scope::Admin), Routed(|method| on(method, customers::handle))),
    public(Method::DELETE, "/v1/customers/{id}", "customers", Scoped(Scope::Admin), Routed(|method| on(method, customers::handle))),
    public(Method::GET, "/v1/customers/{id}/score", "customer_score", Scoped(Scope::Predict), Routed(|method| on(method, customer_score::handle))),
    public(Method::POST, "/oauth/token", "oauth_token", Open, Routed(|method| on(method, oauth_token::handle))),
    public(Method::GET, "/widget", "widget", Open, Routed(|method| on(method, widget::handle))),
    public(Method::GET, "/health/live", "health", Open, Routed(|method| on(method, health::live))),
    public(Method::GET, "/health/ready", "health", Open, Routed(|method| on(method, health::ready))),
    public(Method::GET, INFERENCE, "v2_server", Scoring, Routed(|method| on(method, oip::server::metadata))),
    public(Method::GET, "/v2/health/live", "health", Open, Routed(|method| on(method, oip::server::live))),
    public(Method::GET, "/v2/health/ready", "health", Open, Routed(|method| on(method, oip::server::ready))),
    public(Method::GET, "/v2/models/{model}", "v2_model", Scoring, Routed(|method| on(method, oip::model::metadata))),
    public(Method::GET, "/v2/models/{model}/versions/{version}", "v2_model", Scoring, Routed(|method| on(method, oip::model::metadata))),
    public(Method::GET, "/v2/models/{model}/ready", "health", Open, Routed(|method| on(method, oip::model::ready))),
    public(Method::GET, "/v2/models/{model}/versions/{version}/ready", "health", Open, Routed(|method| on(method, oip::model::ready))),
    public(Method::POST, "/v2/models/{model}/infer", "v2_infer", Scoring, Routed(|method| on(method, oip::infer::handle))),
    public(Method::POST, "/v2/models/{model}/versions/{version}/infer", "v2_infer", Scoring, Routed(|method| on(method, oip::infer::handle))),
    public(Method::GET, "/v2/models/stats", "v2_statistics", Scoring, Routed(|method| on(method, oip::statistics::all))),
    public(Method::GET, "/v2/models/{model}/stats", "v2_statistics", Scoring, Routed(|method| on(method, oip::statistics::handle))),
    public(Method::GET, "/v2/models/{model}/versions/{version}/stats", "v2_statistics", Scoring, Routed(|method| on(method, oip::statistics::handle))),
    public(Method::POST, "/v2/repository/index", "v2_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::repository::index))),
    public(Method::POST, "/v2/repository/models/{model}/load", "v2_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::repository::refuse))),
    public(Method::POST, "/v2/repository/models/{model}/unload", "v2_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::repository::refuse))),
    admin(Method::GET, "/health/live", Open, Routed(|method| on(method, health::live))),
    admin(Method::GET, "/health/ready", Open, Routed(|method| on(method, health::ready))),
    admin(Method::GET, "/", Open, Routed(|method| on(method, operator::page))),
    admin(Method::GET, "/operator/page.js", Open, Routed(|method| on(method, operator::script))),
    admin(Method::GET, "/operator/live", Scoped(Scope::Admin), Routed(|method| on(method, operator::live))),
    admin(Method::GET, "/operator/confirm", Scoped(Scope::Admin), Routed(|method| on(method, operator::confirm))),
    admin(Method::POST, "/operator/act", Scoped(Scope::Admin), Routed(|method| on(method, operator::act))),
    admin(Method::POST, "/operator/try", Scoped(Scope::Admin), Routed(|method| on(method, operator::answer))),
    admin(Method::GET, "/metrics", Scoped(Scope::Admin), Routed(|method| on(method, metrics::handle))),
    admin(Method::GET, "/admin/models", Scoped(Scope::Admin), Routed(|method| on(method, models::handle))),
    admin(Method::POST, "/admin/models/{model}/{version}/promote", Scoped(Scope::Admin), Routed(|method| on(method, models::promote))),
    admin(Method::POST, "/admin/models/{model}/rollback", Scoped(Scope::Admin), Routed(|method| on(method, models::rollback))),
    admin(Method::POST, "/admin/models/{model}/latest", Scoped(Scope::Admin), Routed(|method| on(method, models::latest))),
    admin(Method::GET, "/admin/jobs", Scoped(Scope::Admin), Routed(|method| on(method, jobs::handle))),
    admin(Method::POST, "/admin/jobs/{job}/run", Scoped(Scope::Admin), Routed(|method| on(method, jobs::run))),
    admin(Method::GET, "/admin/outcomes", Scoped(Scope::Admin), Routed(|method| on(method, admin::outcomes::handle))),
    admin(Method::GET, "/admin/privacy", Scoped(Scope::Admin), Routed(|method| on(method, privacy::handle))),
    admin(Method::GET, "/admin/write-back", Scoped(Scope::Admin), Routed(|method| on(method, write_back::handle))),
    admin(Method::GET, "/admin/push", Scoped(Scope::Admin), Routed(|method| on(method, push::handle))),
    admin(Method::POST, RETRY_PUSH, Scoped(Scope::Admin), Routed(|method| on(method, push::retry))),
    admin(Method::POST, "/admin/write-back/retry", Scoped(Scope::Admin), Routed(|method| on(method, write_back::retry))),
];

const fn public(method: Method, path: &'static str, name: &'static str, access: Access, answer: RouteAnswer) -> Route {
    Route { listener: ListenerName::Public, method, path, name, access, answer }
}

const fn admin(method: Method, path: &'static str, access: Access, answer: RouteAnswer) -> Route {
    Route { listener: ListenerName::Admin, method, path, name: "admin", access, answer }
}

/// The routes of one listener behind authentication and under observation. What is no route is answered here too.
pub(super) fn router(listener: ListenerName, state: SharedState) -> Router {
    observe::describe();
    let rows = ROUTES.iter().filter(|row| row.listener == listener);
    let router = rows.fold(Router::new(), |router, row| {
        let methods = guarded(&state, row.access, row.methods());
        // On this machine nobody may be asked for a key, and a browser can be made to send what it does not read.
        let methods = if row.changes_by_admin() { methods.layer(from_fn(refuse_other_sites)) } else { methods };
        // Before anybody is asked who they are: a path and its methods are no secret.
        router.route(row.path, methods.fallback(wrong_method).layer(row.observe(&state)))
    });
    let router = match listener {
        ListenerName::Public => router
            .route(DATA_ACTIONS, any(not_found).layer(unmatched(Endpoint::GenesysRoute.errors(&state))))
            .route(NO_INFERENCE, any(not_found).layer(unmatched(ErrorForm::Inference))),
        ListenerName::Admin => router,
    };
    ended(router, state)
}

/// The routes that commands of this machine may ask without credentials: whoever reaches them may write the store's file.
pub(super) fn local(state: SharedState) -> Router {
    let rows = ROUTES.iter().filter(|row| [PURCHASES, LEAD_SCORES, RETRY_PUSH].contains(&row.path));
    let router = rows.fold(Router::new(), |router, row| {
        router.route(row.path, row.methods().fallback(wrong_method).layer(row.observe(&state)))
    });
    ended(router, state)
}

/// With an answer to what is no route.
fn ended(router: Router<SharedState>, state: SharedState) -> Router {
    router.fallback_service(not_found.layer(unmatched(ErrorForm::Documented)).with_state(())).with_state(state)
}

/// Observes what is no route, for callers that read errors of this form.
fn unmatched(errors: ErrorForm) -> Observe {
    Observe::new(UNMATCHED, UNMATCHED, errors, None, None)
}

impl Route {
    pub(super) fn observe(&self, state: &SharedState) -> Observe {
        let errors = match self.answer {
            Live(endpoint) => endpoint.errors(state),
            Routed(_) if self.path.starts_with(INFERENCE) => ErrorForm::Inference,
            Routed(_) => ErrorForm::Documented,
        };
        let traffic = self.class().map(|class| (Arc::clone(state.monitoring.traffic()), class));
        // What people and probes look at again and again is not followed.
        let followed = traffic
            .as_ref()
            .map(|_| Followed { tracer: state.tracer.clone(), exemplars: state.metrics.exemplars().clone() });
        Observe::new(self.name, self.path, errors, traffic, followed)
    }

    fn changes_by_admin(&self) -> bool {
        self.listener == ListenerName::Admin && self.method != Method::GET
    }

    /// What its requests are counted as for people; health and what they look at themselves are not.
    fn class(&self) -> Option<RequestClass> {
        Some(match self.name {
            "admin" | "health" => return None,
            "predict_clv" => RequestClass::Predict,
            "route_tier" => RequestClass::Route,
            name if name.ends_with("_batch") || name.ends_with("_infer") => RequestClass::Batch,
            name if name.starts_with("genesys_") => RequestClass::DataAction,
            name if name.contains("lead") => RequestClass::Lead,
            _ => RequestClass::Other,
        })
    }

    fn methods(&self) -> MethodRouter<SharedState> {
        let method = MethodFilter::try_from(self.method.clone()).expect("the table holds methods that axum knows");
        match self.answer {
            Live(endpoint) => on(method, move |State(app): State<SharedState>, mut call: Call| async move {
                endpoint.answer(&app, &mut call).await
            }),
            Routed(methods) => methods(method),
        }
    }
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} is not allowed here", request.method());
    error_response(ApiError::new(Code::MethodNotAllowed, message))
}

async fn not_found() -> Response {
    error_response(ApiError::new(Code::NotFound, "there is no such path; see the README for the endpoints"))
}
