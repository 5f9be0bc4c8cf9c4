//! `[extract]`, `[features]` and `[rescore]`: when history is fetched, folded and scored.

use super::layers::Reader;
use super::{duration, whole};
use crate::worker::{ExtractSettings, UpkeepSettings};

pub(super) fn extract(read: &mut Reader) -> ExtractSettings {
    let every = duration(read, "extract.every", "from `1m` to `168h`", 60_000, 168 * 3_600_000);
    let jitter = duration(read, "extract.jitter", "from `0s` to `24h`", 0, 24 * 3_600_000);
    if jitter > every {
        read.problem("extract.jitter", "must not be longer than `extract.every`");
    }
    // Ten years: no retention period is longer.
    let look_back_days = whole(read, "extract.look_back_days", 1, 3660) as u32;
    ExtractSettings { every, jitter, look_back_days }
}

pub(super) fn upkeep(read: &mut Reader) -> UpkeepSettings {
    let every = |read: &mut Reader, key| duration(read, key, "from `1s` to `24h`", 1_000, 24 * 3_600_000);
    UpkeepSettings { features_every: every(read, "features.every"), rescore_every: every(read, "rescore.every") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn history_is_fetched_every_four_hours_for_a_year_unless_said_otherwise() {
        let settings = crate::config::load(None, std::iter::empty()).expect("the defaults are valid");
        assert_eq!(settings.extract.every, Duration::from_hours(4));
        assert_eq!(settings.extract.look_back_days, 365);
    }

    #[test]
    fn problems_name_the_key_and_what_is_allowed() {
        let given = [
            ("SCORELINE__EXTRACT__EVERY", "10s"),
            ("SCORELINE__EXTRACT__LOOK_BACK_DAYS", "0"),
            ("SCORELINE__RESCORE__EVERY", "0s"),
        ];
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let problems = crate::config::load(None, given).expect_err("three problems").0;
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts[0].contains("`extract.every`") && texts[0].contains("from `1m` to `168h`"), "{texts:?}");
        assert!(texts[1].contains("from 1 to 3660"), "{texts:?}");
        assert!(texts[2].contains("`rescore.every`"), "{texts:?}");
    }
}
