//! One token for everybody, renewed in time.

use std::time::Duration;

use futures_util::future::join_all;
use scoreline_simulator::SimulatorSettings;

use super::desk::{Desk, small};
use super::kept::{Analysis, Kept, Restart, assert_complete, extract};

fn logins(desk: &Desk) -> usize {
    desk.simulator.log().iter().filter(|logged| logged.template == "/oauth/token").count()
}

fn unauthorised(desk: &Desk) -> usize {
    desk.simulator.log().iter().filter(|logged| logged.status == 401).count()
}

#[tokio::test]
async fn however_many_ask_for_a_token_one_is_fetched() {
    let desk = Desk::open(small());
    let client = desk.client();
    let history = client.history();
    let position = desk.everything();
    let steps = join_all((0..20).map(|_| history.step(&position))).await;
    assert!(steps.iter().all(Result::is_ok));
    assert_eq!(logins(&desk), 1);

    desk.simulator.revoke_tokens();
    let steps = join_all((0..20).map(|_| history.step(&position))).await;
    assert!(steps.iter().all(Result::is_ok), "each tried once more");
    assert_eq!(logins(&desk), 2, "and all with the same new one");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let mut settings = small();
    settings.limits.token_life = Duration::from_hours(1);
    let desk = Desk::open(settings);
    let client = desk.client();
    let (history, position) = (client.history(), desk.everything());
    for minutes in [0, 30, 20, 5] {
        desk.simulator.advance(Duration::from_mins(minutes));
        history.step(&position).await.expect("a step");
    }
    // After 55 minutes: nine tenths of its life are over.
    assert_eq!((logins(&desk), unauthorised(&desk)), (2, 0));
}

#[tokio::test]
async fn short_lived_tokens_do_not_stop_an_extraction() {
    let mut settings = SimulatorSettings { customers: 40, ..small() };
    settings.limits.token_life = Duration::from_secs(1);
    settings.limits.tokens = 1000;
    let mut desk = Desk::open(settings);
    desk.settings.job_page_size = 20;
    let mut kept = Kept::default();
    extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Compared);
}

#[tokio::test]
async fn a_wrong_secret_is_final_and_is_not_repeated() {
    let mut desk = Desk::open(small());
    desk.settings.client_secret = secrecy::SecretString::from("CANARY-SECRET");
    let refused = desk.client().history().step(&desk.everything()).await.expect_err("not let in");
    assert_eq!((refused.kind(), refused.passes()), ("not_let_in", false));
    assert!(!format!("{refused} {refused:?}").contains("CANARY"), "{refused}");
    assert_eq!(logins(&desk), 1);
}

#[tokio::test]
async fn a_secret_that_was_exchanged_is_what_the_next_login_is_with() {
    let mut desk = Desk::open(small());
    let right = desk.settings.client_secret.clone();
    desk.settings.client_secret = secrecy::SecretString::from("CANARY-SECRET");
    let client = desk.client();
    let history = client.history();
    assert!(history.step(&desk.everything()).await.is_err());
    client.exchange_secret(right).await;
    assert!(history.step(&desk.everything()).await.is_ok());
}
