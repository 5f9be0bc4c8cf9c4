//! What a run shows: progress on standard error, figures on standard output.

use std::borrow::Cow;
use std::fmt::Write as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::packing::Trained;
use crate::packing::calibrate::{LEVEL, LEVELS};
use crate::packing::pack::CORE_LABEL;
use crate::packing::quality::{Quality, refuse_nonsense};
use scoreline_domain::Tier;
use scoreline_engine::inference::manifest::Luck;

/// The steps of a run. Silent when standard error is not a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    pub fn step(&self, what: impl Into<Cow<'static, str>>) {
        if !self.0.message().is_empty() {
            self.0.inc(1);
        }
        self.0.set_message(what);
    }

    /// Changes what a step is about, without ending it.
    pub fn say(&self, what: String) {
        self.0.set_message(what);
    }

    pub fn done(&self) {
        self.0.finish_and_clear();
    }
}

/// What a bundle measured on customers it had not seen, for people.
///
/// # Errors
/// When the text cannot be formatted.
pub fn text(trained: &Trained) -> anyhow::Result<String> {
    let Trained { staged, quality: qualities, leaks: _, evidence: _, checked } = trained;
    let manifest = &staged.manifest;
    let training = &manifest.training;
    let tiers = manifest.tiers.as_ref().map_or((f64::NAN, f64::NAN), |tiers| (tiers.medium, tiers.high));
    let mut text = String::new();
    let tested = qualities.first().and_then(|whole| whole.metrics.get("customers")).copied().unwrap_or(0.0);
    writeln!(
        text,
        "{} {}: {} customers fitted, {} calibrated, {tested} tested; tiers from {} and {} USD",
        manifest.name, manifest.version, training.rows, training.calibration_rows, tiers.0, tiers.1
    )?;
    if !training.protocol.is_empty() {
        writeln!(text, "measured by {}", training.protocol)?;
    }
    if let Some(hysteresis) = manifest.tiers.as_ref().and_then(|tiers| tiers.hysteresis) {
        let limits = [(tiers.0, hysteresis.medium), (tiers.1, hysteresis.high)];
        for (limit, band) in limits {
            let (fall, rise) = (limit * band.fall, limit * band.rise);
            writeln!(text, "a customer rises over {limit} USD at {rise:.2} and falls under it at {fall:.2}")?;
        }
    }
    for worth in staged.load()?.tier_worth() {
        writeln!(text, "tiers of customers by {}:", worth.information)?;
        let limits = [0.0, worth.limits.medium, worth.limits.high];
        for ((tier, of), from) in Tier::ALL.into_iter().zip(&worth.outcomes).zip(limits) {
            writeln!(
                text,
                "  {tier:12} from {from:7.2} USD: {:5.1} % of customers, {:5.1} % of dollars, said {:7.2}, spent {:7.2}, {:5.1} % spend",
                of.share * 100.0,
                of.dollars * 100.0,
                of.said,
                of.spent,
                (1.0 - of.zero) * 100.0
            )?;
        }
    }
    if let Some(checked) = checked {
        writeln!(text, "check: {checked}")?;
    }
    if !training.accepted.is_empty() {
        writeln!(text, "published all the same: {}", training.accepted)?;
    }
    if !training.synthetic.is_empty() {
        writeln!(text, "synthetic: {}", training.synthetic)?;
    }
    writeln!(text)?;
    let columns = [
        ("normalized_gini", "nGini"),
        ("total_error", "total"),
        ("decile_error", "decile"),
        ("rmse_usd", "RMSE"),
        ("spearman", "Spearman"),
        ("risk_auc", "risk AUC"),
        ("risk_ece", "risk ECE"),
        ("confidence_ece", "conf. ECE"),
        ("interval_coverage", "coverage"),
    ];
    write!(text, "{:30}", "")?;
    for (_, title) in columns {
        write!(text, "{title:>11}")?;
    }
    writeln!(text)?;
    for (i, quality) in qualities.iter().enumerate() {
        let label = if i == 0 { "this bundle" } else { &quality.label };
        write!(text, "{label:30}")?;
        for (key, _) in columns {
            match quality.metrics.get(key) {
                Some(value) if key == "rmse_usd" => write!(text, "{value:>11.1}")?,
                Some(value) if key == "total_error" => write!(text, "{:>+10.1}%", value * 100.0)?,
                Some(value) if key == "decile_error" => write!(text, "{:>10.1}%", value * 100.0)?,
                Some(value) => write!(text, "{value:>11.3}")?,
                None => write!(text, "{:>11}", "-")?,
            }
        }
        writeln!(text)?;
        text.push_str(&lucks(quality, &columns.map(|(key, _)| key))?);
    }
    writeln!(text)?;
    if let (Some(whole), Some(core)) = (qualities.first(), qualities.iter().find(|quality| quality.label == CORE_LABEL))
    {
        writeln!(text, "{}", loss(whole, core))?;
    }
    for quality in qualities {
        text.push_str(&intervals(quality)?);
        text.push_str(&badges(quality)?);
    }
    Ok(text)
}

/// Who carries the badge of a low confidence in each tier, and how often the order is right with it and without.
fn badges(quality: &Quality) -> anyhow::Result<String> {
    let mut text = String::new();
    let percent =
        |key: &str| quality.metrics.get(key).map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    for tier in Tier::ALL {
        let name = tier.as_str().to_lowercase();
        if quality.metrics.contains_key(&format!("badge_{name}")) {
            writeln!(
                text,
                "  {}: {} carry the badge; the order is right in {} of pairs with it, in {} without; at the best limit of the \
                 confidence {} apart",
                tier.as_str(),
                percent(&format!("badge_{name}")),
                percent(&format!("order_right_{name}_with_badge")),
                percent(&format!("order_right_{name}_without_badge")),
                percent(&format!("order_separable_{name}"))
            )?;
        }
    }
    Ok(text)
}

/// What intervals held, by group, and at the other levels.
fn intervals(quality: &Quality) -> anyhow::Result<String> {
    let mut text = String::new();
    let label = if quality.label.is_empty() { "this bundle" } else { &quality.label };
    let figure = |key: &str| quality.metrics.get(key).copied().unwrap_or(f64::NAN);
    let width = figure("interval_width_usd");
    write!(text, "interval of {label}: width {width:.1} USD, score {:.1}, coverage", figure("interval_score"))?;
    for (key, value) in &quality.metrics {
        if let Some(group) = key.strip_prefix("interval_coverage_").filter(|group| !group.starts_with("at_")) {
            write!(text, " {group} {value:.3}")?;
            if let Some(Luck { low, high, .. }) = quality.luck.get(key) {
                write!(text, " (by luck {low:.3} to {high:.3})")?;
            }
        }
    }
    writeln!(text)?;
    for level in LEVELS.iter().filter(|level| **level != LEVEL) {
        let coverage = figure(&format!("interval_coverage_at_{:.0}", level * 100.0));
        writeln!(text, "  at level {level}: coverage {coverage:.3}")?;
    }
    Ok(text)
}

/// What a perfect model shows on the same rows, below the figures of `columns`.
fn lucks(quality: &Quality, columns: &[&str]) -> anyhow::Result<String> {
    let mut text = String::new();
    for (place, label) in ["  a perfect model, mean", "    5 %", "    95 %"].into_iter().enumerate() {
        let mut line = format!("{label:30}");
        for key in columns {
            match quality.luck.get(*key).map(|luck| [luck.mean, luck.low, luck.high][place]) {
                Some(value) if *key == "decile_error" => write!(line, "{:>10.1}%", value * 100.0)?,
                Some(value) => write!(line, "{value:>11.3}")?,
                None => write!(line, "{:>11}", "")?,
            }
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(text)
}

/// What the model loses when callers send the documented request and no more.
fn loss(whole: &Quality, core: &Quality) -> String {
    let figures = |quality: &Quality| {
        let figure = |key: &str| quality.metrics.get(key).copied().unwrap_or(f64::NAN);
        (figure("normalized_gini"), figure("total_error") * 100.0)
    };
    let ((gini, total), (core_gini, core_total)) = (figures(whole), figures(core));
    let mut text = format!(
        "callers who send only the documented request's fields: nGini {core_gini:.3} instead of {gini:.3}, total error \
         {core_total:+.1} % instead of {total:+.1} %"
    );
    if refuse_nonsense(core, None).is_err() {
        text.push_str(
            "; such answers make no sense: let requests give the other features (`--required`), or fit the model on rows that \
             lack them",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(label: &str, gini: f64, total: f64) -> Quality {
        let metrics = [("customers", 9.0), ("normalized_gini", gini), ("total_error", total), ("decile_error", 0.1)];
        Quality {
            label: label.to_owned(),
            metrics: metrics.map(|(key, value)| (key.to_owned(), value)).into(),
            ..Quality::default()
        }
    }

    #[test]
    fn what_callers_of_the_documented_request_lose_is_said() {
        let whole = quality("", 0.76, 0.004);
        let said = loss(&whole, &quality(CORE_LABEL, 0.195, -0.1));
        assert!(said.ends_with("nGini 0.195 instead of 0.760, total error -10.0 % instead of +0.4 %"), "{said}");
        let said = loss(&whole, &quality(CORE_LABEL, 0.195, 1.5));
        assert!(said.contains("+150.0 %") && said.contains("such answers make no sense"), "{said}");
    }
}
