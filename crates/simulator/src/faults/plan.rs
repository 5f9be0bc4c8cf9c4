//! Fault plans as people write them: TOML, one `[[fault]]` a rule. Every mistake is named, none is passed over.

use std::time::Duration;

use serde::Deserialize;

use super::{FaultKind, FaultPlan, FaultRule, PRESETS, RetryAfter};
use crate::routes;

/// What is wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("fault plan is not valid")]
    Unreadable(#[source] toml::de::Error),
    #[error("fault {rule}: `path` `{path}` matches no endpoint")]
    UnknownPath { rule: usize, path: String },
    #[error("fault {rule}: `{key}` must be {allowed}")]
    Invalid { rule: usize, key: &'static str, allowed: &'static str },
    #[error("fault {rule}: kind `{kind}` has no `{key}`")]
    NotForThisKind { rule: usize, kind: &'static str, key: &'static str },
    #[error("no fault plan is named `{0}`; there are {names}", names = PRESETS.map(|(name, ..)| name).join(", "))]
    UnknownPreset(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    fault: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    path: String,
    method: Option<String>,
    kind: Name,
    #[serde(default)]
    on: Vec<u64>,
    every: Option<u64>,
    probability: Option<f64>,
    times: Option<u64>,
    #[serde(default)]
    applied: bool,
    retry_after_secs: Option<u64>,
    retry_after: Option<Form>,
    limit_key: Option<String>,
    status: Option<u16>,
    delay_ms: Option<u64>,
    bytes: Option<usize>,
    rows: Option<usize>,
    location: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    TooManyRequests,
    Status,
    Slow,
    Late,
    Cut,
    TokenExpired,
    TokenRateLimit,
    JobExpired,
    JobFailed,
    JobStuck,
    RepeatRows,
    SkipRows,
    MovingTotal,
    MissingSentiment,
    WrongContentType,
    Oversized,
    Redirect,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Seconds,
    Date,
    Missing,
}

impl FaultPlan {
    /// Reads a plan.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let document: Document = toml::from_str(text).map_err(PlanError::Unreadable)?;
        let rules = document.fault.into_iter().enumerate().map(|(position, raw)| raw.into_rule(position + 1));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// A plan that comes with the simulator.
    pub fn preset(name: &str) -> Result<Self, PlanError> {
        let found = PRESETS.iter().find(|(own, ..)| *own == name);
        Self::parse(found.ok_or_else(|| PlanError::UnknownPreset(name.to_owned()))?.2)
    }
}

impl Raw {
    fn into_rule(mut self, rule: usize) -> Result<FaultRule, PlanError> {
        let invalid = |key, allowed| PlanError::Invalid { rule, key, allowed };
        if self.probability.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err(invalid("probability", "within 0 and 1"));
        }
        if self.every == Some(0) {
            return Err(invalid("every", "at least 1"));
        }
        if self.on.contains(&0) {
            return Err(invalid("on", "numbers of requests, from 1"));
        }
        let kind = self.kind(rule)?;
        if let Some(key) = self.unused() {
            return Err(PlanError::NotForThisKind { rule, kind: kind.name(), key });
        }
        let found = FaultRule {
            method: self.method,
            path: self.path,
            on: self.on,
            every: self.every,
            probability: self.probability,
            times: self.times,
            applied: self.applied,
            kind,
        };
        if !routes::templates().any(|(method, template)| found.matches(method, template)) {
            return Err(PlanError::UnknownPath { rule, path: found.path });
        }
        Ok(found)
    }

    /// Takes what the kind needs; what is left then does not belong to it.
    fn kind(&mut self, rule: usize) -> Result<FaultKind, PlanError> {
        let needed = |key, allowed| PlanError::Invalid { rule, key, allowed };
        Ok(match self.kind {
            Name::TooManyRequests => {
                let seconds = self.retry_after_secs.take().unwrap_or(1);
                let retry_after = match self.retry_after.take().unwrap_or(Form::Seconds) {
                    Form::Seconds => RetryAfter::Seconds(seconds),
                    Form::Date => RetryAfter::Date(seconds),
                    Form::Missing => RetryAfter::Missing,
                };
                let limit_key = self.limit_key.take().unwrap_or_else(|| routes::TOKEN_LIMIT.to_owned());
                FaultKind::TooManyRequests { retry_after, limit_key }
            }
            Name::Status => {
                let status = self.status.take().filter(|status| (400..=599).contains(status));
                FaultKind::Status(status.ok_or_else(|| needed("status", "within 400 and 599"))?)
            }
            Name::Slow | Name::Late => {
                let delay = self.delay_ms.take().ok_or_else(|| needed("delay_ms", "given, in milliseconds"))?;
                let delay = Duration::from_millis(delay);
                if matches!(self.kind, Name::Slow) { FaultKind::Slow(delay) } else { FaultKind::Late(delay) }
            }
            Name::Cut => FaultKind::Cut { after: self.bytes.take() },
            Name::TokenExpired => FaultKind::TokenExpired,
            Name::TokenRateLimit => FaultKind::TokenRateLimit,
            Name::JobExpired => FaultKind::JobExpired,
            Name::JobFailed => FaultKind::JobFailed,
            Name::JobStuck => FaultKind::JobStuck,
            Name::RepeatRows => FaultKind::RepeatRows(self.rows.take().unwrap_or(5)),
            Name::SkipRows => FaultKind::SkipRows(self.rows.take().unwrap_or(5)),
            Name::MovingTotal => FaultKind::MovingTotal(self.rows.take().unwrap_or(5) as u64),
            Name::MissingSentiment => FaultKind::MissingSentiment,
            Name::WrongContentType => FaultKind::WrongContentType,
            Name::Oversized => FaultKind::Oversized { bytes: self.bytes.take().unwrap_or(64 << 20) },
            Name::Redirect => FaultKind::Redirect {
                location: self.location.take().unwrap_or_else(|| "http://elsewhere.invalid/".to_owned()),
            },
        })
    }

    fn unused(&self) -> Option<&'static str> {
        let given = [
            ("retry_after_secs", self.retry_after_secs.is_some()),
            ("retry_after", self.retry_after.is_some()),
            ("limit_key", self.limit_key.is_some()),
            ("status", self.status.is_some()),
            ("delay_ms", self.delay_ms.is_some()),
            ("bytes", self.bytes.is_some()),
            ("rows", self.rows.is_some()),
            ("location", self.location.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_plans() {
        for (name, ..) in PRESETS {
            assert!(FaultPlan::preset(name).is_ok_and(|plan| !plan.rules.is_empty()), "{name}");
        }
        assert!(FaultPlan::preset("none at all").is_err_and(|err| err.to_string().contains("rough")));
    }

    #[test]
    fn a_mistake_is_named() {
        let wrong = |rest: &str| match FaultPlan::parse(&format!("[[fault]]\npath = \"/oauth/token\"\n{rest}")) {
            Err(err) => {
                format!("{err}: {}", std::error::Error::source(&err).map_or(String::new(), ToString::to_string))
            }
            Ok(plan) => panic!("{plan:?}"),
        };
        assert!(wrong("kind = \"status\"\nstatus = 200").contains("`status` must be within 400 and 599"));
        assert!(wrong("kind = \"cut\"\nrows = 2").contains("kind `cut` has no `rows`"));
        assert!(wrong("kind = \"cut\"\nbites = 2").contains("bites"));
        assert!(wrong("kind = \"cut\"\nprobability = 2.0").contains("within 0 and 1"));
        let nowhere = FaultPlan::parse("[[fault]]\npath = \"/nowhere\"\nkind = \"cut\"");
        assert!(nowhere.is_err_and(|err| err.to_string().contains("`/nowhere` matches no endpoint")));
    }
}
