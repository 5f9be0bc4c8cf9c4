//! Compiles the operators that compute: linear models, what prepares their inputs, elementwise arithmetic.

use super::compile::{Compiler, Operands, Result, Rows, Value, from_end};
use super::graph::{Node, Number};
use super::program::{Binary, Norm, Operation, Unary};
use super::shape::{Dim, Shape};
use super::transform::Transform;
use crate::inference::trees::Ensemble;

impl<'a> Compiler<'a> {
    pub(super) fn ensemble(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        let ensemble = Box::new(Ensemble::read(node, given.number, width)?);
        let from = self.consecutive(&given.registers)?;
        let outputs = ensemble.outputs();
        let scores = self.step(Shape::matrix(outputs), given.number, Operation::Trees { from, width, ensemble })?;
        // The older operators write floats whatever they read.
        if node.operator == "TreeEnsemble" { Ok(scores) } else { self.rounded(&scores, Number::Single) }
    }

    pub(super) fn linear_regressor(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let targets = match node.int("targets").unwrap_or(1) {
            targets @ 1..=4096 => targets as usize,
            targets => return Err(node.malformed(format!("{targets} targets"))),
        };
        let mut intercepts = node.doubles("intercepts");
        if intercepts.is_empty() {
            intercepts.resize(targets, 0.0);
        }
        let scores = self.coefficients(node, operands, intercepts, targets)?;
        self.transformed(node, scores)
    }

    pub(super) fn linear_classifier(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let intercepts = node.doubles("intercepts");
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
        let weights = node.doubles("coefficients");
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
        let transform = transform(node)?;
        if transform == Transform::None {
            return Ok(scores);
        }
        let Rows { shape, number, registers } = scores;
        self.step(shape, number, Operation::Transform(transform, registers))
    }

    pub(super) fn product(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
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

    pub(super) fn scaler(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        let offsets = per_column(node, "offset", width)?;
        let factors = per_column(node, "scale", width)?;
        let values = given.registers.iter().zip(offsets).zip(factors);
        let values = values.map(|((&from, offset), factor)| (from, offset, factor)).collect();
        self.step(given.shape, Number::Single, Operation::Scale(values))
    }

    pub(super) fn imputer(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, width) = self.columns(operands, 0)?;
        if given.number == Number::Double || !node.ints("imputed_value_int64s").is_empty() {
            return Err(self.beyond(node, "of anything but floats"));
        }
        let imputed = per_column(node, "imputed_value_floats", width)?;
        let missing = node.float("replaced_value_float").unwrap_or(0.0);
        let values = given.registers.iter().copied().zip(imputed).collect();
        self.step(given.shape, Number::Single, Operation::Impute { missing, values })
    }

    pub(super) fn normalizer(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, _) = self.columns(operands, 0)?;
        let norm = match node.text("norm") {
            None | Some(b"MAX") => Norm::Max,
            Some(b"L1") => Norm::L1,
            Some(b"L2") => Norm::L2,
            Some(_) => return Err(node.malformed("unknown `norm`")),
        };
        self.step(given.shape, Number::Single, Operation::Normalize(norm, given.registers))
    }

    pub(super) fn cast(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
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

    pub(super) fn reduce(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let mut given = self.rows(operands, 0)?;
        let axes = match (node.ints("axes"), operands.optional(1)) {
            ([], Some(Value::Constant(tensor))) => tensor.whole(),
            (axes, _) => axes.to_vec(),
        };
        let rank = given.shape.0.len();
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

    pub(super) fn softmax(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let (given, _) = self.columns(operands, 0)?;
        if given.shape.axis(node.int("axis").unwrap_or(1)) != Some(1) {
            return Err(self.beyond(node, "across rows"));
        }
        if given.number != Number::Single {
            return Err(self.beyond(node, "of anything but floats"));
        }
        self.step(given.shape, given.number, Operation::Softmax(given.registers))
    }

    pub(super) fn binary(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
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

    pub(super) fn unary(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
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
