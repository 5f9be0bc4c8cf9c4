//! The query, whose pages are not stable, and conversations by id.

use axum::http::StatusCode;
use serde::Deserialize;

use super::{Wanted, write, write_all};
use crate::answer::{Answer, ReceivedCall, Refusal};
use crate::faults::FaultKind;
use crate::ids::Id;
use crate::world::World;

#[derive(Deserialize)]
struct Query {
    #[serde(flatten)]
    wanted: Wanted,
    #[serde(default)]
    paging: Paging,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paging {
    page_size: usize,
    page_number: usize,
}

impl Default for Paging {
    fn default() -> Self {
        Self { page_size: 25, page_number: 1 }
    }
}

/// `POST /api/v2/analytics/conversations/details/query`: everything up to this moment. A page without conversations has
/// no `conversations`.
pub(crate) fn query(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let Query { wanted, paging } = call.json()?;
    let limits = &world.settings.limits;
    if paging.page_size == 0 || paging.page_size > limits.query_page_size || paging.page_number == 0 {
        let most = limits.query_page_size;
        return Err(Refusal::bad(format!("pageSize must be within 1 and {most}, pageNumber at least 1")));
    }
    let found = wanted.find(&world.book, limits.query_window, call.now)?;
    let size = paging.page_size;
    let before = paging.page_number - 1;
    let plain = before * size;
    let mut total = found.len() as u64;
    let first = match call.fault {
        Some(FaultKind::RepeatRows(rows)) => plain.saturating_sub(*rows),
        Some(FaultKind::SkipRows(rows)) if before > 0 => plain + rows,
        Some(FaultKind::MovingTotal(more)) => {
            total += if before % 2 == 1 { *more } else { 0 };
            plain
        }
        Some(_) | None => plain,
    };
    let mut body = b"{".to_vec();
    let page = found.iter().skip(first).take(size).map(|entry| entry.reference);
    if first < found.len() {
        write_all(&mut body, &world.book, page, call.now, false);
        body.push(b',');
    }
    body.extend_from_slice(format!("\"totalHits\":{total}}}").as_bytes());
    Ok(Answer::bytes(StatusCode::OK, body))
}

/// `GET /api/v2/analytics/conversations/{conversationId}/details`.
pub(crate) fn by_id(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let id = Id::parse(call.parameter(0)).ok_or_else(|| Refusal::bad("conversationId must be a UUID"))?;
    let record = world.book.find(id, call.now).ok_or_else(|| Refusal::not_found("conversation"))?;
    let mut body = Vec::new();
    write(&mut body, &record, call.now, false);
    Ok(Answer::bytes(StatusCode::OK, body))
}

/// `GET /api/v2/analytics/conversations/details?id=a,b`: those that there are.
pub(crate) fn by_ids(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let ids = call.query.iter().filter(|(key, _)| key == "id").flat_map(|(_, value)| value.split(','));
    let ids: Vec<&str> = ids.filter(|id| !id.is_empty()).collect();
    if ids.is_empty() || ids.len() > world.settings.limits.query_page_size {
        return Err(Refusal::bad(format!("id must name 1 to {} conversations", world.settings.limits.query_page_size)));
    }
    let mut body = b"{\"conversations\":[".to_vec();
    let records = ids.into_iter().filter_map(|id| world.book.find(Id::parse(id)?, call.now));
    for (position, record) in records.enumerate() {
        if position > 0 {
            body.push(b',');
        }
        write(&mut body, &record, call.now, false);
    }
    body.extend_from_slice(b"]}");
    Ok(Answer::bytes(StatusCode::OK, body))
}
