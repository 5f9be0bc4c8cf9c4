//! What administrators do, written down: who, what, on which object, with which outcome, under which request id. Never a
//! customer's id, never a secret.
//!
//! Lines have the tracing target `audit`, which no log filter silences; `telemetry` can send them to a file of their own.

use std::sync::Arc;

/// The tracing target of every line.
pub const TARGET: &str = "audit";

/// Who acted, by the name of a credential. Whoever verifies credentials puts it into the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(Arc<str>);

impl Actor {
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Nobody was asked who they are: the listener is for this machine, or something in front decides.
impl Default for Actor {
    fn default() -> Self {
        Self::named("local")
    }
}

/// What can be done. The words are stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditAction {
    EraseCustomer,
    RevealCustomers,
    PromoteModel,
    RollBackModel,
    FollowLatestModel,
    ReloadCredentials,
    RunJob,
    RetryWriteBack,
}

impl AuditAction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EraseCustomer => "customer.erase",
            Self::RevealCustomers => "customer.reveal",
            Self::PromoteModel => "model.promote",
            Self::RollBackModel => "model.rollback",
            Self::FollowLatestModel => "model.latest",
            Self::ReloadCredentials => "credentials.reload",
            Self::RunJob => "job.run",
            Self::RetryWriteBack => "write_back.retry",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditOutcome {
    Done,
    /// Not allowed, or not possible as asked.
    Refused,
    /// Begun, and not finished.
    Failed,
}

impl AuditOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Writes one line. `object` is the name of a model, version or file; of a customer, the word `customer`.
pub fn record(actor: &Actor, action: AuditAction, object: &str, outcome: AuditOutcome, request_id: &str) {
    tracing::info!(
        target: TARGET,
        who = actor.as_str(),
        action = action.as_str(),
        object,
        outcome = outcome.as_str(),
        request_id,
        "audit"
    );
}
