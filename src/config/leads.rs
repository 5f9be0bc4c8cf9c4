//! `[leads]`, `[events]` and `[push]`: how old scores of leads may grow, who tells them, and where they are pushed to.

use std::path::PathBuf;

use toml::Value;

use super::layers::Reader;
use super::value::{Setting, quoted};
use super::{callbacks, duration, whole};
use crate::leads::LeadSettings;
use crate::worker::{LeadTargets, PushSettings};
use scoreline_domain::privacy::signature::{TOLERANCE, Verifier};
use scoreline_genesys::GenesysSettings;
use scoreline_genesys::settings::Api;
use scoreline_store::ScoreRules;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

impl Setting for LeadTargets {
    const ALLOWED: &'static str = "`none`, `contact_list` or `lead_entity`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "none" => Some(Self::None),
            "contact_list" => Some(Self::ContactLists),
            "lead_entity" => Some(Self::Entity),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self {
            Self::None => "none",
            Self::ContactLists => "contact_list",
            Self::Entity => "lead_entity",
        })
    }
}

pub(super) fn leads(read: &mut Reader) -> LeadSettings {
    let stale_after = duration(read, "leads.stale_after", "from `1h` to `168h`", HOUR, 168 * HOUR);
    let refresh_after = duration(read, "leads.refresh_after", "from `10m` to `168h`", HOUR / 6, 168 * HOUR);
    let clock_skew = duration(read, "leads.clock_skew", "from `0s` to `1h`", 0, HOUR);
    let stale_value = whole(read, "leads.stale_value", 0, 1) as u8;
    if refresh_after >= stale_after {
        let problem = format!("must be below `leads.stale_after`: {refresh_after:?} and {stale_after:?}");
        read.problem("leads.refresh_after", problem);
    }
    let remember = duration(read, "events.remember", "from `1h` to `720h`", HOUR, 720 * HOUR);
    let rules = ScoreRules { stale_after, refresh_after, remember };
    LeadSettings { rules, clock_skew, stale_value }
}

/// What events are signed with; `None` without a file of secrets: then their senders need a token.
pub(super) fn events(read: &mut Reader, body_limit: usize) -> Option<Verifier> {
    let file: Option<PathBuf> = read.optional("events.secrets_file");
    let secrets = file.as_deref().map(callbacks::secrets)?;
    secrets
        .map_err(|problem| read.problem("events.secrets_file", problem))
        .ok()
        .map(|secrets| Verifier::new(secrets, TOLERANCE, body_limit))
}

pub(super) fn push(read: &mut Reader, genesys: Option<&GenesysSettings>) -> PushSettings {
    let sink: LeadTargets = read.get("push.sink");
    let every = duration(read, "push.every", "from `100ms` to `1m`", 100, 60 * SECOND);
    let batch = whole(read, "push.batch", 1, 1000) as u32;
    let absent_retry = duration(read, "push.absent_retry", "from `1m` to `24h`", 60 * SECOND, 24 * HOUR);
    let give_up_after = duration(read, "push.give_up_after", "from `1m` to `168h`", 60 * SECOND, 168 * HOUR);
    let problem = match (sink, genesys) {
        (LeadTargets::None, _) => None,
        (_, None) => Some("needs a platform: set `[genesys]`, with `genesys.client_id` and its secret".to_owned()),
        (LeadTargets::ContactLists, Some(genesys)) if genesys.api == Api::Documented => Some(
            "can be `contact_list` only with `genesys.api` = `platform`; the guides' API has `lead_entity`".to_owned(),
        ),
        (LeadTargets::ContactLists, Some(genesys)) if genesys.outbound.contact_lists.is_empty() => {
            Some("needs the ids of contact lists: set `genesys.outbound.contact_lists`".to_owned())
        }
        (LeadTargets::Entity, Some(genesys)) if genesys.api == Api::Platform => Some(
            "can be `lead_entity` only with `genesys.api` = `documented`; the platform has `contact_list`".to_owned(),
        ),
        (LeadTargets::Entity, Some(genesys)) if genesys.data_service_id.is_none() => {
            Some("needs the data service of the entity: set `genesys.data_service_id`".to_owned())
        }
        (LeadTargets::ContactLists | LeadTargets::Entity, Some(_)) => None,
    };
    if let Some(problem) = problem {
        read.problem("push.sink", problem);
    }
    PushSettings { sink, every, batch, absent_retry, give_up_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: &[(&str, &str)]) -> Result<crate::config::Settings, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::load(None, given).map_err(|problems| problems.to_string())
    }

    #[test]
    fn nothing_is_pushed_unless_somebody_says_where() {
        let settings = load(&[]).expect("the defaults are valid");
        assert_eq!(settings.push.sink, LeadTargets::None);
        assert!(settings.event_keys.is_none());
        assert_eq!(settings.leads.rules.stale_after.as_secs(), 24 * 3600);
    }

    #[test]
    fn what_does_not_fit_together_is_told_at_its_key() {
        for (given, said) in [
            (vec![("SCORELINE__PUSH__SINK", "contact_list")], "`push.sink` needs a platform"),
            (vec![("SCORELINE__PUSH__SINK", "file")], "`push.sink` must be `none`, `contact_list` or `lead_entity`"),
            (vec![("SCORELINE__LEADS__STALE_AFTER", "30m")], "`leads.stale_after` must be"),
            (
                vec![("SCORELINE__LEADS__REFRESH_AFTER", "24h")],
                "`leads.refresh_after` must be below `leads.stale_after`",
            ),
            (vec![("SCORELINE__LEADS__STALE_VALUE", "2")], "`leads.stale_value` must be"),
            (vec![("SCORELINE__EVENTS__SECRETS_FILE", "/does/not/exist")], "`events.secrets_file`"),
        ] {
            let told = load(&given).expect_err("refused");
            assert!(told.contains(said), "{told}");
        }
    }
}
