//! `POST /v1/purchases`: what customers bought, as one JSON object, a JSON array or NDJSON, with the columns of a purchase
//! log and its checks. A success means that it is on disk. A bad row of a batch is named, and the others are taken.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::outcomes::is_single;
use crate::http::edge::body::BatchPayload;
use crate::http::edge::deadline::kept_in_time;
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::request_id::{RequestId, with_request_id};
use crate::http::openapi::{Operation, Tag, shape};
use crate::http::state::{HttpSettings, Jobs, WriteBackDesk};
use crate::http::wire::json::{parse, parse_object, respond};
use crate::http::wire::personal::refusal;
use crate::http::wire::rows::{BatchMetadata, RowError, Rows};
use crate::http::wire::values::{WireText, optional_text};
use scoreline_domain::privacy::{Eraser, IdHasher};
use scoreline_domain::{JobName, Purchase, PurchaseFault, PurchaseText};
use scoreline_engine::features::purchases::fits;
use scoreline_store::{NewPurchase, PurchaseId, PurchasesRecorded, Repetitions, Store, StoreError};

pub(crate) fn describe() -> Operation {
    let example =
        json!({"customer_id": "CUST-000042", "date": "2026-11-27", "amount": 59.9, "items": 2, "purchase_id": "O-77"});
    Operation::new(Tag::Facts, "record_purchases", "Takes what customers bought")
        .about("A success means that it is on disk. A bad row of a batch is named, and the others are taken. The names of a purchase log's columns are taken too.")
        .takes_rows::<PurchaseRow<'static>>(true, &example)
        .gives::<PurchasesAnswer<'static>>(StatusCode::OK, "What became of the rows.")
        .refuses(&[Code::PiiRefused, Code::CustomerErased, Code::StoreUnavailable])
}

pub(crate) async fn handle(
    State(hasher): State<IdHasher>,
    State(eraser): State<Eraser>,
    State(desk): State<WriteBackDesk>,
    State(jobs): State<Jobs>,
    State(settings): State<HttpSettings>,
    id: RequestId,
    BatchPayload(body): BatchPayload,
) -> Result<Response, ApiError> {
    let store = desk.store.get().ok_or_else(not_open)?;
    let mut repetitions = Repetitions::default();
    if is_single(&body) {
        let purchase = read(&body, &hasher, &mut repetitions)?;
        let recorded = record(store, &eraser, &jobs, vec![purchase]).await?;
        if recorded.refused > 0 {
            let message = "this customer was erased; nothing is kept of them";
            return Err(ApiError::field(Code::CustomerErased, "customer_id", message));
        }
        return Ok(answer(recorded, &[], 1, id.as_str()));
    }
    let Rows { rows, .. } = Rows::split(&body, settings.batch_rows)?;
    let mut purchases = Vec::with_capacity(rows.len());
    let mut faults = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        match read(row, &hasher, &mut repetitions) {
            Ok(purchase) => purchases.push(purchase),
            Err(error) => faults.push((number, error)),
        }
    }
    let recorded = record(store, &eraser, &jobs, purchases).await?;
    Ok(answer(recorded, &faults, rows.len(), id.as_str()))
}

/// A row, with the names that a purchase log may have for its columns. What else it says is not read.
#[derive(Deserialize, ToSchema)]
#[schema(as = Purchase)]
struct PurchaseRow<'a> {
    #[serde(borrow, default, alias = "customerId", deserialize_with = "optional_text")]
    #[schema(schema_with = shape::text, required)]
    customer_id: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::day, required)]
    date: Option<WireText<'a>>,
    #[serde(borrow, default, alias = "amount_usd", alias = "dollar_value")]
    #[schema(schema_with = shape::figure, required)]
    amount: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "number_of_cds")]
    #[schema(schema_with = shape::figure, required)]
    items: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "order_id", deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    purchase_id: Option<WireText<'a>>,
    /// How many equal purchases without a name came before it, for a log that takes several requests.
    #[serde(default)]
    repetition: Option<u32>,
}

fn read(row: &[u8], hasher: &IdHasher, repetitions: &mut Repetitions) -> Result<NewPurchase, ApiError> {
    let row: PurchaseRow<'_> = parse_object(row)?;
    let id = row.customer_id.ok_or_else(|| missing("customer_id"))?;
    let id = id.trim();
    hasher.screen().identifier(id).map_err(|why| refusal("customer_id", why))?;
    let date = row.date.ok_or_else(|| missing("date"))?;
    let amount = figure(row.amount)?.ok_or_else(|| missing("amount"))?;
    // Not known is not 0.
    let items = figure(row.items)?.ok_or_else(|| missing("items"))?;
    let text = PurchaseText { date: date.trim(), amount: &amount, items: Some(&items) };
    let purchase = Purchase::read(&text).map_err(|fault: PurchaseFault| invalid(fault.field, fault.problem))?;
    fits(&purchase).map_err(|field| invalid(field, "must be at most 1e12"))?;
    let customer = hasher.key(id);
    let (day, amount_usd, items) = (purchase.date, purchase.amount_usd, purchase.items.unwrap_or_default());
    let id = match (row.purchase_id, row.repetition) {
        (Some(name), _) => PurchaseId::named(name.trim()),
        (None, Some(repetition)) => PurchaseId::line(day, amount_usd, items, repetition),
        (None, None) => repetitions.next(&customer, day, amount_usd, items),
    };
    Ok(NewPurchase { customer, id, day, amount_usd, items })
}

/// The digits of a number, or of a text that holds one.
fn figure(value: Option<&RawValue>) -> Result<Option<String>, ApiError> {
    let Some(text) = value.map(RawValue::get).filter(|text| *text != "null") else { return Ok(None) };
    if !text.starts_with('"') {
        return Ok(Some(text.to_owned()));
    }
    let text: String = parse(text.as_bytes())?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

async fn record(
    store: &Store,
    eraser: &Eraser,
    jobs: &Jobs,
    purchases: Vec<NewPurchase>,
) -> Result<PurchasesRecorded, ApiError> {
    let told = purchases.len();
    // One who turned out to be erased under an earlier pepper may not be so in the store yet.
    let living: Vec<_> =
        purchases.into_iter().filter(|purchase| !eraser.tombstones().contains(&purchase.customer)).collect();
    let erased = (told - living.len()) as u64;
    if living.is_empty() {
        return Ok(PurchasesRecorded { refused: erased, ..PurchasesRecorded::default() });
    }
    let recorded = kept_in_time(Code::StoreUnavailable, store.record_purchases(&living, None)).await?;
    let mut recorded = recorded.map_err(|err| not_kept(&err))?;
    recorded.refused += erased;
    if recorded.written > 0 {
        // Features are made of them at once, as of what an extraction brings.
        (jobs.nudge)(JobName::Features);
    }
    Ok(recorded)
}

fn missing(field: &'static str) -> ApiError {
    invalid(field, "is missing")
}

fn invalid(field: &str, problem: &str) -> ApiError {
    ApiError::field(Code::InvalidField, field, format!("`{field}` {problem}"))
}

fn not_open() -> ApiError {
    let message =
        "the store that purchases are kept in (`store.path` or `store.url`) is not open; send them again later";
    ApiError::new(Code::StoreUnavailable, message)
}

fn not_kept(err: &StoreError) -> ApiError {
    // The cause names files of this machine: it is in the log.
    tracing::debug!(error = %err, "purchases cannot be written");
    ApiError::new(Code::StoreUnavailable, "purchases cannot be written at the moment; send them again later")
}

#[derive(Serialize, ToSchema)]
struct PurchasesAnswer<'a> {
    status: &'static str,
    purchases: PurchaseCounts,
    /// Rows that were not taken, by their position from 0.
    errors: Vec<RowError<'a>>,
    metadata: BatchMetadata<'a>,
}

/// What became of the rows that were taken.
#[derive(Serialize, ToSchema)]
struct PurchaseCounts {
    /// New, or other than what was kept.
    written: u64,
    /// Known already.
    same: u64,
    /// Of erased customers: nothing is kept of them.
    erased: u64,
}

fn answer(recorded: PurchasesRecorded, faults: &[(usize, ApiError)], rows: usize, id: &str) -> Response {
    let PurchasesRecorded { written, same, refused, impossible: _ } = recorded;
    let row_ids: Vec<_> = faults.iter().map(|(row, _)| format!("{id}-{row}")).collect();
    let errors = faults.iter().zip(&row_ids).map(|((row, error), id)| RowError { row: *row, error: error.body(id) });
    let body = PurchasesAnswer {
        status: "success",
        purchases: PurchaseCounts { written, same, erased: refused },
        errors: errors.collect(),
        metadata: BatchMetadata { rows, errors: faults.len(), request_id: id },
    };
    with_request_id(respond(StatusCode::OK, &body), id)
}
