//! The names of what monitoring measures, with their meaning. They are what dashboards and alert rules are written on:
//! stable.

use metrics::{describe_counter, describe_gauge, gauge};

use super::drift::Subject;
use super::quality::{Calibrated, Quality, Share};
use scoreline_domain::{ModelName, ModelVersion};

/// Tells the recorder what the metrics mean; it shows that as their help text.
pub fn describe() {
    for (name, meaning) in [
        ("scoreline_feature_psi", "Population stability index of a feature over the last complete drift window."),
        ("scoreline_feature_psi_limit", "What the index of the feature has to exceed in two windows in a row."),
        ("scoreline_feature_psi_alarm", "1 while the drift alarm of the feature is raised."),
        ("scoreline_score_psi", "Population stability index of the score over the last complete drift window."),
        ("scoreline_score_psi_limit", "What the index of the score has to exceed in two windows in a row."),
        ("scoreline_score_psi_alarm", "1 while the drift alarm of the score is raised."),
        ("scoreline_drift_window_rows", "Scored rows of the last complete drift window."),
        ("scoreline_outcome_window", "Matured outcomes that the quality gauges are over."),
        ("scoreline_observed_coverage", "Share of customers whose spend lay in their prediction interval."),
        ("scoreline_observed_coverage_low", "Lower 95 % bound of the observed coverage."),
        ("scoreline_observed_coverage_high", "Upper 95 % bound of the observed coverage."),
        ("scoreline_observed_coverage_outcomes", "Outcomes behind the observed coverage."),
        ("scoreline_predicted_to_actual_ratio", "Predicted over actual total spend."),
        ("scoreline_no_purchase_share", "Share of customers without any spend."),
        ("scoreline_calibration_error", "Expected calibration error of a probability, ten bins of equal mass."),
        ("scoreline_calibration_predicted", "Mean of a predicted probability."),
        ("scoreline_calibration_observed", "Share of customers it came true for."),
        ("scoreline_tier_hit_share", "Share of customers of an assigned tier whose spend was in it."),
        ("scoreline_routing_earned_usd", "Mean spend of customers routed by value minus that of the control group."),
        ("scoreline_routing_earned_low_usd", "Lower 95 % bound of what routing by value earns a customer."),
        ("scoreline_routing_earned_high_usd", "Upper 95 % bound of what routing by value earns a customer."),
        ("scoreline_ledger_predictions", "Recorded predictions waiting for their outcome."),
    ] {
        describe_gauge!(name, meaning);
    }
    describe_counter!("scoreline_outcomes_total", "Reported outcomes by what became of them.");
    describe_counter!("scoreline_predictions_recorded_total", "Predictions recorded for their outcome.");
    describe_counter!("scoreline_predictions_not_recorded_total", "Predictions that could not be recorded, by reason.");
}

/// Sets the gauges of one column of a model. Not a number: there is no complete window yet.
pub fn set_drift(model: &ModelName, subject: &Subject, value: f64, limit: f64, alarm: bool) {
    let model = model.to_string();
    let alarm = if alarm { 1.0 } else { 0.0 };
    match subject {
        Subject::Feature(name) => {
            let labels = [("model", model), ("feature", name.clone())];
            gauge!("scoreline_feature_psi", &labels).set(value);
            gauge!("scoreline_feature_psi_limit", &labels).set(limit);
            gauge!("scoreline_feature_psi_alarm", &labels).set(alarm);
        }
        Subject::Score => {
            let labels = [("model", model)];
            gauge!("scoreline_score_psi", &labels).set(value);
            gauge!("scoreline_score_psi_limit", &labels).set(limit);
            gauge!("scoreline_score_psi_alarm", &labels).set(alarm);
        }
    }
}

/// Sets the gauge of the rows of a model's last complete window.
pub fn set_window_rows(model: &ModelName, rows: u64) {
    gauge!("scoreline_drift_window_rows", "model" => model.to_string()).set(rows as f64);
}

/// Sets the gauges of how the answers of a model version turned out. What `before` said and nothing says now is not a
/// number: nobody takes it for today's.
pub fn set_quality(model: &ModelName, version: &ModelVersion, quality: &Quality, before: Option<&Quality>) {
    let own = [("model", model.to_string()), ("version", version.to_string())];
    let with = |name: &'static str, value: String| own.iter().cloned().chain([(name, value)]).collect::<Vec<_>>();
    let unknown = Share { n: 0, share: f64::NAN, low: f64::NAN, high: f64::NAN };
    let is_some = quality.outcomes > 0;
    gauge!("scoreline_outcome_window", &own).set(quality.outcomes as f64);
    let old = before.iter().flat_map(|before| &before.coverage).map(|(level, _)| (*level, unknown));
    for (level, Share { n, share, low, high }) in old.chain(quality.coverage.iter().copied()) {
        let labels = with("level", level.to_string());
        gauge!("scoreline_observed_coverage", &labels).set(share);
        gauge!("scoreline_observed_coverage_low", &labels).set(low);
        gauge!("scoreline_observed_coverage_high", &labels).set(high);
        gauge!("scoreline_observed_coverage_outcomes", &labels).set(n as f64);
    }
    if let Some(ratio) = quality.total_ratio.or(before.and_then(|before| before.total_ratio).map(|_| f64::NAN)) {
        gauge!("scoreline_predicted_to_actual_ratio", &own).set(ratio);
    }
    gauge!("scoreline_no_purchase_share", &own).set(if is_some { quality.no_purchase.share } else { f64::NAN });
    let nothing = Calibrated { n: 0, mean: f64::NAN, observed: f64::NAN, error: f64::NAN };
    let old = |of: fn(&Quality) -> Option<Calibrated>| before.and_then(of).map(|_| nothing);
    for (name, found) in [
        ("risk", quality.risk.or(old(|before| before.risk))),
        ("confidence", quality.confidence.or(old(|before| before.confidence))),
        ("tier_probability", quality.tier_probability.or(old(|before| before.tier_probability))),
    ] {
        let Some(Calibrated { mean, observed, error, .. }) = found else { continue };
        let labels = with("output", name.to_owned());
        gauge!("scoreline_calibration_error", &labels).set(error);
        gauge!("scoreline_calibration_predicted", &labels).set(mean);
        gauge!("scoreline_calibration_observed", &labels).set(observed);
    }
    if quality.earned.is_some() || before.is_some_and(|before| before.earned.is_some()) {
        let earned = quality.earned.map_or([f64::NAN; 3], |earned| [earned.difference, earned.low, earned.high]);
        gauge!("scoreline_routing_earned_usd", &own).set(earned[0]);
        gauge!("scoreline_routing_earned_low_usd", &own).set(earned[1]);
        gauge!("scoreline_routing_earned_high_usd", &own).set(earned[2]);
    }
    let old = before.iter().flat_map(|before| &before.tiers).map(|(tier, _)| (*tier, unknown));
    for (tier, share) in old.chain(quality.tiers.iter().copied()) {
        gauge!("scoreline_tier_hit_share", &with("tier", tier.to_string())).set(share.share);
    }
}
