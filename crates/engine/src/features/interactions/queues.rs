//! Mean sentiment of each queue as of a time: what stands in for a customer whose interactions were never scored.
//!
//! The interactions that count are those that count for customers, ended by the time and begun in the 365 days before it,
//! as far as they are scored and have a queue. Sums are whole numbers: kept up to date by adding and taking back they are
//! exactly those of adding everything anew.

use jiff::Timestamp;

use super::LOOK_BACK_MS;
use scoreline_domain::{InteractionRow, LabelId, Sentiment};

/// The scores of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSum {
    pub scored: u64,
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
            queues.add(queue, sum);
        }
        queues
    }

    /// Counts the score of an interaction that counts as of the time.
    pub fn observe(&mut self, queue: LabelId, sentiment: Sentiment) {
        self.add(queue, QueueSum { scored: 1, millionths: i64::from(sentiment.millionths()) });
    }

    /// Takes back a score that was counted: the interaction left the window, or is known better now.
    pub fn retract(&mut self, queue: LabelId, sentiment: Sentiment) {
        self.take(queue, QueueSum { scored: 1, millionths: i64::from(sentiment.millionths()) });
    }

    /// -1 to 1; `None` for a queue without a score.
    pub fn mean(&self, queue: LabelId) -> Option<f64> {
        let QueueSum { scored, millionths } = self.queues[self.find(queue).ok()?].1;
        Some(millionths as f64 / (scored as f64 * 1e6))
    }

    /// Every queue with a score, by label.
    pub fn sums(&self) -> &[(LabelId, QueueSum)] {
        &self.queues
    }

    fn add(&mut self, queue: LabelId, more: QueueSum) {
        if more.scored == 0 {
            return;
        }
        let position = self.find(queue).unwrap_or_else(|position| {
            self.queues.insert(position, (queue, QueueSum::default()));
            position
        });
        let sum = &mut self.queues[position].1;
        sum.scored += more.scored;
        sum.millionths += more.millionths;
    }

    fn take(&mut self, queue: LabelId, less: QueueSum) {
        if let Ok(position) = self.find(queue) {
            let sum = &mut self.queues[position].1;
            sum.scored -= less.scored;
            sum.millionths -= less.millionths;
            if sum.scored == 0 {
                self.queues.remove(position);
            }
        }
    }

    fn find(&self, queue: LabelId) -> Result<usize, usize> {
        self.queues.binary_search_by_key(&queue, |(known, _)| *known)
    }
}

/// The scores of every queue as of many times, from one pass over all interactions in any order.
#[derive(Clone, Debug)]
pub struct QueueTimeline {
    /// In milliseconds, ascending.
    times: Vec<i64>,
    /// What begins to count with each of them, and what no longer does.
    changes: Vec<(QueueSentiment, QueueSentiment)>,
}

impl QueueTimeline {
    pub fn over(times: &[Timestamp]) -> Self {
        let mut times: Vec<i64> = times.iter().map(|time| time.as_millisecond()).collect();
        times.sort_unstable();
        let changes = vec![Default::default(); times.len()];
        Self { times, changes }
    }

    pub fn add(&mut self, interaction: &InteractionRow<'_>) {
        let (Some(end_ms), Some(queue), Some(sentiment)) =
            (interaction.end_ms, interaction.queue, interaction.sentiment)
        else {
            return;
        };
        // It counts as of its end, and no longer a window after its start.
        let [enters, leaves] =
            [end_ms, interaction.start_ms + LOOK_BACK_MS].map(|at| self.times.partition_point(|time| *time < at));
        if enters < leaves {
            self.changes[enters].0.observe(queue, sentiment);
            if let Some((_, left)) = self.changes.get_mut(leaves) {
                left.observe(queue, sentiment);
            }
        }
    }

    /// The sums as of each time, in the order of the times.
    pub fn finish(self) -> Vec<QueueSentiment> {
        let mut sums = QueueSentiment::default();
        let step = |(entered, left): (QueueSentiment, QueueSentiment)| {
            entered.queues.into_iter().for_each(|(queue, sum)| sums.add(queue, sum));
            left.queues.into_iter().for_each(|(queue, sum)| sums.take(queue, sum));
            sums.clone()
        };
        self.changes.into_iter().map(step).collect()
    }
}
