//! Regression forests and boosted trees that smartcore has trained, read from its own serialised form.
//!
//! The file is an envelope, `{"format": "scoreline-smartcore/1", "kind": .., "inputs": .., "model": ..}`, around what
//! `serde` makes of a smartcore 0.7 estimator on `f64`. Loading checks every node and lays the trees out flat; the sums
//! are made in smartcore's order, so the answers are its answers, bit for bit.
//!
//! A smartcore tree compares with `<=` and has not learned what to do without a value. A row with a missing value
//! (`NaN`) is answered with `NaN`, which callers refuse: the bundle has to impute.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::backend::{Backend, BackendError, FeatureMatrix};
use super::explain::interventional::{Stand, Walk};
use super::explain::{Method, Question, Shares, Unexplained, settle};

/// The one envelope this program reads and writes.
pub const FORMAT: &str = "scoreline-smartcore/1";

/// Which smartcore estimator the envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    DecisionTreeRegressor,
    RandomForestRegressor,
    ExtraTreesRegressor,
    XgboostRegressor,
}

/// Reads an envelope. `features` are the bundle's feature names in order; the model's single output is `value`.
///
/// # Errors
/// When the bytes are not such an envelope, its trees are not trees, or it reads another number of columns.
pub fn load(bytes: &[u8], features: &[&str]) -> Result<Box<dyn Backend>, BackendError> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|err| malformed(err.to_string()))?;
    if envelope.format != FORMAT {
        return Err(malformed(format!("`format` must be `{FORMAT}`, got `{}`", envelope.format)));
    }
    let kinds =
        [Kind::DecisionTreeRegressor, Kind::RandomForestRegressor, Kind::ExtraTreesRegressor, Kind::XgboostRegressor];
    let kind = kinds.into_iter().find(|kind| kind.name() == envelope.kind).ok_or_else(|| {
        let known: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        unsupported(format!("the kind `{}`; it knows {}", envelope.kind, known.join(", ")))
    })?;
    if envelope.inputs != features.len() {
        return Err(BackendError::Inputs { model: envelope.inputs, bundle: features.len() });
    }
    let ensemble = Ensemble::read(kind, envelope.inputs, envelope.model.get())?;
    Ok(Box::new(ensemble))
}

/// Wraps a fitted smartcore estimator of `kind` that reads `inputs` columns.
///
/// # Errors
/// When `model` is not what `kind` says; what is returned can be loaded.
pub fn write(kind: Kind, inputs: usize, model: &impl Serialize) -> Result<Vec<u8>, BackendError> {
    let model = serde_json::value::to_raw_value(model).map_err(|err| malformed(err.to_string()))?;
    Ensemble::read(kind, inputs, model.get())?;
    let envelope = Envelope { format: FORMAT, kind: kind.name(), inputs, model: &model };
    serde_json::to_vec(&envelope).map_err(|err| malformed(err.to_string()))
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::DecisionTreeRegressor => "decision_tree_regressor",
            Self::RandomForestRegressor => "random_forest_regressor",
            Self::ExtraTreesRegressor => "extra_trees_regressor",
            Self::XgboostRegressor => "xgboost_regressor",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    format: &'a str,
    #[serde(borrow)]
    kind: &'a str,
    inputs: usize,
    #[serde(borrow)]
    model: &'a RawValue,
}

/// All trees in one array, each in preorder: the branch taken when `value <= threshold` follows its node directly.
struct Ensemble {
    inputs: usize,
    outputs: [String; 1],
    nodes: Vec<Node>,
    roots: Vec<u32>,
    /// Where the sum over trees starts.
    base: f64,
    /// What the sum is divided by.
    divisor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    /// The threshold of a split, the value of a leaf.
    number: f64,
    /// `LEAF`, or the column a split compares.
    column: u32,
    /// The node for values above the threshold.
    above: u32,
}

const LEAF: u32 = u32::MAX;

impl Backend for Ensemble {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        rows.fits(self.inputs, 1, out.len())?;
        out.fill(self.base);
        // Tree by tree: a tree stays in the cache for all rows, and each row is still summed in the order of the trees.
        for &root in &self.roots {
            for (row, sum) in rows.iter().zip(out.iter_mut()) {
                *sum += self.leaf(root, row);
            }
        }
        for (row, sum) in rows.iter().zip(out.iter_mut()) {
            *sum = if row.iter().any(|value| value.is_nan()) { f64::NAN } else { *sum / self.divisor };
        }
        Ok(())
    }

    fn split(&self, question: &Question<'_>) -> Result<Option<Shares>, Unexplained> {
        let mut ends = [0.0; 2];
        self.predict(FeatureMatrix::new(&[question.reference, question.row].concat(), self.inputs), &mut ends)?;
        let [from, to] = ends;
        let mut players = vec![0.0; question.count()];
        let mut walk = Walk::new(players.len());
        for &root in &self.roots {
            question.budget.check()?;
            walk.tree(root, |at| self.stand(at, question), &mut players, &question.budget)?;
        }
        for share in &mut players {
            *share /= self.divisor;
        }
        settle(&mut players, to - from, from.abs().max(to.abs()));
        Shares { players, from, to, method: Method::TreeShap }.finite().map(Some)
    }
}

impl Ensemble {
    fn stand(&self, at: u32, question: &Question<'_>) -> Stand {
        let node = self.nodes[at as usize];
        if node.column == LEAF {
            return Stand::Leaf(node.number);
        }
        let next = |row: &[f64]| if row[node.column as usize] <= node.number { at + 1 } else { node.above };
        Stand::Split {
            player: question.players[node.column as usize],
            row: next(question.row),
            reference: next(question.reference),
        }
    }

    fn read(kind: Kind, inputs: usize, model: &str) -> Result<Self, BackendError> {
        let mut ensemble = Self {
            inputs,
            outputs: ["value".to_owned()],
            nodes: Vec::new(),
            roots: Vec::new(),
            base: 0.0,
            divisor: 1.0,
        };
        match kind {
            Kind::DecisionTreeRegressor => {
                let model: TreeForm = parse(model)?;
                ensemble.add_listed(&model.tree_regressor.nodes)?;
            }
            Kind::RandomForestRegressor | Kind::ExtraTreesRegressor => {
                let model: ForestForm = parse(model)?;
                for tree in &model.forest_regressor.trees {
                    ensemble.add_listed(&tree.nodes)?;
                }
                ensemble.divisor = model.forest_regressor.trees.len() as f64;
            }
            Kind::XgboostRegressor => {
                let model: BoostedForm = parse(model)?;
                ensemble.base = model.parameters.base_score;
                for tree in &model.regressors {
                    ensemble.add_nested(tree, model.parameters.learning_rate)?;
                }
            }
        }
        if ensemble.roots.is_empty() {
            return Err(malformed("it has no trees".to_owned()));
        }
        Ok(ensemble)
    }

    fn leaf(&self, root: u32, row: &[f64]) -> f64 {
        let mut at = root as usize;
        loop {
            let node = self.nodes[at];
            if node.column == LEAF {
                return node.number;
            }
            at = if row[node.column as usize] <= node.number { at + 1 } else { node.above as usize };
        }
    }

    /// Adds a tree whose nodes refer to each other by position, the root first.
    fn add_listed(&mut self, listed: &[ListedNode]) -> Result<(), BackendError> {
        self.start_tree()?;
        let mut seen = vec![false; listed.len()];
        let mut open = vec![(0, None)];
        while let Some((index, parent)) = open.pop() {
            let node = listed.get(index).ok_or_else(|| malformed(format!("a tree without node {index}")))?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(malformed(format!("a tree that comes to node {index} twice")));
            }
            match (node.true_child, node.false_child) {
                (None, None) => {
                    self.add(parent, Node { number: node.output, column: LEAF, above: 0 })?;
                }
                (Some(below), Some(above)) => {
                    let threshold = node.split_value.ok_or_else(|| malformed("a split without a value".to_owned()))?;
                    let position = self.add(parent, self.split(node.split_feature, threshold)?)?;
                    // Last in is first out: the lower branch comes right after its split.
                    open.extend([(above, Some(position)), (below, None)]);
                }
                _ => return Err(malformed("a split with one branch".to_owned())),
            }
        }
        Ok(())
    }

    /// Adds a tree of nodes within nodes, its leaves times `rate`.
    fn add_nested(&mut self, tree: &NestedNode, rate: f64) -> Result<(), BackendError> {
        self.start_tree()?;
        let mut open = vec![(tree, None)];
        while let Some((node, parent)) = open.pop() {
            match (&node.left, &node.right) {
                (None, None) => {
                    self.add(parent, Node { number: rate * node.value, column: LEAF, above: 0 })?;
                }
                (Some(below), Some(above)) => {
                    let position = self.add(parent, self.split(node.split_feature_idx, node.threshold)?)?;
                    open.extend([(&**above, Some(position)), (&**below, None)]);
                }
                _ => return Err(malformed("a split with one branch".to_owned())),
            }
        }
        Ok(())
    }

    fn start_tree(&mut self) -> Result<(), BackendError> {
        self.roots.push(self.next_position()?);
        Ok(())
    }

    fn split(&self, column: usize, threshold: f64) -> Result<Node, BackendError> {
        if column >= self.inputs {
            return Err(malformed(format!("a split on column {column} of {}", self.inputs)));
        }
        Ok(Node { number: threshold, column: column as u32, above: 0 })
    }

    /// Appends a node; `parent` is the split whose upper branch it is.
    fn add(&mut self, parent: Option<u32>, node: Node) -> Result<u32, BackendError> {
        let position = self.next_position()?;
        self.nodes.push(node);
        if let Some(parent) = parent {
            self.nodes[parent as usize].above = position;
        }
        Ok(position)
    }

    fn next_position(&self) -> Result<u32, BackendError> {
        u32::try_from(self.nodes.len()).map_err(|_| unsupported("more than 4 billion nodes".to_owned()))
    }
}

/// `DecisionTreeRegressor`, as far as it is needed to answer.
#[derive(Deserialize)]
struct TreeForm {
    tree_regressor: ListedTree,
}

/// `RandomForestRegressor` and `ExtraTreesRegressor`.
#[derive(Deserialize)]
struct ForestForm {
    forest_regressor: Forest,
}

#[derive(Deserialize)]
struct Forest {
    trees: Vec<ListedTree>,
}

#[derive(Deserialize)]
struct ListedTree {
    nodes: Vec<ListedNode>,
}

#[derive(Deserialize)]
struct ListedNode {
    output: f64,
    split_feature: usize,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

/// `XGRegressor`.
#[derive(Deserialize)]
struct BoostedForm {
    regressors: Vec<NestedNode>,
    parameters: BoostedParameters,
}

#[derive(Deserialize)]
struct BoostedParameters {
    base_score: f64,
    learning_rate: f64,
}

#[derive(Deserialize)]
struct NestedNode {
    left: Option<Box<NestedNode>>,
    right: Option<Box<NestedNode>>,
    value: f64,
    threshold: f64,
    split_feature_idx: usize,
}

fn parse<'a, T: Deserialize<'a>>(model: &'a str) -> Result<T, BackendError> {
    serde_json::from_str(model).map_err(|err| malformed(format!("in `model`: {err}")))
}

fn malformed(reason: String) -> BackendError {
    BackendError::Malformed { format: "a smartcore model", reason }
}

fn unsupported(what: String) -> BackendError {
    BackendError::Unsupported { backend: "smartcore", what }
}

#[cfg(test)]
mod tests {
    use ::smartcore::ensemble::extra_trees_regressor::{ExtraTreesRegressor, ExtraTreesRegressorParameters};
    use ::smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
    use ::smartcore::linalg::basic::matrix::DenseMatrix;
    use ::smartcore::tree::decision_tree_regressor::{DecisionTreeRegressor, DecisionTreeRegressorParameters};
    use ::smartcore::xgboost::{XGRegressor, XGRegressorParameters};
    use serde_json::json;

    use super::*;

    const FEATURES: [&str; 3] = ["a", "b", "c"];

    /// Rows on a coarse grid, so that many values stand exactly on a threshold.
    fn data() -> (Vec<f64>, DenseMatrix<f64>, Vec<f64>) {
        let rows: Vec<f64> = (0..900_u64).map(|i| (i.wrapping_mul(2_654_435_761) % 41) as f64 / 4.0).collect();
        let targets = rows.chunks_exact(3).map(|row| row[0] * row[1] - 3.0 * row[2] + 0.1).collect();
        let matrix = DenseMatrix::new(300, 3, rows.clone(), false).expect("matrix");
        (rows, matrix, targets)
    }

    fn answers(bytes: &[u8], rows: &[f64]) -> Vec<f64> {
        let backend = load(bytes, &FEATURES).expect("loads");
        assert_eq!((backend.inputs(), backend.outputs()), (3, ["value".to_owned()].as_slice()));
        let rows = FeatureMatrix::new(rows, 3);
        let mut out = vec![0.0; rows.rows()];
        backend.predict(rows, &mut out).expect("runs");
        out
    }

    #[test]
    fn every_kind_answers_exactly_as_smartcore() {
        let (rows, x, y) = data();
        // Rows between and beyond the training rows as well.
        let shifted: Vec<f64> = rows.iter().map(|value| value * 1.3 - 1.7).collect();
        let all = [rows, shifted].concat();
        let asked = DenseMatrix::new(600, 3, all.clone(), false).expect("matrix");

        let settings = RandomForestRegressorParameters::default().with_n_trees(20).with_max_depth(7).with_seed(3);
        let forest = RandomForestRegressor::fit(&x, &y, settings).expect("fits");
        let bytes = write(Kind::RandomForestRegressor, 3, &forest).expect("writes");
        assert_eq!(answers(&bytes, &all), forest.predict(&asked).expect("predicts"));

        let settings = ExtraTreesRegressorParameters::default().with_n_trees(20).with_seed(3);
        let extra = ExtraTreesRegressor::fit(&x, &y, settings).expect("fits");
        let bytes = write(Kind::ExtraTreesRegressor, 3, &extra).expect("writes");
        assert_eq!(answers(&bytes, &all), extra.predict(&asked).expect("predicts"));

        let tree = DecisionTreeRegressor::fit(&x, &y, DecisionTreeRegressorParameters::default()).expect("fits");
        let bytes = write(Kind::DecisionTreeRegressor, 3, &tree).expect("writes");
        assert_eq!(answers(&bytes, &all), tree.predict(&asked).expect("predicts"));

        let settings = XGRegressorParameters::default().with_n_estimators(30).with_max_depth(4).with_learning_rate(0.1);
        let boosted = XGRegressor::fit(&x, &y, settings).expect("fits");
        let bytes = write(Kind::XgboostRegressor, 3, &boosted).expect("writes");
        assert_eq!(answers(&bytes, &all), boosted.predict(&asked).expect("predicts"));
    }

    fn stump() -> serde_json::Value {
        let leaf = |output| {
            json!({"output": output, "split_feature": 0, "split_value": null, "split_score": null,
            "true_child": null, "false_child": null})
        };
        let split = json!({"output": 5.0, "split_feature": 1, "split_value": 2.5, "split_score": 1.0,
            "true_child": 1, "false_child": 2});
        json!({"tree_regressor": {"nodes": [split, leaf(1.0), leaf(9.0)]}, "num_features": 3})
    }

    #[test]
    fn a_missing_value_has_no_answer_and_leaves_other_rows_alone() {
        let bytes = write(Kind::DecisionTreeRegressor, 3, &stump()).expect("writes");
        let out = answers(&bytes, &[0.0, 2.5, 0.0, 0.0, f64::NAN, 0.0, 0.0, 2.6, 0.0]);
        assert_eq!((out[0], out[2]), (1.0, 9.0));
        assert!(out[1].is_nan());
    }

    fn refusal(kind: &str, inputs: usize, model: &serde_json::Value) -> String {
        let envelope = json!({"format": FORMAT, "kind": kind, "inputs": inputs, "model": model});
        match load(envelope.to_string().as_bytes(), &FEATURES) {
            Ok(_) => panic!("{kind} must be refused"),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn a_wrong_envelope_says_what_is_allowed() {
        let text = |bytes: &[u8]| load(bytes, &FEATURES).map(|_| ()).expect_err("refused").to_string();
        assert!(text(b"onnx").contains("not readable as a smartcore model"));
        let other = json!({"format": "scoreline-smartcore/2", "kind": "x", "inputs": 3, "model": {}}).to_string();
        assert!(text(other.as_bytes()).contains("must be `scoreline-smartcore/1`, got `scoreline-smartcore/2`"));
        assert!(refusal("svm", 3, &stump()).contains("it knows decision_tree_regressor, random_forest_regressor"));
        assert_eq!(
            refusal("decision_tree_regressor", 4, &stump()),
            "model reads 4 columns but the bundle lists 3 features"
        );
        assert!(refusal("random_forest_regressor", 3, &stump()).contains("missing field `forest_regressor`"));
        assert!(
            refusal("random_forest_regressor", 3, &json!({"forest_regressor": {"trees": []}})).contains("no trees")
        );
    }

    #[test]
    fn trees_that_are_none_are_refused() {
        let broken = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut model = stump();
            change(&mut model["tree_regressor"]["nodes"][0]);
            refusal("decision_tree_regressor", 3, &model)
        };
        assert!(broken(&|node| node["true_child"] = json!(7)).contains("without node 7"));
        assert!(broken(&|node| node["true_child"] = json!(0)).contains("comes to node 0 twice"));
        assert!(broken(&|node| node["true_child"] = json!(2)).contains("comes to node 2 twice"));
        assert!(broken(&|node| node["true_child"] = json!(null)).contains("one branch"));
        assert!(broken(&|node| node["split_value"] = json!(null)).contains("without a value"));
        assert!(broken(&|node| node["split_feature"] = json!(3)).contains("column 3 of 3"));
        let empty = json!({"tree_regressor": {"nodes": []}});
        assert!(refusal("decision_tree_regressor", 3, &empty).contains("without node 0"));
        // An estimator that was never fitted.
        let unfitted = json!({"tree_regressor": null, "num_features": null});
        assert!(refusal("decision_tree_regressor", 3, &unfitted).contains("in `model`"));
    }
}
