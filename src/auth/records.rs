//! Making and taking back credentials: what `scoreline auth` does to the credentials file.

use std::path::Path;

use serde::Serialize;
use zeroize::Zeroizing;

use super::caller::Scopes;
use super::file::{Credentials, FileFault, RateRecord, SecretRecord, append};
use super::secret::{API_KEY, Hashed, new_id, new_secret};
use scoreline_domain::time::Timestamp;

/// A secret that was just made. It is nowhere else.
pub struct NewSecret {
    pub id: String,
    /// An API key in full, or a client's secret.
    pub secret: Zeroizing<String>,
}

/// Makes an API key, keeps its hash in the file, and returns it.
///
/// # Errors
/// When the file cannot be read or written.
pub fn add_key(
    path: &Path,
    name: &str,
    scopes: Scopes,
    rates: RateRecord,
    now: Timestamp,
) -> Result<NewSecret, FileFault> {
    let NewSecret { id, secret } = add(path, "key", name, scopes, rates, now)?;
    let key = Zeroizing::new(format!("{API_KEY}{id}_{}", secret.as_str()));
    Ok(NewSecret { id, secret: key })
}

/// Makes an OAuth client, keeps its secret's hash in the file, and returns it.
///
/// # Errors
/// When the file cannot be read or written.
pub fn add_client(
    path: &Path,
    name: &str,
    scopes: Scopes,
    rates: RateRecord,
    now: Timestamp,
) -> Result<NewSecret, FileFault> {
    add(path, "client", name, scopes, rates, now)
}

/// Takes back a key or a client. Whether there was one that was not taken back before.
///
/// # Errors
/// When the file cannot be read or written.
pub fn revoke(path: &Path, id: &str, now: Timestamp) -> Result<bool, FileFault> {
    #[derive(Serialize)]
    struct Revoked<'a> {
        id: &'a str,
        at: String,
    }
    let (credentials, _) = Credentials::read(path)?;
    if !credentials.knows(id) || credentials.is_revoked(id) {
        return Ok(false);
    }
    append(path, "revoked", &Revoked { id, at: written(now) })?;
    Ok(true)
}

fn add(
    path: &Path,
    kind: &str,
    name: &str,
    scopes: Scopes,
    rates: RateRecord,
    now: Timestamp,
) -> Result<NewSecret, FileFault> {
    let secret = new_secret();
    // 50 random bits: two alike in one file are refused when it is read.
    let id = new_id();
    let record = SecretRecord {
        id: id.clone(),
        name: name.to_owned(),
        secret: Hashed::of(&secret),
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        created_at: Some(written(now)),
        rates,
    };
    append(path, kind, &record)?;
    Ok(NewSecret { id, secret })
}

/// To the second: nobody needs more.
fn written(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
