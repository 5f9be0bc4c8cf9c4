//! Whether a contact list can hold scores, and what stands in it.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Doctor, Finding, Verdict};
use crate::outbound::{ListShape, SeenScore, read_score};
use crate::transport::{ApiOperation, HASTY, Method};

/// Columns of a list that the platform takes at most.
const MOST_COLUMNS: usize = 50;
/// Contacts that are looked at.
const SAMPLE: usize = 100;

#[derive(Deserialize)]
struct FoundContacts {
    #[serde(default)]
    entities: Vec<SampleContact>,
}

#[derive(Deserialize)]
struct SampleContact {
    id: String,
    #[serde(default)]
    data: HashMap<String, Value>,
}

impl Doctor {
    /// Whether the list is there and has the columns.
    pub(super) async fn list(&mut self, list: &str) -> bool {
        let about = format!("list {list}");
        let path = ["outbound", "contactlists", list];
        let shape: ListShape = match self.get(ApiOperation::ListRead, &path, &[("includeSize", "true")]).await {
            Ok(shape) => shape,
            Err(err) => {
                self.missed(&about, "the contact list", &err);
                return false;
            }
        };
        let has_columns = self.columns(&about, &shape);
        if has_columns {
            self.types(&about, &shape);
            self.sample(&about, list, shape.size.unwrap_or(0)).await;
        }
        has_columns
    }

    fn columns(&mut self, about: &str, shape: &ListShape) -> bool {
        let missing = shape.missing_columns(&self.settings.outbound);
        if shape.column_names.len() > MOST_COLUMNS {
            let says = format!("it has {} columns, the platform takes {MOST_COLUMNS}", shape.column_names.len());
            self.found(Finding::new(about, Verdict::Warning, says).fix("leave columns out that nobody reads"));
        }
        if missing.is_empty() {
            self.found(Finding::fine(about, "it has the columns"));
            return true;
        }
        let says = format!("it has no column {}", missing.join(", "));
        let fix = "columns are given when a list is made: make a new one (`scoreline genesys export campaign`) or name others \
                   under `genesys.outbound`";
        self.found(Finding::new(about, Verdict::Wrong, says).fix(fix));
        false
    }

    fn types(&mut self, about: &str, shape: &ListShape) {
        let columns = &self.settings.outbound;
        let wanted = [(columns.score_column.clone(), "NUMERIC"), (columns.time_column.clone(), "TIMESTAMP")];
        for (name, wanted) in wanted {
            let found = shape.column_data_type_specifications.iter().find(|column| column.column_name == name);
            let kind = found.and_then(|column| column.column_data_type.as_deref());
            if kind == Some(wanted) {
                self.found(Finding::fine(about, format!("`{name}` is {wanted}")));
                continue;
            }
            let kind = kind.unwrap_or("of no type");
            let says = format!("`{name}` is {kind}, not {wanted}: a running campaign does not sort by it anew");
            let fix = "types are given when a list is made: make a new one with `scoreline genesys export campaign`";
            self.found(Finding::new(about, Verdict::Wrong, says).fix(fix));
        }
    }

    /// Some contacts: whether they are known by the lead's id, and whose scores they have.
    async fn sample(&mut self, about: &str, list: &str, size: u64) {
        let body = json!({ "pageNumber": 1, "pageSize": SAMPLE }).to_string().into_bytes();
        let path = ["outbound", "contactlists", list, "contacts", "search"];
        let answer = self.send(ApiOperation::LeadsSearch, Method::POST, &path, &[], Some(body), HASTY).await;
        let found = answer.and_then(|answer| answer.json::<FoundContacts>());
        let contacts = match found {
            Ok(found) => found.entities,
            Err(err) => {
                self.missed(about, "its contacts", &err);
                return;
            }
        };
        if contacts.is_empty() {
            let says = "it is empty: scores are written to contacts that are there, none is made";
            self.found(
                Finding::new(about, Verdict::Warning, says)
                    .fix("import the leads, with the lead's id as the contact's"),
            );
            return;
        }
        let looked = contacts.len();
        let columns = self.settings.outbound.clone();
        let text = |contact: &SampleContact, name: &str| match contact.data.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other @ (Value::Number(_) | Value::Bool(_))) => Some(other.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => None,
        };
        let differ = contacts
            .iter()
            .filter(|contact| text(contact, &columns.lead_column).is_some_and(|lead| lead != contact.id));
        let differ = differ.count();
        if differ > 0 {
            let says = format!(
                "{differ} of {looked} contacts have an id that is not what stands in `{}`: scores are written by the contact's id",
                columns.lead_column
            );
            let fix =
                "give the contact's id when contacts are made: a column `inin-outbound-id` in the file, or `id` by API";
            self.found(Finding::new(about, Verdict::Wrong, says).fix(fix));
        } else {
            self.found(Finding::fine(
                about,
                format!("{looked} of {size} contacts were looked at: their ids are the leads'"),
            ));
        }
        let seen = contacts.iter().map(|contact| {
            let (score, time) = (text(contact, &columns.score_column), text(contact, &columns.time_column));
            read_score(score.as_deref(), time.as_deref())
        });
        let foreign = seen.filter(|seen| matches!(seen, SeenScore::Foreign { .. })).count();
        if foreign > 0 {
            let says =
                format!("{foreign} of {looked} contacts have something in `{}` that is no score", columns.score_column);
            let fix = "somebody else writes that column; ours is written over it with the next score";
            self.found(Finding::new(about, Verdict::Warning, says).fix(fix));
        }
    }
}
