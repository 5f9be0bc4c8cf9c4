//! Cross-validation by customer: every customer is predicted once, by a model that was not fitted on them.

use std::num::NonZero;

use scoreline::packing::split::mix;
use scoreline::packing::table::Row;

/// Parts of one cross-validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Folds {
    pub count: u64,
    /// Two cross-validations with different salts part the customers differently.
    pub salt: u64,
}

impl Folds {
    /// The fold of a customer: a hash of the id, so that it does not depend on who else is there.
    pub(crate) fn of(self, row: &Row) -> u64 {
        let id = row.customer.bytes().fold(self.salt, |hash, byte| mix(hash ^ u64::from(byte)));
        mix(id) % self.count
    }

    /// Runs `work` on every fold with the rows outside and the positions of the rows inside, on all cores; results in
    /// the order of the folds.
    ///
    /// # Errors
    /// The first error of any fold.
    pub(crate) fn each<'r, T: Send>(
        self,
        rows: &[&'r Row],
        work: impl Fn(Vec<&'r Row>, Vec<usize>) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<T>> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
        let run = |fold: u64| {
            let inside: Vec<usize> = (0..rows.len()).filter(|at| self.of(rows[*at]) == fold).collect();
            let outside = rows.iter().filter(|row| self.of(row) != fold).copied().collect();
            anyhow::ensure!(!inside.is_empty(), "fold {fold} of {} has no customer", self.count);
            work(outside, inside)
        };
        let mut done = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores.min(self.count))
                .map(|first| {
                    let run = &run;
                    scope.spawn(move || {
                        let mine = (first..self.count).step_by(cores as usize);
                        mine.map(|fold| (fold, run(fold))).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Vec<_>>()
        });
        done.sort_by_key(|(fold, _)| *fold);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline::packing::split::Split;

    #[test]
    fn every_row_is_inside_once_and_never_beside_itself() {
        let rows: Vec<Row> = (0..500)
            .map(|id| Row {
                customer: format!("customer {id}"),
                as_of: String::new(),
                split: Split::Fit,
                values: Vec::new(),
                spend_usd: f64::from(id),
                acquisition_channel: String::new(),
                segment: String::new(),
            })
            .collect();
        let rows: Vec<&Row> = rows.iter().collect();
        let folds = Folds { count: 7, salt: 3 };
        let parts = folds
            .each(&rows, |outside, inside| {
                assert_eq!(outside.len() + inside.len(), rows.len());
                assert!(inside.iter().all(|at| outside.iter().all(|row| row.customer != rows[*at].customer)));
                Ok(inside)
            })
            .expect("folds");
        assert!(parts.iter().all(|part| part.len() > 40), "{parts:?}");
        let mut all: Vec<usize> = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..500).collect::<Vec<_>>());
        let other = Folds { count: 7, salt: 4 };
        assert!(rows.iter().any(|row| folds.of(row) != other.of(row)));
    }
}
