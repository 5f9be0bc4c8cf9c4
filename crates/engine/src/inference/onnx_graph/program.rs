//! A compiled graph: steps over one flat array of numbers per row.
//!
//! Every number of every tensor has a fixed place, a register. Registers hold `f64`; a step rounds what it writes to
//! the type ONNX computes in, which for `+ - * /` and square roots gives exactly the `f32` result. Steps write behind
//! what they read, so a row runs through them in order with no allocation.

use smallvec::SmallVec;

use super::attribution;
use super::graph::Number;
use super::transform::{self, Transform};
use crate::inference::explain::{Question, Shares, Unexplained};
use crate::inference::trees::Ensemble;
use crate::inference::{Backend, BackendError, FeatureMatrix};

/// A register's number.
pub(super) type Register = u32;

pub(super) struct Program {
    pub(super) features: usize,
    /// Constants in their places, zero elsewhere.
    pub(super) initial: Vec<f64>,
    /// For each number the graph is given, from the register on: the feature and what it is rounded to.
    pub(super) inputs: (Register, Vec<(u32, Number)>),
    pub(super) steps: Vec<ProgramStep>,
    pub(super) outputs: Vec<String>,
    pub(super) results: Vec<Register>,
}

/// Something computed into the registers from `to` on, from registers before it.
pub(super) struct ProgramStep {
    pub(super) to: Register,
    pub(super) operation: Operation,
}

pub(super) enum Operation {
    Copy(Vec<Register>),
    Round(Number, Vec<Register>),
    Unary(Unary, Number, Vec<Register>),
    Binary(Binary, Number, Vec<(Register, Register)>),
    /// Each number the sum of several, or their mean.
    Reduce {
        mean: bool,
        number: Number,
        groups: Vec<Vec<Register>>,
    },
    Softmax(Vec<Register>),
    Transform(Transform, Vec<Register>),
    /// Both classes' scores from the second's.
    Pair(Transform, Register),
    /// (value - offset) * factor.
    Scale(Vec<(Register, f32, f32)>),
    /// A value equal to `missing`, or not a number if that is not one, becomes the number beside it.
    Impute {
        missing: f32,
        values: Vec<(Register, f32)>,
    },
    Normalize(Norm, Vec<Register>),
    /// `weights` holds a row of coefficients per intercept; their product with a row is multiplied by `factor`.
    Linear {
        number: Number,
        from: Vec<Register>,
        weights: Vec<f64>,
        factor: f64,
        intercepts: Vec<f64>,
    },
    /// Reads `width` consecutive registers.
    Trees {
        from: Register,
        width: usize,
        ensemble: Box<Ensemble>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unary {
    Abs,
    Clip(f64, f64),
    Exp,
    Log,
    Neg,
    Reciprocal,
    Sigmoid,
    Softplus,
    Sqrt,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Norm {
    Max,
    L1,
    L2,
}

/// From the score of an ensemble to what its library's `predict` returns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::inference) enum LastStep {
    None,
    Exp,
    /// 1 / (1 + e^(-slope × score)).
    Sigmoid(f64),
    /// The score's square with the score's sign.
    SignedSquare,
    /// ln(1 + e^score).
    Softplus,
}

/// A backend of one ensemble that reads these of `features` columns, and its last step, in numbers of one kind. Its only output
/// is `prediction`.
pub(in crate::inference) fn around(
    ensemble: Ensemble,
    features: usize,
    columns: Vec<u32>,
    number: Number,
    last: LastStep,
) -> Box<dyn Backend> {
    let width = columns.len();
    let score = width as Register;
    let trees = Operation::Trees { from: 0, width, ensemble: Box::new(ensemble) };
    let operations = match last {
        LastStep::None => vec![trees],
        LastStep::Exp => vec![trees, Operation::Unary(Unary::Exp, number, vec![score])],
        LastStep::Sigmoid(slope) => {
            let scaled = Operation::Linear {
                number,
                from: vec![score],
                weights: vec![slope],
                factor: 1.0,
                intercepts: vec![0.0],
            };
            vec![trees, scaled, Operation::Unary(Unary::Sigmoid, number, vec![score + 1])]
        }
        LastStep::SignedSquare => vec![
            trees,
            Operation::Unary(Unary::Abs, number, vec![score]),
            Operation::Binary(Binary::Mul, number, vec![(score, score + 1)]),
        ],
        LastStep::Softplus => vec![trees, Operation::Unary(Unary::Softplus, number, vec![score])],
    };
    let steps: Vec<ProgramStep> =
        (score..).zip(operations).map(|(to, operation)| ProgramStep { to, operation }).collect();
    let result = score + steps.len() as Register - 1;
    Box::new(Program {
        features,
        initial: vec![0.0; result as usize + 1],
        inputs: (0, columns.into_iter().map(|column| (column, number)).collect()),
        steps,
        outputs: vec!["prediction".to_owned()],
        results: vec![result],
    })
}

impl Backend for Program {
    fn inputs(&self) -> usize {
        self.features
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        rows.fits(self.inputs(), self.results.len(), out.len())?;
        let mut registers: SmallVec<[f64; 128]> = SmallVec::from_slice(&self.initial);
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(self.results.len())) {
            self.run(row, &mut registers);
            for (out, &result) in out.iter_mut().zip(&self.results) {
                *out = registers[result as usize];
            }
        }
        Ok(())
    }

    fn split(&self, question: &Question<'_>) -> Result<Option<Shares>, Unexplained> {
        attribution::explain(self, question)
    }
}

impl Program {
    /// Computes one row in registers that hold the constants.
    #[inline]
    pub(super) fn run(&self, row: &[f64], registers: &mut [f64]) {
        self.give(row, registers);
        for step in &self.steps {
            step.run(registers);
        }
    }

    #[inline]
    fn give(&self, row: &[f64], registers: &mut [f64]) {
        let given = &mut registers[self.inputs.0 as usize..];
        for (register, &(feature, number)) in given.iter_mut().zip(&self.inputs.1) {
            *register = number.round(row[feature as usize]);
        }
    }
}

impl ProgramStep {
    /// How many registers it writes.
    pub(super) fn writes(&self) -> usize {
        match &self.operation {
            Operation::Copy(from)
            | Operation::Round(_, from)
            | Operation::Unary(_, _, from)
            | Operation::Softmax(from)
            | Operation::Transform(_, from)
            | Operation::Normalize(_, from) => from.len(),
            Operation::Binary(_, _, pairs) => pairs.len(),
            Operation::Reduce { groups, .. } => groups.len(),
            Operation::Pair(..) => 2,
            Operation::Scale(values) => values.len(),
            Operation::Impute { values, .. } => values.len(),
            Operation::Linear { intercepts, .. } => intercepts.len(),
            Operation::Trees { ensemble, .. } => ensemble.outputs(),
        }
    }

    /// Which registers it reads.
    pub(super) fn reads(&self) -> Vec<Register> {
        match &self.operation {
            Operation::Copy(from)
            | Operation::Round(_, from)
            | Operation::Unary(_, _, from)
            | Operation::Softmax(from)
            | Operation::Transform(_, from)
            | Operation::Normalize(_, from)
            | Operation::Linear { from, .. } => from.clone(),
            Operation::Binary(_, _, pairs) => pairs.iter().flat_map(|&(left, right)| [left, right]).collect(),
            Operation::Reduce { groups, .. } => groups.concat(),
            Operation::Pair(_, from) => vec![*from],
            Operation::Scale(values) => values.iter().map(|&(from, _, _)| from).collect(),
            Operation::Impute { values, .. } => values.iter().map(|&(from, _)| from).collect(),
            Operation::Trees { from, width, .. } => (*from..*from + *width as u32).collect(),
        }
    }

    fn run(&self, registers: &mut [f64]) {
        let (known, to) = registers.split_at_mut(self.to as usize);
        let read = |register: Register| known[register as usize];
        match &self.operation {
            Operation::Copy(from) => fill(to, from, |&from| read(from)),
            Operation::Round(number, from) => fill(to, from, |&from| number.round(read(from))),
            Operation::Unary(unary, number, from) => fill(to, from, |&from| unary.apply(*number, read(from))),
            Operation::Binary(binary, number, pairs) => {
                fill(to, pairs, |&(left, right)| number.round(binary.apply(read(left), read(right))));
            }
            Operation::Reduce { mean, number, groups } => fill(to, groups, |group| {
                let sum = group.iter().fold(0.0, |sum, &from| number.round(sum + read(from)));
                if *mean { number.round(sum / group.len() as f64) } else { sum }
            }),
            Operation::Softmax(from) => {
                fill(to, from, |&from| read(from));
                transform::softmax(&mut to[..from.len()]);
            }
            Operation::Transform(transform, from) => {
                fill(to, from, |&from| read(from));
                match &mut to[..from.len()] {
                    [score] => *score = transform.apply_single(*score),
                    scores => transform.apply(scores),
                }
            }
            Operation::Pair(transform, from) => {
                to[..2].copy_from_slice(&transform.apply_pair(read(*from), true));
            }
            Operation::Scale(values) => {
                fill(to, values, |&(from, offset, factor)| f64::from((read(from) as f32 - offset) * factor));
            }
            Operation::Impute { missing, values } => fill(to, values, |&(from, imputed)| {
                let value = read(from) as f32;
                let replace = if missing.is_nan() { value.is_nan() } else { value == *missing };
                f64::from(if replace { imputed } else { value })
            }),
            Operation::Normalize(norm, from) => {
                fill(to, from, |&from| read(from));
                norm.apply(&mut to[..from.len()]);
            }
            Operation::Linear { number, from, weights, factor, intercepts } => {
                for ((to, weights), intercept) in to.iter_mut().zip(weights.chunks_exact(from.len())).zip(intercepts) {
                    // Column after column, each product added unrounded, as ONNX Runtime's fused multiply-add does:
                    // a product of two `f32` is exact in an `f64`.
                    let product = weights
                        .iter()
                        .zip(from)
                        .fold(0.0, |sum, (weight, &from)| number.round(sum + weight * read(from)));
                    *to = number.round(number.round(factor * product) + intercept);
                }
            }
            Operation::Trees { from, width, ensemble } => {
                let from = *from as usize;
                ensemble.run(&known[from..from + width], &mut to[..ensemble.outputs()]);
            }
        }
    }
}

fn fill<T>(to: &mut [f64], from: &[T], value: impl Fn(&T) -> f64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = value(from);
    }
}

impl Unary {
    pub(super) fn apply(self, number: Number, value: f64) -> f64 {
        if let (Self::Exp, Number::Single) = (self, number) {
            return f64::from((value as f32).exp());
        }
        number.round(match self {
            Self::Abs => value.abs(),
            // Not `clamp`: a value that is not a number stays so, and the bounds may be in any order.
            Self::Clip(low, high) => {
                let raised = if value < low { low } else { value };
                if raised > high { high } else { raised }
            }
            Self::Exp => value.exp(),
            Self::Log => value.ln(),
            Self::Neg => -value,
            Self::Reciprocal => value.recip(),
            Self::Sigmoid => 1.0 / (1.0 + (-value).exp()),
            Self::Softplus => value.max(0.0) + (-value.abs()).exp().ln_1p(),
            Self::Sqrt => value.sqrt(),
        })
    }
}

impl Binary {
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
        }
    }
}

impl Norm {
    /// A norm of zero leaves the row as it is.
    fn apply(self, row: &mut [f64]) {
        let values = row.iter().map(|&value| value as f32);
        let norm = match self {
            Self::Max => values.fold(f32::MIN, f32::max),
            Self::L1 => values.fold(0.0, |sum, value| sum + value.abs()),
            Self::L2 => values.fold(0.0, |sum, value| sum + value * value),
        };
        if norm == 0.0 {
            return;
        }
        for value in row {
            let single = *value as f32;
            *value = f64::from(match self {
                Self::Max | Self::L1 => single / norm,
                Self::L2 => (single * single / norm).sqrt().copysign(single),
            });
        }
    }
}
