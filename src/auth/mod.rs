//! Who calls, and may they: API keys, OAuth clients, tokens of external issuers, client certificates; scopes and rates.
//!
//! Knows nothing of HTTP but the value of a header. `Authenticator::check` is synchronous, takes no lock and allocates
//! nothing for an API key, a certificate, or a token it has verified a moment ago.
//!
//! How long a credential that was taken back still works: an API key, a client and the tokens it was issued at most two
//! seconds (the file is looked at every second); a token of an external issuer until its `exp`, or until the issuer
//! drops its key and the keys are fetched again (5 minutes). No verified token is trusted for more than 60 seconds
//! without being verified again.

mod book;
mod cache;
mod caller;
mod fault;
mod file;
mod grant;
mod issuer;
mod keeper;
mod keyset;
mod mint;
mod pace;
mod records;
mod secret;
mod token;
mod token_scopes;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use caller::{Caller, PeerIdentity, Proof, Scope, Scopes, UnknownScope};
pub use fault::{AuthFault, AuthRefusal, NotAdmitted};
pub use file::{Credentials, FileFault, FileState, RateRecord, SecretRecord, read_private};
pub use grant::{GrantFault, GrantRequest, GrantedToken};
pub use keeper::{BackgroundTask, keep};
pub use pace::{Rate, Rates};
pub use records::{NewSecret, add_client, add_key, revoke};

use book::CredentialBook;
use cache::Cache;
use mint::{Mint, OURSELVES};
use pace::AddressPaces;
use scoreline_domain::time::{Clock, Timestamp};
use secret::API_KEY;
use token::Token;
use token_scopes::TokenScopes;

/// Longest bearer token, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;
/// Longest time a verified token is trusted without being verified again.
const TRUSTED_FOR: Duration = Duration::from_mins(1);
/// How often an address may ask the token endpoint.
const TOKEN_ENDPOINT: Rate = Rate { per_second: 5, burst: 20 };

/// How callers are told apart.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Without one nobody is asked who they are.
    pub credentials_file: Option<PathBuf>,
    /// The key of our own tokens; drawn at start without one.
    pub token_key_file: Option<PathBuf>,
    /// Lifetime of our own tokens, in whole seconds.
    pub token_ttl: Duration,
    /// Of callers whose record names no others.
    pub rates: Rates,
}

/// Tells who calls.
pub struct Authenticator {
    book: ArcSwap<CredentialBook>,
    cache: Cache,
    /// Counts changes of the book and of keys; what was verified before the last one is verified again.
    generation: AtomicU64,
    mint: Mint,
    clock: Arc<dyn Clock>,
    rates: Rates,
    token_ttl: Duration,
    addresses: AddressPaces,
    file: WatchedFile,
}

struct WatchedFile {
    path: PathBuf,
    /// As it was last read, whether or not it could be used. Locked by the keeper only.
    seen: Mutex<Option<FileState>>,
}

/// Why authentication cannot start, or a changed file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("`auth.credentials_file`")]
    File(#[source] FileFault),
    #[error("`auth.credentials_file`: `{}`: {reason}", path.display())]
    Record { path: PathBuf, reason: String },
    #[error("`auth.token_key_file`")]
    TokenKey(#[source] FileFault),
    #[error("`auth.token_key_file`: `{}` must hold {} bytes or more", path.display(), mint::SHORTEST_KEY)]
    ShortTokenKey { path: PathBuf },
}

/// What a credentials file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CredentialCounts {
    pub keys: usize,
    pub clients: usize,
    pub certificates: usize,
    pub issuers: usize,
}

impl Authenticator {
    /// Reads the credentials; `None` when there is no credentials file in the settings.
    ///
    /// # Errors
    /// When a file cannot be read, can be read by others than its owner, or holds something that cannot be used.
    pub fn open(settings: &AuthSettings, clock: Arc<dyn Clock>) -> Result<Option<Arc<Self>>, AuthError> {
        let Some(path) = settings.credentials_file.clone() else { return Ok(None) };
        metrics::describe_counter!("scoreline_auth_key_fetches_total", "Fetches of issuers' keys by outcome.");
        let mint = match &settings.token_key_file {
            None => Mint::new(None),
            Some(path) => {
                let (key, _) = read_private(path).map_err(AuthError::TokenKey)?;
                let key = key.trim_ascii();
                if key.len() < mint::SHORTEST_KEY {
                    return Err(AuthError::ShortTokenKey { path: path.clone() });
                }
                Mint::new(Some(key))
            }
        };
        let authenticator = Self {
            book: ArcSwap::default(),
            cache: Cache::new(),
            generation: AtomicU64::new(0),
            mint,
            addresses: AddressPaces::new(TOKEN_ENDPOINT, &clock),
            clock,
            rates: settings.rates,
            token_ttl: settings.token_ttl,
            file: WatchedFile { path, seen: Mutex::default() },
        };
        authenticator.load()?;
        Ok(Some(Arc::new(authenticator)))
    }

    /// Who calls, if they may use a route of this scope. `authorization` is the value of the one header there is;
    /// `peer` is from the TLS layer. A header decides when there are both.
    ///
    /// # Errors
    /// `AuthFault`, but never `TooFast`: see `admit`.
    pub fn check(
        &self,
        authorization: Option<&[u8]>,
        peer: Option<&PeerIdentity>,
        scope: Scope,
    ) -> Result<Arc<Caller>, AuthFault> {
        let caller = self.identify(authorization, peer)?;
        if caller.scopes().contains(scope) { Ok(caller) } else { Err(AuthFault::Forbidden(scope)) }
    }

    /// As `check`, of a route whose scope depends on what it is asked about: any of these will do for the moment. See
    /// `Caller::admit`.
    ///
    /// # Errors
    /// As `check`; the first scope is the one that is said to be required.
    pub fn check_any<const N: usize>(
        &self,
        authorization: Option<&[u8]>,
        peer: Option<&PeerIdentity>,
        scopes: [Scope; N],
    ) -> Result<Arc<Caller>, AuthFault> {
        let caller = self.identify(authorization, peer)?;
        match scopes.first() {
            Some(first) if !scopes.iter().any(|scope| caller.scopes().contains(*scope)) => {
                Err(AuthFault::Forbidden(*first))
            }
            Some(_) | None => Ok(caller),
        }
    }

    /// As `check`, and takes one request from the caller's rate.
    ///
    /// # Errors
    /// `NotAdmitted`.
    pub fn admit(
        &self,
        authorization: Option<&[u8]>,
        peer: Option<&PeerIdentity>,
        scope: Scope,
    ) -> Result<Arc<Caller>, NotAdmitted> {
        let caller = self.identify(authorization, peer)?;
        match caller.admit(scope) {
            Ok(()) => Ok(caller),
            Err(fault) => Err(NotAdmitted { fault, caller: Some(caller) }),
        }
    }

    /// Answers a request for a token.
    ///
    /// # Errors
    /// `GrantFault`, which says how to answer.
    pub fn grant(&self, request: &GrantRequest<'_>) -> Result<GrantedToken, GrantFault> {
        let now = self.clock.now().as_second();
        grant::grant(request, &self.book.load(), &self.mint, &self.addresses, now, self.token_ttl)
    }

    pub fn counts(&self) -> CredentialCounts {
        let (keys, clients, certificates, issuers) = self.book.load().counts();
        CredentialCounts { keys, clients, certificates, issuers }
    }

    fn identify(&self, authorization: Option<&[u8]>, peer: Option<&PeerIdentity>) -> Result<Arc<Caller>, AuthFault> {
        if let Some(header) = authorization {
            return self.bearer(bearer(header)?);
        }
        let book = self.book.load();
        peer.and_then(|peer| book.peer(peer)).map(Arc::clone).ok_or(AuthFault::Missing)
    }

    fn bearer(&self, token: &[u8]) -> Result<Arc<Caller>, AuthFault> {
        if let Some(key) = token.strip_prefix(API_KEY.as_bytes()) {
            let (id, secret) = b64token(key)?.split_once('_').ok_or(AuthRefusal::ApiKey)?;
            return Ok(self.book.load().key(id, secret.as_bytes()).map(Arc::clone).ok_or(AuthRefusal::ApiKey)?);
        }
        // Before anything is looked at: what changes from here on makes the entry that is put in useless.
        let generation = self.generation.load(Ordering::Acquire);
        let monotonic = self.clock.monotonic();
        if let Some(caller) = self.cache.get(token, generation, monotonic) {
            return Ok(caller);
        }
        // Only now: what is in the cache was looked at when it was put in.
        let text = b64token(token)?;
        let now = unix_seconds(self.clock.now());
        let parsed = Token::parse(text)?;
        let caller = self.verify(&parsed, now)?;
        let lasts = Duration::try_from_secs_f64(parsed.claims.lasts(now)).unwrap_or(TRUSTED_FOR).min(TRUSTED_FOR);
        self.cache.put(token, &caller, generation, monotonic, monotonic + lasts);
        Ok(caller)
    }

    fn verify(&self, token: &Token<'_>, now: f64) -> Result<Arc<Caller>, AuthRefusal> {
        let book = self.book.load();
        if token.claims.iss != OURSELVES {
            let issuer = book.issuers.iter().find(|issuer| issuer.issues(&token.claims.iss));
            return issuer.ok_or(AuthRefusal::UnknownIssuer)?.verify(token, now, &self.clock);
        }
        self.mint.verify(token, now)?;
        let client = token.claims.sub.as_deref().and_then(|id| book.client_of_token(id)).ok_or(AuthRefusal::Revoked)?;
        if token.claims.stamp.as_deref() != Some(client.stamp.as_str()) {
            return Err(AuthRefusal::Revoked);
        }
        let caller = &client.caller;
        let scopes = TokenScopes::of_ours(token)?.intersection(caller.scopes());
        if scopes == caller.scopes() {
            return Ok(Arc::clone(caller));
        }
        let fewer = Caller::new(caller.name().to_owned(), Proof::ClientToken, scopes, Arc::clone(caller.pace()));
        Ok(Arc::new(fewer))
    }

    /// Reads the credentials file and takes it, whole or not at all.
    fn load(&self) -> Result<CredentialCounts, AuthError> {
        let path = &self.file.path;
        // Noted first, so that a change while it is read is seen the next time.
        *self.file.seen.lock().unwrap_or_else(PoisonError::into_inner) = FileState::now(path);
        let (credentials, _) = Credentials::read(path).map_err(AuthError::File)?;
        let book = CredentialBook::new(credentials, self.rates, &self.clock, &self.book.load())
            .map_err(|reason| AuthError::Record { path: path.clone(), reason })?;
        self.book.store(Arc::new(book));
        self.forget();
        Ok(self.counts())
    }

    /// As `load`, when the file is another one than before.
    fn load_if_changed(&self) -> Option<Result<CredentialCounts, AuthError>> {
        let now = FileState::now(&self.file.path);
        let changed = *self.file.seen.lock().unwrap_or_else(PoisonError::into_inner) != now;
        changed.then(|| self.load())
    }

    /// Makes every token be verified again.
    fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Wipes tokens that are over, forgets addresses that are quiet.
    fn tidy(&self) {
        self.cache.sweep(self.generation.load(Ordering::Acquire), self.clock.monotonic());
        self.addresses.forget_idle();
    }
}

/// The token of a header `Bearer <token>`: the scheme's letters may be of any case, and RFC 9110 has one blank or more
/// behind it.
fn bearer(header: &[u8]) -> Result<&[u8], AuthFault> {
    let (scheme, rest) = header.split_at(header.iter().position(|byte| *byte == b' ').unwrap_or(header.len()));
    let token = &rest[rest.iter().take_while(|byte| **byte == b' ').count()..];
    if scheme.eq_ignore_ascii_case(b"Basic") {
        return Err(AuthFault::Basic);
    }
    if !scheme.eq_ignore_ascii_case(b"Bearer") || token.is_empty() {
        return Err(AuthFault::Malformed);
    }
    if token.len() > LONGEST_TOKEN {
        return Err(AuthRefusal::TooLong.into());
    }
    Ok(token)
}

/// The letters a bearer token may have: `b64token` of RFC 6750.
fn b64token(token: &[u8]) -> Result<&str, AuthFault> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    match std::str::from_utf8(token) {
        Ok(text) if token.iter().all(allowed) => Ok(text),
        Ok(_) | Err(_) => Err(AuthFault::Malformed),
    }
}

fn unix_seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1e3
}
