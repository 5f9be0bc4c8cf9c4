//! The section `[models]`: where bundles are, which versions serve, which are on trial.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::value::Value;

use super::layers::Reader;
use super::settings::ModelSettings;
use super::value::{Setting as _, quoted, written};
use crate::domain::{ModelName, ModelVersion};
use crate::inference::registry::{CandidateMode, CandidateSettings};

/// Tables with a model's name as the key.
pub(super) const FREE_TABLES: [&str; 2] = [PINS, CANDIDATES];
const PINS: &str = "models.pins";
const CANDIDATES: &str = "models.candidates";

pub(super) fn read(read: &mut Reader) -> ModelSettings {
    let dir: PathBuf = read.get("models.dir");
    let clv_model: ModelName = read.get("models.clv_model");
    let lead_model: ModelName = read.get("models.lead_model");
    let strict_version: bool = read.get("models.strict_version");
    let pins = by_model(read, PINS, |value| {
        let got = || format!("must be a version in quotes, such as \"v1.2\", got `{}`", written(value));
        let version = value.as_str().ok_or_else(got)?;
        let version = ModelVersion::parse(version).map_err(|err| format!("can not be used: {err}"))?;
        let rendered = quoted(version.as_str());
        Ok((version, rendered))
    });
    let candidates = by_model(read, CANDIDATES, candidate);
    for (model, candidate) in &candidates {
        if pins.get(model) == Some(&candidate.version) {
            let message = format!("`{}` is what `{PINS}.{model}` serves: try another version", candidate.version);
            read.problem(&format!("{CANDIDATES}.{model}"), message);
        }
    }
    ModelSettings { dir, clv_model, lead_model, pins, candidates, strict_version }
}

/// Reads a table of models; `parse` gives the value and how it is written, or what is wrong with it.
fn by_model<T>(
    read: &mut Reader,
    table: &str,
    parse: impl Fn(&Value) -> Result<(T, String), String>,
) -> BTreeMap<ModelName, T> {
    let mut found = BTreeMap::new();
    for (name, value) in read.pairs(table) {
        let key = format!("{table}.{name}");
        let model = ModelName::parse(&name).map_err(|err| format!("can not be used: {err}"));
        match model.and_then(|model| Ok((model, parse(&value)?))) {
            Ok((model, (value, rendered))) => {
                read.note(&key, Some(rendered));
                found.insert(model, value);
            }
            Err(message) => read.problem(&key, message),
        }
    }
    found
}

fn candidate(value: &Value) -> Result<(CandidateSettings, String), String> {
    const ALLOWED: &str = "must be `{ version = \"v1.3\", mode = \"shadow\" }` or \
                           `{ version = \"v1.3\", mode = \"canary\", share = 0.05 }`";
    let Value::Dict(_, table) = value else { return Err(format!("{ALLOWED}, got `{}`", written(value))) };
    if let Some(key) = table.keys().find(|key| !["version", "mode", "share"].contains(&key.as_str())) {
        return Err(format!("{ALLOWED}, got a key `{key}`"));
    }
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let version = text("version").ok_or_else(|| format!("{ALLOWED}: `version` is missing or no text"))?;
    let version = ModelVersion::parse(version).map_err(|err| format!("can not be used: {err}"))?;
    let mode = match (text("mode"), table.get("share")) {
        (Some("shadow"), None) => CandidateMode::Shadow,
        (Some("shadow"), Some(_)) => return Err("has a `share`, which only `mode = \"canary\"` takes".to_owned()),
        (Some("canary"), share) => {
            let share = share.and_then(f64::read).filter(|share| *share > 0.0 && *share <= 1.0);
            let share = share.ok_or("needs a `share` above 0 and at most 1 for `mode = \"canary\"`")?;
            CandidateMode::Canary { share }
        }
        (Some(other), _) => return Err(format!("`mode` must be `shadow` or `canary`, got `{other}`")),
        (None, _) => return Err(format!("{ALLOWED}: `mode` is missing or no text")),
    };
    let share = match mode {
        CandidateMode::Shadow => String::new(),
        CandidateMode::Canary { share } => format!(", share = {}", share.render()),
    };
    let rendered = format!("{{ version = {}, mode = {}{share} }}", quoted(version.as_str()), quoted(mode.as_str()));
    Ok((CandidateSettings { version, mode }, rendered))
}
