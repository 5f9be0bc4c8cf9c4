//! The route table against the listeners made of it: every row is where it says, and asks for what it says.

use axum::http::{Method, StatusCode};
use scoreline::auth::Scope;
use scoreline::http::{Access, ListenerName, ROUTES, Route};

use crate::auth::{ask, key};
use crate::support::TestApp;
use crate::support::identity::CredentialsFile;
use crate::support::test_app::Reply;

/// A path of the row without its placeholders.
fn path(row: &Route) -> String {
    let part = |part: &str| if part.starts_with('{') { "x".to_owned() } else { part.to_owned() };
    row.path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The code of an error: data actions get it as `reason`, clients of model servers beside the text.
fn code(path: &str, reply: &Reply) -> String {
    let body = reply.json();
    let code = match path {
        path if path.starts_with("/v1/genesys/") => &body["reason"],
        path if path.starts_with("/v2") => &body["code"],
        _ => &body["error"]["code"],
    };
    code.as_str().expect("a code").to_owned()
}

fn is_unmatched(reply: &Reply) -> bool {
    reply.status == StatusCode::NOT_FOUND && reply.text.contains("there is no such path")
}

#[tokio::test]
async fn every_row_is_on_its_listener_and_on_no_other() {
    let app = TestApp::new();
    for row in ROUTES {
        let path = path(row);
        let is_admin = row.listener == ListenerName::Admin;
        let reply = ask(&app, is_admin, row.method.as_str(), &path, None).await;
        assert!(!is_unmatched(&reply) && reply.status != StatusCode::METHOD_NOT_ALLOWED, "{path}: {}", reply.text);

        let wrong = ask(&app, is_admin, "PUT", &path, None).await;
        assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(code(&path, &wrong), "method_not_allowed");
        let allowed = wrong.headers["allow"].to_str().expect("text");
        assert!(allowed.split(',').any(|method| method == row.method.as_str()), "{path}: {allowed}");

        let on_both = ROUTES.iter().any(|other| other.listener != row.listener && other.path == row.path);
        let elsewhere = ask(&app, !is_admin, row.method.as_str(), &path, None).await;
        assert_eq!(is_unmatched(&elsewhere), !on_both, "{path}: {}", elsewhere.text);
    }
}

#[tokio::test]
async fn every_row_asks_for_its_scope_and_open_ones_for_none() {
    let file = CredentialsFile::new("");
    let keys = Scope::ALL.map(|scope| (scope, key(&file, scope.as_str())));
    let app = TestApp::guarded(&file.settings());
    for row in ROUTES {
        let path = path(row);
        let is_admin = row.listener == ListenerName::Admin;
        let nobody = ask(&app, is_admin, row.method.as_str(), &path, None).await;
        assert!(nobody.headers.contains_key("x-request-id"), "{path}");
        let needed = match row.access {
            Access::Scoped(needed) | Access::SignedOr(needed) => vec![needed],
            // What is asked about here is no model.
            Access::Scoring => vec![Scope::Predict, Scope::Leads],
            Access::Open => {
                // The token endpoint answers in the words of its RFC, the agent's page is off, `x` is no model and no file, and this
                // is no call of gRPC.
                let is_other =
                    ["oauth_token", "widget"].contains(&row.name) || path.contains("/models/x/") || path == "/docs/x";
                let is_other = is_other || nobody.status == StatusCode::UNSUPPORTED_MEDIA_TYPE;
                assert!(nobody.status == StatusCode::OK || is_other, "{path}: {}", nobody.text);
                continue;
            }
        };
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{path}: {}", nobody.text);
        assert_eq!(nobody.headers["www-authenticate"], "Bearer");
        for (held, key) in &keys {
            let reply = ask(&app, is_admin, row.method.as_str(), &path, Some(key)).await;
            if needed.contains(held) {
                let is_let_in = ![401, 403, 429].contains(&reply.status.as_u16());
                assert!(is_let_in || reply.text.contains("models are files"), "{path}: {}", reply.text);
            } else {
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path} with {held:?}: {}", reply.text);
                assert_eq!(code(&path, &reply), "forbidden");
                let expected = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", needed[0].as_str());
                assert_eq!(reply.headers["www-authenticate"].to_str().expect("text"), expected);
            }
        }
    }
}

/// Open are health, the endpoint that asks for a client's secret itself, the page that asks for a signed link, the page that
/// asks for a key itself with its script, and what each listener says of itself: its document, with the page that shows it; whoever opens another says so here.
#[test]
fn few_rows_are_open() {
    let open: Vec<_> = ROUTES.iter().filter(|row| row.access == Access::Open).map(|row| row.path).collect();
    assert_eq!(
        open,
        [
            "/oauth/token",
            "/widget",
            "/health/live",
            "/health/ready",
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/{model}/ready",
            "/v2/models/{model}/versions/{version}/ready",
            "/inference.GRPCInferenceService/ServerLive",
            "/inference.GRPCInferenceService/ServerReady",
            "/inference.GRPCInferenceService/ModelReady",
            "/grpc.health.v1.Health/Check",
            "/openapi.json",
            "/docs",
            "/docs/{file}",
            "/openapi.json",
            "/docs",
            "/docs/{file}",
            "/health/live",
            "/health/ready",
            "/",
            "/operator/page.js"
        ]
    );
    let admin = ROUTES.iter().filter(|row| row.listener == ListenerName::Admin);
    assert!(admin.clone().count() > 2);
    for row in admin.filter(|row| row.access != Access::Open) {
        assert_eq!(row.access, Access::Scoped(Scope::Admin), "{}", row.path);
    }
}

#[tokio::test]
async fn names_are_the_labels_of_metrics_and_tell_public_routes_apart() {
    let app = TestApp::new();
    for row in ROUTES {
        let ends = ["/live", "/ready", "Live", "Ready", "/Check"];
        let is_health = row.access == Access::Open && ends.iter().any(|end| row.path.ends_with(end));
        let twins = ROUTES.iter().filter(|other| other.name == row.name).count();
        match row.listener {
            ListenerName::Public if is_health => assert_eq!(row.name, "health"),
            // With a version in the path, and without; what is asked of the repository.
            ListenerName::Public if ["v2_", "grpc_"].iter().any(|begin| row.name.starts_with(begin)) => {
                assert!((1..=3).contains(&twins), "{}", row.path);
            }
            ListenerName::Public => assert_eq!(twins, 1, "{} stands once", row.name),
            ListenerName::Admin => assert_eq!(row.name, "admin"),
        }
        let places = ROUTES.iter().filter(|other| (other.listener, other.path) == (row.listener, row.path)).count();
        assert_eq!(places, 1, "{} stands once", row.path);
        ask(&app, row.listener == ListenerName::Admin, row.method.as_str(), &path(row), None).await;
    }
    ask(&app, false, Method::GET.as_str(), "/nowhere", None).await;
    let metrics = app.admin("/metrics").await.text;
    for name in ROUTES.iter().map(|row| row.name).chain(["unmatched"]) {
        let label = format!("scoreline_http_request_duration_seconds_count{{route=\"{name}\"}}");
        assert!(metrics.contains(&label), "{label}");
    }
}
