//! Follows what each feature does through the steps of a graph.
//!
//! A feature here is a player of the question: a feature or a group of them. What depends on one alone is that one's, whatever computed it: this is what comes before a tree ensemble
//! or a linear model, and what they are exact for. Sums carry shares on as they are; a function of one number rescales
//! them. A step that mixes features in any other way has no shares here: such a graph is explained by its answers.

use super::program::{Binary, Operation, Program, Register};
use super::transform::Transform;
use crate::inference::explain::path::softmax_slopes;
use crate::inference::explain::{Budget, Method, Question, Shares, Unexplained, settle, through};
use crate::inference::trees::{Duel, Ensemble};

/// Most numbers kept for shares: 32 MiB.
const MOST_NUMBERS: usize = 1 << 22;

/// `None` when the graph mixes features in a way that has no shares.
pub(super) fn explain(program: &Program, question: &Question<'_>) -> Result<Option<Shares>, Unexplained> {
    question.budget.check()?;
    let run = |row: &[f64]| {
        let mut registers = program.initial.clone();
        program.run(row, &mut registers);
        registers
    };
    let mut trace = Trace {
        from: run(question.reference),
        to: run(question.row),
        parts: vec![Part::Nothing; program.initial.len()],
        dense: Vec::new(),
        features: question.count(),
    };
    for (register, &(feature, _)) in (program.inputs.0..).zip(&program.inputs.1) {
        trace.parts[register as usize] = Part::One(question.players[feature as usize]);
    }
    let mut method = Method::Linear;
    for step in &program.steps {
        if let Operation::Trees { .. } = step.operation {
            method = Method::TreeShap;
        }
        if trace.dense.len() + step.writes() * trace.features > MOST_NUMBERS {
            return Ok(None);
        }
        trace.follow(step.to, &step.operation, &question.budget)?;
    }
    let result = program.results[question.output];
    let mut players = vec![0.0; trace.features];
    if !trace.add(result, 1.0, &mut players) {
        return Ok(None);
    }
    let (from, to) = trace.ends(result);
    let plausible = settle(&mut players, to - from, from.abs().max(to.abs()));
    let shares = Shares { players, from, to, method }.finite()?;
    Ok(plausible.then_some(shares))
}

/// Whose difference a register holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Nothing,
    /// One feature's.
    One(u32),
    /// Shared; where the shares of all features begin.
    Many(usize),
    Unknown,
}

struct Trace {
    /// The registers of the reference and of the row.
    from: Vec<f64>,
    to: Vec<f64>,
    parts: Vec<Part>,
    dense: Vec<f64>,
    features: usize,
}

impl Trace {
    fn follow(&mut self, to: Register, operation: &Operation, budget: &Budget) -> Result<(), Unexplained> {
        match operation {
            Operation::Copy(from) => {
                for (to, from) in (to..).zip(from) {
                    self.parts[to as usize] = self.parts[*from as usize];
                }
            }
            Operation::Round(number, from) => self.each(to, from, |value| number.round(value)),
            Operation::Unary(unary, number, from) => self.each(to, from, |value| unary.apply(*number, value)),
            Operation::Binary(binary, _, pairs) => {
                for (to, &pair) in (to..).zip(pairs) {
                    self.binary(to, *binary, pair);
                }
            }
            Operation::Reduce { mean, groups, .. } => {
                for (to, group) in (to..).zip(groups) {
                    let factor = if *mean { 1.0 / group.len() as f64 } else { 1.0 };
                    self.sum(to, group.iter().map(|&from| (from, factor)));
                }
            }
            Operation::Softmax(from) => self.softmax(to, from),
            Operation::Transform(transform, from) => match (transform, from.len()) {
                (_, 1) => self.each(to, from, |value| transform.apply_single(value)),
                (Transform::Softmax, _) => self.softmax(to, from),
                (Transform::SoftmaxZero, _) => self.jointly(to, from, from.len()),
                (Transform::None | Transform::Logistic | Transform::Probit, _) => self.each(to, from, |value| {
                    let mut value = [value];
                    transform.apply(&mut value);
                    value[0]
                }),
            },
            Operation::Pair(transform, from) => {
                for (to, class) in (to..).zip(0..2) {
                    self.map(to, *from, |score| transform.apply_pair(score, true)[class]);
                }
            }
            Operation::Scale(values) => {
                for (to, &(from, _, factor)) in (to..).zip(values) {
                    self.sum(to, std::iter::once((from, f64::from(factor))));
                }
            }
            Operation::Impute { values, .. } => {
                for (to, &(from, _)) in (to..).zip(values) {
                    self.jointly(to, &[from], 1);
                }
            }
            Operation::Normalize(_, from) => self.jointly(to, from, from.len()),
            Operation::Linear { from, weights, factor, .. } => {
                for (to, weights) in (to..).zip(weights.chunks_exact(from.len())) {
                    self.sum(to, from.iter().zip(weights).map(|(&from, weight)| (from, factor * weight)));
                }
            }
            Operation::Trees { from, width, ensemble } => self.trees(to, *from as usize, *width, ensemble, budget)?,
        }
        Ok(())
    }

    /// Whose all of these are, if they are one feature's or nobody's.
    fn owner(&self, from: impl IntoIterator<Item = Register>) -> Option<Part> {
        let mut owner = Part::Nothing;
        for register in from {
            match (owner, self.parts[register as usize]) {
                (_, Part::Nothing) => {}
                (Part::Nothing, part @ Part::One(_)) => owner = part,
                (Part::One(known), Part::One(feature)) if known == feature => {}
                (_, Part::One(_) | Part::Many(_) | Part::Unknown) => return None,
            }
        }
        Some(owner)
    }

    fn ends(&self, register: Register) -> (f64, f64) {
        (self.from[register as usize], self.to[register as usize])
    }

    /// Adds `factor` times a register's shares. `false` when it has none.
    fn add(&self, register: Register, factor: f64, shares: &mut [f64]) -> bool {
        match self.parts[register as usize] {
            Part::Nothing => {}
            Part::One(feature) => {
                let (from, to) = self.ends(register);
                // Missing in both rows is no difference.
                if !(from.is_nan() && to.is_nan()) {
                    shares[feature as usize] += factor * (to - from);
                }
            }
            Part::Many(start) => {
                for (share, part) in shares.iter_mut().zip(&self.dense[start..start + self.features]) {
                    *share += factor * part;
                }
            }
            Part::Unknown => return false,
        }
        true
    }

    fn keep(&mut self, to: Register, shares: Option<&[f64]>) {
        self.parts[to as usize] = match shares {
            Some(shares) => {
                self.dense.extend_from_slice(shares);
                Part::Many(self.dense.len() - self.features)
            }
            None => Part::Unknown,
        };
    }

    /// A sum of registers times factors.
    fn sum(&mut self, to: Register, terms: impl Iterator<Item = (Register, f64)> + Clone) {
        if let Some(owner) = self.owner(terms.clone().map(|(from, _)| from)) {
            self.parts[to as usize] = owner;
            return;
        }
        let mut shares = vec![0.0; self.features];
        let mut all = true;
        for (from, factor) in terms {
            all &= self.add(from, factor, &mut shares);
        }
        let (from, end) = self.ends(to);
        let all = all && settle(&mut shares, end - from, from.abs().max(end.abs()));
        self.keep(to, all.then_some(&shares));
    }

    /// A function of one register.
    fn map(&mut self, to: Register, from: Register, function: impl Fn(f64) -> f64) {
        if let Some(owner) = self.owner([from]) {
            self.parts[to as usize] = owner;
            return;
        }
        let mut shares = vec![0.0; self.features];
        let known = self.add(from, 1.0, &mut shares);
        through(&mut shares, self.ends(from), function);
        self.keep(to, known.then_some(&shares));
    }

    fn each(&mut self, to: Register, from: &[Register], function: impl Fn(f64) -> f64) {
        for (to, &from) in (to..).zip(from) {
            self.map(to, from, &function);
        }
    }

    /// `count` registers that depend on all of `from` in a way that has no shares, unless one feature decides them all.
    fn jointly(&mut self, to: Register, from: &[Register], count: usize) {
        let part = self.owner(from.iter().copied()).unwrap_or(Part::Unknown);
        self.parts[to as usize..to as usize + count].fill(part);
    }

    fn binary(&mut self, to: Register, binary: Binary, (left, right): (Register, Register)) {
        let middle = |(from, to): (f64, f64)| from.midpoint(to);
        let is_fixed = |register: Register| self.parts[register as usize] == Part::Nothing;
        match binary {
            Binary::Add => self.sum(to, [(left, 1.0), (right, 1.0)].into_iter()),
            Binary::Sub => self.sum(to, [(left, 1.0), (right, -1.0)].into_iter()),
            // Between two products the path integral is each difference times the other factor's middle.
            Binary::Mul => {
                let factors = (middle(self.ends(right)), middle(self.ends(left)));
                self.sum(to, [(left, factors.0), (right, factors.1)].into_iter());
            }
            Binary::Div if is_fixed(right) => {
                let divisor = self.ends(right).0;
                self.sum(to, std::iter::once((left, 1.0 / divisor)));
            }
            Binary::Div if is_fixed(left) => {
                let dividend = self.ends(left).0;
                self.map(to, right, |divisor| dividend / divisor);
            }
            Binary::Div => self.jointly(to, &[left, right], 1),
        }
    }

    fn softmax(&mut self, to: Register, from: &[Register]) {
        if self.owner(from.iter().copied()).is_some() {
            return self.jointly(to, from, from.len());
        }
        let (start, end): (Vec<f64>, Vec<f64>) = from.iter().map(|&register| self.ends(register)).unzip();
        for (to, class) in (to..).zip(0..from.len()) {
            let slopes = softmax_slopes(&start, &end, class);
            self.sum(to, from.iter().copied().zip(slopes));
        }
    }

    fn trees(
        &mut self,
        to: Register,
        from: usize,
        width: usize,
        ensemble: &Ensemble,
        budget: &Budget,
    ) -> Result<(), Unexplained> {
        let mut players = Vec::with_capacity(width);
        for part in &self.parts[from..from + width] {
            match part {
                Part::Nothing => players.push(0),
                Part::One(feature) => players.push(*feature),
                Part::Many(_) | Part::Unknown => {
                    self.parts[to as usize..to as usize + ensemble.outputs()].fill(Part::Unknown);
                    return Ok(());
                }
            }
        }
        let duel = Duel {
            row: &self.to[from..from + width],
            reference: &self.from[from..from + width],
            players: &players,
            features: self.features,
            budget,
        };
        let shares = ensemble.explain(&duel)?;
        for (column, to) in (to..).take(ensemble.outputs()).enumerate() {
            let own = |shares: &Vec<f64>| shares[column * self.features..(column + 1) * self.features].to_vec();
            let own = shares.as_ref().map(own);
            self.keep(to, own.as_deref());
        }
        Ok(())
    }
}
