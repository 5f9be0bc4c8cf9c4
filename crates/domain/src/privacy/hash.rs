//! `HMAC-SHA-256(pepper, id)`: a plain SHA-256 of a phone number is reversible in hours on one core, so a caller's own
//! hash is hashed again under a secret.
//!
//! A pepper that takes the place of another hashes the keys that the one before gave: `HMAC(new, HMAC(old, id))`. So what
//! is stored gets its new keys without any identifier, and who knows the old pepper alone finds nobody. The store keeps
//! the old ones, sealed under the new one.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use super::screen::hash_in;
use super::{Identifiers, PrivacySettings, Screen, Tombstones};
use crate::CustomerKey;
use crate::text::hex;
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

/// Hashes identifiers under one pepper and those that it follows. Cheap to clone.
#[derive(Clone)]
pub struct IdHasher {
    keyed: Arc<Hmac<Sha256>>,
    earlier: Arc<EarlierPeppers>,
    screen: Screen,
}

/// The peppers before this one.
struct EarlierPeppers {
    /// Those that keys go through first, oldest first; known once a store says so.
    layers: OnceLock<Vec<Hmac<Sha256>>>,
    /// Those that the settings name, newest first: something may be kept under one alone.
    previous: Vec<Hmac<Sha256>>,
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

    /// An erased customer of an earlier pepper is found by `key` and stays erased under the current one.
    pub fn watching(settings: &PrivacySettings, tombstones: Tombstones, clock: Arc<dyn Clock>) -> Self {
        let previous = settings.previous.iter().map(secret_hmac).collect();
        let until = settings.previous_until;
        let earlier = EarlierPeppers { layers: OnceLock::new(), previous, until, clock, tombstones };
        let keyed = Arc::new(secret_hmac(&settings.pepper()));
        let hasher = Self { keyed, earlier: Arc::new(earlier), screen: settings.screen };
        if !settings.layers.is_empty() {
            hasher.know(&settings.layers);
        }
        hasher
    }

    /// Lets keys go through these peppers first, oldest first, in every clone. Told once, by the store, before anything of
    /// it is asked for by key.
    pub fn know(&self, layers: &[SecretString]) {
        let _ = self.earlier.layers.set(layers.iter().map(secret_hmac).collect());
    }

    /// The key of a customer. Where only hashes are taken, a customer is their SHA-256: however it is written, and also
    /// when the identifier itself is at hand, as in what the platform tells.
    pub fn key(&self, id: &str) -> CustomerKey {
        let id = &*self.identity(id);
        let key = self
            .earlier
            .last(id.as_bytes())
            .map_or_else(|| digest(&self.keyed, id.as_bytes()), |before| digest(&self.keyed, before.as_bytes()));
        self.earlier.carry_over(id, key);
        key
    }

    /// The key of what is no customer: it stays when the pepper is changed.
    pub fn lasting_key(&self, id: &str) -> CustomerKey {
        let id = &*self.identity(id);
        let first = self.earlier.layers().first().unwrap_or(&self.keyed);
        digest(first, id.as_bytes())
    }

    /// What of an identifier is hashed.
    fn identity<'a>(&self, id: &'a str) -> Cow<'a, str> {
        match self.screen.identifiers {
            Identifiers::Any => Cow::Borrowed(id),
            Identifiers::Hashed => {
                let hash = hash_in(id).unwrap_or_else(|| Sha256::digest(id.as_bytes()).into());
                Cow::Owned(hex(&hash))
            }
        }
    }

    /// All keys that something about this customer may be kept under.
    pub fn keys(&self, id: &str) -> CustomerKeys {
        let identity = self.identity(id);
        CustomerKeys { current: self.key(id), previous: self.earlier.keys(&identity) }
    }

    /// Whether a previous pepper is tried at the moment.
    pub fn is_rotating(&self) -> bool {
        !self.earlier.previous.is_empty() && self.earlier.is_tried()
    }

    /// What is refused before anything is hashed.
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// The current pepper first, then those that the settings name.
    pub fn pepper_ids(&self) -> Vec<PepperId> {
        let label = match self.screen.identifiers {
            Identifiers::Any => PEPPER_LABEL,
            Identifiers::Hashed => PEPPER_LABEL_HASHED,
        };
        std::iter::once(&*self.keyed).chain(&self.earlier.previous).map(|keyed| pepper_id(keyed, label)).collect()
    }

    /// When previous peppers are no longer tried.
    pub fn previous_until(&self) -> Option<Timestamp> {
        self.earlier.until.filter(|_| !self.earlier.previous.is_empty())
    }
}

impl EarlierPeppers {
    fn layers(&self) -> &[Hmac<Sha256>] {
        self.layers.get().map_or(&[], Vec::as_slice)
    }

    fn is_tried(&self) -> bool {
        self.until.is_none_or(|until| self.clock.now() < until)
    }

    /// What each layer makes of an identifier, oldest first.
    fn stages(&self, id: &[u8]) -> impl Iterator<Item = CustomerKey> {
        self.layers().iter().scan(None, |before: &mut Option<CustomerKey>, layer| {
            let key = before.map_or_else(|| digest(layer, id), |before| digest(layer, before.as_bytes()));
            *before = Some(key);
            Some(key)
        })
    }

    fn last(&self, id: &[u8]) -> Option<CustomerKey> {
        self.stages(id).last()
    }

    /// Every key before the current one, newest first.
    fn keys(&self, id: &str) -> Vec<CustomerKey> {
        let mut keys: Vec<_> = self.stages(id.as_bytes()).collect();
        keys.reverse();
        if self.is_tried() {
            for key in self.previous.iter().map(|keyed| digest(keyed, id.as_bytes())) {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys
    }

    fn carry_over(&self, id: &str, current: CustomerKey) {
        let is_first = self.previous.is_empty() && self.layers().is_empty();
        if is_first || self.tombstones.is_empty() || self.tombstones.contains(&current) {
            return;
        }
        if self.keys(id).iter().any(|key| self.tombstones.contains(key)) {
            self.tombstones.carry_over(current);
        }
    }
}

pub(super) fn secret_hmac(secret: &SecretString) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length")
}

pub(super) fn digest(keyed: &Hmac<Sha256>, id: &[u8]) -> CustomerKey {
    let mut mac = Hmac::clone(keyed);
    mac.update(id);
    CustomerKey::from_digest(mac.finalize().into_bytes().into())
}

fn pepper_id(keyed: &Hmac<Sha256>, label: &str) -> PepperId {
    let digest = digest(keyed, label.as_bytes());
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
    fn a_layered_pepper_hashes_what_the_one_before_gave_in_every_clone() {
        let layers = ["old", "older"].map(|text| SecretString::from(text.to_owned()));
        let hasher = IdHasher::new(&settings("new", &[]));
        let clone = hasher.clone();
        let alone = hasher.key("CUST-1");
        hasher.know(&layers);
        let keys = clone.keys("CUST-1");
        assert_ne!(keys.current, alone);
        let [old, older] = layers.map(|pepper| secret_hmac(&pepper));
        let first = digest(&old, b"CUST-1");
        let second = digest(&older, first.as_bytes());
        assert_eq!(keys.current, digest(&secret_hmac(&"new".to_owned().into()), second.as_bytes()));
        assert_eq!(keys.previous, [second, first]);
        assert_eq!(clone.lasting_key("CUST-1"), first);
        let told = PrivacySettings {
            layers: vec!["old".to_owned().into(), "older".to_owned().into()],
            ..settings("new", &["older"])
        };
        let told = IdHasher::new(&told).keys("CUST-1");
        assert_eq!(told.current, keys.current);
        assert_eq!(told.previous[2], digest(&older, b"CUST-1"), "under the previous one alone");
    }

    #[test]
    fn an_erased_customer_stays_erased_whatever_peppers_follow() {
        for erased_under in 0..3 {
            let tombstones = Tombstones::default();
            let layers: Vec<SecretString> = ["one", "two", "three"].map(|text| text.to_owned().into()).into();
            let settings = PrivacySettings { layers, ..settings("four", &[]) };
            let hasher = IdHasher::watching(&settings, tombstones.clone(), Arc::new(SystemClock));
            let key = hasher.keys("CUST-1").previous[erased_under];
            tombstones.lay(&[key]);
            assert!(tombstones.contains(&hasher.key("CUST-1")), "{erased_under}");
            assert!(!tombstones.contains(&hasher.key("CUST-2")));
        }
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
