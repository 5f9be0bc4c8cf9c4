//! Reads `TreeEnsembleRegressor`, `TreeEnsembleClassifier` (ai.onnx.ml 1-4) and `TreeEnsemble` (ai.onnx.ml 5) nodes
//! into a forest and what is to be done with its sums.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use super::finish::{Aggregate, Columns, Finish};
use super::forest::{Forest, Listed, SplitQuestion};
use super::scalar::Scalar;
use crate::inference::BackendError;
use crate::inference::onnx_graph::graph::{Attribute, Node};
use crate::inference::onnx_graph::transform::Transform;

/// Columns a single ensemble may write.
const MOST_TARGETS: usize = 4096;

/// `TreeEnsembleRegressor`.
pub(super) fn regressor<T: Scalar>(node: &Node) -> Result<(Forest<T>, Finish<T>), BackendError> {
    let targets = targets(node, usize::try_from(node.int("n_targets").unwrap_or(1)).ok())?;
    let aggregate = match node.text("aggregate_function") {
        None | Some(b"SUM") => Aggregate::Sum,
        Some(b"AVERAGE") => Aggregate::Average,
        Some(b"MIN") => Aggregate::Min,
        Some(b"MAX") => Aggregate::Max,
        Some(_) => return Err(node.malformed("unknown `aggregate_function`")),
    };
    let forest = forest(node, "target", targets)?;
    let base = numbers(node, "base_values")?;
    if !base.is_empty() && base.len() != targets {
        return Err(node.malformed(format!("{} `base_values` for {targets} targets", base.len())));
    }
    check_targets(node, &forest, targets, !base.is_empty())?;
    let finish = Finish { aggregate, base, transform: transform(node)?, columns: Columns::PerTarget(targets) };
    Ok((forest, finish))
}

/// `TreeEnsembleClassifier`: the class scores. Two classes scored by one number are the special case.
pub(super) fn classifier<T: Scalar>(node: &Node) -> Result<(Forest<T>, Finish<T>), BackendError> {
    let labels = node.texts("classlabels_strings").len().max(node.ints("classlabels_int64s").len());
    let classes = targets(node, Some(labels))?;
    let forest = forest(node, "class", classes)?;
    let base: Vec<T> = numbers(node, "base_values")?;
    let transform = transform(node)?;
    let finish = |base, columns| Finish { aggregate: Aggregate::Sum, base, transform, columns };
    if classes != 2 {
        if !base.is_empty() && base.len() != classes {
            return Err(node.malformed(format!("{} `base_values` for {classes} classes", base.len())));
        }
        return Ok((forest, finish(base, Columns::PerTarget(classes))));
    }
    if forest.weights.iter().all(|&(class, _)| class == 0) {
        if base.len() > 1 {
            return Err(unsupported("a binary classifier of one score with two `base_values`"));
        }
        if transform == Transform::Probit {
            return Err(unsupported("a binary classifier of one score with a `PROBIT` transform"));
        }
        let positive = forest.weights.iter().all(|&(_, weight)| weight >= T::ZERO);
        return Ok((forest, finish(base, Columns::FromOne { positive })));
    }
    // ONNX is vague here and ONNX Runtime mixes the scores of the two classes up: better no answer than a guess.
    if !base.is_empty() {
        return Err(unsupported("a binary classifier with scores of both classes and `base_values`"));
    }
    if !forest.always_scores(1) {
        return Err(unsupported("a binary classifier that leaves the second class of some rows without a score"));
    }
    Ok((forest, finish(base, Columns::PerTarget(2))))
}

/// `TreeEnsemble`.
pub(super) fn ensemble<T: Scalar>(node: &Node) -> Result<(Forest<T>, Finish<T>), BackendError> {
    let targets = targets(node, usize::try_from(node.int("n_targets").unwrap_or(1)).ok())?;
    let aggregate = match node.int("aggregate_function").unwrap_or(1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        _ => return Err(node.malformed("unknown `aggregate_function`")),
    };
    let transform = match node.int("post_transform").unwrap_or(0) {
        0 => Transform::None,
        1 | 2 => {
            return Err(unsupported(
                "`TreeEnsemble` with `post_transform` 1 or 2: ONNX and ONNX Runtime exchange them",
            ));
        }
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        _ => return Err(node.malformed("unknown `post_transform`")),
    };
    let leaf_weights: Vec<T> = numbers(node, "leaf_weights")?;
    let leaf_targets = node.ints("leaf_targetids");
    same_length(node, leaf_weights.len(), &[("leaf_targetids", leaf_targets.len())])?;
    let weights = leaf_targets
        .iter()
        .zip(leaf_weights)
        .map(|(&target, weight)| Ok((target_number(node, target, targets)?, weight)))
        .collect::<Result<Vec<_>, BackendError>>()?;

    let modes: Vec<f64> = node.tensor("nodes_modes").map(|tensor| tensor.values.clone()).unwrap_or_default();
    let thresholds: Vec<T> = numbers(node, "nodes_splits")?;
    let features = node.ints("nodes_featureids");
    let yes = node.ints("nodes_truenodeids");
    let yes_leaf = node.ints("nodes_trueleafs");
    let no = node.ints("nodes_falsenodeids");
    let no_leaf = node.ints("nodes_falseleafs");
    let missing = node.ints("nodes_missing_value_tracks_true");
    let nodes = modes.len();
    same_length(
        node,
        nodes,
        &[
            ("nodes_splits", thresholds.len()),
            ("nodes_featureids", features.len()),
            ("nodes_truenodeids", yes.len()),
            ("nodes_trueleafs", yes_leaf.len()),
            ("nodes_falsenodeids", no.len()),
            ("nodes_falseleafs", no_leaf.len()),
        ],
    )?;
    // Leaves are listed behind the branches.
    let child = |at: i64, leaf: i64| match usize::try_from(at) {
        Ok(at) if leaf != 0 && at < weights.len() => Ok(nodes + at),
        Ok(at) if leaf == 0 && at < nodes => Ok(at),
        _ => Err(node.malformed(format!("a tree node has a child `{at}` that is not there"))),
    };
    let members: Vec<T> = numbers(node, "membership_values")?;
    let mut sets = members.split(|member| member.is_missing());
    let mut listed = Vec::with_capacity(nodes + weights.len());
    for at in 0..nodes {
        let threshold = thresholds[at];
        let question = match modes[at] as i64 {
            0 => SplitQuestion::AtMost(threshold),
            1 => SplitQuestion::Below(threshold),
            2 => SplitQuestion::AtLeast(threshold),
            3 => SplitQuestion::Above(threshold),
            4 => SplitQuestion::Equals(threshold),
            5 => SplitQuestion::Differs(threshold),
            6 => SplitQuestion::OneOf(sets.next().map(<[T]>::to_vec).unwrap_or_default()),
            other => return Err(node.malformed(format!("unknown node mode `{other}`"))),
        };
        listed.push(Listed::Branch {
            feature: feature(node, features[at])?,
            question,
            yes: child(yes[at], yes_leaf[at])?,
            no: child(no[at], no_leaf[at])?,
            missing_yes: missing.get(at) == Some(&1),
        });
    }
    listed.extend((0..weights.len()).map(|at| Listed::Leaf(at..at + 1)));
    let mut roots = Vec::new();
    for &root in node.ints("tree_roots") {
        let at = child(root, 0)?;
        // A tree that is one leaf is written as a branch with twice the same leaf.
        let single = yes_leaf[at] != 0 && no_leaf[at] != 0 && yes[at] == no[at];
        roots.push(if single { child(yes[at], 1)? } else { at });
    }
    let forest = Forest::grow(&listed, roots.into_iter(), weights)?;
    check_targets(node, &forest, targets, false)?;
    Ok((forest, Finish { aggregate, base: Vec::new(), transform, columns: Columns::PerTarget(targets) }))
}

/// Refuses a model of several targets that lost the trees of one, as an exporter is known to do, and one whose base
/// value ONNX Runtime leaves out for rows without a weight.
fn check_targets<T: Scalar>(node: &Node, forest: &Forest<T>, targets: usize, base: bool) -> Result<(), BackendError> {
    if targets == 1 {
        return Ok(());
    }
    let mut scored = vec![false; targets];
    for &(target, _) in &forest.weights {
        scored[target as usize] = true;
    }
    if let Some(lost) = scored.iter().position(|&scored| !scored) {
        return Err(node.malformed(format!("no leaf has a weight for target {lost} of {targets}")));
    }
    if base && !(0..targets as u32).all(|target| forest.always_scores(target)) {
        return Err(unsupported("`base_values` of a target that some rows have no weight for"));
    }
    Ok(())
}

/// The trees of a `TreeEnsembleRegressor` (`kind` is `target`) or `TreeEnsembleClassifier` (`class`).
fn forest<T: Scalar>(node: &Node, kind: &str, targets: usize) -> Result<Forest<T>, BackendError> {
    let modes = node.texts("nodes_modes");
    let thresholds: Vec<T> = numbers(node, "nodes_values")?;
    let features = node.ints("nodes_featureids");
    let yes = node.ints("nodes_truenodeids");
    let no = node.ints("nodes_falsenodeids");
    let trees = node.ints("nodes_treeids");
    let ids = node.ints("nodes_nodeids");
    let missing = node.ints("nodes_missing_value_tracks_true");
    let nodes = modes.len();
    same_length(
        node,
        nodes,
        &[
            ("nodes_values", thresholds.len()),
            ("nodes_featureids", features.len()),
            ("nodes_truenodeids", yes.len()),
            ("nodes_falsenodeids", no.len()),
            ("nodes_treeids", trees.len()),
            ("nodes_nodeids", ids.len()),
        ],
    )?;

    let mut positions = HashMap::with_capacity(nodes);
    let mut roots = Vec::new();
    for (at, (&tree, &id)) in trees.iter().zip(ids).enumerate() {
        match positions.entry((tree, id)) {
            Entry::Vacant(entry) => entry.insert(at),
            Entry::Occupied(_) => return Err(node.malformed(format!("tree `{tree}` has two nodes `{id}`"))),
        };
        // A tree's first node is its root.
        if at == 0 || trees[at - 1] != tree {
            roots.push(at);
        }
    }
    let (ranges, weights) = weights(node, kind, targets, &positions)?;

    let mut listed = Vec::with_capacity(nodes);
    for at in 0..nodes {
        let threshold = thresholds[at];
        let question = match modes[at].as_ref() {
            b"LEAF" => {
                listed.push(Listed::Leaf(ranges[at].clone()));
                continue;
            }
            b"BRANCH_LEQ" => SplitQuestion::AtMost(threshold),
            b"BRANCH_LT" => SplitQuestion::Below(threshold),
            b"BRANCH_GTE" => SplitQuestion::AtLeast(threshold),
            b"BRANCH_GT" => SplitQuestion::Above(threshold),
            b"BRANCH_EQ" => SplitQuestion::Equals(threshold),
            b"BRANCH_NEQ" => SplitQuestion::Differs(threshold),
            other => {
                return Err(node.malformed(format!("unknown node mode `{}`", String::from_utf8_lossy(other))));
            }
        };
        let child = |id: i64| {
            positions
                .get(&(trees[at], id))
                .copied()
                .ok_or_else(|| node.malformed(format!("tree `{}` has no node `{id}`", trees[at])))
        };
        listed.push(Listed::Branch {
            feature: feature(node, features[at])?,
            question,
            yes: child(yes[at])?,
            no: child(no[at])?,
            missing_yes: missing.get(at) == Some(&1),
        });
    }
    Forest::grow(&listed, roots.into_iter(), weights)
}

type Weights<T> = (Vec<Range<usize>>, Vec<(u32, T)>);

/// For each node the range of its weights, and all weights in that order.
fn weights<T: Scalar>(
    node: &Node,
    kind: &str,
    targets: usize,
    positions: &HashMap<(i64, i64), usize>,
) -> Result<Weights<T>, BackendError> {
    let values: Vec<T> = numbers(node, &format!("{kind}_weights"))?;
    let [ids, nodes, trees] = ["ids", "nodeids", "treeids"].map(|name| node.ints(&format!("{kind}_{name}")));
    same_length(
        node,
        values.len(),
        &[("weight targets", ids.len()), ("weight nodes", nodes.len()), ("weight trees", trees.len())],
    )?;
    let mut found = Vec::with_capacity(values.len());
    for (at, &value) in values.iter().enumerate() {
        let Some(&position) = positions.get(&(trees[at], nodes[at])) else {
            return Err(node.malformed(format!("a weight is for node `{}` of tree `{}`", nodes[at], trees[at])));
        };
        found.push((position, (target_number(node, ids[at], targets)?, value)));
    }
    found.sort_by_key(|&(position, (target, _))| (position, target));
    if found.is_sorted_by(|left, right| (left.0, left.1.0) != (right.0, right.1.0)) {
        let mut ranges = vec![0..0; positions.len()];
        for (at, &(position, _)) in found.iter().enumerate() {
            let range: &mut Range<usize> = &mut ranges[position];
            *range = if range.end == 0 { at..at + 1 } else { range.start..at + 1 };
        }
        Ok((ranges, found.into_iter().map(|(_, weight)| weight).collect()))
    } else {
        // ONNX Runtime takes the first for a model of one target and adds them up otherwise.
        Err(unsupported("a leaf with two weights for one target"))
    }
}

/// A list of numbers given as plain floats, as a tensor, or as a tensor under the name with `_as_tensor`.
fn numbers<T: Scalar>(node: &Node, name: &str) -> Result<Vec<T>, BackendError> {
    let tensor = node.tensor(name).or_else(|| node.tensor(&format!("{name}_as_tensor")));
    match (node.attributes.get(name), tensor) {
        (_, Some(tensor)) => Ok(tensor.values.iter().map(|&value| T::from_f64(value)).collect()),
        (Some(Attribute::Floats(values)), None) => {
            Ok(values.iter().map(|&value| T::from_f64(f64::from(value))).collect())
        }
        (None, None) => Ok(Vec::new()),
        (Some(_), None) => Err(node.malformed(format!("attribute `{name}` is not a list of numbers"))),
    }
}

fn transform(node: &Node) -> Result<Transform, BackendError> {
    Transform::named(node.text("post_transform")).ok_or_else(|| node.malformed("unknown `post_transform`"))
}

fn targets(node: &Node, count: Option<usize>) -> Result<usize, BackendError> {
    count.filter(|count| (1..=MOST_TARGETS).contains(count)).ok_or_else(|| {
        let count = count.map_or("a negative number of".to_owned(), |count| count.to_string());
        node.malformed(format!("{count} targets or classes, 1 to {MOST_TARGETS} are possible"))
    })
}

fn target_number(node: &Node, target: i64, targets: usize) -> Result<u32, BackendError> {
    match u32::try_from(target) {
        Ok(number) if (number as usize) < targets => Ok(number),
        _ => Err(node.malformed(format!("a weight for target or class `{target}` of {targets}"))),
    }
}

fn feature(node: &Node, feature: i64) -> Result<u32, BackendError> {
    u32::try_from(feature).map_err(|_| node.malformed(format!("a tree node reads column `{feature}`")))
}

fn same_length(node: &Node, length: usize, others: &[(&str, usize)]) -> Result<(), BackendError> {
    match others.iter().find(|(_, other)| *other != length) {
        None => Ok(()),
        Some((name, other)) => Err(node.malformed(format!("{other} `{name}` where {length} are needed"))),
    }
}

fn unsupported(what: &str) -> BackendError {
    BackendError::Unsupported { backend: "trees", what: what.to_owned() }
}
