//! Scores of leads: facts that came, in the order of their own times, and what targets should say of them.
//!
//! A fact is taken when it is newer than what is kept; facts of the same time are told apart by their sequence. Once a score is
//! too old to count, only facts that are dated after that moment count: a late old event does not bring it back. A fact,
//! the verdict on its event and the wishes that follow are one commit.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::Store;
use super::customers::{digest, erased};
use super::db::{Arg, BulkColumn, DbRow, Tx};
use super::error::StoreError;
use super::leases::Lease;
use super::outbox::{self, put};
use super::positions::check_lease;
use super::time;
use super::wish::{Wish, WishState};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, SealedId};

/// What a target says of a lead whose score is too old.
pub(super) const NOTHING: &str = "0";
/// Entries of a lead's log.
const LOGGED: i64 = 10;
/// Who would not be called before that score, or not by the same agents.
const LIMITS: [i64; 2] = [71, 80];

/// Where a score comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadSource {
    /// The lead model.
    Model,
    /// The lead model's baseline: nothing is known of the lead.
    ColdStart,
    /// An event of another system.
    Event,
    /// Somebody's file or request brought the score.
    Given,
}

/// A score as it comes.
#[derive(Clone, Debug, PartialEq)]
pub struct LeadFact {
    pub lead: CustomerKey,
    /// The lead's identifier.
    pub sealed: Option<SealedId>,
    /// 1 to 100.
    pub score: u8,
    pub probability: Option<f64>,
    /// The first reason for the score; empty when nobody asks for it.
    pub reason: Box<str>,
    pub calculated_at: Timestamp,
    /// Decides between facts of the same time.
    pub sequence: u64,
    pub source: LeadSource,
    /// Of the model; empty for a score that was given.
    pub version: Box<str>,
    /// Digest of the event that brought it: one that comes again is answered as before.
    pub event: Option<[u8; 16]>,
}

/// How old scores may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreRules {
    /// Older scores count as nothing.
    pub stale_after: Duration,
    /// A target that was told an equal score so long ago is told anew.
    pub refresh_after: Duration,
    /// How long an event is remembered.
    pub remember: Duration,
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadRuling {
    Stored,
    /// The score is what was kept; its time was taken.
    Unchanged,
    /// Taken, and replaced by a later fact that came with it.
    Superseded,
    /// A newer one is kept.
    Older,
    /// One of the same time and sequence is kept.
    Equal,
    /// It is too old to count, or from before the kept one was.
    Stale,
    /// The lead was erased: nothing is kept.
    Erased,
}

/// A ruling, and whether the event was judged before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadVerdict {
    pub ruling: LeadRuling,
    pub is_repeated: bool,
}

/// A lead's score as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptLead {
    pub score: u8,
    pub probability: Option<f64>,
    pub reason: Box<str>,
    pub calculated_at: Timestamp,
    pub source: LeadSource,
    pub version: Box<str>,
    pub received_at: Timestamp,
}

/// A lead to be called next.
#[derive(Clone, Debug, PartialEq)]
pub struct NextLead {
    pub lead: CustomerKey,
    pub sealed: Option<SealedId>,
    pub kept: KeptLead,
}

/// An entry of a lead's log, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadLogEntry {
    pub at: Timestamp,
    /// Where it was written to; empty for a fact that came.
    pub target: String,
    pub previous: String,
    pub says: String,
    pub says_at: Timestamp,
    pub cause: String,
}

/// What a target said before it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteLog<'a> {
    pub claim: &'a super::Claim,
    pub previous: String,
}

/// How far growing old has come in a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aging {
    /// Scores that are written again because a fresh equal one is kept.
    pub refreshed: u64,
    /// Scores that are to be nothing from now on.
    pub stale: u64,
}

impl LeadSource {
    const ALL: [Self; 4] = [Self::Model, Self::ColdStart, Self::Event, Self::Given];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::ColdStart => "cold_start",
            Self::Event => "event",
            Self::Given => "given",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|source| source.as_str() == text);
        found.ok_or_else(|| StoreError::Unreadable { column: "leads.source", value: text.to_owned() })
    }
}

impl LeadRuling {
    const ALL: [Self; 7] =
        [Self::Stored, Self::Unchanged, Self::Superseded, Self::Older, Self::Equal, Self::Stale, Self::Erased];

    /// The word in metrics and in what is remembered of events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Unchanged => "unchanged",
            Self::Superseded => "superseded",
            Self::Older => "older",
            Self::Equal => "equal",
            Self::Stale => "stale",
            Self::Erased => "erased",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|ruling| ruling.as_str() == text);
        found.ok_or_else(|| StoreError::Unreadable { column: "events_seen.verdict", value: text.to_owned() })
    }
}

/// What a lead's score is worth now: 0 once it is older than `stale_after`.
pub(super) fn is_stale(calculated_ms: i64, now_ms: i64, stale_after: Duration) -> bool {
    now_ms.saturating_sub(calculated_ms) > span_ms(stale_after)
}

fn span_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A lead while facts are taken.
#[derive(Clone, Debug)]
struct Standing {
    num: i64,
    score: i64,
    calculated_ms: i64,
    sequence: i64,
    reason: Box<str>,
    /// The fact of this call that stands now.
    fact: Option<usize>,
    urgency: i64,
    /// What was kept before this call.
    before: Option<i64>,
}

impl Store {
    /// Takes facts in their order, whole or not at all; one verdict for each.
    ///
    /// # Errors
    /// When none was taken, or that is not known: they can be told again.
    pub async fn take_facts(
        &self,
        facts: &[LeadFact],
        targets: &[String],
        rules: &ScoreRules,
        now: Timestamp,
    ) -> Result<Vec<LeadVerdict>, StoreError> {
        let mut tx = self.write("told scores of leads").await?;
        let now_ms = now.as_millisecond();
        let seen = seen(&mut tx, facts).await?;
        let gone = erased(&mut tx, facts.iter().map(|fact| fact.lead).collect()).await?;
        let mut standing = standing(&mut tx, facts).await?;
        let mut verdicts: Vec<LeadVerdict> = Vec::with_capacity(facts.len());
        let mut new_events: HashMap<[u8; 16], usize> = HashMap::new();
        for (place, fact) in facts.iter().enumerate() {
            let told = fact.event.as_ref().and_then(|event| {
                seen.get(event).copied().or_else(|| new_events.get(event).map(|first| verdicts[*first].ruling))
            });
            if let Some(ruling) = told {
                verdicts.push(LeadVerdict { ruling, is_repeated: true });
                continue;
            }
            let ruling = if gone.contains(&digest(&fact.lead)) {
                LeadRuling::Erased
            } else {
                judge(&mut standing, fact, place, now_ms, rules, &mut verdicts)
            };
            verdicts.push(LeadVerdict { ruling, is_repeated: false });
            if let Some(event) = fact.event {
                new_events.insert(event, place);
            }
        }
        keep(&mut tx, facts, &mut standing, now_ms).await?;
        let taken: Vec<(&Standing, &LeadFact)> =
            standing.values().filter_map(|lead| Some((lead, &facts[lead.fact?]))).collect();
        let refresh = now.checked_sub(rules.refresh_after).unwrap_or(Timestamp::MIN);
        for target in targets {
            let wish = |(lead, fact): &(&Standing, &LeadFact)| {
                let says = says(lead.score, &lead.reason);
                let calculated_ms = fact.calculated_at.as_millisecond();
                (lead.num, Wish { says, calculated_ms, urgency: lead.urgency })
            };
            outbox::wish(&mut tx, target, taken.iter().map(wish).collect(), now, Some(refresh)).await?;
        }
        let told = taken.iter().filter(|(lead, _)| lead.before != Some(lead.score)).map(|(lead, fact)| NewEntry {
            subject: lead.num,
            target: String::new(),
            previous: lead.before.map_or_else(String::new, |score| score.to_string()),
            says: lead.score.to_string(),
            says_ms: lead.calculated_ms,
            cause: fact.source.as_str().to_owned(),
        });
        let told = told.collect();
        log(&mut tx, told, now_ms).await?;
        remember(&mut tx, &new_events, &verdicts, now_ms.saturating_add(span_ms(rules.remember))).await?;
        tx.commit().await?;
        Ok(verdicts)
    }

    /// Lets a target that has no row of them know leads that are fresh; how many, at most `limit`. For a target that was
    /// named later than the leads came.
    ///
    /// # Errors
    /// When that is not known, or the lease was lost.
    pub async fn introduce_leads(
        &self,
        target: &str,
        rules: &ScoreRules,
        now: Timestamp,
        limit: usize,
        lease: &Lease,
    ) -> Result<u64, StoreError> {
        const MISSING: &str = "SELECT l.num, l.score, l.reason, l.calculated_ms FROM leads l WHERE l.calculated_ms > $2 \
                               AND NOT EXISTS (SELECT 1 FROM wishes w WHERE w.target = $1 AND w.subject = l.num) LIMIT $3";
        let mut tx = self.write("told what targets should say").await?;
        check_lease(&mut tx, Some(lease)).await?;
        let stale = Arg::Int(now.as_millisecond().saturating_sub(span_ms(rules.stale_after)));
        let changes = wishes(&mut tx, MISSING, &[Arg::Text(target), stale, limit_of(limit)], 1).await?;
        put(&mut tx, target, &changes, now).await?;
        tx.commit().await?;
        Ok(changes.len() as u64)
    }

    /// A lead's score.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn lead(&self, lead: &CustomerKey) -> Result<Option<KeptLead>, StoreError> {
        const FIND: &str = "SELECT score, probability, reason, calculated_ms, source, version, received_ms FROM leads \
                            WHERE key = $1";
        let mut tx = self.read("read").await?;
        let row = tx.row(FIND, &[Arg::Bytes(lead.as_bytes())]).await?;
        row.map(|row| kept(&row, 0)).transpose()
    }

    /// How many fresh leads come before this one in the order of `next_leads`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn leads_before(&self, lead: &KeptLead, stale: Timestamp) -> Result<u64, StoreError> {
        const COUNT: &str = "SELECT COUNT(*) FROM leads WHERE calculated_ms > $1 AND (score > $2 OR (score = $2 AND \
                             (COALESCE(probability, -1) > $4 OR (COALESCE(probability, -1) = $4 AND calculated_ms > $3))))";
        let mut tx = self.read("read").await?;
        let [stale, score, at] =
            [stale.as_millisecond(), i64::from(lead.score), lead.calculated_at.as_millisecond()].map(Arg::Int);
        let row = tx.row(COUNT, &[stale, score, at, Arg::Real(lead.probability.unwrap_or(-1.0))]).await?;
        row.map_or(Ok(0), |row| row.int(0).map(i64::cast_unsigned))
    }

    /// Fresh leads, highest score first, of one score the likeliest, then the newest; those without a probability last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn next_leads(&self, stale: Timestamp, least: u8, limit: usize) -> Result<Vec<NextLead>, StoreError> {
        // One range of the index for each score: old leads of a high score are not walked over.
        const BEST: &str = "SELECT key, sealed, score, probability, reason, calculated_ms, source, version, received_ms \
                            FROM leads WHERE score = $1 AND calculated_ms > $2 \
                            ORDER BY COALESCE(probability, -1) DESC, calculated_ms DESC LIMIT $3";
        let mut tx = self.read("read").await?;
        let mut next = Vec::new();
        for score in (least.max(1)..=100).rev() {
            if next.len() >= limit {
                break;
            }
            let stale = Arg::Int(stale.as_millisecond());
            let rows = tx.rows(BEST, &[Arg::Int(i64::from(score)), stale, limit_of(limit - next.len())]).await?;
            for row in &rows {
                let sealed = row.opt_bytes(1)?.map(|bytes| SealedId(bytes.into()));
                let lead = CustomerKey::from_digest(row.array(0, "leads.key")?);
                next.push(NextLead { lead, sealed, kept: kept(row, 2)? });
            }
        }
        Ok(next)
    }

    /// A lead's log, the newest entry first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn lead_log(&self, lead: &CustomerKey) -> Result<Vec<LeadLogEntry>, StoreError> {
        const FIND: &str = "SELECT g.at_ms, g.target, g.previous, g.says, g.says_ms, g.cause FROM leads l \
                            JOIN lead_log g ON g.subject = l.num WHERE l.key = $1 ORDER BY g.entry DESC";
        let mut tx = self.read("read").await?;
        let entry = |row: &DbRow| {
            Ok(LeadLogEntry {
                at: time(row.int(0)?, "lead_log.at_ms")?,
                target: row.text(1)?.to_owned(),
                previous: row.text(2)?.to_owned(),
                says: row.text(3)?.to_owned(),
                says_at: time(row.int(4)?, "lead_log.says_ms")?,
                cause: row.text(5)?.to_owned(),
            })
        };
        tx.rows(FIND, &[Arg::Bytes(lead.as_bytes())]).await?.iter().map(entry).collect()
    }

    /// Leads that are fresh, and that are not.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub async fn lead_counts(&self, stale: Timestamp) -> Result<(u64, u64), StoreError> {
        let mut tx = self.read("counted").await?;
        let count = "SELECT COUNT(*), (SELECT COUNT(*) FROM leads WHERE calculated_ms > $1) FROM leads";
        let row = tx.row(count, &[Arg::Int(stale.as_millisecond())]).await?;
        let Some(row) = row else { return Ok((0, 0)) };
        let (all, fresh) = (row.int(0)?.cast_unsigned(), row.int(1)?.cast_unsigned());
        Ok((fresh, all - fresh))
    }

    /// Logs what a target said of leads, before it is written.
    ///
    /// # Errors
    /// When that is not kept: nothing should be written then.
    pub async fn log_writes(&self, target: &str, writes: &[WriteLog<'_>], now: Timestamp) -> Result<(), StoreError> {
        let entry = |write: &WriteLog<'_>| NewEntry {
            subject: write.claim.subject(),
            target: target.to_owned(),
            previous: write.previous.clone(),
            says: write.claim.says.to_string(),
            says_ms: write.claim.calculated_at.as_millisecond(),
            cause: "push".to_owned(),
        };
        let mut tx = self.write("told what was written").await?;
        log(&mut tx, writes.iter().map(entry).collect(), now.as_millisecond()).await?;
        tx.commit().await
    }

    /// Lets scores grow old in a target, up to `limit` rows of each kind. Rows whose lead has a fresh equal score are written
    /// again from `ahead` before their time on; others become nothing when it has come.
    ///
    /// # Errors
    /// When that is not known, or the lease was lost.
    pub async fn grow_old(
        &self,
        target: &str,
        rules: &ScoreRules,
        ahead: Duration,
        now: Timestamp,
        limit: usize,
        lease: &Lease,
    ) -> Result<Aging, StoreError> {
        const REFRESH: &str = "SELECT w.subject, l.score, l.reason, l.calculated_ms FROM wishes w \
                               JOIN leads l ON l.num = w.subject WHERE w.target = $1 AND w.says <> '0' \
                               AND w.calculated_ms <= $2 AND w.state <> 'dead' AND l.calculated_ms > w.calculated_ms \
                               AND l.calculated_ms > $3 LIMIT $4";
        const STALE: &str = "SELECT w.subject, w.calculated_ms FROM wishes w JOIN leads l ON l.num = w.subject \
                             WHERE w.target = $1 AND w.says <> '0' AND w.calculated_ms < $2 AND w.state <> 'dead' \
                             AND l.calculated_ms < $2 ORDER BY w.calculated_ms LIMIT $3";
        let stale_ms = now.as_millisecond().saturating_sub(span_ms(rules.stale_after));
        let mut tx = self.write("told what has grown old").await?;
        check_lease(&mut tx, Some(lease)).await?;
        let soon = Arg::Int(stale_ms.saturating_add(span_ms(ahead)));
        let args = [Arg::Text(target), soon, Arg::Int(stale_ms), limit_of(limit)];
        let refreshed = wishes(&mut tx, REFRESH, &args, 0).await?;
        put(&mut tx, target, &refreshed, now).await?;
        let rows = tx.rows(STALE, &[Arg::Text(target), Arg::Int(stale_ms), limit_of(limit)]).await?;
        let nothing = |row: &DbRow| {
            let wish = Wish { says: NOTHING.into(), calculated_ms: row.int(1)?, urgency: 0 };
            Ok((row.int(0)?, wish, WishState::Pending))
        };
        let stale: Vec<_> = rows.iter().map(nothing).collect::<Result<_, StoreError>>()?;
        put(&mut tx, target, &stale, now).await?;
        tx.commit().await?;
        Ok(Aging { refreshed: refreshed.len() as u64, stale: stale.len() as u64 })
    }

    /// How many scores of a target are too old, up to `limit`, of those that it is known to say.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub async fn count_stale(
        &self,
        target: &str,
        rules: &ScoreRules,
        now: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError> {
        const COUNT: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM wishes WHERE target = $1 AND says <> '0' \
                             AND calculated_ms < $2 AND state = 'applied' LIMIT $3) AS old";
        let mut tx = self.read("counted").await?;
        let stale_ms = now.as_millisecond().saturating_sub(span_ms(rules.stale_after));
        let row = tx.row(COUNT, &[Arg::Text(target), Arg::Int(stale_ms), limit_of(limit)]).await?;
        row.map_or(Ok(0), |row| row.int(0).map(i64::cast_unsigned))
    }

    /// Lets events go that were remembered long enough; how many.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn forget_events(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write("cleared of old events").await?;
        let gone = tx.run("DELETE FROM events_seen WHERE until_ms <= $1", &[Arg::Int(now.as_millisecond())]).await?;
        tx.commit().await?;
        Ok(gone)
    }
}

/// The rows of a statement (subject, score, reason, time) as wishes that are to be written.
async fn wishes(
    tx: &mut Tx,
    sql: &'static str,
    args: &[Arg<'_>],
    urgency: i64,
) -> Result<Vec<(i64, Wish, WishState)>, StoreError> {
    let wish = |row: &DbRow| {
        let says = says(row.int(1)?, row.text(2)?);
        Ok((row.int(0)?, Wish { says, calculated_ms: row.int(3)?, urgency }, WishState::Pending))
    };
    tx.rows(sql, args).await?.iter().map(wish).collect()
}

/// What a target should say: the score, and the reason where there is one.
fn says(score: i64, reason: &str) -> Box<str> {
    if reason.is_empty() { score.to_string().into() } else { format!("{score} {reason}").into() }
}

/// Judges a fact by what stands, and lets it stand when it counts.
fn judge(
    standing: &mut HashMap<CustomerKey, Standing>,
    fact: &LeadFact,
    place: usize,
    now_ms: i64,
    rules: &ScoreRules,
    verdicts: &mut [LeadVerdict],
) -> LeadRuling {
    let calculated_ms = fact.calculated_at.as_millisecond();
    let (score, sequence) = (i64::from(fact.score), i64::try_from(fact.sequence).unwrap_or(i64::MAX));
    if is_stale(calculated_ms, now_ms, rules.stale_after) {
        return match standing.get(&fact.lead) {
            Some(known) if calculated_ms < known.calculated_ms => LeadRuling::Older,
            Some(_) | None => LeadRuling::Stale,
        };
    }
    let Some(known) = standing.get_mut(&fact.lead) else {
        let reason = fact.reason.clone();
        let new =
            Standing { num: 0, score, calculated_ms, sequence, reason, fact: Some(place), urgency: 1, before: None };
        standing.insert(fact.lead, new);
        return LeadRuling::Stored;
    };
    let was_stale = is_stale(known.calculated_ms, now_ms, rules.stale_after);
    if was_stale && calculated_ms <= known.calculated_ms.saturating_add(span_ms(rules.stale_after)) {
        return LeadRuling::Stale;
    }
    match (calculated_ms, sequence).cmp(&(known.calculated_ms, known.sequence)) {
        std::cmp::Ordering::Less => return LeadRuling::Older,
        std::cmp::Ordering::Equal => return LeadRuling::Equal,
        std::cmp::Ordering::Greater => {}
    }
    if let Some(earlier) = known.fact {
        verdicts[earlier].ruling = LeadRuling::Superseded;
    }
    let crosses = LIMITS.iter().any(|limit| (known.score >= *limit) != (score >= *limit));
    let is_equal = known.score == score && !was_stale && known.before.is_some();
    known.urgency = match (was_stale || crosses, is_equal) {
        (true, _) => 0,
        (false, true) => 2,
        (false, false) => 1,
    };
    (known.score, known.calculated_ms, known.sequence) = (score, calculated_ms, sequence);
    (known.reason, known.fact) = (fact.reason.clone(), Some(place));
    if is_equal { LeadRuling::Unchanged } else { LeadRuling::Stored }
}

/// Verdicts on those of these events that were judged before.
async fn seen(tx: &mut Tx, facts: &[LeadFact]) -> Result<HashMap<[u8; 16], LeadRuling>, StoreError> {
    const FIND: &str = "WITH given(id) AS ({rows}) \
                        SELECT e.id, e.verdict FROM given CROSS JOIN events_seen e WHERE e.id = given.id";
    let mut ids: Vec<[u8; 16]> = facts.iter().filter_map(|fact| fact.event).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = tx.bulk_rows(FIND, &[BulkColumn::Ids(ids)]).await?;
    rows.iter().map(|row| Ok((row.array(0, "events_seen.id")?, LeadRuling::parse(row.text(1)?)?))).collect()
}

async fn remember(
    tx: &mut Tx,
    new: &HashMap<[u8; 16], usize>,
    verdicts: &[LeadVerdict],
    until_ms: i64,
) -> Result<(), StoreError> {
    const KEEP: &str = "INSERT INTO events_seen (id, verdict, until_ms) {rows} ON CONFLICT (id) DO NOTHING";
    let mut events: Vec<_> = new.iter().collect();
    events.sort_unstable();
    let columns = [
        BulkColumn::Ids(events.iter().map(|(id, _)| **id).collect()),
        BulkColumn::Texts(events.iter().map(|(_, place)| verdicts[**place].ruling.as_str().to_owned()).collect()),
        BulkColumn::Ints(vec![until_ms; events.len()]),
    ];
    tx.bulk(KEEP, &columns).await?;
    Ok(())
}

async fn standing(tx: &mut Tx, facts: &[LeadFact]) -> Result<HashMap<CustomerKey, Standing>, StoreError> {
    const FIND: &str = "WITH given(key) AS ({rows}) \
                        SELECT l.key, l.num, l.score, l.calculated_ms, l.sequence, l.reason \
                        FROM given CROSS JOIN leads l WHERE l.key = given.key";
    let mut keys: Vec<_> = facts.iter().map(|fact| *fact.lead.as_bytes()).collect();
    keys.sort_unstable();
    keys.dedup();
    let lead = |row: &DbRow| {
        let score = row.int(2)?;
        let lead = Standing {
            num: row.int(1)?,
            score,
            calculated_ms: row.int(3)?,
            sequence: row.int(4)?,
            reason: row.text(5)?.into(),
            fact: None,
            urgency: 1,
            before: Some(score),
        };
        Ok((CustomerKey::from_digest(row.array(0, "leads.key")?), lead))
    };
    tx.bulk_rows(FIND, &[BulkColumn::Keys(keys)]).await?.iter().map(lead).collect()
}

/// Writes the leads that changed; new ones get their numbers.
async fn keep(
    tx: &mut Tx,
    facts: &[LeadFact],
    standing: &mut HashMap<CustomerKey, Standing>,
    now_ms: i64,
) -> Result<(), StoreError> {
    const WRITE: &str = "INSERT INTO leads (num, key, sealed, score, probability, reason, calculated_ms, sequence, source, \
                         version, received_ms, logged) {rows} ON CONFLICT (num) DO UPDATE SET \
                         sealed = COALESCE(excluded.sealed, leads.sealed), score = excluded.score, \
                         probability = excluded.probability, reason = excluded.reason, \
                         calculated_ms = excluded.calculated_ms, sequence = excluded.sequence, \
                         source = excluded.source, version = excluded.version, received_ms = excluded.received_ms";
    let mut new: Vec<&mut Standing> = standing.values_mut().filter(|lead| lead.num == 0).collect();
    if !new.is_empty() {
        new.sort_unstable_by_key(|lead| lead.fact);
        let first = tx.take("customer", new.len()).await?;
        new.into_iter().zip(first..).for_each(|(lead, num)| lead.num = num);
    }
    let mut changed: Vec<(&Standing, &LeadFact)> =
        standing.values().filter_map(|lead| Some((lead, &facts[lead.fact?]))).collect();
    changed.sort_unstable_by_key(|(lead, _)| lead.num);
    let all = || changed.iter();
    let columns = [
        BulkColumn::Ints(all().map(|(lead, _)| lead.num).collect()),
        BulkColumn::Keys(all().map(|(_, fact)| *fact.lead.as_bytes()).collect()),
        BulkColumn::OptBytes(all().map(|(_, fact)| fact.sealed.as_ref().map(|sealed| sealed.0.to_vec())).collect()),
        BulkColumn::Ints(all().map(|(lead, _)| lead.score).collect()),
        BulkColumn::OptReals(all().map(|(_, fact)| fact.probability).collect()),
        BulkColumn::Texts(all().map(|(_, fact)| fact.reason.to_string()).collect()),
        BulkColumn::Ints(all().map(|(lead, _)| lead.calculated_ms).collect()),
        BulkColumn::Ints(all().map(|(lead, _)| lead.sequence).collect()),
        BulkColumn::Texts(all().map(|(_, fact)| fact.source.as_str().to_owned()).collect()),
        BulkColumn::Texts(all().map(|(_, fact)| fact.version.to_string()).collect()),
        BulkColumn::Ints(vec![now_ms; changed.len()]),
        BulkColumn::Ints(vec![0; changed.len()]),
    ];
    tx.bulk(WRITE, &columns).await?;
    Ok(())
}

/// An entry that a log gains.
struct NewEntry {
    subject: i64,
    target: String,
    previous: String,
    says: String,
    says_ms: i64,
    cause: String,
}

/// Logs entries, at most one of a lead; the oldest of a full log gives way.
async fn log(tx: &mut Tx, entries: Vec<NewEntry>, now_ms: i64) -> Result<(), StoreError> {
    const COUNT: &str = "WITH given(num) AS ({rows}) UPDATE leads SET logged = logged + 1 FROM given \
                         WHERE leads.num = given.num";
    const LOGGED_SO_FAR: &str = "WITH given(num) AS ({rows}) SELECT l.num, l.logged FROM given CROSS JOIN leads l \
                                 WHERE l.num = given.num";
    const WRITE: &str = "INSERT INTO lead_log (subject, slot, entry, at_ms, target, previous, says, says_ms, cause) {rows} \
                         ON CONFLICT (subject, slot) DO UPDATE SET entry = excluded.entry, at_ms = excluded.at_ms, \
                         target = excluded.target, previous = excluded.previous, says = excluded.says, \
                         says_ms = excluded.says_ms, cause = excluded.cause";
    if entries.is_empty() {
        return Ok(());
    }
    let subjects: Vec<i64> = entries.iter().map(|entry| entry.subject).collect();
    tx.bulk(COUNT, &[BulkColumn::Ints(subjects.clone())]).await?;
    let mut numbers: BTreeMap<i64, i64> = BTreeMap::new();
    for row in tx.bulk_rows(LOGGED_SO_FAR, &[BulkColumn::Ints(subjects)]).await? {
        numbers.insert(row.int(0)?, row.int(1)?);
    }
    // Whoever was erased meanwhile has no log.
    let entries: Vec<(i64, NewEntry)> =
        entries.into_iter().filter_map(|entry| Some((*numbers.get(&entry.subject)?, entry))).collect();
    let all = || entries.iter();
    let columns = [
        BulkColumn::Ints(all().map(|(_, entry)| entry.subject).collect()),
        BulkColumn::Ints(all().map(|(number, _)| number % LOGGED).collect()),
        BulkColumn::Ints(all().map(|(number, _)| *number).collect()),
        BulkColumn::Ints(vec![now_ms; entries.len()]),
        BulkColumn::Texts(all().map(|(_, entry)| entry.target.clone()).collect()),
        BulkColumn::Texts(all().map(|(_, entry)| entry.previous.clone()).collect()),
        BulkColumn::Texts(all().map(|(_, entry)| entry.says.clone()).collect()),
        BulkColumn::Ints(all().map(|(_, entry)| entry.says_ms).collect()),
        BulkColumn::Texts(all().map(|(_, entry)| entry.cause.clone()).collect()),
    ];
    tx.bulk(WRITE, &columns).await?;
    Ok(())
}

/// The numbers of those of these leads that the store knows.
pub(super) async fn numbers(tx: &mut Tx, keys: &[[u8; 32]]) -> Result<Vec<i64>, StoreError> {
    const FIND: &str = "WITH given(key) AS ({rows}) SELECT l.num FROM given CROSS JOIN leads l WHERE l.key = given.key";
    let rows = tx.bulk_rows(FIND, &[BulkColumn::Keys(keys.to_vec())]).await?;
    rows.iter().map(|row| row.int(0)).collect()
}

/// Score, probability, reason, time, source, version and arrival, from a column on.
fn kept(row: &DbRow, from: usize) -> Result<KeptLead, StoreError> {
    let score = row.int(from)?;
    let unreadable = |_| StoreError::Unreadable { column: "leads.score", value: score.to_string() };
    Ok(KeptLead {
        score: u8::try_from(score).map_err(unreadable)?,
        probability: row.opt_real(from + 1)?,
        reason: row.text(from + 2)?.into(),
        calculated_at: time(row.int(from + 3)?, "leads.calculated_ms")?,
        source: LeadSource::parse(row.text(from + 4)?)?,
        version: row.text(from + 5)?.into(),
        received_at: time(row.int(from + 6)?, "leads.received_ms")?,
    })
}

fn limit_of(limit: usize) -> Arg<'static> {
    Arg::Int(i64::try_from(limit).unwrap_or(i64::MAX))
}
