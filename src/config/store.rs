//! `[store]`: an SQLite file or a PostgreSQL server, and how much each may take.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::layers::Reader;
use super::problem::ValueOrigin;
use super::value::{Bytes, Setting, quoted};
use super::{duration, whole};
use scoreline_store::{Check, StorePlace, StoreSettings};

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

/// The path that stands for a store in memory.
const MEMORY: &str = ":memory:";

pub(super) fn section(read: &mut Reader, has_pepper: bool) -> StoreSettings {
    let path: PathBuf = read.get("store.path");
    let allowed = "a URL of PostgreSQL with one host, such as `postgres://user:password@host/database`";
    let url: Option<SecretString> = read.optional_if("store.url", allowed, is_postgres);
    if url.as_ref().is_some_and(has_password) {
        read.keep_private("store.url", "it as SCORELINE__STORE__URL");
    }
    let check = read.get("store.check");
    let allowed = "a size from `1MiB` to `64GiB`";
    let cache_size = read.get_if("store.cache_size", allowed, |size: &Bytes| (1 << 20..=64 << 30).contains(&size.0)).0;
    let connections = whole(read, "store.connections", 1, 256);
    let statement_timeout = duration(read, "store.statement_timeout", "from `1s` to `24h`", 1_000, 24 * 3_600_000);
    if url.is_some() && read.origin_of("store.path") != ValueOrigin::Default {
        read.problem("store.url", "cannot be used together with `store.path`: keep one of them");
    }
    if url.is_some() && !has_pepper {
        let problem = "is needed with `store.url`: replicas that share a store must hash customers alike";
        read.problem("privacy.pepper_file", problem);
    }
    let file = if path.as_os_str() == MEMORY { StorePlace::Memory } else { StorePlace::Sqlite(path) };
    let place = url.map_or(file, StorePlace::Postgres);
    StoreSettings { place, check, cache_size, connections: connections as u32, statement_timeout }
}

/// A list of hosts, which other clients try one after the other, would be taken for the name of one.
fn is_postgres(url: &SecretString) -> bool {
    let is_scheme = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose_secret().starts_with(scheme));
    let (place, parameters) = parts(url);
    let (_, host) = place.rsplit_once('@').unwrap_or(("", place));
    let host = host.split('/').next().unwrap_or_default();
    let is_list = |parameter: &str| {
        let named = ["host=", "hostaddr=", "port="].iter().find_map(|name| parameter.strip_prefix(name));
        named.is_some_and(|value| value.contains(',') || value.to_ascii_lowercase().contains("%2c"))
    };
    is_scheme && !host.contains(',') && !parameters.split('&').any(is_list)
}

/// What stands before the parameters of a URL, and these.
fn parts(url: &SecretString) -> (&str, &str) {
    let (_, rest) = url.expose_secret().split_once("://").unwrap_or_default();
    rest.split_once('?').unwrap_or((rest, ""))
}

/// Whether there is a password before the host, or among the parameters.
fn has_password(url: &SecretString) -> bool {
    let (place, parameters) = parts(url);
    let user = place.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || parameters.split('&').any(|parameter| parameter.starts_with("password="))
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
    fn there_is_always_a_store() {
        let place = |given: &[(&str, &str)]| load(given).expect("valid").store.place;
        assert!(matches!(place(&[]), StorePlace::Sqlite(path) if path.as_os_str() == "state/scoreline.db"));
        let here = place(&[("SCORELINE__STORE__PATH", "here.db")]);
        assert!(matches!(here, StorePlace::Sqlite(path) if path.as_os_str() == "here.db"));
        assert!(matches!(place(&[("SCORELINE__STORE__PATH", ":memory:")]), StorePlace::Memory));
        let url = ("SCORELINE__STORE__URL", "postgres://u:p@h/d");
        assert!(matches!(place(&[PEPPER, url]), StorePlace::Postgres(_)));
    }

    #[test]
    fn a_password_is_found_wherever_the_url_has_it() {
        let found = |url: &str| has_password(&SecretString::from(url));
        for url in ["postgres://u:p@h/d", "postgres://u:a/b@c@h:1/d", "postgres://h/d?sslmode=require&password=p"] {
            assert!(found(url), "{url}");
        }
        for url in
            ["postgres://h/d", "postgres://h:5432/d", "postgres://u@h:5432/d?user=x:y", "postgresql:///d?host=/run"]
        {
            assert!(!found(url), "{url}");
        }
    }

    #[test]
    fn a_list_of_hosts_is_refused() {
        let is_taken = |url: &str| is_postgres(&SecretString::from(url));
        for url in [
            "postgres://a,b/d",
            "postgres://u:p@a:1,b:2/d",
            "postgres:///d?host=a,b",
            "postgres://a/d?port=1,2",
            "postgres:///d?sslmode=require&host=a%2Cb",
        ] {
            assert!(!is_taken(url), "{url}");
        }
        for url in ["postgres://u:a,b@h/d", "postgres://h/a,b", "postgres:///d?host=/run", "postgresql://[::1]:5432/d"]
        {
            assert!(is_taken(url), "{url}");
        }
    }

    #[test]
    fn the_url_is_one_of_postgresql_and_alone_and_needs_a_pepper() {
        let problems =
            load(&[PEPPER, ("SCORELINE__STORE__URL", "mysql://u:verysecret@h/d")]).expect_err("another database");
        assert!(problems[0].contains("`store.url`") && problems[0].contains("`postgres://"), "{problems:?}");
        assert!(!problems[0].contains("verysecret"), "{problems:?}");
        let both = [PEPPER, ("SCORELINE__STORE__URL", "postgres://h/d"), ("SCORELINE__STORE__PATH", "x.db")];
        assert!(load(&both).expect_err("two stores")[0].contains("`store.path`"));
        let problems = load(&[("SCORELINE__STORE__URL", "postgres://h/d")]).expect_err("no pepper");
        assert!(problems[0].contains("`privacy.pepper_file` is needed with `store.url`"), "{problems:?}");
    }
}
