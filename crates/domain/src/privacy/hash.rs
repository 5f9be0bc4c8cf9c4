//! `HMAC-SHA-256(pepper, id)`: a plain SHA-256 of a phone number is reversible in hours on one core, so a caller's own
//! hash is hashed again under a secret.
//!
//! When the pepper is changed, the one before may be kept for a while: what is found under a key of that one is carried
//! over to the customer's new key. Without a previous pepper nothing of this costs anything.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use super::screen::hash_in;
use super::{Identifiers, PrivacySettings, Screen, Tombstones};
use crate::CustomerKey;
use crate::time::{Clock, SystemClock, Timestamp};

/// What a pepper is told apart by: the first bytes of the hash of a fixed text. It says nothing about the pepper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PepperId([u8; 4]);

const PEPPER_LABEL: &str = "scoreline pepper id";
/// Of a pepper that only hashes are hashed under: nobody has the same key as under the plain one.
const PEPPER_LABEL_HASHED: &str = "scoreline pepper id of hashed identifiers";

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

    /// The key of a customer. Where only hashes are taken, a customer is their SHA-256: however it is written, and also
    /// when the identifier itself is at hand, as in what the platform tells.
    pub fn key(&self, id: &str) -> CustomerKey {
        let id = &*self.identity(id);
        let key = digest(&self.keyed, id);
        if let Some(previous) = &self.previous {
            previous.carry_over(id, key);
        }
        key
    }

    /// What of an identifier is hashed.
    fn identity<'a>(&self, id: &'a str) -> Cow<'a, str> {
        match self.screen.identifiers {
            Identifiers::Any => Cow::Borrowed(id),
            Identifiers::Hashed => {
                let hash = hash_in(id).unwrap_or_else(|| Sha256::digest(id.as_bytes()).into());
                Cow::Owned(hash.iter().fold(String::with_capacity(64), |mut text, byte| {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{byte:02x}");
                    text
                }))
            }
        }
    }

    /// All keys that something about this customer may be kept under.
    pub fn keys(&self, id: &str) -> CustomerKeys {
        let identity = self.identity(id);
        let previous = self.previous.as_ref().map_or_else(Vec::new, |previous| previous.keys(&identity));
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
        let label = match self.screen.identifiers {
            Identifiers::Any => PEPPER_LABEL,
            Identifiers::Hashed => PEPPER_LABEL_HASHED,
        };
        std::iter::once(&*self.keyed).chain(previous).map(|keyed| pepper_id(keyed, label)).collect()
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

fn pepper_id(keyed: &Hmac<Sha256>, label: &str) -> PepperId {
    let digest = digest(keyed, label);
    let [a, b, c, d, ..] = *digest.as_bytes();
    PepperId([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::ManualClock;

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
    fn where_only_hashes_are_taken_a_customer_is_their_hash_however_it_is_written() {
        let screen = Screen { identifiers: Identifiers::Hashed, ..Screen::default() };
        let hashed = IdHasher::new(&PrivacySettings { screen, ..settings("a", &[]) });
        let key = hashed.key("test");
        for hash in [
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
            "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg",
            "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
        ] {
            assert_eq!(hashed.key(hash), key, "{hash}");
        }
        assert_ne!(hashed.key("Test"), key);
        assert_ne!(hasher("a").key("test"), key);
        assert_ne!(hashed.pepper_ids(), hasher("a").pepper_ids(), "keys of the one are none of the other's");
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
