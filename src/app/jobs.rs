//! The jobs and what they need, put together from the settings: the store, the platform, the sink. In a server they run
//! beside the answers and wait for the store; from the command line they run once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::follow::{self, Follower, STORE_OPEN, StoreDesk, keep_places};
use super::pace::KeptPace;
use super::stored::{self, KEYS_LEFT, Opened, Opening};
use crate::config::Settings;
use crate::conversations::ConversationBook;
use crate::http::{Jobs, QuestionDesk, Readiness, WriteBackDesk, answer_later};
use crate::leads::{LeadDesk, LeadDeskParts, PauseBoard, TargetPause};
use crate::lifecycle::Stop;
use crate::monitoring::{Monitoring, ReplayLog, replay_log};
use crate::scoring::Scorer;
use crate::scoring::feature_table::FeatureTable;
use crate::sinks::{CallbackHosts, Callbacks, FileSink, LeadSink, ProfilePlace, ProfileSink};
use crate::worker::callbacks::TellCallbacks;
use crate::worker::deliver::Deliver;
use crate::worker::expire::Expire;
use crate::worker::extract::{Begin, Extracted, Extraction, ExtractionProgress};
use crate::worker::feature_feed::StoreFeed;
use crate::worker::features::{FeaturePass, FoldedPass, Whose};
use crate::worker::follow_features::FeatureTableKeeper;
use crate::worker::predictions::{AnswerLater, Predictions};
use crate::worker::push::Push;
use crate::worker::rescore::{Rescore, Rescored};
use crate::worker::schedule::{Driver, Job, Timetable};
use crate::worker::write_back::{WriteBack, WrittenBack};
use crate::worker::{self, Board, LeadTargets, Leases, PushSettings, SinkSettings, WriteBackSettings};
use scoreline_domain::JobName;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::privacy::{Eraser, IdHasher, PrivacySettings, Tombstones};
use scoreline_domain::text::with_causes;
use scoreline_domain::time::{Clock, SystemClock, Timestamp};
use scoreline_domain::trace::Tracer;
use scoreline_engine::inference::registry::Patience;
use scoreline_genesys::{Genesys, outbound};
use scoreline_store::{Store, StoreError, StorePlace};

/// How often predictions by id look for changed features.
const FEATURES_POLL: Duration = Duration::from_secs(1);
/// How often questions are looked for that another replica took in, and callbacks that are to be told again.
const LATER_POLL: Duration = Duration::from_secs(5);
/// How often scores of leads are looked through for those that have grown old.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);
/// Claims of a target that are worked on at a time: where one answer takes seconds, one after the other would not use the rate.
const PUSHED_AT_ONCE: usize = 4;
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
    desk: StoreDesk,
    target: Option<&'static str>,
    /// Where callbacks may go.
    hosts: Option<CallbackHosts>,
    /// Where scores of leads go.
    targets: Vec<String>,
    pauses: PauseBoard,
    /// Decides which runs are followed.
    tracer: Tracer,
}

impl Pipeline {
    pub(super) fn of(settings: &Settings, tracer: Tracer) -> Self {
        let extract = settings.genesys.is_some().then_some(JobName::Extract);
        let target = target(settings);
        let write_back = target.is_some().then_some(JobName::WriteBack);
        let always = [JobName::Features, JobName::Rescore];
        let callbacks = settings.callbacks.is_some().then_some(JobName::Callbacks);
        let later = std::iter::once(JobName::Predictions).chain(callbacks);
        let targets = lead_targets(settings);
        let leads = [JobName::Push, JobName::Expire].into_iter().filter(|_| !targets.is_empty());
        let board = Board::new(extract.into_iter().chain(always).chain(write_back).chain(leads).chain(later));
        metrics::describe_gauge!(
            STORE_OPEN,
            "1 while the store is open and does its work; predictions do not wait for it."
        );
        metrics::describe_gauge!(KEYS_LEFT, "Customers whose key is still one of the pepper before.");
        metrics::gauge!(STORE_OPEN).set(0.0);
        let hosts = settings.callbacks.as_ref().map(|callbacks| callbacks.hosts.clone());
        let pauses = PauseBoard::default();
        Self { board, desk: StoreDesk::new(settings.store.lasts()), target, hosts, targets, pauses, tracer }
    }

    /// What the admin listener is shown and may ask for.
    pub(super) fn desks(&self) -> (Jobs, WriteBackDesk) {
        let shown = self.board.clone();
        let asked = self.board.clone();
        let questions = QuestionDesk { store: Arc::clone(&self.desk.store), callbacks: self.hosts.clone() };
        let jobs = Jobs {
            statuses: Arc::new(move || shown.statuses()),
            nudge: Arc::new(move |job| asked.nudge(job)),
            questions,
        };
        (jobs, WriteBackDesk { store: Arc::clone(&self.desk.store), target: self.target })
    }

    /// Where scores of leads come in.
    pub(super) fn lead_desk(&self, settings: &Settings, privacy: &PrivacySettings) -> LeadDesk {
        let asked = self.board.clone();
        LeadDesk::new(LeadDeskParts {
            store: Arc::clone(&self.desk.store),
            targets: self.targets.clone(),
            settings: settings.leads,
            keeps_reasons: settings.outbound.reason_column.is_some(),
            pauses: self.pauses.clone(),
            sealer: Sealer::new(privacy),
            clock: Arc::new(SystemClock),
            nudge: Arc::new(move || _ = asked.nudge(JobName::Push)),
        })
    }

    /// The store for those who erase and promote.
    pub(super) fn desk(&self) -> StoreDesk {
        self.desk.clone()
    }

    /// Whether the process wants traffic, knows its customers, and its store does its work.
    pub(super) fn readiness(&self, table: FeatureTable, at_most: Duration) -> Readiness {
        Readiness::with(Arc::clone(&self.desk.store), table, at_most)
    }

    /// Lets everybody work with the store that is open now.
    pub(super) fn take_in(&self, opened: &Opened, eraser: &Eraser, monitoring: &Monitoring, hasher: &IdHasher) {
        hasher.know(&opened.privacy.layers);
        eraser.follow(&opened.tombstones.all());
        eraser.tombstones().set_read();
        let _ = self.desk.store.set(opened.store.clone());
        if let Some(ledger) = monitoring.ledger() {
            ledger.open();
        }
        metrics::gauge!(STORE_OPEN).set(1.0);
        tracing::info!("the store is open");
    }

    /// Opens the store, however long that takes, tells who waits for it, and runs the jobs until the process stops. A
    /// supervised task.
    pub(super) async fn run(self, parts: JobParts, opening: Opening, stop: Stop) -> anyhow::Result<()> {
        let JobParts { settings, scorer, hasher, eraser, monitoring, platform, callbacks, conversations, opened: tell } =
            parts;
        worker::describe();
        let opened = match opening {
            Opening::Open(opened) => *opened,
            later @ (Opening::UnderWay(_) | Opening::Failed(_)) => {
                let opened = tokio::select! {
                    opened = open_patiently(&settings, later) => opened,
                    () = stop.requested() => return Ok(()),
                };
                self.take_in(&opened, &eraser, &monitoring, &hasher);
                opened
            }
        };
        let Opened { store, erased_seq, privacy, .. } = opened;
        // Whoever keeps the ledger goes on until the last request is answered, and closes the store.
        let _ = tell.send(store.clone());
        let registry = Arc::clone(scorer.registry());
        let tombstones = eraser.tombstones().clone();
        let (shared, scorer_too) = (store.clone(), scorer.clone());
        let follower = Follower { store: shared, eraser, registry, erased_seq, scorer: scorer_too, tiers_seq: 0 };
        let follower = Box::pin(follower.run(stop.clone())) as BoxFuture<'static, ()>;
        let keeper = FeatureTableKeeper::new(StoreFeed::new(store.clone()), scorer.table().clone());
        let keeper = keeper.keep(FEATURES_POLL, stop.soft().clone().cancelled_owned());
        let keeper = Box::pin(keeper) as BoxFuture<'static, ()>;
        let watching = follow::watch(store.clone(), stop.clone());
        let noting = keep_conversations(conversations, store.clone(), stop.clone());
        let logging = keep_replay_log(monitoring.replay_log().cloned(), store.clone(), tombstones, stop.clone());
        let leases = Leases::new(store, &holder(&settings), Arc::new(SystemClock));
        let later = self.drive_all(later(&leases, &scorer, &hasher, callbacks), &stop);
        let driven = self.drive(&settings, &leases, &scorer, platform.as_ref(), &privacy, &stop);
        // One task: together they use no more than one of the threads that answer requests.
        tokio::join!(driven, later, follower, keeper, watching, noting, logging);
        Ok(())
    }

    /// Runs the jobs once they know where to write to.
    async fn drive(
        &self,
        settings: &Settings,
        leases: &Leases,
        scorer: &Scorer,
        platform: Option<&Genesys>,
        privacy: &PrivacySettings,
        stop: &Stop,
    ) {
        let sealer = Sealer::new(privacy);
        let sink = tokio::select! {
            sink = sink_patiently(settings, platform) => sink,
            () = stop.requested() => return,
        };
        if let Some(platform) = platform {
            platform.keep_pace_in(Arc::new(KeptPace::new(leases.store().clone())));
        }
        let mut all = jobs(settings, leases, scorer, platform, sink);
        all.extend(
            platform.into_iter().flat_map(|platform| lead_jobs(settings, leases, platform, &sealer, &self.pauses)),
        );
        self.drive_all(all, stop).await;
    }

    async fn drive_all(&self, jobs: Vec<(Arc<dyn Job>, Timetable)>, stop: &Stop) {
        let clock = Arc::new(SystemClock);
        let drivers = jobs.into_iter().filter_map(|(job, timetable)| {
            let (progress, wake) = self.board.handles(job.name())?;
            let successors = self.board.wakes(successors(job.name()));
            let (clock, tracer) = (clock.clone(), self.tracer.clone());
            let driver = Driver { job, timetable, wake, successors, clock, progress, tracer };
            Some(Box::pin(driver.run(stop.soft().clone())) as BoxFuture<'static, ()>)
        });
        join_all(drivers).await;
    }
}

/// Copies conversations into the store until the process stops.
async fn keep_conversations(conversations: Option<ConversationBook>, store: Store, stop: Stop) {
    if let Some(conversations) = conversations {
        conversations.keep(store, stop.soft().clone().cancelled_owned()).await;
    }
}

/// Keeps questions for a replay until the process stops; where none are to be kept, lets go of those that are.
async fn keep_replay_log(log: Option<ReplayLog>, store: Store, tombstones: Tombstones, stop: Stop) {
    if let Some(log) = log {
        log.keep(store, tombstones, Arc::new(SystemClock), stop.soft().clone().cancelled_owned()).await;
    } else if let Err(error) = replay_log::clear(&store).await {
        tracing::warn!(%error, "questions that were kept for a replay are not deleted; the next start tries again");
    }
}

/// What the jobs of a server work with.
pub(super) struct JobParts {
    pub(super) settings: Settings,
    pub(super) scorer: Scorer,
    pub(super) hasher: IdHasher,
    pub(super) eraser: Eraser,
    pub(super) monitoring: Monitoring,
    pub(super) platform: Option<Genesys>,
    pub(super) callbacks: Option<Callbacks>,
    /// `None` without an agent's page.
    pub(super) conversations: Option<ConversationBook>,
    /// Told the store once it is open.
    pub(super) opened: oneshot::Sender<Store>,
}

/// The connection to the platform, if there is one. Sends nothing.
///
/// # Errors
/// When no client can be made of the settings.
pub(super) fn platform(
    settings: &Settings,
    privacy: &PrivacySettings,
    hasher: IdHasher,
) -> anyhow::Result<Option<Genesys>> {
    let Some(genesys) = &settings.genesys else { return Ok(None) };
    let sealer = Sealer::new(privacy);
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
    mut observe: impl FnMut(&ExtractionProgress) + Send,
) -> anyhow::Result<Extracted> {
    let opened = stored::open_for_command(settings).await?;
    let platform = platform(settings, &opened.privacy, opened.hasher())?;
    let platform = platform.context("there is no platform to fetch from: set `[genesys]`")?;
    let Opened { store, tombstones, .. } = opened;
    let leases = Leases::new(store.clone(), &holder(settings), Arc::new(SystemClock));
    platform.keep_pace_in(Arc::new(KeptPace::new(store.clone())));
    let extraction = Extraction { source: platform.history(), leases, settings: settings.extract };
    let begin = from.map_or(Begin::Onwards, Begin::At);
    let extracted = patiently(async || extraction.run(begin, &mut observe).await).await;
    let closed = stored::close(&store, &tombstones).await;
    extracted.and_then(|extracted| closed.map(|()| extracted))
}

/// Folds, scores and writes back once. `write_back` is `None` when nothing is written.
///
/// # Errors
/// When there is no model, or the store or the sink does not answer.
pub async fn rescore_once(
    settings: &Settings,
    whose: Whose,
) -> anyhow::Result<(FoldedPass, Rescored, Option<WrittenBack>)> {
    let opened = stored::open_for_command(settings).await?;
    let platform = platform(settings, &opened.privacy, opened.hasher())?;
    let Opened { store, tombstones, promotions, .. } = opened;
    let registry = super::registry(settings);
    registry.follow(promotions);
    super::scan(&registry, Patience::Now).await?;
    let table = FeatureTable::new(settings.scoring.features_stale_after);
    let scorer = super::scorer_settings(settings);
    let scorer = Scorer::new(registry, Arc::new(SystemClock), scorer, Monitoring::default(), table);
    let leases = Leases::new(store.clone(), &holder(settings), Arc::new(SystemClock));
    let sink = match file_sink(settings)? {
        None => profile_sink(settings, platform.as_ref()),
        file => file,
    };
    if let Some(platform) = &platform {
        platform.keep_pace_in(Arc::new(KeptPace::new(store.clone())));
    }
    let done = async {
        let pass = FeaturePass::new(leases.clone());
        let folded = patiently(async || pass.run(whose, |_| ()).await).await?;
        let rescore = Rescore { scorer, leases: leases.clone(), target: target(settings) };
        let rescored = patiently(async || rescore.run(|_| ()).await).await?;
        let Some(sink) = sink else { return Ok((folded, rescored, None)) };
        let write_back = write_back(settings, &leases, sink);
        let written = patiently(async || write_back.run(|_| ()).await).await?;
        Ok((folded, rescored, Some(written)))
    };
    let done = Box::pin(done).await;
    let closed = stored::close(&store, &tombstones).await;
    done.and_then(|done| closed.map(|()| done))
}

/// Where scores of leads come in from a command.
///
/// # Errors
/// When there is no model.
pub async fn lead_command(settings: &Settings, opened: &Opened) -> anyhow::Result<(Scorer, LeadDesk)> {
    let registry = super::registry(settings);
    registry.follow(opened.promotions.clone());
    super::scan(&registry, Patience::Now).await?;
    let table = FeatureTable::new(settings.scoring.features_stale_after);
    let scorer = super::scorer_settings(settings);
    let scorer = Scorer::new(registry, Arc::new(SystemClock), scorer, Monitoring::default(), table);
    keep_places(&opened.store, &scorer).await?;
    Ok((scorer, lead_desk(settings, opened.store.clone(), &opened.privacy)))
}

/// Keeps where the leads stand that a command has scored.
///
/// # Errors
/// When the store does not answer.
pub async fn keep_lead_places(opened: &Opened, scorer: &Scorer) -> Result<(), StoreError> {
    keep_places(&opened.store, scorer).await
}

/// A desk over a store that is open, for a command.
pub fn lead_desk(settings: &Settings, store: Store, privacy: &PrivacySettings) -> LeadDesk {
    LeadDesk::new(LeadDeskParts {
        store: Arc::new(store.into()),
        targets: lead_targets(settings),
        settings: settings.leads,
        keeps_reasons: settings.outbound.reason_column.is_some(),
        pauses: PauseBoard::default(),
        sealer: Sealer::new(privacy),
        clock: Arc::new(SystemClock),
        nudge: Arc::new(|| ()),
    })
}

/// Writes every score of a lead that is due to its targets, telling `observe` how many wait. Why a target pauses, when one does:
/// then the rest waits for a server, or the next command.
///
/// # Errors
/// When the platform or the store does not answer.
pub async fn push_once(
    settings: &Settings,
    opened: &Opened,
    mut observe: impl FnMut(u64) + Send,
) -> anyhow::Result<Vec<(String, TargetPause)>> {
    let Some(platform) = platform(settings, &opened.privacy, opened.hasher())? else { return Ok(Vec::new()) };
    platform.keep_pace_in(Arc::new(KeptPace::new(opened.store.clone())));
    let leases = Leases::new(opened.store.clone(), &holder(settings), Arc::new(SystemClock));
    let sealer = Sealer::new(&opened.privacy);
    let pauses = PauseBoard::default();
    let (push, _) = push_and_expire(settings, &leases, &platform, &sealer, &pauses);
    let progress = worker::JobProgress::new(JobName::Push);
    loop {
        patiently(async || push.run(&progress).await).await?;
        let mut waiting = 0;
        let mut paused = Vec::new();
        for target in lead_targets(settings) {
            let due = opened.store.count_due_writes(&target, SystemClock.now(), usize::MAX).await?;
            waiting += due as u64;
            paused.extend(pauses.of(&target).map(|pause| (target, pause)));
        }
        observe(waiting);
        if waiting == 0 || !paused.is_empty() {
            return Ok(paused);
        }
    }
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
    sink: Option<ProfilePlace>,
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
        let write_back = write_back(settings, leases, sink);
        jobs.push((Arc::new(write_back), Timetable::every(settings.write_back.every, Duration::ZERO)));
    }
    jobs
}

fn write_back(settings: &Settings, leases: &Leases, place: ProfilePlace) -> WriteBack {
    let WriteBackSettings { batch, give_up_after, .. } = settings.write_back;
    WriteBack(Arc::new(Deliver::new(place, leases.clone(), batch as usize, give_up_after)))
}

/// The names of the places that scores of leads are pushed to.
pub fn lead_targets(settings: &Settings) -> Vec<String> {
    match (settings.push.sink, &settings.genesys) {
        (LeadTargets::None, _) | (_, None) => Vec::new(),
        (LeadTargets::ContactLists | LeadTargets::Entity, Some(genesys)) => outbound::target_names(genesys),
    }
}

/// The jobs that push scores of leads and let them grow old.
fn lead_jobs(
    settings: &Settings,
    leases: &Leases,
    platform: &Genesys,
    sealer: &Sealer,
    pauses: &PauseBoard,
) -> Vec<(Arc<dyn Job>, Timetable)> {
    if lead_targets(settings).is_empty() {
        return Vec::new();
    }
    let (push, expire) = push_and_expire(settings, leases, platform, sealer, pauses);
    vec![
        (Arc::new(push), Timetable::every(settings.push.every, Duration::ZERO)),
        (Arc::new(expire), Timetable::every(EXPIRE_EVERY, Duration::ZERO)),
    ]
}

fn push_and_expire(
    settings: &Settings,
    leases: &Leases,
    platform: &Genesys,
    sealer: &Sealer,
    pauses: &PauseBoard,
) -> (Push, Expire) {
    let clock: Arc<dyn Clock> = Arc::clone(leases.clock());
    let deliver = |target| {
        let stale_value = settings.leads.stale_value;
        let sink = LeadSink::new(target, platform, sealer.clone(), Arc::clone(&clock), stale_value);
        let PushSettings { batch, give_up_after, absent_retry, .. } = settings.push;
        let deliver = Deliver::new(sink, leases.clone(), batch as usize, give_up_after);
        Arc::new(deliver.of_leads(PUSHED_AT_ONCE, absent_retry))
    };
    let targets: Vec<_> = platform.lead_targets().into_iter().map(deliver).collect();
    let push =
        Push { leases: leases.clone(), targets: targets.clone(), pauses: pauses.clone(), reported_at: Arc::default() };
    let expire = Expire {
        leases: leases.clone(),
        targets,
        rules: settings.leads.rules,
        stale_value: settings.leads.stale_value,
        state: Arc::default(),
    };
    (push, expire)
}

/// The jobs behind questions that nobody waits for.
fn later(
    leases: &Leases,
    scorer: &Scorer,
    hasher: &IdHasher,
    callbacks: Option<Callbacks>,
) -> Vec<(Arc<dyn Job>, Timetable)> {
    let timetable = Timetable::every(LATER_POLL, Duration::ZERO);
    let (scorer, hasher) = (scorer.clone(), hasher.clone());
    let answer: AnswerLater = Arc::new(move |question, can_wait| {
        let (scorer, hasher) = (scorer.clone(), hasher.clone());
        Box::pin(async move { answer_later(&scorer, &hasher, &question, can_wait).await })
    });
    let predictions: Arc<dyn Job> = Arc::new(Predictions { leases: leases.clone(), answer });
    let callbacks =
        callbacks.map(|callbacks| -> Arc<dyn Job> { Arc::new(TellCallbacks { leases: leases.clone(), callbacks }) });
    std::iter::once(predictions).chain(callbacks).map(|job| (job, timetable)).collect()
}

/// Who has something to do when a job has done its work.
fn successors(job: JobName) -> &'static [JobName] {
    match job {
        JobName::Extract => &[JobName::Features],
        JobName::Features => &[JobName::Rescore],
        JobName::Rescore => &[JobName::WriteBack],
        JobName::Predictions => &[JobName::Callbacks],
        JobName::Expire => &[JobName::Push],
        JobName::WriteBack | JobName::Push | JobName::Callbacks => &[],
    }
}

/// Predictions are answered meanwhile, and whoever mends the store need not start the server anew.
async fn open_patiently(settings: &Settings, opening: Opening) -> Opened {
    let mut next = match opening {
        Opening::Open(opened) => return *opened,
        Opening::UnderWay(opening) => opening.await,
        Opening::Failed(err) => Err(err),
    };
    let mut waiting = Waiting::new("the store");
    loop {
        match next {
            Ok(opened) => return opened,
            Err(err) => waiting.after(&err).await,
        }
        next = stored::open(settings, stored::tell_log).await;
    }
}

/// Where scores are written to, once it can be used.
async fn sink_patiently(settings: &Settings, platform: Option<&Genesys>) -> Option<ProfilePlace> {
    let mut waiting = Waiting::new("the score file");
    loop {
        match file_sink(settings) {
            Ok(None) => return profile_sink(settings, platform),
            Ok(file) => return file,
            Err(err) => waiting.after(&err).await,
        }
    }
}

/// Pauses between attempts; each reason is told once.
struct Waiting {
    what: &'static str,
    pause: Duration,
    told: String,
}

impl Waiting {
    fn new(what: &'static str) -> Self {
        Self { what, pause: OPEN_AGAIN, told: String::new() }
    }

    async fn after(&mut self, err: &anyhow::Error) {
        let reason = with_causes(&**err);
        if reason != self.told {
            tracing::error!(reason, waiting = self.what, "tried again until it can be used; predictions are answered");
            self.told = reason;
        }
        sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.pause = (self.pause * 2).min(OPEN_AGAIN_MOST);
    }
}

fn file_sink(settings: &Settings) -> anyhow::Result<Option<ProfilePlace>> {
    match &settings.write_back.sink {
        SinkSettings::File(file) => {
            let sink = FileSink::open(file.clone()).context("`write_back.path`")?;
            Ok(Some(ProfilePlace::File(sink)))
        }
        SinkSettings::None | SinkSettings::Profile => Ok(None),
    }
}

fn profile_sink(settings: &Settings, platform: Option<&Genesys>) -> Option<ProfilePlace> {
    match (&settings.write_back.sink, platform, &settings.genesys) {
        (SinkSettings::Profile, Some(platform), Some(genesys)) => {
            Some(ProfilePlace::Platform(ProfileSink::new(platform, genesys.api)))
        }
        (SinkSettings::None | SinkSettings::Profile | SinkSettings::File(_), _, _) => None,
    }
}

/// This process's name among those that share the store. A file has one process at a time: always the same name, so that a
/// process that starts after a kill need not wait for the leases of the one before.
fn holder(settings: &Settings) -> String {
    match &settings.store.place {
        StorePlace::Sqlite(_) | StorePlace::Memory => "this file's process".to_owned(),
        StorePlace::Postgres(_) => format!("{}-{}", std::process::id(), uuid::Uuid::new_v4()),
    }
}
