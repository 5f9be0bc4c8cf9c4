//! Who may call, looked up: what the credentials file says, checked and indexed.

use std::collections::HashMap;
use std::sync::Arc;

use super::caller::{Caller, PeerIdentity, Proof, Scopes};
use super::file::{Credentials, RateRecord, SecretRecord};
use super::issuer::Issuer;
use super::pace::{Pace, Rate, Rates};
use super::secret::Hashed;
use scoreline_domain::time::Clock;

/// Most credentials of each kind; the file is read whole.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct CredentialBook {
    keys: HashMap<Box<str>, KnownSecret>,
    clients: HashMap<Box<str>, KnownSecret>,
    subjects: HashMap<Box<str>, Arc<Caller>>,
    sans: HashMap<Box<str>, Arc<Caller>>,
    pub issuers: Vec<Arc<Issuer>>,
}

/// A key or a client.
pub(super) struct KnownSecret {
    secret: Hashed,
    /// Says which secret it is, without saying anything about it.
    pub stamp: String,
    pub caller: Arc<Caller>,
}

impl CredentialBook {
    /// Buckets and keys of what did not change are taken over from `before`, so that a reload neither lets somebody
    /// go faster nor fetches keys anew.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn new(
        credentials: Credentials,
        rates: Rates,
        clock: &Arc<dyn Clock>,
        before: &Self,
    ) -> Result<Self, String> {
        let mut book = Self::default();
        let revoked: Vec<_> = credentials.revoked.iter().map(|record| record.id.clone()).collect();
        let lists = [(Proof::ApiKey, "key", credentials.keys), (Proof::ClientToken, "client", credentials.clients)];
        for (proof, kind, records) in lists {
            if records.len() > MOST {
                return Err(format!("holds more than {MOST} `[[{kind}]]` records"));
            }
            for record in records {
                let (entries, others, old) = match proof {
                    Proof::ApiKey => (&mut book.keys, &book.clients, &before.keys),
                    Proof::ClientToken | Proof::IssuerToken | Proof::Certificate => {
                        (&mut book.clients, &book.keys, &before.clients)
                    }
                };
                let id = record.id.clone();
                let place = |what: String| format!("`[[{kind}]]` with id `{id}`: {what}");
                if entries.contains_key(id.as_str()) || others.contains_key(id.as_str()) {
                    return Err(place("the id is there twice".to_owned()));
                }
                let known = old.get(id.as_str()).map(|entry| &entry.caller);
                let entry = KnownSecret::new(record, proof, rates, clock, known).map_err(place)?;
                if !revoked.contains(&id) {
                    entries.insert(id.into(), entry);
                }
            }
        }
        for record in credentials.certificates {
            let place = |what: String| format!("`[[certificate]]` named `{}`: {what}", record.name);
            let scopes = scopes(&record.scopes).map_err(place)?;
            let rates = checked(record.rates, rates).map_err(place)?;
            let (list, old, name) = match (record.subject, record.san) {
                (Some(subject), None) => (&mut book.subjects, &before.subjects, subject),
                (None, Some(san)) => (&mut book.sans, &before.sans, san.to_ascii_lowercase()),
                (Some(_), Some(_)) | (None, None) => {
                    return Err(place("needs `subject` or `san`, one of them".to_owned()));
                }
            };
            if name.trim().is_empty() || list.contains_key(name.as_str()) {
                return Err(place("its subject or name is empty or there twice".to_owned()));
            }
            let pace = pace(old.get(name.as_str()), rates, clock);
            let caller = Caller::new(record.name.clone(), Proof::Certificate, scopes, pace);
            list.insert(name.into(), Arc::new(caller));
        }
        for record in credentials.issuers {
            let place = |what: String| format!("`[[issuer]]` named `{}`: {what}", record.name);
            if book.issuers.iter().any(|issuer| issuer.issues(&record.issuer) || issuer.name() == record.name) {
                return Err(place("its name or `issuer` is there twice".to_owned()));
            }
            let most = scopes(&record.scopes).map_err(place)?;
            let rates = checked(record.rates, rates).map_err(place)?;
            let kept = before.issuers.iter().find(|issuer| issuer.is_of(&record, rates)).cloned();
            let issuer = match kept {
                Some(issuer) => issuer,
                None => Arc::new(Issuer::new(record.clone(), most, rates).map_err(place)?),
            };
            book.issuers.push(issuer);
        }
        Ok(book)
    }

    /// The caller of an API key; the secret is compared even when there is no such id, so that ids cannot be told by
    /// how long the answer takes.
    pub(super) fn key(&self, id: &str, secret: &[u8]) -> Option<&Arc<Caller>> {
        KnownSecret::open(self.keys.get(id), secret).map(|entry| &entry.caller)
    }

    /// As `key`, for a client.
    pub(super) fn client(&self, id: &str, secret: &[u8]) -> Option<&KnownSecret> {
        KnownSecret::open(self.clients.get(id), secret)
    }

    /// A client by its id alone, for tokens that were issued to it.
    pub(super) fn client_of_token(&self, id: &str) -> Option<&KnownSecret> {
        self.clients.get(id)
    }

    /// The caller of a client certificate.
    pub(super) fn peer(&self, peer: &PeerIdentity) -> Option<&Arc<Caller>> {
        if self.subjects.is_empty() && self.sans.is_empty() {
            return None;
        }
        let by_name = || {
            peer.sans.iter().find_map(|san| {
                let exact = self.sans.get(san.as_str());
                exact.or_else(|| self.sans.get(san.to_ascii_lowercase().as_str()))
            })
        };
        self.subjects.get(peer.subject.as_str()).or_else(by_name)
    }

    /// Keys, clients, certificates and issuers.
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        (self.keys.len(), self.clients.len(), self.subjects.len() + self.sans.len(), self.issuers.len())
    }
}

impl KnownSecret {
    fn new(
        record: SecretRecord,
        proof: Proof,
        rates: Rates,
        clock: &Arc<dyn Clock>,
        before: Option<&Arc<Caller>>,
    ) -> Result<Self, String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if record.id.is_empty() || record.id.len() > 64 || !record.id.chars().all(usable) {
            return Err("`id` must be 1 to 64 letters, digits, `.` or `-`".to_owned());
        }
        let scopes = scopes(&record.scopes)?;
        let rates = checked(record.rates, rates)?;
        let caller = Caller::new(record.name, proof, scopes, pace(before, rates, clock));
        Ok(Self { stamp: record.secret.stamp(), secret: record.secret, caller: Arc::new(caller) })
    }

    fn open<'e>(found: Option<&'e Self>, secret: &[u8]) -> Option<&'e Self> {
        let Some(entry) = found else {
            let _wasted = std::hint::black_box(Hashed::nobody().matches(secret));
            return None;
        };
        entry.secret.matches(secret).then_some(entry)
    }
}

fn scopes(names: &[String]) -> Result<Scopes, String> {
    let scopes = Scopes::parse(names.iter().map(String::as_str)).map_err(|err| format!("`scopes`: {err}"))?;
    if scopes.is_empty() { Err("`scopes` must not be empty".to_owned()) } else { Ok(scopes) }
}

fn checked(record: RateRecord, otherwise: Rates) -> Result<Rates, String> {
    let rate = |per_second: Option<u32>, burst: Option<u32>, otherwise: Rate| {
        let per_second = per_second.unwrap_or(otherwise.per_second);
        // A rate of its own brings a burst of its own.
        let burst =
            burst.unwrap_or(if per_second == otherwise.per_second { otherwise.burst } else { per_second.max(1) });
        if burst == 0 { Err("a burst must be at least 1".to_owned()) } else { Ok(Rate { per_second, burst }) }
    };
    Ok(Rates {
        predict: rate(record.predict_per_second, record.predict_burst, otherwise.predict)?,
        leads: rate(record.leads_per_second, record.leads_burst, otherwise.leads)?,
    })
}

fn pace(before: Option<&Arc<Caller>>, rates: Rates, clock: &Arc<dyn Clock>) -> Arc<Pace> {
    let kept = before.map(|caller| caller.pace()).filter(|pace| pace.rates() == rates);
    kept.map_or_else(|| Arc::new(Pace::new(rates, clock)), Arc::clone)
}
