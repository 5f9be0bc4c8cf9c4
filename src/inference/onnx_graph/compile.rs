//! Turns a graph into the steps of `program.rs`.
//!
//! Operators that only move numbers about (reshapes, concatenation, selections) cost nothing at run time: a tensor is
//! a list of registers, and they make another list of the same ones. Whatever is computed from a class label is a
//! label too, and labels are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::graph::{Declared, Graph, Node, Number, Tensor, malformed, standard};
use super::program::{Binary, Norm, Operation, Program, Register, Step, Unary};
use super::shape::{Dim, Shape};
use super::transform::Transform;
use crate::inference::BackendError;
use crate::inference::trees::{self, Ensemble};

/// Registers one program may have, and numbers all its tensors together may have.
const MOST_REGISTERS: usize = 1 << 16;
const MOST_NUMBERS: usize = 1 << 22;
/// The newest `ai.onnx.ml` whose operators are known here.
const NEWEST_ML: i64 = 5;

type Result<T> = std::result::Result<T, BackendError>;

/// Whether an operator is one this program runs. Not every use of one is: [`compile`] says which.
#[rustfmt::skip]
pub(super) fn is_supported(operator: &str, domain: &str) -> bool {
    standard(domain)
        && (trees::is_ensemble(operator)
            || matches!(
                operator,
                "Abs" | "Add" | "ArgMax" | "ArrayFeatureExtractor" | "Cast" | "CastLike" | "Clip" | "Concat"
                    | "Constant" | "Div" | "Exp" | "FeatureVectorizer" | "Flatten" | "Gather" | "Gemm" | "Identity"
                    | "Imputer" | "LinearClassifier" | "LinearRegressor" | "Log" | "MatMul" | "Mul" | "Neg"
                    | "Normalizer" | "Reciprocal" | "ReduceMean" | "ReduceSum" | "Reshape" | "Scaler" | "Sigmoid"
                    | "Slice" | "Softmax" | "Softplus" | "Sqrt" | "Squeeze" | "Sub" | "Sum" | "Unsqueeze" | "ZipMap"
            ))
}

/// Compiles a graph for rows of `features`; errors name `backend`.
pub(super) fn compile(graph: &Graph, features: &[&str], backend: &'static str) -> Result<Program> {
    let unsupported = |what: String| BackendError::Unsupported { backend, what };
    if let Some((_, version)) =
        graph.opsets.iter().find(|(domain, version)| domain == "ai.onnx.ml" && *version > NEWEST_ML)
    {
        return Err(unsupported(format!("operator set `ai.onnx.ml` {version}, {NEWEST_ML} is the newest known")));
    }
    let mut compiler =
        Compiler { backend, registers: Vec::new(), numbers: 0, steps: Vec::new(), values: BTreeMap::new() };
    for (name, tensor) in &graph.initializers {
        compiler.values.insert(name, Value::Constant(Cow::Borrowed(tensor)));
    }
    let inputs = compiler.inputs(&graph.inputs, features)?;
    for node in &graph.nodes {
        compiler.node(node)?;
    }
    let (mut outputs, mut results) = (Vec::new(), Vec::new());
    for name in &graph.outputs {
        match compiler.values.get(name.as_str()) {
            None => return Err(malformed(format!("output `{name}` is not computed"))),
            Some(Value::Constant(_)) => return Err(unsupported(format!("the constant output `{name}`"))),
            Some(Value::Label) => {}
            Some(Value::Rows(rows)) => match rows.registers.as_slice() {
                &[register] => {
                    outputs.push(name.clone());
                    results.push(register);
                }
                registers => {
                    outputs.extend((0..registers.len()).map(|at| format!("{name}[{at}]")));
                    results.extend(registers);
                }
            },
        }
    }
    if results.is_empty() {
        return Err(unsupported("a graph without a numeric output".to_owned()));
    }
    let Compiler { registers: initial, steps, .. } = compiler;
    let steps = needed(steps, &results, initial.len());
    Ok(Program { features: features.len(), initial, inputs, steps, outputs, results })
}

/// Drops steps no result depends on.
fn needed(steps: Vec<Step>, results: &[Register], registers: usize) -> Vec<Step> {
    let mut used = vec![false; registers];
    for &result in results {
        used[result as usize] = true;
    }
    let mut kept: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps.into_iter().rev() {
        let first = step.to as usize;
        if used[first..first + step.writes()].contains(&true) {
            for register in step.reads() {
                used[register as usize] = true;
            }
            kept.push(step);
        }
    }
    kept.reverse();
    kept
}

/// What a name in the graph stands for.
#[derive(Clone)]
enum Value<'a> {
    Rows(Rows),
    Constant(Cow<'a, Tensor>),
    /// A class label, or anything computed from one.
    Label,
}

/// A tensor computed for each row.
#[derive(Clone)]
struct Rows {
    shape: Shape,
    number: Number,
    /// As many as a row of `shape` has numbers.
    registers: Vec<Register>,
}

struct Compiler<'a> {
    backend: &'static str,
    registers: Vec<f64>,
    /// Length of all register lists so far: a small file could make them grow without end.
    numbers: usize,
    steps: Vec<Step>,
    values: BTreeMap<&'a str, Value<'a>>,
}

impl<'a> Compiler<'a> {
    fn unsupported(&self, what: impl Into<String>) -> BackendError {
        BackendError::Unsupported { backend: self.backend, what: what.into() }
    }

    /// An operator used in a way this program does not run.
    fn beyond(&self, node: &Node, how: &str) -> BackendError {
        self.unsupported(format!("operator `{}` {how}", node.operator))
    }

    /// Gives the graph's inputs their registers and says which feature each holds.
    fn inputs(&mut self, inputs: &'a [Declared], features: &[&str]) -> Result<(Register, Vec<(u32, Number)>)> {
        if let Some(text) = inputs.iter().find(|input| input.number == Number::Other) {
            return Err(self.unsupported(format!("input `{}`, which does not hold numbers", text.name)));
        }
        let first = self.registers.len() as Register;
        let shape = |rank, width| if rank == 1 { Shape(vec![Dim::Rows]) } else { Shape::matrix(width) };
        let mut given = Vec::with_capacity(features.len());
        if let [input] = inputs {
            let width = input.width.unwrap_or(features.len());
            if width != features.len() {
                return Err(BackendError::Inputs { model: width, bundle: features.len() });
            }
            if input.rank > 2 {
                return Err(self.unsupported(format!("input `{}` of {} dimensions", input.name, input.rank)));
            }
            given.extend((0..width).map(|feature| (feature as u32, input.number)));
            let registers = self.allocate(width)?;
            let rows = Rows { shape: shape(input.rank, width), number: input.number, registers: registers.collect() };
            self.values.insert(&input.name, Value::Rows(rows));
            return Ok((first, given));
        }
        if inputs.len() != features.len() {
            return Err(BackendError::Inputs { model: inputs.len(), bundle: features.len() });
        }
        for input in inputs {
            if input.width.unwrap_or(1) != 1 || input.rank > 2 {
                return Err(
                    self.unsupported(format!("several inputs of which `{}` holds more than one feature", input.name))
                );
            }
            let Some(feature) = features.iter().position(|&feature| feature == input.name) else {
                return Err(self.unsupported(format!("input `{}`, which is not a feature of the bundle", input.name)));
            };
            given.push((feature as u32, input.number));
            let registers = self.allocate(1)?;
            let rows = Rows { shape: shape(input.rank, 1), number: input.number, registers: registers.collect() };
            self.values.insert(&input.name, Value::Rows(rows));
        }
        Ok((first, given))
    }

    fn node(&mut self, node: &'a Node) -> Result<()> {
        let mut given = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            given.push(match self.values.get(name.as_str()) {
                Some(value) => Some(value.clone()),
                None if name.is_empty() => None,
                None => return Err(node.malformed(format!("its input `{name}` is not computed before it"))),
            });
        }
        let results = if given.iter().flatten().any(|value| matches!(value, Value::Label)) {
            vec![Value::Label; node.outputs.len()]
        } else {
            let operands = Operands { node, given };
            self.operator(node, &operands)?
        };
        if results.len() < node.outputs.iter().filter(|name| !name.is_empty()).count() {
            return Err(node.malformed(format!("it has {} outputs", node.outputs.len())));
        }
        for (name, value) in node.outputs.iter().zip(results) {
            if let Value::Rows(rows) = &value {
                self.numbers += rows.registers.len();
                if self.numbers > MOST_NUMBERS {
                    return Err(self.too_large());
                }
            }
            self.values.insert(name, value);
        }
        Ok(())
    }

    fn operator(&mut self, node: &'a Node, operands: &Operands<'a>) -> Result<Vec<Value<'a>>> {
        if !standard(&node.domain) {
            return Err(self.unsupported(format!("operator `{}` of domain `{}`", node.operator, node.domain)));
        }
        let rows = match node.operator.as_str() {
            "Identity" | "ZipMap" => return Ok(vec![operands.value(0)?.clone()]),
            "Constant" => return Ok(vec![Value::Constant(constant(node)?)]),
            "ArgMax" => return Ok(vec![Value::Label]),
            "TreeEnsembleRegressor" | "TreeEnsemble" => self.ensemble(node, operands)?,
            "TreeEnsembleClassifier" => {
                return Ok(vec![Value::Label, Value::Rows(self.ensemble(node, operands)?)]);
            }
            "LinearClassifier" => {
                return Ok(vec![Value::Label, Value::Rows(self.linear_classifier(node, operands)?)]);
            }
            "LinearRegressor" => self.linear_regressor(node, operands)?,
            "MatMul" | "Gemm" => self.product(node, operands)?,
            "Scaler" => self.scaler(node, operands)?,
            "Imputer" => self.imputer(node, operands)?,
            "Normalizer" => self.normalizer(node, operands)?,
            "Cast" | "CastLike" => self.cast(node, operands)?,
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(node, operands)?,
            "Concat" | "FeatureVectorizer" => self.concat(node, operands)?,
            "Gather" | "ArrayFeatureExtractor" => self.gather(node, operands)?,
            "Slice" => self.slice(node, operands)?,
            "ReduceMean" | "ReduceSum" => self.reduce(node, operands)?,
            "Softmax" => self.softmax(node, operands)?,
            "Add" | "Sub" | "Mul" | "Div" | "Sum" => self.binary(node, operands)?,
            "Abs" | "Clip" | "Exp" | "Log" | "Neg" | "Reciprocal" | "Sigmoid" | "Softplus" | "Sqrt" => {
                self.unary(node, operands)?
            }
            operator => return Err(self.unsupported(format!("operator `{operator}`"))),
        };
        Ok(vec![Value::Rows(rows)])
    }

    fn ensemble(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        let ensemble = Ensemble::read(node, given.number, width)?;
        let from = self.consecutive(&given.registers)?;
        let outputs = ensemble.outputs();
        let scores = self.step(Shape::matrix(outputs), given.number, Operation::Trees { from, width, ensemble })?;
        // The older operators write floats whatever they read.
        if node.operator == "TreeEnsemble" { Ok(scores) } else { self.rounded(&scores, Number::Single) }
    }

    fn linear_regressor(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let targets = match node.int("targets").unwrap_or(1) {
            targets @ 1..=4096 => targets as usize,
            targets => return Err(node.malformed(format!("{targets} targets"))),
        };
        let intercepts = match node.floats("intercepts") {
            [] => vec![0.0; targets],
            intercepts => doubles(intercepts),
        };
        let scores = self.coefficients(node, operands, intercepts, targets)?;
        self.transformed(node, scores)
    }

    fn linear_classifier(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let intercepts = doubles(node.floats("intercepts"));
        let scored = intercepts.len();
        let labels = node.texts("classlabels_strings").len().max(node.ints("classlabels_ints").len());
        let scores = self.coefficients(node, operands, intercepts, scored)?;
        match (scored, labels) {
            (1, 2) => {
                let transform = transform(node)?;
                if transform == Transform::Probit {
                    return Err(self.beyond(node, "of one score with a `PROBIT` transform"));
                }
                self.step(Shape::matrix(2), Number::Single, Operation::Pair(transform, scores.registers[0]))
            }
            (scored, labels) if scored == labels && scored > 1 => self.transformed(node, scores),
            _ => Err(node.malformed(format!("{scored} scores for {labels} classes"))),
        }
    }

    /// The products of `coefficients` with a row, a row of them for each intercept.
    fn coefficients(
        &mut self,
        node: &Node,
        operands: &Operands<'a>,
        intercepts: Vec<f64>,
        targets: usize,
    ) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        let weights = doubles(node.floats("coefficients"));
        if intercepts.len() != targets || targets == 0 || weights.len() != targets.saturating_mul(width) {
            return Err(node.malformed(format!(
                "{} coefficients and {} intercepts for {targets} times {width} columns",
                weights.len(),
                intercepts.len()
            )));
        }
        let number = Number::Single;
        let from = self.rounded(&given, number)?.registers;
        self.step(Shape::matrix(targets), number, Operation::Linear { number, from, weights, factor: 1.0, intercepts })
    }

    fn transformed(&mut self, node: &Node, scores: Rows) -> Result<Rows> {
        match transform(node)? {
            Transform::None => Ok(scores),
            transform => {
                let Rows { shape, number, registers } = scores;
                self.step(shape, number, Operation::Transform(transform, registers))
            }
        }
    }

    fn product(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        let Value::Constant(matrix) = operands.value(1)? else {
            return Err(self.beyond(node, "of two computed tensors"));
        };
        let gemm = node.operator == "Gemm";
        let flag = |name| gemm && node.int(name).unwrap_or(0) != 0;
        let factor = |name| if gemm { f64::from(node.float(name).unwrap_or(1.0)) } else { 1.0 };
        let transposed = flag("transB");
        let (rows, columns) = match (matrix.dims.as_slice(), transposed) {
            (&[rows], false) if !gemm => (rows, 1),
            (&[rows, columns], false) | (&[columns, rows], true) => (rows, columns),
            _ => return Err(self.beyond(node, "with a constant of other than two dimensions")),
        };
        if rows != width || given.shape.0.len() != 2 || flag("transA") {
            return Err(self.beyond(node, &format!("of a row of {width} with {rows} rows")));
        }
        let weight = |column: usize, row: usize| {
            matrix.values[if transposed { column * rows + row } else { row * columns + column }]
        };
        let weights = (0..columns).flat_map(|column| (0..rows).map(move |row| (column, row)));
        let weights = weights.map(|(column, row)| weight(column, row)).collect();
        let mut intercepts = vec![0.0; columns];
        if gemm && let Some(constant) = operands.optional(2) {
            let Value::Constant(constant) = constant else {
                return Err(self.beyond(node, "with a computed constant"));
            };
            let beta = factor("beta");
            match constant.values.as_slice() {
                &[value] => intercepts.fill(beta * value),
                values if values.len() == columns && constant.dims.last() == Some(&columns) => {
                    intercepts = values.iter().map(|value| beta * value).collect();
                }
                _ => return Err(self.beyond(node, "with a constant that is not one row")),
            }
        }
        let shape = if matrix.dims.len() == 1 { Shape(vec![Dim::Rows]) } else { Shape::matrix(columns) };
        let (number, from) = (given.number, given.registers);
        self.step(shape, number, Operation::Linear { number, from, weights, factor: factor("alpha"), intercepts })
    }

    fn scaler(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        let offsets = per_column(node, "offset", width)?;
        let factors = per_column(node, "scale", width)?;
        let values = given.registers.iter().zip(offsets).zip(factors);
        let values = values.map(|((&from, offset), factor)| (from, offset, factor)).collect();
        self.step(given.shape, Number::Single, Operation::Scale(values))
    }

    fn imputer(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        if given.number == Number::Double || !node.ints("imputed_value_int64s").is_empty() {
            return Err(self.beyond(node, "of anything but floats"));
        }
        let imputed = per_column(node, "imputed_value_floats", width)?;
        let missing = node.float("replaced_value_float").unwrap_or(0.0);
        let values = given.registers.iter().copied().zip(imputed).collect();
        self.step(given.shape, Number::Single, Operation::Impute { missing, values })
    }

    fn normalizer(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, _) = self.columns(operands, 0)?;
        let norm = match node.text("norm") {
            None | Some(b"MAX") => Norm::Max,
            Some(b"L1") => Norm::L1,
            Some(b"L2") => Norm::L2,
            Some(_) => return Err(node.malformed("unknown `norm`")),
        };
        self.step(given.shape, Number::Single, Operation::Normalize(norm, given.registers))
    }

    fn cast(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let given = self.rows(operands, 0)?;
        let number = if node.operator == "Cast" {
            match node.int("to") {
                Some(1) => Number::Single,
                Some(11) => Number::Double,
                Some(6 | 7) => Number::Whole,
                _ => return Err(self.beyond(node, "to anything but float, double, int32 and int64")),
            }
        } else {
            match operands.value(1)? {
                Value::Rows(like) => like.number,
                Value::Constant(like) => like.number,
                Value::Label => return Err(self.beyond(node, "to the type of a label")),
            }
        };
        self.rounded(&given, number)
    }

    fn reshape(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let given = self.rows(operands, 0)?;
        let rank = given.shape.0.len() as i64;
        let listed = |name| match (node.ints(name), operands.optional(1)) {
            ([], Some(Value::Constant(tensor))) => Some(tensor.whole()),
            ([], _) => None,
            (axes, _) => Some(axes.to_vec()),
        };
        let shape = match node.operator.as_str() {
            "Reshape" => match listed("shape") {
                Some(target) if node.int("allowzero").unwrap_or(0) == 0 => given.shape.reshaped(&target),
                _ => return Err(self.beyond(node, "to a computed shape")),
            },
            "Flatten" => match node.int("axis").unwrap_or(1) {
                1 => given.shape.reshaped(&[0, -1]),
                _ => None,
            },
            "Squeeze" => {
                let axes = listed("axes").map(|axes| axes.iter().map(|&axis| from_end(axis, rank)).collect::<Vec<_>>());
                let dims = given.shape.0.iter().zip(0..);
                let kept = dims.filter(|&(&dim, at)| match &axes {
                    Some(axes) => !(dim == Dim::Size(1) && axes.contains(&at)),
                    None => dim != Dim::Size(1),
                });
                given.shape.keeps_rows(Shape(kept.map(|(&dim, _)| dim).collect()))
            }
            _ => {
                let axes = listed("axes").unwrap_or_default();
                let rank = rank + axes.len() as i64;
                let axes: Vec<i64> = axes.iter().map(|&axis| from_end(axis, rank)).collect();
                let mut dims = given.shape.0.iter().copied();
                let dims: Option<Vec<Dim>> =
                    (0..rank).map(|at| if axes.contains(&at) { Some(Dim::Size(1)) } else { dims.next() }).collect();
                dims.and_then(|dims| given.shape.keeps_rows(Shape(dims)))
            }
        };
        match shape {
            Some(shape) => Ok(Rows { shape, ..given }),
            None => Err(self.beyond(node, "across rows")),
        }
    }

    fn concat(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let mut parts = Vec::with_capacity(node.inputs.len());
        for at in 0..node.inputs.len() {
            parts.push(self.rows(operands, at)?);
        }
        let Some(first) = parts.first() else {
            return Err(node.malformed("nothing to join"));
        };
        let vectorizer = node.operator == "FeatureVectorizer";
        if vectorizer {
            let dimensions = node.ints("inputdimensions");
            let widths = parts.iter().map(|part| part.shape.columns().map_or(-1, |width| width as i64));
            if !dimensions.is_empty() && !widths.eq(dimensions.iter().copied()) {
                return Err(self.beyond(node, "that cuts or fills its inputs"));
            }
        }
        let axis = if vectorizer { Some(1) } else { node.int("axis").and_then(|axis| first.shape.axis(axis)) };
        let Some(axis) = axis.filter(|&axis| axis < first.shape.0.len()) else {
            return Err(self.beyond(node, "across rows"));
        };
        let mut shape = first.shape.clone();
        let mut size = 0;
        for part in &parts {
            let mut alike = part.shape.clone();
            match alike.0.get_mut(axis) {
                Some(Dim::Size(own)) => {
                    size += *own;
                    shape.0[axis] = Dim::Size(*own);
                }
                _ => return Err(self.beyond(node, "of different shapes")),
            }
            if shape != alike {
                return Err(self.beyond(node, "of different shapes"));
            }
        }
        shape.0[axis] = Dim::Size(size);
        let number = if vectorizer { Number::Single } else { first.number };
        if shape.width().is_none() {
            return Err(self.too_large());
        }
        let (outer, _, _) = shape.strides(axis);
        let mut registers = Vec::new();
        for step in 0..outer {
            for part in &parts {
                let length = part.registers.len() / outer;
                registers.extend_from_slice(&part.registers[step * length..(step + 1) * length]);
            }
        }
        let joined = Rows { shape, number: first.number, registers };
        self.rounded(&joined, number)
    }

    fn gather(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let given = self.rows(operands, 0)?;
        let Value::Constant(indices) = operands.value(1)? else {
            return Err(self.beyond(node, "with computed positions"));
        };
        let extractor = node.operator == "ArrayFeatureExtractor";
        let axis = if extractor { -1 } else { node.int("axis").unwrap_or(0) };
        let Some(axis) = given.shape.axis(axis) else {
            return Err(self.beyond(node, "across rows"));
        };
        let (_, size, _) = given.shape.strides(axis);
        let wanted: Option<Vec<usize>> = indices
            .whole()
            .into_iter()
            .map(|index| usize::try_from(from_end(index, size as i64)).ok().filter(|&index| index < size))
            .collect();
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
            return Err(node.malformed(format!("a position outside the {size} there are")));
        };
        let mut picked = self.pick(&given, axis, &wanted)?;
        match (extractor, indices.dims.len()) {
            (true, _) | (false, 1) => {}
            (false, 0) => {
                picked.shape.0.remove(axis);
            }
            (false, _) => return Err(self.beyond(node, "with a table of positions")),
        }
        Ok(picked)
    }

    fn slice(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let mut given = self.rows(operands, 0)?;
        let list = |name, at| match (node.ints(name), operands.optional(at)) {
            ([], Some(Value::Constant(tensor))) => Some(tensor.whole()),
            ([], _) => None,
            (values, _) => Some(values.to_vec()),
        };
        let (Some(starts), Some(ends)) = (list("starts", 1), list("ends", 2)) else {
            return Err(self.beyond(node, "with computed bounds"));
        };
        let axes = list("axes", 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list("steps", 4).unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(node.malformed("bounds of different lengths"));
        }
        for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let Some(axis) = given.shape.axis(axis) else {
                return Err(self.beyond(node, "across rows"));
            };
            let (_, size, _) = given.shape.strides(axis);
            let bound = |at: i64| from_end(at, size as i64).clamp(0, size as i64) as usize;
            let Ok(step @ 1..) = usize::try_from(step) else {
                return Err(self.beyond(node, "backwards"));
            };
            let wanted: Vec<usize> = (bound(start)..bound(end)).step_by(step).collect();
            if wanted.is_empty() {
                return Err(self.beyond(node, "of nothing"));
            }
            given = self.pick(&given, axis, &wanted)?;
        }
        Ok(given)
    }

    /// The `wanted` positions of one dimension.
    fn pick(&self, given: &Rows, axis: usize, wanted: &[usize]) -> Result<Rows> {
        let (outer, size, inner) = given.shape.strides(axis);
        let mut shape = given.shape.clone();
        shape.0[axis] = Dim::Size(wanted.len());
        if shape.width().is_none() {
            return Err(self.too_large());
        }
        let mut registers = Vec::with_capacity(outer * wanted.len() * inner);
        for step in 0..outer {
            for at in wanted {
                let start = (step * size + at) * inner;
                registers.extend_from_slice(&given.registers[start..start + inner]);
            }
        }
        Ok(Rows { shape, number: given.number, registers })
    }

    fn reduce(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let mut given = self.rows(operands, 0)?;
        let axes = match (node.ints("axes"), operands.optional(1)) {
            ([], Some(Value::Constant(tensor))) => tensor.whole(),
            (axes, _) => axes.to_vec(),
        };
        let rank = given.shape.0.len() as i64;
        let mut axes: Vec<i64> = axes.into_iter().map(|axis| from_end(axis, rank)).collect();
        axes.sort_unstable();
        if axes.is_empty() {
            return Err(self.beyond(node, "across rows"));
        }
        let mean = node.operator == "ReduceMean";
        let keep = node.int("keepdims").unwrap_or(1) != 0;
        // From the last, so that a dimension left out moves none still to come.
        for axis in axes.into_iter().rev() {
            let Some(axis) = given.shape.axis(axis) else {
                return Err(self.beyond(node, "across rows"));
            };
            let (outer, size, inner) = given.shape.strides(axis);
            if size == 0 {
                return Err(node.malformed("nothing to reduce"));
            }
            let register = |step: usize, at: usize, within: usize| given.registers[(step * size + at) * inner + within];
            let groups = (0..outer).flat_map(|step| (0..inner).map(move |within| (step, within)));
            let groups =
                groups.map(|(step, within)| (0..size).map(|at| register(step, at, within)).collect()).collect();
            let mut shape = given.shape.clone();
            if keep {
                shape.0[axis] = Dim::Size(1);
            } else {
                shape.0.remove(axis);
            }
            given = self.step(shape, given.number, Operation::Reduce { mean, number: given.number, groups })?;
        }
        Ok(given)
    }

    fn softmax(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, _) = self.columns(operands, 0)?;
        if given.shape.axis(node.int("axis").unwrap_or(1)) != Some(1) {
            return Err(self.beyond(node, "across rows"));
        }
        if given.number != Number::Single {
            return Err(self.beyond(node, "of anything but floats"));
        }
        self.step(given.shape, given.number, Operation::Softmax(given.registers))
    }

    fn binary(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let binary = match node.operator.as_str() {
            "Sub" => Binary::Sub,
            "Mul" => Binary::Mul,
            "Div" => Binary::Div,
            _ => Binary::Add,
        };
        if node.operator != "Sum" && node.inputs.len() != 2 {
            return Err(node.malformed(format!("{} inputs", node.inputs.len())));
        }
        let mut left = self.rows(operands, 0)?;
        for at in 1..node.inputs.len() {
            let right = self.rows(operands, at)?;
            let number = left.number;
            if number != right.number {
                return Err(node.malformed("inputs of different types"));
            }
            if number == Number::Whole && matches!(binary, Binary::Div) {
                return Err(self.beyond(node, "of whole numbers"));
            }
            let Some((shape, positions)) = Shape::broadcast(&left.shape, &right.shape) else {
                return Err(self.beyond(node, "across rows"));
            };
            let pairs = positions.into_iter().map(|(at, other)| (left.registers[at], right.registers[other])).collect();
            left = self.step(shape, number, Operation::Binary(binary, number, pairs))?;
        }
        Ok(left)
    }

    fn unary(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let given = self.rows(operands, 0)?;
        let unary = match node.operator.as_str() {
            "Abs" => Unary::Abs,
            "Clip" => {
                let bound = |name, at, otherwise| match (node.float(name), operands.optional(at)) {
                    (Some(bound), _) => Ok(f64::from(bound)),
                    (None, None) => Ok(otherwise),
                    (None, Some(Value::Constant(bound))) if bound.values.len() == 1 => Ok(bound.values[0]),
                    (None, Some(_)) => Err(self.beyond(node, "to computed bounds")),
                };
                Unary::Clip(bound("min", 1, f64::NEG_INFINITY)?, bound("max", 2, f64::INFINITY)?)
            }
            "Exp" => Unary::Exp,
            "Log" => Unary::Log,
            "Neg" => Unary::Neg,
            "Reciprocal" => Unary::Reciprocal,
            "Sigmoid" => Unary::Sigmoid,
            "Softplus" => Unary::Softplus,
            _ => Unary::Sqrt,
        };
        self.step(given.shape, given.number, Operation::Unary(unary, given.number, given.registers))
    }

    /// An operand as registers; a constant gets its own.
    fn rows(&mut self, operands: &Operands<'a>, at: usize) -> Result<Rows> {
        match operands.value(at)? {
            Value::Rows(rows) => Ok(rows.clone()),
            Value::Label => Err(self.beyond(operands.node, "of a label")),
            Value::Constant(constant) => {
                let Tensor { dims, number, values } = constant.as_ref();
                if *number == Number::Other {
                    return Err(self.beyond(operands.node, "with a constant that is not numeric"));
                }
                let registers = self.allocate(values.len())?;
                self.registers[registers.start as usize..registers.end as usize].copy_from_slice(values);
                let shape = Shape(dims.iter().map(|&size| Dim::Size(size)).collect());
                Ok(Rows { shape, number: *number, registers: registers.collect() })
            }
        }
    }

    /// An operand that is `[rows]` or `[rows, width]`, and its width.
    fn columns(&mut self, operands: &Operands<'a>, at: usize) -> Result<(Rows, usize)> {
        let rows = self.rows(operands, at)?;
        match rows.shape.columns() {
            Some(width) if width > 0 => Ok((rows, width)),
            _ => Err(self.beyond(operands.node, "of anything but rows of columns")),
        }
    }

    /// The same numbers as another type.
    fn rounded(&mut self, given: &Rows, number: Number) -> Result<Rows> {
        let exact = matches!((given.number, number), (from, to) if from == to)
            || matches!((given.number, number), (Number::Single | Number::Whole, Number::Double));
        if exact {
            return Ok(Rows { number, ..given.clone() });
        }
        self.step(given.shape.clone(), number, Operation::Round(number, given.registers.clone()))
    }

    /// The first of consecutive registers with these numbers.
    fn consecutive(&mut self, registers: &[Register]) -> Result<Register> {
        let &first = registers.first().ok_or_else(|| malformed("a tensor of no columns"))?;
        if registers.iter().copied().eq(first..first + registers.len() as Register) {
            return Ok(first);
        }
        let to = self.allocate(registers.len())?.start;
        self.steps.push(Step { to, operation: Operation::Copy(registers.to_vec()) });
        Ok(to)
    }

    /// Adds a step that computes a tensor of this shape.
    fn step(&mut self, shape: Shape, number: Number, operation: Operation) -> Result<Rows> {
        let Some(width) = shape.width() else { return Err(self.too_large()) };
        let registers = self.allocate(width)?;
        let step = Step { to: registers.start, operation };
        debug_assert_eq!(step.writes(), width, "a step fills its tensor");
        self.steps.push(step);
        Ok(Rows { shape, number, registers: registers.collect() })
    }

    fn allocate(&mut self, count: usize) -> Result<std::ops::Range<Register>> {
        let start = self.registers.len();
        if count > MOST_REGISTERS - start {
            return Err(self.too_large());
        }
        self.registers.resize(start + count, 0.0);
        Ok(start as Register..(start + count) as Register)
    }

    fn too_large(&self) -> BackendError {
        self.unsupported(format!("a graph that needs more than {MOST_REGISTERS} numbers for a row"))
    }
}

/// A node's inputs; `None` for an optional one left out.
struct Operands<'a> {
    node: &'a Node,
    given: Vec<Option<Value<'a>>>,
}

impl<'a> Operands<'a> {
    fn value(&self, at: usize) -> Result<&Value<'a>> {
        self.optional(at).ok_or_else(|| self.node.malformed(format!("input {at} is missing")))
    }

    fn optional(&self, at: usize) -> Option<&Value<'a>> {
        self.given.get(at).and_then(Option::as_ref)
    }
}

fn constant(node: &Node) -> Result<Cow<'_, Tensor>> {
    if let Some(tensor) = node.tensor("value") {
        return Ok(Cow::Borrowed(tensor));
    }
    let list = |number, values: Vec<f64>| Cow::Owned(Tensor { dims: vec![values.len()], number, values });
    let scalar = |number, value| Cow::Owned(Tensor { dims: Vec::new(), number, values: vec![value] });
    if let Some(value) = node.float("value_float") {
        Ok(scalar(Number::Single, f64::from(value)))
    } else if let Some(value) = node.int("value_int") {
        Ok(scalar(Number::Whole, value as f64))
    } else if !node.floats("value_floats").is_empty() {
        Ok(list(Number::Single, doubles(node.floats("value_floats"))))
    } else if !node.ints("value_ints").is_empty() {
        Ok(list(Number::Whole, node.ints("value_ints").iter().map(|&value| value as f64).collect()))
    } else {
        Err(node.malformed("no numeric value"))
    }
}

fn transform(node: &Node) -> Result<Transform> {
    Transform::named(node.text("post_transform")).ok_or_else(|| node.malformed("unknown `post_transform`"))
}

/// A list with a number for each column, or one for all.
fn per_column(node: &Node, name: &str, width: usize) -> Result<Vec<f32>> {
    match node.floats(name) {
        &[value] => Ok(vec![value; width]),
        values if values.len() == width => Ok(values.to_vec()),
        values => Err(node.malformed(format!("{} `{name}` for {width} columns", values.len()))),
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// A position that counts from the end when it is negative.
fn from_end(at: i64, length: i64) -> i64 {
    if at < 0 { at.saturating_add(length) } else { at }
}
