//! The last things that happened to models and the last things that people asked for, for whoever looks: what, why, who.
//!
//! The log and the audit lines are what lasts; this is the end of them, in memory, since the start. A version that begins to
//! serve because somebody promoted it is entered under their name.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use scoreline_domain::privacy::audit::{self, Actor, AuditAction, AuditOutcome};
use scoreline_domain::time::Timestamp;
use scoreline_engine::inference::registry::RegistryEvent;

/// Entries that are kept.
const MOST: usize = 50;
/// Who changes what serves when nobody asked for it.
const FOLDER: &str = "models folder";

thread_local! {
    /// Who asked for the change that this thread makes.
    static ACTING: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<VecDeque<JournalEntry>>>);

/// What kind of an entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalKind {
    /// A version began to serve.
    Serves,
    /// A version is tried beside the serving one.
    Trial,
    /// A version was refused.
    Refused,
    /// A version answers too differently and is held.
    Held,
    /// A version does not take over, or is not there.
    NotServing,
    /// Somebody asked for something.
    Asked(AuditAction, AuditOutcome),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub at: Timestamp,
    pub kind: JournalKind,
    /// The model and version, or what was acted on.
    pub object: String,
    pub reason: String,
    pub who: Arc<str>,
}

impl Journal {
    /// Enters what happened to a model.
    pub fn happened(&self, at: Timestamp, event: &RegistryEvent) {
        let (kind, model, version, reason) = match event {
            RegistryEvent::Published { model, version, .. } => (JournalKind::Serves, model, version, String::new()),
            RegistryEvent::Trial { model, version, mode, .. } => {
                (JournalKind::Trial, model, version, (*mode).to_owned())
            }
            RegistryEvent::Refused { model, version, code, reason } => {
                (JournalKind::Refused, model, version, format!("{code}: {reason}"))
            }
            RegistryEvent::Held { model, version, reason } => (JournalKind::Held, model, version, reason.clone()),
            RegistryEvent::Behind { model, version, reason } => {
                (JournalKind::NotServing, model, version, reason.clone())
            }
            RegistryEvent::Missing { model, version, key, known } => {
                (JournalKind::NotServing, model, version, format!("{key} names it; there are: {known}"))
            }
        };
        let who = ACTING.with_borrow(Clone::clone).unwrap_or_else(|| FOLDER.into());
        self.push(JournalEntry { at, kind, object: format!("{model} {version}"), reason, who });
    }

    /// Enters what somebody asked for, and writes its audit line.
    pub fn asked(
        &self,
        at: Timestamp,
        actor: &Actor,
        action: AuditAction,
        object: &str,
        outcome: AuditOutcome,
        request_id: &str,
    ) {
        audit::record(actor, action, object, outcome, request_id);
        let kind = JournalKind::Asked(action, outcome);
        let who = actor.as_str().into();
        self.push(JournalEntry { at, kind, object: object.to_owned(), reason: String::new(), who });
    }

    /// Newest first.
    pub fn entries(&self) -> Vec<JournalEntry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    fn push(&self, entry: JournalEntry) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.pop_front();
        }
        entries.push_back(entry);
    }
}

/// Makes a change that somebody asked for: what happens to models meanwhile on this thread is entered under their name.
pub fn acting<T>(actor: &Actor, change: impl FnOnce() -> T) -> T {
    ACTING.set(Some(actor.as_str().into()));
    let made = change();
    ACTING.set(None);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline_domain::{ModelName, ModelVersion};

    fn published(version: &str) -> RegistryEvent {
        RegistryEvent::Published {
            model: ModelName::parse("clv").expect("a name"),
            version: ModelVersion::parse(version).expect("a version"),
            digest: "00".to_owned(),
        }
    }

    #[test]
    fn a_change_is_entered_under_the_name_of_who_asked_for_it() {
        let journal = Journal::default();
        let at = Timestamp::UNIX_EPOCH;
        journal.happened(at, &published("v1.2"));
        acting(&Actor::named("ann"), || journal.happened(at, &published("v1.3")));
        journal.happened(at, &published("v1.4"));
        let told: Vec<_> = journal.entries().into_iter().map(|entry| (entry.object, entry.who)).collect();
        let expected = [("clv v1.4", FOLDER), ("clv v1.3", "ann"), ("clv v1.2", FOLDER)];
        assert_eq!(told, expected.map(|(object, who)| (object.to_owned(), Arc::from(who))));
    }

    #[test]
    fn the_newest_fifty_are_kept() {
        let journal = Journal::default();
        for number in 0..60 {
            journal.happened(Timestamp::UNIX_EPOCH, &published(&format!("v{number}")));
        }
        let entries = journal.entries();
        assert_eq!(
            (entries.len(), entries[0].object.as_str(), entries[49].object.as_str()),
            (50, "clv v59", "clv v10")
        );
    }
}
