//! The store of a server or a command: opened, the pepper of its customers known, files of earlier versions taken in.

use std::fs::{self, DirEntry};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::pepper::{self, TellKeys};
use crate::config::{self, Settings};
use crate::lifecycle::Signals;
use scoreline_domain::Promotions;
use scoreline_domain::durable::{folder_of, write_whole};
use scoreline_domain::privacy::{IdHasher, PrivacySettings, Tombstones, draw_pepper};
use scoreline_domain::text::with_causes;
use scoreline_domain::time::SystemClock;
use scoreline_store::{Store, StoreError, StorePlace, TakenOver, has_old_customers, has_old_files};

/// How long a start waits for the store before it answers without: longer than a database takes that is well.
const START_PATIENCE: Duration = Duration::from_secs(1);
/// Customers whose key is still one of the pepper before.
pub(super) const KEYS_LEFT: &str = "scoreline_store_keys_to_change";
/// A change of many keys is told once in so many.
const KEYS_TOLD: u64 = 100_000;
/// The pepper that was drawn, beside the file it belongs to.
const PEPPER: &str = "pepper";
/// Where earlier versions kept files when no folder of a store says otherwise.
const OLD_FOLDER: &str = "state";

/// A setting that cannot be used as it is: the process ends with the exit code of wrong settings.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("`{0}`")]
pub struct SettingFault(&'static str);

/// A store that is open, and what is to be known before it is worked with.
pub struct Opened {
    pub store: Store,
    /// With the pepper.
    pub privacy: PrivacySettings,
    pub tombstones: Tombstones,
    /// The last tombstone's place.
    pub erased_seq: i64,
    pub promotions: Promotions,
}

impl Opened {
    /// What identifiers are hashed with.
    pub fn hasher(&self) -> IdHasher {
        IdHasher::watching(&self.privacy, self.tombstones.clone(), Arc::new(SystemClock))
    }
}

/// Ends a command's work with the store: what came in of customers who turned out to be erased, under an earlier pepper,
/// goes again.
///
/// # Errors
/// When it is not gone.
pub async fn close(store: &Store, tombstones: &Tombstones) -> anyhow::Result<()> {
    let erased = store.erase_customers(&tombstones.take_waiting()).await;
    store.close().await;
    erased.map(drop).context("customers who were erased under an earlier pepper are not gone")
}

/// A server's store, as far as it got by the time that a start waits for it.
pub(super) enum Opening {
    Open(Box<Opened>),
    UnderWay(BoxFuture<'static, anyhow::Result<Opened>>),
    /// It is tried again.
    Failed(anyhow::Error),
}

/// Opens the store to write.
///
/// # Errors
/// When it cannot be opened, its pepper is lost, or old files cannot be taken in.
pub(super) async fn open(settings: &Settings, tell: TellKeys) -> anyhow::Result<Opened> {
    let vanished = vanished(settings);
    let store = Store::open(&settings.store).await.map_err(|err| told(settings, err))?;
    let opened = begin(settings, &store, tell).await;
    if opened.is_err() {
        store.close().await;
    } else if let Some(path) = vanished {
        let path = path.display();
        tracing::warn!(%path, "the store that was here is gone, and an empty one was begun; if it was moved, put it back");
    }
    opened
}

/// The place of a store's file that is not there, while something beside it says that it was: its lock, or a pepper that
/// belongs to no other store of the folder.
pub(super) fn vanished(settings: &Settings) -> Option<&Path> {
    let StorePlace::Sqlite(path) = &settings.store.place else { return None };
    let lock = Store::lock_of(path);
    let is_lock = |entry: &DirEntry| entry.path().extension() == lock.extension();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let others = || fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| is_lock(&entry)));
    let was_there = lock.exists() || path.with_file_name(PEPPER).exists() && !others();
    (!path.exists() && was_there).then_some(path)
}

/// Opens the store to write, for a command.
///
/// # Errors
/// As `open`; and when the store ends with the process, because then a command does nothing that lasts.
pub async fn open_for_command(settings: &Settings) -> anyhow::Result<Opened> {
    refuse_memory(settings)?;
    if let Some(path) = vanished(settings) {
        eprintln!("warning: the store `{}` that was here is gone: an empty one is begun", path.display());
    }
    open(settings, tell_terminal).await
}

/// Says in the log how far a change of the pepper is.
pub(super) fn tell_log(left: u64, all: u64) {
    metrics::gauge!(KEYS_LEFT).set(left as f64);
    if left == 0 {
        tracing::info!(customers = all, "every customer has a key of the new pepper: the one before is needed no more");
    } else if left == all || left / KEYS_TOLD != (left + pepper::KEYS as u64) / KEYS_TOLD {
        tracing::info!(left, all, "customers get keys of the new pepper");
    }
}

fn tell_terminal(left: u64, all: u64) {
    eprintln!("customers get keys of the new pepper: {} of {all} have theirs", all - left);
}

fn refuse_memory(settings: &Settings) -> anyhow::Result<()> {
    match settings.store.place {
        StorePlace::Memory => {
            let problem = anyhow!("is `:memory:`, which ends with each process: a command needs a file or `store.url`");
            Err(problem.context(key(settings)))
        }
        StorePlace::Sqlite(_) | StorePlace::Postgres(_) => Ok(()),
    }
}

/// Opens the store to read from, beside a server that uses it.
///
/// # Errors
/// When it cannot be opened.
pub async fn open_to_read(settings: &Settings) -> anyhow::Result<Store> {
    refuse_memory(settings)?;
    Store::open_to_read(&settings.store).await.with_context(|| key(settings).to_string())
}

/// Opens the store to read from, for a command that opens what is sealed in it.
///
/// # Errors
/// As `open_to_read`; and when the pepper of its customers is not the one that the settings give, or is being changed.
pub async fn open_to_reveal(settings: &Settings) -> anyhow::Result<Opened> {
    let store = open_to_read(settings).await?;
    let opened = look(settings, &store).await;
    if opened.is_err() {
        store.close().await;
    }
    opened
}

async fn look(settings: &Settings, store: &Store) -> anyhow::Result<Opened> {
    let told = |err| told(settings, err);
    let privacy = known_privacy(settings)?.ok_or_else(|| {
        anyhow!("the pepper of the store's customers is not known").context(SettingFault("privacy.pepper_file"))
    })?;
    let layers = pepper::before(store, &privacy).await.map_err(told)?;
    let left = store.keys_to_change().await.map_err(told)?;
    anyhow::ensure!(
        left == 0,
        "{left} customers have still a key of the pepper before: `scoreline serve` goes on with it"
    );
    let (kept, erased_seq) = store.tombstones_since(-1).await.map_err(told)?;
    let tombstones = Tombstones::default();
    tombstones.add(&kept);
    let (privacy, promotions) = (PrivacySettings { layers, ..privacy }, Promotions::default());
    Ok(Opened { store: store.clone(), privacy, tombstones, erased_seq, promotions })
}

/// The promoted versions, for a command that loads models. What is not known is said and taken for none.
pub fn promotions(settings: &Settings) -> Promotions {
    match &settings.store.place {
        StorePlace::Sqlite(path) if !path.exists() => return Promotions::default(),
        StorePlace::Memory => return Promotions::default(),
        StorePlace::Sqlite(_) | StorePlace::Postgres(_) => {}
    }
    let read = run_until_signal(async {
        let store = open_to_read(settings).await?;
        let promotions = store.promotions().await;
        store.close().await;
        promotions.map_err(|err| told(settings, err))
    });
    read.unwrap_or_else(|err| {
        let reason = with_causes(&*err);
        eprintln!("warning: promoted versions are not known, the newest is taken: {reason}");
        Promotions::default()
    })
}

/// Begins to open a server's store; what customers are hashed with is known when this returns. Predictions do not wait for
/// a database that is slow or gone, so neither does a start.
///
/// # Errors
/// When a file can never be used as things are, or no pepper is known.
pub(super) async fn start(settings: &Settings) -> anyhow::Result<(Opening, PrivacySettings)> {
    let own = settings.clone();
    let mut opening: BoxFuture<'static, _> = Box::pin(async move { open(&own, tell_log).await });
    let first = match timeout(START_PATIENCE, &mut opening).await {
        Ok(first) => first,
        Err(_) => match known_privacy(settings)? {
            Some(privacy) => return Ok((Opening::UnderWay(opening), privacy)),
            // Whether a pepper is to be drawn says the store alone.
            None => opening.await,
        },
    };
    match first {
        Ok(opened) => {
            let privacy = opened.privacy.clone();
            Ok((Opening::Open(Box::new(opened)), privacy))
        }
        Err(err) if ends_a_start(settings, &err) => Err(err),
        Err(err) => match known_privacy(settings)? {
            Some(privacy) => Ok((Opening::Failed(err), privacy)),
            None => Err(err),
        },
    }
}

/// Whether trying again cannot help, or would help a second server on one file. A database that several replicas share may
/// be mended meanwhile, but not the pepper of this one.
fn ends_a_start(settings: &Settings, err: &anyhow::Error) -> bool {
    match err.downcast_ref::<StoreError>() {
        Some(StoreError::OtherPepper { .. } | StoreError::Locked { .. }) => true,
        Some(_) | None => err.is::<SettingFault>() && !matches!(settings.store.place, StorePlace::Postgres(_)),
    }
}

/// Runs a command's work until it is done or a signal comes.
///
/// # Errors
/// When the work fails, or a signal comes.
pub fn run_until_signal<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("runtime cannot start")?.block_on(async {
        let mut signals = Signals::listen();
        tokio::select! {
            ended = work => ended,
            signal = signals.next() => Err(anyhow!("interrupted by {signal}")),
        }
    })
}

async fn begin(settings: &Settings, store: &Store, tell: TellKeys) -> anyhow::Result<Opened> {
    let folder = match &settings.store.place {
        StorePlace::Sqlite(path) => folder_of(path),
        StorePlace::Postgres(_) | StorePlace::Memory => Path::new(OLD_FOLDER),
    };
    let privacy = match known_privacy(settings)? {
        Some(privacy) => privacy,
        // Under a new pepper nobody in them would be found again, and who was erased would be forgotten.
        None if has_old_customers(folder) => {
            let problem = anyhow!(
                "files of an earlier version in `{}` tell of customers under a pepper that is not given: give it as \
                 `privacy.pepper_file`, or move the files away when there never was a pepper that lasts",
                folder.display()
            );
            return Err(problem.context(key(settings)));
        }
        None => PrivacySettings { pepper: Some(drawn_pepper(settings, store).await?), ..settings.privacy.clone() },
    };
    let layers = pepper::settle(store, &privacy, tell).await.map_err(|err| told(settings, err))?;
    let privacy = PrivacySettings { layers, ..privacy };
    if let Some(taken) = store.take_over(folder).await.map_err(|err| told(settings, err))? {
        let TakenOver { files, predictions, outcomes, tombstones, promotions, damaged_lines } = taken;
        tracing::warn!(
            files,
            predictions,
            outcomes,
            tombstones,
            promotions,
            damaged_lines,
            "what earlier versions kept in files was taken into the store"
        );
    }
    if folder != Path::new(OLD_FOLDER) && has_old_files(Path::new(OLD_FOLDER)) {
        tracing::warn!(
            folder = OLD_FOLDER,
            beside = %folder.display(),
            "files of an earlier version were not taken in: they are not beside the store; move them there if they are its"
        );
    }
    let tombstones = Tombstones::default();
    let (kept, erased_seq) = store.tombstones_since(-1).await.map_err(|err| told(settings, err))?;
    tombstones.add(&kept);
    let promotions = store.promotions().await.map_err(|err| told(settings, err))?;
    Ok(Opened { store: store.clone(), privacy, tombstones, erased_seq, promotions })
}

/// The settings with the pepper that was given or is kept; `None` when one is to be drawn.
pub(super) fn known_privacy(settings: &Settings) -> anyhow::Result<Option<PrivacySettings>> {
    let mut privacy = settings.privacy.clone();
    if let (None, StorePlace::Sqlite(path)) = (&privacy.pepper, &settings.store.place) {
        let file = path.with_file_name(PEPPER);
        if file.exists() {
            let read = config::pepper_in(&file);
            let failed = |problem| anyhow!("the pepper that was drawn {problem}").context(key(settings));
            privacy.pepper = Some(read.map_err(failed)?);
        }
    }
    Ok(privacy.pepper.is_some().then_some(privacy))
}

/// A new pepper, kept beside the store's file before anything is hashed with it.
async fn drawn_pepper(settings: &Settings, store: &Store) -> anyhow::Result<secrecy::SecretString> {
    let drawn = draw_pepper();
    let StorePlace::Sqlite(path) = &settings.store.place else {
        tracing::warn!("`store.path` is `:memory:`: what is kept of customers ends with this process");
        return Ok(drawn);
    };
    let file = path.with_file_name(PEPPER);
    let shown = file.display();
    if !store.peppers().await.map_err(|err| told(settings, err))?.is_new() {
        let problem = anyhow!(
            "its customers are hashed with a pepper that is not known: put the file `{shown}` back, or give the pepper as \
             `privacy.pepper_file`; without it nobody in the store is found again, and all that is left is to move the \
             store away"
        );
        return Err(problem.context(key(settings)));
    }
    let line = format!("{}\n", secrecy::ExposeSecret::expose_secret(&drawn));
    let written = write_whole(&file, line.as_bytes(), 0o600);
    written.with_context(|| format!("the pepper cannot be kept in `{shown}`")).context(key(settings))?;
    tracing::warn!(path = %shown, "a pepper was drawn; keep a copy: without it nobody in the store is found again");
    Ok(drawn)
}

/// With the key that says where the store is, as a fault of the settings where trying again cannot help: a file does not
/// mend itself.
fn told(settings: &Settings, err: StoreError) -> anyhow::Error {
    let key = key(settings);
    let newer = matches!(err, StoreError::Newer { .. } | StoreError::OtherSchema { .. });
    let passing = newer || err.is_passing() || matches!(err, StoreError::Locked { .. });
    let err = anyhow::Error::new(err);
    if passing { err.context(key.to_string()) } else { err.context(key) }
}

fn key(settings: &Settings) -> SettingFault {
    SettingFault(match &settings.store.place {
        StorePlace::Sqlite(_) | StorePlace::Memory => "store.path",
        StorePlace::Postgres(_) => "store.url",
    })
}
