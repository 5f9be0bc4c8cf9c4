//! A form for each model that serves, to try a question: the answer with its reasons, and the command that asks the same.
//! What is typed is neither kept nor logged.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value as Json, json};

use super::access::{self, PageAccess};
use super::look::Findings;
use super::{described, whole};
use crate::http::edge::body::Payload;
use crate::http::edge::error::{ApiError, error_response};
use crate::http::edge::request_id::RequestId;
use crate::http::openapi::Operation;
use crate::http::page::Markup;
use crate::http::state::{HttpState, SharedState};
use crate::http::wire::Explained;
use crate::http::wire::answer::{ClvAnswer, Context};
use crate::http::wire::json::to_vec;
use crate::http::wire::lead::LeadAnswer;
use crate::scoring::Ask;
use crate::scoring::baseline::KnownLabels;
use crate::scoring::explanation::Detail;
use scoreline_domain::ModelName;
use scoreline_engine::features::Value;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;

/// What a feature's name begins with in a form.
const FEATURE: &str = "f.";

/// What is shown of an answer, in this order.
const FIGURES: [&str; 8] = [
    "clv_value_usd",
    "confidence_interval_low",
    "confidence_interval_high",
    "clv_tier",
    "risk_score",
    "confidence_score",
    "priority_score",
    "conversion_probability",
];

/// A question as it was typed.
struct Typed {
    model: String,
    channel: Option<String>,
    segment: Option<String>,
    features: Vec<(String, String)>,
}

/// The forms, with what came of the last question.
pub(super) fn forms(html: &mut Markup, findings: &Findings, tried: &Markup) {
    html.raw("<section id=\"try\"><h2>Try it</h2><p class=\"quiet\">A question is answered as a caller's would be, and counts as ");
    html.raw("one. What is left empty is imputed. Nothing of it is kept or logged.</p>");
    let serving = findings.versions.iter().filter(|version| version.serves);
    for snapshot in serving.filter_map(|version| version.snapshot.as_deref()) {
        form(html, snapshot);
    }
    html.raw("<div id=\"tried\" role=\"status\">").part(tried).raw("</div></section>");
}

fn form(html: &mut Markup, snapshot: &ModelSnapshot) {
    let (manifest, model) = (snapshot.manifest(), snapshot.name());
    html.raw("<details><summary>").text(model).raw(" ").text(snapshot.version()).raw(" <span class=\"quiet\">");
    html.text(&manifest.description)
        .raw("</span></summary><form class=\"try\" method=\"post\" action=\"/operator/try\">");
    html.raw("<input type=\"hidden\" name=\"model\" value=\"").text(model).raw("\"><div class=\"fields\">");
    for rule in snapshot.schema().rules() {
        let id = format!("{model}.{}", rule.name);
        html.raw("<div><label for=\"").text(&id).raw("\">").text(&rule.name);
        html.raw(if rule.required { " <b>required</b>" } else { "" }).raw("</label>");
        if rule.categories.is_empty() {
            html.raw("<input id=\"").text(&id).raw("\" name=\"f.").text(&rule.name);
            html.raw("\" inputmode=\"decimal\" autocomplete=\"off\"").raw(if rule.required { " required" } else { "" });
            html.raw("><span class=\"quiet\">").text(number(rule.min)).raw(" to ").text(number(rule.max)).raw(" ");
            html.text(&rule.unit).raw("</span></div>");
        } else {
            select(html, &id, &format!("{FEATURE}{}", rule.name), rule.categories.iter());
            html.raw("</div>");
        }
    }
    for (name, table) in [("channel", &manifest.baselines.channel), ("segment", &manifest.baselines.segment)] {
        if !table.is_empty() {
            let id = format!("{model}:{name}");
            html.raw("<div><label for=\"").text(&id).raw("\">").raw(name).raw("</label>");
            select(html, &id, name, table.keys());
            html.raw("</div>");
        }
    }
    html.raw("</div><button>Ask</button></form></details>");
}

fn select<'a>(html: &mut Markup, id: &str, name: &str, options: impl Iterator<Item = &'a String>) {
    html.raw("<select id=\"").text(id).raw("\" name=\"").text(name).raw("\"><option value=\"\">–</option>");
    for option in options {
        html.raw("<option>").text(option).raw("</option>");
    }
    html.raw("</select>");
}

/// A limit of a range, without digits that say nothing.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

pub(crate) fn describe_try() -> Operation {
    let form = json!({
        "type": "object", "required": ["model"],
        "properties": {"model": {"type": "string"}, "channel": {"type": "string"}, "segment": {"type": "string"}},
        "additionalProperties": {"type": "string"},
    });
    described("operator_try", "Tries a question; features are fields that begin with `f.`")
        .takes_form(&form)
        .gives_text(StatusCode::OK, "text/html", "The answer, with what moved it.")
}

/// `POST /operator/try`
pub(crate) async fn answer(
    State(app): State<SharedState>,
    access: PageAccess,
    id: RequestId,
    headers: HeaderMap,
    Payload(form): Payload,
) -> Response {
    if let Err(err) = access.admit_change(&headers) {
        return error_response(err);
    }
    let typed = Typed::read(&form);
    let mut html = Markup::default();
    match typed.ask(&app, id.as_str()).await {
        Ok(answer) => shown(&mut html, &app, &typed, &answer),
        Err(err) => {
            html.raw("<p class=\"flag bad\">").text(&err.message).raw("</p>");
        }
    }
    if !access::has_header(&headers) {
        return whole(&app, &html).await;
    }
    let mut response = Response::new(html.as_str().to_owned().into());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

impl Typed {
    fn read(form: &[u8]) -> Self {
        let mut typed = Self { model: String::new(), channel: None, segment: None, features: Vec::new() };
        for (name, value) in form_urlencoded::parse(form) {
            let value = value.trim().to_owned();
            match (name.as_ref(), value.is_empty()) {
                ("model", _) => typed.model = value,
                (_, true) => {}
                ("channel", false) => typed.channel = Some(value),
                ("segment", false) => typed.segment = Some(value),
                (name, false) => {
                    typed.features.extend(name.strip_prefix(FEATURE).map(|name| (name.to_owned(), value)));
                }
            }
        }
        typed
    }

    /// The answer, as the endpoint of the model's task gives it.
    async fn ask(&self, app: &HttpState, request_id: &str) -> Result<Json, ApiError> {
        let features: Vec<_> =
            self.features.iter().map(|(name, value)| (name.as_str(), Some(Value::Typed(value)))).collect();
        let known = KnownLabels { channel: self.channel.as_deref(), segment: self.segment.as_deref() };
        let ask = Ask { model: Some(&self.model), features: Some(&features), known, ..Ask::default() };
        let context = Context { request_id, features_as_of: None };
        let (scorer, features) = (&app.scorer, Some(features.as_slice()));
        let bytes = match self.task(app) {
            Task::Clv => {
                let scored = scorer.score(ask).await?;
                let explained = Explained::new(scorer.explain(features, None, &scored, Detail::Groups).await, scorer);
                to_vec(&ClvAnswer::new(&scored, None, context).explained(Some(&explained)))
            }
            Task::Lead => {
                let scored = scorer.score_lead(ask).await?;
                let explained = Explained::new(scorer.explain(features, None, &scored, Detail::Groups).await, scorer);
                to_vec(&LeadAnswer::new(&scored, context, Some(&explained)))
            }
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// The task of the model; of one that is not loaded, the asking says so.
    fn task(&self, app: &HttpState) -> Task {
        let serving = ModelName::parse(&self.model).ok().and_then(|name| app.scorer.registry().serving(&name));
        serving.map_or(Task::Clv, |snapshot| snapshot.task())
    }

    /// The body that asks the same.
    fn body(&self, task: Task) -> String {
        // A number as it was typed.
        let number = |value: &String| serde_json::from_str(value).ok().filter(Json::is_number);
        let value = |value: &String| number(value).unwrap_or_else(|| Json::String(value.clone()));
        let features: Map<_, _> = self.features.iter().map(|(name, typed)| (name.clone(), value(typed))).collect();
        let mut body = Map::new();
        body.insert("model".to_owned(), Json::String(self.model.clone()));
        body.insert("features".to_owned(), Json::Object(features));
        let channel = if task == Task::Clv { "acquisition_channel" } else { "lead_source" };
        for (name, known) in [(channel, &self.channel), ("segment", &self.segment)] {
            if let Some(known) = known {
                body.insert(name.to_owned(), Json::String(known.clone()));
            }
        }
        body.insert("explain".to_owned(), Json::Bool(true));
        Json::Object(body).to_string()
    }
}

fn shown(html: &mut Markup, app: &HttpState, typed: &Typed, answer: &Json) {
    let task = typed.task(app);
    let prediction = &answer["prediction"];
    let say = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    html.raw("<h3>Answer of ").text(&typed.model).raw("</h3><table><tbody>");
    let given = FIGURES.iter().filter_map(|name| Some((name, prediction.get(name)?)));
    for (name, value) in given {
        html.raw("<tr><th scope=\"row\">").text(name).raw("</th><td>").text(say(value)).raw("</td></tr>");
    }
    for name in ["source", "interval_level"] {
        if let Some(value) = answer["metadata"].get(name) {
            html.raw("<tr><th scope=\"row\">").raw(name).raw("</th><td>").text(say(value)).raw("</td></tr>");
        }
    }
    html.raw("</tbody></table>");
    reasons(html, &answer["explanation"]);
    let warnings = answer["metadata"]["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let warnings: Vec<_> = warnings.collect();
    if !warnings.is_empty() {
        html.raw("<p class=\"quiet\">").text(warnings.join(", ")).raw("</p>");
    }
    let path = if task == Task::Clv { "/v1/predict/clv" } else { "/v1/predict/lead" };
    let key = if app.auth.is_some() { " -H \"authorization: Bearer $KEY\"" } else { "" };
    let body = typed.body(task).replace('\'', "'\\''");
    html.raw("<p>The same from a shell:</p><pre tabindex=\"0\">curl -s ")
        .text(&app.operator.address)
        .raw(path)
        .raw(key);
    html.raw(" -d '").text(body).raw("'</pre>");
}

/// What moved the answer away from the typical customer's, largest first.
fn reasons(html: &mut Markup, explanation: &Json) {
    let Some(contributions) = explanation["contributions"].as_array() else { return };
    let unit = if explanation.get("base_value_usd").is_some() { "usd" } else { "points" };
    let base = &explanation[if unit == "usd" { "base_value_usd" } else { "base_points" }];
    html.raw("<table><caption>Why, from the typical ")
        .text(base)
        .raw("</caption><thead><tr><th scope=\"col\">Group</th><th scope=\"col\">Led by</th>");
    html.raw("<th scope=\"col\" class=\"n\">Value</th><th scope=\"col\" class=\"n\">Moves by</th></tr></thead><tbody>");
    for one in contributions {
        let amount =
            one[if unit == "usd" { "contribution_usd" } else { "contribution_points" }].as_f64().unwrap_or(0.0);
        html.raw("<tr><th scope=\"row\">")
            .text(one["group"].as_str().unwrap_or_default())
            .raw("</th><td>")
            .text(one["feature"].as_str().unwrap_or_default())
            .raw("</td><td class=\"n\">");
        match one.get("value") {
            Some(value) => html.text(value),
            None => html.raw("not given"),
        };
        let arrow = if amount < 0.0 {
            "▼ "
        } else if amount > 0.0 {
            "▲ "
        } else {
            ""
        };
        html.raw("</td><td class=\"n\">").raw(arrow);
        html.text(if amount == 0.0 { "0".to_owned() } else { format!("{amount:+.2}") })
            .raw(if unit == "usd" { " $" } else { " points" })
            .raw("</td></tr>");
    }
    html.raw("</tbody></table>");
}
