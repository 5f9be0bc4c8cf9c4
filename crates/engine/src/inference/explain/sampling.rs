//! Shapley values of a model nothing is known about but its answers.
//!
//! With few players that differ, every subset is asked. With more, random orders are: along an order each player in
//! turn goes from the reference's value to the row's, and what the answer moves is its share. Each order is also
//! gone backwards (antithetic pairs; Mitchell et al. 2022). Any number of orders gives shares that sum to the
//! difference exactly, so time decides only how good an estimate they are.

use super::{Budget, Method, Question, Shares, Unexplained, settle};
use crate::inference::backend::{BackendError, FeatureMatrix};

/// Most players of which every subset is asked: 1,024 answers.
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
    let mut shares = vec![0.0; question.count()];
    let method = if game.players.len() <= MOST_ENUMERATED && game.subsets(&mut shares, (from, to))? {
        Method::Exact
    } else {
        game.orders(&mut shares, (from, to))?;
        Method::Permutation
    };
    settle(&mut shares, to - from, from.abs().max(to.abs()));
    Shares { players: shares, from, to, method }.finite()
}

struct Game<'q, R> {
    question: &'q Question<'q>,
    outputs: usize,
    run: R,
    /// Players in whose columns the rows differ.
    players: Vec<usize>,
    rows: Vec<f64>,
    answers: Vec<f64>,
}

impl<'q, R: Fn(FeatureMatrix<'_>, &mut [f64]) -> Result<(), BackendError>> Game<'q, R> {
    fn new(question: &'q Question<'q>, outputs: usize, run: R) -> Self {
        let pairs = question.row.iter().zip(question.reference).zip(question.players);
        let differing = pairs.filter(|((row, reference), _)| differ(**row, **reference));
        let mut players: Vec<usize> = differing.map(|(_, player)| *player as usize).collect();
        players.sort_unstable();
        players.dedup();
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
    fn subsets(&mut self, shares: &mut [f64], (from, to): (f64, f64)) -> Result<bool, Unexplained> {
        let (count, budget) = (self.players.len(), self.question.budget.part(0.5));
        let last = (1_usize << count) - 1;
        let mut values = vec![from];
        for subset in 1..last {
            let mut taken = vec![false; shares.len()];
            for (bit, &player) in self.players.iter().enumerate() {
                taken[player] = subset >> bit & 1 == 1;
            }
            let Question { row, reference, players, .. } = *self.question;
            let pairs = row.iter().zip(reference).zip(players);
            let mixed = pairs.map(|((row, reference), player)| if taken[*player as usize] { row } else { reference });
            self.rows.extend(mixed);
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
        for (bit, share) in shapley(count, |subset| values[subset]).into_iter().enumerate() {
            shares[self.players[bit]] = share;
        }
        Ok(true)
    }

    /// Goes along pairs of orders until there are enough or time is up; one pair at least.
    fn orders(&mut self, shares: &mut [f64], ends: (f64, f64)) -> Result<(), Unexplained> {
        let mut order = self.players.clone();
        let mut state = SEED;
        let mut pair = vec![0.0; shares.len()];
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
            for (share, part) in shares.iter_mut().zip(&pair) {
                *share += part;
            }
            pairs += 1;
        }
        for share in shares {
            *share /= f64::from(pairs * 2);
        }
        Ok(())
    }

    fn along(
        &mut self,
        order: impl ExactSizeIterator<Item = usize> + Clone,
        (from, to): (f64, f64),
        shares: &mut [f64],
    ) -> Result<(), Unexplained> {
        let Question { row, reference, players, .. } = *self.question;
        let mut at = reference.to_vec();
        let mut values = vec![from];
        for (step, player) in order.clone().enumerate().take(order.len() - 1) {
            for ((at, row), _) in at.iter_mut().zip(row).zip(players).filter(|(_, of)| **of as usize == player) {
                *at = *row;
            }
            self.rows.extend_from_slice(&at);
            if (step + 1) % ROWS == 0 || step + 2 == order.len() {
                self.ask(&self.question.budget, &mut values)?;
            }
        }
        values.push(to);
        for (player, values) in order.zip(values.windows(2)) {
            shares[player] += values[1] - values[0];
        }
        Ok(())
    }
}

/// Shapley values of `count` players: `value` says what a subset of them is worth, as the bits of a number.
pub(super) fn shapley(count: usize, value: impl Fn(usize) -> f64) -> Vec<f64> {
    let weights = weights(count);
    let share = |player: usize| -> f64 {
        let without = (0..1_usize << count).filter(|subset| subset >> player & 1 == 0);
        without
            .map(|subset| weights[subset.count_ones() as usize] * (value(subset | 1 << player) - value(subset)))
            .sum()
    };
    (0..count).map(share).collect()
}

/// The weight of a subset without a player, by its size: `1 / (count * choose(count - 1, size))` (Shapley 1953).
pub(super) fn weights(count: usize) -> Vec<f64> {
    let mut weights = vec![1.0 / count.max(1) as f64];
    for size in 1..count {
        weights.push(weights[size - 1] * size as f64 / (count - size) as f64);
    }
    weights
}

/// Whether two values of a column are two: missing in both is no difference.
pub(super) fn differ(row: f64, reference: f64) -> bool {
    row != reference && !(row.is_nan() && reference.is_nan())
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
        let players: Vec<u32> = (0..row.len() as u32).collect();
        ask_players(row, &players, value, limit)
    }

    fn ask_players(
        row: &[f64],
        players: &[u32],
        value: impl Fn(&[f64]) -> f64,
        limit: Duration,
    ) -> Result<Shares, Unexplained> {
        let reference = vec![0.0; row.len()];
        let question = Question { row, reference: &reference, players, output: 1, budget: Budget::of(limit) };
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
        for (share, expected) in shares.players.iter().zip([3.0, 3.0, 0.0, 10.0]) {
            assert!((share - expected).abs() < 1e-12, "{shares:?}");
        }
        let alone = ask(&[0.0, 5.0], |x| x[1], LONG).expect("explained");
        assert_eq!(alone.players, [0.0, 5.0]);
        assert_eq!(ask(&[0.0, 0.0], |_| 4.0, LONG).expect("explained").players, [0.0, 0.0]);
    }

    #[test]
    fn columns_of_one_player_move_together() {
        let value = |x: &[f64]| x[0] * x[1] + x[2];
        let shares = ask_players(&[2.0, 3.0, 1.0], &[1, 1, 0], value, LONG).expect("explained");
        assert_eq!((shares.players, shares.method), (vec![1.0, 6.0], Method::Exact));
        let row: Vec<f64> = (1..=24).map(f64::from).collect();
        let players: Vec<u32> = (0..12).flat_map(|player| [player, player]).collect();
        let value = |x: &[f64]| x.chunks(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        let shares = ask_players(&row, &players, value, LONG).expect("explained");
        assert_eq!(shares.method, Method::Permutation);
        for (share, pair) in shares.players.iter().zip(row.chunks(2)) {
            assert!((share - pair[0] * pair[1]).abs() < 1e-9, "{shares:?}");
        }
    }

    #[test]
    fn orders_sum_exactly_repeat_and_come_close() {
        let row: Vec<f64> = (1..=14).map(f64::from).collect();
        // Antithetic pairs are exact for products of two.
        let value = |x: &[f64]| x.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() + 3.0 * x[0];
        let shares = ask(&row, value, LONG).expect("explained");
        assert_eq!(shares.method, Method::Permutation);
        assert!((shares.players.iter().sum::<f64>() - value(&row)).abs() < 1e-9);
        assert!((shares.players[0] - (1.0 + 3.0)).abs() < 1e-9, "{shares:?}");
        assert!((shares.players[5] - 0.5 * (6.0 * 5.0 + 6.0 * 7.0)).abs() < 1e-9, "{shares:?}");
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
        assert!(some.players.iter().all(|share| (share - 1.0).abs() < 1e-12), "{some:?}");
    }

    #[test]
    fn a_model_without_a_number_on_the_way_is_not_explained() {
        let refused = ask(&[1.0, 1.0], |x| if x[0] > x[1] { f64::NAN } else { 1.0 }, LONG);
        assert!(matches!(refused, Err(Unexplained::NotANumber)), "{refused:?}");
    }
}
