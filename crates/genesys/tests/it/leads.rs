//! Scores of leads in contact lists: read, compared by others, written; and whatever happens in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scoreline_domain::time::{Clock as _, SystemClock, Timestamp};
use scoreline_genesys::outbound::{LeadTarget, LeadWrite, ReadLead, SeenScore, SweepState};
use scoreline_genesys::settings::{Api, ContactWriteMode};
use scoreline_genesys::{Genesys, Permits, SendFault};
use scoreline_simulator::{AwkwardContacts, ContactTally, FaultPlan, SimulatorSettings};
use secrecy::SecretString;

use super::desk::{Desk, small};

const CONTACTS: &str = "/api/v2/outbound/contactlists/*/contacts";

struct LeadDesk {
    desk: Desk,
    list: String,
    client: Genesys,
    target: Arc<dyn LeadTarget>,
}

fn lead_desk(settings: SimulatorSettings, write: ContactWriteMode) -> LeadDesk {
    let mut desk = Desk::open(settings);
    let list = desk.simulator.contact_list().to_string();
    desk.settings.outbound.contact_lists = vec![list.clone()];
    desk.settings.outbound.write = write;
    desk.settings.timeout = Duration::from_millis(600);
    desk.settings.requests_per_minute = 100_000;
    let client = desk.client();
    let target = client.lead_targets().remove(0);
    LeadDesk { desk, list, client, target }
}

fn with_leads(settings: SimulatorSettings, write: ContactWriteMode, leads: &[&str]) -> LeadDesk {
    let desk = lead_desk(settings, write);
    for lead in leads {
        desk.put(lead, &[("leadId", lead), ("Cell", "+15555550100")]);
    }
    desk
}

fn plenty() -> SimulatorSettings {
    let mut settings = small();
    settings.limits.requests = 1_000_000;
    settings
}

fn ids(leads: &[&str]) -> Vec<SecretString> {
    leads.iter().map(|lead| SecretString::from(*lead)).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn write(read: &ReadLead, score: u8) -> LeadWrite<'_> {
    LeadWrite {
        read,
        score,
        calculated_at: at("2026-11-21T09:59:00.123Z"),
        band: Some("A"),
        reason: Some("asked twice"),
    }
}

impl LeadDesk {
    fn put(&self, lead: &str, columns: &[(&str, &str)]) {
        self.desk.simulator.put_contact(&self.list, lead, columns.iter().copied());
    }

    fn contacts(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.desk.simulator.contacts(&self.list)
    }

    fn faults(&self, plan: &str) {
        self.desk.simulator.set_faults(FaultPlan::parse(plan).expect("a plan"));
    }

    async fn permits(&self) -> Permits {
        self.client.reserve(2).await.expect("permits")
    }

    async fn read(&self, leads: &[&str]) -> Vec<ReadLead> {
        self.target.read(&self.permits().await, &ids(leads)).await.expect("an answer")
    }

    async fn push(&self, read: &[ReadLead], score: u8) -> Result<Vec<Result<(), SendFault>>, SendFault> {
        let rows: Vec<_> = read.iter().map(|read| write(read, score)).collect();
        self.target.write(&self.permits().await, &rows).await
    }

    fn writes(&self) -> usize {
        let log = self.desk.simulator.log();
        log.iter().filter(|logged| logged.template.ends_with("/contacts") && logged.method == "POST").count()
    }
}

#[tokio::test]
async fn what_a_list_says_is_read_in_order() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1", "L2", "L3", "L4"]);
    desk.put("L2", &[("ml_score", " 87.0 "), ("ml_last_calculated_at", "2026-11-21T09:00:00Z")]);
    desk.put("L3", &[("ml_score", "n/a")]);
    let seen: Vec<_> = desk.read(&["L3", "gone", "L1", "L2"]).await.into_iter().map(|read| read.seen).collect();
    let eighty_seven = SeenScore::At { score: 87, calculated_at: Some(at("2026-11-21T09:00:00Z")) };
    assert_eq!(seen, [SeenScore::Foreign { value: "n/a".into() }, SeenScore::Missing, SeenScore::Never, eighty_seven]);
}

#[tokio::test]
async fn a_write_changes_our_columns_alone_and_makes_nobody() {
    for (mode, empties) in
        [(ContactWriteMode::Merge, true), (ContactWriteMode::Merge, false), (ContactWriteMode::Partial, false)]
    {
        let settings = SimulatorSettings { upsert_empties_unsent: empties, ..plenty() };
        let desk = with_leads(settings, mode, &["L1", "L2"]);
        desk.desk.simulator.set_callable(&desk.list, "L1", false);
        let read = desk.read(&["L1", "gone", "L2"]).await;
        let results = desk.push(&read, 87).await.expect("sent");
        assert_eq!((&results[0], &results[2]), (&Ok(()), &Ok(())));
        assert!(matches!(results[1], Err(SendFault::Refused { status: 404, .. })), "{results:?}");
        let contacts = desk.contacts();
        assert_eq!(contacts.len(), 2, "nobody was made");
        assert_eq!(contacts["L1"]["ml_score"], "87");
        assert_eq!(contacts["L1"]["ml_last_calculated_at"], "2026-11-21T09:59:00.123Z");
        assert_eq!(
            (&*contacts["L1"]["Cell"], &*contacts["L1"]["leadId"]),
            ("+15555550100", "L1"),
            "{mode:?} {empties}"
        );
        assert_eq!(contacts["L1"].len(), 4, "no column for band and reason, so none is written");
        assert_eq!(desk.desk.simulator.contact_tally(), ContactTally::default());
        assert_eq!(desk.desk.simulator.callable(&desk.list, "L1"), Some(false));
        let again = desk.read(&["L1"]).await;
        let seen = SeenScore::At { score: 87, calculated_at: Some(at("2026-11-21T09:59:00.123Z")) };
        assert_eq!(again[0].seen, seen);
    }
}

#[tokio::test]
async fn band_and_reason_are_written_where_they_have_a_column() {
    let mut desk = Desk::open(plenty());
    let list = desk.simulator.contact_list().to_string();
    let columns = ["leadId", "ml_score", "ml_last_calculated_at", "ml_band", "ml_reason"];
    desk.simulator.set_list(&list, &columns.map(|column| (column, "TEXT")));
    desk.simulator.put_contact(&list, "L1", [("leadId", "L1")]);
    let outbound = &mut desk.settings.outbound;
    outbound.contact_lists = vec![list.clone()];
    (outbound.band_column, outbound.reason_column) = (Some("ml_band".to_owned()), Some("ml_reason".to_owned()));
    let client = desk.client();
    let target = client.lead_targets().remove(0);
    let permits = client.reserve(2).await.expect("permits");
    let read = target.read(&permits, &ids(&["L1"])).await.expect("read");
    let long = "ä".repeat(600);
    let row = LeadWrite { reason: Some(&long), ..write(&read[0], 87) };
    assert_eq!(target.write(&permits, &[row]).await, Ok(vec![Ok(())]));
    let contact = &desk.simulator.contacts(&list)["L1"];
    assert_eq!((&*contact["ml_band"], contact["ml_reason"].chars().count()), ("A", 512));
}

/// Scenario 4.
#[tokio::test]
async fn scenario_04_a_refusal_for_the_rate_pauses_and_sends_nothing_again() {
    let forms = ["retry_after_secs = 2", "retry_after = \"date\"\nretry_after_secs = 3", "retry_after = \"missing\""];
    for form in forms {
        let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1"]);
        let read = desk.read(&["L1"]).await;
        desk.faults(&format!("[[fault]]\npath = \"{CONTACTS}\"\nkind = \"too_many_requests\"\n{form}\n"));
        let permits = desk.permits().await;
        let rows = [write(&read[0], 87)];
        let sent = desk.target.write(&permits, &rows).await;
        let Err(SendFault::NotSent { until: Some(pause), reason }) = sent else { panic!("{sent:?}") };
        let least = if form.contains("missing") { Duration::from_millis(500) } else { Duration::from_secs(2) };
        assert!(pause >= least && pause < Duration::from_secs(6), "{form}: {pause:?}");
        assert!(reason.contains("rate limit") && !reason.contains("L1"), "{reason}");
        assert_eq!(desk.writes(), 1, "one attempt");
        // The permit that is left is not worth anything in a pause: nothing waits, nothing is sent.
        drop(permits);
        let started = SystemClock.monotonic();
        let next = desk.client.reserve(1).await.map(drop);
        assert!(next.is_ok() && SystemClock.monotonic() + Duration::from_millis(50) >= started + least, "{form}");
    }
}

/// Scenarios 2, 3 and 5: nobody knows whether it landed.
#[tokio::test]
async fn scenario_05_an_ambiguous_write_is_unknown_and_not_repeated() {
    for fault in [
        "kind = \"status\"\nstatus = 503\napplied = true",
        "kind = \"cut\"\napplied = true",
        "kind = \"status\"\nstatus = 408",
        "kind = \"slow\"\ndelay_ms = 1500",
        "kind = \"wrong_content_type\"\napplied = true",
    ] {
        let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1", "L2"]);
        let read = desk.read(&["L1", "L2"]).await;
        desk.faults(&format!("[[fault]]\npath = \"{CONTACTS}\"\n{fault}\n"));
        let results = desk.push(&read, 87).await.expect("it may have been sent");
        assert!(results.iter().all(|result| matches!(result, Err(SendFault::Unknown { .. }))), "{fault}: {results:?}");
        tokio::time::sleep(Duration::from_millis(if fault.contains("slow") { 1200 } else { 0 })).await;
        // Of a request that nobody waits for any more the simulator logs nothing.
        assert_eq!(desk.writes(), usize::from(!fault.contains("slow")), "{fault}");
    }
}

#[tokio::test]
async fn scenario_03_a_late_write_is_unknown_and_seen_by_the_next_read() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1"]);
    let read = desk.read(&["L1"]).await;
    desk.faults(&format!("[[fault]]\npath = \"{CONTACTS}\"\nkind = \"late\"\ndelay_ms = 900\n"));
    let results = desk.push(&read, 87).await.expect("it may have been sent");
    assert!(matches!(results[0], Err(SendFault::Unknown { .. })), "{results:?}");
    assert_eq!(desk.read(&["L1"]).await[0].seen, SeenScore::Never);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(matches!(desk.read(&["L1"]).await[0].seen, SeenScore::At { score: 87, .. }));
}

/// Scenario 6.
#[tokio::test]
async fn scenario_06_a_token_that_ends_in_mid_batch_costs_one_login_and_no_lead() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1"]);
    let read = desk.read(&["L1"]).await;
    desk.desk.simulator.revoke_tokens();
    assert_eq!(desk.push(&read, 87).await, Ok(vec![Ok(())]));
    let logins =
        |desk: &LeadDesk| desk.desk.simulator.log().iter().filter(|one| one.template == "/oauth/token").count();
    assert_eq!(logins(&desk), 2);
    desk.faults("[[fault]]\npath = \"/api/**\"\nkind = \"token_expired\"\n");
    let sent = desk.push(&read, 88).await;
    assert!(matches!(&sent, Err(SendFault::Down { reason }) if reason.contains("roles")), "{sent:?}");
}

/// Scenario 9: between our read and our write the contact is taken out.
#[tokio::test]
async fn scenario_09_only_what_was_read_is_written() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1", "L2"]);
    desk.desk.simulator.remove_contact(&desk.list, "L2");
    let read = desk.read(&["L1", "L2"]).await;
    let results = desk.push(&read, 87).await.expect("sent");
    assert!(results[0].is_ok() && results[1].is_err());
    assert!(!desk.contacts().contains_key("L2"));
    assert_eq!(desk.desk.simulator.contact_tally().created, 0);
}

/// Scenario 10: the target is down, and its million leads are not refused one by one.
#[tokio::test]
async fn scenario_10_a_list_without_our_columns_or_without_itself_is_down() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1"]);
    let read = desk.read(&["L1"]).await;
    desk.desk.simulator.set_list(&desk.list, &[("leadId", "TEXT"), ("Cell", "TEXT"), ("ml_score", "NUMERIC")]);
    let sent = desk.push(&read, 87).await;
    assert!(matches!(&sent, Err(SendFault::Down { reason }) if reason.contains("`ml_last_calculated_at`")), "{sent:?}");
    desk.desk.simulator.remove_list(&desk.list);
    let sent = desk.push(&read, 87).await;
    assert!(matches!(&sent, Err(SendFault::Down { reason }) if reason.contains("not there")), "{sent:?}");
    let read = desk.target.read(&desk.permits().await, &ids(&["L1"])).await.map(|read| read.len());
    assert!(matches!(read, Err(SendFault::Down { .. })));
    desk.faults(&format!("[[fault]]\npath = \"{CONTACTS}/bulk\"\nkind = \"status\"\nstatus = 403\n"));
    let read = desk.target.read(&desk.permits().await, &ids(&["L1"])).await.map(|read| read.len());
    assert!(matches!(&read, Err(SendFault::Down { reason }) if reason.contains("403")), "{read:?}");
}

/// Scenario 11: full contacts are split by the bytes of the body.
#[tokio::test]
async fn scenario_11_a_thousand_large_contacts_go_in_several_requests() {
    let mut settings = plenty();
    settings.limits.value_chars = 40_000;
    let leads: Vec<String> = (0..40).map(|number| format!("L{number:02}")).collect();
    let names: Vec<&str> = leads.iter().map(String::as_str).collect();
    let desk = with_leads(settings, ContactWriteMode::Merge, &names);
    let large = "x".repeat(32_000);
    for lead in &names {
        desk.put(lead, &[("Cell", &large)]);
    }
    let read = desk.read(&names).await;
    let results = desk.push(&read, 87).await.expect("sent");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(desk.writes(), 3, "14 in a request");
    let largest = desk.desk.simulator.log().iter().map(|logged| logged.request_bytes).max();
    assert!(largest.is_some_and(|bytes| bytes <= 480_000), "{largest:?}");
    let huge = "x".repeat(490_000);
    desk.desk.simulator.put_contact(&desk.list, "L00", [("Cell", &*huge)]);
    let read = desk.read(&["L00", "L01"]).await;
    let results = desk.push(&read, 88).await.expect("sent");
    assert!(matches!(&results[0], Err(SendFault::Refused { status: 413, reason }) if reason.contains("too_large")));
    assert_eq!(results[1], Ok(()));
}

/// Scenario 16: what halves are made of.
#[tokio::test]
async fn scenario_16_one_bad_contact_refuses_its_batch_and_one_that_hangs_leaves_it_unknown() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1", "P1", "H1"]);
    let hanging = Some(("H".to_owned(), Duration::from_secs(2)));
    desk.desk.simulator.set_awkward_contacts(AwkwardContacts { refused: Some("P".to_owned()), hanging });
    let read = desk.read(&["L1", "P1", "H1"]).await;
    let all = desk.push(&read[..2], 87).await.expect("sent");
    assert!(all.iter().all(|one| matches!(one, Err(SendFault::Refused { status: 400, .. }))), "{all:?}");
    let looks = |desk: &LeadDesk| {
        desk.desk.simulator.log().iter().filter(|one| one.template.ends_with("{contactListId}")).count()
    };
    assert_eq!(looks(&desk), 1, "the list was looked at");
    assert_eq!(desk.push(&read[..1], 87).await, Ok(vec![Ok(())]));
    assert!(desk.push(&read[1..2], 87).await.expect("sent")[0].is_err());
    assert_eq!(looks(&desk), 1, "and not at every half");
    let hung = desk.push(&read[2..], 87).await.expect("sent");
    assert!(matches!(hung[0], Err(SendFault::Unknown { .. })), "{hung:?}");
}

/// Scenario 17: a process that was stopped and wakes up sends nothing.
#[tokio::test]
async fn scenario_17_after_its_time_nothing_is_begun() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1"]);
    let read = desk.read(&["L1"]).await;
    let permits = desk.permits().await;
    permits.until(Duration::ZERO);
    let rows = [write(&read[0], 87)];
    let sent = desk.target.write(&permits, &rows).await;
    assert!(matches!(sent, Err(SendFault::NotSent { .. })), "{sent:?}");
    assert_eq!(desk.writes(), 0);
}

/// Scenario 18: what is closed stays closed; see also `a_write_changes_our_columns_alone_and_makes_nobody`.
#[tokio::test]
async fn scenario_18_a_foreign_column_is_untouched_by_a_partial_write() {
    let settings = SimulatorSettings { upsert_empties_unsent: false, ..plenty() };
    let desk = with_leads(settings, ContactWriteMode::Partial, &["L1"]);
    let read = desk.read(&["L1"]).await;
    desk.put("L1", &[("Cell", "+15555550199")]);
    desk.desk.simulator.set_callable(&desk.list, "L1", false);
    assert_eq!(desk.push(&read, 87).await, Ok(vec![Ok(())]));
    assert_eq!(desk.contacts()["L1"]["Cell"], "+15555550199");
    assert_eq!(desk.desk.simulator.callable(&desk.list, "L1"), Some(false));
}

/// Scenario 19.
#[tokio::test]
async fn scenario_19_an_import_pauses_the_target_and_refuses_nobody() {
    let desk = with_leads(plenty(), ContactWriteMode::Merge, &["L1"]);
    let read = desk.read(&["L1"]).await;
    desk.desk.simulator.set_importing(&desk.list, true);
    let sent = desk.push(&read, 87).await;
    let pause = Some(Duration::from_secs(30));
    assert!(matches!(&sent, Err(SendFault::NotSent { until, .. }) if *until == pause), "{sent:?}");
}

#[tokio::test]
async fn a_sweep_gives_old_scores_their_value_and_leaves_fresh_ones() {
    let bulk_edit_time = Duration::from_secs(30);
    let desk =
        with_leads(SimulatorSettings { bulk_edit_time, ..plenty() }, ContactWriteMode::Merge, &["L1", "L2", "L3"]);
    desk.put("L1", &[("ml_score", "90"), ("ml_last_calculated_at", "2026-11-20T09:00:00.000Z")]);
    desk.put("L2", &[("ml_score", "85"), ("ml_last_calculated_at", "2026-11-21T09:00:00.000Z")]);
    let now = desk.desk.simulator.now();
    let cutoff = now.checked_sub(Duration::from_hours(24)).expect("in the calendar");
    let permits = desk.permits().await;
    let job = desk.target.start_sweep(&permits, cutoff, 0).await.expect("sent").expect("a job");
    assert_eq!(desk.target.poll_sweep(&permits, &job).await, Ok(SweepState::Running));
    desk.desk.simulator.advance(bulk_edit_time);
    assert!(desk.target.poll_sweep(&permits, &job).await.is_err(), "permits are good for 15 s");
    assert_eq!(desk.target.poll_sweep(&desk.permits().await, &job).await, Ok(SweepState::Done { changed: 1 }));
    let contacts = desk.contacts();
    assert_eq!((&*contacts["L1"]["ml_score"], &*contacts["L2"]["ml_score"]), ("0", "85"));
    assert_eq!(contacts["L1"]["Cell"], "+15555550100");
    assert_eq!(contacts["L1"]["ml_last_calculated_at"], "2026-11-20T09:00:00.000Z", "its age is told truly");
    assert_eq!(desk.target.poll_sweep(&desk.permits().await, "gone").await, Ok(SweepState::Failed));
}

#[tokio::test]
async fn the_guides_entity_is_read_and_replaced_whole() {
    let mut desk = Desk::open(plenty());
    (desk.settings.api, desk.settings.data_service_id) = (Api::Documented, Some("service".to_owned()));
    let client = desk.client();
    let target = client.lead_targets().remove(0);
    assert_eq!((target.target(), target.most()), ("lead_entity", 1));
    for score in [87, 45] {
        let permits = client.reserve(2).await.expect("permits");
        let read = target.read(&permits, &ids(&["10000045"])).await.expect("read");
        let is_first = score == 87;
        assert_eq!(read[0].seen == SeenScore::Never, is_first);
        assert_eq!(target.write(&permits, &[write(&read[0], score)]).await, Ok(vec![Ok(())]));
        let row = &desk.simulator.entities("LeadScore")["10000045"];
        assert_eq!(row["priorityScore"], score);
        assert_eq!(row["lastCalculatedAt"], "2026-11-21T09:59:00.123Z");
    }
    let permits = client.reserve(1).await.expect("permits");
    assert_eq!(target.start_sweep(&permits, at("2026-11-20T10:00:00Z"), 0).await, Ok(None));
}
