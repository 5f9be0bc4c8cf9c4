//! The report of a customer-value run: from a staged bundle and its answers on the test rows to `ReportData`.

use scoreline_domain::Probability;
use scoreline_engine::inference::bundle::ModelSnapshot;
use scoreline_engine::inference::manifest::{Baseline, Calibration, Manifest};

use crate::packing::Trained;
use crate::packing::assemble::raw;
use crate::packing::html::data::{ComparedFigure, Drift, Figure, Goal, Importance, Predecessor, ReportData, Table};
use crate::packing::html::measured::{self, Tested};
use crate::packing::html::svg::{Unit, number};
use crate::packing::quality::{Judged, Quality};
use crate::packing::table::Row;

/// The goal for the whole at the 90 % level, and the least of every group.
const BAND: [f64; 2] = [0.885, 0.915];
const LEAST: f64 = 0.87;

/// What is measured.
struct Measure {
    /// In the metrics.
    key: &'static str,
    name: &'static str,
    /// In the comparison; empty where a model is not compared by it.
    short: &'static str,
    unit: Unit,
    goal: Option<Goal>,
}

const MEASURES: [Measure; 16] = [
    measure("normalized_gini", "normalized Gini", "Gini", Unit::Number, Some(Goal::AtLeast(0.703))),
    measure("spearman", "Spearman rank correlation", "Spearman", Unit::Number, None),
    measure("rmse_usd", "RMSE", "RMSE", Unit::Usd, None),
    measure("total_error", "error of the total", "total", Unit::Percent, Some(Goal::Between(-0.03, 0.03))),
    measure("decile_error", "mean error of a decile's mean", "deciles", Unit::Percent, Some(Goal::AtMost(0.06))),
    measure("risk_auc", "risk: AUC", "risk AUC", Unit::Number, Some(Goal::AtLeast(0.765))),
    measure("risk_ece", "risk: calibration error", "risk ECE", Unit::Number, Some(Goal::AtMost(0.015))),
    measure("confidence_ece", "confidence: calibration error", "", Unit::Number, Some(Goal::AtMost(0.015))),
    measure("confidence_mean", "confidence: mean", "", Unit::Number, None),
    measure("order_right", "order of tiers right, of pairs that differ", "", Unit::Percent, None),
    measure("tier_probability_ece", "tier probability: calibration error", "", Unit::Number, Some(Goal::AtMost(0.015))),
    measure("interval_coverage", "coverage of the interval", "coverage", Unit::Percent, Some(IN_BAND)),
    measure(
        "interval_coverage_top_decile",
        "coverage in the best tenth",
        "",
        Unit::Percent,
        Some(Goal::AtLeast(LEAST)),
    ),
    measure("interval_width_usd", "mean width of the interval", "", Unit::Usd, None),
    measure("interval_score", "interval score", "", Unit::Usd, Some(Goal::AtMost(240.0))),
    measure("mean_spend_usd", "mean spend", "", Unit::Usd, None),
];

const IN_BAND: Goal = Goal::Between(BAND[0], BAND[1]);

const fn measure(
    key: &'static str,
    name: &'static str,
    short: &'static str,
    unit: Unit,
    goal: Option<Goal>,
) -> Measure {
    Measure { key, name, short, unit, goal }
}

/// What the report needs of the rows: gathered while they are at hand.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Test rows.
    pub tested: Vec<Tested>,
    pub importance: Option<Importance>,
    /// As the bundle freezes it.
    pub drift: Vec<Drift>,
}

impl Evidence {
    /// From the finished bundle and judged customers, whose values are in its order of features.
    pub fn of(snapshot: &ModelSnapshot, judged: &[Judged<'_>]) -> anyhow::Result<Self> {
        let manifest = snapshot.manifest();
        let rows: Vec<&Row> = judged.iter().map(|one| one.row).collect();
        let importance = measured::importance(snapshot, &raw(snapshot.schema(), &rows, &[]))?;
        let features = manifest.features.iter();
        let drift =
            features.filter_map(|rule| rule.drift.as_ref().map(|bins| measured::drift(&rule.name, &rule.unit, bins)));
        let group_of = |row: &Row| {
            let known = manifest.interval.as_ref()?;
            let column = manifest.features.iter().position(|rule| rule.name == known.group_by)?;
            Some(group(known, row.values[column]))
        };
        let tested = judged.iter().map(|Judged { row, estimate, realised, bounds, .. }| Tested {
            actual: row.spend_usd,
            value: estimate.value,
            intervals: bounds.map_or(Vec::new(), |bounds| bounds.to_vec()),
            risk: estimate.risk.map(Probability::get),
            confidence: estimate.tier_probability.map(Probability::get),
            tier: estimate.tier,
            realised: *realised,
            group: group_of(row).unwrap_or_default(),
        });
        Ok(Self { importance, drift: drift.collect(), tested: tested.collect() })
    }
}

/// The report of a run.
pub fn report(trained: &Trained) -> ReportData {
    let Trained { staged, quality, leaks, evidence, checked: _ } = trained;
    let Manifest { name, version, training, tiers, .. } = &staged.manifest;
    let Evidence { tested, importance, drift } = evidence;
    let actual: Vec<f64> = tested.iter().map(|row| row.actual).collect();
    let value: Vec<f64> = tested.iter().map(|row| row.value).collect();
    let count = |n: usize| number(n as f64, 1.0, Unit::Number);
    let caution = if training.synthetic.is_empty() {
        String::new()
    } else {
        format!("Simulated in the data: {}.", training.synthetic.trim_end_matches('.'))
    };
    let facts = [
        ("command", training.command.clone()),
        ("trained at", staged.manifest.trained_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
        ("seed", training.seed.to_string()),
        ("data", training.data.clone()),
        ("licence", training.licence.clone()),
        ("fitted", format!("{} customers", count(training.rows as usize))),
        ("calibrated", format!("{} customers", count(training.calibration_rows as usize))),
        ("tested", format!("{} customers: {}", count(tested.len()), training.protocol)),
        ("horizon", staged.manifest.horizon_days.map_or(String::new(), |days| format!("{days} days"))),
        (
            "tiers",
            tiers.as_ref().map_or(String::new(), |tiers| {
                format!("Medium_Value from {}, High_Value from {}", usd(tiers.medium), usd(tiers.high))
            }),
        ),
        ("model file", format!("{}, SHA-256 {}", staged.manifest.file, staged.manifest.sha256)),
    ];
    ReportData {
        title: format!("{name} {version}"),
        description: staged.manifest.description.clone(),
        caution,
        facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        headline: quality.first().map(headline).unwrap_or_default(),
        before: staged.predecessor().zip(quality.first()).and_then(|(before, now)| predecessor(&before, now)),
        gain: Some(measured::gain("spend", &actual, &value)),
        deciles: measured::deciles(&actual, &value),
        coverage: staged
            .manifest
            .interval
            .as_ref()
            .map(|calibration| coverage(calibration, tested))
            .unwrap_or_default(),
        reliability: reliability(tested),
        importance: importance.clone(),
        histograms: widths(staged.manifest.interval.as_ref(), tested).into_iter().collect(),
        over_time: Vec::new(),
        tiers: Some(measured::tiers(tested)),
        tables: comparison(quality).into_iter().chain([baselines(&staged.manifest)]).collect(),
        drift: drift.clone(),
        leaks: Some(leaks.clone()),
    }
}

/// The name of the group that a value of the grouping feature falls in.
fn group(calibration: &Calibration, value: f64) -> String {
    let feature = &calibration.group_by;
    if value.is_nan() {
        return format!("{feature} unknown");
    }
    let after = calibration.groups.partition_point(|group| group.from <= value);
    let from = after.checked_sub(1).map_or(f64::NEG_INFINITY, |i| calibration.groups[i].from);
    match calibration.groups.get(after) {
        None => format!("{feature} {from} and more"),
        Some(next) if from.fract() == 0.0 && next.from == from + 1.0 => format!("{feature} {from}"),
        // Counts.
        Some(next) if from.fract() == 0.0 && next.from.fract() == 0.0 => {
            format!("{feature} {from} to {}", next.from - 1.0)
        }
        Some(next) => format!("{feature} {from} to below {}", next.from),
    }
}

fn headline(quality: &Quality) -> Vec<Figure> {
    let figures = MEASURES.iter().filter_map(|Measure { key, name, unit, goal, .. }| {
        let value = *quality.metrics.get(*key)?;
        let luck = quality.luck.get(*key).copied();
        // No model can be held to less than what luck does to a perfect one.
        let goal = match (goal, luck) {
            (Some(Goal::AtMost(_)), Some(luck)) => Some(Goal::AtMost(luck.high)),
            (goal, _) => *goal,
        };
        Some(Figure { name: (*name).to_owned(), value, unit: *unit, goal, luck })
    });
    figures.collect()
}

/// What both versions have measured.
fn predecessor(before: &Manifest, now: &Quality) -> Option<Predecessor> {
    let figures =
        headline(now).into_iter().zip(MEASURES.iter().filter(|measure| now.metrics.contains_key(measure.key)));
    let figures = figures.filter_map(|(figure, measure)| {
        Some(ComparedFigure { figure, before: *before.training.metrics.get(measure.key)? })
    });
    let figures: Vec<_> = figures.collect();
    (!figures.is_empty()).then(|| Predecessor { name: format!("{} {}", before.name, before.version), figures })
}

fn coverage(calibration: &Calibration, tested: &[Tested]) -> Vec<crate::packing::html::data::Coverage> {
    let levels = calibration.levels.iter().enumerate();
    // A row without one of the intervals would not line up with the levels.
    if tested.is_empty() || tested.iter().any(|row| row.intervals.len() != calibration.levels.len()) {
        return Vec::new();
    }
    let mut all: Vec<_> = levels.map(|(i, level)| measured::coverage(tested, i, *level)).collect();
    for one in all.iter_mut().filter(|one| (one.level - 0.9).abs() < 1e-9) {
        one.band = Some(BAND);
        one.least = Some(LEAST);
    }
    all
}

fn reliability(tested: &[Tested]) -> Vec<crate::packing::html::data::Reliability> {
    let mut found = Vec::new();
    if let Some(risk) = tested.iter().map(|row| row.risk).collect::<Option<Vec<_>>>() {
        let gone: Vec<bool> = tested.iter().map(|row| row.actual <= 0.0).collect();
        found.push(measured::reliability("Risk", "no purchase", &gone, &risk));
    }
    if let Some(sure) = tested.iter().map(|row| row.confidence).collect::<Option<Vec<_>>>() {
        let right: Vec<bool> = tested.iter().map(|row| row.tier == row.realised).collect();
        found.push(measured::reliability("Tier probability", "the assigned tier", &right, &sure));
    }
    found
}

fn widths(calibration: Option<&Calibration>, tested: &[Tested]) -> Option<crate::packing::html::data::Histogram> {
    let calibration = calibration?;
    let position = calibration.position(calibration.level)?;
    let widths = tested.iter().map(|row| row.intervals.get(position).map(|(low, high)| high - low));
    let widths = widths.collect::<Option<Vec<f64>>>()?;
    let level = number(calibration.level, 0.0, Unit::Percent);
    Some(measured::histogram(&format!("Width of the {level} interval"), "upper minus lower bound", Unit::Usd, &widths))
}

fn comparison(all: &[Quality]) -> Option<Table> {
    let named = all.iter().enumerate().map(|(i, quality)| {
        let label = if i == 0 { "this bundle".to_owned() } else { format!("this bundle, {}", quality.label) };
        (label.replace('_', " "), quality)
    });
    let all: Vec<_> = named.collect();
    let measures: Vec<_> = MEASURES.iter().filter(|measure| !measure.short.is_empty()).collect();
    let rows = all.iter().map(|(label, quality)| {
        let cells = measures.iter().map(|Measure { key, unit, .. }| {
            let step = if *unit == Unit::Usd { 0.1 } else { 0.001 };
            quality.metrics.get(*key).map_or("\u{2013}".to_owned(), |value| number(*value, step, *unit))
        });
        std::iter::once(label.clone()).chain(cells).collect()
    });
    let names = measures.iter().map(|measure| measure.short.to_owned());
    (all.len() > 1).then(|| Table {
        title: "Callers with less to say".to_owned(),
        note: "The same customers, described by fewer features.".to_owned(),
        header: std::iter::once("model".to_owned()).chain(names).collect(),
        rows: rows.collect(),
    })
}

fn baselines(manifest: &Manifest) -> Table {
    let row = |name: String, baseline: &Baseline| {
        let share = |share: Probability| number(share.get(), 0.01, Unit::Percent);
        let mut cells = vec![
            name,
            usd(baseline.value),
            format!("{} to {}", usd(baseline.low), usd(baseline.high)),
            share(baseline.risk),
        ];
        cells.extend(baseline.tier_share.map(share));
        cells.extend([number(f64::from(baseline.n), 1.0, Unit::Number), number(baseline.weight, 0.01, Unit::Number)]);
        cells
    };
    let tables = [("channel", &manifest.baselines.channel), ("segment", &manifest.baselines.segment)];
    let mut rows: Vec<_> = manifest.neutral.iter().map(|neutral| row("neutral".to_owned(), neutral)).collect();
    for (kind, table) in tables {
        rows.extend(table.iter().map(|(name, baseline)| row(format!("{kind} {name}"), baseline)));
    }
    let header = ["group", "value", "interval", "no purchase", "Low", "Medium", "High", "customers", "weight"];
    Table {
        title: "Baselines".to_owned(),
        note: manifest.baselines.note.clone(),
        header: header.map(str::to_owned).to_vec(),
        rows,
    }
}

fn usd(amount: f64) -> String {
    number(amount, 0.01, Unit::Usd)
}
