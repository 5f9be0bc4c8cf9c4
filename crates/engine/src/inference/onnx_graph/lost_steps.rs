//! Exports that lost a step of the model they were made of, where the file itself tells.
//!
//! `CatBoost` writes no last step for losses whose outputs are logarithms, and says in the file's metadata which loss it
//! was. The exporter of `LightGBM` divides random forests by 100, however many trees there are, and divides probabilities
//! where it should divide margins. What no file tells (linear leaves, zeros as missing values, a forest that is summed)
//! is found by comparing answers: `pack --check`.

use std::collections::BTreeSet;

use super::OnnxModel;
use super::graph::{Graph, Node};
use crate::inference::manifest::Apply;
use crate::inference::trees;

/// Losses of `CatBoost` whose models answer in logarithms.
const LOGARITHMIC: [&str; 3] = ["Poisson", "Tweedie", "LogLinQuantile"];
/// Metadata that `CatBoost` writes: its version, and the settings of the training as JSON.
const CATBOOST: &str = "catboost_version_info";
const CATBOOST_SETTINGS: &str = "params";
/// What the exporter of `LightGBM` calls the number it divides forests by, and that number.
const DENOMINATOR: &str = "denominator";
const DIVIDED_BY: f64 = 100.0;

impl OnnxModel {
    /// What the file says was lost of its model and the bundle does not make good; `applied` is the last step that the
    /// bundle takes on the main output.
    pub fn lost_step(&self, applied: Apply) -> Option<String> {
        self.lost_exponent(applied).or_else(|| lost_average(&self.graph))
    }

    fn lost_exponent(&self, applied: Apply) -> Option<String> {
        self.metadata.get(CATBOOST)?;
        let settings: serde_json::Value = serde_json::from_str(self.metadata.get(CATBOOST_SETTINGS)?).ok()?;
        let loss = settings["loss_function"]["type"].as_str()?;
        let in_the_graph = self.graph.nodes.iter().any(|node| node.operator == "Exp");
        if !LOGARITHMIC.contains(&loss) || in_the_graph || applied == Apply::Exp {
            return None;
        }
        Some(format!(
            "is of CatBoost with the loss `{loss}`, written without its last step: the output is a logarithm; pack it \
             with `apply = \"exp\"` for this output (`scoreline models pack --apply value=exp`)"
        ))
    }
}

/// The forest that is divided by another number than that of its trees, or after what should come last.
fn lost_average(graph: &Graph) -> Option<String> {
    let made_by = |name: &str| graph.nodes.iter().find(|node| node.outputs.iter().any(|output| output == name));
    graph.nodes.iter().filter(|node| node.operator == "Div").find_map(|division| {
        let [dividend, divisor] = division.inputs.as_slice() else { return None };
        let number = graph.initializers.get(divisor)?;
        if !divisor.contains(DENOMINATOR) || number.values != [DIVIDED_BY] {
            return None;
        }
        let ensemble = ensemble_behind(dividend, graph.nodes.len(), &made_by)?;
        if ensemble.operator == "TreeEnsembleClassifier" {
            return Some(
                "is a LightGBM random forest whose exporter divides probabilities by 100 in place of averaging its trees"
                    .to_owned(),
            );
        }
        let trees = ensemble.ints("nodes_treeids").iter().collect::<BTreeSet<_>>().len();
        (trees as f64 != DIVIDED_BY).then(|| {
            format!(
                "is a `LightGBM` random forest of {trees} trees whose exporter divides their sum by 100: set the constant \
                 `{divisor}` to {trees}, or train 100 trees"
            )
        })
    })
}

/// The tree ensemble that a value comes from, through what only moves numbers about.
fn ensemble_behind<'a>(name: &str, most: usize, made_by: &impl Fn(&str) -> Option<&'a Node>) -> Option<&'a Node> {
    let mut node = made_by(name)?;
    // No way is longer than the graph, unless it goes round in circles.
    for _ in 0..most {
        if trees::is_ensemble(&node.operator) {
            return Some(node);
        }
        if !["Identity", "ArrayFeatureExtractor", "Cast", "Reshape"].contains(&node.operator.as_str()) {
            return None;
        }
        node = made_by(node.inputs.first()?)?;
    }
    None
}
