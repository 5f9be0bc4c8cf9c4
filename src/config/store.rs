//! `[store]`: where history, features and scores are kept, if at all.

use std::path::PathBuf;

use figment::value::Value;
use secrecy::{ExposeSecret as _, SecretString};

use super::layers::Reader;
use super::problem::Origin;
use super::value::{Bytes, Setting, quoted};
use super::{duration, whole};
use crate::store::{Check, Place, StoreSettings};

impl Setting for Check {
    const ALLOWED: &'static str = "`quick` or `full`";

    fn read(value: &Value) -> Option<Self> {
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

/// `None` for a server that only predicts: it has no platform to read from and nobody named a store, so there is nothing
/// to keep and no file is made.
pub(super) fn read(read: &mut Reader, has_platform: bool) -> Option<StoreSettings> {
    let path: PathBuf = read.get("store.path");
    let allowed = "a URL of PostgreSQL, such as `postgres://user:password@host/database`";
    let url: Option<SecretString> = read.optional_if("store.url", allowed, |url: &SecretString| {
        let url = url.expose_secret();
        url.starts_with("postgres://") || url.starts_with("postgresql://")
    });
    let check: Check = read.get("store.check");
    let size = "a size from `1MiB` to `64GiB`, such as `64MiB`";
    let cache_size = read.get_if("store.cache_size", size, |size: &Bytes| (1 << 20..=64 << 30).contains(&size.0)).0;
    let connections = whole(read, "store.connections", 1, 256) as u32;
    let statement_timeout = duration(read, "store.statement_timeout", "from `1s` to `1h`", 1_000, 3_600_000);

    let named = read.origin_of("store.path") != Origin::Default;
    if named && url.is_some() {
        read.problem("store.url", "can not be used together with `store.path`: keep one of them");
    }
    let place = match url {
        Some(url) => Place::Postgres(url),
        None if named || has_platform => Place::Sqlite(path),
        None => return None,
    };
    Some(StoreSettings { place, check, cache_size, connections, statement_timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: &[(&str, &str)]) -> Result<crate::config::Settings, Vec<String>> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::load(None, given).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn who_only_predicts_has_no_store() {
        assert!(load(&[]).expect("the defaults are valid").store.is_none());
    }

    #[test]
    fn a_store_is_where_it_is_said_to_be() {
        let settings = load(&[("SCORELINE__STORE__PATH", "here.db")]).expect("valid");
        let store = settings.store.expect("a store");
        assert!(matches!(store.place, Place::Sqlite(path) if path == PathBuf::from("here.db")));
        let settings = load(&[("SCORELINE__STORE__URL", "postgres://u:p@h/d")]).expect("valid");
        assert!(matches!(settings.store.expect("a store").place, Place::Postgres(_)));
    }

    #[test]
    fn the_url_is_one_of_postgresql_and_alone() {
        let problems = load(&[("SCORELINE__STORE__URL", "mysql://u:verysecret@h/d")]).expect_err("another database");
        assert!(problems[0].contains("`store.url`") && problems[0].contains("`postgres://"), "{problems:?}");
        assert!(!problems[0].contains("verysecret"), "{problems:?}");
        let both = [("SCORELINE__STORE__URL", "postgres://h/d"), ("SCORELINE__STORE__PATH", "x.db")];
        let problems = load(&both).expect_err("two stores");
        assert!(problems[0].contains("`store.path`"), "{problems:?}");
    }
}
