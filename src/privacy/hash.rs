//! `HMAC-SHA-256(pepper, id)`: a plain SHA-256 of a phone number is reversible in hours on one core, so a caller's own
//! hash is hashed again under a secret.
//!
//! When the pepper is changed, the one before may be kept for a while: what is found under a key of that one is carried
//! over to the customer's new key. Without a previous pepper nothing of this costs anything.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::{PrivacySettings, Screen, Tombstones};
use crate::domain::CustomerKey;
use crate::domain::time::{Clock, SystemClock, Timestamp};

/// What a pepper is told apart by: the first bytes of the hash of a fixed text. It says nothing about the pepper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PepperId([u8; 4]);

const PEPPER_LABEL: &str = "scoreline pepper id";

impl fmt::Display for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hashes identifiers under one pepper. Cheap to clone.
#[derive(Clone)]
pub struct IdHasher {
    keyed: Arc<Hmac<Sha256>>,
    previous: Option<Arc<Previous>>,
    screen: Screen,
}

/// The peppers before this one.
struct Previous {
    keyed: Vec<Hmac<Sha256>>,
    until: Option<Timestamp>,
    clock: Arc<dyn Clock>,
    tombstones: Tombstones,
}

/// A customer under the current pepper and under those before it.
#[derive(Clone, Debug)]
pub struct CustomerKeys {
    pub current: CustomerKey,
    /// Newest first; empty when the pepper was never changed.
    pub previous: Vec<CustomerKey>,
}

impl CustomerKeys {
    /// The current key first.
    pub fn all(&self) -> impl Iterator<Item = CustomerKey> + '_ {
        std::iter::once(self.current).chain(self.previous.iter().copied())
    }
}

impl IdHasher {
    /// Without memory of erased customers, see `watching`.
    pub fn new(settings: &PrivacySettings) -> Self {
        Self::watching(settings, Tombstones::default(), Arc::new(SystemClock))
    }

    /// An erased customer of a previous pepper is found by `key` and stays erased under the current one.
    pub fn watching(settings: &PrivacySettings, tombstones: Tombstones, clock: Arc<dyn Clock>) -> Self {
        let keyed = settings.previous.iter().map(secret_hmac).collect::<Vec<_>>();
        let previous = Previous { keyed, until: settings.previous_until, clock, tombstones };
        Self {
            keyed: Arc::new(secret_hmac(&settings.pepper())),
            previous: (!previous.keyed.is_empty()).then(|| Arc::new(previous)),
            screen: settings.screen,
        }
    }

    pub fn key(&self, id: &str) -> CustomerKey {
        let key = digest(&self.keyed, id);
        if let Some(previous) = &self.previous {
            previous.carry_over(id, key);
        }
        key
    }

    /// All keys that something about this customer may be kept under.
    pub fn keys(&self, id: &str) -> CustomerKeys {
        let previous = self.previous.as_ref().map_or_else(Vec::new, |previous| previous.keys(id));
        CustomerKeys { current: self.key(id), previous }
    }

    /// Whether a previous pepper is tried at the moment.
    pub fn is_rotating(&self) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.is_tried())
    }

    /// What is refused before anything is hashed.
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// The current pepper first.
    pub fn pepper_ids(&self) -> Vec<PepperId> {
        let previous = self.previous.iter().flat_map(|previous| &previous.keyed);
        std::iter::once(&*self.keyed).chain(previous).map(pepper_id).collect()
    }

    /// When previous peppers are no longer tried.
    pub fn previous_until(&self) -> Option<Timestamp> {
        self.previous.as_ref().and_then(|previous| previous.until)
    }
}

impl Previous {
    fn is_tried(&self) -> bool {
        self.until.is_none_or(|until| self.clock.now() < until)
    }

    fn keys(&self, id: &str) -> Vec<CustomerKey> {
        if !self.is_tried() {
            return Vec::new();
        }
        self.keyed.iter().map(|keyed| digest(keyed, id)).collect()
    }

    fn carry_over(&self, id: &str, current: CustomerKey) {
        if self.tombstones.is_empty() || self.tombstones.contains(&current) {
            return;
        }
        if self.keys(id).iter().any(|key| self.tombstones.contains(key)) {
            self.tombstones.carry_over(current);
        }
    }
}

fn secret_hmac(secret: &SecretString) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length")
}

fn digest(keyed: &Hmac<Sha256>, id: &str) -> CustomerKey {
    let mut mac = Hmac::clone(keyed);
    mac.update(id.as_bytes());
    CustomerKey::from_digest(mac.finalize().into_bytes().into())
}

fn pepper_id(keyed: &Hmac<Sha256>) -> PepperId {
    let digest = digest(keyed, PEPPER_LABEL);
    let [a, b, c, d, ..] = *digest.as_bytes();
    PepperId([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::time::ManualClock;

    fn settings(pepper: &str, previous: &[&str]) -> PrivacySettings {
        let secret = |text: &str| SecretString::from(text.to_owned());
        let previous = previous.iter().map(|text| secret(text)).collect();
        PrivacySettings { pepper: Some(secret(pepper)), previous, ..PrivacySettings::default() }
    }

    fn hasher(pepper: &str) -> IdHasher {
        IdHasher::new(&settings(pepper, &[]))
    }

    #[test]
    fn keys_match_the_published_hmac_vector() {
        // RFC 4231, test case 2.
        let key = hasher("Jefe").key("what do ya want for nothing?");
        let published = 0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7_u128.to_be_bytes();
        assert_eq!(key.as_bytes()[..16], published);
    }

    #[test]
    fn another_pepper_or_process_gives_another_key() {
        assert_ne!(hasher("a").key("CUST-1"), hasher("b").key("CUST-1"));
        let random = PrivacySettings::default();
        assert_ne!(IdHasher::new(&random).key("CUST-1"), IdHasher::new(&random).key("CUST-1"));
    }

    #[test]
    fn a_customer_has_a_key_under_every_pepper_until_the_stated_time() {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().expect("a time")));
        let until = Some("2026-02-01T00:00:00Z".parse().expect("a time"));
        let settings = PrivacySettings { previous_until: until, ..settings("new", &["old", "oldest"]) };
        let rotating = IdHasher::watching(&settings, Tombstones::default(), clock.clone());
        let keys = rotating.keys("CUST-1");
        assert_eq!(keys.current, hasher("new").key("CUST-1"));
        assert_eq!(keys.previous, ["old", "oldest"].map(|pepper| hasher(pepper).key("CUST-1")));
        assert_eq!(rotating.pepper_ids()[1], hasher("old").pepper_ids()[0]);
        assert!(rotating.is_rotating());
        clock.advance(Duration::from_hours(31 * 24));
        assert!(!rotating.is_rotating() && rotating.keys("CUST-1").previous.is_empty());
    }

    #[test]
    fn an_erased_customer_stays_erased_under_a_new_pepper() {
        let tombstones = Tombstones::default();
        tombstones.lay(&[hasher("old").key("CUST-1")]);
        let rotating = IdHasher::watching(&settings("new", &["old"]), tombstones.clone(), Arc::new(SystemClock));
        assert!(tombstones.contains(&rotating.key("CUST-1")));
        assert!(!tombstones.contains(&rotating.key("CUST-2")));
    }
}
