//! What was kept in files of its own before: outcomes and their predictions, promotions, peppers; and taking those files in.

use std::fs;
use std::path::{Path, PathBuf};

use scoreline_domain::privacy::{IdHasher, PrivacySettings, Tombstone};
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};
use scoreline_store::{KeptPrediction, Ruling, Store, StoreSettings, TakenOver, ToldOutcome, WaitingPrediction};

use super::ground::Ground;
use super::on_both;
use super::rows::{at, interaction, key, record};

on_both!(
    an_outcome_belongs_to_the_last_prediction_that_matured,
    outcomes_are_kept_once_and_the_newest_remembered,
    a_customer_is_found_under_a_new_key_and_forgotten_when_erased,
    promotions_are_shared_and_numbered,
    files_of_earlier_versions_are_taken_in_once,
);

fn clv() -> ModelName {
    ModelName::parse("clv").expect("a name")
}

fn version(text: &str) -> ModelVersion {
    ModelVersion::parse(text).expect("a version")
}

/// Made at this second, over ten seconds.
pub fn prediction(second: i64) -> KeptPrediction {
    let scored_s = at(second).as_second();
    let text = format!("{{\"version\":\"v1\",\"at\":{second}}}");
    KeptPrediction { version: version("v1"), scored_s, matures_s: scored_s + 10, text }
}

pub fn waiting(customer: u32, second: i64) -> WaitingPrediction {
    WaitingPrediction { customer: key(customer), model: clv(), prediction: prediction(second) }
}

pub fn told(customer: u32, observed: i64, given: Option<KeptPrediction>) -> ToldOutcome {
    ToldOutcome { customer: key(customer), model: clv(), spend_usd: 5.0, observed_at: at(observed), prediction: given }
}

async fn tell(store: &Store, outcomes: &[ToldOutcome]) -> Vec<Ruling> {
    store.tell_outcomes(outcomes, &[], 1000).await.expect("told")
}

fn privacy(pepper: &str) -> PrivacySettings {
    PrivacySettings { pepper: Some(pepper.to_owned().into()), ..PrivacySettings::default() }
}

async fn an_outcome_belongs_to_the_last_prediction_that_matured(ground: &Ground) {
    let store = ground.open().await;
    let kept = store.keep_predictions(vec![waiting(1, 0), waiting(1, 5), waiting(2, 0)], 3).await.expect("kept");
    assert_eq!(kept, 3);
    assert_eq!(store.keep_predictions(vec![waiting(3, 0)], 3).await.expect("kept"), 0, "no room");
    let mature = |prediction| Ruling::Kept { mature: true, prediction };
    for (observed, ruling) in [
        (9, Ruling::Kept { mature: false, prediction: prediction(0) }),
        (10, mature(prediction(0))),
        (11, Ruling::Duplicate(prediction(0))),
        (15, mature(prediction(5))),
    ] {
        assert_eq!(tell(&store, &[told(1, observed, None)]).await, [ruling], "observed at {observed}");
    }
    assert_eq!(tell(&store, &[told(3, 50, None)]).await, [Ruling::Unmatched]);
    let last = store.last_predictions().await.expect("read");
    assert_eq!((last.len(), last[&(key(1), clv())]), (2, at(5).as_second()));
    assert_eq!(store.expire_predictions(at(15).as_second()).await.expect("expired"), 2);
    assert_eq!(store.outcome_counts().await.expect("counted"), (1, 3));
    store.close().await;
}

async fn outcomes_are_kept_once_and_the_newest_remembered(ground: &Ground) {
    let store = ground.open().await;
    let given = Some(prediction(0));
    let rulings = tell(&store, &[told(1, 20, given.clone()), told(1, 21, given.clone()), told(2, 20, None)]).await;
    assert!(matches!(rulings[..], [Ruling::Kept { mature: true, .. }, Ruling::Duplicate(_), Ruling::Unmatched]));
    let many: Vec<_> = (10..2010).map(|customer| told(customer, 20, given.clone())).collect();
    assert_eq!(store.tell_outcomes(&many, &[], 500).await.expect("told").len(), 2000);
    let kept = store.outcomes_since(0, 10_000).await.expect("read");
    assert_eq!(kept.len(), 500);
    assert!(kept.is_sorted_by_key(|outcome| outcome.seq));
    let half = store.outcomes_since(kept[249].seq, 10_000).await.expect("read");
    assert_eq!(half, kept[250..]);
    // Telling them again, however often, pushes none out.
    let again: Vec<_> = (1600..2010).map(|customer| told(customer, 30, given.clone())).collect();
    for _ in 0..3 {
        let rulings = store.tell_outcomes(&again, &[], 500).await.expect("told");
        assert!(rulings.iter().all(|ruling| matches!(ruling, Ruling::Duplicate(_))));
    }
    assert_eq!(store.outcomes_since(0, 10_000).await.expect("read").len(), 500);
    store.close().await;
}

async fn a_customer_is_found_under_a_new_key_and_forgotten_when_erased(ground: &Ground) {
    let store = ground.open().await;
    store.keep_predictions(vec![waiting(1, 0), waiting(2, 0)], 100).await.expect("kept");
    tell(&store, &[told(1, 20, None), told(2, 20, None)]).await;
    for _ in 0..2 {
        let moved = [(key(1), key(9)), (key(9), key(9))];
        let rulings = store.tell_outcomes(&[told(9, 20, None)], &moved, 1000).await.expect("told");
        assert_eq!(rulings, [Ruling::Duplicate(prediction(0))]);
    }
    assert_eq!(store.outcome_counts().await.expect("counted"), (2, 2));
    assert_eq!(store.erase_customers(&[key(9)]).await.expect("erased"), 2);
    assert_eq!(store.outcome_counts().await.expect("counted"), (1, 1));
    assert_eq!(tell(&store, &[told(9, 20, Some(prediction(0)))]).await, [Ruling::Erased]);
    store.keep_predictions(vec![waiting(9, 0)], 100).await.expect("kept");
    assert_eq!(store.outcome_counts().await.expect("counted"), (1, 1));
    store.close().await;
}

async fn promotions_are_shared_and_numbered(ground: &Ground) {
    let store = ground.open().await;
    let none = store.promotions().await.expect("read");
    assert!(none.number == 0 && none.versions.is_empty());
    let lead = ModelName::parse("lead").expect("a name");
    store.promote(&clv(), Some(&version("v1.1")), &[version("v1"), version("v1.2")]).await.expect("kept");
    let both = store.promote(&lead, Some(&version("v2")), &[]).await.expect("kept");
    assert_eq!((both.number, &both), (2, &store.promotions().await.expect("read")));
    assert_eq!(both.versions.len(), 2);
    assert_eq!(both.before[&clv()], [version("v1"), version("v1.2")], "in their order");
    assert_eq!(both.before.get(&lead), None);
    let ended = store.promote(&clv(), None, &[version("v1.2"), version("v1.1")]).await.expect("kept");
    assert_eq!((ended.number, ended.versions.get(&clv())), (3, None));
    for text in ["a = 1", "a = 2"] {
        store.keep_manifest(&clv(), &version("v1.3"), text).await.expect("kept");
    }
    let ended = store.promotions().await.expect("read");
    assert_eq!(ended.inherited[&(clv(), version("v1.3"))], "a = 2");
    assert_eq!(ended.before[&clv()], [version("v1.2"), version("v1.1")], "in place of what was known");
    store.close().await;
    assert_eq!(ground.open().await.promotions().await.expect("read"), ended);
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/files/state")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(drop).expect("copied") }
    }
}

/// Written by the version before, see `tests/fixtures/files/README.md`; with a line that is damaged and one that was cut.
async fn files_of_earlier_versions_are_taken_in_once(ground: &Ground) {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&fixture(), folder.path());
    let journal = folder.path().join("monitoring/outcomes.journal");
    let mut text = fs::read_to_string(&journal).expect("text");
    text.push_str("00000000 {\"entry\":\"moved\"}\n0123abcd {\"entry\":\"outco");
    fs::write(&journal, &text).expect("written");
    let store = ground.open().await;
    let first =
        store.promote(&ModelName::parse("lead").expect("a name"), Some(&version("v9")), &[]).await.expect("kept");

    let taken = store.take_over(folder.path()).await.expect("taken in").expect("files");
    let expected = TakenOver { files: 3, predictions: 3, outcomes: 4, tombstones: 2, promotions: 1, damaged_lines: 1 };
    assert_eq!(taken, expected);
    assert_eq!(store.outcome_counts().await.expect("counted"), (3, 4));
    let promotions = store.promotions().await.expect("read");
    assert_eq!(promotions.versions[&clv()], version("v1.1"));
    assert!(promotions.number > first.number && promotions.versions.len() == 2);
    let (old, new) = ("the pepper of the fixtures", "the later pepper of the fixtures");
    let customer = |pepper: &str, id: &str| IdHasher::new(&privacy(pepper)).key(id);
    let (tombstones, _) = store.tombstones_since(-1).await.expect("read");
    assert!([old, new].iter().all(|pepper| tombstones.contains(&Tombstone::of(&customer(pepper, "CUST-2")))));
    // The first was moved to the new pepper, its prediction with it.
    let last = store.last_predictions().await.expect("read");
    assert!(last.contains_key(&(customer(new, "CUST-1"), clv())), "{last:?}");
    let ruling = |customer: CustomerKey| ToldOutcome { customer, ..told(0, 600, None) };
    let rulings = tell(&store, &[ruling(customer(old, "CUST-3")), ruling(customer(old, "CUST-2"))]).await;
    assert!(matches!(rulings[..], [Ruling::Kept { mature: false, .. }, Ruling::Erased]), "{rulings:?}");

    // They are left, under another name. A kill before that is a second time, which changes nothing.
    assert!(store.take_over(folder.path()).await.expect("nothing").is_none());
    for name in ["monitoring/outcomes.journal", "tombstones", "models.toml"] {
        let done = folder.path().join(format!("{name}.imported"));
        assert!(done.exists() && !folder.path().join(name).exists(), "{name}");
        fs::rename(&done, folder.path().join(name)).expect("renamed");
    }
    let moved_on = store.promote(&clv(), Some(&version("v1.2")), &[]).await.expect("kept");
    store.take_over(folder.path()).await.expect("taken in").expect("files");
    assert_eq!(store.outcome_counts().await.expect("counted"), (3, 5));
    assert_eq!(store.promotions().await.expect("read").versions, moved_on.versions);
    store.close().await;
}

#[tokio::test]
async fn what_can_not_be_taken_in_is_said_and_left() {
    let ground = Ground::sqlite();
    let store = ground.open().await;
    let folder = tempfile::tempdir().expect("a folder");
    assert!(store.take_over(&folder.path().join("none")).await.expect("nothing").is_none());
    copy(&fixture(), folder.path());
    let lock = fs::File::create(folder.path().join("monitoring/lock")).expect("made");
    lock.lock().expect("free");
    let refused = store.take_over(folder.path()).await.expect_err("in use").to_string();
    assert!(refused.contains("another process appends to it"), "{refused}");
    assert_eq!(store.outcome_counts().await.expect("counted"), (0, 0));
    drop(lock);
    fs::write(folder.path().join("models.toml"), "promoted = 7").expect("written");
    let taken = store.take_over(folder.path()).await.expect("taken in").expect("files");
    assert_eq!((taken.files, taken.promotions), (2, 0));
    assert!(folder.path().join("models.toml").exists());
    store.close().await;
}

#[tokio::test]
async fn a_store_in_memory_does_everything_and_forgets() {
    let settings = StoreSettings { place: scoreline_store::StorePlace::Memory, ..StoreSettings::sqlite("unused") };
    let store = Store::open(&settings).await.expect("opened");
    let folder = tempfile::tempdir().expect("a folder");
    copy(&fixture(), folder.path());
    store.take_over(folder.path()).await.expect("taken in").expect("files");
    assert!(folder.path().join("tombstones").exists(), "they are needed again");
    record(&store, [interaction(1, 1, 0)]).await;
    // Readers and writers at once share the one connection.
    let works = (0..20_u32).map(async |number| {
        store.keep_predictions(vec![waiting(100 + number, 0)], 1000).await.expect("kept");
        store.counts().await.expect("counted").interactions
    });
    assert_eq!(futures_util::future::join_all(works).await, [1; 20]);
    assert_eq!(store.erase_customers(&[key(1)]).await.expect("erased"), 3, "interaction, mark and customer");
    store.close().await;
    let other = Store::open(&settings).await.expect("opened");
    assert_eq!(other.outcome_counts().await.expect("counted"), (0, 0));
}
