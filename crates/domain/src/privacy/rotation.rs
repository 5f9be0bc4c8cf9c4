//! What becomes of a customer's key and sealed id when another pepper takes the place of the one they were made with.

use hmac::Hmac;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use super::PrivacySettings;
use super::hash::{digest, secret_hmac};
use super::seal::Sealer;
use crate::{CustomerKey, SealedId};

/// The step from the newest of some peppers to the one that follows.
pub struct PepperChange {
    keyed: Hmac<Sha256>,
    before: Sealer,
    after: Sealer,
}

impl PepperChange {
    /// `before` are the peppers that were in use, oldest first.
    pub fn new(before: &[SecretString], after: &SecretString) -> Self {
        let sealer = |pepper: Option<&SecretString>, previous: &[SecretString]| {
            let previous = previous.to_vec();
            Sealer::new(&PrivacySettings { pepper: pepper.cloned(), previous, ..PrivacySettings::default() })
        };
        let (last, older) = before.split_last().map_or((None, before), |(last, older)| (Some(last), older));
        Self { keyed: secret_hmac(after), before: sealer(last, older), after: sealer(Some(after), &[]) }
    }

    pub fn key(&self, old: &CustomerKey) -> CustomerKey {
        digest(&self.keyed, old.as_bytes())
    }

    /// The id sealed anew for the new key; nothing when it does not open: it will be told again.
    pub fn seal(&self, old: &CustomerKey, sealed: &SealedId) -> Option<SealedId> {
        let id = self.before.open(old, sealed).ok()?;
        Some(self.after.seal(&self.key(old), id.expose_secret()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::IdHasher;
    use super::*;

    #[test]
    fn keys_and_sealed_ids_become_those_of_the_new_pepper() {
        let pepper = |text: &str| SecretString::from(text.to_owned());
        let settings = |current: &str, layers: &[&str]| PrivacySettings {
            pepper: Some(pepper(current)),
            layers: layers.iter().map(|text| pepper(text)).collect(),
            ..PrivacySettings::default()
        };
        let (old, new) = (settings("two", &["one"]), settings("three", &["one", "two"]));
        let key = IdHasher::new(&old).key("CUST-1");
        let change = PepperChange::new(&[pepper("one"), pepper("two")], &pepper("three"));
        assert_eq!(change.key(&key), IdHasher::new(&new).key("CUST-1"));
        let sealed = change.seal(&key, &Sealer::new(&old).seal(&key, "contact")).expect("ours");
        let opened = Sealer::new(&new).open(&change.key(&key), &sealed).expect("ours");
        assert_eq!(opened.expose_secret(), "contact");
        assert_eq!(change.seal(&key, &Sealer::new(&settings("other", &[])).seal(&key, "contact")), None);
    }
}
