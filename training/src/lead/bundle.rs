//! From a fitted lead model to a bundle: reference population, baselines by contact, measured quality, golden rows.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use scoreline::packing::assemble::Staged;
use scoreline::packing::drift;
use scoreline::packing::statistics::round;
use scoreline::packing::weights;
use scoreline::scoring::golden;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelName, ModelVersion, Probability};
use scoreline_engine::inference::bundle::{
    GoldenAnswer, GoldenRequest, GoldenRow, GoldenValue, ModelSnapshot, sha256_hex,
};
use scoreline_engine::inference::manifest::{
    BUNDLE_VERSION, BackendKind, Baselines, LeadTable, Luck, Manifest, Output, Outputs, ScoreReference, SourceBaseline,
    Task, TrainingSummary,
};

use super::data::Leads;
use super::evaluate::Figures;
use super::recipe::{CATEGORIES, ECONOMY, Fitted, NUMBERS};

/// The column whose entries stand in for a lead's source: how the bank reaches the lead is the one column that is known
/// of somebody about whom nothing else is.
const SOURCE: &str = "contact";
/// Golden rows spread over the places.
const GOLDEN_ROWS: usize = 16;

/// What a bundle says about itself.
pub(super) struct About {
    pub version: ModelVersion,
    pub trained_at: Timestamp,
    pub description: String,
    pub population: String,
    pub data: String,
    pub licence: String,
    pub command: String,
    pub protocol: String,
    pub allowed: BTreeMap<String, String>,
}

pub(super) fn name() -> anyhow::Result<ModelName> {
    Ok(ModelName::parse("lead")?)
}

/// The leads whose probabilities become the reference: none of them from a model that had seen the lead.
pub(super) struct Population<'a> {
    pub leads: &'a Leads,
    pub rows: &'a [usize],
    /// One for each of the rows.
    pub said: &'a [f64],
    /// How many rows the model was fitted on.
    pub fitted: usize,
}

/// Builds the bundle of a model; `figures` come with the beginning of their names.
pub(super) fn stage(
    about: About,
    fitted: &Fitted,
    Population { leads, rows, said, fitted: fitted_rows }: &Population<'_>,
    figures: &[(&str, &Figures)],
    models: &Path,
    replace: bool,
) -> anyhow::Result<Staged> {
    let model = fitted.model.write();
    let happened = leads.outcomes(rows);
    let share = happened.iter().filter(|happened| **happened).count() as f64 / rows.len() as f64;
    let probability = |p: f64| Probability::clamped(round(p)).context("a share is a number");
    let metrics = figures.iter().flat_map(|(prefix, figures)| {
        let named = [
            ("auc", figures.auc),
            ("auc_within_a_day", figures.auc_within),
            ("alift", figures.alift),
            ("log_loss", figures.log_loss),
            ("ece", figures.ece),
        ];
        named.map(|(name, value)| (format!("{prefix}_{name}"), round(value)))
    });
    let luck = figures.iter().map(|(prefix, figures)| {
        let Luck { mean, low, high } = figures.ece_luck;
        (format!("{prefix}_ece"), Luck { mean: round(mean), low: round(low), high: round(high) })
    });
    let manifest = Manifest {
        bundle_version: BUNDLE_VERSION,
        name: name()?,
        version: about.version,
        task: Task::Lead,
        backend: BackendKind::Linear,
        file: "model.json".to_owned(),
        sha256: sha256_hex(&model),
        trained_at: about.trained_at,
        horizon_days: None,
        inherited_from: None,
        description: about.description,
        cold_start_feature: None,
        information: Vec::new(),
        standardize: false,
        outputs: Outputs { probability: Some(Output::Name("probability".to_owned())), ..Outputs::default() },
        tiers: None,
        neutral: None,
        lead: Some(LeadTable {
            population: about.population,
            rows: u32::try_from(rows.len())?,
            made_at: about.trained_at,
            base_rate: probability(share)?,
            reference: ScoreReference::of(&said.iter().copied().map(round).collect::<Vec<_>>())
                .context("a reference")?,
            sources: sources(leads, rows, share)?,
        }),
        interval: None,
        training: TrainingSummary {
            data: about.data,
            licence: about.licence,
            command: about.command,
            allowed: about.allowed,
            protocol: about.protocol,
            rows: u32::try_from(*fitted_rows)?,
            metrics: metrics.collect(),
            luck: luck.collect(),
            ..TrainingSummary::default()
        },
        baselines: Baselines::default(),
        features: fitted.schema.rules().to_vec(),
        derived: fitted.schema.derived().to_vec(),
        drift: Some(drift::reference(u32::try_from(*fitted_rows)?, said)?),
    };
    let staged = Staged::begin(manifest, &model, models, replace)?;
    let snapshot = staged.save()?;
    staged.write_golden(&golden_rows(&snapshot, leads, rows, said)?)?;
    golden::verify(&staged.save()?)?;
    Ok(staged)
}

/// Conversion by source, shrunk towards all leads: beta-binomial, the spread of the true shares by moments.
fn sources(leads: &Leads, rows: &[usize], share: f64) -> anyhow::Result<BTreeMap<String, SourceBaseline>> {
    let texts = &leads.texts[CATEGORIES.iter().position(|name| *name == SOURCE).context("a column")?];
    let mut groups = BTreeMap::<&str, (usize, usize)>::new();
    for &row in rows {
        let group = groups.entry(texts.text(row)).or_default();
        *group = (group.0 + 1, group.1 + usize::from(leads.converted[row]));
    }
    let sizes: Vec<_> = groups.values().map(|(n, converted)| (*n, *converted as f64 / *n as f64)).collect();
    let weights = weights(&sizes, share * (1.0 - share));
    groups
        .into_keys()
        .zip(sizes)
        .zip(weights)
        .map(|((name, (n, own)), weight)| {
            let probability = Probability::clamped(round(weight * own + (1.0 - weight) * share)).context("a share")?;
            Ok((name.to_owned(), SourceBaseline { probability, n: u32::try_from(n)?, weight: round(weight) }))
        })
        .collect()
}

/// Leads from the lowest to the highest probability, one without its categories, one with a category nobody knows, one
/// without the economy, one of a contact longer ago than any.
fn golden_rows(snapshot: &ModelSnapshot, leads: &Leads, rows: &[usize], said: &[f64]) -> anyhow::Result<Vec<u8>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| said[*a].total_cmp(&said[*b]));
    let request = |row: usize| {
        let numbers = NUMBERS.iter().zip(&leads.numbers);
        let numbers = numbers.map(|(name, column)| ((*name).to_owned(), Some(GoldenValue::Number(column[row]))));
        let texts = CATEGORIES.iter().zip(&leads.texts);
        let texts =
            texts.map(|(name, texts)| ((*name).to_owned(), Some(GoldenValue::Text(texts.text(row).to_owned()))));
        GoldenRequest { features: numbers.chain(texts).collect(), ..GoldenRequest::default() }
    };
    let picked = (0..GOLDEN_ROWS).map(|k| rows[order[k * (order.len() - 1) / (GOLDEN_ROWS - 1)]]);
    let mut requests: Vec<GoldenRequest> = picked.map(request).collect();
    let mut unknown = requests[0].clone();
    unknown.features.insert("job".to_owned(), Some(GoldenValue::Text("astronaut".to_owned())));
    let mut bare = requests[0].clone();
    bare.features.retain(|_, value| matches!(value, Some(GoldenValue::Number(_))));
    let mut brief = requests[GOLDEN_ROWS - 1].clone();
    brief.features.retain(|name, _| !NUMBERS[ECONOMY].contains(&name.as_str()));
    let mut long_ago = requests[GOLDEN_ROWS / 2].clone();
    long_ago.features.insert("pdays".to_owned(), Some(GoldenValue::Number(300.0)));
    requests.extend([unknown, bare, brief, long_ago]);
    let mut lines = Vec::new();
    for request in requests {
        let row = GoldenRow { request, expect: GoldenAnswer::default(), tolerance: 1e-9 };
        let answer = golden::answer(snapshot, &row).map_err(anyhow::Error::msg).context("golden row")?;
        serde_json::to_writer(&mut lines, &GoldenRow { expect: golden::expectation(&answer), ..row })?;
        lines.push(b'\n');
    }
    Ok(lines)
}
