//! Scores on their way to contact lists, against a simulated platform whose log is the proof. The numbers are those of the
//! scenarios that a delivery has to get through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scoreline::leads::{LeadSettings, PauseBoard};
use scoreline::sinks::LeadSink;
use scoreline::worker::deliver::Deliver;
use scoreline::worker::expire::Expire;
use scoreline::worker::push::Push;
use scoreline::worker::schedule::{Cause, Job as _, JobEnd};
use scoreline::worker::{JobProgress, Leases};
use scoreline_domain::JobName;
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_genesys::settings::{Api, ContactWriteMode};
use scoreline_simulator::{AwkwardContacts, FaultPlan, Logged, SimulatorSettings};
use scoreline_store::{LeadFact, LeadRuling, LeadSource, OutboxCounts, Store, StoreSettings, WishState};

use crate::desk::{Desk, small};

const READ: &str = "/api/v2/outbound/contactlists/*/contacts/bulk";
const WRITE: &str = "/api/v2/outbound/contactlists/*/contacts";
const TIMEOUT: Duration = Duration::from_millis(800);

pub struct Scene {
    pub desk: Desk,
    pub list: String,
    pub store: Store,
    _folder: tempfile::TempDir,
}

fn plenty() -> SimulatorSettings {
    let mut settings = small();
    settings.limits.requests = 1_000_000;
    settings
}

impl Scene {
    async fn new(leads: &[&str]) -> Self {
        Self::with(plenty(), leads).await
    }

    pub async fn with(settings: SimulatorSettings, leads: &[&str]) -> Self {
        let mut desk = Desk::open(settings);
        let list = desk.simulator.contact_list().to_string();
        desk.settings.outbound.contact_lists = vec![list.clone()];
        desk.settings.timeout = TIMEOUT;
        desk.settings.requests_per_minute = 1_000_000;
        let folder = tempfile::tempdir().expect("a folder");
        let settings = StoreSettings::sqlite(folder.path().join("scoreline.db"));
        let store = Store::open(&settings).await.expect("opened");
        let scene = Self { desk, list, store, _folder: folder };
        for lead in leads {
            scene.put(lead, &[("leadId", lead), ("Cell", "+15555550100")]);
        }
        scene
    }

    fn put(&self, lead: &str, columns: &[(&str, &str)]) {
        self.desk.simulator.put_contact(&self.list, lead, columns.iter().copied());
    }

    pub fn faults(&self, plan: &str) {
        self.desk.simulator.set_faults(FaultPlan::parse(plan).expect("a plan"));
    }

    /// What one process pushes with.
    pub fn process(&self, holder: &str) -> (Push, Expire) {
        let client = self.desk.client();
        let clock: Arc<dyn Clock> = Arc::new(self.desk.simulator.clock());
        let leases = Leases::new(self.store.clone(), holder, Arc::clone(&clock));
        let settings = LeadSettings::default();
        let deliver = |target| {
            let sink = LeadSink::new(target, &client, self.desk.sealer(), Arc::clone(&clock), settings.stale_value);
            let deliver = Deliver::new(sink, leases.clone(), 1000, Duration::from_hours(24));
            Arc::new(deliver.of_leads(2, Duration::from_hours(1)))
        };
        let targets: Vec<_> = client.lead_targets().into_iter().map(deliver).collect();
        let (pauses, reported_at) = (PauseBoard::default(), Arc::default());
        let push = Push { leases: leases.clone(), targets: targets.clone(), pauses, reported_at };
        let (rules, stale_value) = (settings.rules, settings.stale_value);
        (push, Expire { leases, targets, rules, stale_value, state: Arc::default() })
    }

    pub fn targets(&self) -> Vec<String> {
        scoreline_genesys::outbound::target_names(&self.desk.settings)
    }

    pub fn fact(&self, lead: &str, score: u8, at: Timestamp) -> LeadFact {
        let key = self.desk.hasher().key(lead);
        LeadFact {
            lead: key,
            sealed: Some(self.desk.sealer().seal(&key, lead)),
            score,
            probability: None,
            reason: "".into(),
            calculated_at: at,
            sequence: 0,
            source: LeadSource::Event,
            version: "".into(),
            event: None,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.desk.simulator.now()
    }

    async fn take(&self, facts: &[LeadFact]) -> Vec<LeadRuling> {
        let rules = LeadSettings::default().rules;
        let verdicts = self.store.take_facts(facts, &self.targets(), &rules, self.now()).await.expect("taken");
        verdicts.into_iter().map(|verdict| verdict.ruling).collect()
    }

    /// Scores as of this moment.
    pub async fn tell(&self, scores: &[(&str, u8)]) {
        self.desk.simulator.advance(Duration::from_millis(5));
        let facts: Vec<_> = scores.iter().map(|(lead, score)| self.fact(lead, *score, self.now())).collect();
        self.take(&facts).await;
    }

    fn column(&self, lead: &str, column: &str) -> Option<String> {
        self.desk.simulator.contacts(&self.list).get(lead)?.get(column).cloned()
    }

    fn score(&self, lead: &str) -> Option<String> {
        self.column(lead, "ml_score")
    }

    pub fn requests(&self, is: impl Fn(&Logged) -> bool) -> usize {
        self.desk.simulator.log().iter().filter(|logged| is(logged)).count()
    }

    fn writes(&self) -> usize {
        self.requests(|logged| logged.method == "POST" && logged.template.ends_with("/contacts"))
    }

    pub async fn counts(&self) -> OutboxCounts {
        self.store.outbox_counts(&self.targets()[0]).await.expect("counted")
    }

    async fn state(&self, lead: &str) -> WishState {
        self.store.outbox_of_lead(&self.desk.hasher().key(lead)).await.expect("read")[0].state
    }
}

pub async fn run(push: &Push) -> JobEnd {
    push.activate(Cause::Timer, &JobProgress::new(JobName::Push)).await.expect("the store answers")
}

pub async fn expire(expire: &Expire) -> JobEnd {
    expire.activate(Cause::Timer, &JobProgress::new(JobName::Expire)).await.expect("the store answers")
}

/// Runs until nothing waits, with the clock moved on in between; how many runs that took.
async fn settle(scene: &Scene, push: &Push) -> usize {
    for round in 1..=60 {
        run(push).await;
        if scene.counts().await.pending == 0 {
            return round;
        }
        scene.desk.simulator.advance(Duration::from_secs(20));
    }
    panic!("it does not settle: {:?}", scene.counts().await)
}

#[tokio::test]
async fn a_score_arrives_and_nothing_else_changes() {
    let scene = Scene::new(&["L1", "L2"]).await;
    scene.desk.simulator.set_callable(&scene.list, "L1", false);
    let (push, _) = scene.process("one");
    scene.tell(&[("L1", 87), ("L2", 45)]).await;
    assert_eq!(run(&push).await, JobEnd::Done);
    assert_eq!((scene.score("L1").as_deref(), scene.score("L2").as_deref()), (Some("87"), Some("45")));
    assert_eq!(scene.column("L1", "Cell").as_deref(), Some("+15555550100"));
    assert_eq!(scene.desk.simulator.callable(&scene.list, "L1"), Some(false));
    assert_eq!((scene.writes(), scene.counts().await.applied), (1, 2), "one request for both");
    assert!(matches!(run(&push).await, JobEnd::Idle { .. }));
    let log = scene.store.lead_log(&scene.desk.hasher().key("L1")).await.expect("read");
    assert_eq!(log.iter().map(|entry| &*entry.cause).collect::<Vec<_>>(), ["push", "event"]);
    // An equal score is no news.
    scene.tell(&[("L1", 87)]).await;
    run(&push).await;
    assert_eq!(scene.writes(), 1);
}

#[tokio::test]
async fn s02_a_write_that_times_out_is_read_before_anything_is_written() {
    let scene = Scene::new(&["L1"]).await;
    let (push, _) = scene.process("one");
    scene.tell(&[("L1", 87)]).await;
    // The platform did it, and nobody was told.
    scene.faults(&format!(
        "[[fault]]\npath = \"{WRITE}\"\nmethod = \"POST\"\nkind = \"cut\"\napplied = true\non = [1]\n"
    ));
    run(&push).await;
    assert_eq!((scene.score("L1").as_deref(), scene.state("L1").await), (Some("87"), WishState::Unknown));
    scene.tell(&[("L1", 45)]).await;
    settle(&scene, &push).await;
    assert_eq!(scene.score("L1").as_deref(), Some("45"));
    assert_eq!(scene.writes(), 2, "the old one was not sent again");
    // And without a newer score, nothing is written again.
    scene.faults(&format!(
        "[[fault]]\npath = \"{WRITE}\"\nmethod = \"POST\"\nkind = \"cut\"\napplied = true\non = [1]\n"
    ));
    scene.tell(&[("L1", 50)]).await;
    settle(&scene, &push).await;
    assert_eq!((scene.score("L1").as_deref(), scene.writes()), (Some("50"), 3));
}

#[tokio::test]
async fn s03_a_write_that_lands_late_is_found_and_mended() {
    let scene = Scene::new(&["L1"]).await;
    let (push, _) = scene.process("one");
    scene.tell(&[("L1", 87)]).await;
    scene.faults(&format!(
        "[[fault]]\npath = \"{WRITE}\"\nmethod = \"POST\"\nkind = \"late\"\ndelay_ms = 2500\non = [1]\n"
    ));
    run(&push).await;
    assert_eq!(scene.state("L1").await, WishState::Unknown);
    scene.tell(&[("L1", 45)]).await;
    scene.desk.simulator.advance(Duration::from_secs(30));
    run(&push).await;
    assert_eq!(scene.score("L1").as_deref(), Some("45"));
    assert_eq!(scene.state("L1").await, WishState::Unknown, "it is looked at once more");
    tokio::time::sleep(Duration::from_millis(2800)).await;
    assert_eq!(scene.score("L1").as_deref(), Some("87"), "the late one has landed");
    settle(&scene, &push).await;
    assert_eq!(scene.score("L1").as_deref(), Some("45"));
}

#[tokio::test]
async fn s04_a_refusal_for_the_rate_leaves_rows_as_they_were_and_is_waited_for() {
    for retry_after in ["seconds", "date", "missing"] {
        let scene = Scene::new(&["L1"]).await;
        let (push, _) = scene.process("one");
        scene.tell(&[("L1", 87)]).await;
        scene.faults(&format!(
            "[[fault]]\npath = \"{READ}\"\nkind = \"too_many_requests\"\nretry_after = \"{retry_after}\"\nretry_after_secs = 2\non = [1]\n"
        ));
        run(&push).await;
        let pause = push.targets[0].pause().expect("it pauses");
        assert_eq!((pause.state, scene.score("L1")), ("limited", None), "{retry_after}");
        let rows = scene.store.outbox_of_lead(&scene.desk.hasher().key("L1")).await.expect("read");
        assert_eq!((rows[0].state, rows[0].attempts, &rows[0].reason), (WishState::Pending, 0, &None));
        let before = scene.desk.simulator.log().len();
        run(&push).await;
        assert_eq!(scene.desk.simulator.log().len(), before, "nothing is sent meanwhile");
        scene.desk.simulator.advance(Duration::from_secs(61));
        settle(&scene, &push).await;
        assert_eq!(scene.score("L1").as_deref(), Some("87"));
    }
}

#[tokio::test]
async fn s05_an_outage_with_effects_now_and_then_costs_no_blind_write() {
    let leads: Vec<String> = (0..40).map(|lead| format!("L{lead:02}")).collect();
    let names: Vec<&str> = leads.iter().map(String::as_str).collect();
    let scene = Scene::new(&names).await;
    let (push, _) = scene.process("one");
    let scores: Vec<(&str, u8)> = names.iter().map(|lead| (*lead, 70)).collect();
    scene.tell(&scores).await;
    scene.faults(&format!(
        "[[fault]]\npath = \"{WRITE}\"\nmethod = \"POST\"\nkind = \"status\"\nstatus = 503\napplied = true\non = [1]\n\
         [[fault]]\npath = \"{READ}\"\nkind = \"status\"\nstatus = 503\non = [2, 3, 4]\n"
    ));
    settle(&scene, &push).await;
    assert!(leads.iter().all(|lead| scene.score(lead).as_deref() == Some("70")));
    assert_eq!(scene.writes(), 1, "what had arrived was found by reading");
    let counts = scene.counts().await;
    assert_eq!((counts.applied, counts.dead), (40, 0));
}

#[tokio::test]
async fn s06_a_token_that_ends_in_the_middle_loses_no_lead() {
    let scene = Scene::new(&["L1", "L2"]).await;
    let (push, _) = scene.process("one");
    scene.tell(&[("L1", 87), ("L2", 45)]).await;
    scene.faults(&format!("[[fault]]\npath = \"{WRITE}\"\nmethod = \"POST\"\nkind = \"token_expired\"\non = [1]\n"));
    run(&push).await;
    assert_eq!((scene.score("L1").as_deref(), scene.score("L2").as_deref()), (Some("87"), Some("45")));
    let logins = scene.requests(|logged| logged.template == "/oauth/token");
    assert_eq!(logins, 2, "one more login");
}

#[tokio::test]
async fn s08_a_full_list_holds_up_no_score() {
    let mut settings = plenty();
    settings.limits.list_contacts = 2;
    let scene = Scene::with(settings, &["L1", "L2"]).await;
    let (push, _) = scene.process("one");
    scene.tell(&[("L1", 87), ("L2", 45), ("gone", 99)]).await;
    run(&push).await;
    assert_eq!((scene.score("L1").as_deref(), scene.score("L2").as_deref()), (Some("87"), Some("45")));
    assert_eq!((scene.counts().await.absent, scene.desk.simulator.contact_tally().created), (1, 0));
}

#[tokio::test]
async fn s09_a_lead_that_the_list_has_not_is_never_made_and_found_again() {
    let scene = Scene::new(&["L1"]).await;
    let (push, _) = scene.process("one");
    scene.tell(&[("L1", 87), ("gone", 99)]).await;
    run(&push).await;
    assert_eq!((scene.state("gone").await, scene.counts().await.absent), (WishState::Absent, 1));
    assert_eq!(scene.desk.simulator.contacts(&scene.list).len(), 1);
    assert_eq!(scene.desk.simulator.contact_tally().created, 0);
    scene.put("gone", &[("leadId", "gone")]);
    run(&push).await;
    assert_eq!(scene.score("gone"), None, "not before its time");
    scene.desk.simulator.advance(Duration::from_hours(1));
    run(&push).await;
    assert_eq!(scene.score("gone").as_deref(), Some("99"));
}

#[tokio::test]
async fn s10_other_peoples_values_are_read_with_patience_and_a_missing_column_pauses_the_target() {
    let scene = Scene::new(&["L1", "L2", "L3", "L4"]).await;
    let (push, _) = scene.process("one");
    scene.desk.simulator.advance(Duration::from_secs(1));
    let now = scene.now();
    let time = format!("{now:.3}");
    scene.put("L1", &[("ml_score", " 87.0 "), ("ml_last_calculated_at", &time)]);
    scene.put("L2", &[("ml_score", "n/a")]);
    let later = format!("{:.3}", now.checked_add(Duration::from_mins(1)).expect("a time"));
    scene.put("L3", &[("ml_score", "12"), ("ml_last_calculated_at", &later)]);
    let far = format!("{:.3}", now.checked_add(Duration::from_hours(900)).expect("a time"));
    scene.put("L4", &[("ml_score", "12"), ("ml_last_calculated_at", &far)]);
    let facts = ["L1", "L2", "L3", "L4"].map(|lead| scene.fact(lead, 87, now));
    scene.take(&facts).await;
    run(&push).await;
    let scores = ["L1", "L2", "L3", "L4"].map(|lead| scene.score(lead).unwrap_or_default());
    assert_eq!(scores, [" 87.0 ", "87", "12", "87"], "as it was, overwritten, newer, from a time that cannot be");
    assert_eq!(scene.counts().await.applied, 4);

    scene.desk.simulator.set_list(&scene.list, &[("leadId", "TEXT"), ("Cell", "TEXT")]);
    scene.tell(&[("L1", 50)]).await;
    run(&push).await;
    let pause = push.targets[0].pause().expect("it pauses");
    assert_eq!(pause.state, "down");
    assert!(pause.reason.contains("`ml_score`"), "{}", pause.reason);
    assert_eq!(
        (scene.state("L1").await, scene.counts().await.dead),
        (WishState::Pending, 0),
        "nobody is given up for it"
    );
}

#[tokio::test]
async fn s16_one_bad_contact_is_found_by_halves_and_holds_up_no_other() {
    let leads: Vec<String> =
        (0..200).map(|lead| format!("L{lead:03}")).chain(["P1".to_owned(), "P2".to_owned()]).collect();
    let names: Vec<&str> = leads.iter().map(String::as_str).collect();
    let scene = Scene::new(&names).await;
    let (push, _) = scene.process("one");
    scene.desk.simulator.set_awkward_contacts(AwkwardContacts { refused: Some("P".to_owned()), hanging: None });
    let scores: Vec<(&str, u8)> = names.iter().map(|lead| (*lead, 70)).collect();
    scene.tell(&scores).await;
    settle(&scene, &push).await;
    let counts = scene.counts().await;
    assert_eq!((counts.applied, counts.dead), (200, 2), "{counts:?}");
    let failures = scene.store.failed_writes(&scene.targets()[0], 10).await.expect("read");
    assert!(failures.iter().all(|failure| failure.reason.contains("400")), "{failures:?}");
    assert!(scene.writes() <= 2 * 2 * 8 + 2, "{} writes", scene.writes());
    // What was given up is written when somebody asks for it.
    scene.desk.simulator.set_awkward_contacts(AwkwardContacts::default());
    scene.store.retry_writes(&scene.targets()[0], scene.now()).await.expect("asked");
    settle(&scene, &push).await;
    assert_eq!(scene.counts().await.applied, 202);
}

#[tokio::test]
async fn s16_one_hanging_contact_ends_up_alone() {
    let leads: Vec<String> = (0..14).map(|lead| format!("L{lead:02}")).chain(["H1".to_owned()]).collect();
    let names: Vec<&str> = leads.iter().map(String::as_str).collect();
    let scene = Scene::new(&names).await;
    let (push, _) = scene.process("one");
    let hanging = Some(("H".to_owned(), 2 * TIMEOUT));
    scene.desk.simulator.set_awkward_contacts(AwkwardContacts { refused: None, hanging });
    let scores: Vec<(&str, u8)> = names.iter().map(|lead| (*lead, 70)).collect();
    scene.tell(&scores).await;
    for _ in 0..30 {
        run(&push).await;
        scene.desk.simulator.advance(Duration::from_secs(70));
        if scene.counts().await.applied == 14 {
            break;
        }
    }
    assert_eq!(scene.counts().await.applied, 14, "everybody else is written");
    scene.desk.simulator.advance(Duration::from_hours(24));
    for _ in 0..6 {
        run(&push).await;
        scene.desk.simulator.advance(Duration::from_secs(70));
    }
    assert_eq!(scene.state("H1").await, WishState::Dead);
}

#[tokio::test]
async fn s17_two_processes_on_one_list_write_each_score_once() {
    let leads: Vec<String> = (0..300).map(|lead| format!("L{lead:03}")).collect();
    let names: Vec<&str> = leads.iter().map(String::as_str).collect();
    let scene = Scene::new(&names).await;
    let processes = [scene.process("one").0, scene.process("two").0];
    for round in 1..=5_u8 {
        let scores: Vec<(&str, u8)> = names.iter().map(|lead| (*lead, 40 + round)).collect();
        scene.tell(&scores).await;
        let (one, two) = tokio::join!(run(&processes[0]), run(&processes[1]));
        assert!([one, two].contains(&JobEnd::Done), "{one:?} {two:?}");
        let expected = (40 + round).to_string();
        assert!(leads.iter().all(|lead| scene.score(lead).as_ref() == Some(&expected)));
        assert_eq!(scene.writes(), usize::from(round), "one request for all of them");
    }
}

#[tokio::test]
async fn s18_a_rogue_writer_s_columns_are_left_alone() {
    for mode in [ContactWriteMode::Merge, ContactWriteMode::Partial] {
        // `partial` is for platforms that keep what is not sent.
        let settings = SimulatorSettings { upsert_empties_unsent: mode == ContactWriteMode::Merge, ..plenty() };
        let mut scene = Scene::with(settings, &["L1", "L2"]).await;
        scene.desk.settings.outbound.write = mode;
        let ours = [("ml_score", "NUMERIC"), ("ml_last_calculated_at", "TEXT")];
        let theirs = [("leadId", "TEXT"), ("Cell", "TEXT"), ("Notes", "TEXT")];
        scene.desk.simulator.set_list(&scene.list, &[&theirs[..], &ours].concat());
        let (push, _) = scene.process("one");
        for round in 1..=20_u8 {
            scene.put("L1", &[("Cell", &format!("+1555555{round:04}")), ("Notes", &format!("call {round}"))]);
            scene.desk.simulator.set_callable(&scene.list, "L2", round % 2 == 0);
            scene.tell(&[("L1", round), ("L2", 100 - round)]).await;
            run(&push).await;
            assert_eq!(scene.column("L1", "Cell").as_deref(), Some(&*format!("+1555555{round:04}")));
            assert_eq!(scene.column("L1", "Notes").as_deref(), Some(&*format!("call {round}")));
            assert_eq!(scene.desk.simulator.callable(&scene.list, "L2"), Some(round % 2 == 0));
            assert_eq!(scene.score("L1"), Some(round.to_string()));
        }
        let tally = scene.desk.simulator.contact_tally();
        assert_eq!((tally.created, tally.callable_sent, tally.cleared, tally.requeued), (0, 0, 0, 0), "{mode:?}");
    }
}

#[tokio::test]
async fn s19_an_import_is_waited_for() {
    let scene = Scene::new(&["L1"]).await;
    let (push, _) = scene.process("one");
    scene.tell(&[("L1", 87)]).await;
    scene.desk.simulator.set_importing(&scene.list, true);
    run(&push).await;
    assert!(push.targets[0].pause().is_some_and(|pause| pause.reason.contains("import")));
    assert_eq!(scene.counts().await.dead, 0);
    scene.desk.simulator.set_importing(&scene.list, false);
    scene.desk.simulator.advance(Duration::from_secs(31));
    settle(&scene, &push).await;
    assert_eq!(scene.score("L1").as_deref(), Some("87"));
}

#[tokio::test]
async fn s15_stale_scores_become_nothing_once_and_a_fresh_one_restores_them() {
    let scene = Scene::new(&["L1", "L2"]).await;
    let (push, old) = scene.process("one");
    scene.tell(&[("L1", 87), ("L2", 45)]).await;
    run(&push).await;
    let first_time = scene.column("L1", "ml_last_calculated_at");
    scene.desk.simulator.advance(Duration::from_hours(24));
    expire(&old).await;
    run(&push).await;
    assert_eq!(scene.score("L1").as_deref(), Some("87"), "not before its time");
    scene.desk.simulator.advance(Duration::from_secs(1));
    expire(&old).await;
    run(&push).await;
    assert_eq!(scene.score("L1").as_deref(), Some("0"));
    assert_eq!(scene.column("L1", "ml_last_calculated_at"), first_time, "the column keeps the true age");
    let writes = scene.writes();
    scene.desk.simulator.advance(Duration::from_hours(1));
    expire(&old).await;
    run(&push).await;
    assert_eq!(scene.writes(), writes, "once");
    let late = scene.now().checked_sub(Duration::from_hours(20)).expect("a time");
    assert_eq!(scene.take(&[scene.fact("L1", 99, late)]).await, [LeadRuling::Stale]);
    scene.tell(&[("L1", 87)]).await;
    run(&push).await;
    assert_eq!((scene.score("L1").as_deref(), scene.score("L2").as_deref()), (Some("87"), Some("0")));
}

/// Enough leads that a sweep is less work than rows; two of them are scored again while it runs.
#[tokio::test]
async fn s14_a_sweep_zeroes_thousands_in_a_few_requests_and_no_fresh_score() {
    let leads: Vec<String> = (0..6_000).map(|lead| format!("L{lead:04}")).collect();
    let names: Vec<&str> = leads.iter().map(String::as_str).collect();
    let scene = Scene::new(&names).await;
    let (push, old) = scene.process("one");
    let scores: Vec<(&str, u8)> = names.iter().map(|lead| (*lead, 85)).collect();
    scene.tell(&scores).await;
    settle(&scene, &push).await;
    let before = scene.desk.simulator.log().len();
    scene.desk.simulator.advance(Duration::from_hours(24) + Duration::from_mins(1));
    assert!(matches!(expire(&old).await, JobEnd::Idle { until: Some(_) }), "a sweep has begun");
    scene.tell(&[("L0003", 91), ("L0004", 85)]).await;
    run(&push).await;
    for _ in 0..20 {
        scene.desk.simulator.advance(Duration::from_secs(5));
        expire(&old).await;
        if scene.store.sweep_of(&scene.targets()[0]).await.expect("read").is_none() {
            break;
        }
    }
    settle(&scene, &push).await;
    let contacts = scene.desk.simulator.contacts(&scene.list);
    let mut said: BTreeMap<&str, usize> = BTreeMap::new();
    for columns in contacts.values() {
        *said.entry(columns["ml_score"].as_str()).or_default() += 1;
    }
    assert_eq!(said, BTreeMap::from([("0", 5_998), ("91", 1), ("85", 1)]));
    let requests = scene.desk.simulator.log().len() - before;
    assert!(requests <= 14, "{requests} requests");
}

#[tokio::test]
async fn the_documented_entity_gets_the_guide_s_body_and_the_newest_score() {
    let mut scene = Scene::new(&[]).await;
    scene.desk.settings.api = Api::Documented;
    scene.desk.settings.data_service_id = Some("service".to_owned());
    let (push, old) = scene.process("one");
    let leads: Vec<String> = (0..20).map(|lead| format!("L{lead:02}")).collect();
    let scores: Vec<(&str, u8)> = leads.iter().map(|lead| (lead.as_str(), 87)).collect();
    scene.tell(&scores).await;
    settle(&scene, &push).await;
    let rows = scene.desk.simulator.entities("LeadScore");
    assert_eq!(rows.len(), 20);
    assert_eq!(rows["L07"]["priorityScore"], 87);
    scene.tell(&[("L07", 45)]).await;
    settle(&scene, &push).await;
    assert_eq!(scene.desk.simulator.entities("LeadScore")["L07"]["priorityScore"], 45);
    scene.desk.simulator.advance(Duration::from_hours(25));
    expire(&old).await;
    settle(&scene, &push).await;
    let rows = scene.desk.simulator.entities("LeadScore");
    assert!(rows.values().all(|row| row["priorityScore"] == 0), "{rows:?}");
}
