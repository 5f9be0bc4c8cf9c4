//! What the models that serve take, put into the document: the names, units and limits of their features, and which of them
//! are required.
//!
//! Limits are those of what is possible. A value outside of what training saw is answered with a warning, and so is a
//! category that the model does not know.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{of_task, reference};
use crate::scoring::Scorer;
use scoreline_domain::feature::{CATALOGUE, catalogued};
use scoreline_engine::features::FeatureRule;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::{Information, Task};

/// A task: its features' schema, and the requests that ask about it.
const TASKS: [(Task, &str, &[&str]); 2] = [
    (Task::Clv, "ClvFeatures", &["PredictRequest", "LaterRequest"]),
    (Task::Lead, "LeadFeatures", &["LeadRequest", "AskedLead"]),
];
/// What a question is about beside features: without either there is nothing to ask.
const WHOM: [&str; 2] = ["customerId", "leadId"];
/// Their data actions, which take features beside everything else.
const FLAT: [(Task, &str); 2] = [(Task::Clv, "FlatClvRequest"), (Task::Lead, "FlatLeadRequest")];

/// What is said of a model that serves.
pub(super) fn model(snapshot: &ModelSnapshot) -> Value {
    let manifest = snapshot.manifest();
    json!({
        "name": snapshot.name().as_str(),
        "version": snapshot.version().as_str(),
        "digest": snapshot.digest().to_string(),
        "task": manifest.task.as_str(),
    })
}

/// Adds the features of the models that serve, and says in requests which model takes which.
pub(super) fn put_in(schemas: &mut Map<String, Value>, serving: &[Arc<ModelSnapshot>], scorer: &Scorer) {
    for (task, name, requests) in TASKS {
        if !requests.iter().any(|request| schemas.contains_key(*request)) {
            continue;
        }
        let models = of_task(serving, task, scorer);
        let named = |(number, model): (usize, &&ModelSnapshot)| match number {
            0 => name.to_owned(),
            _ => format!("{name}.{}", model.name()),
        };
        let names: Vec<String> = models.iter().enumerate().map(named).collect();
        for (model, name) in models.iter().zip(&names) {
            schemas.insert(name.clone(), of_model(model));
        }
        if models.is_empty() {
            schemas.insert(name.to_owned(), of_no_model());
        }
        for request in requests {
            if let Some(request) = schemas.get_mut(*request) {
                ask_for(request, name, &models, &names);
            }
        }
    }
    for (task, request) in FLAT {
        if let (Some(model), Some(request)) = (of_task(serving, task, scorer).first(), schemas.get_mut(request)) {
            for rule in model.schema().rules() {
                request["properties"][scoreline_domain::template::input_name(&rule.name)] = flat(rule);
            }
        }
    }
}

/// Where no model serves, nobody knows what it will take.
fn of_no_model() -> Value {
    json!({"type": "object", "additionalProperties": {"type": ["number", "string", "null"]}})
}

/// The features of a model, and those that it passes over with a warning.
fn of_model(model: &ModelSnapshot) -> Value {
    let rules = model.schema().rules();
    let mut properties = Map::new();
    for feature in CATALOGUE.iter().filter(|feature| model.schema().position(feature.name).is_none()) {
        let meaning = format!("Not read by this model: {} ({})", feature.meaning, feature.unit);
        let mut passed_over = number(feature.lowest, feature.highest, feature.whole, false);
        passed_over["description"] = meaning.into();
        properties.insert(feature.name.to_owned(), passed_over);
    }
    for (position, rule) in rules.iter().enumerate() {
        let mut feature = of_rule(model, position, rule);
        feature["description"] = meaning(rule).into();
        properties.insert(rule.name.clone(), feature);
    }
    let mut features = json!({
        "type": "object",
        "description": format!("Features of {} {}.", model.name(), model.version()),
        "properties": properties,
        "additionalProperties": false,
    });
    let mut any = of_sets(model, &model.manifest().information);
    any.extend(of_new(model));
    match any.as_mut_slice() {
        [one] => features["required"] = one["required"].take(),
        _ => features["anyOf"] = any.into(),
    }
    features
}

/// Names of the required ones among the features that are read.
fn required(model: &ModelSnapshot, is_read: impl Fn(usize) -> bool) -> Value {
    let rules = model.schema().rules().iter().enumerate();
    rules.filter(|(position, rule)| rule.required && is_read(*position)).map(|(_, rule)| rule.name.as_str()).collect()
}

/// What is required of a customer of whom everything is known, and of those of each set: the first whose feature is lacking.
fn of_sets(model: &ModelSnapshot, sets: &[Information]) -> Vec<Value> {
    let given = |sets: &[Information]| sets.iter().map(|set| json!(set.lacks)).collect::<Vec<_>>();
    let and = |mut names: Vec<Value>, required: Value| {
        names.extend(required.as_array().into_iter().flatten().cloned());
        names.sort_by_key(ToString::to_string);
        names.dedup();
        names
    };
    let mut any = vec![needed("everything", &and(given(sets), required(model, |_| true)))];
    for (number, set) in sets.iter().enumerate() {
        let lacks: &str = &set.lacks;
        let names = and(given(&sets[..number]), required(model, |position| model.reads(Some(number), position)));
        let mut needed = needed(&set.name, &names);
        needed["properties"][lacks] = json!({"enum": [0, null]});
        any.push(needed);
    }
    any
}

/// Features that are there, and not null.
fn needed(title: &str, names: &[Value]) -> Value {
    let given = names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), json!({"not": {"type": "null"}})));
    let properties: Map<String, Value> = given.collect();
    json!({"title": title, "required": names, "properties": properties})
}

/// What is required of somebody without history: no more than that to be said.
fn of_new(model: &ModelSnapshot) -> Vec<Value> {
    let names: Vec<&str> = model.cold_start_features().collect();
    let of_feature = |number: usize| {
        let before = names[..number].iter().map(|name| ((*name).to_owned(), json!({"type": "null"})));
        let properties: Map<String, Value> = before.chain([(names[number].to_owned(), json!({"const": 0}))]).collect();
        json!({"title": "without history", "required": [names[number]], "properties": properties})
    };
    (0..names.len()).map(of_feature).collect()
}

fn of_rule(model: &ModelSnapshot, position: usize, rule: &FeatureRule) -> Value {
    if !rule.categories.is_empty() {
        let kind = if rule.required { json!("string") } else { json!(["string", "null"]) };
        return json!({"type": kind, "maxLength": 256, "examples": rule.categories});
    }
    let (lowest, highest, whole) = model.schema().possible(position);
    let is_needed =
        rule.required && model.manifest().information.is_empty() && model.cold_start_features().next().is_none();
    // A number that means never may stand outside.
    let (lowest, highest) = rule.never.map_or((lowest, highest), |never| (lowest.min(never), highest.max(never)));
    number(lowest, highest, whole, is_needed)
}

/// A number within what is possible.
fn number(lowest: f64, highest: f64, whole: bool, is_needed: bool) -> Value {
    let kind = if whole { "integer" } else { "number" };
    let mut schema = json!({"type": if is_needed { json!(kind) } else { json!([kind, "null"]) }});
    if lowest > f64::MIN {
        schema["minimum"] = json!(lowest);
    }
    if highest < f64::MAX {
        schema["maximum"] = json!(highest);
    }
    schema
}

/// A data action's: a template writes numbers as texts, and leaves texts that nobody filled in.
fn flat(rule: &FeatureRule) -> Value {
    let kind = if rule.categories.is_empty() {
        json!(["number", "string", "boolean", "null"])
    } else {
        json!(["string", "null"])
    };
    json!({"type": kind, "description": meaning(rule)})
}

/// What a feature is, in words.
fn meaning(rule: &FeatureRule) -> String {
    let mut text = catalogued(&rule.name).map_or_else(|| rule.name.clone(), |known| known.meaning.to_owned());
    if !rule.unit.is_empty() {
        let _ = write!(text, " ({})", rule.unit);
    }
    if !rule.categories.is_empty() {
        let _ = write!(text, "; one of {}; any other counts as missing", rule.categories.join(", "));
    }
    if let Some(never) = rule.never {
        let _ = write!(text, "; {never} means never");
    }
    text
}

/// Says which models a request may name, and what each of them takes.
fn ask_for(request: &mut Value, name: &str, models: &[&ModelSnapshot], names: &[String]) {
    let whom = WHOM.into_iter().find(|whom| request["properties"].get(whom).is_some());
    if let Some(whom) = whom {
        let given = |name: &str, kind: Value| json!({"required": [name], "properties": {name: {"type": kind}}});
        request["anyOf"] = json!([given("features", json!("object")), given(whom, json!(["string", "integer"]))]);
    }
    let mut any: Vec<Value> = names.iter().map(|name| reference(name)).collect();
    if any.is_empty() {
        any.push(reference(name));
    }
    any.push(json!({"type": "null"}));
    request["properties"]["features"] =
        json!({"anyOf": any, "description": "By name; those of the model that is asked."});
    let Some((default, others)) = names.split_first() else { return };
    let known: Vec<Value> = models.iter().map(|model| json!(model.name().as_str())).chain([Value::Null]).collect();
    request["properties"]["model"]["enum"] = known.into();
    if request["properties"].get("interval_level").is_some() {
        let levels = models.iter().filter_map(|model| model.manifest().interval.as_ref());
        let levels: BTreeSet<String> = levels.flat_map(|interval| &interval.levels).map(ToString::to_string).collect();
        let levels = levels.iter().filter_map(|level| level.parse::<f64>().ok()).map(Value::from);
        request["properties"]["interval_level"]["enum"] = levels.chain([Value::Null]).collect();
    }
    let takes = |name: &str, asked: Value| {
        let takes = json!({"anyOf": [reference(name), {"type": "null"}]});
        json!({"if": {"properties": {"model": asked}}, "then": {"properties": {"features": takes}}})
    };
    if others.is_empty() {
        return;
    }
    // A request that names no model asks the default one.
    let unnamed = json!({"enum": [models[0].name().as_str(), null]});
    let named = others.iter().zip(&models[1..]).map(|(name, model)| {
        let mut takes = takes(name, json!({"const": model.name().as_str()}));
        takes["if"]["required"] = json!(["model"]);
        takes
    });
    request["allOf"] = std::iter::once(takes(default, unnamed)).chain(named).collect::<Vec<_>>().into();
}
