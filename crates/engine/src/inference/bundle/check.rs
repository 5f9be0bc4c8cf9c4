//! What a manifest must say, by task, before its model is looked at.

use super::error::BundleError;
use crate::features::drift::DriftBins;
use crate::inference::manifest::{
    BUNDLE_VERSION, Band, Bands, Baseline, Calibration, CalibrationMethod, DriftReference, Information, Manifest, Task,
    Tiers,
};

/// Checks a manifest on its own.
pub(super) fn check(manifest: &Manifest) -> Result<(), BundleError> {
    let field = |key, problem: String| Err(BundleError::Field { key, problem });
    if manifest.bundle_version != BUNDLE_VERSION {
        return field("bundle_version", format!("must be {BUNDLE_VERSION}, got `{}`", manifest.bundle_version));
    }
    match manifest.task {
        Task::Clv => check_clv(manifest),
        Task::Lead => check_lead(manifest),
    }
}

/// What a lead model must carry, and what of a customer's value makes no sense for it.
fn check_lead(manifest: &Manifest) -> Result<(), BundleError> {
    let field = |key, problem: &str| Err(BundleError::Field { key, problem: problem.to_owned() });
    let Some(lead) = &manifest.lead else {
        return field(
            "lead",
            "is required for a `lead` model: `reference`, `population`, `rows`, `made_at`, `base_rate`",
        );
    };
    let baselines = &manifest.baselines;
    for (key, is_there) in [
        ("tiers", manifest.tiers.is_some()),
        ("neutral", manifest.neutral.is_some()),
        ("interval", manifest.interval.is_some()),
        ("information", !manifest.information.is_empty()),
        ("baselines.channel", !baselines.channel.is_empty()),
        ("baselines.segment", !baselines.segment.is_empty()),
    ] {
        if is_there {
            return field(key, "is in dollars and makes no sense for a `lead` model: see `lead.sources`");
        }
    }
    if lead.sources.values().any(|source| !(0.0..=1.0).contains(&source.weight)) {
        return field("lead.sources", "must have weights from 0 to 1");
    }
    Ok(())
}

fn check_clv(manifest: &Manifest) -> Result<(), BundleError> {
    let field = |key, problem: String| Err(BundleError::Field { key, problem });
    let required = |key| BundleError::Field { key, problem: "is required for a `clv` model".to_owned() };
    if manifest.lead.is_some() {
        return field("lead", "makes no sense for a `clv` model".into());
    }
    manifest.horizon_days.ok_or_else(|| required("horizon_days"))?;
    let tiers = manifest.tiers.as_ref().ok_or_else(|| required("tiers"))?;
    let neutral = manifest.neutral.as_ref().ok_or_else(|| required("neutral"))?;
    check_tiers(tiers)?;
    for set in &manifest.information {
        check_information(manifest, set)?;
    }
    let baselines = &manifest.baselines;
    let tables = [("baselines.channel", &baselines.channel), ("baselines.segment", &baselines.segment)];
    for (key, table) in tables {
        if let Some((name, _)) = table.iter().find(|(_, baseline)| !is_ordered(baseline)) {
            return field(key, format!("entry `{name}` must have finite 0 <= low <= value <= high"));
        }
    }
    if !is_ordered(neutral) {
        return field("neutral", "must have finite 0 <= low <= value <= high".into());
    }
    if let Some(problem) = manifest.drift.as_ref().and_then(DriftReference::problem) {
        return field("drift", problem.to_owned());
    }
    let intervals = manifest.information.iter().filter_map(|set| set.interval.as_ref());
    for interval in manifest.interval.iter().chain(intervals) {
        interval.check().or_else(|(key, problem)| field(key, problem))?;
        let shaped = [&manifest.outputs.risk, &manifest.outputs.log_mean, &manifest.outputs.log_sigma];
        if interval.method == CalibrationMethod::Distribution && shaped.into_iter().any(Option::is_none) {
            let problem = "`distribution` needs the outputs `risk`, `log_mean` and `log_sigma`".to_owned();
            return field("interval.method", problem);
        }
    }
    Ok(())
}

fn check_tiers(tiers: &Tiers) -> Result<(), BundleError> {
    let field = |key, problem: &str| Err(BundleError::Field { key, problem: problem.to_owned() });
    if !(tiers.medium.is_finite() && tiers.high.is_finite() && 0.0 <= tiers.medium && tiers.medium <= tiers.high) {
        return field("tiers", "must have finite 0 <= medium <= high");
    }
    if let Some(hysteresis) = &tiers.hysteresis {
        let sound = |band: Band| (0.0..=1.0).contains(&band.fall) && band.rise >= 1.0 && band.rise.is_finite();
        if !(sound(hysteresis.medium) && sound(hysteresis.high)) {
            return field("tiers.hysteresis", "must have 0 <= fall <= 1 <= rise");
        }
    }
    for (key, odds) in [("tiers.below_medium", &tiers.below_medium), ("tiers.below_high", &tiers.below_high)] {
        if odds.is_some_and(|odds| !(odds.intercept.is_finite() && odds.slope.is_finite() && odds.slope > 0.0)) {
            return field(key, "must have a finite `intercept` and a `slope` > 0");
        }
    }
    if let Some(problem) = tiers.bands.as_ref().and_then(Bands::problem) {
        return field("tiers.bands", problem);
    }
    if !tiers.lost_without.values().all(|share| (0.0..=1.0).contains(share)) {
        return field("tiers.lost_without", "must have shares from 0 to 1");
    }
    Ok(())
}

/// A set is judged as the whole is: at the same levels, over as many bins.
fn check_information(manifest: &Manifest, set: &Information) -> Result<(), BundleError> {
    let Information { name, tiers, interval, score, .. } = set;
    let field = |key, problem: &str| Err(BundleError::Field { key, problem: format!("of `{name}` {problem}") });
    check_tiers(tiers)?;
    let levels = |interval: &Option<Calibration>| interval.as_ref().map(|interval| interval.levels.clone());
    if levels(interval) != levels(&manifest.interval) {
        return field("information.interval", "must have the `levels` of `interval`");
    }
    let bins = |score: Option<&DriftBins>| score.map(|bins| bins.edges.len());
    if bins(score.as_ref()) != bins(manifest.drift.as_ref().and_then(|drift| drift.score.as_ref())) {
        return field("information.score", "must have as many `edges` as `drift.score`");
    }
    match score.as_ref().and_then(DriftBins::problem) {
        Some(problem) => field("information.score", problem),
        None => Ok(()),
    }
}

fn is_ordered(baseline: &Baseline) -> bool {
    [0.0, baseline.low, baseline.value, baseline.high].is_sorted() && baseline.high.is_finite()
}
