//! `GET /v1/leads/next` and `GET /v1/leads/{id}/score`: which leads to call next, and what is known of one: its score, where it
//! was pushed to, and how it came about.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::customers::{Customer, identifier};
use super::lead_scores::opened;
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::request_id::{RequestId, RequestMetadata, with_request_id};
use crate::http::openapi::{Operation, Tag};
use crate::http::wire::json::respond;
use crate::http::wire::personal::refusal;
use crate::leads::LeadDesk;
use scoreline_domain::CustomerKey;
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_store::{KeptLead, LeadLogEntry, OutboxRow, Store, StoreError};

/// Leads of an answer.
const MOST: usize = 1000;
const USUAL: usize = 100;

/// How many leads are asked for, and from which score on.
struct NextQuestion {
    limit: usize,
    least: u8,
}

impl NextQuestion {
    /// # Errors
    /// Names what may be asked.
    fn read(query: &str) -> Result<Self, ApiError> {
        let problem = || {
            let problem =
                format!("`limit` must be from 1 to {MOST} and `min_score` from 1 to 100; nothing else is known");
            ApiError::field(Code::InvalidField, "limit", problem)
        };
        let mut question = Self { limit: USUAL, least: 1 };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("limit", value)) => question.limit = value.parse().map_err(|_| problem())?,
                Some(("min_score", value)) => question.least = value.parse().map_err(|_| problem())?,
                Some(_) | None => return Err(problem()),
            }
        }
        let is_allowed = (1..=MOST).contains(&question.limit) && (1..=100).contains(&question.least);
        if is_allowed { Ok(question) } else { Err(problem()) }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = NextLeads)]
struct NextAnswer<'a> {
    status: &'static str,
    leads: Vec<NextBody>,
    metadata: NextMetadata<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NextLead)]
struct NextBody {
    #[serde(rename = "leadId")]
    lead_id: String,
    priority_score: u8,
    age_seconds: u64,
    #[schema(format = DateTime)]
    last_calculated_at: String,
    #[schema(format = DateTime)]
    valid_until: String,
    source: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NextLeadsMetadata)]
struct NextMetadata<'a> {
    #[schema(format = DateTime)]
    as_of: String,
    request_id: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LeadKnown)]
struct LeadAnswer<'a> {
    status: &'static str,
    #[serde(flatten)]
    report: LeadReport,
    metadata: RequestMetadata<'a>,
}

/// What is known of a lead.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeadReport {
    pub(crate) lead: LeadBody,
    /// How it stands in each target.
    pub(crate) push: Vec<PushBody>,
    /// The newest entry first.
    pub(crate) history: Vec<HistoryBody>,
}

/// A lead's score as it counts now.
#[derive(Serialize, ToSchema)]
#[schema(as = KnownLead)]
pub(crate) struct LeadBody {
    /// What it counts as: 0 when it is stale.
    pub(crate) priority_score: u8,
    pub(crate) stored_score: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conversion_probability: Option<f64>,
    pub(crate) stale: bool,
    pub(crate) age_seconds: u64,
    #[schema(format = DateTime)]
    pub(crate) last_calculated_at: String,
    #[schema(format = DateTime)]
    pub(crate) valid_until: String,
    pub(crate) source: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) model_version: String,
    /// The feature that did most.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

/// How a lead stands in a target.
#[derive(Serialize, ToSchema)]
#[schema(as = LeadPush)]
pub(crate) struct PushBody {
    pub(crate) target: String,
    pub(crate) state: &'static str,
    pub(crate) says: String,
    pub(crate) attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub(crate) next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<PlatformBody>,
}

/// What a target is known to say.
#[derive(Serialize, ToSchema)]
#[schema(as = LeadOnPlatform)]
pub(crate) struct PlatformBody {
    pub(crate) says: String,
    #[schema(format = DateTime)]
    pub(crate) last_calculated_at: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LeadHistory)]
pub(crate) struct HistoryBody {
    #[schema(format = DateTime)]
    pub(crate) at: String,
    /// A fact that came has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) target: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) previous: String,
    pub(crate) says: String,
    #[schema(format = DateTime)]
    pub(crate) last_calculated_at: String,
    pub(crate) cause: String,
}

pub(crate) fn describe_next() -> Operation {
    Operation::new(Tag::Leads, "next_leads", "Which leads to call next: those whose score is fresh, the highest first")
        .asks("limit", "How many.", &json!({"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}))
        .asks(
            "min_score",
            "From which score on.",
            &json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 1}),
        )
        .gives::<NextAnswer<'static>>(StatusCode::OK, "The leads.")
        .refuses(&[Code::InvalidField, Code::StoreUnavailable])
}

pub(crate) fn describe_one() -> Operation {
    Operation::new(
        Tag::Leads,
        "lead_score",
        "What is known of a lead: its score, where it was written, how it came about",
    )
    .at("id", "The lead.")
    .gives::<LeadAnswer<'static>>(StatusCode::OK, "The lead.")
    .refuses(&[Code::InvalidField, Code::PiiRefused, Code::NotFound, Code::StoreUnavailable])
}

pub(crate) async fn next(State(desk): State<LeadDesk>, id: RequestId, uri: Uri) -> Result<Response, ApiError> {
    let NextQuestion { limit, least } = NextQuestion::read(uri.query().unwrap_or_default())?;
    let now = desk.now();
    let leads = desk.store()?.next_leads(desk.settings().stale_before(now), least, limit).await?;
    let body = |lead: scoreline_store::NextLead| {
        let opened_id = desk.open_seal(&lead.lead, lead.sealed.as_ref())?;
        let body = LeadBody::new(&lead.kept, &desk, now);
        Some(NextBody {
            lead_id: opened(&opened_id).to_owned(),
            priority_score: body.priority_score,
            age_seconds: body.age_seconds,
            last_calculated_at: body.last_calculated_at,
            valid_until: body.valid_until,
            source: body.source,
        })
    };
    let answer = NextAnswer {
        status: "success",
        leads: leads.into_iter().filter_map(body).collect(),
        metadata: NextMetadata { as_of: format!("{now:.3}"), request_id: id.as_str() },
    };
    Ok(with_request_id(respond(StatusCode::OK, &answer), id.as_str()))
}

pub(crate) async fn one(
    State(desk): State<LeadDesk>,
    State(hasher): State<IdHasher>,
    id: RequestId,
    lead: Customer,
) -> Result<Response, ApiError> {
    let lead = identifier(lead)?;
    hasher.screen().identifier(&lead).map_err(|why| refusal("leadId", why))?;
    let (key, store) = (hasher.key(&lead), desk.store()?);
    let unknown = || ApiError::new(Code::NotFound, "no score of this lead is kept");
    let report = LeadReport::of(&desk, store, &key).await?.ok_or_else(unknown)?;
    let answer = LeadAnswer { status: "success", report, metadata: RequestMetadata { request_id: id.as_str() } };
    Ok(with_request_id(respond(StatusCode::OK, &answer), id.as_str()))
}

impl LeadReport {
    /// `None` for a lead of whom nothing is kept.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn of(desk: &LeadDesk, store: &Store, lead: &CustomerKey) -> Result<Option<Self>, StoreError> {
        let Some(kept) = store.lead(lead).await? else { return Ok(None) };
        let push = store.outbox_of_lead(lead).await?.into_iter().map(PushBody::from).collect();
        let history = store.lead_log(lead).await?.into_iter().map(HistoryBody::from).collect();
        Ok(Some(Self { lead: LeadBody::new(&kept, desk, desk.now()), push, history }))
    }
}

impl LeadBody {
    fn new(kept: &KeptLead, desk: &LeadDesk, now: Timestamp) -> Self {
        let stale = kept.calculated_at < desk.settings().stale_before(now);
        let until = kept.calculated_at.checked_add(desk.settings().rules.stale_after).unwrap_or(Timestamp::MAX);
        Self {
            priority_score: if stale { 0 } else { kept.score },
            stored_score: kept.score,
            conversion_probability: kept.probability.map(|it| scoreline_domain::score::round(it, 1e6)),
            stale,
            age_seconds: seconds_between(kept.calculated_at, now),
            last_calculated_at: format!("{:.3}", kept.calculated_at),
            valid_until: format!("{until:.3}"),
            source: kept.source.as_str(),
            model_version: kept.version.to_string(),
            reason: kept.reason.to_string(),
        }
    }
}

impl From<OutboxRow> for PushBody {
    fn from(row: OutboxRow) -> Self {
        let waits = !matches!(row.state, scoreline_store::WishState::Applied | scoreline_store::WishState::Dead);
        let platform =
            row.applied.map(|(says, at)| PlatformBody { says: says.into(), last_calculated_at: format!("{at:.3}") });
        Self {
            target: row.target,
            state: row.state.as_str(),
            says: row.says.into(),
            attempts: row.attempts,
            reason: row.reason.map(Into::into),
            next_at: waits.then(|| format!("{:.3}", row.next_at)),
            platform,
        }
    }
}

impl From<LeadLogEntry> for HistoryBody {
    fn from(entry: LeadLogEntry) -> Self {
        Self {
            at: format!("{:.3}", entry.at),
            target: entry.target,
            previous: entry.previous,
            says: entry.says,
            last_calculated_at: format!("{:.3}", entry.says_at),
            cause: entry.cause,
        }
    }
}
