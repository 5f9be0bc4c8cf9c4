//! `[store]`: an SQLite file or a PostgreSQL server, and how much each may take.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::layers::Reader;
use super::value::{Bytes, Setting, quoted};
use super::{duration, whole};
use scoreline_store::{Check, Place, StoreSettings};

impl Setting for Check {
    const ALLOWED: &'static str = "`quick` or `full`";

    fn read(value: &toml::Value) -> Option<Self> {
        match value.as_str()? {
            "quick" => Some(Self::Quick),
            "full" => Some(Self::Full),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(match self {
            Self::Quick => "quick",
            Self::Full => "full",
        })
    }
}

/// Where a store is that nobody named a place for.
const FILE: &str = "state/scoreline.db";

/// The settings, and whether a server uses them: one that has no platform to read from, and nobody named a store for, has
/// nothing to keep.
pub(super) fn section(read: &mut Reader, has_platform: bool, keys_last: bool) -> (StoreSettings, bool) {
    let path: Option<PathBuf> = read.optional("store.path");
    let allowed = "a URL of PostgreSQL, such as `postgres://user:password@host/database`";
    let url: Option<SecretString> = read.optional_if("store.url", allowed, is_postgres);
    let check = read.get("store.check");
    let allowed = "a size from `1MiB` to `64GiB`";
    let cache_size = read.get_if("store.cache_size", allowed, |size: &Bytes| (1 << 20..=64 << 30).contains(&size.0)).0;
    let connections = whole(read, "store.connections", 1, 256);
    let statement_timeout = duration(read, "store.statement_timeout", "from `1s` to `24h`", 1_000, 24 * 3_600_000);
    if path.is_some() && url.is_some() {
        read.problem("store.url", "cannot be used together with `store.path`: keep one of them");
    }
    let used = has_platform || path.is_some() || url.is_some();
    if used && !keys_last {
        let problem = "is needed with `[genesys]`, `store.path` or `store.url`: without a pepper that lasts, nothing that \
                       is kept is found again after a restart";
        read.problem("privacy.pepper_file", problem);
    }
    let file = Place::Sqlite(path.unwrap_or_else(|| PathBuf::from(FILE)));
    let place = url.map_or(file, Place::Postgres);
    (StoreSettings { place, check, cache_size, connections: connections as u32, statement_timeout }, used)
}

fn is_postgres(url: &SecretString) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.expose_secret().starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEPPER: (&str, &str) = ("SCORELINE__PRIVACY__PEPPER", "a pepper that lasts");

    fn load(given: &[(&str, &str)]) -> Result<crate::config::Settings, Vec<String>> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::load(None, given).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn who_only_predicts_has_no_store() {
        assert!(!load(&[]).expect("the defaults are valid").serves_store);
    }

    #[test]
    fn a_store_that_is_named_is_used() {
        let settings = load(&[PEPPER, ("SCORELINE__STORE__PATH", "here.db")]).expect("valid");
        assert!(
            settings.serves_store
                && matches!(settings.store.place, Place::Sqlite(path) if path.as_os_str() == "here.db")
        );
        let settings = load(&[PEPPER, ("SCORELINE__STORE__URL", "postgres://u:p@h/d")]).expect("valid");
        assert!(settings.serves_store && matches!(settings.store.place, Place::Postgres(_)));
    }

    #[test]
    fn the_url_is_one_of_postgresql_and_alone_and_a_pepper_is_needed() {
        let problems =
            load(&[PEPPER, ("SCORELINE__STORE__URL", "mysql://u:verysecret@h/d")]).expect_err("another database");
        assert!(problems[0].contains("`store.url`") && problems[0].contains("`postgres://"), "{problems:?}");
        assert!(!problems[0].contains("verysecret"), "{problems:?}");
        let both = [PEPPER, ("SCORELINE__STORE__URL", "postgres://h/d"), ("SCORELINE__STORE__PATH", "x.db")];
        assert!(load(&both).expect_err("two stores")[0].contains("`store.path`"));
        let problems = load(&[("SCORELINE__STORE__PATH", "here.db")]).expect_err("no pepper");
        assert!(problems[0].contains("`privacy.pepper_file` is needed with"), "{problems:?}");
    }
}
