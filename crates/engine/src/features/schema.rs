//! A bundle's feature schema: which features, in which order, how a missing one is imputed and how a value is
//! transformed and standardised before the model sees it.
//!
//! `read` checks and collects what a request gives, `prepare` turns it into the model's row. Training calls the
//! same two functions, so a model is never trained on numbers it will not be served.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::derived::{Derived, DerivedRule};
use super::drift::DriftBins;
use super::identities::{Identity, identities};
use super::stored::stored;
use super::value::Value;
use scoreline_domain::feature::{CATALOGUE, CatalogueRow, catalogued, impossible};
use scoreline_domain::text::shown;

/// Values of one customer in schema order; `NaN` stands for missing.
pub type Row = SmallVec<[f64; 32]>;

/// One `[[features]]` entry of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureRule {
    pub name: String,
    #[serde(default)]
    pub unit: String,
    /// A request without this feature is refused.
    #[serde(default)]
    pub required: bool,
    /// What stands in for a missing value.
    #[serde(default)]
    pub impute: Impute,
    /// Applied first, to the value and to an imputed one alike.
    #[serde(default)]
    pub transform: Transform,
    /// Smallest and largest value seen in training, before the transform and without `never`.
    pub min: f64,
    pub max: f64,
    /// The number that says that what the feature counts from has never happened, such as 999 days since the last
    /// contact of somebody who was never contacted. Other values reach the model no further than `min` and `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never: Option<f64>,
    /// Mean and standard deviation in training, after the transform: the z-score.
    pub mean: f64,
    pub std: f64,
    /// Smallest and largest possible value; the catalogue's when the feature is catalogued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowest: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<f64>,
    /// Where the training rows lay, before the transform. A feature without it is not watched for drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftBins>,
    /// The names a categorical feature may have; empty for a number. The row holds the position in this list, as it is:
    /// never transformed, never standardised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// What the feature is explained together with: features that rise and fall together share a word. Absent, it is the
    /// catalogue's group, and for a foreign feature its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// What stands in for a missing value: `"mean"`, a number, or `"none"` (the model handles missing values itself).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Impute {
    Value(f64),
    Named(NamedImpute),
}

impl Default for Impute {
    fn default() -> Self {
        Self::Named(NamedImpute::Mean)
    }
}

/// The imputations that have a name instead of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedImpute {
    /// The training mean, on the transformed scale.
    Mean,
    /// Left missing: the model takes another path without it.
    None,
}

/// A monotone map applied before standardising.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    #[default]
    Identity,
    /// `ln(1 + x)`, for amounts and counts with a long tail.
    Log1p,
}

impl Transform {
    pub fn apply(self, value: f64) -> f64 {
        match self {
            Self::Identity => value,
            Self::Log1p => value.ln_1p(),
        }
    }

    fn inverse(self, transformed: f64) -> f64 {
        match self {
            Self::Identity => transformed,
            Self::Log1p => transformed.exp_m1(),
        }
    }
}

/// Characters that are shown of a name nobody knows.
const LONGEST_NAME: usize = 80;

/// A feature value that makes a request unanswerable: the feature and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("feature `{feature}` {problem}")]
pub struct FeatureFault {
    pub feature: String,
    pub problem: String,
}

/// All features of a bundle in the model's column order, and the columns derived from them behind them.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSchema {
    rules: Vec<FeatureRule>,
    /// Whether the model reads z-scores.
    standardize: bool,
    limits: Vec<NumberLimits>,
    /// Position in the catalogue of what a stored row has for each feature.
    stored: Vec<Option<usize>>,
    /// Features that follow from others when a caller does not give them.
    identities: Vec<Identity>,
    derived_rules: Vec<DerivedRule>,
    derived: Vec<Derived>,
    remarks: Vec<Remarks>,
    /// Groups of features, in the order in which they first come, and each feature's.
    groups: (Vec<Box<str>>, Vec<usize>),
}

/// What there may be to say about a feature, ready made: most answers say it of some.
#[derive(Clone, Debug, PartialEq)]
pub struct Remarks {
    pub imputed: Box<str>,
    pub outside: Box<str>,
    pub unknown_category: Box<str>,
    pub lacking: Box<str>,
}

/// The words before the feature's name.
pub const IMPUTED: &str = "imputed";
pub const OUTSIDE: &str = "outside_training_range";
pub const UNKNOWN_CATEGORY: &str = "unknown_category";
pub const IGNORED: &str = "ignored";

/// What there is to say about a catalogued feature that was given to a model that does not read it, by its position in
/// the catalogue.
pub fn ignored_remark(position: u16) -> &'static str {
    static REMARKS: LazyLock<Vec<String>> =
        LazyLock::new(|| CATALOGUE.iter().map(|feature| format!("{IGNORED}: {}", feature.name)).collect());
    REMARKS.get(usize::from(position)).map_or(IGNORED, String::as_str)
}
pub const LACKING: &str = "stored_features_lack";

impl Remarks {
    fn of(rule: &FeatureRule) -> Self {
        let [imputed, outside, unknown_category, lacking] =
            [IMPUTED, OUTSIDE, UNKNOWN_CATEGORY, LACKING].map(|word| format!("{word}: {}", rule.name).into());
        Self { imputed, outside, unknown_category, lacking }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct NumberLimits {
    lowest: f64,
    highest: f64,
    whole: bool,
}

/// What a request gave, checked: raw values in schema order, and the positions worth a warning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// Raw values, for a categorical feature the position of its category; `NaN` where the request gave none.
    pub raw: Row,
    /// Positions of missing features.
    pub missing: SmallVec<[u16; 24]>,
    /// Positions of categorical features whose category is not in the bundle's list: as good as missing.
    pub unknown: SmallVec<[u16; 4]>,
    /// Positions of values outside the training range.
    pub outside: SmallVec<[u16; 8]>,
    /// Positions in the catalogue of features that were given and that the model does not read.
    pub ignored: SmallVec<[u16; 4]>,
    /// Positions of features that were given and are not used for want of another, with the position of that one.
    pub unused: SmallVec<[(u16, u16); 4]>,
}

impl FeatureSchema {
    /// # Errors
    /// When there is no feature, a name comes twice, or a statistic cannot be used.
    pub fn new(rules: Vec<FeatureRule>, standardize: bool) -> Result<Self, FeatureFault> {
        Self::with_derived(rules, Vec::new(), standardize)
    }

    /// A schema whose model reads derived columns behind the features.
    ///
    /// # Errors
    /// As `new`; also for a derived column that cannot be made.
    pub fn with_derived(
        rules: Vec<FeatureRule>,
        derived_rules: Vec<DerivedRule>,
        standardize: bool,
    ) -> Result<Self, FeatureFault> {
        let fault = |rule: &FeatureRule, problem: &str| FeatureFault {
            feature: rule.name.clone(),
            problem: problem.to_owned(),
        };
        if rules.is_empty() || rules.len() > 1024 {
            return Err(FeatureFault { feature: "*".into(), problem: "list must hold 1 to 1024 features".into() });
        }
        for (i, rule) in rules.iter().enumerate() {
            if rules[..i].iter().any(|other| other.name == rule.name) {
                return Err(fault(rule, "is listed twice"));
            }
            if !(rule.min.is_finite() && rule.max.is_finite() && rule.min <= rule.max) {
                return Err(fault(rule, "must have finite `min` <= `max`"));
            }
            if !rule.mean.is_finite() || !rule.std.is_finite() || rule.std <= 0.0 {
                return Err(fault(rule, "must have a finite `mean` and a `std` > 0"));
            }
            if let Some(problem) = rule.drift.as_ref().and_then(DriftBins::problem) {
                return Err(fault(rule, &format!("has drift bins that {problem}")));
            }
            if let Some(problem) = rule.categories_problem().or_else(|| rule.never_problem()) {
                return Err(fault(rule, problem));
            }
            if rule.group.as_ref().is_some_and(String::is_empty) {
                return Err(fault(rule, "must have a `group` that is not empty, or none"));
            }
        }
        let names = || rules.iter().map(|rule| &rule.name).chain(derived_rules.iter().map(|rule| &rule.name));
        for (i, rule) in derived_rules.iter().enumerate() {
            if names().take(rules.len() + i).any(|name| *name == rule.name) {
                return Err(FeatureFault { feature: rule.name.clone(), problem: "is listed twice".to_owned() });
            }
        }
        let derived = derived_rules.iter().map(|rule| Derived::compile(rule, &rules)).collect::<Result<_, _>>()?;
        let limits = rules.iter().map(NumberLimits::of).collect();
        let (stored, identities) = (stored(&rules), identities(&rules));
        let remarks = rules.iter().map(Remarks::of).collect();
        let groups = groups(&rules);
        Ok(Self { rules, standardize, limits, stored, identities, derived_rules, derived, remarks, groups })
    }

    /// Names of the groups that features are explained by.
    pub fn group_names(&self) -> &[Box<str>] {
        &self.groups.0
    }

    /// Which of them a feature belongs to.
    pub fn group_of(&self, position: usize) -> usize {
        self.groups.1[position]
    }

    /// The raw row of the typical customer, beside a row of raw values: every feature at its training median, a category
    /// at the most common one. What is not known of the customer is not known of the typical one either.
    pub fn typical(&self, raw: &[f64]) -> Row {
        let beside = |(rule, value): (&FeatureRule, &f64)| if value.is_nan() { f64::NAN } else { rule.typical() };
        self.rules.iter().zip(raw).map(beside).collect()
    }

    /// Features whose value is the one that follows from others of the row, by position: a total from average and count.
    /// None of them follows from another of them.
    pub fn following(&self, raw: &[f64]) -> SmallVec<[usize; 4]> {
        let mut following = SmallVec::new();
        for identity in &self.identities {
            let follows = identity.value(raw) == raw[identity.target];
            if follows && !identity.sources().any(|source| following.contains(&source)) {
                following.push(identity.target);
            }
        }
        following
    }

    /// What a feature that follows from others is made from, by position.
    pub fn follows_from(&self, position: usize) -> Vec<usize> {
        let identity = self.identities.iter().find(|identity| identity.target == position);
        identity.map_or_else(Vec::new, |identity| identity.sources().collect())
    }

    /// Works out what follows from what is there.
    pub fn follow(&self, raw: &mut [f64]) {
        for identity in &self.identities {
            if raw[identity.target].is_nan() {
                raw[identity.target] = identity.value(raw);
            }
        }
    }

    pub fn rules(&self) -> &[FeatureRule] {
        &self.rules
    }

    /// What there may be to say about the feature at `position`.
    pub fn remarks(&self, position: usize) -> &Remarks {
        &self.remarks[position]
    }

    /// Smallest and largest possible value of the number at `position`, and whether only whole numbers are.
    pub fn possible(&self, position: usize) -> (f64, f64, bool) {
        let NumberLimits { lowest, highest, whole } = self.limits[position];
        (lowest, highest, whole)
    }

    pub fn standardizes(&self) -> bool {
        self.standardize
    }

    #[expect(clippy::len_without_is_empty, reason = "a schema is never empty")]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Columns of the row the model reads: the features and what is derived from them.
    pub fn columns(&self) -> usize {
        self.rules.len() + self.derived.len()
    }

    /// Names of those columns.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        let derived = self.derived_rules.iter().map(|rule| rule.name.as_str());
        self.rules.iter().map(|rule| rule.name.as_str()).chain(derived)
    }

    pub fn derived(&self) -> &[DerivedRule] {
        &self.derived_rules
    }

    /// The features that a column is made from, by position; a feature is made from itself.
    pub fn sources(&self, column: usize) -> Vec<usize> {
        match column.checked_sub(self.rules.len()) {
            None => vec![column],
            Some(derived) => self.derived[derived].sources(),
        }
    }

    /// Whether a column may be missing in the row of a request that `read` accepts.
    pub fn may_miss(&self, column: usize) -> bool {
        match column.checked_sub(self.rules.len()) {
            None => {
                let rule = &self.rules[column];
                let bare = !rule.required && rule.impute == Impute::Named(NamedImpute::None);
                let follows = |identity: &Identity| {
                    // Only from required ones: an identity on what an identity gave would have to be ordered.
                    identity.target == column && identity.sources().all(|source| self.rules[source].required)
                };
                bare && !self.identities.iter().any(follows)
            }
            Some(derived) => self.derived[derived].sources().into_iter().any(|source| self.may_miss(source)),
        }
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.name == name)
    }

    /// Collects and checks named values; all required ones must be there.
    ///
    /// # Errors
    /// As `collect` and `require`.
    pub fn read<'a, V: Into<Value<'a>>>(
        &self,
        given: impl IntoIterator<Item = (&'a str, Option<V>)>,
    ) -> Result<Given, FeatureFault> {
        let given = self.collect(given)?;
        self.require(&given)?;
        Ok(given)
    }

    /// # Errors
    /// Names the first required feature that is missing.
    pub fn require(&self, given: &Given) -> Result<(), FeatureFault> {
        self.require_all(given, |_| true)
    }

    /// As `require`, of the features at positions that are `read`.
    ///
    /// # Errors
    /// Names the first of them that is required and missing.
    pub fn require_all(&self, given: &Given, read: impl Fn(usize) -> bool) -> Result<(), FeatureFault> {
        let missing = given.missing.iter().map(|&position| usize::from(position));
        let mut missing = missing.filter(|position| read(*position)).map(|position| &self.rules[position]);
        match missing.find(|rule| rule.required) {
            Some(rule) => Err(FeatureFault { feature: rule.name.clone(), problem: "is required".to_owned() }),
            None => Ok(()),
        }
    }

    /// Collects and checks named values. `None` and an empty text count as missing.
    ///
    /// # Errors
    /// Names the feature when it is unknown to bundle and catalogue alike, given twice, impossible, or text where a
    /// number belongs and the other way round.
    pub fn collect<'a, V: Into<Value<'a>>>(
        &self,
        given: impl IntoIterator<Item = (&'a str, Option<V>)>,
    ) -> Result<Given, FeatureFault> {
        let mut collected = self.nothing();
        for (name, value) in given {
            let value = value.map(Into::into).filter(|value| !value.is_empty());
            let fault = |problem: String| FeatureFault { feature: name.to_owned(), problem };
            let Some(position) = self.position(name) else {
                // A catalogued feature this model does not use is no mistake; a name nobody knows is one.
                let known = CATALOGUE.iter().position(|feature| feature.name == name);
                let unknown = || FeatureFault { feature: shown(name, LONGEST_NAME).into(), problem: self.unknown() };
                let known = known.ok_or_else(unknown)?;
                if let Some(number) = value.map(Value::number).transpose().map_err(&fault)? {
                    collected.ignore(known, number)?;
                }
                continue;
            };
            let Some(value) = value else { continue };
            if !collected.raw[position].is_nan() || collected.unknown.contains(&(position as u16)) {
                return Err(fault("is given twice".to_owned()));
            }
            let rule = &self.rules[position];
            if rule.categories.is_empty() {
                let number = value.number().map_err(&fault)?;
                self.accept(position, number, &mut collected)?;
            } else {
                let text = value.text().ok_or_else(|| fault(rule.allowed()))?;
                match rule.category(text) {
                    Some(index) => collected.raw[position] = index,
                    None => collected.unknown.push(position as u16),
                }
            }
        }
        self.complete(&mut collected);
        Ok(collected)
    }

    /// As `collect`, for one row that is already in schema order: `NaN` is missing, a category is its position.
    ///
    /// # Errors
    /// Names the feature whose value is impossible.
    pub fn collect_row(&self, raw: &[f64]) -> Result<Given, FeatureFault> {
        let mut collected = self.nothing();
        for (position, value) in raw.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            let rule = &self.rules[position];
            if rule.categories.is_empty() {
                self.accept(position, *value, &mut collected)?;
            } else if (0..rule.categories.len()).any(|index| index as f64 == *value) {
                collected.raw[position] = *value;
            } else {
                collected.unknown.push(position as u16);
            }
        }
        self.complete(&mut collected);
        Ok(collected)
    }

    /// As `collect`, for a row of every catalogued feature. What the model does not use is not looked at.
    ///
    /// # Errors
    /// Names the feature whose value is impossible.
    pub fn collect_catalogued(&self, row: &CatalogueRow) -> Result<Given, FeatureFault> {
        let mut collected = self.nothing();
        for (position, stored) in self.stored.iter().enumerate() {
            let value = stored.map_or(f64::NAN, |stored| row[stored]);
            if !value.is_nan() {
                self.accept(position, value, &mut collected)?;
            }
        }
        self.complete(&mut collected);
        Ok(collected)
    }

    /// Works out what follows from what is given, then lists what is missing.
    fn complete(&self, given: &mut Given) {
        self.follow(&mut given.raw);
        given.list_the_missing();
    }

    fn nothing(&self) -> Given {
        Given { raw: smallvec::smallvec![f64::NAN; self.rules.len()], ..Given::default() }
    }

    /// Takes a number for the feature at `position`.
    fn accept(&self, position: usize, value: f64, given: &mut Given) -> Result<(), FeatureFault> {
        let (limits, rule) = (self.limits[position], &self.rules[position]);
        if rule.never == Some(value) {
            given.raw[position] = value;
            return Ok(());
        }
        if let Some(problem) = impossible(value, limits.lowest, limits.highest, limits.whole) {
            return Err(FeatureFault { feature: rule.name.clone(), problem });
        }
        if value < rule.min || value > rule.max {
            given.outside.push(position as u16);
        }
        given.raw[position] = value;
        Ok(())
    }

    /// The row the model reads: imputed, transformed and, where the bundle says so, standardised; derived columns
    /// behind it. `raw` has `len()` values, `row` room for `columns()`.
    pub fn prepare(&self, raw: &[f64], row: &mut [f64]) {
        let (features, derived) = row.split_at_mut(self.rules.len());
        for (column, slot) in self.derived.iter().zip(derived) {
            let value = column.value(|position| self.filled(position, raw[position]));
            *slot = if self.standardize { column.standardised(value) } else { value };
        }
        for ((rule, &value), slot) in self.rules.iter().zip(raw).zip(features) {
            if !rule.categories.is_empty() {
                *slot = match rule.impute {
                    Impute::Value(category) if value.is_nan() => category,
                    Impute::Value(_) | Impute::Named(_) => value,
                };
                continue;
            }
            let filled = if value.is_nan() {
                match rule.impute {
                    Impute::Value(constant) => rule.transform.apply(constant),
                    Impute::Named(NamedImpute::Mean) => rule.mean,
                    Impute::Named(NamedImpute::None) => f64::NAN,
                }
            } else {
                rule.transform.apply(rule.within(value))
            };
            *slot = if self.standardize { (filled - rule.mean) / rule.std } else { filled };
        }
    }

    /// A raw value, or the constant that stands in for a missing one. Of a mean only the transformed scale is known, so
    /// that what is derived from it stays missing.
    fn filled(&self, position: usize, value: f64) -> f64 {
        match self.rules[position].impute {
            Impute::Value(constant) if value.is_nan() => constant,
            Impute::Value(_) | Impute::Named(_) => self.rules[position].within(value),
        }
    }

    fn unknown(&self) -> String {
        let names: Vec<_> = self.rules.iter().map(|rule| rule.name.as_str()).collect();
        format!("is not known; this model reads {}", names.join(", "))
    }
}

/// The groups of a bundle's features, and which of them each feature belongs to.
fn groups(rules: &[FeatureRule]) -> (Vec<Box<str>>, Vec<usize>) {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut group = |rule: &FeatureRule| {
        let name = rule.group();
        names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            names.push(name.into());
            names.len() - 1
        })
    };
    let of = rules.iter().map(&mut group).collect();
    (names, of)
}

#[cfg(test)]
impl FeatureRule {
    /// An optional number from 0 to 1 with a mean of 0 and a deviation of 1, which is left missing: where a test starts from.
    pub(crate) fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: String::new(),
            required: false,
            impute: Impute::Named(NamedImpute::None),
            transform: Transform::Identity,
            min: 0.0,
            max: 1.0,
            never: None,
            mean: 0.0,
            std: 1.0,
            lowest: None,
            highest: None,
            drift: None,
            group: None,
            categories: Vec::new(),
        }
    }
}

impl FeatureRule {
    /// What the feature is explained together with.
    fn group(&self) -> &str {
        let known = || catalogued(&self.name).map(|known| known.group.as_str());
        self.group.as_deref().or_else(known).unwrap_or(&self.name)
    }

    /// The training median, for a category the most common one; without drift bins what is imputed, else the mean on the
    /// transformed scale.
    fn typical(&self) -> f64 {
        let seen = self.drift.as_ref();
        if !self.categories.is_empty() {
            let common = seen.map(|bins| bins.most_common(self.categories.len()) as f64);
            return common.or(self.constant()).unwrap_or(0.0);
        }
        // Never stands behind every number of days, in the last bin.
        let most = |bins: &DriftBins| bins.shares.last().is_some_and(|share| *share >= 0.5 * (1.0 - bins.missing));
        if let Some(never) = self.never.filter(|never| *never > self.max)
            && seen.is_some_and(most)
        {
            return never;
        }
        let otherwise = || self.constant().unwrap_or_else(|| self.transform.inverse(self.mean));
        seen.and_then(DriftBins::median).unwrap_or_else(otherwise)
    }

    /// The number or position that stands in for a missing value, where it is one.
    fn constant(&self) -> Option<f64> {
        match self.impute {
            Impute::Value(constant) => Some(constant),
            Impute::Named(_) => None,
        }
    }

    /// The position of a category in the list, as the row holds it.
    pub fn category(&self, text: &str) -> Option<f64> {
        self.categories.iter().position(|category| category == text).map(|index| index as f64)
    }

    /// What the model reads of a value: of one that may be `never`, no more than training saw. Days far beyond it are
    /// neither never nor something to extrapolate to.
    fn within(&self, value: f64) -> f64 {
        match self.never {
            Some(never) if value != never => value.clamp(self.min, self.max),
            Some(_) | None => value,
        }
    }

    /// What a categorical feature may be given, for a message.
    pub fn allowed(&self) -> String {
        format!("must be a text, one of `{}`", self.categories.join("`, `"))
    }

    fn never_problem(&self) -> Option<&'static str> {
        let never = self.never?;
        if !self.categories.is_empty() {
            return Some("has `categories` and therefore no `never`");
        }
        let apart = never.is_finite() && !(self.min..=self.max).contains(&never);
        (!apart).then_some("must have a `never` that is a number outside of `min` to `max`")
    }

    fn categories_problem(&self) -> Option<&'static str> {
        if self.categories.is_empty() {
            return None;
        }
        let repeats = |(index, category): (usize, &String)| {
            category.is_empty() || category.trim() != category || self.categories[..index].contains(category)
        };
        let known = |index: f64| (0..self.categories.len()).any(|position| position as f64 == index);
        if self.categories.len() > 1024 || self.categories.iter().enumerate().any(repeats) {
            return Some("must have at most 1024 `categories`, without repeats, empty ones or outer spaces");
        }
        if self.transform != Transform::Identity {
            return Some("has `categories` and therefore no `transform`");
        }
        match self.impute {
            Impute::Named(NamedImpute::None) => None,
            Impute::Value(index) if known(index) => None,
            Impute::Value(_) | Impute::Named(NamedImpute::Mean) => {
                Some("has `categories`: `impute` must be \"none\" or the position of one of them")
            }
        }
    }
}

impl Given {
    /// Takes note of a catalogued feature that the model does not read, by its position in the catalogue.
    ///
    /// # Errors
    /// Names the feature when its value is impossible.
    pub fn ignore(&mut self, position: usize, value: f64) -> Result<(), FeatureFault> {
        let feature = &CATALOGUE[position];
        if let Some(problem) = feature.impossible(value) {
            return Err(FeatureFault { feature: feature.name.to_owned(), problem });
        }
        self.ignored.push(position as u16);
        Ok(())
    }

    /// Leaves out the feature at `position` as if it were not given. Where another one is wanting for it, that is said.
    pub fn leave_out(&mut self, position: usize, wanting: Option<usize>) {
        if self.raw[position].is_nan() {
            return;
        }
        self.raw[position] = f64::NAN;
        let position = position as u16;
        self.outside.retain(|outside| *outside != position);
        if let Some(other) = wanting {
            self.unused.push((position, other as u16));
            return;
        }
        let at = self.missing.partition_point(|missing| *missing < position);
        self.missing.insert(at, position);
    }

    /// Lists what is missing, now that everything is read.
    fn list_the_missing(&mut self) {
        let missing = |(position, value): (usize, &f64)| {
            let position = position as u16;
            (value.is_nan() && !self.unknown.contains(&position)).then_some(position)
        };
        self.missing = self.raw.iter().enumerate().filter_map(missing).collect();
    }
}

impl NumberLimits {
    fn of(rule: &FeatureRule) -> Self {
        let known = catalogued(&rule.name);
        Self {
            lowest: rule.lowest.or(known.map(|k| k.lowest)).unwrap_or(f64::MIN),
            highest: rule.highest.or(known.map(|k| k.highest)).unwrap_or(f64::MAX),
            whole: known.is_some_and(|k| k.whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline_domain::feature::CATALOGUE;

    fn rule(name: &str) -> FeatureRule {
        FeatureRule {
            name: name.into(),
            unit: String::new(),
            required: false,
            impute: Impute::default(),
            transform: Transform::Identity,
            min: 0.0,
            max: 100.0,
            never: None,
            mean: 10.0,
            std: 5.0,
            lowest: None,
            highest: None,
            drift: None,
            categories: Vec::new(),
            group: None,
        }
    }

    fn schema() -> FeatureSchema {
        let recency = FeatureRule { required: true, ..rule("recency_days") };
        let spend = FeatureRule { transform: Transform::Log1p, impute: Impute::Value(0.0), ..rule("monetary_avg") };
        let tenure = FeatureRule { impute: Impute::Named(NamedImpute::None), ..rule("tenure_days") };
        FeatureSchema::new(vec![recency, spend, tenure, rule("custom")], true).expect("valid")
    }

    #[test]
    fn missing_values_are_imputed_by_rule_and_reported() {
        let schema = schema();
        let given = schema.read([("recency_days", Some(20.0)), ("custom", None)]).expect("valid");
        assert_eq!(given.missing.as_slice(), [1, 2, 3]);
        let mut row = [0.0; 4];
        schema.prepare(&given.raw, &mut row);
        assert_eq!(row[0], 2.0, "z-score of 20");
        assert_eq!(row[1], -2.0, "z-score of ln(1 + 0)");
        assert!(row[2].is_nan(), "left to the model");
        assert_eq!(row[3], 0.0, "the mean standardises to zero");
    }

    #[test]
    fn a_stored_row_is_read_as_the_same_values_by_name() {
        let mut row = [f64::NAN; CATALOGUE.len()];
        for (value, feature) in row.iter_mut().zip(CATALOGUE) {
            match feature.name {
                "recency_days" => *value = 3.0,
                "purchase_recency_days" => *value = 40.0,
                "monetary_avg" => *value = 12.5,
                _ => {}
            }
        }
        let named = schema().collect([("recency_days", Some(3.0)), ("monetary_avg", Some(12.5))]).expect("valid");
        let stored = schema().collect_catalogued(&row).expect("valid");
        assert_eq!((stored.raw[0], stored.raw[1], &stored.missing), (3.0, 12.5, &named.missing));
        // By itself the recency of a purchase model is that of the last purchase.
        let purchases = FeatureSchema::new(vec![rule("recency_days"), rule("purchase_count")], true).expect("valid");
        assert_eq!(purchases.collect_catalogued(&row).expect("valid").raw[0], 40.0);
        let both = ["recency_days", "purchase_count", "frequency_count"].map(rule);
        let both = FeatureSchema::new(both.into(), true).expect("valid");
        assert_eq!(both.collect_catalogued(&row).expect("valid").raw[0], 3.0);
        row[0] = -1.0;
        let fault = schema().collect_catalogued(&row).expect_err("impossible").to_string();
        assert_eq!(fault, "feature `recency_days` must be >= 0, got `-1`");
    }

    #[test]
    fn a_possible_value_outside_training_is_a_warning_not_an_error() {
        let given = schema().read([("recency_days", Some(101.0))]).expect("possible");
        assert_eq!(given.outside.as_slice(), [0]);
    }

    #[test]
    fn faults_name_the_feature_and_what_is_allowed() {
        let schema = schema();
        let fault = |given: &[(&str, Option<f64>)]| schema.read(given.iter().copied()).expect_err("fault").to_string();
        assert_eq!(fault(&[]), "feature `recency_days` is required");
        assert_eq!(fault(&[("recency_days", None)]), "feature `recency_days` is required");
        assert_eq!(fault(&[("recency_days", Some(-1.0))]), "feature `recency_days` must be >= 0, got `-1`");
        assert_eq!(
            fault(&[("recency_day", Some(1.0))]),
            "feature `recency_day` is not known; this model reads recency_days, monetary_avg, tenure_days, custom"
        );
        let twice = [("recency_days", Some(1.0)), ("recency_days", Some(2.0))];
        assert_eq!(fault(&twice), "feature `recency_days` is given twice");
        let unused = [("recency_days", Some(1.0)), ("sentiment_score_avg", Some(3.0))];
        assert_eq!(fault(&unused), "feature `sentiment_score_avg` must be from -1 to 1, got `3`");
    }

    #[test]
    fn a_catalogued_feature_the_model_does_not_use_is_accepted() {
        let given = schema().read([("recency_days", Some(1.0)), ("topic_diversity", Some(7.0))]);
        assert!(given.is_ok());
    }

    fn since() -> FeatureSchema {
        use super::super::derived::{Bend, Factor};
        let days = FeatureRule { min: 1.0, max: 30.0, never: Some(999.0), lowest: Some(0.0), ..rule("pdays") };
        let days = FeatureRule { impute: Impute::Value(999.0), ..days };
        let factor = |apply| Factor { of: "pdays".into(), over: None, apply };
        let derived = |name: &str, factors| DerivedRule { name: name.into(), factors, mean: 0.0, std: 1.0 };
        let happened = derived("contacted", vec![factor(Bend::Happened)]);
        let ago = derived("contacted_ago", vec![factor(Bend::Happened), factor(Bend::Identity)]);
        FeatureSchema::with_derived(vec![days], vec![happened, ago], false).expect("valid")
    }

    #[test]
    fn never_is_no_number_of_days_and_days_end_where_training_did() {
        let schema = since();
        let row = |days: Option<f64>| {
            let given = schema.read([("pdays", days)]).expect("possible");
            let mut row = [0.0; 3];
            schema.prepare(&given.raw, &mut row);
            (row, given.outside.len())
        };
        assert_eq!(row(Some(6.0)), ([6.0, 1.0, 6.0], 0));
        assert_eq!(row(Some(999.0)), ([999.0, 0.0, 0.0], 0), "never is usual, and no long time ago");
        assert_eq!(row(None), ([999.0, 0.0, 0.0], 0));
        for far in [300.0, 998.0, 1000.0] {
            assert_eq!(row(Some(far)), ([30.0, 1.0, 30.0], 1), "{far} days ago is the longest ago, with a warning");
        }
        let fault = schema.read([("pdays", Some(-1.0))]).expect_err("impossible").to_string();
        assert_eq!(fault, "feature `pdays` must be >= 0, got `-1`");
    }

    #[test]
    fn never_is_typical_where_it_is_usual() {
        let typical = |never: f64| {
            let mut rules = since().rules().to_vec();
            let days = 1.0 - never;
            rules[0].drift =
                Some(DriftBins { edges: vec![10.0, 30.0], shares: vec![days, 0.0, never], ..DriftBins::default() });
            FeatureSchema::new(rules, false).expect("valid").typical(&[5.0])[0]
        };
        assert_eq!([typical(0.9), typical(0.1)], [999.0, 10.0]);
    }

    #[test]
    fn a_never_that_can_not_be_used_is_refused() {
        let refused = |change: fn(&mut FeatureRule)| {
            let mut days = since().rules()[0].clone();
            change(&mut days);
            FeatureSchema::new(vec![days], false).expect_err("refused").to_string()
        };
        assert!(refused(|days| days.never = Some(30.0)).contains("outside of `min` to `max`"));
        assert!(refused(|days| days.never = Some(f64::NAN)).contains("outside of `min` to `max`"));
        let worded = |days: &mut FeatureRule| {
            days.categories = vec!["a".into()];
            days.impute = Impute::Named(NamedImpute::None);
        };
        assert!(refused(worded).contains("no `never`"));
    }

    proptest::proptest! {
        /// What follows from days ago alone stays between its ends, whatever is said.
        #[test]
        fn days_reach_the_model_within_training_or_as_never(days in 0.0..5000.0f64) {
            let schema = since();
            let given = schema.read([("pdays", Some(days))]).expect("possible");
            let mut row = [0.0; 3];
            schema.prepare(&given.raw, &mut row);
            if days == 999.0 {
                proptest::prop_assert_eq!(row, [999.0, 0.0, 0.0]);
            } else {
                proptest::prop_assert!((1.0..=30.0).contains(&row[0]) && row[1] == 1.0 && row[2] == row[0]);
                proptest::prop_assert_eq!(given.outside.is_empty(), (1.0..=30.0).contains(&days));
            }
        }
    }

    fn categorical() -> FeatureSchema {
        let none = Impute::Named(NamedImpute::None);
        let job = FeatureRule {
            required: true,
            impute: none,
            categories: ["admin.", "retired", "unknown"].map(str::to_owned).into(),
            ..rule("job")
        };
        FeatureSchema::new(vec![job, rule("age")], true).expect("valid")
    }

    #[test]
    fn a_category_is_its_position_and_is_never_standardised() {
        let schema = categorical();
        let given = schema.read([("job", Some(Value::Text("retired"))), ("age", Some(Value::Number(20.0)))]);
        let given = given.expect("known");
        let mut row = [0.0; 2];
        schema.prepare(&given.raw, &mut row);
        assert_eq!(row, [1.0, 2.0]);
        assert_eq!(schema.collect_row(&given.raw).expect("the same row"), given);
    }

    #[test]
    fn an_unknown_category_is_as_good_as_missing_and_an_empty_one_is_missing() {
        let schema = categorical();
        let given = schema.read([("job", Some(Value::Text("astronaut")))]).expect("answered with a warning");
        assert!(given.raw[0].is_nan());
        assert_eq!((given.unknown.as_slice(), given.missing.as_slice()), (&[0][..], &[1][..]));
        let missing = schema.read([("job", Some(Value::Text("")))]).expect_err("required");
        assert_eq!(missing.to_string(), "feature `job` is required");
    }

    #[test]
    fn text_and_numbers_are_not_mixed_up() {
        let schema = categorical();
        let fault = |name, value| schema.read([(name, Some(value))]).expect_err("fault").to_string();
        assert_eq!(
            fault("job", Value::Number(1.0)),
            "feature `job` must be a text, one of `admin.`, `retired`, `unknown`"
        );
        assert_eq!(fault("age", Value::Text("20")), "feature `age` must be a number");
        assert_eq!(fault("age", Value::Typed("twenty")), "feature `age` must be a number");
        let typed = schema.read([("job", Some(Value::Typed("admin."))), ("age", Some(Value::Typed(" 20 ")))]);
        assert_eq!(typed.expect("read by what the schema says").raw.as_slice(), [0.0, 20.0]);
    }

    #[test]
    fn categories_that_can_not_be_used_are_refused() {
        let refused = |change: fn(&mut FeatureRule)| {
            let mut job = categorical().rules()[0].clone();
            change(&mut job);
            FeatureSchema::new(vec![job], false).expect_err("refused").to_string()
        };
        assert!(refused(|job| job.categories.push("retired".into())).contains("without repeats"));
        assert!(refused(|job| job.impute = Impute::default()).contains("`impute` must be \"none\""));
        assert!(refused(|job| job.impute = Impute::Value(3.0)).contains("the position of one of them"));
        assert!(refused(|job| job.transform = Transform::Log1p).contains("no `transform`"));
    }

    #[test]
    fn a_feature_that_follows_from_others_is_not_missing() {
        let names = ["recency_days", "purchase_count", "tenure_days", "monetary_avg"];
        let required = names.map(|name| FeatureRule { required: true, ..rule(name) });
        let optional = ["total_spend_usd", "purchase_gap_mean_days", "items_count"]
            .map(|name| FeatureRule { impute: Impute::Named(NamedImpute::None), ..rule(name) });
        let schema = FeatureSchema::new(required.into_iter().chain(optional).collect(), false).expect("valid");
        let read = |count: f64| {
            let given = [10.0, count, 40.0, 25.0];
            schema.read(names.into_iter().zip(given.map(Some))).expect("valid")
        };
        assert_eq!(read(4.0).raw[4..6], [100.0, 10.0], "25 × 4, and (40 - 10) / 3");
        assert_eq!(read(1.0).raw[5], 40.0, "the tenure for a single purchase");
        assert_eq!(read(4.0).missing.as_slice(), [6]);
        assert_eq!((0..7).map(|column| schema.may_miss(column)).collect::<Vec<_>>()[4..], [false, false, true]);
    }

    #[test]
    fn features_are_explained_by_the_bundles_groups_else_the_catalogues_else_alone() {
        let mut rules: Vec<_> = ["monetary_avg", "age", "recency_days", "total_spend_usd", "job"].map(rule).into();
        rules[4].group = Some("person".to_owned());
        rules[1].group = Some("person".to_owned());
        let schema = FeatureSchema::new(rules.clone(), false).expect("valid");
        assert_eq!(schema.group_names().iter().map(|name| &**name).collect::<Vec<_>>(), ["money", "person", "recency"]);
        assert_eq!((0..5).map(|position| schema.group_of(position)).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
        rules[1].group = Some(String::new());
        let refused = FeatureSchema::new(rules, false).expect_err("refused").to_string();
        assert_eq!(refused, "feature `age` must have a `group` that is not empty, or none");
    }

    #[test]
    fn the_typical_customer_is_the_median_and_knows_no_more_than_this_one() {
        let bins = |edges: &[f64], values: &[f64]| DriftBins::of(edges.to_vec(), values);
        let count = FeatureRule { drift: bins(&[1.0, 2.0], &[1.0, 1.0, 1.0, 2.0, 9.0]), ..rule("purchase_count") };
        let log = FeatureRule { transform: Transform::Log1p, mean: 2.0, ..rule("monetary_avg") };
        let zero = FeatureRule { impute: Impute::Value(0.0), ..rule("sentiment_trend_slope") };
        let mut job = categorical().rules()[0].clone();
        job.drift = bins(&[1.0], &[2.0, 2.0, 0.0]);
        let schema = FeatureSchema::new(vec![count, log, zero, job, rule("age")], false).expect("valid");
        let typical = schema.typical(&[4.0, 50.0, 0.5, 0.0, f64::NAN]);
        assert_eq!(typical[0], 1.0);
        assert!((typical[1] - 2.0_f64.exp_m1()).abs() < 1e-12);
        assert_eq!(typical[2..4], [0.0, 2.0]);
        assert!(typical[4].is_nan());
    }

    #[test]
    fn what_follows_from_others_is_told_apart_from_what_was_given() {
        let names = ["recency_days", "purchase_count", "tenure_days", "monetary_avg", "total_spend_usd"];
        let schema = FeatureSchema::new(names.map(rule).into(), false).expect("valid");
        assert_eq!(schema.following(&[10.0, 4.0, 40.0, 25.0, 100.0]).as_slice(), [4]);
        assert_eq!(schema.following(&[10.0, 4.0, 40.0, 25.0, 90.0]).len(), 0);
        let mut row = [10.0, 4.0, 40.0, f64::NAN, 90.0];
        schema.follow(&mut row);
        assert_eq!((row[3], schema.following(&row).as_slice()), (22.5, &[4][..]), "either is what the other says");
    }

    #[test]
    fn derived_columns_stand_behind_the_features() {
        use super::super::derived::{Bend, Factor};
        let factor = |of: &str, over: Option<&str>, apply| Factor { of: of.into(), over: over.map(Into::into), apply };
        let derived = |name: &str, factors| DerivedRule { name: name.into(), factors, mean: 1.0, std: 2.0 };
        let ratio = derived("share", vec![factor("recency_days", Some("tenure_days"), Bend::Ratio)]);
        let product = derived(
            "bent",
            vec![factor("monetary_avg", None, Bend::Log1p), factor("recency_days", None, Bend::AboveOne)],
        );
        let rules = ["recency_days", "tenure_days", "monetary_avg"]
            .map(|name| FeatureRule { impute: Impute::Named(NamedImpute::None), ..rule(name) });
        let schema = FeatureSchema::with_derived(rules.to_vec(), vec![ratio.clone(), product], true).expect("valid");
        assert_eq!(schema.columns(), 5);
        assert_eq!(schema.column_names().collect::<Vec<_>>()[3..], ["share", "bent"]);
        assert_eq!(schema.sources(3), [0, 1]);
        let mut row = [0.0; 5];
        schema.prepare(&[20.0, 4.0, 1.0], &mut row);
        assert_eq!(row[3], 2.0, "(20 / 4 - 1) / 2");
        assert!((row[4] - (2.0_f64.ln() - 1.0) / 2.0).abs() < 1e-12);
        schema.prepare(&[20.0, f64::NAN, 1.0], &mut row);
        assert!(row[3].is_nan() && !row[4].is_nan());

        let refused = |rule: DerivedRule| {
            FeatureSchema::with_derived(rules.to_vec(), vec![rule], true).expect_err("refused").to_string()
        };
        let lone = derived("lone", vec![factor("recency_days", None, Bend::Ratio)]);
        assert_eq!(refused(lone), "feature `lone` has a ratio without `over`");
        let stranger = derived("x", vec![factor("age", None, Bend::Log1p)]);
        assert!(refused(stranger).contains("`age`, which is not one of the features"));
        assert!(refused(DerivedRule { name: "tenure_days".into(), ..ratio }).contains("is listed twice"));
    }

    #[test]
    fn impute_reads_from_toml_as_a_number_or_a_name() {
        #[derive(Deserialize)]
        struct Holder {
            impute: Impute,
        }
        let read = |text: &str| toml::from_str::<Holder>(text).map(|holder| holder.impute);
        assert_eq!(read("impute = 3.5"), Ok(Impute::Value(3.5)));
        assert_eq!(read("impute = \"none\""), Ok(Impute::Named(NamedImpute::None)));
        assert_eq!(read("impute = \"mean\""), Ok(Impute::Named(NamedImpute::Mean)));
        assert!(read("impute = \"median\"").is_err());
    }
}
