//! Scores of leads written to where the dialer reads them. What a target says is read first and compared: a later score of
//! somebody else stays, and somebody else's value is overwritten and counted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;

use super::{EachRow, ReadRow, Sink, Standing};
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_genesys::outbound::{LeadTarget, LeadWrite, ReadLead, SeenScore};
use scoreline_genesys::{Genesys, Permits, SendFault};
use scoreline_store::Claim;

/// Rows of a claim where each takes requests of its own.
const ONE_BY_ONE: usize = 8;
/// To read, and to write.
const REQUESTS: u32 = 2;
/// So far ahead may the clock of another writer be.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// A place that the dialer reads scores from.
pub struct LeadSink {
    target: Arc<dyn LeadTarget>,
    platform: Genesys,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    /// What a stale score is written as.
    stale_value: u8,
}

impl LeadSink {
    pub fn new(
        target: Arc<dyn LeadTarget>,
        platform: &Genesys,
        sealer: Sealer,
        clock: Arc<dyn Clock>,
        stale_value: u8,
    ) -> Self {
        Self { target, platform: platform.clone(), sealer, clock, stale_value }
    }

    pub fn lead_target(&self) -> &Arc<dyn LeadTarget> {
        &self.target
    }

    /// What a claim says, and of whom.
    fn open<'c>(&self, claim: &'c Claim) -> Result<(Said<'c>, SecretString), SendFault> {
        let said = Said::read(&claim.says).ok_or_else(|| refused("the score that is kept cannot be read"))?;
        let sealed = claim.sealed.as_ref().ok_or_else(|| refused("the lead's identifier is not kept"))?;
        let lead = self.sealer.open(&claim.key, sealed).map_err(|err| refused(&err.to_string()))?;
        Ok((said, lead))
    }

    /// What a score is written as.
    fn written(&self, said: Said<'_>) -> u8 {
        if said.score == 0 { self.stale_value } else { said.score }
    }

    fn compare(&self, claim: &Claim, said: Said<'_>, read: ReadLead) -> ReadRow<ReadLead> {
        let at = claim.calculated_at;
        let applied = claim.applied.as_ref().map(|(says, at)| (Said::read(says), *at));
        let standing = match &read.seen {
            SeenScore::Missing => Standing::Missing,
            SeenScore::Never => Standing::Differs { previous: String::new(), is_foreign: applied.is_some() },
            SeenScore::Foreign { value } => Standing::Differs { previous: value.to_string(), is_foreign: true },
            SeenScore::At { score, calculated_at } => {
                let then = calculated_at.filter(|then| !is_ahead(*then, self.clock.now()));
                match then.map(|then| order(then, at)) {
                    Some(std::cmp::Ordering::Greater) => {
                        let calculated_at = then.unwrap_or(at);
                        Standing::Newer { says: score.to_string().into(), calculated_at }
                    }
                    Some(std::cmp::Ordering::Equal) if *score == self.written(said) => Standing::AsItWas,
                    Some(std::cmp::Ordering::Equal | std::cmp::Ordering::Less) | None => {
                        // Of the time that we wrote last, and another score.
                        let edited = |(applied, wrote): (Option<Said<'_>>, Timestamp)| {
                            let same_time = then.is_some_and(|then| order(then, wrote).is_eq());
                            same_time && applied.is_some_and(|applied| self.written(applied) != *score)
                        };
                        let is_foreign = calculated_at.is_none() || applied.is_some_and(edited);
                        let previous = match calculated_at {
                            Some(then) => format!("{score} of {then}"),
                            None => score.to_string(),
                        };
                        Standing::Differs { previous, is_foreign }
                    }
                }
            }
        };
        ReadRow { standing, read }
    }

    async fn read_all(&self, permits: &Permits, leads: &[SecretString]) -> Result<EachRow<ReadLead>, SendFault> {
        if self.target.most() > 1 {
            return Ok(self.target.read(permits, leads).await?.into_iter().map(Ok).collect());
        }
        let each = async |lead| {
            let mut read = self.target.read(permits, std::slice::from_ref(lead)).await?;
            read.pop().ok_or_else(|| SendFault::Unknown { reason: "nothing was read".to_owned() })
        };
        Ok(join_all(leads.iter().map(each)).await)
    }
}

/// What a wish says: a score, 0 for a stale one, and the first reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said<'a> {
    score: u8,
    reason: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn read(says: &'a str) -> Option<Self> {
        let (score, reason) = says.split_once(' ').map_or((says, None), |(score, reason)| (score, Some(reason)));
        score.parse().ok().filter(|score| *score <= 100).map(|score| Self { score, reason })
    }

    /// A to D: the bands of the dialing rules, 80 and above, above 70, above 30, and the rest.
    fn band(self) -> &'static str {
        match self.score {
            80.. => "A",
            71..=79 => "B",
            31..=70 => "C",
            _ => "D",
        }
    }
}

/// How a time that was read stands to one of ours. One without a fraction tells no more than its second.
fn order(then: Timestamp, at: Timestamp) -> std::cmp::Ordering {
    if then.subsec_nanosecond() == 0 {
        return then.as_second().cmp(&at.as_second());
    }
    then.as_millisecond().cmp(&at.as_millisecond())
}

/// A time that has not come yet orders nothing.
fn is_ahead(then: Timestamp, now: Timestamp) -> bool {
    now.checked_add(CLOCK_SKEW).is_ok_and(|latest| then > latest)
}

fn refused(reason: &str) -> SendFault {
    SendFault::Refused { status: 422, reason: reason.to_owned() }
}

impl Sink for LeadSink {
    type Read = ReadLead;

    fn target(&self) -> &str {
        self.target.target()
    }

    fn portion(&self) -> usize {
        if self.target.most() > 1 { self.target.most() } else { ONE_BY_ONE }
    }

    fn reads(&self) -> bool {
        true
    }

    fn is_batched(&self) -> bool {
        self.target.most() > 1
    }

    fn patience(&self) -> Duration {
        self.platform.patience()
    }

    async fn reserve(&self, rows: usize) -> Result<Option<Permits>, SendFault> {
        let requests = u32::try_from(rows.div_ceil(self.target.most())).unwrap_or(u32::MAX);
        self.platform.reserve(requests.saturating_mul(REQUESTS)).await.map(Some)
    }

    async fn read(&self, permits: Option<&Permits>, claims: &[Claim]) -> Result<EachRow<ReadRow<ReadLead>>, SendFault> {
        let permits = permits.ok_or_else(|| refused("no permits were taken"))?;
        let opened: Vec<_> = claims.iter().map(|claim| self.open(claim)).collect();
        let leads: Vec<SecretString> = opened.iter().flatten().map(|(_, lead)| lead.clone()).collect();
        let mut read = self.read_all(permits, &leads).await?.into_iter();
        let row = |(claim, opened): (&Claim, Result<(Said<'_>, SecretString), SendFault>)| {
            let (said, _) = opened?;
            let unread = || Err(SendFault::Unknown { reason: "nothing was read".to_owned() });
            Ok(self.compare(claim, said, read.next().unwrap_or_else(unread)?))
        };
        Ok(claims.iter().zip(opened).map(row).collect())
    }

    async fn write(&self, permits: Option<&Permits>, rows: &[(&Claim, &ReadLead)]) -> Result<EachRow<()>, SendFault> {
        let permits = permits.ok_or_else(|| refused("no permits were taken"))?;
        let mut writes: Vec<LeadWrite<'_>> = Vec::with_capacity(rows.len());
        for (claim, read) in rows {
            // What cannot be read was refused when it was claimed.
            let said = Said::read(&claim.says).unwrap_or(Said { score: 0, reason: None });
            writes.push(LeadWrite {
                read,
                score: self.written(said),
                calculated_at: claim.calculated_at,
                band: Some(said.band()),
                reason: said.reason.or(Some("")),
            });
        }
        if self.target.most() > 1 {
            return self.target.write(permits, &writes).await;
        }
        let each = async |write| {
            let written = self.target.write(permits, std::slice::from_ref(write)).await?;
            written.into_iter().next().unwrap_or(Ok(()))
        };
        Ok(join_all(writes.iter().map(each)).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_as_it_was_written() {
        assert_eq!(Said::read("87"), Some(Said { score: 87, reason: None }));
        assert_eq!(Said::read("0"), Some(Said { score: 0, reason: None }));
        assert_eq!(Said::read("87 previous_calls"), Some(Said { score: 87, reason: Some("previous_calls") }));
        for other in ["", "101", "x", "-1", "87.5"] {
            assert_eq!(Said::read(other), None, "{other}");
        }
        let bands: Vec<_> = ["100", "80", "79", "71", "70", "31", "30", "1", "0"]
            .into_iter()
            .filter_map(|says| Some(Said::read(says)?.band()))
            .collect();
        assert_eq!(bands.concat(), "AABBCCDDD");
    }

    #[test]
    fn a_time_without_a_fraction_tells_its_second_alone() {
        let at: Timestamp = "2026-11-28T10:00:00.123Z".parse().expect("a time");
        for (text, expected) in [
            ("2026-11-28T10:00:00Z", std::cmp::Ordering::Equal),
            ("2026-11-28T10:00:00.123Z", std::cmp::Ordering::Equal),
            ("2026-11-28T10:00:00.122Z", std::cmp::Ordering::Less),
            ("2026-11-28T10:00:01Z", std::cmp::Ordering::Greater),
            ("2026-11-28T09:59:59Z", std::cmp::Ordering::Less),
        ] {
            assert_eq!(order(text.parse().expect("a time"), at), expected, "{text}");
        }
        assert!(is_ahead(at.checked_add(Duration::from_mins(6)).expect("a time"), at));
        assert!(!is_ahead(at.checked_add(Duration::from_mins(4)).expect("a time"), at));
    }
}
