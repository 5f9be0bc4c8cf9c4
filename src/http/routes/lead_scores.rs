//! `POST /v1/leads/score`: leads whose scores are pushed to the dialer, as one JSON object, a JSON array or NDJSON. A row is
//! that of `POST /v1/predict/lead`, or brings its score itself. A success means that the score is on disk.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::outcomes::is_single;
use super::predict_lead::score_of_many;
use crate::http::edge::body::BatchPayload;
use crate::http::edge::deadline::{Hurry, kept_in_time};
use crate::http::edge::error::{ASK, ApiError, Code};
use crate::http::edge::request_id::{RequestId, RequestMetadata, with_request_id};
use crate::http::openapi::{Operation, Tag, shape};
use crate::http::state::HttpSettings;
use crate::http::wire::json::{parse_object, respond};
use crate::http::wire::lead::LeadRequest;
use crate::http::wire::lead_event::{invalid, missing, moment, read_score, sequence};
use crate::http::wire::personal::refusal;
use crate::http::wire::raw_object::RawObject;
use crate::http::wire::rows::{RowError, RowResult, Rows};
use crate::leads::{DeskFault, LeadDesk};
use crate::scoring::explanation::Detail;
use crate::scoring::{Scored, Scorer};
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{LeadScore, Source};
use scoreline_store::{LeadFact, LeadRuling, LeadSource};

/// A score that a row brings.
const SCORE: &str = "priority_score";
const TIME: &str = "last_calculated_at";
const SEQUENCE: &str = "sequence";

/// What scores of leads are made and kept with.
#[derive(Clone, Copy)]
pub(crate) struct LeadIntake<'a> {
    pub(crate) scorer: &'a Scorer,
    pub(crate) hasher: &'a IdHasher,
    pub(crate) desk: &'a LeadDesk,
}

/// A row that was read and scored.
pub(super) struct ReadLead {
    /// `None` for a score that is not kept: a baseline that was made because the model failed.
    pub(super) fact: Option<LeadFact>,
    score: u8,
    probability: Option<f64>,
    pub(super) calculated_at: Timestamp,
    source: &'static str,
    version: String,
    /// A score that was made here and has no place among other leads yet.
    unplaced: Option<Scored<LeadScore>>,
}

/// What became of rows.
pub(crate) struct TakenLeads {
    rows: Vec<Result<TakenLead, ApiError>>,
}

struct TakenLead {
    read: ReadLead,
    /// `None` for one that is not kept.
    ruling: Option<LeadRuling>,
}

/// How many rows became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeadTally {
    pub(crate) stored: u64,
    pub(crate) unchanged: u64,
    /// A newer score is kept.
    pub(crate) conflicts: u64,
    /// The lead was erased, or its score was a baseline made because the model failed.
    pub(crate) not_stored: u64,
    pub(crate) errors: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LeadTaken)]
struct LeadAnswer<'a> {
    status: &'static str,
    lead: LeadBody<'a>,
    metadata: RequestMetadata<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TakenLead)]
struct LeadBody<'a> {
    priority_score: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversion_probability: Option<f64>,
    #[schema(format = DateTime)]
    last_calculated_at: String,
    source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model_version: &'a str,
    /// `stored`, `unchanged`, `superseded`, `conflict` or `not_stored`.
    result: &'static str,
    /// `pending` where it is written to the dialer.
    push: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LeadsTaken)]
struct BatchAnswer<'a> {
    status: &'static str,
    results: Vec<RowResult<'a, LeadBody<'a>>>,
    metadata: BatchMetadata<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LeadsTakenMetadata)]
struct BatchMetadata<'a> {
    rows: usize,
    stored: u64,
    unchanged: u64,
    conflicts: u64,
    not_stored: u64,
    errors: u64,
    request_id: &'a str,
}

/// As the document has a row with a score that was made elsewhere.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its shape is used")]
struct GivenLead {
    #[schema(schema_with = shape::text)]
    #[serde(rename = "leadId")]
    lead_id: (),
    #[schema(minimum = 1, maximum = 100)]
    priority_score: f64,
    /// When it was made; not in the future.
    #[schema(format = DateTime)]
    last_calculated_at: String,
    /// Decides between scores of one moment.
    sequence: Option<u64>,
}

pub(crate) fn describe() -> Operation {
    let example = json!({"leadId": "LEAD-000042", "priority_score": 87, "last_calculated_at": "2026-11-28T10:00:00Z"});
    Operation::new(Tag::Leads, "score_leads", "Takes scores of leads, to be written to the dialer")
        .about("A success means that the score is on disk. Without `priority_score`, the lead model scores the row.")
        .takes_rows_of(
            |schemas| {
                let sequence = json!({
                    "type": ["integer", "null"], "minimum": 0,
                    "description": "Decides between questions of one moment.",
                });
                let members = vec![(SEQUENCE, sequence), ("leadId", json!(shape::text()))];
                let asked = schemas.request_with::<LeadRequest<'_>>("AskedLead", members, &["leadId"]);
                json!({"anyOf": [schemas.request::<GivenLead>(), asked]})
            },
            true,
            &example,
        )
        .gives::<LeadAnswer<'static>>(StatusCode::ACCEPTED, "A lead, or results of rows.")
        .gives::<BatchAnswer<'static>>(StatusCode::ACCEPTED, "A lead, or results of rows.")
        .refuses(&ASK)
        .refuses(&[Code::Conflict, Code::StoreUnavailable])
}

pub(crate) async fn handle(
    State(scorer): State<Scorer>,
    State(hasher): State<IdHasher>,
    State(desk): State<LeadDesk>,
    State(settings): State<HttpSettings>,
    id: RequestId,
    BatchPayload(body): BatchPayload,
) -> Result<Response, ApiError> {
    let intake = LeadIntake { scorer: &scorer, hasher: &hasher, desk: &desk };
    desk.store()?;
    if is_single(&body) {
        let taken = intake.take(&[&body]).await?.rows.pop().ok_or_else(|| missing("body"))??;
        let status = if taken.is_conflict() { return Err(newer_is_kept(TIME)) } else { StatusCode::ACCEPTED };
        let answer = LeadAnswer {
            status: "accepted",
            lead: taken.body(&desk),
            metadata: RequestMetadata { request_id: id.as_str() },
        };
        return Ok(with_request_id(respond(status, &answer), id.as_str()));
    }
    let Rows { rows, .. } = Rows::split(&body, settings.batch_rows)?;
    let taken = intake.take(&rows).await?;
    let tally = taken.tally();
    let LeadTally { stored, unchanged, conflicts, not_stored, errors } = tally;
    let row_ids: Vec<String> = (0..rows.len()).map(|row| format!("{}-{row}", id.as_str())).collect();
    let results = taken.rows.iter().enumerate().map(|(row, taken)| match taken {
        Ok(taken) => RowResult::Answer(taken.body(&desk)),
        Err(error) => RowResult::Error(RowError { row, error: error.body(&row_ids[row]) }),
    });
    let request_id = id.as_str();
    let metadata = BatchMetadata { rows: rows.len(), stored, unchanged, conflicts, not_stored, errors, request_id };
    let answer = BatchAnswer { status: "accepted", results: results.collect(), metadata };
    Ok(with_request_id(respond(StatusCode::ACCEPTED, &answer), request_id))
}

impl ReadLead {
    /// Takes the priority over from the score that has its place now.
    fn take_place(&mut self) {
        let Some(Scored { estimate, .. }) = self.unplaced.take() else { return };
        self.score = estimate.priority;
        if let Some(fact) = &mut self.fact {
            fact.score = estimate.priority;
        }
    }
}

impl LeadIntake<'_> {
    /// Reads, scores and keeps rows, in their order.
    ///
    /// # Errors
    /// When none was kept, or that is not known.
    pub(crate) async fn take(&self, rows: &[&[u8]]) -> Result<TakenLeads, ApiError> {
        let mut read = Vec::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            read.push(self.read(row, place as u64).await);
            if place % 64 == 63 {
                tokio::task::yield_now().await;
            }
        }
        self.place(read.iter_mut().flatten());
        let facts: Vec<LeadFact> = read.iter().flatten().filter_map(|read| read.fact.clone()).collect();
        let mut verdicts = kept_in_time(Code::StoreUnavailable, self.desk.take(facts)).await??.into_iter();
        let mut taken = |read: ReadLead| {
            let ruling = read.fact.as_ref().and_then(|_| verdicts.next()).map(|verdict| verdict.ruling);
            TakenLead { read, ruling }
        };
        Ok(TakenLeads { rows: read.into_iter().map(|row| row.map(&mut taken)).collect() })
    }

    /// Reads and scores rows, and keeps nothing.
    pub(crate) async fn check(&self, rows: &[&[u8]]) -> TakenLeads {
        let mut read = Vec::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            read.push(self.read(row, place as u64).await);
        }
        self.place(read.iter_mut().flatten());
        TakenLeads { rows: read.into_iter().map(|row| row.map(|read| TakenLead { read, ruling: None })).collect() }
    }

    /// Places the leads that were scored here among themselves.
    pub(super) fn place<'r>(&self, read: impl Iterator<Item = &'r mut ReadLead>) {
        let mut read: Vec<&mut ReadLead> = read.collect();
        self.scorer.place_together(read.iter_mut().filter_map(|read| read.unplaced.as_mut()));
        read.into_iter().for_each(ReadLead::take_place);
    }

    /// A row, scored unless it brings its score. `place` decides between rows of one moment.
    async fn read(&self, row: &[u8], place: u64) -> Result<ReadLead, ApiError> {
        let object: RawObject<'_> = parse_object(row)?;
        let question = object.without(&[SCORE, TIME, SEQUENCE]);
        let told = object.one(SEQUENCE)?.map(|_| sequence(&object)).transpose()?;
        let score = object.one(SCORE)?.map(|value| read_score(SCORE, value)).transpose()?;
        let time = object.text(TIME)?.map(|text| moment(TIME, &text)).transpose()?;
        match (score, time) {
            (Some(score), Some(time)) => self.given(&question, score, time, told.unwrap_or(0), LeadSource::Given),
            (Some(_), None) => Err(missing(TIME)),
            (None, Some(_)) => Err(invalid(TIME, "is the time of a `priority_score`, and there is none")),
            (None, None) => self.made(&question, None, told.unwrap_or(place)).await,
        }
    }

    /// A lead with a score that was told.
    ///
    /// # Errors
    /// When the identifier is missing or may not be kept, or the time has not come yet.
    pub(super) fn given(
        &self,
        question: &[u8],
        score: u8,
        calculated_at: Timestamp,
        sequence: u64,
        source: LeadSource,
    ) -> Result<ReadLead, ApiError> {
        let field = if source == LeadSource::Event { "timestamp" } else { TIME };
        self.has_come(field, calculated_at)?;
        let request: LeadRequest<'_> = parse_object(question)?;
        let id = request.lead_id().ok_or_else(|| missing("leadId"))?;
        self.hasher.screen().identifier(id).map_err(|why| refusal("leadId", why))?;
        let lead = self.hasher.key(id);
        let fact = LeadFact {
            lead,
            sealed: Some(self.desk.seal(&lead, id)),
            score,
            probability: None,
            reason: "".into(),
            calculated_at,
            sequence,
            source,
            version: "".into(),
            event: None,
        };
        let source = source.as_str();
        let (fact, version) = (Some(fact), String::new());
        Ok(ReadLead { fact, score, probability: None, calculated_at, source, version, unplaced: None })
    }

    /// A lead whose score is made here, without a place among other leads yet. It is as old as what it was made of: as `told`, or as the request.
    ///
    /// # Errors
    /// What is wrong with the question.
    pub(super) async fn made(
        &self,
        question: &[u8],
        told: Option<Timestamp>,
        sequence: u64,
    ) -> Result<ReadLead, ApiError> {
        if let Some(told) = told {
            self.has_come("timestamp", told)?;
        }
        let request: LeadRequest<'_> = parse_object(question)?;
        let id = request.lead_id().ok_or_else(|| missing("leadId"))?;
        let (scored, _) = score_of_many(&request, self.scorer, self.hasher, || "lead", Hurry::default()).await?;
        let LeadScore { priority, probability } = scored.estimate;
        let calculated_at = match told {
            Some(told) => told,
            None if request.features.is_some() => self.desk.now(),
            // The last score of somebody of whom nothing new was told.
            None => scored.scored_at,
        };
        let source = match scored.source {
            Source::Model | Source::Cache => Some(LeadSource::Model),
            Source::ColdStart => Some(LeadSource::ColdStart),
            // The model failed: what it said before counts for longer than a baseline.
            Source::StaleCache | Source::Fallback => None,
        };
        let lead = self.hasher.key(id);
        let version = format!("{} {}", scored.snapshot.manifest().name, scored.version);
        let reason = if self.desk.keeps_reasons() { self.reason(&request, &scored).await } else { "".into() };
        let fact = source.map(|source| LeadFact {
            lead,
            sealed: Some(self.desk.seal(&lead, id)),
            score: priority,
            probability: Some(probability.get()),
            reason,
            calculated_at,
            sequence,
            source,
            version: version.as_str().into(),
            event: None,
        });
        let (probability, source) = (Some(probability.get()), scored.source.as_str());
        let unplaced = Some(scored);
        Ok(ReadLead { fact, score: priority, probability, calculated_at, source, version, unplaced })
    }

    /// The feature that did most for or against the lead; empty when nobody can say.
    async fn reason(&self, request: &LeadRequest<'_>, scored: &Scored<LeadScore>) -> Box<str> {
        let features = request.features.as_ref().map(crate::http::wire::values::Features::named);
        let explained = Box::pin(self.scorer.explain(features.as_deref(), None, scored, Detail::Groups)).await;
        let first = explained.ok().and_then(|explained| explained.groups.first().map(|group| group.leading));
        let rules = scored.snapshot.schema().rules();
        first.and_then(|first| rules.get(first.position)).map_or_else(|| "".into(), |rule| rule.name.as_str().into())
    }

    /// Clocks differ by minutes; a score from later than that would keep every other one away.
    fn has_come(&self, field: &'static str, at: Timestamp) -> Result<(), ApiError> {
        let skew = self.desk.settings().clock_skew;
        let latest = self.desk.now().checked_add(skew).unwrap_or(Timestamp::MAX);
        if at <= latest {
            return Ok(());
        }
        let seconds = skew.as_secs();
        Err(invalid(field, &format!("must not be more than {seconds} s in the future, see `leads.clock_skew`")))
    }
}

impl TakenLeads {
    /// How many rows became what.
    pub(crate) fn tally(&self) -> LeadTally {
        let mut tally = LeadTally::default();
        for row in &self.rows {
            let count = match row {
                Err(_) => &mut tally.errors,
                Ok(taken) => match taken.ruling {
                    Some(LeadRuling::Stored | LeadRuling::Superseded) => &mut tally.stored,
                    Some(LeadRuling::Unchanged) => &mut tally.unchanged,
                    Some(LeadRuling::Older | LeadRuling::Equal | LeadRuling::Stale) => &mut tally.conflicts,
                    Some(LeadRuling::Erased) | None => &mut tally.not_stored,
                },
            };
            *count += 1;
        }
        tally
    }

    /// Rows that could not be read, by position, with the reason.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (usize, &str)> {
        self.rows.iter().enumerate().filter_map(|(row, taken)| Some((row, &*taken.as_ref().err()?.message)))
    }
}

impl TakenLead {
    fn is_conflict(&self) -> bool {
        self.ruling.is_some_and(crate::leads::is_conflict)
    }

    fn body(&self, desk: &LeadDesk) -> LeadBody<'_> {
        let (result, push) = match self.ruling {
            None | Some(LeadRuling::Erased) => ("not_stored", "none"),
            Some(LeadRuling::Stored) if desk.targets().is_empty() => ("stored", "none"),
            Some(LeadRuling::Stored) => ("stored", "pending"),
            Some(LeadRuling::Unchanged) => ("unchanged", "unchanged"),
            Some(LeadRuling::Superseded) => ("superseded", "none"),
            Some(LeadRuling::Older | LeadRuling::Equal | LeadRuling::Stale) => ("conflict", "none"),
        };
        let ReadLead { score, probability, calculated_at, source, version, .. } = &self.read;
        LeadBody {
            priority_score: *score,
            conversion_probability: probability.map(|it| scoreline_domain::score::round(it, 1e6)),
            last_calculated_at: format!("{calculated_at:.3}"),
            source,
            model_version: version,
            result,
            push,
        }
    }
}

/// What a fact is refused with when another one counts.
pub(super) fn newer_is_kept(field: &'static str) -> ApiError {
    ApiError::field(Code::Conflict, field, "a newer score of this lead is kept, or this one is too old to count")
}

impl From<DeskFault> for ApiError {
    fn from(fault: DeskFault) -> Self {
        let code = match fault {
            DeskFault::Closed | DeskFault::Store => Code::StoreUnavailable,
            DeskFault::Busy => Code::Overloaded,
        };
        Self::new(code, fault.to_string())
    }
}

/// The identifier of a lead that was sealed.
pub(super) fn opened(secret: &secrecy::SecretString) -> &str {
    secret.expose_secret()
}
