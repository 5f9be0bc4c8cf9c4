//! Turns a graph into the steps of `program.rs`.
//!
//! A tensor is a list of registers. Operators that only move numbers about (`rearrange.rs`) make another list of the
//! same ones; those that compute (`arithmetic.rs`) add a step. Whatever is computed from a class label is a label too,
//! and labels are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::graph::{Declared, Graph, Node, Number, Tensor, malformed, standard};
use super::program::{Operation, Program, ProgramStep, Register};
use super::shape::{Dim, Shape};
use crate::inference::{BackendError, trees};

/// Registers one program may have, and numbers all its tensors together may have.
const MOST_REGISTERS: usize = 1 << 16;
const MOST_NUMBERS: usize = 1 << 22;
/// The newest `ai.onnx.ml` whose operators are known here.
const NEWEST_ML: i64 = 5;

pub(super) type Result<T> = std::result::Result<T, BackendError>;

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
    let mut outputs = Vec::new();
    let mut results = Vec::new();
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
fn needed(steps: Vec<ProgramStep>, results: &[Register], registers: usize) -> Vec<ProgramStep> {
    let mut used = vec![false; registers];
    for &result in results {
        used[result as usize] = true;
    }
    let mut kept: Vec<ProgramStep> = Vec::with_capacity(steps.len());
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
pub(super) enum Value<'a> {
    Rows(Rows),
    Constant(Cow<'a, Tensor>),
    /// A class label, or anything computed from one.
    Label,
}

/// A tensor computed for each row.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) shape: Shape,
    pub(super) number: Number,
    /// As many as a row of `shape` has numbers.
    pub(super) registers: Vec<Register>,
}

pub(super) struct Compiler<'a> {
    backend: &'static str,
    registers: Vec<f64>,
    /// Length of all register lists so far: a small file could make them grow without end.
    numbers: usize,
    steps: Vec<ProgramStep>,
    values: BTreeMap<&'a str, Value<'a>>,
}

impl<'a> Compiler<'a> {
    pub(super) fn unsupported(&self, what: impl Into<String>) -> BackendError {
        BackendError::Unsupported { backend: self.backend, what: what.into() }
    }

    /// An operator used in a way this program does not run.
    pub(super) fn beyond(&self, node: &Node, how: &str) -> BackendError {
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

    /// An operand as registers; a constant gets its own.
    pub(super) fn rows(&mut self, operands: &Operands<'a>, at: usize) -> Result<Rows> {
        match operands.value(at)? {
            Value::Rows(rows) => Ok(rows.clone()),
            Value::Label => Err(self.beyond(operands.node, "of a label")),
            Value::Constant(constant) => {
                let Tensor { dims, number, values } = constant.as_ref();
                let shape = Shape(dims.iter().map(|&size| Dim::Size(size)).collect());
                if *number == Number::Other || shape.width() != Some(values.len()) {
                    return Err(self.beyond(operands.node, "with a constant that is not a few numbers"));
                }
                let registers = self.allocate(values.len())?;
                self.registers[registers.start as usize..registers.end as usize].copy_from_slice(values);
                Ok(Rows { shape, number: *number, registers: registers.collect() })
            }
        }
    }

    /// An operand that is `[rows]` or `[rows, width]`, and its width.
    pub(super) fn columns(&mut self, operands: &Operands<'a>, at: usize) -> Result<(Rows, usize)> {
        let rows = self.rows(operands, at)?;
        match rows.shape.columns() {
            Some(width) => Ok((rows, width)),
            None => Err(self.beyond(operands.node, "of anything but rows of columns")),
        }
    }

    /// The same numbers as another type.
    pub(super) fn rounded(&mut self, given: &Rows, number: Number) -> Result<Rows> {
        let widened = number == Number::Double && matches!(given.number, Number::Single | Number::Whole);
        let exact = given.number == number || widened;
        if exact {
            return Ok(Rows { number, ..given.clone() });
        }
        self.step(given.shape.clone(), number, Operation::Round(number, given.registers.clone()))
    }

    /// The first of consecutive registers with these numbers.
    pub(super) fn consecutive(&mut self, registers: &[Register]) -> Result<Register> {
        let &first = registers.first().ok_or_else(|| malformed("a tensor of no columns"))?;
        if registers.iter().copied().eq(first..first + registers.len() as Register) {
            return Ok(first);
        }
        let to = self.allocate(registers.len())?.start;
        self.steps.push(ProgramStep { to, operation: Operation::Copy(registers.to_vec()) });
        Ok(to)
    }

    /// Adds a step that computes a tensor of this shape.
    pub(super) fn step(&mut self, shape: Shape, number: Number, operation: Operation) -> Result<Rows> {
        let Some(width) = shape.width() else { return Err(self.too_large()) };
        let registers = self.allocate(width)?;
        let step = ProgramStep { to: registers.start, operation };
        debug_assert_eq!(step.writes(), width, "a step fills its tensor");
        self.steps.push(step);
        Ok(Rows { shape, number, registers: registers.collect() })
    }

    pub(super) fn allocate(&mut self, count: usize) -> Result<std::ops::Range<Register>> {
        let start = self.registers.len();
        if count > MOST_REGISTERS - start {
            return Err(self.too_large());
        }
        self.registers.resize(start + count, 0.0);
        Ok(start as Register..(start + count) as Register)
    }

    pub(super) fn too_large(&self) -> BackendError {
        self.unsupported(format!("a graph that needs more than {MOST_REGISTERS} numbers for a row"))
    }
}

/// A node's inputs; `None` for an optional one left out.
pub(super) struct Operands<'a> {
    pub(super) node: &'a Node,
    given: Vec<Option<Value<'a>>>,
}

impl<'a> Operands<'a> {
    pub(super) fn value(&self, at: usize) -> Result<&Value<'a>> {
        self.optional(at).ok_or_else(|| self.node.malformed(format!("input {at} is missing")))
    }

    pub(super) fn optional(&self, at: usize) -> Option<&Value<'a>> {
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
        Ok(list(Number::Single, node.doubles("value_floats")))
    } else if !node.ints("value_ints").is_empty() {
        Ok(list(Number::Whole, node.ints("value_ints").iter().map(|&value| value as f64).collect()))
    } else {
        Err(node.malformed("no numeric value"))
    }
}

/// A position that counts from the end when it is negative.
pub(super) fn from_end(at: i64, length: usize) -> i64 {
    if at < 0 { at.saturating_add_unsigned(length as u64) } else { at }
}
