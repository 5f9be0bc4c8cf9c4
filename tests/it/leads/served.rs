//! A real server pushes scores of leads to a simulated platform, and is killed again and again; and the command that does it
//! without a server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock};
use scoreline_simulator::{Simulator, SimulatorSettings};
use serde_json::{Value, json};

use crate::process::{Server, get, models, post, scoreline};
use crate::support::TestBundle;
use crate::worker::served::{body, wait_for};

const EVENT: &str = "/v1/events/lead-score";

pub fn platform(leads: &[String]) -> Simulator {
    let mut settings = SimulatorSettings { customers: 5, days: 1, ..SimulatorSettings::default() };
    settings.limits.requests = 10_000_000;
    settings.limits.tokens = 10_000_000;
    let simulator = Simulator::start(settings).expect("a simulator");
    let list = simulator.contact_list().to_string();
    for lead in leads {
        simulator.put_contact(&list, lead, [("leadId", lead.as_str()), ("Cell", "+15555550100")]);
    }
    simulator
}

/// Settings of a process that uses this platform, as environment variables. Its secret is a file in `folder`.
pub fn platform_environment(platform: &Simulator, folder: &Path) -> Vec<(&'static str, String)> {
    use std::os::unix::fs::PermissionsExt as _;
    let secret = folder.join("client-secret");
    std::fs::write(&secret, &platform.settings().client_secret).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    vec![
        ("SCORELINE__GENESYS__API_URL", platform.api_url()),
        ("SCORELINE__GENESYS__LOGIN_URL", platform.login_url()),
        ("SCORELINE__GENESYS__ALLOW_PLAIN_HTTP", "true".to_owned()),
        ("SCORELINE__GENESYS__CLIENT_ID", platform.settings().client_id.clone()),
        ("SCORELINE__GENESYS__CLIENT_SECRET_FILE", secret.display().to_string()),
        ("SCORELINE__GENESYS__REQUESTS_PER_MINUTE", "100000".to_owned()),
    ]
}

/// Settings of a process that pushes, with its store in `folder`, as environment variables.
pub fn environment(platform: &Simulator, folder: &Path) -> Vec<(&'static str, String)> {
    let mut environment = platform_environment(platform, folder);
    environment.extend([
        ("SCORELINE__GENESYS__TIMEOUT", "1s".to_owned()),
        ("SCORELINE__GENESYS__OUTBOUND__CONTACT_LISTS", platform.contact_list().to_string()),
        ("SCORELINE__PUSH__SINK", "contact_list".to_owned()),
        ("SCORELINE__PUSH__EVERY", "100ms".to_owned()),
        ("SCORELINE__EXTRACT__EVERY", "24h".to_owned()),
        ("SCORELINE__STORE__PATH", folder.join("scoreline.db").display().to_string()),
    ]);
    environment
}

pub fn serve(models: &Path, environment: &[(&'static str, String)]) -> Server {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Server::start_with(models, &environment)
}

/// Waits until the store is open, which it mostly is before the server says that it serves.
pub fn opened(server: &mut Server) {
    if !server.begun.contains("the store is open") {
        server.event("the store is open");
    }
}

fn scores(platform: &Simulator) -> BTreeMap<String, String> {
    let contacts = platform.contacts(&platform.contact_list().to_string());
    contacts.into_iter().filter_map(|(lead, columns)| Some((lead, columns.get("ml_score")?.clone()))).collect()
}

fn target(server: &Server) -> Value {
    let reply = get(&server.admin, "/admin/push");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    body(&reply)["targets"][0].clone()
}

#[test]
fn an_event_is_on_the_platform_within_seconds_and_everybody_can_see_how() {
    let leads = vec!["10000045".to_owned(), "10000046".to_owned()];
    let (platform, folder, models) = (platform(&leads), tempfile::tempdir().expect("a folder"), models());
    TestBundle::lead("v1.0").write(models.path());
    let environment = environment(&platform, folder.path());
    let mut server = serve(models.path(), &environment);
    opened(&mut server);
    let now = SystemClock.now();
    let event = json!({"leadId": "10000045", "timestamp": format!("{now:.3}"), "new_score": 87}).to_string();
    let watch = Stopwatch::start();
    let reply = post(&server.listen, EVENT, &event);
    assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
    wait_for("the score on the platform", || scores(&platform).get("10000045").is_some_and(|score| score == "87"));
    eprintln!("an event was on the platform after {:?}", watch.elapsed());
    wait_for("its end", || target(&server)["applied"] == 1);

    // A file beside the server is told to it, and the answer is that of HTTP.
    let file = folder.path().join("leads.csv");
    let rows = format!(
        "leadId,priority_score,last_calculated_at\n10000046,45,{now}\n10000045,12,2020-01-01T00:00:00Z\nx@example.com,5,{now}\n"
    );
    std::fs::write(&file, rows).expect("written");
    let run = |arguments: &[&str]| {
        let mut command: Command = scoreline(arguments, models.path());
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        let output = command.output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let path = file.to_str().expect("text");
    let (code, _, said) = run(&["push", "--input", path]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("read 3 leads: 1 new scores, 0 as before, 1 older than what is kept, 0 not kept, 1 not taken"),
        "{said}"
    );
    assert!(said.contains("the server that has the store pushes them") && said.contains("row 3: "), "{said}");
    assert!(!said.contains("example.com"), "{said}");
    wait_for("the file's score", || scores(&platform).get("10000046").is_some_and(|score| score == "45"));
    let (code, shown, _) = run(&["push", "inspect", "10000046"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("score         45 from given") && shown.contains("1 fresh leads come before it"), "{shown}");
    let (code, shown, _) = run(&["push", "status"]);
    assert!(code == Some(0) && shown.contains("2 written, 0 waiting"), "{shown}");
    let (code, _, said) = run(&["push", "inspect", "nobody"]);
    assert!(code == Some(1) && said.contains("no score of this lead is kept"), "{said}");
    let (code, _, said) = run(&["push", "retry"]);
    assert!(code == Some(0) && said.contains("0 scores are tried again"), "{said}");
    let (code, _, said) = run(&["push", "--input", "leads.xlsx"]);
    assert!(code == Some(64) && said.contains("name it .csv, .ndjson, .parquet or .arrow"), "{said}");

    // Without a server the command pushes by itself.
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    let later = now.checked_add(Duration::from_secs(1)).expect("a time");
    std::fs::write(&file, format!("contact,score,at\n10000046,99,{later}\n")).expect("written");
    let columns = ["--id-column", "contact", "--score-column", "score", "--time-column", "at"];
    let (code, _, said) = run(&[&["push", "--input", path][..], &columns].concat());
    assert!(code == Some(0) && said.contains("1 new scores"), "{said}");
    assert_eq!(scores(&platform).get("10000046").map(String::as_str), Some("99"));
    assert_eq!(scores(&platform).get("10000045").map(String::as_str), Some("87"));
    let (code, _, said) = run(&["push", "--input", path]);
    assert!(code == Some(1) && said.contains("has no column `leadId`"), "{said}");
}

/// Kills the server that often while events come, and compares what the platform says in the end with what was acknowledged.
fn kills_lose_nothing(rounds: usize) {
    let leads: Vec<String> = (0..40).map(|lead| format!("L{lead:02}")).collect();
    let (platform, folder, models) = (platform(&leads), tempfile::tempdir().expect("a folder"), models());
    TestBundle::lead("v1.0").write(models.path());
    let environment = environment(&platform, folder.path());
    let mut random = fastrand::Rng::with_seed(14);
    // The newest that was acknowledged, and those of which nobody knows.
    let mut kept: BTreeMap<String, (String, u8)> = BTreeMap::new();
    let mut in_doubt: BTreeMap<String, Vec<(String, u8)>> = BTreeMap::new();
    let (mut acknowledged, mut doubtful) = (0, 0);
    for _ in 0..rounds {
        let mut server = serve(models.path(), &environment);
        opened(&mut server);
        let is_over = Arc::new(AtomicBool::new(false));
        let address = server.listen.clone();
        let (leads, over, seed) = (leads.clone(), Arc::clone(&is_over), random.u64(..));
        let teller = std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut told: Vec<(String, String, u8, bool)> = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let lead = leads[random.usize(..leads.len())].clone();
                let (time, score) = (format!("{:.3}", SystemClock.now()), random.u8(1..=100));
                let event = json!({"leadId": lead, "timestamp": time, "new_score": score}).to_string();
                let reply = std::panic::catch_unwind(|| post(&address, EVENT, &event));
                match reply {
                    Ok(reply) if reply.starts_with("HTTP/1.1 202") => told.push((lead, time, score, true)),
                    // Another event of this lead had the same millisecond.
                    Ok(reply) if reply.starts_with("HTTP/1.1 409") => {}
                    Ok(_) | Err(_) => told.push((lead, time, score, false)),
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            told
        });
        std::thread::sleep(Duration::from_millis(random.u64(50..900)));
        server.signal("KILL");
        is_over.store(true, Ordering::Relaxed);
        for (lead, time, score, is_kept) in teller.join().expect("it ends") {
            if is_kept {
                acknowledged += 1;
                kept.insert(lead, (time, score));
            } else {
                doubtful += 1;
                in_doubt.entry(lead).or_default().push((time, score));
            }
        }
        drop(server);
    }
    let watch = Stopwatch::start();
    let mut server = serve(models.path(), &environment);
    opened(&mut server);
    wait_for("everything on the platform", || target(&server)["pending"] == 0);
    let settled = watch.elapsed();
    let said = scores(&platform);
    let mut lost = Vec::new();
    for (lead, (time, score)) in &kept {
        let newer = in_doubt.get(lead).into_iter().flatten().filter(|(doubtful, _)| doubtful > time);
        let allowed: Vec<String> =
            std::iter::once(score).chain(newer.map(|(_, score)| score)).map(u8::to_string).collect();
        if !said.get(lead).is_some_and(|score| allowed.contains(score)) {
            lost.push(format!("{lead}: {:?}, expected {allowed:?}", said.get(lead)));
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    let tally = platform.contact_tally();
    assert_eq!((tally.created, tally.callable_sent, tally.requeued), (0, 0, 0));
    let status = target(&server);
    assert_eq!((&status["dead"], &status["absent"]), (&json!(0), &json!(0)), "{status}");
    let writes =
        platform.log().iter().filter(|one| one.method == "POST" && one.template.ends_with("/contacts")).count();
    eprintln!(
        "{rounds} kills: {acknowledged} events acknowledged, {doubtful} in doubt, {writes} writes, 0 lost, 0 stale, settled \
         {settled:?} after the last start"
    );
}

#[test]
fn kills_lose_no_acknowledged_score_and_leave_no_stale_one() {
    kills_lose_nothing(6);
}

#[test]
#[ignore = "an hour: cargo test --workspace --test it leads::served -- --ignored --nocapture"]
fn a_thousand_kills_lose_no_acknowledged_score() {
    kills_lose_nothing(1_000);
}
