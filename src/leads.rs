//! Scores of leads as they come: judged, kept, and told to whoever pushes them. A success means that a score is on disk.
//!
//! Whoever comes while a commit is under way shares the next one: its price is that of one sync, however many wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};
use secrecy::SecretString;
use tokio::sync::oneshot;

use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_domain::{CustomerKey, SealedId};
use scoreline_store::{LeadFact, LeadRuling, LeadSource, LeadVerdict, ScoreRules, Store, StoreError};

/// Facts that may wait for their commit.
const MOST_WAITING: usize = 200_000;
/// Facts that share a commit.
const MOST_GROUPED: usize = 10_000;

/// What is decided about scores of leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadSettings {
    pub rules: ScoreRules,
    /// So far ahead may a sender's clock be.
    pub clock_skew: Duration,
    /// What a stale score is written as.
    pub stale_value: u8,
}

/// As in the reference of settings.
impl Default for LeadSettings {
    fn default() -> Self {
        let hours = Duration::from_hours;
        let rules = ScoreRules { stale_after: hours(24), refresh_after: hours(12), remember: hours(120) };
        Self { rules, clock_skew: Duration::from_mins(5), stale_value: 0 }
    }
}

impl LeadSettings {
    /// Scores from before this moment count as nothing.
    pub fn stale_before(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.rules.stale_after).unwrap_or(Timestamp::MIN)
    }
}

/// Takes scores of leads. Cheap to clone.
#[derive(Clone)]
pub struct LeadDesk(Arc<DeskState>);

struct DeskState {
    /// Set once it is open.
    store: Arc<OnceLock<Store>>,
    /// Where scores are pushed to.
    targets: Vec<String>,
    settings: LeadSettings,
    /// Whether a list has a column for the first reason.
    keeps_reasons: bool,
    pauses: PauseBoard,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    /// Asks for a push.
    nudge: Arc<dyn Fn() + Send + Sync>,
    waiting: Mutex<Vec<WaitingFacts>>,
    /// Held by whoever commits.
    turn: tokio::sync::Mutex<()>,
}

struct WaitingFacts {
    facts: Vec<LeadFact>,
    answer: oneshot::Sender<Result<Vec<LeadVerdict>, DeskFault>>,
}

/// Why nothing is sent to a target at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPause {
    /// `limited` for its rate, `silent` when it does not answer, `down` when somebody has to act.
    pub state: &'static str,
    pub reason: String,
    pub until: Timestamp,
}

/// The pauses of targets, for whoever shows them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PauseBoard(Arc<Mutex<BTreeMap<String, TargetPause>>>);

impl PauseBoard {
    pub fn set(&self, target: &str, pause: Option<TargetPause>) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pause {
            Some(pause) => _ = pauses.insert(target.to_owned(), pause),
            None => _ = pauses.remove(target),
        }
    }

    pub fn of(&self, target: &str) -> Option<TargetPause> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
    }
}

/// What a desk is made of.
pub struct LeadDeskParts {
    pub store: Arc<OnceLock<Store>>,
    pub targets: Vec<String>,
    pub settings: LeadSettings,
    pub keeps_reasons: bool,
    pub pauses: PauseBoard,
    pub sealer: Sealer,
    pub clock: Arc<dyn Clock>,
    pub nudge: Arc<dyn Fn() + Send + Sync>,
}

/// Why nothing was taken, as far as is known. It can be told again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskFault {
    #[error(
        "the store that scores of leads are kept in (`store.path` or `store.url`) is not open; send them again later"
    )]
    Closed,
    #[error("too many scores of leads are waiting to be written; send them again later")]
    Busy,
    #[error("scores of leads cannot be written at the moment; send them again later")]
    Store,
}

impl LeadDesk {
    pub fn new(parts: LeadDeskParts) -> Self {
        describe();
        let LeadDeskParts { store, targets, settings, keeps_reasons, pauses, sealer, clock, nudge } = parts;
        Self(Arc::new(DeskState {
            store,
            targets,
            settings,
            keeps_reasons,
            pauses,
            sealer,
            clock,
            nudge,
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    pub fn settings(&self) -> &LeadSettings {
        &self.0.settings
    }

    /// Where scores are pushed to.
    pub fn targets(&self) -> &[String] {
        &self.0.targets
    }

    pub fn keeps_reasons(&self) -> bool {
        self.0.keeps_reasons
    }

    pub fn pauses(&self) -> &PauseBoard {
        &self.0.pauses
    }

    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub fn seal(&self, lead: &CustomerKey, id: &str) -> SealedId {
        self.0.sealer.seal(lead, id)
    }

    /// What a lead is called; `None` for what was sealed under a pepper that is not known any more.
    pub fn open_seal(&self, lead: &CustomerKey, sealed: Option<&SealedId>) -> Option<SecretString> {
        self.0.sealer.open(lead, sealed?).ok()
    }

    /// # Errors
    /// While it is not open.
    pub fn store(&self) -> Result<&Store, DeskFault> {
        self.0.store.get().ok_or(DeskFault::Closed)
    }

    /// Takes facts; one verdict for each, in their order. What is taken is on disk.
    ///
    /// # Errors
    /// When nothing was taken, or that is not known.
    pub async fn take(&self, facts: Vec<LeadFact>) -> Result<Vec<LeadVerdict>, DeskFault> {
        self.store()?;
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        let sources: Vec<LeadSource> = facts.iter().map(|fact| fact.source).collect();
        let leads: Vec<CustomerKey> = facts.iter().map(|fact| fact.lead).collect();
        let (answer, mut answered) = oneshot::channel();
        {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let before: usize = waiting.iter().map(|it| it.facts.len()).sum();
            if before > 0 && before + facts.len() > MOST_WAITING {
                return Err(DeskFault::Busy);
            }
            waiting.push(WaitingFacts { facts, answer });
        }
        self.commit_apart();
        let verdicts = match answered.try_recv() {
            Ok(verdicts) => verdicts,
            Err(_) => answered.await.unwrap_or(Err(DeskFault::Store)),
        }?;
        if verdicts.iter().any(|verdict| verdict.ruling == LeadRuling::Stored) {
            (self.0.nudge)();
        }
        for ((verdict, source), lead) in verdicts.iter().zip(&sources).zip(&leads) {
            let result = verdict.ruling.as_str();
            counter!("scoreline_lead_facts_total", "source" => source.as_str(), "result" => result).increment(1);
            if is_conflict(verdict.ruling) && !verdict.is_repeated {
                tracing::info!(
                    ?lead,
                    result,
                    source = source.as_str(),
                    "a score that is not newer than the kept one was refused"
                );
            }
        }
        Ok(verdicts)
    }

    /// Commits to the end even when the caller hangs up: others wait for the same commit.
    #[expect(clippy::disallowed_methods, reason = "one commit, whose end is waited for by whoever told the facts")]
    fn commit_apart(&self) {
        let desk = self.clone();
        drop(tokio::spawn(async move { desk.commit().await }));
    }

    /// Commits what waits.
    async fn commit(&self) {
        let _turn = self.0.turn.lock().await;
        let group: Vec<WaitingFacts> = {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let mut facts = 0;
            let end = waiting.iter().position(|it| {
                facts += it.facts.len();
                facts > MOST_GROUPED
            });
            let end = end.unwrap_or(waiting.len()).max(1).min(waiting.len());
            waiting.drain(..end).collect()
        };
        if group.is_empty() {
            return;
        }
        let (mut facts, mut answers) = (Vec::new(), Vec::new());
        for WaitingFacts { facts: part, answer } in group {
            answers.push((part.len(), answer));
            facts.extend(part);
        }
        let taken = match self.store() {
            Ok(store) => self.take_facts(store, &facts).await,
            Err(fault) => Err(fault),
        };
        match taken {
            Ok(verdicts) => {
                let mut verdicts = verdicts.into_iter();
                for (count, answer) in answers {
                    // Whoever hung up does not read it.
                    let _ = answer.send(Ok(verdicts.by_ref().take(count).collect()));
                }
            }
            Err(fault) => answers.into_iter().for_each(|(_, answer)| _ = answer.send(Err(fault.clone()))),
        }
    }

    async fn take_facts(&self, store: &Store, facts: &[LeadFact]) -> Result<Vec<LeadVerdict>, DeskFault> {
        let begun = self.0.clock.monotonic();
        let taken = store.take_facts(facts, &self.0.targets, &self.0.settings.rules, self.now()).await;
        histogram!("scoreline_lead_commit_seconds")
            .record((self.0.clock.monotonic().saturating_sub(begun)).as_secs_f64());
        taken.map_err(|err: StoreError| {
            tracing::warn!(error = %err, facts = facts.len(), "scores of leads could not be kept");
            DeskFault::Store
        })
    }
}

/// Whether a fact was refused because another one counts.
pub fn is_conflict(ruling: LeadRuling) -> bool {
    match ruling {
        LeadRuling::Older | LeadRuling::Equal | LeadRuling::Stale => true,
        LeadRuling::Stored | LeadRuling::Unchanged | LeadRuling::Superseded | LeadRuling::Erased => false,
    }
}

/// Tells the recorder what is measured of scores that come.
fn describe() {
    describe_counter!("scoreline_lead_facts_total", "Scores of leads that came, by source and what became of them.");
    describe_histogram!("scoreline_lead_commit_seconds", "Time to commit scores of leads that came together.");
}
