//! Each scripted fault alone: it costs time, and nothing else.

use std::time::Duration;

use futures_util::future::join_all;

use super::desk::Desk;
use super::kept::{Analysis, Kept, Restart, assert_complete, extract};

const JOBS: &str = "/api/v2/analytics/conversations/details/jobs";
const QUERY: &str = "/api/v2/analytics/conversations/details/query";

/// A plan of one fault.
fn fault(path: &str, rest: &str) -> String {
    format!("[[fault]]\npath = \"{path}\"\n{rest}\n")
}

fn plans() -> Vec<(&'static str, String)> {
    vec![
        ("429 with seconds", fault("/api/**", "kind = \"too_many_requests\"\nretry_after_secs = 1\nevery = 9")),
        (
            "429 with a date",
            fault("/api/**", "kind = \"too_many_requests\"\nretry_after = \"date\"\nretry_after_secs = 1\nevery = 11"),
        ),
        ("429 without a time", fault("/api/**", "kind = \"too_many_requests\"\nretry_after = \"missing\"\nevery = 9")),
        ("503", fault("/api/**", "kind = \"status\"\nstatus = 503\nevery = 6")),
        ("503 for a while", fault("/api/**", "kind = \"status\"\nstatus = 503\ntimes = 5")),
        ("504 although it was done", fault("/api/**", "kind = \"status\"\nstatus = 504\napplied = true\nevery = 7")),
        ("cut", fault("/api/**", "kind = \"cut\"\nevery = 6")),
        ("cut although it was done", fault("/api/**", "kind = \"cut\"\napplied = true\nevery = 7")),
        ("cut at once", fault("/api/**", "kind = \"cut\"\nbytes = 0\nevery = 8")),
        ("slow", fault("/api/**", "kind = \"slow\"\ndelay_ms = 300\nevery = 4")),
        ("token expired", fault("/api/**", "kind = \"token_expired\"\nevery = 5")),
        ("logins limited", fault("/oauth/token", "kind = \"token_rate_limit\"\non = [1, 2]")),
        ("job failed", fault(JOBS, "method = \"POST\"\nkind = \"job_failed\"\non = [1, 3]")),
        ("job expired", fault(JOBS, "method = \"POST\"\nkind = \"job_expired\"\non = [1, 2]")),
        ("results gone", fault(&format!("{JOBS}/*/results"), "kind = \"job_expired\"\non = [1, 3]")),
        ("job stuck", fault(JOBS, "method = \"POST\"\nkind = \"job_stuck\"\non = [2]")),
        ("rows repeat", fault(QUERY, "kind = \"repeat_rows\"\nrows = 7\nevery = 2")),
        ("rows repeat on every page", fault(QUERY, "kind = \"repeat_rows\"\nrows = 3")),
        ("rows are left out", fault(QUERY, "kind = \"skip_rows\"\nrows = 2\nevery = 3")),
        ("rows are left out of every page", fault(QUERY, "kind = \"skip_rows\"\nrows = 2")),
        ("totals move", fault(QUERY, "kind = \"moving_total\"\nrows = 4")),
        ("pages for people", fault("/api/**", "kind = \"wrong_content_type\"\nevery = 6")),
        ("huge answers", fault("/api/**", "kind = \"oversized\"\nbytes = 4194304\nevery = 13")),
    ]
}

/// All at the same time: most of each is waiting.
#[tokio::test]
async fn every_fault_ends_with_exactly_what_is_there() {
    let ended = plans().into_iter().map(|(name, plan)| async move {
        let mut desk = Desk::with_faults(&plan);
        // Several pages of everything.
        desk.settings.query_page_size = 4;
        desk.settings.job_page_size = 40;
        desk.settings.job_window_days = 14;
        desk.settings.max_response = 1 << 20;
        // A refusal halves the rate, so what is left of it is waited for: not for minutes.
        desk.settings.period = Duration::from_secs(1);
        let mut kept = Kept::default();
        let (_, outcome) = extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
        let struck = desk.simulator.log().iter().filter(|logged| logged.fault.is_some()).count();
        println!("{name}: {struck} faults, {} requests, {:?}", desk.simulator.requests().0, outcome.totals);
        assert!(struck > 0, "{name}");
        assert!(kept.failures.is_empty(), "{name}: {:?}", kept.failures);
        assert!(outcome.mismatches.is_empty(), "{name}");
        assert_complete(&desk, &kept, Analysis::Compared);
    });
    join_all(ended).await;
}

/// What no retry within a call can help with ends the step; the position stays good.
#[tokio::test]
async fn redirects_are_not_followed_and_a_step_that_failed_can_be_taken_again() {
    let desk = Desk::with_faults(&fault("/api/**", "kind = \"redirect\"\nevery = 7\ntimes = 4"));
    let mut kept = Kept::default();
    extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_eq!(kept.failures.len(), 4);
    for failure in &kept.failures {
        assert!(failure.to_string().contains("status 302") && !failure.passes(), "{failure}");
    }
    assert_complete(&desk, &kept, Analysis::Compared);
}

#[tokio::test]
async fn what_was_never_analysed_is_left_empty() {
    let aggregates = fault("/api/v2/analytics/transcripts/aggregates/query", "kind = \"missing_sentiment\"");
    let single = fault("/api/v2/speechandtextanalytics/conversations/*", "kind = \"missing_sentiment\"");
    let desk = Desk::with_faults(&format!("{aggregates}{single}"));
    let mut kept = Kept::default();
    extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    assert_complete(&desk, &kept, Analysis::Partly);
    assert!(kept.interactions.values().all(|interaction| interaction.sentiment.is_none()));
    let wrapped = kept.interactions.values().filter(|interaction| !interaction.topics.is_empty()).count();
    assert!(wrapped > 0, "wrap-up codes stand in for topics");
    assert!(kept.failures.is_empty());
}

#[tokio::test]
async fn a_total_that_is_never_reached_is_told() {
    // More rows are left out than any pass can make up for: each page but the first skips nearly a page.
    let mut desk = Desk::with_faults(&fault(QUERY, "kind = \"skip_rows\"\nrows = 400"));
    desk.settings.query_page_size = 5;
    let mut kept = Kept::default();
    let (_, outcome) = extract(&desk, desk.everything(), &mut kept, Restart::Never).await;
    let mismatch = outcome.mismatches.first().expect("told");
    assert!(mismatch.read < mismatch.expected, "{mismatch:?}");
    assert!(outcome.totals.mismatched > 0);
    // What the tail has missed is in the next extraction's jobs.
    assert!(outcome.resume_from < outcome.watermark);
}
