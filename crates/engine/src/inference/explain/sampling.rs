//! Shapley values of a model nothing is known about but its answers.
//!
//! With few features that differ, every subset is asked. With more, random orders are: along an order each feature in
//! turn goes from the reference's value to the row's, and what the answer moves is its share. Each order is also
//! gone backwards (antithetic pairs; Mitchell et al. 2022). Any number of orders gives shares that sum to the
//! difference exactly, so time decides only how good an estimate they are.

use super::{Budget, Method, Question, Shares, Unexplained, settle};
use crate::inference::backend::{BackendError, FeatureMatrix};

/// Most features of which every subset is asked: 1,024 answers.
const MOST_ENUMERATED: usize = 10;
/// Pairs of orders; the error of a share falls with the square root of their number.
const PAIRS: usize = 32;
/// Rows asked between two looks at the clock.
const ROWS: usize = 32;
/// Orders are the same for every question, so that asking again gives the same answer.
const SEED: u64 = 0x5eed_0f0d_d0de_5ca1;

/// Explains the model behind `run`, which writes `outputs` numbers a row.
///
/// The answer is the same each time, as long as the time suffices for all of it.
pub(in crate::inference) fn explain(
    question: &Question<'_>,
    outputs: usize,
    run: impl Fn(FeatureMatrix<'_>, &mut [f64]) -> Result<(), BackendError>,
) -> Result<Shares, Unexplained> {
    let mut game = Game::new(question, outputs, run);
    let [from, to] = game.ends()?;
    let mut columns = vec![0.0; question.row.len()];
    let method = if game.players.len() <= MOST_ENUMERATED && game.subsets(&mut columns, (from, to))? {
        Method::Exact
    } else {
        game.orders(&mut columns, (from, to))?;
        Method::Permutation
    };
    settle(&mut columns, to - from, from.abs().max(to.abs()));
    Shares { columns, from, to, method }.finite()
}

struct Game<'q, R> {
    question: &'q Question<'q>,
    outputs: usize,
    run: R,
    /// Columns in which the rows differ.
    players: Vec<usize>,
    rows: Vec<f64>,
    answers: Vec<f64>,
}

impl<'q, R: Fn(FeatureMatrix<'_>, &mut [f64]) -> Result<(), BackendError>> Game<'q, R> {
    fn new(question: &'q Question<'q>, outputs: usize, run: R) -> Self {
        let differ = |(row, reference): (&f64, &f64)| row != reference && !(row.is_nan() && reference.is_nan());
        let pairs = question.row.iter().zip(question.reference).enumerate();
        let players = pairs.filter(|(_, pair)| differ(*pair)).map(|(column, _)| column).collect();
        Self { question, outputs, run, players, rows: Vec::new(), answers: Vec::new() }
    }

    fn ends(&mut self) -> Result<[f64; 2], Unexplained> {
        let mut ends = Vec::with_capacity(2);
        self.rows.extend_from_slice(self.question.reference);
        self.rows.extend_from_slice(self.question.row);
        self.ask(&self.question.budget, &mut ends)?;
        Ok([ends[0], ends[1]])
    }

    /// Runs the rows that were collected and appends the answers asked about.
    fn ask(&mut self, budget: &Budget, to: &mut Vec<f64>) -> Result<(), Unexplained> {
        budget.check()?;
        let rows = FeatureMatrix::new(&self.rows, self.question.row.len());
        self.answers.clear();
        self.answers.resize(rows.rows() * self.outputs, 0.0);
        (self.run)(rows, &mut self.answers)?;
        to.extend(self.answers.chunks_exact(self.outputs).map(|answers| answers[self.question.output]));
        self.rows.clear();
        Ok(())
    }

    /// Asks every subset. `false` when half the time does not suffice: the other half is for orders.
    fn subsets(&mut self, columns: &mut [f64], (from, to): (f64, f64)) -> Result<bool, Unexplained> {
        let (count, budget) = (self.players.len(), self.question.budget.part(0.5));
        let last = (1_usize << count) - 1;
        let mut values = vec![from];
        for subset in 1..last {
            self.rows.extend_from_slice(self.question.reference);
            let row = self.rows.len() - self.question.row.len();
            for (player, &column) in self.players.iter().enumerate() {
                if subset >> player & 1 == 1 {
                    self.rows[row + column] = self.question.row[column];
                }
            }
            if subset % ROWS == 0 || subset + 1 == last {
                match self.ask(&budget, &mut values) {
                    Err(Unexplained::OutOfTime) => {
                        self.rows.clear();
                        return Ok(false);
                    }
                    asked => asked?,
                }
            }
        }
        if last > 0 {
            values.push(to);
        }
        // 1 / (count * choose(count - 1, size)): the weight of a subset of that size without the player.
        let mut weights = vec![1.0 / count as f64];
        for size in 1..count {
            weights.push(weights[size - 1] * size as f64 / (count - size) as f64);
        }
        for (player, &column) in self.players.iter().enumerate() {
            for without in (0..=last).filter(|subset| subset >> player & 1 == 0) {
                let gain = values[without | 1 << player] - values[without];
                columns[column] += weights[without.count_ones() as usize] * gain;
            }
        }
        Ok(true)
    }

    /// Goes along pairs of orders until there are enough or time is up; one pair at least.
    fn orders(&mut self, columns: &mut [f64], ends: (f64, f64)) -> Result<(), Unexplained> {
        let mut order = self.players.clone();
        let mut state = SEED;
        let mut pair = vec![0.0; columns.len()];
        let mut pairs = 0_u32;
        for _ in 0..PAIRS {
            for last in (1..order.len()).rev() {
                order.swap(last, below(&mut state, last as u64 + 1));
            }
            pair.fill(0.0);
            let forwards = self.along(order.iter().copied(), ends, &mut pair);
            let both = forwards.and_then(|()| self.along(order.iter().rev().copied(), ends, &mut pair));
            match both {
                Err(Unexplained::OutOfTime) if pairs > 0 => {
                    self.rows.clear();
                    break;
                }
                gone => gone?,
            }
            for (column, share) in columns.iter_mut().zip(&pair) {
                *column += share;
            }
            pairs += 1;
        }
        for column in columns {
            *column /= f64::from(pairs * 2);
        }
        Ok(())
    }

    fn along(
        &mut self,
        order: impl ExactSizeIterator<Item = usize> + Clone,
        (from, to): (f64, f64),
        shares: &mut [f64],
    ) -> Result<(), Unexplained> {
        let mut at = self.question.reference.to_vec();
        let mut values = vec![from];
        for (step, column) in order.clone().enumerate().take(order.len() - 1) {
            at[column] = self.question.row[column];
            self.rows.extend_from_slice(&at);
            if (step + 1) % ROWS == 0 || step + 2 == order.len() {
                self.ask(&self.question.budget, &mut values)?;
            }
        }
        values.push(to);
        for (column, values) in order.zip(values.windows(2)) {
            shares[column] += values[1] - values[0];
        }
        Ok(())
    }
}

/// A number below `end` by `SplitMix64` (Steele, Lea & Flood 2014).
fn below(state: &mut u64, end: u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) % end) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ask(row: &[f64], value: impl Fn(&[f64]) -> f64, limit: Duration) -> Result<Shares, Unexplained> {
        let reference = vec![0.0; row.len()];
        let question = Question { row, reference: &reference, output: 1, budget: Budget::of(limit) };
        explain(&question, 2, |rows, out| {
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(2)) {
                out.copy_from_slice(&[f64::NAN, value(row)]);
            }
            Ok(())
        })
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_product_is_shared_equally_and_columns_that_agree_get_nothing() {
        let shares = ask(&[2.0, 3.0, 0.0, 1.0], |x| x[0] * x[1] + 10.0 * x[3] + 7.0, LONG).expect("explained");
        assert_eq!((shares.from, shares.to, shares.method), (7.0, 23.0, Method::Exact));
        for (share, expected) in shares.columns.iter().zip([3.0, 3.0, 0.0, 10.0]) {
            assert!((share - expected).abs() < 1e-12, "{shares:?}");
        }
        let alone = ask(&[0.0, 5.0], |x| x[1], LONG).expect("explained");
        assert_eq!(alone.columns, [0.0, 5.0]);
        assert_eq!(ask(&[0.0, 0.0], |_| 4.0, LONG).expect("explained").columns, [0.0, 0.0]);
    }

    #[test]
    fn orders_sum_exactly_repeat_and_come_close() {
        let row: Vec<f64> = (1..=14).map(f64::from).collect();
        // Antithetic pairs are exact for products of two.
        let value = |x: &[f64]| x.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() + 3.0 * x[0];
        let shares = ask(&row, value, LONG).expect("explained");
        assert_eq!(shares.method, Method::Permutation);
        assert!((shares.columns.iter().sum::<f64>() - value(&row)).abs() < 1e-9);
        assert!((shares.columns[0] - (1.0 + 3.0)).abs() < 1e-9, "{shares:?}");
        assert!((shares.columns[5] - 0.5 * (6.0 * 5.0 + 6.0 * 7.0)).abs() < 1e-9, "{shares:?}");
        assert_eq!(ask(&row, value, LONG).expect("explained"), shares);
    }

    #[test]
    fn time_that_ends_before_one_pair_is_no_explanation() {
        assert!(matches!(ask(&[1.0, 2.0], |x| x[0], Duration::ZERO), Err(Unexplained::OutOfTime)));
        let slow = |x: &[f64]| {
            std::thread::sleep(Duration::from_millis(1));
            x.iter().sum()
        };
        let row = [1.0; 14];
        assert!(matches!(ask(&row, slow, Duration::from_millis(8)), Err(Unexplained::OutOfTime)));
        // A pair takes 26 answers: there is time for some, not for all.
        let some = ask(&row, slow, Duration::from_millis(400)).expect("explained");
        assert_eq!(some.method, Method::Permutation);
        assert!(some.columns.iter().all(|share| (share - 1.0).abs() < 1e-12), "{some:?}");
    }

    #[test]
    fn a_model_without_a_number_on_the_way_is_not_explained() {
        let refused = ask(&[1.0, 1.0], |x| if x[0] > x[1] { f64::NAN } else { 1.0 }, LONG);
        assert!(matches!(refused, Err(Unexplained::NotANumber)), "{refused:?}");
    }
}
