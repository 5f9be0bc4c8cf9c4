//! What the platform does with a contact, tried on one of our own: made, written to, read, and taken out again. It cannot be
//! called in between, and no other contact is touched.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Doctor, Finding, Verdict};
use crate::GenesysError;
use crate::transport::{ApiOperation, HASTY, Method, ONE};

/// What the id of a probe's contact begins with.
const PREFIX: &str = "scoreline-probe-";
/// How often a job is looked at before it counts as too slow, and how long in between.
const LOOKS: u32 = 10;
const BETWEEN: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct ProbeContact {
    #[serde(default)]
    callable: Option<bool>,
    #[serde(default)]
    data: std::collections::HashMap<String, Value>,
}

#[derive(Deserialize)]
struct ProbeJob {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    state: Option<String>,
}

#[derive(Deserialize)]
struct ProbeSearch {
    #[serde(default)]
    entities: Vec<FoundId>,
}

#[derive(Deserialize)]
struct FoundId {
    id: String,
}

impl Doctor {
    pub(super) async fn probe(&mut self, list: &str) {
        let about = format!("probe {list}");
        self.take_out_earlier(&about, list).await;
        let id = format!("{PREFIX}{:016x}", fastrand::u64(..));
        // Before it is asked for: from then on it may be there.
        self.probed = Some((list.to_owned(), id.clone()));
        if let Err(err) = self.try_contact(&about, list, &id).await {
            self.missed(&about, "the probe's contact", &err);
        }
        self.take_out().await;
    }

    /// Takes the probe's contact out, whatever came of it.
    pub(super) async fn take_out(&mut self) {
        let Some((list, id)) = self.probed.take() else { return };
        let about = format!("probe {list}");
        match self.delete(&list, &id).await {
            Ok(()) => self.found(Finding::fine(&about, "the probe's contact is taken out again")),
            Err(err) => {
                let says = format!("the probe's contact `{id}` could not be taken out: {err}");
                let fix =
                    "take it out by hand; the permission is outbound:contact:delete. It cannot be called meanwhile";
                self.found(Finding::new(&about, Verdict::Wrong, says).fix(fix));
            }
        }
    }

    /// Takes out what a probe has left behind that was killed. A list that cannot be searched is a finding of what follows.
    async fn take_out_earlier(&mut self, about: &str, list: &str) {
        let lead = &self.settings.outbound.lead_column;
        let begins = json!({ "column": lead, "columnType": "alphabetic", "operator": "BEGINS_WITH", "value": PREFIX });
        let Ok(found) = self.search(list, &[begins], 100).await else { return };
        let ids = found.entities.into_iter().filter(|contact| contact.id.starts_with(PREFIX));
        let mut taken = 0;
        for contact in ids {
            taken += u32::from(self.delete(list, &contact.id).await.is_ok());
        }
        if taken > 0 {
            let says = format!("{taken} contacts of earlier probes were still there, and are taken out");
            self.found(Finding::new(about, Verdict::Warning, says));
        }
    }

    /// One that is not there is taken out, too.
    async fn delete(&self, list: &str, id: &str) -> Result<(), GenesysError> {
        let path = ["outbound", "contactlists", list, "contacts", id];
        match self.send(ApiOperation::LeadDelete, Method::DELETE, &path, &[], None, HASTY).await {
            Ok(_) | Err(GenesysError::Refused { status: 404, .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn try_contact(&mut self, about: &str, list: &str, id: &str) -> Result<(), GenesysError> {
        let columns = self.settings.outbound.clone();
        let now = self.clock.now();
        let old = now.checked_sub(Duration::from_hours(48)).unwrap_or(now);
        let (lead, score, time) = (&columns.lead_column, &columns.score_column, &columns.time_column);
        let written = format!("{old:.3}");
        let data = json!({ lead.as_str(): id, score.as_str(): "42", time.as_str(): written });
        let contact = json!([{ "id": id, "contactListId": list, "callable": false, "data": data }]);
        self.write(list, &contact).await?;
        let made = self.read(list, id).await?;
        let text = |contact: &ProbeContact, name: &str| {
            contact.data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let has_time = text(&made, time) == written;
        self.tell(
            about,
            text(&made, score) == "42",
            "a score is read as it was written",
            "a score is read otherwise than it was written",
        );
        self.tell(
            about,
            has_time,
            "a time is read as it was written",
            "a time is read otherwise than it was written: scores are compared less precisely",
        );
        let partial = json!([{ "id": id, "contactListId": list, "data": { score.as_str(): "43" } }]);
        self.write(list, &partial).await?;
        let after = self.read(list, id).await?;
        let keeps = text(&after, lead) == id && text(&after, time) == written;
        self.say_of_partial(about, keeps);
        if !keeps {
            // What follows finds the contact by its columns.
            self.write(list, &json!([{ "id": id, "contactListId": list, "data": data }])).await?;
        }
        if after.callable == Some(true) {
            let says = "a write without `callable` has opened a contact that was closed";
            self.found(
                Finding::new(about, Verdict::Wrong, says)
                    .fix("do not push to this list before the platform's support has explained it"),
            );
        } else {
            self.found(Finding::fine(about, "a contact that is closed stays closed"));
        }
        self.try_job(about, list, id).await?;
        self.try_relative_time(about, list, id).await
    }

    fn say_of_partial(&mut self, about: &str, keeps: bool) {
        let mode = self.settings.outbound.write.as_str();
        let finding = match (keeps, mode) {
            (true, "merge") => Finding::new(about, Verdict::Warning, "the platform keeps columns that are not sent")
                .fix("set `genesys.outbound.write = \"partial\"`: then no column of anybody else can be overwritten"),
            (true, _) => Finding::fine(about, "the platform keeps columns that are not sent, as `partial` needs"),
            (false, "merge") => {
                Finding::fine(about, "the platform empties columns that are not sent; `merge` sends them all")
            }
            (false, _) => Finding::new(about, Verdict::Wrong, "the platform empties columns that are not sent")
                .fix("set `genesys.outbound.write = \"merge\"`: `partial` destroys data here"),
        };
        self.found(finding);
    }

    /// The job that sweeps stale scores, over this one contact.
    async fn try_job(&mut self, about: &str, list: &str, id: &str) -> Result<(), GenesysError> {
        let columns = self.settings.outbound.clone();
        let (lead, score) = (&columns.lead_column, &columns.score_column);
        let edit = json!({
            "contactIds": [id],
            "contact": { "contactListId": list, "data": { score.as_str(): "44" } },
            "generateDownloadURI": false,
        });
        let path = ["outbound", "contactlists", list, "contacts", "bulk", "update"];
        let body = Some(edit.to_string().into_bytes());
        let answer = self.send(ApiOperation::LeadsSweep, Method::POST, &path, &[], body, ONE).await?;
        let mut job: ProbeJob = answer.json()?;
        let number = job.id.clone().unwrap_or_default();
        let path = ["outbound", "contactlists", list, "contacts", "bulk", "jobs", &number];
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            job = self.get(ApiOperation::SweepJob, &path, &[]).await?;
            if job.state.as_deref() != Some("InProgress") {
                break;
            }
        }
        let after = self.read(list, id).await?;
        let is = |name: &str, wanted: &str| after.data.get(name).and_then(Value::as_str) == Some(wanted);
        let works = job.state.as_deref() == Some("Complete") && is(score, "44") && is(lead, id);
        let no = "a job over contacts does not change one column alone: stale scores are written one by one instead";
        self.tell(about, works, "a job changes one column of a contact and keeps the rest", no);
        Ok(())
    }

    /// Whether criteria with a relative time find what they should, by a search, which changes nothing.
    async fn try_relative_time(&mut self, about: &str, list: &str, id: &str) -> Result<(), GenesysError> {
        let columns = &self.settings.outbound;
        let predicate = |column: &str, operator: &str, value: &str| json!({ "column": column, "columnType": "alphabetic", "operator": operator, "value": value });
        let predicates =
            [predicate(&columns.lead_column, "EQUALS", id), predicate(&columns.time_column, "BEFORE", "P-01DT00H00M")];
        let found = self.search(list, &predicates, 1).await?;
        let no =
            "\"older than a day\" does not find a contact of two days ago: stale scores cannot be swept by criteria";
        self.tell(about, found.entities.len() == 1, "\"older than a day\" finds a contact of two days ago", no);
        Ok(())
    }

    /// Contacts that all predicates hold for.
    async fn search(&self, list: &str, predicates: &[Value], most: u32) -> Result<ProbeSearch, GenesysError> {
        let search = json!({
            "pageNumber": 1,
            "pageSize": most,
            "criteria": { "filterType": "AND", "clauses": [{ "filterType": "AND", "predicates": predicates }] },
        });
        let path = ["outbound", "contactlists", list, "contacts", "search"];
        let body = Some(search.to_string().into_bytes());
        self.send(ApiOperation::LeadsSearch, Method::POST, &path, &[], body, HASTY).await?.json()
    }

    fn tell(&mut self, about: &str, works: bool, yes: &str, no: &str) {
        let verdict = if works { Verdict::Fine } else { Verdict::Warning };
        self.found(Finding::new(about, verdict, if works { yes } else { no }));
    }

    async fn write(&self, list: &str, contacts: &Value) -> Result<(), GenesysError> {
        let path = ["outbound", "contactlists", list, "contacts"];
        let query = [("doNotQueue", "true"), ("clearSystemData", "false")];
        let body = Some(contacts.to_string().into_bytes());
        self.send(ApiOperation::LeadsWrite, Method::POST, &path, &query, body, ONE).await.map(drop)
    }

    async fn read(&self, list: &str, id: &str) -> Result<ProbeContact, GenesysError> {
        self.get(ApiOperation::LeadsRead, &["outbound", "contactlists", list, "contacts", id], &[]).await
    }
}
