//! An external issuer: its settings, its keys, and when to fetch them again.
//!
//! Requests read the last good keys and never wait for a fetch. A `kid` that is not known sets a flag; the keeper's next
//! fetch follows within a second unless one was tried in the last 30 seconds, so forged ids cannot make a storm.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use reqwest::Url;
use sha2::{Digest, Sha256};

use super::caller::{Caller, Proof, Scopes};
use super::fault::AuthRefusal;
use super::file::IssuerRecord;
use super::keyset::{ALLOWED, KeySet, LARGEST};
use super::mint::OURSELVES;
use super::pace::{Pace, Rates};
use super::token::Token;
use super::token_scopes::TokenScopes;
use scoreline_domain::text::hex;
use scoreline_domain::time::Clock;
use scoreline_domain::trace::{self, TRACEPARENT};

/// Pause between two tries, whatever the reason.
pub(super) const COOLDOWN: Duration = Duration::from_secs(30);
/// Keys are fetched again after this time.
const REFRESH: Duration = Duration::from_mins(5);
/// Keys that could not be refreshed for so long are not used any more.
const STALE: Duration = Duration::from_hours(24);
const CONNECT: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(10);
/// Subjects whose rates are told apart; beyond, new ones share one.
const MOST_SUBJECTS: usize = 10_000;

pub(super) struct Issuer {
    record: IssuerRecord,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    scopes: TokenScopes,
    rates: Rates,
    source: KeySource,
    keys: ArcSwapOption<Fetched>,
    /// A token named a key that is not there.
    wanted: AtomicBool,
    refresh: Mutex<Refresh>,
    subjects: Mutex<HashMap<[u8; 8], Arc<Pace>>>,
}

struct Fetched {
    keys: KeySet,
    at: Duration,
}

enum KeySource {
    Url { url: Url, client: reqwest::Client },
    File(PathBuf),
}

/// When keys were asked for. Touched by the keeper only.
#[derive(Default)]
struct Refresh {
    last_try: Option<Duration>,
    failed: bool,
    running: bool,
}

/// Why keys did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchFault {
    #[error("the key set was answered with status {0}")]
    Status(u16),
    #[error("the key set cannot be fetched")]
    Http(#[source] reqwest::Error),
    #[error("the key set file cannot be read")]
    File(#[source] std::io::Error),
    #[error("the key set {0}")]
    KeySet(#[from] super::keyset::KeySetFault),
}

impl Issuer {
    /// # Errors
    /// What is wrong with the record.
    pub(super) fn new(record: IssuerRecord, most: Scopes, rates: Rates) -> Result<Self, String> {
        if record.issuer.is_empty() || record.issuer == OURSELVES {
            return Err(format!("`issuer` must be the `iss` of its tokens and not `{OURSELVES}`"));
        }
        let audiences = record.audience.as_slice().to_vec();
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err("`audience` must name the audience of tokens for this server".to_owned());
        }
        let named =
            |name: &String| ALLOWED.iter().find(|(allowed, _)| allowed == name).map(|(_, algorithm)| *algorithm);
        let algorithms: Option<Vec<_>> = record.algorithms.iter().map(named).collect();
        let algorithms = algorithms.filter(|algorithms| !algorithms.is_empty()).ok_or_else(|| {
            let allowed: Vec<_> = ALLOWED.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("`algorithms` must be a list of {}", allowed.join(", "))
        })?;
        let source = match (&record.jwks_url, &record.jwks_file) {
            (Some(url), None) => KeySource::url(url)?,
            (None, Some(path)) => KeySource::File(path.clone()),
            (Some(_), Some(_)) | (None, None) => return Err("needs `jwks_url` or `jwks_file`, one of them".to_owned()),
        };
        Ok(Self {
            scopes: TokenScopes::new(&record, most)?,
            record,
            audiences,
            algorithms,
            rates,
            source,
            keys: ArcSwapOption::empty(),
            wanted: AtomicBool::new(false),
            refresh: Mutex::default(),
            subjects: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.record.name
    }

    /// Whether a record says the same, so that the keys can be kept.
    pub(super) fn is_of(&self, record: &IssuerRecord, rates: Rates) -> bool {
        self.record == *record && self.rates == rates
    }

    pub(super) fn issues(&self, iss: &str) -> bool {
        self.record.issuer == iss
    }

    /// The caller of a token; `now` in seconds of Unix time.
    pub(super) fn verify(
        &self,
        token: &Token<'_>,
        now: f64,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Caller>, AuthRefusal> {
        if !self.algorithms.contains(&token.algorithm()) {
            return Err(AuthRefusal::Algorithm);
        }
        let fetched = self.keys.load();
        let fresh = fetched.as_ref().filter(|fetched| clock.monotonic().saturating_sub(fetched.at) <= STALE);
        let keys = &fresh.ok_or(AuthRefusal::NoKeys)?.keys;
        let key = keys.find(token.kid.as_deref(), token.algorithm()).inspect_err(|refusal| {
            if *refusal == AuthRefusal::UnknownKey {
                self.wanted.store(true, Ordering::Relaxed);
            }
        })?;
        token.verify(key)?;
        token.claims.judge(now, &self.audiences)?;
        let scopes = self.scopes.of(token)?;
        // A subject may be a person: callers are told apart and named by a hash.
        let subject = token.claims.subject().unwrap_or_default();
        let digest = Sha256::new().chain_update(&self.record.issuer).chain_update([0]).chain_update(subject).finalize();
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        let name = format!("{}#{}", self.record.name, hex(&key));
        Ok(Arc::new(Caller::new(name, Proof::IssuerToken, scopes, self.pace(key, clock))))
    }

    /// Whether to ask for keys now; who is told so has to call `fetched`.
    pub(super) fn begin_if_due(&self, now: Duration) -> bool {
        let mut refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let due = match refresh.last_try {
            None => true,
            Some(last) => {
                let age = now.saturating_sub(last);
                // A fetch that never came back (its task died) does not hold up the next for ever.
                let idle = !refresh.running || age >= COOLDOWN + TOTAL;
                let early = refresh.failed || self.wanted.load(Ordering::Relaxed);
                idle && (age >= REFRESH || age >= COOLDOWN && early)
            }
        };
        if due {
            self.wanted.store(false, Ordering::Relaxed);
            *refresh = Refresh { last_try: Some(now), running: true, failed: false };
        }
        due
    }

    /// Asks for keys once. Whether they are others than before.
    pub(super) async fn fetch(&self, clock: &Arc<dyn Clock>) -> Result<bool, FetchFault> {
        let document = match &self.source {
            KeySource::Url { url, client } => get(client, url).await,
            KeySource::File(path) => read(path.clone()).await,
        };
        let parsed = document.and_then(|document| Ok(KeySet::parse(&document, &self.algorithms)?));
        let mut refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        refresh.running = false;
        refresh.failed = parsed.is_err();
        drop(refresh);
        let keys = parsed?;
        let changed = self.keys.load().as_ref().is_none_or(|before| before.keys.digest != keys.digest);
        self.keys.store(Some(Arc::new(Fetched { keys, at: clock.monotonic() })));
        Ok(changed)
    }

    /// Age of the keys in use, and how many there are.
    pub(super) fn keys(&self, now: Duration) -> Option<(Duration, usize)> {
        self.keys.load().as_ref().map(|fetched| (now.saturating_sub(fetched.at), fetched.keys.len()))
    }

    fn pace(&self, subject: [u8; 8], clock: &Arc<dyn Clock>) -> Arc<Pace> {
        let new = || Arc::new(Pace::new(self.rates, clock));
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = subjects.get(&subject) {
            return Arc::clone(pace);
        }
        if subjects.len() >= MOST_SUBJECTS {
            // Callers of cached tokens hold theirs.
            subjects.retain(|_, pace| Arc::strong_count(pace) > 1);
        }
        let slot = if subjects.len() >= MOST_SUBJECTS { [0; 8] } else { subject };
        Arc::clone(subjects.entry(slot).or_insert_with(new))
    }
}

impl KeySource {
    /// https, or http to this machine: a key set that somebody on the way can replace lets them in.
    fn url(text: &str) -> Result<Self, String> {
        let problem = |what: &str| format!("`jwks_url` {what}, got `{text}`");
        let url = Url::parse(text).map_err(|_| problem("must be a URL"))?;
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        if !matches!(url.scheme(), "https" | "http") || url.scheme() == "http" && !local {
            return Err(problem("must begin with `https://`; `http://` is for this machine only"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(problem("must have no user, password or fragment"));
        }
        // Forms such as 2130706433 or 0x7f.1 are rewritten by the parser, so they are not in the text as they are used.
        if host.is_empty() || !text.to_ascii_lowercase().contains(host) || address.is_some() && !local {
            return Err(problem("must name its host by a domain name"));
        }
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .user_agent(concat!("scoreline/", env!("CARGO_PKG_VERSION")));
        // To this machine no certificate is needed, and no proxy.
        let builder =
            if url.scheme() == "http" { builder.no_proxy().tls_certs_only([]) } else { builder.https_only(true) };
        let client = builder.build().map_err(|err| format!("`jwks_url` cannot be used: {err}"))?;
        Ok(Self::Url { url, client })
    }
}

async fn get(client: &reqwest::Client, url: &Url) -> Result<Vec<u8>, FetchFault> {
    let mut request = client.get(url.clone()).header(reqwest::header::ACCEPT, "application/json");
    let call = trace::Call::begin("issuer keys");
    if let Some(call) = &call {
        request = request.header(TRACEPARENT, call.parent().to_string());
    }
    let response = request.send().await;
    if let Some(call) = call {
        call.end(response.as_ref().map(|response| response.status().as_u16()).map_err(|_| "unreachable"));
    }
    let mut response = response.map_err(FetchFault::Http)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchFault::Status(response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(FetchFault::Http)? {
        if document.len() + chunk.len() > LARGEST {
            return Err(super::keyset::KeySetFault::TooLarge.into());
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document)
}

async fn read(path: PathBuf) -> Result<Vec<u8>, FetchFault> {
    use std::io::Read as _;
    let read = move || {
        let mut document = Vec::new();
        std::fs::File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut document).map(|_| document)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(document) => document.map_err(FetchFault::File),
        Err(err) => Err(FetchFault::File(std::io::Error::other(err))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sets_come_by_https_from_a_named_host_or_from_this_machine() {
        for good in
            ["https://login.example.com/keys?v=2", "http://127.0.0.1:8080/k", "http://[::1]/k", "http://localhost/"]
        {
            assert!(KeySource::url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://login.example.com/keys",
            "http://10.0.0.1/keys",
            "https://10.0.0.1/keys",
            "https://[2001:db8::1]/keys",
            "http://2130706433/keys",
            "http://0x7f.1/keys",
            "http://127.1/keys",
            "https://user@login.example.com/keys",
            "https://user:secret@login.example.com/keys",
            "https://login.example.com/keys#part",
            "file:///etc/keys.json",
            "ftp://login.example.com/keys",
            "data:application/json,{}",
            "http://localhost.example.com/keys",
            "http://127.0.0.1.example.com/keys",
            "keys.json",
            "",
        ] {
            assert!(KeySource::url(bad).is_err(), "{bad}");
        }
    }
}
