//! Everything that is kept about predictions and outcomes, in memory: what the journal says when it is read from its
//! beginning. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::outcome::{Matched, Outcome, OutcomeKey, Prediction, Verdict};
use super::quality::{Quality, Rolling};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};

/// A recorded prediction is kept this long after its horizon, waiting for its outcome.
const GRACE_SECONDS: i64 = 90 * 86_400;
/// Most model versions whose outcomes are followed; those heard of longest ago are let go.
const MOST_VERSIONS: usize = 32;

/// Bounds of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookLimits {
    pub predictions: usize,
    /// Outcomes remembered, so that a repeated one is known.
    pub outcomes: usize,
    /// Newest outcomes of a model version that its figures are made of.
    pub window: usize,
    /// At least this many seconds between two recorded predictions of a customer.
    pub sample_every: i64,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    Prediction {
        #[serde(with = "hex_key")]
        customer: CustomerKey,
        model: ModelName,
        prediction: Prediction,
    },
    Outcome {
        #[serde(with = "hex_key")]
        customer: CustomerKey,
        model: ModelName,
        spend_usd: f64,
        observed_at: Timestamp,
        prediction: Prediction,
    },
    /// What was kept under one key of a customer is kept under another: the pepper was changed.
    Moved {
        #[serde(with = "hex_key")]
        from: CustomerKey,
        #[serde(with = "hex_key")]
        to: CustomerKey,
    },
}

/// The state itself.
#[derive(Debug)]
pub struct Book {
    limits: BookLimits,
    predictions: BTreeMap<(CustomerKey, ModelName, i64), Prediction>,
    outcomes: VecDeque<Matched>,
    keys: HashSet<OutcomeKey>,
    versions: BTreeMap<(ModelName, ModelVersion), Followed>,
    /// When the newest recorded prediction was made, and when room was last looked for, in seconds.
    newest: i64,
    swept_at: i64,
    /// Outcomes taken in, for telling which version was heard of last.
    heard: u64,
    immature: u64,
}

#[derive(Debug)]
struct Followed {
    rolling: Rolling,
    heard: u64,
}

/// Whether a prediction is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Record,
    /// The customer has a recent one.
    Sampled,
    /// There is no room.
    Full,
}

impl Book {
    pub fn new(limits: BookLimits) -> Self {
        Self {
            limits,
            predictions: BTreeMap::new(),
            outcomes: VecDeque::new(),
            keys: HashSet::new(),
            versions: BTreeMap::new(),
            newest: i64::MIN,
            swept_at: i64::MIN,
            heard: 0,
            immature: 0,
        }
    }

    /// Whether a prediction should be recorded. Makes room by letting go what has expired.
    pub fn admit(&mut self, customer: CustomerKey, model: &ModelName, prediction: &Prediction) -> Admission {
        let at = prediction.scored_at.as_second();
        let last = self.of_customer(customer, model).next_back();
        if last.is_some_and(|last| at.saturating_sub(last.scored_at.as_second()) < self.limits.sample_every) {
            return Admission::Sampled;
        }
        if self.predictions.len() >= self.limits.predictions && at.saturating_sub(self.swept_at) >= 3600 {
            self.swept_at = at;
            self.expire();
        }
        if self.predictions.len() >= self.limits.predictions { Admission::Full } else { Admission::Record }
    }

    /// What is to become of an outcome; nothing is changed. An outcome that is recorded or immature comes with the
    /// entry to keep. `pending` are the keys of entries that are decided and not yet taken in.
    pub fn decide(&self, outcome: Outcome, pending: &mut HashSet<OutcomeKey>) -> (Verdict, Option<Entry>) {
        let Outcome { customer, model, spend_usd, observed_at, prediction } = outcome;
        let found = prediction.or_else(|| self.prediction_for(customer, &model, observed_at).cloned());
        let Some(prediction) = found else { return (Verdict::Unmatched, None) };
        let matched = Matched { customer, model, spend_usd, observed_at, prediction };
        let key = matched.key();
        if self.keys.contains(&key) || pending.contains(&key) {
            return (Verdict::Duplicate(matched.prediction), None);
        }
        pending.insert(key);
        let verdict = if matched.is_mature() { Verdict::Recorded } else { Verdict::Immature };
        let verdict = verdict(matched.prediction.clone());
        let Matched { customer, model, spend_usd, observed_at, prediction } = matched;
        (verdict, Some(Entry::Outcome { customer, model, spend_usd, observed_at, prediction }))
    }

    /// Takes in an entry of the journal.
    pub fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Prediction { customer, model, prediction } => {
                let at = prediction.scored_at.as_second();
                self.newest = self.newest.max(at);
                self.predictions.insert((customer, model, at), prediction);
            }
            Entry::Outcome { customer, model, spend_usd, observed_at, prediction } => {
                self.take_outcome(Matched { customer, model, spend_usd, observed_at, prediction });
            }
            Entry::Moved { from, to } => self.move_customer(from, to),
        }
    }

    /// Whether anything is kept of a customer.
    pub fn knows(&self, customer: CustomerKey) -> bool {
        self.all_of(customer).next().is_some() || self.outcomes.iter().any(|outcome| outcome.customer == customer)
    }

    /// Forgets customers; how many predictions and outcomes that were. Figures that their outcomes went into stay: they
    /// are sums over many customers.
    pub fn erase(&mut self, customers: &HashSet<CustomerKey>) -> u64 {
        let before = self.predictions.len() + self.outcomes.len();
        self.predictions.retain(|(customer, ..), _| !customers.contains(customer));
        self.outcomes.retain(|outcome| !customers.contains(&outcome.customer));
        self.keys = self.outcomes.iter().map(Matched::key).collect();
        (before - self.predictions.len() - self.outcomes.len()) as u64
    }

    fn move_customer(&mut self, from: CustomerKey, to: CustomerKey) {
        let moved: Vec<_> = self.all_of(from).map(|(key, _)| key.clone()).collect();
        for key in moved {
            if let Some(prediction) = self.predictions.remove(&key) {
                self.predictions.entry((to, key.1, key.2)).or_insert(prediction);
            }
        }
        for outcome in self.outcomes.iter_mut().filter(|outcome| outcome.customer == from) {
            self.keys.remove(&outcome.key());
            outcome.customer = to;
            self.keys.insert(outcome.key());
        }
    }

    fn take_outcome(&mut self, outcome: Matched) {
        self.keys.insert(outcome.key());
        self.heard += 1;
        if outcome.is_mature() {
            let version = (outcome.model.clone(), outcome.prediction.version.clone());
            let new = || Followed { rolling: Rolling::new(self.limits.window), heard: 0 };
            let followed = self.versions.entry(version).or_insert_with(new);
            followed.rolling.add(&outcome);
            followed.heard = self.heard;
            if self.versions.len() > MOST_VERSIONS {
                let oldest = self.versions.iter().min_by_key(|(_, followed)| followed.heard);
                if let Some(oldest) = oldest.map(|(version, _)| version.clone()) {
                    self.versions.remove(&oldest);
                }
            }
        } else {
            self.immature += 1;
        }
        self.outcomes.push_back(outcome);
        while self.outcomes.len() > self.limits.outcomes {
            let Some(old) = self.outcomes.pop_front() else { break };
            self.keys.remove(&old.key());
        }
    }

    /// The prediction an outcome without one belongs to: the last whose horizon was over, else the first.
    fn prediction_for(&self, customer: CustomerKey, model: &ModelName, observed_at: Timestamp) -> Option<&Prediction> {
        let observed_at = observed_at.as_second();
        let mature = self.of_customer(customer, model).rev().find(|prediction| prediction.matures_at() <= observed_at);
        mature.or_else(|| self.of_customer(customer, model).next())
    }

    fn all_of(&self, customer: CustomerKey) -> impl Iterator<Item = (&(CustomerKey, ModelName, i64), &Prediction)> {
        // No name comes before this one.
        let first = ModelName::parse("0").expect("a name");
        let from = self.predictions.range((customer, first, i64::MIN)..);
        from.take_while(move |((of, ..), _)| *of == customer)
    }

    fn of_customer(
        &self,
        customer: CustomerKey,
        model: &ModelName,
    ) -> impl DoubleEndedIterator<Item = &Prediction> + use<'_> {
        let key = |at| (customer, model.clone(), at);
        self.predictions.range(key(i64::MIN)..=key(i64::MAX)).map(|(_, prediction)| prediction)
    }

    /// Lets predictions go whose outcome nobody told.
    pub fn expire(&mut self) {
        let newest = self.newest;
        self.predictions.retain(|_, prediction| prediction.matures_at().saturating_add(GRACE_SECONDS) >= newest);
    }

    /// All entries that make this state, in an order that makes it again.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let predictions = self.predictions.iter().map(|((customer, model, _), prediction)| Entry::Prediction {
            customer: *customer,
            model: model.clone(),
            prediction: prediction.clone(),
        });
        let outcomes = self.outcomes.iter().map(|outcome| Entry::Outcome {
            customer: outcome.customer,
            model: outcome.model.clone(),
            spend_usd: outcome.spend_usd,
            observed_at: outcome.observed_at,
            prediction: outcome.prediction.clone(),
        });
        predictions.chain(outcomes)
    }

    pub fn predictions(&self) -> usize {
        self.predictions.len()
    }

    /// Outcomes remembered.
    pub fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// Outcomes told before their horizon was over.
    pub fn immature(&self) -> u64 {
        self.immature
    }

    /// The figures of every model version that is followed.
    pub fn quality(&self) -> Vec<(ModelName, ModelVersion, Quality)> {
        let versions = self.versions.iter();
        versions.map(|((model, version), it)| (model.clone(), version.clone(), it.rolling.quality())).collect()
    }
}

/// A customer key as 64 hex digits. It is a keyed hash already.
mod hex_key {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use scoreline_domain::CustomerKey;

    pub fn serialize<S: Serializer>(key: &CustomerKey, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let text = key.as_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CustomerKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(D::Error::custom("a customer key has 64 hex digits"));
        }
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(D::Error::custom)?;
        }
        Ok(CustomerKey::from_digest(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::prediction;
    use super::*;

    fn limits() -> BookLimits {
        BookLimits { predictions: 3, outcomes: 4, window: 10, sample_every: 86_400 }
    }

    fn key(customer: u8) -> CustomerKey {
        CustomerKey::from_digest([customer; 32])
    }

    fn model() -> ModelName {
        ModelName::parse("clv").expect("a name")
    }

    fn record(book: &mut Book, customer: u8, scored_at: &str) -> Admission {
        let prediction = prediction(scored_at);
        let admission = book.admit(key(customer), &model(), &prediction);
        if admission == Admission::Record {
            book.take(Entry::Prediction { customer: key(customer), model: model(), prediction });
        }
        admission
    }

    fn tell(book: &mut Book, customer: u8, observed_at: &str, prediction: Option<Prediction>) -> Verdict {
        let observed_at = observed_at.parse().expect("a time");
        let outcome = Outcome { customer: key(customer), model: model(), spend_usd: 5.0, observed_at, prediction };
        let (verdict, entry) = book.decide(outcome, &mut HashSet::new());
        if let Some(entry) = entry {
            book.take(entry);
        }
        verdict
    }

    #[test]
    fn an_outcome_belongs_to_the_last_prediction_that_matured() {
        let mut book = Book::new(limits());
        let days = ["2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"];
        for day in days {
            assert_eq!(record(&mut book, 1, day), Admission::Record);
        }
        let first = prediction(days[0]);
        assert_eq!(tell(&mut book, 1, "2026-01-20T00:00:00Z", None), Verdict::Immature(first.clone()));
        assert_eq!(tell(&mut book, 1, "2026-02-01T00:00:00Z", None), Verdict::Recorded(first.clone()));
        assert_eq!(tell(&mut book, 1, "2026-02-02T00:00:00Z", None), Verdict::Duplicate(first.clone()));
        assert_eq!(tell(&mut book, 1, "2026-02-02T00:00:00Z", Some(first.clone())), Verdict::Duplicate(first));
        assert_eq!(tell(&mut book, 1, "2026-02-05T00:00:00Z", None), Verdict::Recorded(prediction(days[1])));
        assert_eq!(tell(&mut book, 2, "2026-02-05T00:00:00Z", None), Verdict::Unmatched);
        assert_eq!((book.immature(), book.quality()[0].2.outcomes), (1, 2));
    }

    #[test]
    fn predictions_are_sampled_and_their_number_is_bounded() {
        let mut book = Book::new(limits());
        assert_eq!(record(&mut book, 1, "2026-01-01T00:00:00Z"), Admission::Record);
        assert_eq!(record(&mut book, 1, "2026-01-01T23:59:59Z"), Admission::Sampled);
        assert_eq!(record(&mut book, 2, "2026-01-02T00:00:00Z"), Admission::Record);
        assert_eq!(record(&mut book, 3, "2026-01-02T00:00:00Z"), Admission::Record);
        assert_eq!(record(&mut book, 4, "2026-01-03T00:00:00Z"), Admission::Full);
        // Nobody told the outcome of the first within horizon and grace: it makes room when the newest is that late.
        book.newest = "2026-05-01T23:00:00Z".parse::<Timestamp>().expect("a time").as_second();
        assert_eq!(record(&mut book, 4, "2026-05-01T23:00:00Z"), Admission::Record);
        assert_eq!(tell(&mut book, 1, "2026-05-01T00:00:00Z", None), Verdict::Unmatched);
    }

    #[test]
    fn a_repeat_within_one_group_is_known_too() {
        let book = Book::new(limits());
        let mut pending = HashSet::new();
        let outcome = Outcome {
            customer: key(1),
            model: model(),
            spend_usd: 1.0,
            observed_at: "2026-03-01T00:00:00Z".parse().expect("a time"),
            prediction: Some(prediction("2026-01-01T00:00:00Z")),
        };
        assert!(matches!(book.decide(outcome.clone(), &mut pending), (Verdict::Recorded(_), Some(_))));
        assert!(matches!(book.decide(outcome, &mut pending), (Verdict::Duplicate(_), None)));
    }

    #[test]
    fn an_erased_customer_leaves_nothing_but_their_share_of_the_figures() {
        let mut book = Book::new(limits());
        for customer in [1, 2] {
            record(&mut book, customer, "2026-01-01T00:00:00Z");
            tell(&mut book, customer, "2026-03-01T00:00:00Z", Some(prediction("2026-01-01T00:00:00Z")));
        }
        assert_eq!(book.erase(&HashSet::from([key(1), key(3)])), 2);
        assert!(!book.knows(key(1)) && book.knows(key(2)));
        assert_eq!((book.predictions(), book.outcomes(), book.quality()[0].2.outcomes), (1, 1, 2));
        let left: String = book.entries().map(|entry| serde_json::to_string(&entry).expect("serialises")).collect();
        assert!(left.contains(&"02".repeat(32)) && !left.contains(&"01".repeat(32)), "{left}");
        assert_eq!(book.erase(&HashSet::from([key(1)])), 0);
    }

    #[test]
    fn a_customer_is_found_under_a_new_key() {
        let mut book = Book::new(limits());
        record(&mut book, 1, "2026-01-01T00:00:00Z");
        let first = prediction("2026-01-01T00:00:00Z");
        tell(&mut book, 1, "2026-03-01T00:00:00Z", Some(first.clone()));
        book.take(Entry::Moved { from: key(1), to: key(9) });
        assert!(!book.knows(key(1)) && book.knows(key(9)));
        assert_eq!(tell(&mut book, 9, "2026-03-02T00:00:00Z", None), Verdict::Duplicate(first));
        book.take(Entry::Moved { from: key(1), to: key(9) });
        assert_eq!((book.predictions(), book.outcomes()), (1, 1));
    }

    #[test]
    fn a_book_is_made_again_from_its_entries() {
        let mut book = Book::new(limits());
        record(&mut book, 1, "2026-01-01T00:00:00Z");
        for customer in 1..=6 {
            tell(&mut book, customer, "2026-03-01T00:00:00Z", Some(prediction("2026-01-01T00:00:00Z")));
        }
        assert_eq!(book.outcomes(), 4, "the oldest two are forgotten");
        let lines: Vec<String> =
            book.entries().map(|entry| serde_json::to_string(&entry).expect("serialises")).collect();
        let mut again = Book::new(limits());
        for line in &lines {
            again.take(serde_json::from_str(line).expect("reads back"));
        }
        assert!(again.entries().eq(book.entries()));
        assert_eq!(again.keys, book.keys);
        assert!(!lines.concat().contains('\n'));
    }
}
