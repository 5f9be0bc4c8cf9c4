//! Scores written to profiles.

use std::time::Duration;

use scoreline_domain::{Interaction, Tier};
use scoreline_genesys::profile::{ProfileScores, ProfileUpdate, ProfileWritten, WriteFault};
use scoreline_genesys::settings::{Api, ProfileWrite};
use scoreline_simulator::FaultPlan;
use serde_json::{Value, json};

use super::desk::{Desk, small};

fn update(desk: &Desk, contact: &str, value: f64) -> ProfileUpdate {
    let customer = desk.hasher().key(contact);
    ProfileUpdate {
        contact: desk.sealer().seal(&customer, contact),
        customer,
        scores: ProfileScores {
            predicted_clv_value: value,
            clv_tier: Tier::High,
            confidence_score: Some(0.83),
            risk_score: None,
            last_calculated_at: desk.simulator.now(),
        },
        last: None,
    }
}

fn contact(desk: &Desk, customer: u32) -> String {
    desk.simulator.contact(customer).to_string()
}

async fn profiles_are_written(write: ProfileWrite) {
    let mut desk = Desk::open(small());
    desk.settings.profile_write = write;
    let profiles = desk.client().profiles();
    let updates: Vec<_> = (0..3).map(|customer| update(&desk, &contact(&desk, customer), 4500.005)).collect();
    assert_eq!(profiles.write(&updates).await, vec![Ok(ProfileWritten::Changed); 3]);
    let written = desk.simulator.profiles();
    assert_eq!(written.len(), 3);
    let fields = &written[&contact(&desk, 1)];
    assert_eq!(fields["predicted_clv_value_number"], 4500.01);
    assert_eq!(fields["clv_tier_text"], "High_Value");
    assert_eq!(fields["confidence_score_number"], 0.83);
    assert!(!fields.contains_key("risk_score_number"), "what is not known is left alone");

    let writes = desk.simulator.writes().len();
    assert_eq!(profiles.write(&updates).await, vec![Ok(ProfileWritten::AsItWas); 3]);
    assert_eq!(desk.simulator.writes().len(), writes, "nothing differs, nothing is written");
    let changed = [update(&desk, &contact(&desk, 2), 1.0)];
    assert_eq!(profiles.write(&changed).await, [Ok(ProfileWritten::Changed)]);
    let fields = &desk.simulator.profiles()[&contact(&desk, 2)];
    assert_eq!(fields["predicted_clv_value_number"], 1.0);
    assert_eq!(fields["clv_tier_text"], "High_Value", "the others are still there");
}

#[tokio::test]
async fn changed_fields_are_patched() {
    profiles_are_written(ProfileWrite::Patch).await;
}

#[tokio::test]
async fn changed_contacts_are_put() {
    profiles_are_written(ProfileWrite::Put).await;
}

/// A tier that a person set is replaced, and it is said that there was one.
#[tokio::test]
async fn what_was_edited_by_hand_is_noticed() {
    let desk = Desk::open(small());
    let profiles = desk.client().profiles();
    let first = update(&desk, &contact(&desk, 0), 10.0);
    assert_eq!(profiles.write(std::slice::from_ref(&first)).await, [Ok(ProfileWritten::Changed)]);
    let then = |value: f64, last: ProfileScores| {
        let mut next = update(&desk, &contact(&desk, 0), value);
        next.scores.last_calculated_at += Duration::from_secs((value * 60.0) as u64);
        next.last = Some(last);
        next
    };
    let second = then(11.0, first.scores);
    assert_eq!(profiles.write(std::slice::from_ref(&second)).await, [Ok(ProfileWritten::Changed)], "nobody was at it");
    let edit = |field: &str, value: Value| desk.simulator.edit_contact(desk.simulator.contact(0), field, value);
    edit("clv_tier_text", json!("Low_Value"));
    let third = then(12.0, second.scores);
    assert_eq!(profiles.write(std::slice::from_ref(&third)).await, [Ok(ProfileWritten::ChangedOverEdit)]);
    assert_eq!(desk.simulator.profiles()[&contact(&desk, 0)]["clv_tier_text"], "High_Value");
    edit("predicted_clv_value_number", Value::Null);
    let fourth = then(13.0, third.scores);
    assert_eq!(profiles.write(std::slice::from_ref(&fourth)).await, [Ok(ProfileWritten::ChangedOverEdit)]);
    // A write of which nobody heard that it arrived.
    let unheard = update(&desk, &contact(&desk, 0), 99.0);
    assert_eq!(profiles.write(&[unheard]).await, [Ok(ProfileWritten::Changed)]);
    assert_eq!(profiles.write(&[then(14.0, fourth.scores)]).await, [Ok(ProfileWritten::Changed)]);
}

/// Contacts that were merged share a profile: what was written for the one customer is no edit to the other.
#[tokio::test]
async fn merged_contacts_do_not_take_each_other_for_edits() {
    let desk = Desk::open(small());
    let profiles = desk.client().profiles();
    let (customer, alias) = desk.simulator.merged().next().expect("a merged contact");
    let names = [contact(&desk, customer), alias.to_string()];
    let (mut last, mut value) = ([None, None], 0.0);
    for round in 0..3 {
        for (name, last) in names.iter().zip(&mut last) {
            value += 1.0;
            let next = ProfileUpdate { last: *last, ..update(&desk, name, value) };
            let written = profiles.write(std::slice::from_ref(&next)).await;
            assert_eq!(written, [Ok(ProfileWritten::Changed)], "{round}");
            *last = Some(next.scores);
        }
    }
}

#[tokio::test]
async fn every_update_has_its_own_result() {
    let desk = Desk::open(small());
    desk.simulator.delete_contact(desk.simulator.contact(1));
    let mut moved = update(&desk, &contact(&desk, 4), 1.0);
    moved.customer = desk.hasher().key("somebody else");
    let updates = [update(&desk, &contact(&desk, 0), 1.0), update(&desk, &contact(&desk, 1), 1.0), moved];
    let results = desk.client().profiles().write(&updates).await;
    assert_eq!(results[0], Ok(ProfileWritten::Changed));
    for (result, said) in results[1..].iter().zip(["status 404", "another customer"]) {
        let Err(WriteFault::Dead { reason }) = result else { panic!("{result:?}") };
        assert!(reason.contains(said), "{reason}");
        assert!(!reason.contains(&contact(&desk, 1)), "no customer in it");
    }
}

#[tokio::test]
async fn a_conflict_is_read_again_once_and_an_outage_is_kept_for_later() {
    let desk = Desk::open(small());
    let path = "/api/v2/externalcontacts/contacts/{contactId}";
    let plan = |method: &str, status: u16, rest: &str| {
        let text = format!(
            "[[fault]]\npath = \"{path}\"\nmethod = \"{method}\"\nkind = \"status\"\nstatus = {status}\n{rest}\n"
        );
        desk.simulator.set_faults(FaultPlan::parse(&text).expect("a plan"));
    };
    let profiles = desk.client().profiles();
    plan("PATCH", 409, "on = [1]");
    assert_eq!(profiles.write(&[update(&desk, &contact(&desk, 0), 2.0)]).await, [Ok(ProfileWritten::Changed)]);
    plan("PATCH", 409, "");
    let results = profiles.write(&[update(&desk, &contact(&desk, 1), 2.0)]).await;
    assert!(matches!(&results[0], Err(WriteFault::Retry { reason, .. }) if reason.contains("409")), "{results:?}");
    plan("GET", 503, "");
    let results = profiles.write(&[update(&desk, &contact(&desk, 2), 2.0)]).await;
    assert!(matches!(&results[0], Err(WriteFault::Retry { reason, .. }) if reason.contains("503")), "{results:?}");
    plan("PATCH", 400, "");
    let results = profiles.write(&[update(&desk, &contact(&desk, 2), 2.0)]).await;
    assert!(matches!(&results[0], Err(WriteFault::Dead { .. })), "{results:?}");
}

#[tokio::test]
async fn the_documented_entity_is_replaced_whole() {
    let mut desk = Desk::open(small());
    desk.settings.api = Api::Documented;
    let results = desk.client().profiles().write(&[update(&desk, "CUST-12345", 7.0)]).await;
    assert!(matches!(&results[0], Err(WriteFault::Retry { reason, .. }) if reason.contains("data_service_id")));
    desk.settings.data_service_id = Some("service".to_owned());
    let profiles = desk.client().profiles();
    for value in [7.0, 8.0] {
        assert_eq!(profiles.write(&[update(&desk, "CUST-12345", value)]).await, [Ok(ProfileWritten::Changed)]);
    }
    let rows = desk.simulator.entities("customer_profile_enrichment");
    assert_eq!(rows["CUST-12345"]["predicted_clv_value"], 8.0);
    assert_eq!(rows["CUST-12345"]["clv_tier"], "High_Value");
}

/// What an extraction keeps of a customer is enough to write to their profile.
#[tokio::test]
async fn an_extracted_contact_can_be_written_to() {
    let desk = Desk::open(small());
    let client = desk.client();
    let mut kept = super::kept::Kept::default();
    super::kept::extract(&desk, desk.everything(), &mut kept, super::kept::Restart::Never).await;
    let Interaction { customer, .. } = kept.interactions.values().next().expect("some").clone();
    let update = ProfileUpdate { contact: kept.contacts[&customer].clone(), customer, ..update(&desk, "x", 3.0) };
    assert_eq!(client.profiles().write(&[update]).await, [Ok(ProfileWritten::Changed)]);
    assert_eq!(desk.simulator.profiles().len(), 1);
}
