//! What a profile should say, and whether a new wish is news. Pure.

use scoreline_domain::Tier;
use scoreline_domain::time::Timestamp;

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

impl Profile {
    /// Whether a reader of the profile would see no difference but its time.
    fn says_the_same(&self, other: &Self) -> bool {
        (self.value_usd, self.tier, self.confidence, self.risk)
            == (other.value_usd, other.tier, other.confidence, other.risk)
    }
}

/// How a wish stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WishState {
    Pending,
    Applied,
    Dead,
}

impl WishState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Dead => "dead",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Applied, Self::Dead].into_iter().find(|state| state.as_str() == text)
    }
}

/// What is kept of a customer's wishes in one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownWish {
    pub(super) wished: Profile,
    /// What the profile was last known to say.
    pub(super) applied: Option<Profile>,
    pub(super) state: WishState,
    /// Whether it may have been sent since it was last applied: what the profile says is not known then.
    pub(super) sent: bool,
}

/// What a new wish does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WishDecision {
    /// Nothing: it is no news, or it is older than what is kept.
    Keep,
    /// Write it.
    Write,
    /// The profile says so already: what was waiting is not written.
    Settle,
}

/// Newer facts replace older ones; what the profile says already is not written again; what failed for good is not tried
/// again before there is something else to say.
pub(super) fn decide(known: Option<&KnownWish>, wish: &Profile) -> WishDecision {
    let Some(known) = known else { return WishDecision::Write };
    if wish.calculated_at < known.wished.calculated_at || wish.says_the_same(&known.wished) {
        return WishDecision::Keep;
    }
    let says_so = known.applied.as_ref().is_some_and(|applied| applied.says_the_same(wish));
    match known.state {
        WishState::Pending | WishState::Dead if says_so && !known.sent => WishDecision::Settle,
        WishState::Applied | WishState::Pending | WishState::Dead => WishDecision::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(value_usd: f64, second: i64) -> Profile {
        let calculated_at = Timestamp::from_second(second).expect("in the calendar");
        Profile { value_usd, tier: Tier::Medium, confidence: Some(0.8), risk: None, calculated_at }
    }

    fn known(wished: Profile, applied: Option<Profile>, state: WishState, sent: bool) -> KnownWish {
        KnownWish { wished, applied, state, sent }
    }

    #[test]
    fn only_news_is_written() {
        let applied = known(profile(10.0, 1), Some(profile(10.0, 1)), WishState::Applied, false);
        assert_eq!(decide(None, &profile(10.0, 1)), WishDecision::Write);
        assert_eq!(decide(Some(&applied), &profile(10.0, 9)), WishDecision::Keep, "a later time alone is no news");
        assert_eq!(decide(Some(&applied), &profile(11.0, 9)), WishDecision::Write);
        assert_eq!(decide(Some(&applied), &profile(11.0, 0)), WishDecision::Keep, "older than what is kept");
    }

    #[test]
    fn what_is_waiting_and_was_never_sent_is_settled_when_the_profile_says_so_already() {
        let waiting = known(profile(11.0, 2), Some(profile(10.0, 1)), WishState::Pending, false);
        assert_eq!(decide(Some(&waiting), &profile(10.0, 3)), WishDecision::Settle);
        let sent = KnownWish { sent: true, ..waiting };
        assert_eq!(decide(Some(&sent), &profile(10.0, 3)), WishDecision::Write, "nobody knows what it says now");
    }

    #[test]
    fn what_failed_for_good_waits_for_something_else_to_say() {
        let dead = known(profile(11.0, 2), None, WishState::Dead, true);
        assert_eq!(decide(Some(&dead), &profile(11.0, 3)), WishDecision::Keep);
        assert_eq!(decide(Some(&dead), &profile(12.0, 3)), WishDecision::Write);
    }
}
