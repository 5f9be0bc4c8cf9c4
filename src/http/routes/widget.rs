//! `GET /widget`: the agent's page. Who has a signed link sees one conversation; where it is allowed, so does who knows the
//! conversation's id. The query is never logged, and no answer is kept on the way.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde_json::json;

use crate::conversations::{ConversationKey, GivenAnswer, GivenScore, KnownConversation};
use crate::http::edge::error::{ApiError, Code, error_response};
use crate::http::openapi::{Operation, Tag};
use crate::http::page::agent::{AgentPage, AgentView, Notice, ShownAnswer, ShownReason};
use crate::http::state::{HttpState, SharedState, WidgetAccess, WidgetDesk};
use crate::scoring::explanation::Explanation;
use scoreline_domain::privacy::Tombstone;
use scoreline_domain::time::Timestamp;
use scoreline_domain::words::{GivenValue, Language, fact};
use scoreline_domain::{Estimate, LeadScore};
use scoreline_engine::inference::ModelSnapshot;

/// Says what a page is for. A browser sends it on every request; no other program has to.
const DESTINATION: &str = "sec-fetch-dest";

/// Most characters of a value: a token is shorter, and so are identifiers of conversations.
const LONGEST: usize = 256;

/// What an address says.
#[derive(Default)]
struct WidgetQuery<'a> {
    /// Token of a signed link.
    token: Option<&'a str>,
    /// Id of a conversation, where that is enough.
    conversation: Option<&'a str>,
    /// Tag of the agent's language; without one, the browser's.
    lang: Option<&'a str>,
}

impl<'a> WidgetQuery<'a> {
    /// Values stand in their address as they are, because no token and no identifier needs to be escaped. Anything else is none.
    fn read(query: &'a str) -> Self {
        let mut read = Self::default();
        for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            let is_value = (1..=LONGEST).contains(&value.len()) && value.bytes().all(is_plain);
            let slot = match name {
                "t" => &mut read.token,
                "conversation" => &mut read.conversation,
                "lang" => &mut read.lang,
                _ => continue,
            };
            *slot = is_value.then_some(value);
        }
        read
    }

    /// The address of the page, below the one it was asked for at.
    fn again(&self, language: Language) -> String {
        let (name, value) = match (self.token, self.conversation) {
            (Some(token), _) => ("t", token),
            (None, Some(conversation)) => ("conversation", conversation),
            (None, None) => return String::new(),
        };
        format!("?{name}={value}&lang={}", language.tag())
    }

    fn language(&self, headers: &HeaderMap) -> Language {
        let asked = self.lang.and_then(Language::tagged);
        let wanted = || Language::wanted(headers.get(ACCEPT_LANGUAGE)?.to_str().ok()?);
        asked.or_else(wanted).unwrap_or_default()
    }
}

pub(crate) fn describe() -> Operation {
    let text = json!({"type": "string", "maxLength": LONGEST});
    Operation::new(Tag::Server, "widget", "The agent's page: the last answer about a conversation")
        .asks("t", "Token of a signed link.", &text)
        .asks("conversation", "Id of a conversation, where that is enough.", &text)
        .asks("lang", "Tag of the agent's language.", &text)
        .gives_text(StatusCode::OK, "text/html", "The page.")
        .gives_text(StatusCode::FORBIDDEN, "text/html", "The page says that it may not be seen.")
        .refuses(&[Code::NotFound])
}

/// The page of a conversation, as far as the query may see it.
pub(crate) async fn handle(State(app): State<SharedState>, headers: HeaderMap, uri: Uri) -> Response {
    let Some(widget) = &app.widget else {
        return error_response(ApiError::new(Code::NotFound, "there is no agent's page here; `widget.url` is not set"));
    };
    let query = WidgetQuery::read(uri.query().unwrap_or_default());
    let now = app.scorer.now();
    let (status, shown) = if is_refused(&headers, widget) {
        (StatusCode::FORBIDDEN, Shown::Notice(Notice::NotFramed))
    } else {
        match looked_up(&app, widget, &query, now).await {
            Ok(shown) => (StatusCode::OK, shown),
            Err(()) => (StatusCode::FORBIDDEN, Shown::Notice(Notice::Expired)),
        }
    };
    let language = query.language(&headers);
    let view = match &shown {
        Shown::Answer(answer) => {
            AgentView::Answer(ShownAnswer { answer, reasons: reasons(&app, language, answer).await })
        }
        Shown::Notice(notice) => AgentView::Notice(*notice),
    };
    let page = AgentPage::new(language, &view, &query.again(language), now);
    metrics::counter!("scoreline_widget_pages_total", "state" => page.state).increment(1);
    page.page(&widget.settings.framed_by).respond(status)
}

/// What there is to show.
enum Shown {
    Answer(Arc<GivenAnswer>),
    Notice(Notice),
}

/// A page that a browser would show by itself has an address that can be copied, and stays in its history.
fn is_refused(headers: &HeaderMap, widget: &WidgetDesk) -> bool {
    match headers.get(DESTINATION).map(HeaderValue::as_bytes) {
        None | Some(b"iframe") => false,
        Some(b"document") => !widget.settings.open_in_tab,
        Some(_) => true,
    }
}

/// # Errors
/// When the query may not see anything: it does not learn why.
async fn looked_up(app: &HttpState, widget: &WidgetDesk, query: &WidgetQuery<'_>, now: Timestamp) -> Result<Shown, ()> {
    if let Some(token) = query.token {
        let checked = widget.signer.check(token, now);
        let viewed = checked.map_err(|fault| {
            metrics::counter!("scoreline_widget_links_refused_total", "reason" => fault.as_str()).increment(1);
        })?;
        if viewed.customer.is_some_and(|customer| app.eraser.tombstones().holds(&customer)) {
            return Ok(Shown::Notice(Notice::Erased));
        }
        let known = widget.book.find(&ConversationKey::from_digest(viewed.conversation)).await;
        let Some(KnownConversation { customer, answer, .. }) = known else { return Ok(Shown::Notice(Notice::Unknown)) };
        // The conversation turned out to be with somebody else: their link is another.
        return if customer.as_ref().map(Tombstone::of) == viewed.customer {
            Ok(Shown::Answer(answer))
        } else {
            Err(())
        };
    }
    match (widget.settings.access, query.conversation) {
        (WidgetAccess::Conversation, Some(id)) => {
            let known = widget.book.find(&ConversationKey::of(&app.hasher, id)).await;
            Ok(known.map_or(Shown::Notice(Notice::Unknown), |known| Shown::Answer(known.answer)))
        }
        (WidgetAccess::Conversation | WidgetAccess::Signed, _) => Err(()),
    }
}

/// What moved the score, in words. An answer that is not a model's own, or whose version serves no more, has no reasons.
async fn reasons(app: &HttpState, language: Language, answer: &GivenAnswer) -> Vec<ShownReason> {
    let Some(row) = &answer.row else { return Vec::new() };
    let (model, version) = (&answer.model, &answer.version);
    let explained = match &answer.score {
        GivenScore::Clv { value, .. } => app.scorer.explain_row::<Estimate>(model, version, row, *value).await,
        GivenScore::Lead { probability, .. } => {
            app.scorer.explain_row::<LeadScore>(model, version, row, 100.0 * probability).await
        }
    };
    explained.map_or_else(|_| Vec::new(), |(snapshot, explanation)| in_words(language, &snapshot, &explanation))
}

/// What each group did, told by the feature that leads it. A value that nobody gave says nothing of this customer.
fn in_words(language: Language, snapshot: &ModelSnapshot, explanation: &Explanation) -> Vec<ShownReason> {
    let rules = snapshot.schema().rules();
    let leading = explanation.groups.iter().map(|group| &group.leading).filter(|reason| !reason.given.is_nan());
    leading
        .map(|reason| {
            let rule = &rules[reason.position];
            let category = rule.categories.get(reason.given as usize).map(|category| GivenValue::Text(category));
            let words = fact(&rule.name, category.unwrap_or(GivenValue::Number(reason.given)), language);
            ShownReason { words, amount: reason.amount }
        })
        .collect()
}
