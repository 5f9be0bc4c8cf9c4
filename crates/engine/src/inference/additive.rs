//! Additive models with boosted trees on top: scoreline's own JSON, written by training and served by the `linear`
//! backend.
//!
//! `x = intercept + sum of terms + sum of trees`, then `probability = 1 / (1 + e^-x)`. A term is a number's z-score
//! times a coefficient or a category's own coefficient; trees are what boosting found in the terms' residuals and read
//! raw values, categories by their position. Rows come raw: every term carries the scaling it was fitted with. Derived
//! columns are numbers like others.
//!
//! A mean of such models is such a model again, as is one whose log-odds were shifted and stretched: `mean_of` and
//! `recalibrated` write them, so that what serves stays one sum.

use serde::{Deserialize, Serialize};

use super::backend::{Backend, BackendError, FeatureMatrix};
use super::explain::interventional::{Stand, Walk};
use super::explain::{Method, Question, Shares, Unexplained, settle};
use super::linear::logistic;
use crate::features::FeatureSchema;

/// The format this file reads and writes.
pub const FORMAT: &str = "scoreline-additive/1";

/// The file: what training writes and the server reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdditiveModel {
    pub format: Format,
    pub intercept: f64,
    pub terms: Vec<Term>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<Tree>,
}

/// The version tag of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    #[default]
    #[serde(rename = "scoreline-additive/1")]
    V1,
}

/// One feature's part of the sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Term {
    /// `coefficient × (value - center) / scale`; nothing for a missing value.
    Number { number: String, coefficient: f64, center: f64, scale: f64 },
    /// A coefficient for each category of the bundle's list, and one for a missing or unknown category.
    Category { category: String, coefficients: Vec<f64>, missing: f64 },
}

/// One tree: nodes with the root first. A row goes left when its value is at most the threshold; a missing value goes
/// left too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tree(pub Vec<Node>);

/// A split with the positions of its children, which come after it, or a leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Node {
    Split { feature: String, at_most: f64, left: u32, right: u32 },
    Leaf { leaf: f64 },
}

impl AdditiveModel {
    /// # Errors
    /// When the bytes are not this format. What the model says is checked by `load`.
    pub fn read(bytes: &[u8]) -> Result<Self, BackendError> {
        serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))
    }

    /// The file's bytes; the same model always gives the same bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("plain numbers and names always serialise");
        bytes.push(b'\n');
        bytes
    }
}

impl AdditiveModel {
    /// The model whose log-odds are the mean of those of `models`. Tables of one category become one table.
    pub fn mean_of(models: &[Self]) -> Self {
        let share = 1.0 / models.len() as f64;
        let mut mean = Self::default();
        for model in models {
            let model = model.clone().recalibrated(0.0, share);
            mean.intercept += model.intercept;
            mean.trees.extend(model.trees);
            for term in model.terms {
                if !mean.terms.iter_mut().any(|other| other.take_in(&term)) {
                    mean.terms.push(term);
                }
            }
        }
        mean
    }

    /// The model whose log-odds are `shift + slope × x` where this one's are `x`.
    #[must_use]
    pub fn recalibrated(mut self, shift: f64, slope: f64) -> Self {
        self.intercept = shift + slope * self.intercept;
        for term in &mut self.terms {
            match term {
                Term::Number { coefficient, .. } => *coefficient *= slope,
                Term::Category { coefficients, missing, .. } => {
                    coefficients.iter_mut().chain([missing]).for_each(|coefficient| *coefficient *= slope);
                }
            }
        }
        for node in self.trees.iter_mut().flat_map(|tree| &mut tree.0) {
            if let Node::Leaf { leaf } = node {
                *leaf *= slope;
            }
        }
        self
    }
}

impl Term {
    /// Adds another term of the same category, or of the same number in the same scaling.
    fn take_in(&mut self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Number { number, coefficient, center, scale },
                Self::Number { number: other, coefficient: more, center: from, scale: by },
            ) if number == other && center == from && scale == by => *coefficient += more,
            (
                Self::Category { category, coefficients, missing },
                Self::Category { category: other, coefficients: more, missing: nothing },
            ) if category == other && coefficients.len() == more.len() => {
                coefficients.iter_mut().zip(more).for_each(|(coefficient, more)| *coefficient += more);
                *missing += nothing;
            }
            _ => return false,
        }
        true
    }
}

/// Whether a model file says that it is of this format.
pub fn is_additive(model: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Tag<'a> {
        #[serde(borrow)]
        format: std::borrow::Cow<'a, str>,
    }
    model.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<Tag<'_>>(model).is_ok_and(|tag| tag.format.starts_with("scoreline-additive/"))
}

/// Reads a model for a bundle with this schema. Its only output is `probability`.
///
/// # Errors
/// Says which part of the file cannot be used.
pub fn load(bytes: &[u8], schema: &FeatureSchema) -> Result<Box<dyn Backend>, BackendError> {
    let model = AdditiveModel::read(bytes)?;
    let mut compiled = CompiledModel {
        inputs: schema.columns(),
        outputs: ["probability".to_owned()],
        intercept: finite("intercept", model.intercept)?,
        numbers: Vec::new(),
        categories: Vec::new(),
        nodes: Vec::new(),
        roots: Vec::with_capacity(model.trees.len()),
    };
    for term in model.terms {
        compiled.add_term(term, schema)?;
    }
    for (tree, number) in model.trees.iter().zip(1..) {
        compiled.add_tree(tree, schema).map_err(|problem| malformed(format!("tree {number} {problem}")))?;
    }
    Ok(Box::new(compiled))
}

struct CompiledModel {
    inputs: usize,
    outputs: [String; 1],
    intercept: f64,
    numbers: Vec<NumberTerm>,
    categories: Vec<CategoryTerm>,
    nodes: Vec<FlatNode>,
    /// Where each tree begins in `nodes`.
    roots: Vec<u32>,
}

struct NumberTerm {
    column: usize,
    slope: f64,
    center: f64,
}

struct CategoryTerm {
    column: usize,
    coefficients: Box<[f64]>,
    missing: f64,
}

/// `value` is the threshold of a split and the addend of a leaf.
#[derive(Clone, Copy)]
struct FlatNode {
    value: f64,
    /// `LEAF` for a leaf.
    column: u32,
    left: u32,
    right: u32,
}

const LEAF: u32 = u32::MAX;

impl CompiledModel {
    fn add_term(&mut self, term: Term, schema: &FeatureSchema) -> Result<(), BackendError> {
        match term {
            Term::Number { number, coefficient, center, scale } => {
                let (column, categories) = find(&number, schema).map_err(malformed)?;
                if categories > 0 {
                    return Err(malformed(format!("term `{number}` is of a number, the feature is categorical")));
                }
                let slope = coefficient / scale;
                if !slope.is_finite() || !center.is_finite() {
                    return Err(malformed(format!("term `{number}` needs a finite coefficient, center and scale")));
                }
                self.numbers.push(NumberTerm { column, slope, center });
            }
            Term::Category { category, coefficients, missing } => {
                let (column, needs) = find(&category, schema).map_err(malformed)?;
                let has = coefficients.len();
                if has != needs {
                    return Err(malformed(format!("term `{category}` has {has} coefficients for {needs} categories")));
                }
                if !coefficients.iter().chain([&missing]).all(|coefficient| coefficient.is_finite()) {
                    return Err(malformed(format!("term `{category}` holds a number that is not finite")));
                }
                self.categories.push(CategoryTerm { column, coefficients: coefficients.into(), missing });
            }
        }
        Ok(())
    }

    fn add_tree(&mut self, Tree(nodes): &Tree, schema: &FeatureSchema) -> Result<(), String> {
        let base = u32::try_from(self.nodes.len()).map_err(|_| "is one too many".to_owned())?;
        if nodes.is_empty() {
            return Err("has no nodes".to_owned());
        }
        for (node, index) in nodes.iter().zip(0_u32..) {
            let flat = match node {
                Node::Leaf { leaf } if leaf.is_finite() => FlatNode { value: *leaf, column: LEAF, left: 0, right: 0 },
                Node::Leaf { .. } => return Err(format!("has a leaf at {index} that is not finite")),
                Node::Split { feature, at_most, left, right } => {
                    let (column, _) = find(feature, schema)?;
                    // Children behind their parent: a walk always ends.
                    let sound = |child: u32| child > index && (child as usize) < nodes.len();
                    if !at_most.is_finite() || !sound(*left) || !sound(*right) {
                        return Err(format!("has a split at {index} with a threshold or a child that cannot be"));
                    }
                    let column = u32::try_from(column).map_err(|_| "has too many columns".to_owned())?;
                    FlatNode { value: *at_most, column, left: base + left, right: base + right }
                }
            };
            self.nodes.push(flat);
        }
        self.roots.push(base);
        Ok(())
    }

    fn log_odds(&self, row: &[f64]) -> f64 {
        let mut sum = self.intercept;
        for term in &self.numbers {
            sum += term.at(row);
        }
        for term in &self.categories {
            sum += term.at(row);
        }
        sum + self.roots.iter().map(|&root| self.leaf(root, row)).sum::<f64>()
    }

    fn leaf(&self, root: u32, row: &[f64]) -> f64 {
        let mut node = self.nodes[root as usize];
        while node.column != LEAF {
            let right = row[node.column as usize] > node.value;
            node = self.nodes[if right { node.right } else { node.left } as usize];
        }
        node.value
    }
}

impl NumberTerm {
    fn at(&self, row: &[f64]) -> f64 {
        let value = row[self.column];
        if value.is_nan() { 0.0 } else { self.slope * (value - self.center) }
    }
}

impl CategoryTerm {
    fn at(&self, row: &[f64]) -> f64 {
        // A position that is not in the list is read as missing; the cast of `NaN` would be 0.
        let value = row[self.column];
        let known = if value >= 0.0 { self.coefficients.get(value as usize) } else { None };
        known.copied().unwrap_or(self.missing)
    }
}

impl Backend for CompiledModel {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        rows.fits(self.inputs, 1, out.len())?;
        for (row, out) in rows.iter().zip(out) {
            *out = logistic(self.log_odds(row));
        }
        Ok(())
    }

    /// Terms are their own shares of the log-odds and trees are split exactly; the logistic rescales the sum.
    fn split(&self, question: &Question<'_>) -> Result<Option<Shares>, Unexplained> {
        let Question { row, reference, budget, .. } = question;
        let from = self.log_odds(reference);
        let to = self.log_odds(row);
        let mut players = vec![0.0; question.count()];
        let player = |column: usize| question.players[column] as usize;
        for term in &self.numbers {
            players[player(term.column)] += term.at(row) - term.at(reference);
        }
        for term in &self.categories {
            players[player(term.column)] += term.at(row) - term.at(reference);
        }
        let mut walk = Walk::new(players.len());
        for &root in &self.roots {
            walk.tree(root, |at| self.stand(at, question), &mut players, budget)?;
        }
        settle(&mut players, to - from, from.abs().max(to.abs()));
        let mut shares = Shares { players, from, to, method: Method::TreeShap };
        shares.through(logistic);
        shares.finite().map(Some)
    }
}

impl CompiledModel {
    fn stand(&self, at: u32, question: &Question<'_>) -> Stand {
        let node = self.nodes[at as usize];
        if node.column == LEAF {
            return Stand::Leaf(node.value);
        }
        let next = |row: &[f64]| if row[node.column as usize] > node.value { node.right } else { node.left };
        Stand::Split {
            player: question.players[node.column as usize],
            row: next(question.row),
            reference: next(question.reference),
        }
    }
}

/// The position of a column and how many categories it has.
fn find(name: &str, schema: &FeatureSchema) -> Result<(usize, usize), String> {
    let column = schema.column_names().position(|column| column == name);
    let column = column.ok_or_else(|| format!("reads `{name}`, which is not a feature of this bundle"))?;
    Ok((column, schema.rules().get(column).map_or(0, |rule| rule.categories.len())))
}

fn finite(what: &str, number: f64) -> Result<f64, BackendError> {
    if number.is_finite() { Ok(number) } else { Err(malformed(format!("`{what}` must be finite, got `{number}`"))) }
}

fn malformed(reason: String) -> BackendError {
    BackendError::Malformed { format: FORMAT, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeatureRule;

    fn rule(name: &str, categories: &[&str]) -> FeatureRule {
        FeatureRule {
            categories: categories.iter().map(|&category| category.to_owned()).collect(),
            ..FeatureRule::plain(name)
        }
    }

    fn rules() -> FeatureSchema {
        let rules = vec![rule("age", &[]), rule("contact", &["cellular", "telephone"])];
        FeatureSchema::new(rules, false).expect("valid")
    }

    fn model() -> AdditiveModel {
        let split = |feature: &str, at_most, left, right| Node::Split { feature: feature.into(), at_most, left, right };
        AdditiveModel {
            format: Format::V1,
            intercept: -2.0,
            terms: vec![
                Term::Number { number: "age".into(), coefficient: 0.5, center: 40.0, scale: 10.0 },
                Term::Category { category: "contact".into(), coefficients: vec![0.25, -0.75], missing: 0.125 },
            ],
            trees: vec![
                Tree(vec![
                    split("age", 30.0, 1, 2),
                    Node::Leaf { leaf: 1.0 },
                    split("contact", 0.5, 3, 4),
                    Node::Leaf { leaf: 2.0 },
                    Node::Leaf { leaf: 4.0 },
                ]),
                Tree(vec![Node::Leaf { leaf: -0.5 }]),
            ],
        }
    }

    fn log_odds(row: [f64; 2]) -> f64 {
        log_odds_of(&model(), row)
    }

    fn log_odds_of(model: &AdditiveModel, row: [f64; 2]) -> f64 {
        let backend = load(&model.write(), &rules()).expect("loads");
        let mut out = [0.0];
        backend.predict(FeatureMatrix::new(&row, 2), &mut out).expect("runs");
        (out[0] / (1.0 - out[0])).ln()
    }

    #[test]
    fn terms_and_trees_give_the_sums_made_by_hand() {
        for (row, expected) in [
            ([50.0, 0.0], -2.0 + 0.5 + 0.25 + 2.0 - 0.5),
            ([60.0, 1.0], -2.0 + 1.0 - 0.75 + 4.0 - 0.5),
            ([30.0, 1.0], -2.0 - 0.5 - 0.75 + 1.0 - 0.5),
            ([40.0, f64::NAN], -2.0 + 0.125 + 2.0 - 0.5),
            ([f64::NAN, 7.0], -2.0 + 0.125 + 1.0 - 0.5),
        ] {
            assert!((log_odds(row) - expected).abs() < 1e-12, "{row:?}: {} is not {expected}", log_odds(row));
        }
    }

    #[test]
    fn a_mean_and_a_recalibration_are_those_of_the_log_odds() {
        let other = AdditiveModel {
            intercept: 1.0,
            terms: vec![
                Term::Number { number: "age".into(), coefficient: -1.0, center: 30.0, scale: 5.0 },
                Term::Category { category: "contact".into(), coefficients: vec![1.0, 2.0], missing: -1.0 },
            ],
            ..AdditiveModel::default()
        };
        let mean = AdditiveModel::mean_of(&[model(), other.clone(), model()]);
        let moved = mean.clone().recalibrated(0.25, 1.5);
        for row in [[50.0, 0.0], [60.0, 1.0], [29.0, f64::NAN], [f64::NAN, 1.0]] {
            let expected = (2.0 * log_odds(row) + log_odds_of(&other, row)) / 3.0;
            assert!((log_odds_of(&mean, row) - expected).abs() < 1e-12, "{row:?}");
            assert!((log_odds_of(&moved, row) - (0.25 + 1.5 * expected)).abs() < 1e-12, "{row:?}");
        }
        let categories = mean.terms.iter().filter(|term| matches!(term, Term::Category { .. })).count();
        assert_eq!((categories, mean.trees.len()), (1, 4), "one table for each category");
    }

    #[test]
    fn a_derived_column_is_a_number_like_others() {
        use crate::features::{Bend, DerivedRule, Factor};
        let factor = Factor { of: "age".into(), over: None, apply: Bend::AboveOne };
        let derived = DerivedRule { name: "grown".into(), factors: vec![factor], mean: 0.0, std: 1.0 };
        let schema = FeatureSchema::with_derived(vec![rule("age", &[])], vec![derived], false).expect("valid");
        let term = Term::Number { number: "grown".into(), coefficient: 2.0, center: 0.0, scale: 1.0 };
        let model = AdditiveModel { terms: vec![term], ..AdditiveModel::default() };
        let backend = load(&model.write(), &schema).expect("loads");
        let mut out = [0.0];
        backend.predict(FeatureMatrix::new(&[40.0, 1.0], 2), &mut out).expect("runs");
        assert!((out[0] - logistic(2.0)).abs() < 1e-12);
    }

    #[test]
    fn what_is_written_reads_back_and_says_what_it_is() {
        let bytes = model().write();
        assert_eq!(AdditiveModel::read(&bytes).expect("own format"), model());
        assert!(is_additive(&bytes));
        assert!(!is_additive(br#"{"kind":"hurdle","format":"scoreline-linear/1","variants":[]}"#));
        assert!(!is_additive(b"\x08\x08"));
    }

    #[test]
    fn a_file_that_can_not_be_used_is_refused_with_the_reason() {
        let refused = |change: fn(&mut AdditiveModel)| {
            let mut model = model();
            change(&mut model);
            let Err(error) = load(&model.write(), &rules()) else { panic!("was accepted") };
            error.to_string()
        };
        assert!(refused(|model| model.terms.remove(0).rename("height", model)).contains("`height`, which is not a"));
        assert!(refused(|model| model.terms.remove(0).rename("contact", model)).contains("the feature is categorical"));
        assert!(refused(|model| model.terms.remove(1).shorten(model)).contains("has 1 coefficients for 2 categories"));
        assert!(refused(|model| model.trees[1].0.clear()).contains("tree 2 has no nodes"));
        let circle = |model: &mut AdditiveModel| {
            model.trees[0].0[0] = Node::Split { feature: "age".into(), at_most: 1.0, left: 0, right: 1 };
        };
        assert!(refused(circle).contains("tree 1 has a split at 0"));
        let future = br#"{"format":"scoreline-additive/2","intercept":0,"terms":[]}"#;
        assert!(load(future, &rules()).is_err());
    }

    impl Term {
        fn rename(self, to: &str, model: &mut AdditiveModel) {
            if let Self::Number { coefficient, center, scale, .. } = self {
                model.terms.push(Self::Number { number: to.into(), coefficient, center, scale });
            }
        }

        fn shorten(self, model: &mut AdditiveModel) {
            if let Self::Category { category, mut coefficients, missing } = self {
                coefficients.pop();
                model.terms.push(Self::Category { category, coefficients, missing });
            }
        }
    }
}
