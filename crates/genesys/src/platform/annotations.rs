//! Sentiment and topics, which the platform keeps apart from its conversations: by the time they were found for what jobs
//! brought, by conversation for a page of the tail.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::record::{Conversation, RecordText};
use super::{At, Gathered, MARGIN, PlatformHistory, Stage, after, before, questions};
use crate::GenesysError;
use crate::source::ExtractionWindow;
use crate::transport::{ApiAnswer, ApiOperation, Method};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Annotation, Interaction, InteractionId, Sentiment};

/// Up to so many conversations are asked for one by one: they are there sooner than in the aggregates.
const ONE_BY_ONE: usize = 8;
/// A bulk question is not made shorter than this many seconds.
const SHORTEST: u64 = 600;

/// Conversations of one page of the tail that have to be annotated, and the time they took place in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    ids: Vec<String>,
    window: Option<ExtractionWindow>,
}

#[derive(Deserialize)]
struct Aggregates<'a> {
    #[serde(borrow, default)]
    results: Option<Vec<Group<'a>>>,
}

#[derive(Deserialize)]
struct Group<'a> {
    #[serde(borrow)]
    group: Names<'a>,
    #[serde(borrow, default)]
    data: Option<Vec<Data<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Names<'a> {
    #[serde(borrow)]
    conversation_id: Option<RecordText<'a>>,
    #[serde(borrow)]
    topic_id: Option<RecordText<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    metrics: Option<Vec<Metric<'a>>>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow)]
    metric: Option<RecordText<'a>>,
    stats: Option<Stats>,
}

#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    sum: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneConversation {
    sentiment_score: Option<f64>,
}

/// Annotations by conversation.
type FoundAnnotations = HashMap<InteractionId, Annotation>;

impl Pending {
    pub(super) fn add(&mut self, row: &Conversation<'_>, interaction: &Interaction) {
        let Some(id) = row.id.as_ref() else { return };
        self.ids.push(id.as_str().to_owned());
        let from = interaction.start;
        let to = interaction.end.unwrap_or(interaction.start);
        let window = self.window.unwrap_or(ExtractionWindow { from, to });
        self.window = Some(ExtractionWindow { from: window.from.min(from), to: window.to.max(to) });
    }

    pub(super) fn unless_empty(self) -> Option<Self> {
        (!self.ids.is_empty()).then_some(self)
    }
}

impl Group<'_> {
    /// Count and sum of a metric over all parts of the answer.
    fn total(&self, name: &str) -> (u64, f64) {
        let metrics = self.data.iter().flatten().flat_map(|data| data.metrics.iter().flatten());
        let named = metrics.filter(|metric| metric.metric.as_ref().is_some_and(|metric| metric.as_str() == name));
        named
            .filter_map(|metric| metric.stats.as_ref())
            .fold((0, 0.0), |(count, sum), stats| (count + stats.count.unwrap_or(0), sum + stats.sum.unwrap_or(0.0)))
    }
}

impl PlatformHistory {
    /// The annotations that were found from `from` on; goes on to the next job span after the last.
    pub(super) async fn annotate(
        &self,
        stage: &Stage,
        span: ExtractionWindow,
        from: Timestamp,
        window: ExtractionWindow,
        gathered: &mut Gathered,
    ) -> Result<Stage, GenesysError> {
        // What jobs brought last may have been analysed after the watermark.
        let end = if span.to >= stage.watermark { window.to.max(span.to) } else { span.to };
        let to = after(from, std::time::Duration::from_secs(stage.annotated_at_once)).min(end);
        let asked = ExtractionWindow { from: before(from, MARGIN), to: after(to, MARGIN) };
        match self.find(asked, &[], gathered).await {
            Ok(found) => gathered.annotations.extend(found.into_values()),
            Err(err) if err.asks_for_less() => {
                let half = stage.annotated_at_once / 2;
                if half < SHORTEST {
                    return Err(err);
                }
                gathered.tally.halved += 1;
                return Ok(Stage { annotated_at_once: half, ..stage.clone() });
            }
            Err(err) => return Err(err),
        }
        let at = if to >= end { self.jobs_from(span.to, stage, window) } else { At::Annotations { span, from: to } };
        Ok(Stage { at, ..stage.clone() })
    }

    /// Annotates a page of the tail. Returns what is left of it, when it was too much at once.
    pub(super) async fn annotate_pending(
        &self,
        pending: &Pending,
        gathered: &mut Gathered,
    ) -> Result<Option<Pending>, GenesysError> {
        let Some(window) = pending.window else { return Ok(None) };
        let asked = ExtractionWindow { from: before(window.from, MARGIN), to: after(window.to, MARGIN) };
        let mut found = FoundAnnotations::new();
        let answered = if pending.ids.len() <= ONE_BY_ONE {
            for id in &pending.ids {
                self.sentiment_of(id, &mut found, gathered).await?;
            }
            self.topics(asked, &pending.ids, &mut found, gathered).await
        } else {
            self.find(asked, &pending.ids, gathered).await.map(|all| found.extend(all))
        };
        match answered {
            Ok(()) => {}
            Err(err) if err.asks_for_less() && pending.ids.len() > 1 => {
                // The first half now; the rest is asked for next.
                gathered.tally.halved += 1;
                let (first, rest) = pending.ids.split_at(pending.ids.len() / 2);
                let annotated = self.find(asked, first, gathered).await?;
                gathered.annotations.extend(annotated.into_values());
                return Ok(Some(Pending { ids: rest.to_vec(), window: pending.window }));
            }
            Err(err) => return Err(err),
        }
        gathered.annotations.extend(found.into_values());
        Ok(None)
    }

    async fn find(
        &self,
        asked: ExtractionWindow,
        ids: &[String],
        gathered: &mut Gathered,
    ) -> Result<FoundAnnotations, GenesysError> {
        let mut found = FoundAnnotations::new();
        let answer = self.aggregates(ApiOperation::Sentiments, questions::sentiments(asked, ids), gathered).await?;
        for group in answer.json::<Aggregates<'_>>()?.results.iter().flatten() {
            let (count, sum) = group.total("oSentimentScore");
            let sentiment = (count > 0).then(|| Sentiment::new(sum / count as f64)).flatten();
            if let (Some(id), Some(sentiment)) = (&group.group.conversation_id, sentiment) {
                self.annotation(id.as_str(), &mut found).sentiment = Some(sentiment);
            }
        }
        self.topics(asked, ids, &mut found, gathered).await?;
        Ok(found)
    }

    async fn topics(
        &self,
        asked: ExtractionWindow,
        ids: &[String],
        found: &mut FoundAnnotations,
        gathered: &mut Gathered,
    ) -> Result<(), GenesysError> {
        let answer = self.aggregates(ApiOperation::Topics, questions::topics(asked, ids), gathered).await?;
        for group in answer.json::<Aggregates<'_>>()?.results.iter().flatten() {
            let (Some(id), Some(topic)) = (&group.group.conversation_id, &group.group.topic_id) else { continue };
            let (count, _) = group.total("nTopicCommunications");
            let topics = &mut self.annotation(id.as_str(), found).topics;
            if count > 0 && !topics.iter().any(|known| **known == *topic.as_str()) {
                topics.push(topic.as_str().into());
            }
        }
        Ok(())
    }

    /// Nothing was analysed when there is no answer: that is normal.
    async fn sentiment_of(
        &self,
        id: &str,
        found: &mut FoundAnnotations,
        gathered: &mut Gathered,
    ) -> Result<(), GenesysError> {
        let path = ["speechandtextanalytics", "conversations", id];
        let answer = match self.ask(ApiOperation::ConversationSentiment, Method::GET, &path, &[], None, gathered).await
        {
            Ok(answer) => answer,
            Err(err) if err.status() == Some(404) => {
                gathered.tally.requests += 1;
                return Ok(());
            }
            Err(err) => return Err(err),
        };
        if let Some(sentiment) = answer.json::<OneConversation>()?.sentiment_score.and_then(Sentiment::new) {
            self.annotation(id, found).sentiment = Some(sentiment);
        }
        Ok(())
    }

    async fn aggregates(
        &self,
        operation: ApiOperation,
        body: Vec<u8>,
        gathered: &mut Gathered,
    ) -> Result<ApiAnswer, GenesysError> {
        let path = ["analytics", "transcripts", "aggregates", "query"];
        self.ask(operation, Method::POST, &path, &[], Some(body), gathered).await
    }

    fn annotation<'a>(&self, id: &str, found: &'a mut FoundAnnotations) -> &'a mut Annotation {
        let id = self.identity.interaction(id);
        found.entry(id).or_insert_with(|| Annotation { id, sentiment: None, topics: Vec::new() })
    }
}
