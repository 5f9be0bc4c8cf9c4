//! Mean sentiment of each queue as of a time: what stands in for a customer whose interactions were never scored.
//!
//! The interactions that count are those that count for customers: closed by the time, begun in the 365 days before it,
//! scored, with a queue. Sums are whole numbers, so sums kept up to date by adding and taking back are exactly those of
//! adding everything anew.

use jiff::Timestamp;

use super::Interaction;
use crate::domain::{LabelId, Sentiment};

/// The scores of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSum {
    pub scored: i64,
    /// Sum of the scores in millionths.
    pub millionths: i64,
}

/// The scores of every queue as of one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSentiment {
    /// By label; none without a score.
    queues: Vec<(LabelId, QueueSum)>,
}

impl QueueSentiment {
    /// From sums that were made elsewhere, in any order, one or more a queue: a store adds up faster than it hands out.
    pub fn from_sums(sums: impl IntoIterator<Item = (LabelId, QueueSum)>) -> Self {
        let mut queues = Self::default();
        for (queue, sum) in sums {
            queues.change(queue, sum.scored, sum.millionths);
        }
        queues
    }

    /// Adds an interaction that counts as of the time of these sums; see [`Interaction::counts_as_of`].
    pub fn add(&mut self, interaction: &Interaction<'_>) {
        if let (Some(queue), Some(sentiment)) = (interaction.queue, interaction.sentiment) {
            self.observe(queue, sentiment);
        }
    }

    /// Takes back an interaction that was added: it has left the window, or is known better now.
    pub fn retract(&mut self, interaction: &Interaction<'_>) {
        if let (Some(queue), Some(sentiment)) = (interaction.queue, interaction.sentiment) {
            self.change(queue, -1, -i64::from(sentiment.millionths()));
        }
    }

    /// Counts a score.
    pub fn observe(&mut self, queue: LabelId, sentiment: Sentiment) {
        self.change(queue, 1, i64::from(sentiment.millionths()));
    }

    /// -1 to 1; `None` for a queue without a score.
    pub fn mean(&self, queue: LabelId) -> Option<f64> {
        let position = self.find(queue).ok()?;
        let QueueSum { scored, millionths } = self.queues[position].1;
        Some(millionths as f64 / (scored as f64 * 1e6))
    }

    /// Every queue with a score, by label.
    pub fn sums(&self) -> &[(LabelId, QueueSum)] {
        &self.queues
    }

    fn change(&mut self, queue: LabelId, scored: i64, millionths: i64) {
        let position = self.find(queue).unwrap_or_else(|position| {
            self.queues.insert(position, (queue, QueueSum::default()));
            position
        });
        let sum = &mut self.queues[position].1;
        sum.scored += scored;
        sum.millionths += millionths;
        // What changes between two times can have as many scores more as less, and another sum all the same.
        if *sum == QueueSum::default() {
            self.queues.remove(position);
        }
    }

    fn find(&self, queue: LabelId) -> Result<usize, usize> {
        self.queues.binary_search_by_key(&queue, |(known, _)| *known)
    }
}

/// The scores of every queue as of many times at once, from one pass over all interactions in any order.
#[derive(Clone, Debug)]
pub struct QueueTimeline {
    /// In milliseconds, ascending.
    times: Vec<i64>,
    /// What changes from the time before to each of them: interactions closed since, less those that left the window.
    changes: Vec<QueueSentiment>,
}

impl QueueTimeline {
    /// For these times, in order.
    pub fn over(times: &[Timestamp]) -> Self {
        let mut times: Vec<i64> = times.iter().map(|time| time.as_millisecond()).collect();
        times.sort_unstable();
        let changes = vec![QueueSentiment::default(); times.len()];
        Self { times, changes }
    }

    pub fn add(&mut self, interaction: &Interaction<'_>) {
        let Some((from, to)) = interaction.counts_ms() else { return };
        let [enters, leaves] = [from, to].map(|at| self.times.partition_point(|time| *time < at));
        if enters < leaves {
            self.changes[enters].add(interaction);
            if let Some(change) = self.changes.get_mut(leaves) {
                change.retract(interaction);
            }
        }
    }

    /// The sums as of each time, in the order of the times.
    pub fn finish(self) -> Vec<QueueSentiment> {
        let mut sums = QueueSentiment::default();
        let mut all = Vec::with_capacity(self.changes.len());
        for change in self.changes {
            for (queue, sum) in change.queues {
                sums.change(queue, sum.scored, sum.millionths);
            }
            all.push(sums.clone());
        }
        all
    }
}
