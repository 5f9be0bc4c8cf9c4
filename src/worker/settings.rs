//! When jobs run and what they may use. Checked in `config`.

use std::time::Duration;

use crate::sinks::FileSettings;

/// The extraction of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtractSettings {
    pub every: Duration,
    pub jitter: Duration,
    /// How far back the first run goes.
    pub look_back_days: u32,
}

/// What is looked at beside new history: time that passes, models that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpkeepSettings {
    pub features_every: Duration,
    pub rescore_every: Duration,
}

/// Where scores go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkSettings {
    None,
    /// The customer's profile on the platform.
    Profile,
    File(FileSettings),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBackSettings {
    pub sink: SinkSettings,
    pub every: Duration,
    /// Updates that are claimed and written at a time.
    pub batch: u32,
    /// How long a write that fails is tried again.
    pub give_up_after: Duration,
}

/// Where scores of leads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadTargets {
    None,
    /// Columns of the platform's contact lists.
    ContactLists,
    /// The guides' entity `LeadScore`.
    Entity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushSettings {
    pub sink: LeadTargets,
    /// How often is looked what is due.
    pub every: Duration,
    /// Leads of a request, at most.
    pub batch: u32,
    /// After how long a list is asked again for a contact that it had not.
    pub absent_retry: Duration,
    /// How long a write is tried of which nobody knows what became.
    pub give_up_after: Duration,
}
