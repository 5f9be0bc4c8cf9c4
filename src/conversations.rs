//! The book of conversations that go on: the last answer that each was given, for as long as an agent may ask for it.
//!
//! Answers come in beside predictions and wait for nothing. They are in memory, the newest `MOST` of the last `KEPT_FOR`; a task
//! copies what is new into the store, from which other replicas read. What is kept is the answer and what it was made from; an
//! identifier is neither.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, timeout};

use scoreline_domain::privacy::erasure::{Erasable, EraseError};
use scoreline_domain::privacy::{IdHasher, Tombstones};
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Source, Tier};
use scoreline_store::{ConversationRow, Store};

/// Conversations in memory.
const MOST: usize = 100_000;
/// How long an answer can be asked for: a shift.
pub const KEPT_FOR: Duration = Duration::from_hours(8);
/// How often what is new is copied into the store. A kill costs what came since.
const COPY_EVERY: Duration = Duration::from_secs(1);
/// Conversations of one transaction.
const COPIED_AT_ONCE: usize = 1024;
/// How often old rows are looked for in the store, in rounds of `COPY_EVERY`.
const FORGET_ROUNDS: u32 = 600;
/// How long somebody who looks waits for the store before memory alone answers.
const STORE_PATIENCE: Duration = Duration::from_millis(500);

/// A conversation, as the keyed hash of what the platform calls it. It stays when the pepper is changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConversationKey([u8; 32]);

impl ConversationKey {
    /// The key of an identifier. No customer who is called like a conversation has its key.
    pub fn of(hasher: &IdHasher, id: &str) -> Self {
        Self(*hasher.lasting_key(&format!("conversation {id}")).as_bytes())
    }

    /// A key as a link has it.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An answer as it was given, and what is needed to explain it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenAnswer {
    pub score: GivenScore,
    pub source: Source,
    pub model: ModelName,
    /// The version that made the score.
    pub version: ModelVersion,
    pub scored_at: Timestamp,
    /// The time of the stored features it was made from.
    pub features_as_of: Option<Timestamp>,
    /// Whether those were old: they could not be read anew.
    pub is_old_history: bool,
    /// The baseline that stood in.
    pub baseline: Option<GivenBaseline>,
    /// Values as the model's schema has them, `NaN` where none was given; only of a model's own answer.
    #[serde(with = "gaps")]
    pub row: Option<Box<[f64]>>,
}

/// The score of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum GivenScore {
    /// Amounts in US dollars.
    Clv {
        value: f64,
        /// Low and high end, and how often they hold the value.
        interval: Option<(f64, f64, f64)>,
        tier: Tier,
        /// Probability that the tier is right.
        tier_probability: Option<f64>,
        low_confidence: bool,
        horizon_days: Option<u32>,
        /// From which amounts on a customer is of medium and of high value.
        limits: Option<(f64, f64)>,
    },
    /// Place of a lead, 1 to 100, and the probability behind it.
    Lead { priority: u8, probability: f64 },
}

/// A baseline by its table and the entry in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenBaseline {
    pub level: String,
    /// Empty for the neutral one.
    pub name: String,
}

/// What is known of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownConversation {
    /// Customer or lead; nobody where the question named none.
    pub customer: Option<CustomerKey>,
    pub answer: Arc<GivenAnswer>,
    pub answered_at: Timestamp,
}

/// The book. Cheap to clone.
#[derive(Clone)]
pub struct ConversationBook {
    inner: Arc<BookParts>,
}

struct BookParts {
    /// Locked for a moment, never across an await.
    pages: Mutex<Pages>,
    tombstones: Tombstones,
    store: Arc<OnceLock<Store>>,
    clock: Arc<dyn Clock>,
    most: usize,
}

#[derive(Default)]
struct Pages {
    known: HashMap<ConversationKey, KnownConversation>,
    /// In the order they came. One that was answered again stands here twice; its own time says which is it.
    order: VecDeque<(ConversationKey, Timestamp)>,
    /// Not in the store yet.
    new: HashSet<ConversationKey>,
}

impl ConversationBook {
    /// `store` may open later, or never: then answers are in memory alone.
    pub fn new(tombstones: Tombstones, store: Arc<OnceLock<Store>>, clock: Arc<dyn Clock>) -> Self {
        Self::holding(MOST, tombstones, store, clock)
    }

    fn holding(most: usize, tombstones: Tombstones, store: Arc<OnceLock<Store>>, clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::new(BookParts { pages: Mutex::default(), tombstones, store, clock, most }) }
    }

    /// Takes the last answer of a conversation in. Never waits. Of whoever was erased nothing is taken.
    pub fn note(&self, conversation: ConversationKey, customer: Option<CustomerKey>, answer: GivenAnswer) {
        let answered_at = self.inner.clock.now();
        let known = KnownConversation { customer, answer: Arc::new(answer), answered_at };
        self.pages().put(conversation, known, self.inner.most);
        // Looked at behind the writing, so that an erasure at the same time cannot miss it.
        if customer.is_some_and(|customer| self.inner.tombstones.contains(&customer)) {
            self.pages().take(&conversation);
        }
    }

    /// What is known of a conversation, by this process or by one that shares its store. Waits for the store for a moment.
    pub async fn find(&self, conversation: &ConversationKey) -> Option<KnownConversation> {
        let own = self.pages().known.get(conversation).cloned();
        let others = self.kept(conversation).await.filter(|known| !self.is_erased(known));
        let newest = own.into_iter().chain(others).max_by_key(|known| known.answered_at)?;
        let oldest = oldest(self.inner.clock.now());
        (newest.answered_at >= oldest).then_some(newest)
    }

    /// The store's row, where it can be read.
    async fn kept(&self, conversation: &ConversationKey) -> Option<KnownConversation> {
        let store = self.inner.store.get()?;
        let row = timeout(STORE_PATIENCE, store.conversation(conversation.as_bytes())).await.ok()?;
        let row =
            row.inspect_err(|error| tracing::warn!(%error, "conversations cannot be read from the store")).ok()??;
        let ConversationRow { customer, answer, answered_at, .. } = row;
        // Another version of this program may have written it.
        let answer = serde_json::from_str(&answer).ok()?;
        Some(KnownConversation { customer, answer: Arc::new(answer), answered_at })
    }

    fn is_erased(&self, known: &KnownConversation) -> bool {
        known.customer.is_some_and(|customer| self.inner.tombstones.contains(&customer))
    }

    /// Copies what is new into the store until `stopped` is ready, and once more then. A supervised task.
    pub async fn keep(self, store: Store, stopped: impl Future<Output = ()> + Send) {
        let mut stopped = std::pin::pin!(stopped);
        let mut ticks = interval(COPY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        for round in 0_u32.. {
            let is_over = tokio::select! {
                _ = ticks.tick() => false,
                () = &mut stopped => true,
            };
            let copied = self.copy(&store).await;
            if let (Err(error), false) = (&copied, is_failing) {
                tracing::warn!(%error, "conversations cannot be kept in the store; other replicas do not know them");
            }
            is_failing = copied.is_err();
            if is_over {
                return;
            }
            if round % FORGET_ROUNDS == 0 {
                self.forget(&store).await;
            }
        }
    }

    async fn copy(&self, store: &Store) -> Result<(), scoreline_store::StoreError> {
        loop {
            let new = self.pages().take_new();
            if new.is_empty() {
                return Ok(());
            }
            let rows = new.iter().filter_map(|(conversation, known)| row(conversation, known)).collect();
            if let Err(error) = store.keep_conversations(rows).await {
                self.pages().new.extend(new.into_iter().map(|(conversation, _)| conversation));
                return Err(error);
            }
        }
    }

    async fn forget(&self, store: &Store) {
        if let Err(error) = store.forget_conversations(oldest(self.inner.clock.now())).await {
            tracing::warn!(%error, "old conversations cannot be cleared from the store; tried again");
        }
    }

    /// Conversations in memory.
    pub fn len(&self) -> usize {
        self.pages().known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.inner.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn put(&mut self, conversation: ConversationKey, known: KnownConversation, most: usize) {
        let oldest = oldest(known.answered_at);
        self.order.push_back((conversation, known.answered_at));
        self.new.insert(conversation);
        self.known.insert(conversation, known);
        // An entry of the order goes when its time is over, when there are too many, or when it is that of an earlier answer.
        while let Some((first, at)) = self.order.front().copied() {
            let is_current = self.known.get(&first).is_some_and(|known| known.answered_at == at);
            if is_current && at >= oldest && self.known.len() <= most && self.order.len() <= 2 * most {
                break;
            }
            self.order.pop_front();
            if is_current {
                self.take(&first);
            }
        }
    }

    fn take(&mut self, conversation: &ConversationKey) {
        self.known.remove(conversation);
        self.new.remove(conversation);
    }

    fn take_new(&mut self) -> Vec<(ConversationKey, KnownConversation)> {
        let taken: Vec<_> = if self.new.len() <= COPIED_AT_ONCE {
            mem::take(&mut self.new).into_iter().collect()
        } else {
            let some: Vec<_> = self.new.iter().copied().take(COPIED_AT_ONCE).collect();
            for conversation in &some {
                self.new.remove(conversation);
            }
            some
        };
        taken.into_iter().filter_map(|key| Some((key, self.known.get(&key)?.clone()))).collect()
    }

    fn remove_if(&mut self, is_gone: impl Fn(&CustomerKey) -> bool) -> u64 {
        let before = self.known.len();
        self.known.retain(|_, known| !known.customer.as_ref().is_some_and(&is_gone));
        let Self { known, new, .. } = self;
        new.retain(|conversation| known.contains_key(conversation));
        (before - known.len()) as u64
    }
}

impl Erasable for ConversationBook {
    fn name(&self) -> &'static str {
        "conversations"
    }

    /// What is in the store is the store's to erase.
    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        Ok(self.pages().remove_if(|customer| customers.contains(customer)))
    }

    fn sweep(&self, tombstones: &Tombstones) {
        self.pages().remove_if(|customer| tombstones.contains(customer));
    }
}

/// Answers from before this time are forgotten.
fn oldest(now: Timestamp) -> Timestamp {
    now.checked_sub(KEPT_FOR).unwrap_or(Timestamp::MIN)
}

fn row(conversation: &ConversationKey, known: &KnownConversation) -> Option<ConversationRow> {
    Some(ConversationRow {
        conversation: *conversation.as_bytes(),
        customer: known.customer,
        answer: serde_json::to_string(&*known.answer).ok()?,
        answered_at: known.answered_at,
    })
}

/// A row of values as JSON, which knows no `NaN`.
mod gaps {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    type Gaps = Option<Vec<Option<f64>>>;

    #[expect(clippy::ref_option, reason = "serde lends the field as it is")]
    pub(super) fn serialize<S: Serializer>(row: &Option<Box<[f64]>>, serializer: S) -> Result<S::Ok, S::Error> {
        let value = |value: &f64| value.is_finite().then_some(*value);
        let gaps: Gaps = row.as_ref().map(|row| row.iter().map(value).collect());
        gaps.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<[f64]>>, D::Error> {
        let gaps = Gaps::deserialize(deserializer)?;
        Ok(gaps.map(|gaps| gaps.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use scoreline_domain::time::ManualClock;

    use super::*;

    fn answer(value: f64) -> GivenAnswer {
        GivenAnswer {
            score: GivenScore::Clv {
                value,
                interval: Some((0.0, 351.2, 0.9)),
                tier: Tier::High,
                tier_probability: Some(0.28),
                low_confidence: true,
                horizon_days: Some(273),
                limits: Some((29.91, 93.32)),
            },
            source: Source::Model,
            model: ModelName::parse("clv").expect("a name"),
            version: ModelVersion::parse("v1.2").expect("a version"),
            scored_at: "2026-11-21T10:00:00Z".parse().expect("a time"),
            features_as_of: None,
            is_old_history: false,
            baseline: None,
            row: Some(Box::new([12.0, 48.0])),
        }
    }

    fn customer(byte: u8) -> CustomerKey {
        CustomerKey::from_digest([byte; 32])
    }

    fn conversation(number: u32) -> ConversationKey {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        ConversationKey::from_digest(digest)
    }

    struct World {
        clock: Arc<ManualClock>,
        tombstones: Tombstones,
        book: ConversationBook,
    }

    impl World {
        fn new(most: usize) -> Self {
            let clock = Arc::new(ManualClock::at("2026-11-21T10:00:00Z".parse().expect("a time")));
            let tombstones = Tombstones::default();
            let book = ConversationBook::holding(most, tombstones.clone(), Arc::default(), clock.clone());
            Self { clock, tombstones, book }
        }

        async fn value(&self, number: u32) -> Option<f64> {
            match &self.book.find(&conversation(number)).await?.answer.score {
                GivenScore::Clv { value, .. } => Some(*value),
                GivenScore::Lead { .. } => None,
            }
        }
    }

    #[tokio::test]
    async fn a_conversation_has_its_last_answer_for_eight_hours() {
        let world = World::new(10);
        world.book.note(conversation(1), None, answer(1.0));
        world.clock.advance(Duration::from_mins(1));
        world.book.note(conversation(1), Some(customer(1)), answer(2.0));
        assert_eq!(world.value(1).await, Some(2.0));
        world.clock.advance(KEPT_FOR);
        assert_eq!(world.value(1).await, Some(2.0));
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.value(1).await, None);
        world.book.note(conversation(2), None, answer(3.0));
        assert_eq!(world.book.len(), 1, "what is over is forgotten when something comes");
    }

    #[tokio::test]
    async fn as_many_as_may_be_are_kept_and_the_oldest_go_first() {
        let world = World::new(10);
        for number in 0..1000 {
            world.clock.advance(Duration::from_millis(1));
            world.book.note(conversation(number % 25), None, answer(f64::from(number)));
            // One conversation that is answered again and again stays.
            world.clock.advance(Duration::from_millis(1));
            world.book.note(conversation(999), None, answer(f64::from(number)));
            let pages = world.book.pages();
            assert!(pages.known.len() <= 10 && pages.order.len() <= 20, "{} {}", pages.known.len(), pages.order.len());
        }
        assert_eq!((world.value(999).await, world.value(999 % 25).await), (Some(999.0), Some(999.0)));
        assert_eq!(world.value(0).await, None);
    }

    #[tokio::test]
    async fn an_erased_customer_is_nowhere_and_does_not_come_back() {
        let world = World::new(10);
        world.book.note(conversation(1), Some(customer(1)), answer(1.0));
        world.book.note(conversation(2), Some(customer(2)), answer(2.0));
        world.tombstones.lay(&[customer(1)]);
        assert_eq!(world.book.erase(&[customer(1)]).expect("erased"), 1);
        assert_eq!((world.value(1).await, world.value(2).await), (None, Some(2.0)));
        world.book.note(conversation(1), Some(customer(1)), answer(1.0));
        assert_eq!(world.value(1).await, None);
        world.tombstones.lay(&[customer(2)]);
        world.book.sweep(&world.tombstones);
        assert!(world.book.is_empty() && world.book.pages().take_new().is_empty());
    }

    #[test]
    fn an_answer_is_the_same_behind_the_store() {
        let given = GivenAnswer { row: Some(Box::new([1.5, -2.0])), ..answer(101.9) };
        let text = serde_json::to_string(&given).expect("written");
        assert_eq!(serde_json::from_str::<GivenAnswer>(&text).expect("read"), given);
        let gaps = GivenAnswer { row: Some(Box::new([f64::NAN, 1.0])), ..given };
        let text = serde_json::to_string(&gaps).expect("written");
        assert!(text.contains("\"row\":[null,1.0]"), "{text}");
        let read: GivenAnswer = serde_json::from_str(&text).expect("read");
        assert!(read.row.is_some_and(|row| row[0].is_nan() && row[1] == 1.0));
    }
}
