//! What people may do from the page: each thing is asked for twice, may not come from another site, and is entered in the
//! journal and the audit log.
//!
//! With the page's script, the question is a dialog and the request carries a header that no form can. Without it, the
//! question is a page of its own, whose form the browser says to come from here.

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::access::{self, PageAccess};
use super::{STYLES, described, finished};
use crate::http::admin::jobs::nudge;
use crate::http::admin::models::By;
use crate::http::admin::{push, write_back};
use crate::http::edge::body::Payload;
use crate::http::edge::error::{ApiError, Code, error_response};
use crate::http::openapi::Operation;
use crate::http::page::{Markup, Page};
use crate::http::state::SharedState;
use crate::http::wire::json::respond;
use scoreline_domain::JobName;
use scoreline_domain::privacy::audit::AuditAction;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PageAction {
    Promote { model: String, version: String },
    RollBack { model: String },
    Latest { model: String },
    RetryWriteBack,
    RetryPush,
    Run { job: JobName },
}

#[derive(Serialize, ToSchema)]
struct Acted {
    status: &'static str,
    message: String,
}

impl PageAction {
    /// From the fields of a form.
    ///
    /// # Errors
    /// Names the field that is missing or not known.
    fn read(form: &[u8]) -> Result<Self, ApiError> {
        let fields: Vec<_> = form_urlencoded::parse(form).collect();
        let field = |name: &'static str| {
            let found = fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_string());
            found.ok_or_else(|| ApiError::field(Code::InvalidField, name, format!("`{name}` is required")))
        };
        Ok(match field("action")?.as_str() {
            "promote" => Self::Promote { model: field("model")?, version: field("version")? },
            "rollback" => Self::RollBack { model: field("model")? },
            "latest" => Self::Latest { model: field("model")? },
            "retry_write_back" => Self::RetryWriteBack,
            "retry_push" => Self::RetryPush,
            "run" => {
                let job = JobName::parse(&field("job")?);
                let unknown = || ApiError::field(Code::InvalidField, "job", "`job` is not the name of a job");
                Self::Run { job: job.ok_or_else(unknown)? }
            }
            _ => {
                let allowed = "`promote`, `rollback`, `latest`, `retry_write_back`, `retry_push`, `run`";
                return Err(ApiError::field(
                    Code::InvalidField,
                    "action",
                    format!("`action` must be one of {allowed}"),
                ));
            }
        })
    }

    /// Its fields in a form.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Promote { model, version } => {
                vec![("action", "promote"), ("model", model), ("version", version)]
            }
            Self::RollBack { model } => vec![("action", "rollback"), ("model", model)],
            Self::Latest { model } => vec![("action", "latest"), ("model", model)],
            Self::RetryWriteBack => vec![("action", "retry_write_back")],
            Self::RetryPush => vec![("action", "retry_push")],
            Self::Run { job } => vec![("action", "run"), ("job", job.as_str())],
        }
    }

    /// On its button.
    fn label(&self) -> &'static str {
        match self {
            Self::Promote { .. } => "Promote",
            Self::RollBack { .. } => "Roll back",
            Self::Latest { .. } => "Follow latest",
            Self::RetryWriteBack | Self::RetryPush => "Retry",
            Self::Run { .. } => "Run",
        }
    }

    /// What the button says to those who do not see where it stands.
    fn object(&self) -> String {
        match self {
            Self::Promote { model, version } => format!("{model} {version}"),
            Self::RollBack { model } | Self::Latest { model } => model.clone(),
            Self::RetryWriteBack => "profiles".to_owned(),
            Self::RetryPush => "leads".to_owned(),
            Self::Run { job } => format!("job {}", job.as_str()),
        }
    }

    /// What is asked before it is done.
    fn question(&self) -> String {
        match self {
            Self::Promote { model, version } => {
                format!("Let {model} {version} serve, and keep it until somebody chooses another?")
            }
            Self::RollBack { model } => format!("Let the version of {model} serve that served before, and keep it?"),
            Self::Latest { model } => format!("Let the newest complete version of {model} serve, now and from now on?"),
            Self::RetryWriteBack => "Try all profiles again that were given up or not there?".to_owned(),
            Self::RetryPush => "Try all scores of leads again that were given up or not there?".to_owned(),
            Self::Run { job } => format!("Run the job {} as soon as possible?", job.as_str()),
        }
    }

    /// A button that asks before it does anything.
    pub(super) fn button(&self, html: &mut Markup) {
        html.raw("<form class=\"act\" method=\"get\" action=\"/operator/confirm\" data-ask=\"").text(self.question());
        html.raw("\">");
        self.inputs(html);
        html.raw("<button aria-label=\"").raw(self.label()).raw(" ").text(self.object()).raw("\">").raw(self.label());
        html.raw("</button></form>");
    }

    fn inputs(&self, html: &mut Markup) {
        for (name, value) in self.fields() {
            html.raw("<input type=\"hidden\" name=\"").raw(name).raw("\" value=\"").text(value).raw("\">");
        }
    }
}

/// What a form of the page says.
fn form() -> Value {
    json!({
        "type": "object", "required": ["action"],
        "properties": {
            "action": {"enum": ["promote", "rollback", "latest", "retry_write_back", "retry_push", "run"]},
            "model": {"type": "string"},
            "version": {"type": "string"},
            "job": {"type": "string"},
        },
    })
}

pub(crate) fn describe_confirm() -> Operation {
    let text = json!({"type": "string"});
    described("operator_confirm", "What is asked before something is done, for browsers without scripts")
        .asks("action", "What to do.", &form()["properties"]["action"])
        .asks("model", "Of which model.", &text)
        .asks("version", "Which version.", &text)
        .asks("job", "Which job.", &text)
        .gives_text(StatusCode::OK, "text/html", "The question.")
        .refuses(&[Code::InvalidField])
}

pub(crate) fn describe_act() -> Operation {
    let statuses = [StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE];
    let operation = described("operator_act", "Does what was asked")
        .takes_form(&form())
        .gives::<Acted>(StatusCode::OK, "It is done.")
        .points(StatusCode::SEE_OTHER, "location", "It is done, for browsers without scripts.")
        .refuses(&[Code::NotFound, Code::ModelNotChanged, Code::StoreUnavailable]);
    statuses.into_iter().fold(operation, Operation::or_page)
}

/// `GET /operator/confirm`: the question, for whoever has no script.
pub(crate) async fn confirm(access: PageAccess, uri: Uri) -> Response {
    if let Err(refused) = access.admit() {
        return error_response(refused);
    }
    let action = match PageAction::read(uri.query().unwrap_or_default().as_bytes()) {
        Ok(action) => action,
        Err(err) => return error_response(err),
    };
    let mut body = Markup::default();
    body.raw("<main><h1>scoreline</h1><p class=\"lead\">").text(action.question());
    body.raw("</p><form method=\"post\" action=\"/operator/act\">");
    action.inputs(&mut body);
    body.raw("<button>").raw(action.label()).raw("</button> <a class=\"button\" href=\"/\">No, back</a></form></main>");
    small_page(StatusCode::OK, &body)
}

/// `POST /operator/act`: does it.
pub(crate) async fn act(
    State(app): State<SharedState>,
    access: PageAccess,
    by: By,
    headers: HeaderMap,
    Payload(form): Payload,
) -> Response {
    let is_script = access::has_header(&headers) || headers.contains_key(AUTHORIZATION);
    let done = match access.admit_change(&headers).and_then(|()| PageAction::read(&form)) {
        Ok(action) => carry_out(&app, by, action).await,
        Err(err) => return error_response(err),
    };
    app.operator.forget_stored();
    match done {
        Ok(message) if is_script => respond(StatusCode::OK, &Acted { status: "success", message }),
        Ok(_) => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(LOCATION, axum::http::HeaderValue::from_static("/"));
            response
        }
        Err(err) if is_script => error_response(err),
        Err(err) => {
            let mut body = Markup::default();
            body.raw("<main><h1>scoreline</h1><p class=\"flag bad\">").text(&err.message);
            body.raw("</p><p><a class=\"button\" href=\"/\">Back</a></p></main>");
            small_page(err.code.status(), &body)
        }
    }
}

/// What was done, in words.
async fn carry_out(app: &SharedState, by: By, action: PageAction) -> Result<String, ApiError> {
    let retried = |number: u64| format!("{number} are tried again.");
    match action {
        PageAction::Promote { model, version } => {
            let done = format!("{model} {version} serves.");
            let object = format!("{model}/{version}");
            by.apply(AuditAction::PromoteModel, object, move |registry| registry.promote(&model, &version)).await?;
            Ok(done)
        }
        PageAction::RollBack { model } => {
            let object = model.clone();
            let now = by.apply(AuditAction::RollBackModel, object, move |registry| registry.rollback(&model)).await?;
            Ok(serves(&now))
        }
        PageAction::Latest { model } => {
            let object = model.clone();
            let call =
                move |registry: &_| scoreline_engine::inference::registry::Registry::follow_latest(registry, &model);
            Ok(serves(&by.apply(AuditAction::FollowLatestModel, object, call).await?))
        }
        PageAction::RetryWriteBack => write_back::retry_all(app, &by.actor(), by.request_id()).await.map(retried),
        PageAction::RetryPush => push::retry_all(app, &by.actor(), by.request_id()).await.map(retried),
        PageAction::Run { job } => {
            nudge(app, job.as_str(), &by.actor(), by.request_id())?;
            Ok(format!("Job {} was asked for.", job.as_str()))
        }
    }
}

fn serves(now: &[scoreline_engine::inference::registry::VersionStatus]) -> String {
    let serving = now.iter().find(|version| version.serves);
    serving.map_or_else(|| "Done.".to_owned(), |version| format!("{} {} serves.", version.model, version.version))
}

fn small_page(status: StatusCode, body: &Markup) -> Response {
    let page = Page { lang: "en", title: "scoreline", styles: STYLES, script: None, framed_by: None, body };
    finished(page.respond(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_gives_back_the_action_it_was_made_of() {
        let hostile = "<script>\"'&=".to_owned();
        for action in [
            PageAction::Promote { model: hostile.clone(), version: "v1.3".to_owned() },
            PageAction::RollBack { model: hostile.clone() },
            PageAction::Latest { model: hostile },
            PageAction::RetryWriteBack,
            PageAction::RetryPush,
            PageAction::Run { job: JobName::WriteBack },
        ] {
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(action.fields()).finish();
            assert_eq!(PageAction::read(form.as_bytes()).ok(), Some(action.clone()));
            let mut html = Markup::default();
            action.button(&mut html);
            assert!(!html.as_str().contains("<script"), "{html:?}");
        }
        for bad in ["", "action=dance", "action=promote&model=clv", "action=run&job=dance"] {
            assert_eq!(PageAction::read(bad.as_bytes()).map_err(|err| err.code), Err(Code::InvalidField), "{bad}");
        }
    }
}
