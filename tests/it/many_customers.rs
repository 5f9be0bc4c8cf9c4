//! A store of a million customers, or `SCORELINE_BIG_CUSTOMERS`, and a server that begins with it: time until it is ready,
//! memory, time of an answer by id.

use std::fs;
use std::time::Duration;

use scoreline_domain::InteractionId;
use scoreline_domain::feature::{CATALOGUE, CatalogueRow};
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::time::Stopwatch;
use scoreline_engine::features::catalogue_row;
use scoreline_store::{Computed, FeatureRow, ScanRequest, Store, StorePlace, Which};
use secrecy::ExposeSecret as _;

use crate::by_id_store::{at, know};
use crate::ground::Ground;
use crate::process::{Server, get, models, post};
use crate::support::test_app::privacy;
use crate::worker::served::{body, wait_for};

const PEPPER: &str = "a pepper that lasts";
const PAGE: u32 = 20_000;

fn id(number: u32) -> String {
    format!("CUST-{number}")
}

/// Features with purchases for every second customer; amounts in cents, shares in thirds.
fn row(number: u32) -> CatalogueRow {
    let mut row = [f64::NAN; CATALOGUE.len()];
    for (slot, feature) in row.iter_mut().zip(CATALOGUE) {
        let buys = feature.name.contains("purchase") || feature.name.ends_with("_usd") || feature.name.starts_with('m');
        if !buys || number.is_multiple_of(2) {
            *slot = f64::from(number % 997) / if feature.name.ends_with("_avg") { 3000.0 } else { 1.0 };
        }
    }
    row
}

/// Customers with an interaction and features each; rows a second of either.
async fn fill(store: &Store, customers: u32) -> [f64; 2] {
    let hasher = IdHasher::new(&privacy(PEPPER, &[]));
    let mut seconds = [0.0; 2];
    for first in (0..customers).step_by(PAGE as usize) {
        let customers: Vec<_> = (first..customers.min(first + PAGE))
            .map(|number| {
                (InteractionId(std::array::from_fn(|at| number.to_be_bytes()[at % 4])), hasher.key(&id(number)))
            })
            .collect();
        let watch = Stopwatch::start();
        know(store, customers.into_iter()).await;
        seconds[0] += watch.elapsed().as_secs_f64();
    }
    let mut scan = ScanRequest { which: Which::All, after: None, interactions: PAGE as usize, since: None };
    loop {
        let page = store.scan(&scan).await.expect("scanned");
        let computed: Vec<_> = page
            .histories
            .iter()
            .map(|history| {
                let vector = catalogue_row::to_bytes(&row(history.number.get() as u32)).into();
                let (as_of, next_change_at) = (at("2026-11-21T07:00:00Z"), None);
                let features = FeatureRow { as_of, vector, next_change_at, fills_from_queue: false };
                Computed { number: history.number, mark: history.mark, features: Some(features) }
            })
            .collect();
        let watch = Stopwatch::start();
        store.save_features(&computed, None).await.expect("saved");
        seconds[1] += watch.elapsed().as_secs_f64();
        scan.after = page.next;
        if page.next.is_none() {
            return seconds.map(|seconds| f64::from(customers) / seconds);
        }
    }
}

fn resident(server: &Server) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", server.child.id())).expect("Linux");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("there");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

fn measure(name: &str, customers: u32, runtime: &tokio::runtime::Runtime, ground: &Ground) {
    let models = models();
    let mut environment = vec![("SCORELINE__PRIVACY__PEPPER", PEPPER.to_owned())];
    match &ground.settings.place {
        StorePlace::Sqlite(path) => environment.push(("SCORELINE__STORE__PATH", path.display().to_string())),
        StorePlace::Postgres(url) => environment.extend([
            ("SCORELINE__STORE__PATH", String::new()),
            ("SCORELINE__STORE__URL", url.expose_secret().to_owned()),
        ]),
        StorePlace::Memory => unreachable!("no test asks for it"),
    }
    environment.push(("SCORELINE__SERVER__READY_WAIT", "10m".to_owned()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let is_ready = |server: &Server| get(&server.listen, "/health/ready").starts_with("HTTP/1.1 200");

    let server = Server::start_with(models.path(), &environment);
    wait_for("an empty table", || is_ready(&server));
    let alone = resident(&server);
    server.signal("TERM");
    assert_eq!(server.wait(), 0);

    let [recorded, saved] = runtime.block_on(async {
        let store = ground.open().await;
        let rates = fill(&store, customers).await;
        store.close().await;
        rates
    });
    eprintln!("{name}: {customers} customers; {recorded:.0} interactions/s and {saved:.0} features/s stored");
    let watch = Stopwatch::start();
    let server = Server::start_with(models.path(), &environment);
    let early = body(&get(&server.listen, "/health/ready"))["status"].clone();
    while !is_ready(&server) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ready = watch.elapsed().as_secs_f64();
    let each = (resident(&server) - alone) / f64::from(customers);
    eprintln!(
        "{name}: ready after {ready:.1} s ({:.0} customers/s), {early} before; {each:.0} bytes resident each",
        f64::from(customers) / ready
    );
    for number in (0..customers).step_by(customers as usize / 100) {
        let answer = post(&server.listen, "/v1/predict/clv", &format!(r#"{{"customerId": "{}"}}"#, id(number)));
        // Of the model, now or when it was asked about one who looks the same to it.
        let answered = ["model", "cache"].iter().any(|source| answer.contains(&format!("\"source\":\"{source}\"")));
        assert!(answered && answer.contains("features_as_of"), "{answer}");
    }
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
#[ignore = "minutes: cargo test --release --workspace --test it many_customers -- --ignored --nocapture --test-threads=1"]
#[expect(clippy::disallowed_methods, reason = "the size of a run by hand")]
fn a_server_begins_with_a_million() {
    let customers = std::env::var("SCORELINE_BIG_CUSTOMERS").map_or(1_000_000, |text| text.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    measure("sqlite", customers, &runtime, &Ground::sqlite());
    let ground = runtime.block_on(Ground::postgres("many_customers"));
    measure("postgres", customers, &runtime, &ground);
    runtime.block_on(ground.remove());
}
