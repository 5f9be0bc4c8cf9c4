//! An issuer's keys over a real socket: rotation, outage, a hang, forged key ids. Hours pass on the clock of the test.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use scoreline::auth::{AuthFault, AuthRefusal, Authenticator, BackgroundTask, Scope};
use scoreline::lifecycle::Stop;
use scoreline_domain::time::{ManualClock, Stopwatch};
use serde_json::json;

use crate::support::identity::{
    Answer, CredentialsFile, NOW, Provider, SigningKey, claims, claims_but, issuer_record, key_set,
};

/// Runs a task as the program does, without anybody waiting for it.
pub fn spawn(task: BackgroundTask) {
    Stop::default().track(task);
}

struct World {
    clock: Arc<ManualClock>,
    auth: Arc<Authenticator>,
    file: CredentialsFile,
}

impl World {
    fn new(records: &str) -> Self {
        let file = CredentialsFile::new(records);
        let clock = Arc::new(ManualClock::at("2026-11-21T10:00:00Z".parse().expect("a time")));
        let auth = Authenticator::open(&file.settings(), clock.clone()).expect("valid").expect("on");
        Self { clock, auth, file }
    }

    /// What the keeper does every second.
    async fn tick(&self) {
        self.auth.fetch_keys(Duration::from_secs(10), spawn).await;
    }

    async fn seconds(&self, count: u32) {
        for _ in 0..count {
            self.clock.advance(Duration::from_secs(1));
            self.tick().await;
        }
    }

    fn check(&self, token: &str) -> Result<(), AuthFault> {
        self.auth.check(Some(format!("Bearer {token}").as_bytes()), None, Scope::Predict).map(|_| ())
    }
}

const REFUSED: Result<(), AuthFault> = Err(AuthFault::Refused(AuthRefusal::UnknownKey));

#[tokio::test]
async fn a_new_key_is_picked_up_within_a_minute_and_the_old_one_goes() {
    let (old, new) = (SigningKey::new("old", Algorithm::ES256), SigningKey::new("new", Algorithm::ES256));
    let provider = Provider::new(Answer::KeySet(key_set(&[&old])));
    let world = World::new(&provider.record());
    world.tick().await;
    let (by_old, by_new) = (old.token(&claims_but("exp", json!(NOW + 9_000))), new.token(&claims()));
    assert_eq!((world.check(&by_old), world.check(&by_new)), (Ok(()), REFUSED));

    // Rotated right after a fetch: the worst moment.
    provider.answers(Answer::KeySet(key_set(&[&old, &new])));
    let mut waited = 0;
    while world.check(&by_new) != Ok(()) {
        world.seconds(1).await;
        waited += 1;
        assert!(waited <= 60, "not picked up in a minute");
    }
    println!("new key picked up after {waited} s, {} fetches", provider.asked());
    assert_eq!(world.check(&by_old), Ok(()), "both are valid while keys are rotated");

    // The old key is dropped: tokens verified under it go with the next fetch, though they are cached.
    provider.answers(Answer::KeySet(key_set(&[&new])));
    let mut waited = 0;
    while world.check(&by_old) == Ok(()) {
        world.seconds(1).await;
        waited += 1;
        assert!(waited <= 5 * 60 + 1, "still accepted");
    }
    println!("dropped key refused after {waited} s");
    assert_eq!(world.check(&by_old), REFUSED);
    assert_eq!(world.check(&by_new), Ok(()));
}

#[tokio::test]
async fn an_outage_of_an_hour_refuses_no_valid_token_and_a_day_does() {
    let key = SigningKey::new("a", Algorithm::EdDSA);
    let provider = Provider::new(Answer::KeySet(key_set(&[&key])));
    let world = World::new(&provider.record());
    world.tick().await;
    let token = key.token(&claims_but("exp", json!(NOW + 3 * 86_400)));
    let mut checked = 0;
    for minute in 0..60 {
        provider.answers(match minute % 5 {
            0 => Answer::Status(500),
            1 => Answer::Close,
            2 => Answer::KeySet("<html>maintenance</html>".to_owned()),
            3 => Answer::KeySet(r#"{"keys":[]}"#.to_owned()),
            _ => Answer::Redirect(format!("http://{}/elsewhere", provider.address)),
        });
        for _ in 0..60 {
            world.seconds(1).await;
            assert_eq!(world.check(&token), Ok(()), "minute {minute}");
            checked += 1;
        }
    }
    let asked = provider.asked();
    println!("{checked} valid tokens in an hour of outage, 0 refused, {asked} fetches");
    assert!(asked <= 1 + 3600 / 30, "{asked} fetches in an hour");

    world.clock.advance(Duration::from_hours(23) + Duration::from_secs(1));
    assert_eq!(world.check(&token), Err(AuthFault::Refused(AuthRefusal::NoKeys)), "keys of yesterday");
    provider.answers(Answer::KeySet(key_set(&[&key])));
    world.seconds(1).await;
    assert_eq!(world.check(&token), Ok(()), "and they come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_holds_up_nobody() {
    let (key, other) = (SigningKey::new("a", Algorithm::EdDSA), SigningKey::new("b", Algorithm::EdDSA));
    let (provider, hanging) = (Provider::new(Answer::KeySet(key_set(&[&key]))), Provider::new(Answer::Hang));
    let second = hanging.record().replace("\"test\"", "\"second\"").replace("login.example.com", "hangs.example.com");
    let world = World::new(&(provider.record() + &second));
    let began = Stopwatch::start();
    world.auth.fetch_keys(Duration::from_millis(300), spawn).await;
    assert!(began.elapsed() < Duration::from_secs(2), "a start does not wait for it");
    let token = key.token(&claims());
    let lost = other.token(&claims_but("iss", json!("https://hangs.example.com/")));
    let stop = Stop::default();
    let keeping = stop.clone();
    let auth = Arc::clone(&world.auth);
    stop.track(async move {
        tokio::select! {
            () = scoreline::auth::keep(auth, spawn, |_| {}) => {}
            () = keeping.requested() => {}
        }
    });
    let mut slowest = Duration::ZERO;
    let began = Stopwatch::start();
    while began.elapsed() < Duration::from_millis(1500) {
        let before = Stopwatch::start();
        assert_eq!(world.check(&token), Ok(()));
        assert_eq!(world.check(&lost), Err(AuthFault::Refused(AuthRefusal::NoKeys)));
        slowest = slowest.max(before.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("checks while a provider hangs: slowest {slowest:?}");
    assert_eq!(hanging.asked(), 1, "one request hangs, none follows it");
    // The credentials are still looked at.
    world.file.write("");
    while world.check(&token) == Ok(()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(began.elapsed() < Duration::from_secs(20), "the file is not looked at");
    }
    stop.request();
}

#[tokio::test]
async fn ten_thousand_forged_key_ids_cause_one_fetch_in_thirty_seconds() {
    let key = SigningKey::new("a", Algorithm::EdDSA);
    let provider = Provider::new(Answer::KeySet(key_set(&[&key])));
    let world = World::new(&provider.record());
    world.tick().await;
    world.seconds(31).await;
    assert_eq!(provider.asked(), 1);
    let claims = claims().to_string();
    for number in 0..10_000 {
        let header = format!(r#"{{"alg":"EdDSA","kid":"forged-{number}"}}"#);
        assert_eq!(world.check(&key.token_with(&header, &claims)), REFUSED);
        if number % 100 == 0 {
            // A hundred seconds pass on the way.
            world.seconds(1).await;
        }
    }
    let asked = provider.asked() - 1;
    println!("10,000 forged key ids over 100 s: {asked} fetches");
    assert!((1..=4).contains(&asked), "{asked} fetches");
}

#[tokio::test]
async fn keys_come_from_a_file_too_and_a_key_set_without_end_is_not_read() {
    let key = SigningKey::new("a", Algorithm::ES384);
    let file = CredentialsFile::new("");
    let path = file.beside("keys.json", &key_set(&[&key]));
    let world = World::new(&issuer_record(&format!("jwks_file = \"{}\"", path.display())));
    world.tick().await;
    assert_eq!(world.check(&key.token(&claims())), Ok(()));

    let endless = format!("{}{}", " ".repeat(2 << 20), key_set(&[&key]));
    let provider = Provider::new(Answer::KeySet(endless));
    let world = World::new(&provider.record());
    world.tick().await;
    assert_eq!(world.check(&key.token(&claims())), Err(AuthFault::Refused(AuthRefusal::NoKeys)));
}

#[test]
fn a_hot_check_allocates_nothing() {
    let world = World::new("");
    let path = world.file.path();
    let scopes = scoreline::auth::Scopes::default().with(Scope::Predict);
    let now = "2026-11-21T10:00:00Z".parse().expect("a time");
    let rates = scoreline::auth::RateRecord::default();
    let made = scoreline::auth::add_key(&path, "hot", scopes, rates, now).expect("made");
    let client = scoreline::auth::add_client(&path, "hot", scopes, rates, now).expect("made");
    world.auth.look();
    let body =
        format!("grant_type=client_credentials&client_id={}&client_secret={}", client.id, client.secret.as_str());
    let granted = world.auth.grant(&scoreline::auth::GrantRequest {
        authorization: None,
        content_type: Some(b"application/x-www-form-urlencoded"),
        body: body.as_bytes(),
        from: None,
    });
    let token = granted.expect("granted").access_token;
    for (what, credential) in [("API key", made.secret.as_str()), ("token", token.as_str())] {
        let header = format!("Bearer {credential}");
        let check = || world.auth.admit(Some(header.as_bytes()), None, Scope::Predict).expect("accepted");
        drop(check());
        let counted = allocation_counter::measure(|| drop(check()));
        assert_eq!(counted.count_total, 0, "{what}: {counted:?}");
    }
}

#[test]
#[ignore = "prints how long a hot check takes: cargo test --workspace --test it -- --ignored --nocapture hot_check_takes"]
fn how_long_a_hot_check_takes() {
    let key = SigningKey::new("a", Algorithm::RS256);
    let file = CredentialsFile::new("");
    let keys = file.beside("keys.json", &key_set(&[&key]));
    file.write(&issuer_record(&format!("jwks_file = \"{}\"", keys.display())));
    let scopes = scoreline::auth::Scopes::default().with(Scope::Predict);
    let now = "2026-11-21T10:00:00Z".parse().expect("a time");
    let rates = scoreline::auth::RateRecord::default();
    let made = scoreline::auth::add_key(&file.path(), "hot", scopes, rates, now).expect("made");
    let clock = Arc::new(Frozen);
    let auth = Authenticator::open(&file.settings(), clock).expect("valid").expect("on");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(auth.fetch_keys(Duration::from_secs(10), spawn));
    let token = key.token(&claims());
    for (what, credential) in [("API key", made.secret.as_str()), ("RS256 token", token.as_str())] {
        let header = format!("Bearer {credential}");
        let check = || std::hint::black_box(auth.admit(Some(header.as_bytes()), None, Scope::Predict)).is_ok();
        let began = Stopwatch::start();
        assert!(check());
        let first = began.elapsed();
        let rounds = 200_000;
        let began = Stopwatch::start();
        assert!((0..rounds).all(|_| check()));
        println!("{what} ({} bytes): first {first:?}, then {:?} each", header.len(), began.elapsed() / rounds);
    }
}

/// The real monotonic clock, and a wall clock at which the tokens are valid.
struct Frozen;

impl scoreline_domain::time::Clock for Frozen {
    fn now(&self) -> scoreline_domain::time::Timestamp {
        scoreline_domain::time::Timestamp::from_second(NOW).expect("a time")
    }

    fn monotonic(&self) -> Duration {
        scoreline_domain::time::SystemClock.monotonic()
    }
}
