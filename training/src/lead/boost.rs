//! Newton boosting of shallow trees on the log-loss, starting from log-odds that something else has fitted (Friedman
//! 2001; second order as in Chen & Guestrin 2016).

use scoreline_engine::inference::additive::{Node, Tree};

use super::recipe::sigmoid;

/// How trees are grown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boost {
    pub rounds: usize,
    /// Share of each tree's answer that is taken.
    pub rate: f64,
    pub depth: usize,
    /// A side of a split must weigh at least as much as this many average rows of its node.
    pub leaf: f64,
    /// Added to the curvature of every leaf.
    pub ridge: f64,
}

/// One column by its distinct values.
pub(super) struct Column {
    name: String,
    /// Ascending.
    values: Vec<f64>,
    /// Position of each row's value.
    bins: Vec<usize>,
}

impl Column {
    pub(super) fn new(name: &str, rows: &[f64]) -> Self {
        let mut values = rows.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        let bins = rows.iter().map(|value| values.partition_point(|other| other < value)).collect();
        Self { name: name.to_owned(), values, bins }
    }
}

struct Split {
    gain: f64,
    column: usize,
    /// The last bin that goes left.
    bin: usize,
}

struct Grower<'a> {
    boost: &'a Boost,
    columns: &'a [Column],
    slopes: Vec<f64>,
    curvatures: Vec<f64>,
    nodes: Vec<Node>,
}

impl Boost {
    /// Grows the trees; `log_odds` is moved along.
    pub(super) fn fit(&self, columns: &[Column], happened: &[f64], log_odds: &mut [f64]) -> Vec<Tree> {
        let rows: Vec<usize> = (0..happened.len()).collect();
        let mut trees = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds {
            let probabilities: Vec<f64> = log_odds.iter().map(|x| sigmoid(*x)).collect();
            let slopes = probabilities.iter().zip(happened).map(|(p, y)| p - y).collect();
            let curvatures = probabilities.iter().map(|p| p * (1.0 - p)).collect();
            let mut grower = Grower { boost: self, columns, slopes, curvatures, nodes: Vec::new() };
            grower.grow(&rows, 0, log_odds);
            trees.push(Tree(grower.nodes));
        }
        trees
    }
}

impl Grower<'_> {
    /// Grows the subtree of these rows; its root's position.
    fn grow(&mut self, rows: &[usize], depth: usize, log_odds: &mut [f64]) -> u32 {
        let position = self.nodes.len();
        let slope: f64 = rows.iter().map(|&row| self.slopes[row]).sum();
        let curvature: f64 = rows.iter().map(|&row| self.curvatures[row]).sum();
        let best = if depth < self.boost.depth { self.best(rows, slope, curvature) } else { None };
        let leaf = -self.boost.rate * slope / (curvature + self.boost.ridge);
        self.nodes.push(Node::Leaf { leaf });
        match best {
            None => rows.iter().for_each(|&row| log_odds[row] += leaf),
            Some(split) => {
                let column = &self.columns[split.column];
                let at_most = f64::midpoint(column.values[split.bin], column.values[split.bin + 1]);
                let feature = column.name.clone();
                let (left, right): (Vec<usize>, Vec<usize>) =
                    rows.iter().partition(|&&row| column.bins[row] <= split.bin);
                let left = self.grow(&left, depth + 1, log_odds);
                let right = self.grow(&right, depth + 1, log_odds);
                self.nodes[position] = Node::Split { feature, at_most, left, right };
            }
        }
        u32::try_from(position).expect("a tree of a few levels")
    }

    fn best(&self, rows: &[usize], slope: f64, curvature: f64) -> Option<Split> {
        let ridge = self.boost.ridge;
        let least = self.boost.leaf * curvature / rows.len() as f64;
        let mut best: Option<Split> = None;
        for (position, column) in self.columns.iter().enumerate() {
            let mut sums = vec![(0.0, 0.0, 0_usize); column.values.len()];
            for &row in rows {
                let sum = &mut sums[column.bins[row]];
                *sum = (sum.0 + self.slopes[row], sum.1 + self.curvatures[row], sum.2 + 1);
            }
            let mut left_slope = 0.0;
            let mut left_curvature = 0.0;
            let mut left_rows = 0;
            for (bin, sum) in sums[..sums.len() - 1].iter().enumerate() {
                left_slope += sum.0;
                left_curvature += sum.1;
                left_rows += sum.2;
                let right_curvature = curvature - left_curvature;
                let fits = left_curvature >= least && right_curvature >= least;
                if !fits || left_rows == 0 || left_rows == rows.len() {
                    continue;
                }
                let score = |slope: f64, curvature: f64| slope * slope / (curvature + ridge);
                let gain = score(left_slope, left_curvature) + score(slope - left_slope, right_curvature)
                    - score(slope, curvature);
                if gain > best.as_ref().map_or(1e-9, |best| best.gain) {
                    best = Some(Split { gain, column: position, bin });
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_and_its_two_sides_reach_their_shares() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i % 10)).collect();
        // Half of the rows above 6 convert, a tenth of the others.
        let happened: Vec<f64> =
            (0..1000).map(|i| f64::from(u8::from(if i % 10 > 6 { i % 20 < 10 } else { i % 100 < 10 }))).collect();
        let mut log_odds = vec![0.0; 1000];
        let boost = Boost { rounds: 200, rate: 0.1, depth: 1, leaf: 50.0, ridge: 0.0 };
        let trees = boost.fit(&[Column::new("x", &values)], &happened, &mut log_odds);
        assert!(matches!(&trees[0].0[0], Node::Split { at_most, .. } if *at_most == 6.5), "{:?}", trees[0]);
        let share = |high: bool| {
            let rows: Vec<usize> = (0..1000).filter(|i| (values[*i] > 6.0) == high).collect();
            let happened = rows.iter().map(|&i| happened[i]).sum::<f64>() / rows.len() as f64;
            let said = rows.iter().map(|&i| sigmoid(log_odds[i])).sum::<f64>() / rows.len() as f64;
            (happened, said)
        };
        for (happened, said) in [share(true), share(false)] {
            assert!((happened - said).abs() < 0.01, "{happened} is said to be {said}");
        }
    }

    #[test]
    fn a_column_that_says_nothing_is_not_split() {
        let mut log_odds = vec![0.0; 200];
        let happened: Vec<f64> = (0..200).map(|i| f64::from(i % 2)).collect();
        let boost = Boost { rounds: 3, rate: 0.1, depth: 3, leaf: 10.0, ridge: 1.0 };
        let trees = boost.fit(&[Column::new("constant", &[7.0; 200])], &happened, &mut log_odds);
        assert!(trees.iter().all(|tree| tree.0.len() == 1));
    }
}
