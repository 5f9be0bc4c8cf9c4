//! Why a contact list refuses a write as a whole: looked up when it does, because its answer does not say it reliably.

use std::time::Duration;

use serde::Deserialize;

use crate::SendFault;
use crate::settings::OutboundSettings;
use crate::transport::{ApiOperation, Method, ONE, Permits, Request, Transport};

/// How long a list is left alone that is being imported into or cleared.
const IMPORTING: Duration = Duration::from_secs(30);

/// What is looked at of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListShape {
    #[serde(default)]
    pub(crate) column_names: Vec<String>,
    #[serde(default)]
    pub(crate) column_data_type_specifications: Vec<TypedColumn>,
    #[serde(default)]
    pub(crate) size: Option<u64>,
    #[serde(default)]
    import_status: Option<ImportStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TypedColumn {
    #[serde(default)]
    pub(crate) column_name: String,
    #[serde(default)]
    pub(crate) column_data_type: Option<String>,
}

#[derive(Deserialize)]
struct ImportStatus {
    #[serde(default)]
    state: Option<String>,
}

impl ListShape {
    /// Our columns that the list has not, as they are shown.
    pub(crate) fn missing_columns(&self, settings: &OutboundSettings) -> Vec<String> {
        let optional = settings.band_column.iter().chain(&settings.reason_column);
        let wanted = [&settings.score_column, &settings.time_column].into_iter().chain(optional);
        wanted.filter(|name| !self.column_names.contains(name)).map(|name| format!("`{name}`")).collect()
    }
}

/// What is wrong with the list itself; `None` when a refusal was for what was sent.
pub(super) async fn fault(
    transport: &Transport,
    settings: &OutboundSettings,
    list: &str,
    permits: &Permits,
) -> Result<Option<SendFault>, SendFault> {
    let request = Request {
        operation: ApiOperation::ListRead,
        method: Method::GET,
        path: &["outbound", "contactlists", list],
        query: &[("includeImportStatus", "true")],
        body: None,
        attempts: ONE,
    };
    let answer = match transport.once(&request, permits).await {
        Ok(answer) => answer,
        Err(err) => return Err(of_list(err)),
    };
    let shape: ListShape = answer.json().map_err(|err| SendFault::from(&err))?;
    let state = shape.import_status.as_ref().and_then(|status| status.state.as_deref());
    if state.is_some_and(|state| state.eq_ignore_ascii_case("IN_PROGRESS")) {
        let reason = "contacts are being imported into the list or cleared: no write is taken meanwhile".to_owned();
        return Ok(Some(SendFault::NotSent { until: Some(IMPORTING), reason }));
    }
    let missing = shape.missing_columns(settings);
    if missing.is_empty() {
        return Ok(None);
    }
    let reason = format!(
        "the contact list has no column {}: columns are given when a list is made, see `scoreline genesys export campaign`",
        missing.join(", ")
    );
    Ok(Some(SendFault::Down { reason }))
}

/// What a refusal of a request about the list as a whole means: 404 is the list's, because contacts are named in the body.
pub(super) fn of_list(fault: SendFault) -> SendFault {
    match fault {
        SendFault::Refused { status: 404 | 405 | 410, reason } => {
            SendFault::Down { reason: format!("the contact list is not there: {reason}") }
        }
        other @ (SendFault::NotSent { .. }
        | SendFault::Unknown { .. }
        | SendFault::Refused { .. }
        | SendFault::Down { .. }) => other,
    }
}
