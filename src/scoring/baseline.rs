//! Baselines: the answer for a customer the model cannot score. A table look-up in the snapshot, no I/O.

use scoreline_domain::Probability;
use scoreline_engine::inference::bundle::ModelSnapshot;
use scoreline_engine::inference::manifest::Baseline;

/// What is known about a customer beside features.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KnownLabels<'a> {
    /// Acquisition channel of a customer, source of a lead.
    pub channel: Option<&'a str>,
    pub segment: Option<&'a str>,
}

/// The table a baseline came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Segment,
    Channel,
    Neutral,
}

/// A baseline with the place it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundBaseline<'s> {
    pub baseline: &'s Baseline,
    pub level: Level,
    /// The table's own name of the entry, empty for neutral.
    pub name: &'s str,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Channel => "channel",
            Self::Neutral => super::NEUTRAL,
        }
    }
}

const NOTHING: Baseline = Baseline {
    value: 0.0,
    low: 0.0,
    high: 0.0,
    risk: Probability::ZERO,
    tier_share: [Probability::ZERO; 3],
    n: 0,
    weight: 0.0,
};

/// For a customer without history: acquisition channel, then segment, then neutral.
pub fn cold_start<'s>(snapshot: &'s ModelSnapshot, known: KnownLabels<'_>) -> FoundBaseline<'s> {
    channel(snapshot, known).or_else(|| segment(snapshot, known)).unwrap_or_else(|| neutral(snapshot))
}

/// For a customer the model failed on: segment, then acquisition channel, then neutral.
pub fn fallback<'s>(snapshot: &'s ModelSnapshot, known: KnownLabels<'_>) -> FoundBaseline<'s> {
    segment(snapshot, known).or_else(|| channel(snapshot, known)).unwrap_or_else(|| neutral(snapshot))
}

fn channel<'s>(snapshot: &'s ModelSnapshot, known: KnownLabels<'_>) -> Option<FoundBaseline<'s>> {
    let (name, baseline) = snapshot.manifest().baselines.channel.get_key_value(known.channel?)?;
    Some(FoundBaseline { baseline, level: Level::Channel, name })
}

fn segment<'s>(snapshot: &'s ModelSnapshot, known: KnownLabels<'_>) -> Option<FoundBaseline<'s>> {
    let (name, baseline) = snapshot.manifest().baselines.segment.get_key_value(known.segment?)?;
    Some(FoundBaseline { baseline, level: Level::Segment, name })
}

fn neutral(snapshot: &ModelSnapshot) -> FoundBaseline<'_> {
    // A `clv` snapshot is not built without one.
    let baseline = snapshot.manifest().neutral.as_ref().unwrap_or(&NOTHING);
    FoundBaseline { baseline, level: Level::Neutral, name: "" }
}
