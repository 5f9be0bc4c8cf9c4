//! Scripted faults: which requests go wrong, and how.

mod plan;
mod presets;

use std::collections::HashMap;
use std::time::Duration;

use super::draw::{pair, unit};

pub use plan::PlanError;
pub use presets::PRESETS;

/// Rules in order; the first that strikes decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan {
    pub rules: Vec<FaultRule>,
}

/// One rule: what goes wrong, at which endpoint and at which of its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    /// Any method when `None`.
    pub method: Option<String>,
    /// An endpoint's template; `*` stands for one segment, `**` at the end for the rest.
    pub path: String,
    /// Only these matching requests, from 1; all when empty.
    pub on: Vec<u64>,
    /// Every so many matching requests.
    pub every: Option<u64>,
    /// Share of the matching requests, 0 to 1, drawn from the simulator's seed.
    pub probability: Option<f64>,
    /// At most so many times.
    pub times: Option<u64>,
    /// The endpoint does its work before the fault strikes: what is lost is the answer.
    pub applied: bool,
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// 429 with the key of a limit in its body.
    TooManyRequests {
        retry_after: RetryAfter,
        limit_key: String,
    },
    /// Any other status, with an error body.
    Status(u16),
    /// The right answer, late.
    Slow(Duration),
    /// The endpoint does its work so much later, even when nobody waits for the answer any more.
    Late(Duration),
    /// The connection ends after so many bytes of the body; after half of it when `None`.
    Cut {
        after: Option<usize>,
    },
    /// The token of the request is not valid any more: 401.
    TokenExpired,
    /// The token endpoint's 400.
    TokenRateLimit,
    /// The job has expired: its state says so, its results are gone.
    JobExpired,
    JobFailed,
    /// The job never ends.
    JobStuck,
    /// Each page of a query begins with so many rows of the page before.
    RepeatRows(usize),
    /// Each page of a query leaves out so many rows.
    SkipRows(usize),
    /// `totalHits` is so many more on every other page.
    MovingTotal(u64),
    /// Nothing was analysed: no sentiment, no topics.
    MissingSentiment,
    /// 200 with a page for people.
    WrongContentType,
    /// The right answer behind so many bytes of blanks.
    Oversized {
        bytes: usize,
    },
    /// 302.
    Redirect {
        location: String,
    },
}

/// How a 429 says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    Seconds(u64),
    /// So many seconds from now, as an HTTP date.
    Date(u64),
    Missing,
}

impl FaultKind {
    /// Its name in plans and in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::Status(_) => "status",
            Self::Slow(_) => "slow",
            Self::Late(_) => "late",
            Self::Cut { .. } => "cut",
            Self::TokenExpired => "token_expired",
            Self::TokenRateLimit => "token_rate_limit",
            Self::JobExpired => "job_expired",
            Self::JobFailed => "job_failed",
            Self::JobStuck => "job_stuck",
            Self::RepeatRows(_) => "repeat_rows",
            Self::SkipRows(_) => "skip_rows",
            Self::MovingTotal(_) => "moving_total",
            Self::MissingSentiment => "missing_sentiment",
            Self::WrongContentType => "wrong_content_type",
            Self::Oversized { .. } => "oversized",
            Self::Redirect { .. } => "redirect",
        }
    }
}

impl FaultRule {
    /// Strikes every request of `path`.
    pub fn at(path: &str, kind: FaultKind) -> Self {
        Self {
            method: None,
            path: path.to_owned(),
            on: Vec::new(),
            every: None,
            probability: None,
            times: None,
            applied: false,
            kind,
        }
    }

    /// Only requests of this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// Only these matching requests, from 1.
    #[must_use]
    pub fn on(self, occurrences: impl IntoIterator<Item = u64>) -> Self {
        Self { on: occurrences.into_iter().collect(), ..self }
    }

    /// Only this share of the matching requests.
    #[must_use]
    pub fn probability(self, probability: f64) -> Self {
        Self { probability: Some(probability), ..self }
    }

    /// At most so many times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// The endpoint does its work all the same.
    #[must_use]
    pub fn applied(self) -> Self {
        Self { applied: true, ..self }
    }

    fn matches(&self, method: &str, template: &str) -> bool {
        self.method.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(method)) && covers(&self.path, template)
    }
}

/// Whether a rule's path covers an endpoint's template.
fn covers(pattern: &str, template: &str) -> bool {
    let mut segments = template.split('/');
    for wanted in pattern.split('/') {
        if wanted == "**" {
            return true;
        }
        match segments.next() {
            Some(segment) if wanted == "*" || wanted == segment => {}
            Some(_) | None => return false,
        }
    }
    segments.next().is_none()
}

/// A plan at work: counts what it has seen.
#[derive(Default)]
pub(super) struct Faults {
    plan: FaultPlan,
    seed: u64,
    /// Matching requests and strikes of each rule.
    counts: HashMap<usize, (u64, u64)>,
}

/// A rule that struck.
#[derive(Clone, Debug)]
pub(super) struct Strike {
    pub(super) kind: FaultKind,
    pub(super) applied: bool,
}

impl Faults {
    pub(super) fn new(plan: FaultPlan, seed: u64) -> Self {
        Self { plan, seed, counts: HashMap::new() }
    }

    /// What strikes this request, if anything.
    pub(super) fn strike(&mut self, method: &str, template: &str) -> Option<Strike> {
        let mut struck = None;
        for (number, rule) in self.plan.rules.iter().enumerate() {
            if !rule.matches(method, template) {
                continue;
            }
            let (seen, strikes) = self.counts.entry(number).or_default();
            *seen += 1;
            let due = (rule.on.is_empty() || rule.on.contains(seen))
                && rule.every.is_none_or(|every| seen.is_multiple_of(every))
                && rule.times.is_none_or(|times| *strikes < times)
                && rule.probability.is_none_or(|share| unit(pair(self.seed ^ number as u64, *seen)) < share);
            if due && struck.is_none() {
                *strikes += 1;
                struck = Some(Strike { kind: rule.kind.clone(), applied: rule.applied });
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_whole_segments() {
        assert!(covers("/oauth/token", "/oauth/token"));
        assert!(covers("/api/v2/*/x", "/api/v2/{id}/x"));
        assert!(covers("/api/**", "/api/v2/analytics"));
        assert!(!covers("/api/v2", "/api/v2/analytics"));
        assert!(!covers("/api/*", "/api/v2/analytics"));
    }

    #[test]
    fn rules_strike_when_they_are_due() {
        let plan = FaultPlan {
            rules: vec![
                FaultRule::at("/a", FaultKind::Status(503)).on([2, 3]).times(1),
                FaultRule::at("/a", FaultKind::TokenExpired).method("POST"),
                FaultRule::at("/b", FaultKind::JobStuck).probability(0.25),
            ],
        };
        let mut faults = Faults::new(plan.clone(), 7);
        let names = |faults: &mut Faults, method, path, requests: usize| -> Vec<Option<&'static str>> {
            (0..requests).map(|_| faults.strike(method, path).map(|strike| strike.kind.name())).collect()
        };
        assert_eq!(names(&mut faults, "GET", "/a", 4), [None, Some("status"), None, None]);
        assert_eq!(names(&mut faults, "POST", "/a", 1), [Some("token_expired")]);
        let some = names(&mut faults, "GET", "/b", 1000);
        let strikes = some.iter().flatten().count();
        assert!((200..300).contains(&strikes), "{strikes}");
        assert_eq!(names(&mut Faults::new(plan, 7), "GET", "/b", 1000), some, "the same with the same seed");
    }
}
