//! Under which peppers a store's customers are, and their way to a new one.
//!
//! A pepper that follows another one hashes every key that is there: no identifier is needed, so nobody is lost. The step
//! is written down first, and each transaction after it takes some thousands of keys; whatever ends the process in
//! between, the next one goes on. What is told meanwhile waits.

use secrecy::SecretString;

use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::privacy::{IdHasher, PepperChange, PrivacySettings};
use scoreline_store::{KnownPeppers, PepperLayer, Rekeyed, Store, StoreError};

/// Keys of one transaction.
pub(super) const KEYS: usize = 5000;
/// Sealed ids that are tried, in a store that does not say its pepper.
const SAMPLES: usize = 8;

/// Told how many keys are still to be changed, and of how many.
pub(super) type TellKeys = fn(left: u64, all: u64);

/// A pepper that the settings give.
struct GivenPepper {
    id: String,
    secret: SecretString,
}

/// Brings the store to the current pepper; the peppers that its keys go through before that one, oldest first.
///
/// # Errors
/// `OtherPepper` when its customers are under none of the given ones; and when it cannot be read or written.
pub(super) async fn settle(
    store: &Store,
    privacy: &PrivacySettings,
    tell: TellKeys,
) -> Result<Vec<SecretString>, StoreError> {
    let given = given(privacy);
    let Some(current) = given.first() else { return Ok(Vec::new()) };
    loop {
        let known = store.peppers().await?;
        let Some(newest) = known.layers.last() else {
            let owner = owner(store, &known, &given).await?;
            // Where another process came first, the next look sees what it did.
            let layer = PepperLayer { id: owner.id.clone(), sealed: None };
            store.keep_peppers(&known.layers, &[layer]).await?;
            continue;
        };
        let Some(holder) = given.iter().find(|pepper| pepper.id == newest.id) else {
            return Err(StoreError::OtherPepper { kept: newest.id.clone(), given: current.id.clone() });
        };
        let mut before = opened(&known.layers, &sealer(&holder.secret))?;
        change_keys(store, &before, &holder.secret, tell).await?;
        if holder.id == current.id {
            store.use_pepper(known.layers.len());
            return Ok(before);
        }
        before.push(holder.secret.clone());
        let sealer = sealer(&current.secret);
        let ids = known.layers.iter().map(|layer| layer.id.clone());
        let mut layers: Vec<_> =
            ids.zip(&before).map(|(id, secret)| PepperLayer { id, sealed: Some(sealer.seal_pepper(secret)) }).collect();
        layers.push(PepperLayer { id: current.id.clone(), sealed: None });
        if store.keep_peppers(&known.layers, &layers).await? {
            let (from, to) = (&newest.id, &current.id);
            tracing::warn!(%from, %to, "the pepper is changed: every customer gets a new key before the store is used");
        }
    }
}

/// The peppers that keys go through before the current one, oldest first, of a store that is only read.
///
/// # Errors
/// `OtherPepper` when its customers are not under the current one; and when it cannot be read.
pub(super) async fn before(store: &Store, privacy: &PrivacySettings) -> Result<Vec<SecretString>, StoreError> {
    let given = given(privacy);
    let Some(current) = given.first() else { return Ok(Vec::new()) };
    let known = store.peppers().await?;
    let kept = match known.layers.last() {
        Some(newest) => newest.id.clone(),
        None => owner(store, &known, &given).await?.id.clone(),
    };
    if kept == current.id {
        opened(&known.layers, &sealer(&current.secret))
    } else {
        Err(StoreError::OtherPepper { kept, given: current.id.clone() })
    }
}

/// The current pepper first.
fn given(privacy: &PrivacySettings) -> Vec<GivenPepper> {
    let secrets = privacy.pepper.iter().chain(&privacy.previous);
    let id = |secret: &SecretString| {
        let alone =
            PrivacySettings { pepper: Some(secret.clone()), screen: privacy.screen, ..PrivacySettings::default() };
        IdHasher::new(&alone).pepper_ids().first().map(ToString::to_string).unwrap_or_default()
    };
    secrets.map(|secret| GivenPepper { id: id(secret), secret: secret.clone() }).collect()
}

fn sealer(pepper: &SecretString) -> Sealer {
    Sealer::new(&PrivacySettings { pepper: Some(pepper.clone()), ..PrivacySettings::default() })
}

/// The peppers before the newest, which opens them.
fn opened(layers: &[PepperLayer], newest: &Sealer) -> Result<Vec<SecretString>, StoreError> {
    let sealed = layers.iter().filter_map(|layer| layer.sealed.as_ref());
    let open = |sealed: &Vec<u8>| {
        newest
            .open_pepper(sealed)
            .map_err(|err| StoreError::Unreadable { column: "pepper_layers.sealed", value: err.to_string() })
    };
    sealed.map(open).collect()
}

/// Which of the given peppers the customers of a store are under that does not say it in order.
async fn owner<'a>(
    store: &Store,
    known: &KnownPeppers,
    given: &'a [GivenPepper],
) -> Result<&'a GivenPepper, StoreError> {
    let current = &given[0];
    if known.is_new() {
        return Ok(current);
    }
    let other = |kept: String| StoreError::OtherPepper { kept, given: current.id.clone() };
    if let [_, _, ..] = &known.unordered[..] {
        tracing::warn!(
            peppers = known.unordered.join(", "),
            "the pepper was changed by an earlier version: customers who were not seen since are not found again"
        );
    }
    if !known.unordered.is_empty() {
        let found = given.iter().find(|pepper| known.unordered.contains(&pepper.id));
        return found.ok_or_else(|| other(known.unordered.join(", ")));
    }
    let samples = store.sealed_samples(SAMPLES).await?;
    if samples.is_empty() {
        let id = &current.id;
        tracing::warn!(%id, "the store does not say the pepper of its customers: it is taken to be this one");
        return Ok(current);
    }
    let opens = |pepper: &&GivenPepper| {
        let sealer = sealer(&pepper.secret);
        samples.iter().any(|(customer, sealed)| sealer.open(customer, sealed).is_ok())
    };
    given.iter().find(opens).ok_or_else(|| other("not kept".to_owned()))
}

/// Gives the keys that are left from the step to the newest pepper.
async fn change_keys(
    store: &Store,
    before: &[SecretString],
    newest: &SecretString,
    tell: TellKeys,
) -> Result<(), StoreError> {
    let all = store.keys_to_change().await?;
    if all == 0 {
        return Ok(());
    }
    let change = PepperChange::new(before, newest);
    let mut left = all;
    tell(left, all);
    while left > 0 {
        left = store
            .change_keys(KEYS, |old, sealed| Rekeyed {
                key: change.key(&old),
                sealed: sealed.and_then(|sealed| change.seal(&old, sealed)),
            })
            .await?;
        tell(left, all);
    }
    Ok(())
}
