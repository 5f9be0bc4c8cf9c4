//! Mean sentiment of each queue as of a time: what stands in for a customer whose interactions were never scored.
//!
//! The interactions that count are the scored ones, with a queue, that had ended by the time, however long before it: the
//! history of a queue is longer than a customer's look-back window. So sums only grow with time, in the order in which
//! interactions end. They are whole numbers: kept up to date by adding and taking back they are exactly those of adding
//! everything anew.

use jiff::Timestamp;

use crate::domain::{LabelId, Sentiment};

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

    /// Counts the score of an interaction that had ended by the time.
    pub fn observe(&mut self, queue: LabelId, sentiment: Sentiment) {
        self.add(queue, QueueSum { scored: 1, millionths: i64::from(sentiment.millionths()) });
    }

    /// Takes back a score that was counted: the interaction is known better now.
    pub fn retract(&mut self, queue: LabelId, sentiment: Sentiment) {
        if let Ok(position) = self.find(queue) {
            let sum = &mut self.queues[position].1;
            sum.scored -= 1;
            sum.millionths -= i64::from(sentiment.millionths());
            if sum.scored == 0 {
                self.queues.remove(position);
            }
        }
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

    fn find(&self, queue: LabelId) -> Result<usize, usize> {
        self.queues.binary_search_by_key(&queue, |(known, _)| *known)
    }
}

/// The scores of every queue as of many times, from one pass over the scored interactions in any order.
#[derive(Clone, Debug)]
pub struct QueueTimeline {
    /// In milliseconds, ascending.
    times: Vec<i64>,
    /// What ended by each of them and not by the time before.
    since: Vec<QueueSentiment>,
}

impl QueueTimeline {
    pub fn over(times: &[Timestamp]) -> Self {
        let mut times: Vec<i64> = times.iter().map(|time| time.as_millisecond()).collect();
        times.sort_unstable();
        let since = vec![QueueSentiment::default(); times.len()];
        Self { times, since }
    }

    /// Counts the score of an interaction; one that had not ended by the last of the times changes nothing.
    pub fn observe(&mut self, end_ms: i64, queue: LabelId, sentiment: Sentiment) {
        let first = self.times.partition_point(|time| *time < end_ms);
        if let Some(since) = self.since.get_mut(first) {
            since.observe(queue, sentiment);
        }
    }

    /// The sums as of each time, in the order of the times.
    pub fn finish(self) -> Vec<QueueSentiment> {
        let mut sums = QueueSentiment::default();
        let step = |since: QueueSentiment| {
            since.queues.into_iter().for_each(|(queue, sum)| sums.add(queue, sum));
            sums.clone()
        };
        self.since.into_iter().map(step).collect()
    }
}
