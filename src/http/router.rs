//! The route table, and the routers made of it. The short lane, scopes, metrics and the document read the same rows.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler as _;
use axum::http::{HeaderMap, Method};
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, on};

use super::admin::{self, jobs, metrics, models, operator, privacy, push, write_back};
use super::edge::auth::{Access, guarded};
use super::edge::error::{ApiError, Code, error_response};
use super::edge::observe::{self, ErrorForm, Followed, Observe};
use super::edge::origin::refuse_other_sites;
use super::openapi::{Describe, DescribedRoute};
use super::routes::live::Endpoint;
use super::routes::{
    Call, customer_score, customers, docs, genesys_clv, genesys_lead, genesys_route, health, job, lead_events,
    lead_scores, leads, oauth_token, oip, outcomes, predict_clv, predict_clv_batch, predict_later, predict_lead,
    predict_lead_batch, purchases, route_tier, widget,
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
    /// What the document says of it; `None` of a call of gRPC, which has a document of its own.
    describe: Option<Describe>,
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
/// As calls of gRPC.
const NO_CALL: &str = "/inference.GRPCInferenceService/{*call}";
/// What commands of this machine are taken, beside the public listener.
const PURCHASES: &str = "/v1/purchases";
const LEAD_SCORES: &str = "/v1/leads/score";
const RETRY_PUSH: &str = "/admin/push/retry";

/// Every route there is.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    public(Method::POST, "/v1/predict/clv", "predict_clv", Scoped(Scope::Predict), Live(Endpoint::PredictClv), predict_clv::describe),
    public(Method::POST, "/v1/predict/clv/batch", "predict_clv_batch", Scoped(Scope::Predict), Routed(|method| on(method, predict_clv_batch::handle)), predict_clv_batch::describe),
    public(Method::POST, "/v1/predict/clv/async", "predict_clv_async", Scoped(Scope::Predict), Routed(|method| on(method, predict_later::handle)), predict_later::describe),
    public(Method::GET, "/v1/jobs/{id}", "job", Scoped(Scope::Predict), Routed(|method| on(method, job::handle)), job::describe),
    public(Method::POST, "/v1/route/tier", "route_tier", Scoped(Scope::Predict), Live(Endpoint::RouteTier), route_tier::describe),
    public(Method::POST, "/v1/genesys/clv", "genesys_clv", Scoped(Scope::Predict), Live(Endpoint::GenesysClv), genesys_clv::describe),
    public(Method::POST, "/v1/genesys/route", "genesys_route", Scoped(Scope::Predict), Live(Endpoint::GenesysRoute), genesys_route::describe),
    public(Method::POST, "/v1/predict/lead", "predict_lead", Scoped(Scope::Leads), Live(Endpoint::PredictLead), predict_lead::describe),
    public(Method::POST, "/v1/predict/lead/batch", "predict_lead_batch", Scoped(Scope::Leads), Routed(|method| on(method, predict_lead_batch::handle)), predict_lead_batch::describe),
    public(Method::POST, "/v1/genesys/lead", "genesys_lead", Scoped(Scope::Leads), Live(Endpoint::GenesysLead), genesys_lead::describe),
    public(Method::POST, "/v1/outcomes", "outcomes", Scoped(Scope::Events), Routed(|method| on(method, outcomes::handle)), outcomes::describe),
    public(Method::POST, PURCHASES, "purchases", Scoped(Scope::Events), Routed(|method| on(method, purchases::handle)), purchases::describe),
    public(Method::POST, LEAD_SCORES, "lead_scores", Scoped(Scope::Leads), Routed(|method| on(method, lead_scores::handle)), lead_scores::describe),
    public(Method::POST, "/v1/events/lead-score", "lead_events", SignedOr(Scope::Events), Routed(|method| on(method, lead_events::handle)), lead_events::describe),
    public(Method::GET, "/v1/leads/next", "leads_next", Scoped(Scope::Leads), Routed(|method| on(method, leads::next)), leads::describe_next),
    public(Method::GET, "/v1/leads/{id}/score", "lead_score", Scoped(Scope::Leads), Routed(|method| on(method, leads::one)), leads::describe_one),
    public(Method::DELETE, "/v1/leads/{id}", "lead_erased", Scoped(Scope::Admin), Routed(|method| on(method, customers::handle)), customers::describe_lead),
    public(Method::DELETE, "/v1/customers/{id}", "customers", Scoped(Scope::Admin), Routed(|method| on(method, customers::handle)), customers::describe),
    public(Method::GET, "/v1/customers/{id}/score", "customer_score", Scoped(Scope::Predict), Routed(|method| on(method, customer_score::handle)), customer_score::describe),
    public(Method::POST, "/oauth/token", "oauth_token", Open, Routed(|method| on(method, oauth_token::handle)), oauth_token::describe),
    public(Method::GET, "/widget", "widget", Open, Routed(|method| on(method, widget::handle)), widget::describe),
    public(Method::GET, "/health/live", "health", Open, Routed(|method| on(method, health::live)), health::describe_live),
    public(Method::GET, "/health/ready", "health", Open, Routed(|method| on(method, health::ready)), health::describe_ready),
    public(Method::GET, INFERENCE, "v2_server", Scoring, Routed(|method| on(method, oip::server::metadata)), oip::server::describe),
    public(Method::GET, "/v2/health/live", "health", Open, Routed(|method| on(method, oip::server::live)), oip::server::describe_live),
    public(Method::GET, "/v2/health/ready", "health", Open, Routed(|method| on(method, oip::server::ready)), oip::server::describe_ready),
    public(Method::GET, "/v2/models/{model}", "v2_model", Scoring, Routed(|method| on(method, oip::model::metadata)), oip::model::describe),
    public(Method::GET, "/v2/models/{model}/versions/{version}", "v2_model", Scoring, Routed(|method| on(method, oip::model::metadata)), oip::model::describe_of_version),
    public(Method::GET, "/v2/models/{model}/ready", "health", Open, Routed(|method| on(method, oip::model::ready)), oip::model::describe_ready),
    public(Method::GET, "/v2/models/{model}/versions/{version}/ready", "health", Open, Routed(|method| on(method, oip::model::ready)), oip::model::describe_ready_of_version),
    public(Method::POST, "/v2/models/{model}/infer", "v2_infer", Scoring, Routed(|method| on(method, oip::infer::handle)), oip::infer::describe),
    public(Method::POST, "/v2/models/{model}/versions/{version}/infer", "v2_infer", Scoring, Routed(|method| on(method, oip::infer::handle)), oip::infer::describe_of_version),
    public(Method::GET, "/v2/models/stats", "v2_statistics", Scoring, Routed(|method| on(method, oip::statistics::all)), oip::statistics::describe_all),
    public(Method::GET, "/v2/models/{model}/stats", "v2_statistics", Scoring, Routed(|method| on(method, oip::statistics::handle)), oip::statistics::describe),
    public(Method::GET, "/v2/models/{model}/versions/{version}/stats", "v2_statistics", Scoring, Routed(|method| on(method, oip::statistics::handle)), oip::statistics::describe_of_version),
    public(Method::POST, "/v2/repository/index", "v2_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::repository::index)), oip::repository::describe),
    public(Method::POST, "/v2/repository/models/{model}/load", "v2_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::repository::refuse)), oip::repository::describe_load),
    public(Method::POST, "/v2/repository/models/{model}/unload", "v2_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::repository::refuse)), oip::repository::describe_unload),
    call("/inference.GRPCInferenceService/ServerLive", "health", Open, Routed(|method| on(method, oip::grpc::server_live))),
    call("/inference.GRPCInferenceService/ServerReady", "health", Open, Routed(|method| on(method, oip::grpc::server_ready))),
    call("/inference.GRPCInferenceService/ModelReady", "health", Open, Routed(|method| on(method, oip::grpc::model_ready))),
    call("/inference.GRPCInferenceService/ServerMetadata", "grpc_server", Scoring, Routed(|method| on(method, oip::grpc::server_metadata))),
    call("/inference.GRPCInferenceService/ModelMetadata", "grpc_model", Scoring, Routed(|method| on(method, oip::grpc::model_metadata))),
    call("/inference.GRPCInferenceService/ModelInfer", "grpc_infer", Scoring, Routed(|method| on(method, oip::grpc::model_infer))),
    call("/inference.GRPCInferenceService/ModelStatistics", "grpc_statistics", Scoring, Routed(|method| on(method, oip::grpc::model_statistics))),
    call("/inference.GRPCInferenceService/RepositoryIndex", "grpc_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::grpc::repository_index))),
    call("/inference.GRPCInferenceService/RepositoryModelLoad", "grpc_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::grpc::repository_refuse))),
    call("/inference.GRPCInferenceService/RepositoryModelUnload", "grpc_repository", Scoped(Scope::Admin), Routed(|method| on(method, oip::grpc::repository_refuse))),
    call("/grpc.health.v1.Health/Check", "health", Open, Routed(|method| on(method, oip::grpc::health_check))),
    public(Method::GET, "/openapi.json", "openapi", Open, Routed(|method| on(method, public_document)), docs::describe_document),
    public(Method::GET, "/docs", "docs", Open, Routed(|method| on(method, docs::page)), docs::describe_page),
    public(Method::GET, "/docs/{file}", "docs_file", Open, Routed(|method| on(method, docs::file)), docs::describe_file),
    admin(Method::GET, "/openapi.json", Open, Routed(|method| on(method, admin_document)), docs::describe_document),
    admin(Method::GET, "/docs", Open, Routed(|method| on(method, docs::page)), docs::describe_page),
    admin(Method::GET, "/docs/{file}", Open, Routed(|method| on(method, docs::file)), docs::describe_file),
    admin(Method::GET, "/health/live", Open, Routed(|method| on(method, health::live)), health::describe_live),
    admin(Method::GET, "/health/ready", Open, Routed(|method| on(method, health::ready)), health::describe_ready),
    admin(Method::GET, "/", Open, Routed(|method| on(method, operator::page)), operator::describe_page),
    admin(Method::GET, "/operator/page.js", Open, Routed(|method| on(method, operator::script)), operator::describe_script),
    admin(Method::GET, "/operator/live", Scoped(Scope::Admin), Routed(|method| on(method, operator::live)), operator::describe_live),
    admin(Method::GET, "/operator/confirm", Scoped(Scope::Admin), Routed(|method| on(method, operator::confirm)), operator::describe_confirm),
    admin(Method::POST, "/operator/act", Scoped(Scope::Admin), Routed(|method| on(method, operator::act)), operator::describe_act),
    admin(Method::POST, "/operator/try", Scoped(Scope::Admin), Routed(|method| on(method, operator::answer)), operator::describe_try),
    admin(Method::GET, "/metrics", Scoped(Scope::Admin), Routed(|method| on(method, metrics::handle)), metrics::describe),
    admin(Method::GET, "/admin/models", Scoped(Scope::Admin), Routed(|method| on(method, models::handle)), models::describe),
    admin(Method::POST, "/admin/models/{model}/{version}/promote", Scoped(Scope::Admin), Routed(|method| on(method, models::promote)), models::describe_promote),
    admin(Method::POST, "/admin/models/{model}/rollback", Scoped(Scope::Admin), Routed(|method| on(method, models::rollback)), models::describe_rollback),
    admin(Method::POST, "/admin/models/{model}/latest", Scoped(Scope::Admin), Routed(|method| on(method, models::latest)), models::describe_latest),
    admin(Method::GET, "/admin/jobs", Scoped(Scope::Admin), Routed(|method| on(method, jobs::handle)), jobs::describe),
    admin(Method::POST, "/admin/jobs/{job}/run", Scoped(Scope::Admin), Routed(|method| on(method, jobs::run)), jobs::describe_run),
    admin(Method::GET, "/admin/outcomes", Scoped(Scope::Admin), Routed(|method| on(method, admin::outcomes::handle)), admin::outcomes::describe),
    admin(Method::GET, "/admin/privacy", Scoped(Scope::Admin), Routed(|method| on(method, privacy::handle)), privacy::describe),
    admin(Method::GET, "/admin/write-back", Scoped(Scope::Admin), Routed(|method| on(method, write_back::handle)), write_back::describe),
    admin(Method::GET, "/admin/push", Scoped(Scope::Admin), Routed(|method| on(method, push::handle)), push::describe),
    admin(Method::POST, RETRY_PUSH, Scoped(Scope::Admin), Routed(|method| on(method, push::retry)), push::describe_retry),
    admin(Method::POST, "/admin/write-back/retry", Scoped(Scope::Admin), Routed(|method| on(method, write_back::retry)), write_back::describe_retry),
];

const fn public(
    method: Method,
    path: &'static str,
    name: &'static str,
    access: Access,
    answer: RouteAnswer,
    describe: Describe,
) -> Route {
    Route { listener: ListenerName::Public, method, path, name, access, answer, describe: Some(describe) }
}

const fn call(path: &'static str, name: &'static str, access: Access, answer: RouteAnswer) -> Route {
    Route { listener: ListenerName::Public, method: Method::POST, path, name, access, answer, describe: None }
}

const fn admin(method: Method, path: &'static str, access: Access, answer: RouteAnswer, describe: Describe) -> Route {
    Route { listener: ListenerName::Admin, method, path, name: "admin", access, answer, describe: Some(describe) }
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
            .route(NO_INFERENCE, any(not_found).layer(unmatched(ErrorForm::Inference)))
            .route(NO_CALL, any(oip::grpc::unknown).layer(unmatched(ErrorForm::Grpc))),
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
            Routed(_) if self.is_call() => ErrorForm::Grpc,
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

    /// Whether it is a call of gRPC.
    pub fn is_call(&self) -> bool {
        self.describe.is_none()
    }

    fn changes_by_admin(&self) -> bool {
        self.listener == ListenerName::Admin && self.method != Method::GET
    }

    /// What its requests are counted as for people; health and what they look at themselves are not.
    fn class(&self) -> Option<RequestClass> {
        Some(match self.name {
            "admin" | "health" | "openapi" | "docs" | "docs_file" => return None,
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

async fn public_document(State(app): State<SharedState>, headers: HeaderMap) -> Response {
    docs::openapi(&app, &app.documents.public, "scoreline", described(ListenerName::Public), &headers)
}

async fn admin_document(State(app): State<SharedState>, headers: HeaderMap) -> Response {
    docs::openapi(&app, &app.documents.admin, "scoreline, administration", described(ListenerName::Admin), &headers)
}

fn described(listener: ListenerName) -> impl Iterator<Item = DescribedRoute> {
    let rows = ROUTES.iter().filter(move |row| row.listener == listener);
    rows.filter_map(|row| {
        Some(DescribedRoute { method: row.method.clone(), path: row.path, access: row.access, describe: row.describe? })
    })
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} is not allowed here", request.method());
    error_response(ApiError::new(Code::MethodNotAllowed, message))
}

async fn not_found() -> Response {
    error_response(ApiError::new(Code::NotFound, "there is no such path; see the README for the endpoints"))
}
