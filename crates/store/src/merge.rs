//! What is kept of an interaction that was told more than once. The result does not depend on the order of telling.

use std::cmp::Ordering;

use super::labels::Labels;
use scoreline_domain::{Channel, CustomerKey, LabelId, Sentiment};

/// One interaction as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InteractionVersion {
    pub(super) customer: CustomerKey,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) channel: Channel,
    pub(super) handle_ms: Option<u32>,
    pub(super) queue: Option<LabelId>,
    pub(super) sentiment: Option<Dated<Sentiment>>,
    /// Rising; never empty.
    pub(super) topics: Option<Dated<Vec<LabelId>>>,
}

/// What analysis found in an interaction, and the end of the version it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dated<T> {
    pub(super) what: T,
    pub(super) end_ms: i64,
}

impl InteractionVersion {
    /// The version with the later end wins; at the same end the greater one does, for no reason but that it is always the
    /// same. What analysis found is kept on its own: a version without it takes nothing away.
    pub(super) fn merge(self, told: Self, labels: &Labels) -> Self {
        let sentiment = later(self.sentiment.clone(), told.sentiment.clone(), Ord::max);
        let topics = later(self.topics.clone(), told.topics.clone(), |mut a, b| {
            a.extend(b);
            a.sort_unstable();
            a.dedup();
            a
        });
        let winner = if self.compare(&told, labels) == Ordering::Less { told } else { self };
        Self { sentiment, topics, ..winner }
    }

    fn compare(&self, other: &Self, labels: &Labels) -> Ordering {
        // Numbers of labels depend on the order they came in; their texts do not.
        let rest = |version: &Self| {
            let queue = version.queue.and_then(|queue| labels.text(queue)).cloned();
            (version.start_ms, version.channel, version.handle_ms, queue, version.customer)
        };
        self.end_ms.cmp(&other.end_ms).then_with(|| rest(self).cmp(&rest(other)))
    }
}

fn later<T>(a: Option<Dated<T>>, b: Option<Dated<T>>, both: impl FnOnce(T, T) -> T) -> Option<Dated<T>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(match a.end_ms.cmp(&b.end_ms) {
            Ordering::Less => b,
            Ordering::Greater => a,
            Ordering::Equal => Dated { end_ms: a.end_ms, what: both(a.what, b.what) },
        }),
        (found, None) | (None, found) => found,
    }
}
