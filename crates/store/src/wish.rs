//! What a subject should say in a target, and whether a new wish is news. Pure.

use std::fmt;

use scoreline_domain::Tier;
use scoreline_domain::time::Timestamp;

/// A claim takes as many rows as it likes beside one that says so.
pub(super) const WITH_ALL: u32 = 1_000_000;

/// What a customer's profile should say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// US dollars, as it is written: rounded by whoever asks for it.
    pub value_usd: f64,
    pub tier: Tier,
    pub confidence: Option<f64>,
    pub risk: Option<f64>,
    /// Not news by itself.
    pub calculated_at: Timestamp,
}

/// What a subject should say in a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// As whoever delivers it reads it.
    pub(super) says: Box<str>,
    pub(super) calculated_ms: i64,
    /// Lower ones are delivered first.
    pub(super) urgency: i64,
}

/// How a wish stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WishState {
    Pending,
    /// A write of it may have arrived: the target is read before anything else.
    Unknown,
    Applied,
    /// The target has no such subject.
    Absent,
    /// It would fail again as it is.
    Dead,
}

impl WishState {
    const ALL: [Self; 5] = [Self::Pending, Self::Unknown, Self::Applied, Self::Absent, Self::Dead];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::Applied => "applied",
            Self::Absent => "absent",
            Self::Dead => "dead",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// As it is kept: value, tier, confidence, risk; `-` for what is not known.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |score: Option<f64>| score.map_or_else(|| "-".to_owned(), |score| score.to_string());
        write!(f, "{} {} {} {}", self.value_usd, self.tier.as_str(), known(self.confidence), known(self.risk))
    }
}

impl Profile {
    /// The profile that a wish is for; `None` for what is none.
    pub fn read(says: &str, calculated_at: Timestamp) -> Option<Self> {
        let mut parts = says.split(' ');
        let value_usd = parts.next()?.parse().ok()?;
        let named = parts.next()?;
        let tier = Tier::ALL.into_iter().find(|tier| tier.as_str() == named)?;
        let score = |text: &str| if text == "-" { Some(None) } else { text.parse().ok().map(Some) };
        let (confidence, risk) = (score(parts.next()?)?, score(parts.next()?)?);
        parts.next().is_none().then_some(Self { value_usd, tier, confidence, risk, calculated_at })
    }

    pub(super) fn wish(&self) -> Wish {
        Wish { says: self.to_string().into(), calculated_ms: self.calculated_at.as_millisecond(), urgency: 1 }
    }
}

/// What is kept of a subject's wishes in one target.
#[derive(Clone, Debug)]
pub(super) struct KnownWish {
    pub(super) says: Box<str>,
    pub(super) calculated_ms: i64,
    pub(super) state: WishState,
    /// What the target was last known to say.
    pub(super) applied: Option<Box<str>>,
    pub(super) applied_ms: Option<i64>,
    /// Whether it may have been sent since it was last applied: what the target says is not known then.
    pub(super) was_sent: bool,
}

/// What a new wish does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WishDecision {
    /// Nothing: it is no news, or it is older than what is kept.
    Keep,
    /// Write it.
    Write,
    /// The target says so already: what was waiting is not written.
    Settle,
}

/// Newer facts replace older ones; what the target says already is not written again; what failed for good is not tried
/// again before there is something else to say. Where scores grow old, one that is as old as `refresh_ms` is written again
/// for its time alone.
pub(super) fn decide(known: Option<&KnownWish>, wish: &Wish, refresh_ms: Option<i64>) -> WishDecision {
    let Some(known) = known else { return WishDecision::Write };
    if wish.calculated_ms < known.calculated_ms {
        return WishDecision::Keep;
    }
    let is_old = |ms: Option<i64>| refresh_ms.is_some_and(|refresh| ms.is_none_or(|ms| ms <= refresh));
    if wish.says == known.says {
        let again = match known.state {
            WishState::Applied | WishState::Dead => is_old(Some(known.calculated_ms)),
            // The newer time goes with it.
            WishState::Pending | WishState::Unknown | WishState::Absent => {
                refresh_ms.is_some() && wish.calculated_ms > known.calculated_ms
            }
        };
        return if again { WishDecision::Write } else { WishDecision::Keep };
    }
    let says_so = known.applied.as_ref() == Some(&wish.says) && !known.was_sent && !is_old(known.applied_ms);
    match known.state {
        WishState::Pending if says_so => WishDecision::Settle,
        WishState::Applied | WishState::Pending | WishState::Unknown | WishState::Absent | WishState::Dead => {
            WishDecision::Write
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(says: &str, calculated_ms: i64) -> Wish {
        Wish { says: says.into(), calculated_ms, urgency: 1 }
    }

    fn known(says: &str, calculated_ms: i64, applied: Option<&str>, state: WishState) -> KnownWish {
        let applied_ms = applied.map(|_| calculated_ms);
        let was_sent = state == WishState::Unknown;
        KnownWish { says: says.into(), calculated_ms, state, applied: applied.map(Into::into), applied_ms, was_sent }
    }

    #[test]
    fn only_news_is_written() {
        let applied = known("10", 1, Some("10"), WishState::Applied);
        assert_eq!(decide(None, &wish("10", 1), None), WishDecision::Write);
        assert_eq!(decide(Some(&applied), &wish("10", 9), None), WishDecision::Keep, "a later time alone is no news");
        assert_eq!(decide(Some(&applied), &wish("11", 9), None), WishDecision::Write);
        assert_eq!(decide(Some(&applied), &wish("11", 0), None), WishDecision::Keep, "older than what is kept");
    }

    #[test]
    fn what_is_waiting_and_was_never_sent_is_settled_when_the_target_says_so_already() {
        let waiting = known("11", 2, Some("10"), WishState::Pending);
        assert_eq!(decide(Some(&waiting), &wish("10", 3), None), WishDecision::Settle);
        let sent = KnownWish { was_sent: true, ..waiting };
        assert_eq!(decide(Some(&sent), &wish("10", 3), None), WishDecision::Write, "nobody knows what it says now");
    }

    #[test]
    fn what_failed_for_good_waits_for_something_else_to_say() {
        let dead = known("11", 2, None, WishState::Dead);
        assert_eq!(decide(Some(&dead), &wish("11", 3), None), WishDecision::Keep);
        assert_eq!(decide(Some(&dead), &wish("12", 3), None), WishDecision::Write);
        let given_up = known("11", 2, Some("10"), WishState::Dead);
        assert_eq!(decide(Some(&given_up), &wish("10", 3), None), WishDecision::Write, "11 may have arrived");
    }

    #[test]
    fn an_equal_score_is_written_again_before_it_grows_old() {
        let applied = known("87", 100, Some("87"), WishState::Applied);
        assert_eq!(decide(Some(&applied), &wish("87", 150), Some(99)), WishDecision::Keep);
        assert_eq!(decide(Some(&applied), &wish("87", 150), Some(100)), WishDecision::Write);
        let waiting = known("87", 100, None, WishState::Pending);
        assert_eq!(decide(Some(&waiting), &wish("87", 150), Some(0)), WishDecision::Write, "its time goes with it");
        assert_eq!(decide(Some(&waiting), &wish("87", 100), Some(0)), WishDecision::Keep);
        // What the target says is too old to count as said.
        let changed = known("45", 200, Some("87"), WishState::Pending);
        let changed = KnownWish { applied_ms: Some(50), ..changed };
        assert_eq!(decide(Some(&changed), &wish("87", 300), Some(60)), WishDecision::Write);
        assert_eq!(decide(Some(&changed), &wish("87", 300), Some(40)), WishDecision::Settle);
    }

    #[test]
    fn a_profile_is_read_as_it_was_written() {
        let calculated_at = Timestamp::UNIX_EPOCH;
        for profile in [
            Profile { value_usd: 932.22, tier: Tier::High, confidence: Some(0.25), risk: None, calculated_at },
            Profile { value_usd: 0.0, tier: Tier::Low, confidence: None, risk: Some(1.0), calculated_at },
        ] {
            assert_eq!(Profile::read(&profile.to_string(), calculated_at), Some(profile));
        }
        // As databases write numbers.
        let read = Profile::read("100.0 Medium_Value 1.0 -", calculated_at).expect("a profile");
        assert_eq!((read.value_usd, read.confidence, read.risk), (100.0, Some(1.0), None));
        for other in ["", "87", "x High_Value - -", "1 Best - -", "1 High_Value - - -", "1 High_Value 0.5"] {
            assert_eq!(Profile::read(other, calculated_at), None, "{other}");
        }
    }
}
