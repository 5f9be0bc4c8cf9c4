//! `[store]`: an SQLite file or a PostgreSQL server, and how much each may take.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::layers::Reader;
use super::problem::Origin;
use super::value::{Bytes, Setting, quoted};
use super::{duration, whole};
use crate::store::{Check, Place, StoreSettings};

impl Setting for Check {
    const ALLOWED: &'static str = "`quick` or `full`";

    fn read(value: &figment::value::Value) -> Option<Self> {
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

pub(super) fn section(read: &mut Reader) -> StoreSettings {
    let path: PathBuf = read.get("store.path");
    let allowed = "a URL of PostgreSQL, such as `postgres://user:password@host/database`";
    let url: Option<SecretString> = read.optional_if("store.url", allowed, is_postgres);
    let check = read.get("store.check");
    let allowed = "a size from `1MiB` to `64GiB`";
    let cache_size = read.get_if("store.cache_size", allowed, |size: &Bytes| (1 << 20..=64 << 30).contains(&size.0)).0;
    let connections = whole(read, "store.connections", 1, 256);
    let statement_timeout = duration(read, "store.statement_timeout", "from `1s` to `24h`", 1_000, 24 * 3_600_000);
    let place = match url {
        Some(url) => {
            match read.origin_of("store.path") {
                Origin::Default => {}
                Origin::File(_) | Origin::Environment(_) => {
                    read.problem("store.url", "can not be used together with `store.path`: keep one of them");
                }
            }
            Place::Postgres(url)
        }
        None => Place::Sqlite(path),
    };
    StoreSettings { place, check, cache_size, connections: connections as u32, statement_timeout }
}

fn is_postgres(url: &SecretString) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.expose_secret().starts_with(scheme))
}
