//! The limit of a token holds over processes that share it, are killed, and have clocks that are changed under them: by the
//! simulator's log of requests.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use scoreline::app::pace::KeptPace;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::privacy::{IdHasher, PrivacySettings};
use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock};
use scoreline_genesys::outbound::LeadWrite;
use scoreline_genesys::settings::{Api, BaseUrl, PlainHttp, PlatformEndpoints};
use scoreline_genesys::{Genesys, GenesysSettings, SendFault};
use scoreline_simulator::{FaultPlan, Logged, PlatformLimits, Simulator, SimulatorSettings, busiest_window};
use scoreline_store::{Store, StorePlace, StoreSettings};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::ground::Ground;

/// The limit, of a minute that is as short as this.
const MOST: u32 = 100;
const PERIOD: Duration = Duration::from_secs(2);
/// What a refusal asks for.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LEAD: &str = "L1";
/// Names the platform and the store to the child, one a line.
const PLACES: &str = "SCORELINE_TEST_PACE";

fn platform() -> Simulator {
    // It refuses nothing by itself: what it would have refused is seen in its log.
    let limits = PlatformLimits { requests: 1_000_000, tokens: 100_000, ..PlatformLimits::default() };
    let settings = SimulatorSettings { customers: 0, days: 0, limits, ..SimulatorSettings::default() };
    let simulator = Simulator::start(settings).expect("a simulator");
    simulator.put_contact(&simulator.contact_list().to_string(), LEAD, [("leadId", LEAD)]);
    simulator
}

/// Where the platform is, by line: API, login, client, secret, list.
fn places(simulator: &Simulator) -> Vec<String> {
    let settings = simulator.settings();
    let list = simulator.contact_list().to_string();
    let (client, secret) = (settings.client_id.clone(), settings.client_secret.clone());
    vec![simulator.api_url(), simulator.login_url(), client, secret, list]
}

/// A client as a process has it: its pace is in the store.
fn client(places: &[String], store: &Store) -> Genesys {
    let base = |url: &str| BaseUrl::parse(url, PlainHttp::Loopback).expect("this machine");
    let endpoints = PlatformEndpoints { api: base(&places[0]), login: base(&places[1]) };
    let secret = SecretString::from(places[3].as_str());
    let mut settings = GenesysSettings::new(Api::Platform, endpoints, places[2].clone(), secret);
    (settings.requests_per_minute, settings.period) = (MOST, PERIOD);
    settings.timeout = Duration::from_secs(1);
    settings.outbound.contact_lists = vec![places[4].clone()];
    let pepper = Some(SecretString::from("pepper of the pace"));
    let privacy = PrivacySettings { pepper, ..PrivacySettings::default() };
    let client = Genesys::new(settings, IdHasher::new(&privacy), Sealer::new(&privacy), Arc::new(SystemClock));
    let client = client.expect("a client");
    client.keep_pace_in(Arc::new(KeptPace::new(store.clone())));
    client
}

/// Reads a lead and writes its score, again and again. Says when a refusal for the rate is known.
async fn push(client: &Genesys, mut tell: impl FnMut(&str)) {
    let target = client.lead_targets().remove(0);
    let lead = [SecretString::from(LEAD)];
    let mut score = 0;
    loop {
        let Ok(permits) = client.reserve(2).await else { continue };
        let read = target.read(&permits, &lead).await;
        let sent = match &read {
            Ok(read) => {
                score = (score + 1) % 101;
                let calculated_at = SystemClock.now();
                let row = LeadWrite { read: &read[0], score, calculated_at, band: None, reason: None };
                target.write(&permits, &[row]).await.and_then(|mut results| results.remove(0))
            }
            Err(fault) => Err(fault.clone()),
        };
        match sent {
            Ok(()) => tell("sent."),
            Err(SendFault::NotSent { until: Some(_), .. }) => tell("refused."),
            Err(_) => {}
        }
    }
}

/// All that was asked of the API, as if it had been by one token: each process has one of its own, and one limit.
fn asked(log: &[Logged]) -> Vec<Logged> {
    let asked = log.iter().filter(|logged| logged.template != "/oauth/token");
    asked.map(|logged| Logged { token: 1, counted: true, ..logged.clone() }).collect()
}

fn holds(simulator: &Simulator, what: &str) -> usize {
    let asked = asked(&simulator.log());
    let busiest = busiest_window(&asked, PERIOD);
    eprintln!("{what}: {} requests, at most {busiest} of {MOST} in {PERIOD:?}", asked.len());
    assert!(busiest <= MOST as usize, "{what}: {busiest} of {MOST}");
    assert!(busiest > MOST as usize / 2, "{what}: the limit was never near: {busiest} of {MOST}");
    busiest
}

/// The server's clock of one database, moved by hand: its function is found before the server's own.
struct MovedClock(String);

impl MovedClock {
    async fn of(ground: &Ground) -> Self {
        let StorePlace::Postgres(url) = &ground.settings.place else { panic!("a server") };
        let url = url.expose_secret().to_owned();
        let (_, database) = url.rsplit_once('/').expect("a database");
        let clock = Self(url.clone());
        clock.execute("CREATE TABLE moved (ms BIGINT)").await;
        clock.execute("INSERT INTO moved (ms) VALUES (0)").await;
        clock
            .execute(
                "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS \
                 'SELECT pg_catalog.clock_timestamp() + (SELECT ms FROM public.moved) * interval ''1 millisecond'''",
            )
            .await;
        clock.execute(&format!("ALTER DATABASE {database} SET search_path = public, pg_catalog")).await;
        clock
    }

    async fn execute(&self, sql: &str) {
        let mut connection = sqlx::PgConnection::connect(&self.0).await.expect("reached");
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("executed");
        connection.close().await.expect("closed");
    }

    async fn move_by(&self, hours: i64) {
        self.execute(&format!("UPDATE moved SET ms = ms + {}", hours * 3_600_000)).await;
    }
}

/// Runs several at once for a while, then ends them wherever they are: nobody tells the end of a request.
async fn push_for(clients: &[&Genesys], span: Duration) {
    let pushing = join_all(clients.iter().map(|client| push(client, |_| ())));
    let ended = tokio::time::timeout(span, pushing).await;
    assert!(ended.is_err(), "they never end by themselves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_on_one_database_keep_one_limit_whatever_its_clock_does() {
    let ground = Ground::postgres("one_limit").await;
    ground.open().await.close().await;
    let clock = MovedClock::of(&ground).await;
    let simulator = platform();
    let (one, two) = (ground.open().await, ground.open().await);
    let clients = [client(&places(&simulator), &one), client(&places(&simulator), &two)];
    let pushers = [&clients[0], &clients[0], &clients[1], &clients[1]];
    let moving = async {
        for hours in [1, -1, 1, 1] {
            // In the middle of a burst: what is forgotten then is asked again at once.
            let before = simulator.log().len();
            while simulator.log().len() < before + MOST as usize * 6 / 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            clock.move_by(hours).await;
        }
        tokio::time::sleep(PERIOD).await;
    };
    tokio::select! {
        () = push_for(&pushers, Duration::from_mins(2)) => panic!("the moves take less"),
        () = moving => {}
    }
    holds(&simulator, "two processes, four moves of an hour");
    for store in [one, two] {
        store.close().await;
    }
    ground.remove().await;
}

#[tokio::test]
async fn a_file_that_is_opened_again_goes_on_where_it_was() {
    let ground = Ground::sqlite();
    let simulator = platform();
    for _ in 0..6 {
        let store = ground.open().await;
        let client = client(&places(&simulator), &store);
        push_for(&[&client, &client, &client], Duration::from_millis(900)).await;
        store.close().await;
    }
    holds(&simulator, "six processes, one after the other");
}

/// What was seen of processes that were killed.
#[derive(Default)]
struct KilledFigures {
    sent: u32,
    refusals: usize,
    /// A kill came between the platform's answer and the moment at which it was kept: nobody could know of the pause.
    unheard: usize,
    shortest: Option<Duration>,
}

/// Lets a process push and kills it some time after its first request; what it said.
fn killed(places: &[String], after: Duration) -> Vec<String> {
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "pace::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLACES, places.join("\n"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("started");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let (tell, hear) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut said = Vec::new();
            for line in lines.map_while(Result::ok).filter(|line| line == "sent." || line == "refused.") {
                said.push(line);
                let _ = tell.send(());
            }
            said
        });
        // What earlier ones had open counts for as long as a request can take.
        let begun = hear.recv_timeout(Duration::from_mins(2));
        std::thread::sleep(after);
        // SIGKILL.
        child.kill().expect("killed");
        child.wait().expect("ended");
        let said = reading.join().expect("read");
        assert!(begun.is_ok(), "the child sent nothing for two minutes");
        said
    })
}

/// What is killed.
#[tokio::test]
#[ignore = "the process that `killed_processes_keep_the_limit` starts"]
#[expect(clippy::disallowed_methods, reason = "its parent names the places this way")]
async fn child() {
    let places = std::env::var(PLACES).expect("places to push to");
    let places: Vec<String> = places.lines().map(str::to_owned).collect();
    let settings = match places[5].as_str() {
        url if url.starts_with("postgres") => StoreSettings::postgres(url),
        path => StoreSettings::sqlite(path),
    };
    let store = Store::open(&settings).await.expect("opened");
    push(&client(&places, &store), |said| eprintln!("{said}")).await;
}

async fn kill(ground: &Ground, times: u32, what: &str) {
    ground.open().await.close().await;
    let simulator = platform();
    let plan = "[[fault]]\npath = \"/api/**\"\nkind = \"too_many_requests\"\nretry_after_secs = 1\nevery = 150\n";
    simulator.set_faults(FaultPlan::parse(plan).expect("a plan"));
    let (store, clock) = match &ground.settings.place {
        StorePlace::Postgres(url) => (url.expose_secret().to_owned(), Some(MovedClock::of(ground).await)),
        StorePlace::Sqlite(path) => (path.display().to_string(), None),
        StorePlace::Memory => panic!("nothing would last"),
    };
    let places = [places(&simulator), vec![store]].concat();
    let mut random = fastrand::Rng::with_seed(23);
    let mut figures = KilledFigures::default();
    let mut refused: Vec<Duration> = Vec::new();
    let watch = Stopwatch::start();
    for turn in 0..times {
        let before = simulator.log().len();
        let pause = Duration::from_millis(random.u64(0..1500));
        let (places, moved) = (places.clone(), random.u64(0..1500));
        let killing = tokio::task::spawn_blocking(move || killed(&places, pause));
        let moving = async {
            // Before the process is there, while it is, or after.
            if let Some(clock) = clock.as_ref().filter(|_| turn % 2 == 0) {
                tokio::time::sleep(Duration::from_millis(moved)).await;
                clock.move_by(if random.bool() { 1 } else { -1 }).await;
            }
        };
        let (said, ()) = tokio::join!(killing, moving);
        let said = said.expect("no panic");
        figures.sent += said.iter().filter(|line| *line == "sent.").count() as u32;
        let heard = said.iter().filter(|line| *line == "refused.").count();
        let log = simulator.log();
        let own: Vec<_> = log[before..].iter().filter(|logged| logged.status == 429).map(|logged| logged.at).collect();
        figures.unheard += own.len().saturating_sub(heard);
        refused.extend(own.iter().take(heard));
    }
    let log = asked(&simulator.log());
    figures.refusals = refused.len();
    for at in refused {
        let next = log.iter().map(|logged| logged.at).filter(|other| *other > at).min();
        let waited = next.map(|next| next.saturating_sub(at));
        figures.shortest = figures.shortest.into_iter().chain(waited).min();
    }
    let busiest = holds(&simulator, what);
    let KilledFigures { sent, refusals, unheard, shortest } = figures;
    eprintln!(
        "{what}: {times} kills in {:?}, {sent} scores pushed, at most {busiest} of {MOST} requests in {PERIOD:?}; {refusals} refusals, \
         the shortest pause after one {shortest:?} of {RETRY_AFTER:?} asked for; {unheard} killed before they were kept",
        watch.elapsed()
    );
    assert!(shortest.is_none_or(|shortest| shortest >= RETRY_AFTER), "{shortest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_keep_the_limit() {
    kill(&Ground::sqlite(), 3, "a file").await;
    let ground = Ground::postgres("killed_pace").await;
    kill(&ground, 3, "a server whose clock is moved").await;
    ground.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: cargo test --workspace --test it pace::fifty_kills -- --ignored --nocapture"]
async fn fifty_kills_keep_the_limit() {
    kill(&Ground::sqlite(), 50, "a file").await;
    let ground = Ground::postgres("fifty_kills").await;
    kill(&ground, 50, "a server whose clock is moved").await;
    ground.remove().await;
}
