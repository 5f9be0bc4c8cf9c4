//! `XGBoost`'s own JSON, as `Booster.save_model` writes it to a name that ends in `.json`.
//!
//! Trees are parallel lists of nodes; a node without a left child is a leaf, whose value stands where others have their
//! threshold. A row goes left where its value, as a single, is below it (`src/predictor/predict_fn.h`); scores are summed in
//! single precision from the base score on, which is a margin as each objective has it (`ProbToMargin`).

use serde::Deserialize;

use super::booster::{Booster, Library};
use super::forest::{Listed, SplitQuestion};
use crate::inference::BackendError;
use crate::inference::onnx_graph::LastStep;

#[derive(Deserialize)]
struct Document {
    learner: Option<Learner>,
}

#[derive(Deserialize)]
struct Learner {
    #[serde(default)]
    feature_names: Vec<String>,
    gradient_booster: GradientBooster,
    #[serde(rename = "learner_model_param")]
    parameters: Parameters,
    objective: Objective,
}

#[derive(Deserialize)]
struct Objective {
    name: String,
}

#[derive(Deserialize)]
struct Parameters {
    base_score: String,
    num_feature: String,
    #[serde(default)]
    num_class: String,
    #[serde(default)]
    num_target: String,
}

/// `gbtree` holds its model itself, `dart` around one.
#[derive(Deserialize)]
struct GradientBooster {
    name: String,
    model: Option<Trees>,
    gbtree: Option<Inner>,
    #[serde(default)]
    weight_drop: Vec<f32>,
}

#[derive(Deserialize)]
struct Inner {
    model: Trees,
}

/// Absent of a `gblinear`, which is refused by its name.
#[derive(Deserialize)]
struct Trees {
    #[serde(default)]
    trees: Vec<Tree>,
    #[serde(default)]
    tree_info: Vec<i64>,
}

#[derive(Deserialize)]
struct Tree {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<u32>,
    split_conditions: Vec<f32>,
    default_left: Vec<Flag>,
    #[serde(default)]
    split_type: Vec<u8>,
    #[serde(default, rename = "tree_param")]
    parameters: TreeParameters,
}

#[derive(Default, Deserialize)]
struct TreeParameters {
    #[serde(default)]
    size_leaf_vector: String,
}

/// Written as a number or as a truth value, by version.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Flag {
    Truth(bool),
    Number(u8),
}

/// The names of the columns; none where there are none.
pub(super) fn names(model: &[u8]) -> Result<Vec<String>, BackendError> {
    Ok(learner(model)?.feature_names)
}

fn learner(model: &[u8]) -> Result<Learner, BackendError> {
    let document: Document = serde_json::from_slice(model).map_err(|err| {
        // Its binary form begins with a brace too.
        let hint =
            if std::str::from_utf8(model).is_err() { ": save the model to a name that ends in `.json`" } else { "" };
        malformed(format!("line {}, column {}{hint}", err.line(), err.column()))
    })?;
    document.learner.ok_or_else(|| malformed("it has no `learner`"))
}

pub(super) fn read(model: &[u8]) -> Result<Booster<f32>, BackendError> {
    let Learner { feature_names, gradient_booster, parameters, objective } = learner(model)?;
    let most_one = |text: &str| matches!(text, "" | "0" | "1");
    if !most_one(&parameters.num_class) || !most_one(&parameters.num_target) {
        return Err(unsupported("a model of several classes or targets"));
    }
    let (trees, weights) = match (gradient_booster.name.as_str(), gradient_booster.model, gradient_booster.gbtree) {
        ("gbtree", Some(model), _) => (model, None),
        ("dart", _, Some(inner)) => (inner.model, Some(gradient_booster.weight_drop)),
        ("gbtree" | "dart", ..) => return Err(malformed("`gradient_booster` holds no model")),
        (other, ..) => return Err(unsupported(format_args!("the booster `{other}`"))),
    };
    if trees.tree_info.iter().any(|target| *target != 0) {
        return Err(unsupported("a model of several classes or targets"));
    }
    if weights.as_ref().is_some_and(|weights| weights.len() != trees.trees.len()) {
        return Err(malformed("`weight_drop` does not hold a weight for each tree"));
    }
    let width: usize = parameters.num_feature.parse().map_err(|_| malformed("`num_feature` is no number"))?;
    let (last, base) = last_step(&objective.name, &parameters.base_score)?;
    let mut booster = Booster {
        names: feature_names,
        width,
        // The sum begins with the base score, as if a first tree had only that leaf.
        listed: vec![Listed::Leaf(0..1)],
        roots: vec![0],
        weights: vec![base],
        average: false,
        last,
    };
    for (number, tree) in trees.trees.iter().enumerate() {
        let weight = weights.as_ref().map_or(1.0, |weights| weights[number]);
        let read = tree_of(tree, weight, &mut booster);
        read.map_err(|err| Library::XgBoost.malformed_as(err, |reason| format!("tree {number}: {reason}")))?;
    }
    Ok(booster)
}

fn malformed(reason: impl Into<String>) -> BackendError {
    Library::XgBoost.malformed(reason)
}

fn unsupported(what: impl std::fmt::Display) -> BackendError {
    Library::XgBoost.unsupported(what)
}

/// From the sum of the trees to what `predict` returns, and the margin it begins with.
fn last_step(objective: &str, base_score: &str) -> Result<(LastStep, f32), BackendError> {
    let base: f32 = base_score
        .trim_matches(['[', ']'])
        .parse()
        .ok()
        .filter(|base: &f32| base.is_finite())
        .ok_or_else(|| malformed("`base_score` is not one finite number"))?;
    let (last, margin) = match objective {
        "reg:squarederror"
        | "reg:absoluteerror"
        | "reg:pseudohubererror"
        | "reg:squaredlogerror"
        | "reg:quantileerror"
        | "binary:logitraw" => (LastStep::None, base),
        "count:poisson" | "reg:gamma" | "reg:tweedie" => (LastStep::Exp, base.ln()),
        "binary:logistic" | "reg:logistic" => (LastStep::Sigmoid(1.0), -(1.0 / base - 1.0).ln()),
        other => return Err(unsupported(format_args!("the objective `{other}`"))),
    };
    if margin.is_finite() {
        Ok((last, margin))
    } else {
        Err(malformed(format!("`base_score` cannot be one of `{objective}`")))
    }
}

/// Adds a tree's nodes, in the file's order, and leaves.
fn tree_of(tree: &Tree, weight: f32, booster: &mut Booster<f32>) -> Result<(), BackendError> {
    if tree.split_type.iter().any(|kind| *kind != 0) {
        return Err(unsupported("splits by category (`enable_categorical`)"));
    }
    if !matches!(tree.parameters.size_leaf_vector.as_str(), "" | "0" | "1") {
        return Err(unsupported("leaves of several numbers"));
    }
    let nodes = tree.left_children.len();
    let counts =
        [tree.right_children.len(), tree.split_indices.len(), tree.split_conditions.len(), tree.default_left.len()];
    if nodes == 0 || counts.iter().any(|count| *count != nodes) {
        return Err(malformed("its lists are not of one length"));
    }
    let first = booster.listed.len();
    let place = |child: i64| {
        let at = usize::try_from(child).ok().filter(|at| *at < nodes);
        at.map(|at| first + at).ok_or_else(|| malformed("a split has a child that is not there"))
    };
    for at in 0..nodes {
        let condition = tree.split_conditions[at];
        if !condition.is_finite() {
            return Err(malformed("a number of it is not finite"));
        }
        booster.listed.push(if tree.left_children[at] == -1 {
            booster.weights.push(condition * weight);
            Listed::Leaf(booster.weights.len() - 1..booster.weights.len())
        } else {
            Listed::Branch {
                feature: tree.split_indices[at],
                question: SplitQuestion::Below(condition),
                yes: place(tree.left_children[at])?,
                no: place(tree.right_children[at])?,
                missing_yes: matches!(tree.default_left[at], Flag::Truth(true) | Flag::Number(1..)),
            }
        });
    }
    booster.roots.push(first);
    Ok(())
}
