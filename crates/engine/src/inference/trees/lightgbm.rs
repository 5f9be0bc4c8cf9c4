//! `LightGBM`'s own text file, as `Booster.save_model` writes it (versions 2 to 4 of the format).
//!
//! A header of `key=value` lines, then a block for each tree: parallel lists of splits and leaves, in which a child below
//! zero is the leaf of that number, counted from -1 on. How a row goes through it is `include/LightGBM/tree.h`
//! (`NumericalDecision`, `CategoricalDecision`); how scores become answers, `ConvertOutput` of each objective.

use std::collections::HashMap;
use std::str::FromStr;

use super::booster::{Booster, Library};
use super::forest::{Listed, SplitQuestion};
use crate::features::FeatureRule;
use crate::inference::BackendError;
use crate::inference::onnx_graph::LastStep;

/// Values this close to zero are zero: `kZeroThreshold`, which is written as a single.
const ZERO: f64 = 1e-35_f32 as f64;
/// Most ranges of categories in all splits: 64 MiB of them.
const MOST_RANGES: usize = 1 << 22;

/// Bits of `decision_type`.
const CATEGORICAL: u8 = 1;
const DEFAULT_LEFT: u8 = 2;

/// What a split takes for missing, beside a value that is not a number where that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// Nothing: not a number counts as zero.
    Nothing,
    Zero,
    NotANumber,
}

/// The names of the columns as the header has them.
pub(super) fn names(model: &[u8]) -> Result<Vec<String>, BackendError> {
    let header = text(model)?.split("\nTree=").next().unwrap_or_default();
    Ok(Block::read(header).words("feature_names").map(str::to_owned).collect())
}

fn text(model: &[u8]) -> Result<&str, BackendError> {
    std::str::from_utf8(model).map_err(|_| malformed("it is not UTF-8"))
}

pub(super) fn read(model: &[u8], rules: &[FeatureRule]) -> Result<Booster<f64>, BackendError> {
    let text = text(model)?;
    let Some((trees, after)) = text.split_once("\nend of trees") else {
        return Err(malformed("it has no line `end of trees`: it is cut off"));
    };
    let mut blocks = trees.split("\nTree=");
    let header = Block::read(blocks.next().unwrap_or_default());
    match header.word("version")? {
        "v2" | "v3" | "v4" => {}
        other => return Err(Library::LightGbm.unsupported(format_args!("version `{other}`"))),
    }
    if header.number::<usize>("num_tree_per_iteration")? != 1 {
        return Err(Library::LightGbm.unsupported("a model of several classes or targets"));
    }
    let width = header.number::<usize>("max_feature_idx")?.saturating_add(1);
    let names: Vec<String> = header.words("feature_names").map(str::to_owned).collect();
    let mut booster = Booster {
        names,
        width,
        listed: Vec::new(),
        roots: Vec::new(),
        weights: Vec::new(),
        average: header.flags.contains(&"average_output"),
        last: last_step(&header)?,
    };
    same_categories(after, rules)?;
    let mut ranges = 0;
    for (number, block) in blocks.enumerate() {
        let tree = Block::read(block);
        let read = tree_of(&tree, &mut booster, &mut ranges);
        read.map_err(|err| Library::LightGbm.malformed_as(err, |reason| format!("tree {number}: {reason}")))?;
    }
    Ok(booster)
}

fn malformed(reason: impl Into<String>) -> BackendError {
    Library::LightGbm.malformed(reason)
}

/// Lines of one block by their key, and those without a value.
struct Block<'t> {
    values: HashMap<&'t str, &'t str>,
    flags: Vec<&'t str>,
}

impl<'t> Block<'t> {
    fn read(text: &'t str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut block = Self { values: HashMap::new(), flags: Vec::new() };
        for line in lines {
            match line.split_once('=') {
                Some((key, value)) => drop(block.values.insert(key, value)),
                None => block.flags.push(line),
            }
        }
        block
    }

    fn word(&self, key: &str) -> Result<&'t str, BackendError> {
        self.values.get(key).copied().ok_or_else(|| malformed(format!("`{key}` is missing")))
    }

    fn words(&self, key: &str) -> impl Iterator<Item = &'t str> {
        self.values.get(key).copied().unwrap_or_default().split_ascii_whitespace()
    }

    fn number<N: FromStr>(&self, key: &str) -> Result<N, BackendError> {
        self.word(key)?.trim().parse().map_err(|_| malformed(format!("`{key}` is no number that fits")))
    }

    /// A list of as many numbers as there must be.
    fn list<N: FromStr>(&self, key: &str, count: usize) -> Result<Vec<N>, BackendError> {
        let found: Result<Vec<N>, _> = self.words(key).map(str::parse).collect();
        let found = found.map_err(|_| malformed(format!("`{key}` holds what is no number that fits")))?;
        if found.len() == count {
            Ok(found)
        } else {
            Err(malformed(format!("`{key}` holds {} numbers, not {count}", found.len())))
        }
    }
}

/// From the trees' sum or average to what `predict` returns.
fn last_step(header: &Block<'_>) -> Result<LastStep, BackendError> {
    let Some(objective) = header.values.get("objective") else {
        return Err(Library::LightGbm.unsupported("an objective of one's own, whose last step no file tells,"));
    };
    let mut words = objective.split_ascii_whitespace();
    let name = words.next().unwrap_or_default();
    let options: Vec<&str> = words.collect();
    match name {
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" => {
            Ok(if options.contains(&"sqrt") { LastStep::SignedSquare } else { LastStep::None })
        }
        "poisson" | "gamma" | "tweedie" => Ok(LastStep::Exp),
        "binary" => {
            let slope = options.iter().find_map(|option| option.strip_prefix("sigmoid:"));
            let slope = slope.map_or(Ok(1.0), str::parse::<f64>).ok().filter(|slope| slope.is_finite());
            slope.map(LastStep::Sigmoid).ok_or_else(|| malformed("`sigmoid` of the objective is no number"))
        }
        "cross_entropy" => Ok(LastStep::Sigmoid(1.0)),
        "cross_entropy_lambda" => Ok(LastStep::Softplus),
        other => Err(Library::LightGbm.unsupported(format_args!("the objective `{other}`"))),
    }
}

/// Categories of pandas stand in the file as text and in its trees as positions: they must be the bundle's, or numbers that
/// are their own positions.
fn same_categories(after: &str, rules: &[FeatureRule]) -> Result<(), BackendError> {
    let line = after.lines().rev().find_map(|line| line.trim().strip_prefix("pandas_categorical:"));
    let Some(line) = line.filter(|line| *line != "null") else { return Ok(()) };
    let lists: Vec<Vec<serde_json::Value>> =
        serde_json::from_str(line).map_err(|_| malformed("`pandas_categorical` is no list of lists"))?;
    let is_position = |(at, value): (usize, &serde_json::Value)| value.as_u64() == Some(at as u64);
    let are_positions = |list: &Vec<serde_json::Value>| list.iter().enumerate().all(is_position);
    let known = rules.iter().filter(|rule| !rule.categories.is_empty());
    let is_known = |list: &Vec<serde_json::Value>, rule: &FeatureRule| {
        list.len() == rule.categories.len()
            && list.iter().zip(&rule.categories).all(|(value, category)| value.as_str() == Some(category))
    };
    let as_text: Vec<_> = lists.iter().filter(|list| !are_positions(list)).collect();
    let same =
        as_text.len() <= known.clone().count() && as_text.iter().zip(known).all(|(list, rule)| is_known(list, rule));
    if same {
        return Ok(());
    }
    Err(Library::LightGbm.unsupported(
        "categories of a pandas column that are not those of the bundle's features in their order (fit on their positions \
         instead)",
    ))
}

/// Adds a tree's nodes and leaves.
fn tree_of(tree: &Block<'_>, booster: &mut Booster<f64>, ranges: &mut usize) -> Result<(), BackendError> {
    if tree.values.get("is_linear").is_some_and(|value| value.trim() != "0") {
        return Err(Library::LightGbm.unsupported("linear models in leaves (`linear_tree`)"));
    }
    let leaves: usize = tree.number("num_leaves")?;
    let values: Vec<f64> = tree.list("leaf_value", leaves)?;
    let splits = leaves.checked_sub(1).ok_or_else(|| malformed("`num_leaves` is 0"))?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(malformed("a leaf's value is not a finite number"));
    }
    let first = booster.listed.len();
    // Splits first, then leaves.
    let place = |child: i64| -> Result<usize, BackendError> {
        let (number, count, start) = if child < 0 { (-(child + 1), leaves, splits) } else { (child, splits, 0) };
        let number = usize::try_from(number).ok().filter(|number| *number < count);
        number.map(|number| first + start + number).ok_or_else(|| malformed("a split has a child that is not there"))
    };
    if splits > 0 {
        let features: Vec<u32> = tree.list("split_feature", splits)?;
        let thresholds: Vec<f64> = tree.list("threshold", splits)?;
        let kinds: Vec<u8> = tree.list("decision_type", splits)?;
        let left: Vec<i64> = tree.list("left_child", splits)?;
        let right: Vec<i64> = tree.list("right_child", splits)?;
        let categories = Categories::of(tree)?;
        for at in 0..splits {
            let (question, missing_yes) = if kinds[at] & CATEGORICAL == 0 {
                numeric(thresholds[at], kinds[at])?
            } else {
                let chosen = categories.ranges(thresholds[at])?;
                *ranges += chosen.len();
                if *ranges > MOST_RANGES {
                    return Err(malformed(format!("its categories are in more than {MOST_RANGES} ranges")));
                }
                (SplitQuestion::InAny(chosen), false)
            };
            booster.listed.push(Listed::Branch {
                feature: features[at],
                question,
                yes: place(left[at])?,
                no: place(right[at])?,
                missing_yes,
            });
        }
    }
    for value in values {
        booster.listed.push(Listed::Leaf(booster.weights.len()..booster.weights.len() + 1));
        booster.weights.push(value);
    }
    booster.roots.push(first);
    Ok(())
}

/// What goes left at a numeric split, and whether a value that is not a number does.
fn numeric(threshold: f64, kind: u8) -> Result<(SplitQuestion<f64>, bool), BackendError> {
    let left = kind & DEFAULT_LEFT != 0;
    let missing = match kind >> 2 & 3 {
        0 => Missing::Nothing,
        1 => Missing::Zero,
        2 => Missing::NotANumber,
        _ => return Err(malformed("a split has an unknown kind of missing values")),
    };
    if threshold.is_nan() {
        return Err(malformed("a threshold is not a number"));
    }
    Ok(match missing {
        Missing::Nothing => (SplitQuestion::AtMost(threshold), 0.0 <= threshold),
        Missing::NotANumber => (SplitQuestion::AtMost(threshold), left),
        // Zeros go where missing values go, whatever the threshold says of them.
        Missing::Zero => {
            let below = (f64::NEG_INFINITY, threshold.min((-ZERO).next_down()));
            let zero = left.then_some((-ZERO, ZERO));
            let above = (threshold > ZERO).then_some((ZERO.next_up(), threshold));
            (SplitQuestion::InAny(joined(std::iter::once(below).chain(zero).chain(above))), left)
        }
    })
}

/// Ranges in order, those that touch made one.
fn joined(ranges: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut all: Vec<(f64, f64)> = Vec::new();
    for (low, high) in ranges {
        match all.last_mut() {
            Some(last) if last.1.next_up() >= low => last.1 = last.1.max(high),
            _ => all.push((low, high)),
        }
    }
    all
}

/// The sets of categories of a tree's splits: bits of whole words.
struct Categories {
    /// Where each set begins and ends.
    starts: Vec<usize>,
    words: Vec<u32>,
}

impl Categories {
    fn of(tree: &Block<'_>) -> Result<Self, BackendError> {
        let sets = tree.values.get("num_cat").map_or(Ok(0), |_| tree.number::<usize>("num_cat"))?;
        if sets == 0 {
            return Ok(Self { starts: Vec::new(), words: Vec::new() });
        }
        let starts: Vec<usize> = tree.list("cat_boundaries", sets.saturating_add(1))?;
        let words: Vec<u32> = tree.list("cat_threshold", starts.last().copied().unwrap_or(0))?;
        Ok(Self { starts, words })
    }

    /// The values that are in a set. A row's value is cut to a whole number first, so that a category is all values up to
    /// the next one; category 0 also those above -1.
    fn ranges(&self, set: f64) -> Result<Vec<(f64, f64)>, BackendError> {
        let wrong = || malformed("a split asks for categories that are not there");
        let at = if set >= 0.0 && set.fract() == 0.0 { set as usize } else { return Err(wrong()) };
        let (Some(&start), Some(&end)) = (self.starts.get(at), self.starts.get(at.saturating_add(1))) else {
            return Err(wrong());
        };
        let words = self.words.get(start..end).ok_or_else(wrong)?;
        let mut ranges: Vec<(f64, f64)> = Vec::new();
        let bits = words.iter().enumerate().flat_map(|(word, bits)| {
            (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word as f64 * 32.0 + f64::from(bit))
        });
        for category in bits {
            let low = if category == 0.0 { (-1.0_f64).next_up() } else { category };
            let high = (category + 1.0).next_down();
            match ranges.last_mut() {
                Some(last) if last.1.next_up() == low => last.1 = high,
                _ => ranges.push((low, high)),
            }
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_go_where_missing_values_go() {
        let asked = |threshold: f64, left: bool| {
            let (question, missing) =
                numeric(threshold, (1 << 2) | if left { DEFAULT_LEFT } else { 0 }).expect("valid");
            let SplitQuestion::InAny(ranges) = question else { panic!("not ranges") };
            assert_eq!(missing, left);
            move |value: f64| ranges.iter().any(|(low, high)| (*low..=*high).contains(&value))
        };
        let tiny = 1e-36;
        for threshold in [-3.0, -1e-40, 0.0, 1e-40, 2.5] {
            for left in [true, false] {
                let goes_left = asked(threshold, left);
                for zero in [0.0, -0.0, tiny, -tiny, ZERO, -ZERO] {
                    assert_eq!(goes_left(zero), left, "{zero} at {threshold}");
                }
                for value in [-9.0, -3.0, -2.9, -1e-34, 1e-34, 2.5, 2.6] {
                    assert_eq!(goes_left(value), value <= threshold, "{value} at {threshold}");
                }
            }
        }
        // One range where one says it all: that is a mask, and fast.
        assert!(
            matches!(numeric(2.5, (1 << 2) | DEFAULT_LEFT), Ok((SplitQuestion::InAny(ranges), true)) if ranges.len() == 1)
        );
    }

    #[test]
    fn categories_are_whole_numbers_of_rows_that_are_cut() {
        let sets = Categories { starts: vec![0, 2, 3], words: vec![0b1011, 1 << 31, 0] };
        let ranges = sets.ranges(0.0).expect("a set");
        let holds = |value: f64| ranges.iter().any(|(low, high)| (*low..=*high).contains(&value));
        for (value, is_in) in
            [(-1.0, false), (-0.5, true), (0.0, true), (1.9, true), (2.0, false), (3.7, true), (4.0, false)]
        {
            assert_eq!(holds(value), is_in, "{value}");
        }
        assert!(holds(63.0) && !holds(62.9) && !holds(64.0));
        assert_eq!(ranges.len(), 3);
        assert!(sets.ranges(1.0).expect("a set").is_empty());
        for wrong in [2.0, 0.5, -1.0, 1e300, f64::NAN] {
            assert!(sets.ranges(wrong).is_err(), "{wrong}");
        }
    }
}
