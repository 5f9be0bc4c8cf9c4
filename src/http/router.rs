//! All routes. Public ones answer questions; metrics and model administration are only on the admin listener.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, post_service};

use super::error::{ApiError, Code};
use super::hot::{Hot, ROUTES};
use super::observe::{Observe, error_response};
use super::state::Shared;
use super::{
    admin_jobs, admin_models, admin_outcomes, admin_privacy, admin_write_back, auth, customers, health, metrics,
    oauth_token, outcomes, predict_batch, predict_lead,
};

/// The public listener's routes. Live calls take a shorter way to the hot ones: see `service`.
pub fn public(state: Shared) -> Router {
    // Hot routes ask for credentials themselves.
    let hot = ROUTES.iter().fold(Router::new(), |router, (path, name, endpoint)| {
        router.route(path, observed(name, post_service(Hot::new(state.clone(), name, *endpoint))))
    });
    let observed = |route, methods| observed(route, auth::guarded(&state, route, methods));
    hot.route("/v1/predict/clv/batch", observed("predict_clv_batch", post(predict_batch::handle)))
        .route("/v1/predict/lead/batch", observed("predict_lead_batch", post(predict_lead::batch)))
        .route("/v1/outcomes", observed("outcomes", post(outcomes::handle)))
        .route("/v1/customers/{id}", observed("customers", delete(customers::erase)))
        .route("/v1/customers/{id}/score", observed("customer_score", get(customers::score)))
        .route("/oauth/token", observed("oauth_token", post(oauth_token::handle)))
        .route("/health/live", observed("health", get(health::live)))
        .route("/health/ready", observed("health", get(health::ready)))
        .fallback_service(not_found.layer(Observe::new("unmatched")).with_state(()))
        .with_state(state)
}

/// The admin listener's routes.
pub fn admin(state: Shared) -> Router {
    let open = observed;
    let observed = |route, methods| observed(route, auth::guarded(&state, route, methods));
    Router::new()
        .route("/health/live", open("admin", get(health::live)))
        .route("/health/ready", open("admin", get(health::ready)))
        .route("/metrics", observed("admin", get(metrics::handle)))
        .route("/admin/models", observed("admin", get(admin_models::handle)))
        .route("/admin/models/{model}/{version}/promote", observed("admin", post(admin_models::promote)))
        .route("/admin/models/{model}/rollback", observed("admin", post(admin_models::rollback)))
        .route("/admin/models/{model}/latest", observed("admin", post(admin_models::latest)))
        .route("/admin/jobs", observed("admin", get(admin_jobs::handle)))
        .route("/admin/jobs/{job}/run", observed("admin", post(admin_jobs::run)))
        .route("/admin/outcomes", observed("admin", get(admin_outcomes::handle)))
        .route("/admin/privacy", observed("admin", get(admin_privacy::handle)))
        .route("/admin/write-back", observed("admin", get(admin_write_back::handle)))
        .route("/admin/write-back/retry", observed("admin", post(admin_write_back::retry)))
        .fallback_service(not_found.layer(Observe::new("unmatched")).with_state(()))
        .with_state(state)
}

fn observed(route: &'static str, methods: MethodRouter<Shared>) -> MethodRouter<Shared> {
    methods.fallback(wrong_method).layer(Observe::new(route))
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} is not allowed here", request.method());
    error_response(ApiError::new(Code::MethodNotAllowed, message))
}

async fn not_found() -> Response {
    error_response(ApiError::new(Code::NotFound, "there is no such path; see the README for the endpoints"))
}
