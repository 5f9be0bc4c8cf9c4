//! From a request to an answer: which endpoint, which fault, whose token, within which limit; and the log of it all.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};

use super::answer::{Answer, ReceivedCall, Refusal};
use super::damage;
use super::faults::{FaultKind, Strike};
use super::ids::{Id, IdKind};
use super::limiter::RateVerdict;
use super::log::Logged;
use super::routes::{self, RouteMatch};
use super::world::World;
use scoreline_domain::time::Clock as _;

/// What is known about a request on its way.
struct Visit {
    template: &'static str,
    token: u32,
    counted: bool,
    at: Duration,
    request_bytes: usize,
    strike: Option<Strike>,
    /// What the platform says of the token's limit beside an answer.
    hints: Vec<(&'static str, String)>,
}

/// Answers one request.
pub(super) async fn answer(world: Arc<World>, request: Request<Body>) -> Response<Body> {
    let method = request.method().as_str().to_owned();
    let mut visit = Visit {
        template: "-",
        token: 0,
        counted: false,
        at: world.monotonic(),
        request_bytes: 0,
        strike: None,
        hints: Vec::new(),
    };
    let correlation = world.correlation();
    let outcome = visit.attend(&world, request).await;
    let answer = match outcome {
        Ok(answer) => answer,
        Err(refusal) => {
            tokio::time::sleep(Duration::from_millis(refusal.delay_ms)).await;
            refusal.into_answer(&correlation)
        }
    };
    let fault = visit.strike.as_ref().map(|strike| strike.kind.clone());
    if let Some(FaultKind::Slow(delay)) = &fault {
        tokio::time::sleep(*delay).await;
    }
    world.log.push(Logged {
        time: world.clock.now(),
        at: visit.at,
        method,
        template: visit.template,
        status: answer.status.as_u16(),
        token: visit.token,
        fault: fault.as_ref().map(FaultKind::name),
        counted: visit.counted,
        request_bytes: visit.request_bytes,
        bytes: answer.body.len(),
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    if !answer.body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in answer.headers.iter().chain(&visit.hints) {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(*name, value);
        }
    }
    // Else the server below would say its own.
    let date = httpdate::fmt_http_date(std::time::SystemTime::from(world.clock.now()));
    if let Ok(value) = HeaderValue::from_str(&date) {
        headers.insert(header::DATE, value);
    }
    if let Ok(value) = HeaderValue::from_str(&correlation) {
        headers.insert("inin-correlation-id", value);
    }
    *response.body_mut() = damage::body(answer.body, fault.as_ref(), response.headers_mut());
    response
}

impl Visit {
    async fn attend(&mut self, world: &Arc<World>, request: Request<Body>) -> Result<Answer, Refusal> {
        let settings = &world.settings;
        let (parts, body) = request.into_parts();
        let method = parts.method.as_str();
        let path = parts.uri.path();
        let login = path.strip_prefix(&*settings.login_prefix);
        let api = path.strip_prefix(&*settings.api_prefix);
        let path = match (login, api) {
            (Some(login), _) if login.starts_with("/oauth/") => login,
            (_, Some(api)) if !api.starts_with("/oauth/") => api,
            (Some(_) | None, Some(_) | None) => return Err(unknown()),
        };
        let (route, parameters) = match routes::find(method, path) {
            RouteMatch::Route(route, parameters) => (route, parameters),
            RouteMatch::OtherMethod(template) => {
                self.template = template;
                let message = format!("HTTP 405 Method Not Allowed: {method}");
                return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method.not.allowed", message));
            }
            RouteMatch::Nothing => return Err(unknown()),
        };
        self.template = route.template;
        self.strike = world.strike(method, route.template);
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = world.tokens.number(authorization, world.monotonic());
        self.token = token.unwrap_or(0);
        if let Some(strike) = self.strike.as_ref().filter(|strike| !strike.applied) {
            damage::instead(world, &strike.kind, token)?;
        }
        if !route.open {
            let Some(token) = token else {
                let message = "No authentication bearer token specified in authorization header, or it is not valid.";
                return Err(Refusal::new(StatusCode::UNAUTHORIZED, "bad.credentials", message));
            };
            self.at = world.monotonic();
            match world.ask_limiter(token, self.at) {
                RateVerdict::Accepted(count) => {
                    self.counted = true;
                    self.hints.push(("inin-ratelimit-count", count.to_string()));
                    self.hints.push(("inin-ratelimit-allowed", settings.limits.requests.to_string()));
                }
                RateVerdict::Refused(free_in) => return Err(world.over_limit(free_in)),
            }
        }
        let limit = settings.limits.request_bytes;
        let body = to_bytes(body, limit).await.map_err(|_| {
            let message = format!("request body must not exceed {limit} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request.entity.too.large", message)
        })?;
        self.request_bytes = body.len();
        if !route.open && !body.is_empty() && !is_json(&parts.headers) {
            let message = "HTTP 415 Unsupported Media Type: send application/json";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported.media.type", message));
        }
        let fault = self.strike.as_ref().map(|strike| strike.kind.clone());
        let query = routes::query(parts.uri.query().unwrap_or_default());
        let authorization = authorization.map(str::to_owned);
        let place = Arc::clone(world);
        let work = move || {
            let (now, fault) = (place.clock.now_ms(), fault.as_ref());
            let authorization = authorization.as_deref();
            (route.handler)(&place, &ReceivedCall { parameters, query, body: &body, authorization, now, fault })
        };
        let late = match self.strike.as_ref().map(|strike| &strike.kind) {
            Some(FaultKind::Late(delay)) => Some(*delay),
            Some(_) | None => None,
        };
        let answer = match late {
            None => work()?,
            // A task of its own: whoever gives up waiting does not end it.
            Some(delay) => {
                let later = async move {
                    tokio::time::sleep(delay).await;
                    work()
                };
                #[expect(clippy::disallowed_methods, reason = "what happens late must happen, whoever has gone away")]
                let task = tokio::spawn(later);
                task.await.map_err(|_| unknown())??
            }
        };
        if let Some(strike) = self.strike.as_ref().filter(|strike| strike.applied) {
            damage::instead(world, &strike.kind, token)?;
        }
        Ok(answer)
    }
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not.found", "HTTP 404 Not Found")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"))
}

impl World {
    /// What an answer is called in the platform's own logs.
    fn correlation(&self) -> String {
        Id::of(self.settings.seed, IdKind::Correlation, self.next_visit()).to_string()
    }
}
