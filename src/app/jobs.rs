//! The jobs and what they need, put together from the settings: the store, the platform, the sink. In a server they run
//! beside the answers and wait for the store; from the command line they run once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::{BoxFuture, join_all};
use tokio::time::sleep;

use super::stored;
use crate::config::Settings;
use crate::http::{Jobs, WriteBackDesk};
use crate::lifecycle::Stop;
use crate::monitoring::Monitoring;
use crate::scoring::Scorer;
use crate::scoring::feature_book::FeatureBook;
use crate::sinks::{FileSink, ProfileSink, ScoreSink};
use crate::worker::extract::{Begin, Extracted, Extraction, Seen};
use crate::worker::feature_feed::StoreFeed;
use crate::worker::features::{FeaturePass, Folded, Whose};
use crate::worker::follow_features::BookKeeper;
use crate::worker::rescore::{Rescore, Rescored};
use crate::worker::schedule::{Driver, Job, Timetable};
use crate::worker::write_back::{WriteBack, WrittenBack};
use crate::worker::{self, Board, Leases, SinkSettings};
use scoreline_domain::privacy::erasure::EraseError;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::privacy::{Erasable, Eraser, IdHasher, Tombstones};
use scoreline_domain::time::{SystemClock, Timestamp};
use scoreline_domain::{CustomerKey, JobName};
use scoreline_engine::inference::registry::Patience;
use scoreline_genesys::Genesys;
use scoreline_store::{Place, Store};

/// How often predictions by id look for changed features.
const BOOK_POLL: Duration = Duration::from_secs(1);
/// A store that cannot be opened is tried again after this long, doubled up to the second.
const OPEN_AGAIN: Duration = Duration::from_secs(1);
const OPEN_AGAIN_MOST: Duration = Duration::from_mins(1);
/// How long a command waits for a lease that a killed process has left behind.
const LEASE_PATIENCE: Duration = Duration::from_mins(1);
const LEASE_POLL: Duration = Duration::from_secs(1);

/// The jobs of a server, before the store is open.
#[derive(Clone)]
pub(super) struct Pipeline {
    board: Board,
    store: Arc<OnceLock<Store>>,
    target: Option<&'static str>,
}

impl Pipeline {
    /// `None` for a server that only predicts.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        settings.serves_store.then(|| {
            let extract = settings.genesys.is_some().then_some(JobName::Extract);
            let target = target(settings);
            let write_back = target.is_some().then_some(JobName::WriteBack);
            let always = [JobName::Features, JobName::Rescore];
            let board = Board::new(extract.into_iter().chain(always).chain(write_back));
            Self { board, store: Arc::default(), target }
        })
    }

    /// What the admin listener is shown and may ask for.
    pub(super) fn desks(&self) -> (Jobs, WriteBackDesk) {
        let (shown, asked) = (self.board.clone(), self.board.clone());
        let jobs = Jobs { statuses: Arc::new(move || shown.statuses()), nudge: Arc::new(move |job| asked.nudge(job)) };
        (jobs, WriteBackDesk { store: Arc::clone(&self.store), target: self.target })
    }

    /// Erases customers in the store.
    pub(super) fn place(&self) -> Arc<dyn Erasable> {
        Arc::new(StorePlace(Arc::clone(&self.store)))
    }

    /// Opens the store, however long that takes, then runs the jobs until the process stops. A supervised task.
    pub(super) async fn run(self, parts: Parts, stop: Stop) -> anyhow::Result<()> {
        let Parts { settings, scorer, eraser, platform } = parts;
        worker::describe();
        let tombstones = eraser.tombstones().clone();
        let opened = tokio::select! {
            opened = open_patiently(&settings, tombstones) => opened,
            () = stop.requested() => return Ok(()),
        };
        let (store, sink) = opened;
        let _ = self.store.set(store.clone());
        super::finish_erasures(eraser).await?;
        let clock = Arc::new(SystemClock);
        let leases = Leases::new(store.clone(), &holder(&settings), clock.clone());
        if let Some(platform) = &platform {
            resume(&store, platform).await;
        }
        let sink = sink.or_else(|| profile_sink(&settings, platform.as_ref()));
        let jobs = jobs(&settings, &leases, &scorer, platform.as_ref(), sink);
        let drivers = jobs.into_iter().filter_map(|(job, timetable)| {
            let (progress, wake) = self.board.handles(job.name())?;
            let successors = self.board.wakes(successors(job.name()));
            let driver = Driver { job, timetable, wake, successors, clock: clock.clone(), progress };
            Some(Box::pin(driver.run(stop.soft().clone())) as BoxFuture<'static, ()>)
        });
        let keeper = scorer.book().map(|book| {
            let keeper = BookKeeper::new(StoreFeed::new(store.clone()), book.clone());
            let stopped = stop.soft().clone().cancelled_owned();
            Box::pin(keeper.keep(BOOK_POLL, stopped)) as BoxFuture<'static, ()>
        });
        // One task: together they use no more than one of the threads that answer requests.
        join_all(drivers.chain(keeper)).await;
        store.close().await;
        Ok(())
    }
}

/// What the jobs of a server work with.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) scorer: Scorer,
    pub(super) eraser: Eraser,
    pub(super) platform: Option<Genesys>,
}

/// The store as a place that keeps something about customers, once it is open.
struct StorePlace(Arc<OnceLock<Store>>);

impl Erasable for StorePlace {
    fn name(&self) -> &'static str {
        "store"
    }

    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        match self.0.get() {
            Some(store) => store.erase(customers),
            None => Err(EraseError("the store is not open yet; erasing is finished when it is".to_owned())),
        }
    }
}

/// The connection to the platform, if there is one. Sends nothing.
///
/// # Errors
/// When no client can be made of the settings.
pub(super) fn platform(settings: &Settings, hasher: IdHasher) -> anyhow::Result<Option<Genesys>> {
    let Some(genesys) = &settings.genesys else { return Ok(None) };
    let sealer = Sealer::new(&settings.privacy);
    let platform = Genesys::new(genesys.clone(), hasher, sealer, Arc::new(SystemClock)).context("`[genesys]`")?;
    Ok(Some(platform))
}

/// Fetches history once, telling `observe` after each step.
///
/// # Errors
/// When there is no platform, or the platform or the store does not answer.
pub async fn extract_once(
    settings: &Settings,
    from: Option<Timestamp>,
    mut observe: impl FnMut(&Seen) + Send,
) -> anyhow::Result<Extracted> {
    let (hasher, tombstones) = stored::hasher(settings)?;
    let platform = platform(settings, hasher)?;
    let platform = platform.context("there is no platform to fetch from: set `[genesys]`")?;
    let store = stored::open(settings, tombstones).await?;
    let leases = Leases::new(store.clone(), &holder(settings), Arc::new(SystemClock));
    resume(&store, &platform).await;
    let extraction = Extraction { source: platform.history(), leases, settings: settings.extract };
    let begin = from.map_or(Begin::Onwards, Begin::At);
    let extracted = patiently(async || extraction.run(begin, &mut observe).await).await;
    store.close().await;
    extracted
}

/// Folds, scores and writes back once. `write_back` is `None` when nothing is written.
///
/// # Errors
/// When there is no model, or the store or the sink does not answer.
pub async fn rescore_once(
    settings: &Settings,
    whose: Whose,
) -> anyhow::Result<(Folded, Rescored, Option<WrittenBack>)> {
    let (hasher, tombstones) = stored::hasher(settings)?;
    let platform = platform(settings, hasher)?;
    let registry = super::registry(settings);
    super::scan(&registry, Patience::Now).await?;
    let book = FeatureBook::new(settings.scoring.features_stale_after);
    let scorer = super::scorer_settings(settings);
    let scorer = Scorer::with_book(registry, Arc::new(SystemClock), scorer, Monitoring::default(), Some(book));
    let store = stored::open(settings, tombstones).await?;
    let leases = Leases::new(store.clone(), &holder(settings), Arc::new(SystemClock));
    let sink = match file_sink(settings)? {
        None => profile_sink(settings, platform.as_ref()),
        file => file,
    };
    if let Some(platform) = &platform {
        resume(&store, platform).await;
    }
    let done = async {
        let pass = FeaturePass::new(leases.clone());
        let folded = patiently(async || pass.run(whose, |_| ()).await).await?;
        let rescore = Rescore { scorer, leases: leases.clone(), target: target(settings) };
        let rescored = patiently(async || rescore.run(|_| ()).await).await?;
        let Some(sink) = sink else { return Ok((folded, rescored, None)) };
        let write_back = WriteBack { sink, leases, settings: settings.write_back.clone() };
        let written = patiently(async || write_back.run(|_| ()).await).await?;
        Ok((folded, rescored, Some(written)))
    };
    let done = Box::pin(done).await;
    store.close().await;
    done
}

/// The place that profiles are written to.
pub fn target(settings: &Settings) -> Option<&'static str> {
    match (&settings.write_back.sink, &settings.genesys) {
        (SinkSettings::File(_), _) => Some(FileSink::TARGET),
        (SinkSettings::Profile, Some(genesys)) => Some(ProfileSink::target_of(genesys.api)),
        (SinkSettings::None, _) | (SinkSettings::Profile, None) => None,
    }
}

/// Waits for a job that another process has under its lease.
async fn patiently<T>(mut run: impl AsyncFnMut() -> Result<Option<T>, worker::JobError>) -> anyhow::Result<T> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(done) = run().await? {
            return Ok(done);
        }
        if waited >= LEASE_PATIENCE {
            return Err(anyhow!("another process is at it; ask that one: POST /admin/jobs/<job>/run"));
        }
        waited += LEASE_POLL;
        sleep(LEASE_POLL).await;
    }
}

fn jobs(
    settings: &Settings,
    leases: &Leases,
    scorer: &Scorer,
    platform: Option<&Genesys>,
    sink: Option<Arc<dyn ScoreSink>>,
) -> Vec<(Arc<dyn Job>, Timetable)> {
    let mut jobs: Vec<(Arc<dyn Job>, Timetable)> = Vec::new();
    if let Some(platform) = platform {
        let extraction = Extraction { source: platform.history(), leases: leases.clone(), settings: settings.extract };
        jobs.push((Arc::new(extraction), Timetable::every(settings.extract.every, settings.extract.jitter)));
    }
    let pass = FeaturePass::new(leases.clone());
    jobs.push((Arc::new(pass), Timetable::every(settings.upkeep.features_every, Duration::ZERO)));
    let rescore = Rescore { scorer: scorer.clone(), leases: leases.clone(), target: target(settings) };
    jobs.push((Arc::new(rescore), Timetable::every(settings.upkeep.rescore_every, Duration::ZERO)));
    if let Some(sink) = sink {
        let write_back = WriteBack { sink, leases: leases.clone(), settings: settings.write_back.clone() };
        jobs.push((Arc::new(write_back), Timetable::every(settings.write_back.every, Duration::ZERO)));
    }
    jobs
}

/// Who has something to do when a job has done its work.
fn successors(job: JobName) -> &'static [JobName] {
    match job {
        JobName::Extract => &[JobName::Features],
        JobName::Features => &[JobName::Rescore],
        JobName::Rescore => &[JobName::WriteBack],
        JobName::WriteBack => &[],
    }
}

/// Both processes together keep to the platform's limit.
async fn resume(store: &Store, platform: &Genesys) {
    platform.resume(&worker::write_back::spent(store, platform.history().name()).await);
}

/// Predictions are answered meanwhile, and whoever mends the store need not start the server anew.
async fn open_patiently(settings: &Settings, tombstones: Tombstones) -> (Store, Option<Arc<dyn ScoreSink>>) {
    let mut pause = OPEN_AGAIN;
    let mut told = String::new();
    let gauge = metrics::gauge!("scoreline_store_open");
    metrics::describe_gauge!("scoreline_store_open", "1 once the store is open; jobs wait for it, predictions do not.");
    gauge.set(0.0);
    loop {
        let opened = async {
            let store = stored::open(settings, tombstones.clone()).await?;
            match file_sink(settings) {
                Ok(sink) => Ok((store, sink)),
                Err(err) => {
                    store.close().await;
                    Err(err)
                }
            }
        };
        match opened.await {
            Ok(opened) => {
                gauge.set(1.0);
                tracing::info!("the store is open");
                return opened;
            }
            Err(err) => {
                let text = format!("{err:#}");
                if text != told {
                    tracing::error!(
                        reason = text,
                        "jobs wait: the store or the score file cannot be opened; tried again until it can"
                    );
                    told = text;
                }
            }
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(OPEN_AGAIN_MOST);
    }
}

fn file_sink(settings: &Settings) -> anyhow::Result<Option<Arc<dyn ScoreSink>>> {
    match &settings.write_back.sink {
        SinkSettings::File(file) => {
            let sink = FileSink::open(file.clone()).context("`write_back.path`")?;
            Ok(Some(Arc::new(sink)))
        }
        SinkSettings::None | SinkSettings::Profile => Ok(None),
    }
}

fn profile_sink(settings: &Settings, platform: Option<&Genesys>) -> Option<Arc<dyn ScoreSink>> {
    match (&settings.write_back.sink, platform, &settings.genesys) {
        (SinkSettings::Profile, Some(platform), Some(genesys)) => {
            Some(Arc::new(ProfileSink::new(platform.clone(), genesys.api)))
        }
        (SinkSettings::None | SinkSettings::Profile | SinkSettings::File(_), _, _) => None,
    }
}

/// This process's name among those that share the store. A file has one process at a time: always the same name, so that a
/// process that starts after a kill need not wait for the leases of the one before.
fn holder(settings: &Settings) -> String {
    match &settings.store.place {
        Place::Sqlite(_) => "this file's process".to_owned(),
        Place::Postgres(_) => format!("{}-{}", std::process::id(), uuid::Uuid::new_v4()),
    }
}
