//! A process that records is killed at any moment: what it was told is recorded is there, with the position.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use scoreline::config::variable;
use scoreline::store::{Store, StoreSettings};

use super::ground::{Ground, batch, interaction, key, new};

/// Names the store to the child.
const STORE: &str = "SCORELINE_TEST_KILLED_STORE";
const ROWS: u32 = 40;

#[tokio::test]
async fn acknowledged_batches_outlast_a_kill() {
    kill(30).await;
}

#[tokio::test]
#[ignore = "minutes: cargo test --test it store::kill::acknowledged_batches_outlast_a_thousand_kills -- --ignored --nocapture"]
async fn acknowledged_batches_outlast_a_thousand_kills() {
    kill(1000).await;
}

async fn kill(times: u32) {
    let ground = Ground::sqlite();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut told, mut beyond) = (0, 0);
    for turn in 0..times {
        let acknowledged = killed(&ground.path(), Duration::from_micros(random.u64(0..60_000)));
        let store = ground.open().await;
        let position = store.position("test").await.expect("read");
        let position: u32 = position.map_or(0, |(position, _)| position.parse().expect("a number"));
        assert!(position >= acknowledged, "turn {turn}: {acknowledged} acknowledged, {position} there");
        assert!(position >= told, "turn {turn}: {told} were there before, {position} now");
        let interactions = store.counts().await.expect("counted").interactions;
        assert_eq!(interactions, u64::from(position * ROWS), "turn {turn}: rows and position agree");
        if let Some(last) = position.checked_sub(1) {
            let history = store.history(&key(last % 50)).await.expect("read").expect("known");
            assert!(history.mark.is_some() && !history.interactions.is_empty(), "turn {turn}");
        }
        beyond += u32::from(position > acknowledged);
        told = position;
        store.close().await;
    }
    assert!(told > 0, "no batch was ever recorded: the kills come too early");
    eprintln!("{times} kills, {told} batches of {ROWS}, 0 lost; {beyond} times a commit was killed before its answer");
}

/// Lets a child record until it is killed, some time after its first batch; the last batch it told of, counted from 1.
fn killed(store: &Path, after: Duration) -> u32 {
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::kill::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(STORE, store)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child: Child = child.expect("started");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let (tell, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut last = 0;
            for line in lines.map_while(Result::ok) {
                // A line that the kill cut ends otherwise.
                if let Some(number) = line.strip_prefix("recorded ").and_then(|rest| rest.strip_suffix('.')) {
                    last = number.parse().expect("a number");
                    let _ = tell.send(());
                }
            }
            last
        });
        // A first batch, so that the kill does not always fall into the start of the process.
        let begun = hear.recv_timeout(Duration::from_mins(1));
        std::thread::sleep(after);
        child.kill().expect("killed");
        child.wait().expect("ended");
        let last = reading.join().expect("read");
        assert!(begun.is_ok(), "the child recorded nothing for a minute");
        last
    })
}

/// What is killed: records batch after batch where the last process stopped.
#[tokio::test]
#[ignore = "the process that `acknowledged_batches_outlast_a_kill` starts"]
async fn child() {
    let path = variable(STORE).expect("a store to fill");
    let store = Store::open(&StoreSettings::sqlite(path)).await.expect("opened");
    let position = store.position("test").await.expect("read");
    let mut position: u32 = position.map_or(0, |(position, _)| position.parse().expect("a number"));
    loop {
        let rows: Vec<_> = (0..ROWS)
            .map(|row| position * ROWS + row)
            .map(|number| new(interaction(number, position % 50, i64::from(number))))
            .collect();
        position += 1;
        let next = position.to_string();
        let batch = scoreline::store::Batch { position: &next, ..batch(&rows, None) };
        store.record(&batch).await.expect("recorded");
        eprintln!("recorded {position}.");
    }
}
