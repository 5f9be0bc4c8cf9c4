//! Scores written to profiles: read, compared by whoever keeps them, and written.

use scoreline_domain::{Interaction, Tier};
use scoreline_genesys::SendFault;
use scoreline_genesys::profile::{ProfileUpdate, ProfileWriter, SeenProfile};
use scoreline_genesys::settings::{Api, ProfileWrite};
use scoreline_simulator::FaultPlan;

use super::desk::{Desk, small};

fn update(desk: &Desk, contact: &str, value: f64) -> ProfileUpdate {
    let customer = desk.hasher().key(contact);
    ProfileUpdate {
        contact: desk.sealer().seal(&customer, contact),
        customer,
        predicted_clv_value: value,
        clv_tier: Tier::High,
        confidence_score: Some(0.83),
        risk_score: None,
        last_calculated_at: desk.simulator.now(),
    }
}

fn contact(desk: &Desk, customer: u32) -> String {
    desk.simulator.contact(customer).to_string()
}

/// What was seen; and what became of the write, where there was something to write.
async fn deliver(desk: &Desk, profiles: &ProfileWriter, update: &ProfileUpdate) -> Result<SeenProfile, SendFault> {
    let permits = desk.client().reserve(2).await?;
    let read = profiles.read(&permits, update).await?;
    if read.seen != SeenProfile::AsItWas {
        profiles.write(&permits, &read, update).await?;
    }
    Ok(read.seen)
}

async fn profiles_are_written(write: ProfileWrite) {
    let mut desk = Desk::open(small());
    desk.settings.profile_write = write;
    let profiles = desk.client().profiles();
    let updates: Vec<_> = (0..3).map(|customer| update(&desk, &contact(&desk, customer), 4500.005)).collect();
    for update in &updates {
        let seen = deliver(&desk, &profiles, update).await;
        assert_eq!(seen, Ok(SeenProfile::Differs { tier: None, calculated_at: None }));
    }
    let written = desk.simulator.profiles();
    assert_eq!(written.len(), 3);
    let fields = &written[&contact(&desk, 1)];
    assert_eq!(fields["predicted_clv_value_number"], 4500.01);
    assert_eq!(fields["clv_tier_text"], "High_Value");
    assert_eq!(fields["confidence_score_number"], 0.83);
    assert!(!fields.contains_key("risk_score_number"), "what is not known is left alone");

    for update in &updates {
        assert_eq!(deliver(&desk, &profiles, update).await, Ok(SeenProfile::AsItWas));
    }
    let changed = ProfileUpdate { predicted_clv_value: 1.0, ..updates[2].clone() };
    let seen = deliver(&desk, &profiles, &changed).await;
    let calculated_at = Some(changed.last_calculated_at);
    assert_eq!(seen, Ok(SeenProfile::Differs { tier: Some("High_Value".into()), calculated_at }));
    let fields = &desk.simulator.profiles()[&contact(&desk, 2)];
    assert_eq!(fields["predicted_clv_value_number"], 1.0);
    assert_eq!(fields["clv_tier_text"], "High_Value", "the others are still there");
    let older = desk.simulator.now().checked_sub(std::time::Duration::from_hours(1)).expect("in the calendar");
    let late = ProfileUpdate { last_calculated_at: older, predicted_clv_value: 2.0, ..changed.clone() };
    let permits = desk.client().reserve(1).await.expect("permits");
    let read = profiles.read(&permits, &late).await.expect("an answer");
    assert_eq!(read.seen, SeenProfile::Newer { calculated_at: changed.last_calculated_at });
}

#[tokio::test]
async fn changed_fields_are_patched() {
    profiles_are_written(ProfileWrite::Patch).await;
}

#[tokio::test]
async fn changed_contacts_are_put() {
    profiles_are_written(ProfileWrite::Put).await;
}

#[tokio::test]
async fn a_contact_that_is_not_there_or_sealed_for_another_is_refused() {
    let desk = Desk::open(small());
    desk.simulator.delete_contact(desk.simulator.contact(1));
    let mut moved = update(&desk, &contact(&desk, 4), 1.0);
    moved.customer = desk.hasher().key("somebody else");
    let profiles = desk.client().profiles();
    for (update, expected, said) in
        [(update(&desk, &contact(&desk, 1), 1.0), 404, "status 404"), (moved, 422, "another customer")]
    {
        let Err(SendFault::Refused { status, reason }) = deliver(&desk, &profiles, &update).await else {
            panic!("refused")
        };
        assert!(status == expected && reason.contains(said), "{status} {reason}");
        assert!(!reason.contains(&contact(&desk, 1)), "no customer in it");
    }
}

#[tokio::test]
async fn what_became_of_a_write_is_said_and_it_is_sent_once() {
    let desk = Desk::open(small());
    let profiles = desk.client().profiles();
    let path = "/api/v2/externalcontacts/contacts/{contactId}";
    for (customer, method, status) in [(0, "PATCH", 409), (1, "GET", 503), (2, "PATCH", 503), (3, "PATCH", 400)] {
        let text =
            format!("[[fault]]\npath = \"{path}\"\nmethod = \"{method}\"\nkind = \"status\"\nstatus = {status}\n");
        desk.simulator.set_faults(FaultPlan::parse(&text).expect("a plan"));
        let before = desk.simulator.log().iter().filter(|logged| logged.method == method).count();
        let result = deliver(&desk, &profiles, &update(&desk, &contact(&desk, customer), 2.0)).await;
        match (status, &result) {
            (503, Err(SendFault::Unknown { .. })) => {}
            (409 | 400, Err(SendFault::Refused { status: said, .. })) => assert_eq!(*said, status),
            _ => panic!("{status}: {result:?}"),
        }
        let after = desk.simulator.log().iter().filter(|logged| logged.method == method).count();
        assert_eq!(after - before, 1, "{method} {status}");
    }
}

#[tokio::test]
async fn the_documented_entity_is_replaced_whole() {
    let mut desk = Desk::open(small());
    desk.settings.api = Api::Documented;
    let result = deliver(&desk, &desk.client().profiles(), &update(&desk, "CUST-12345", 7.0)).await;
    assert!(matches!(&result, Err(SendFault::Down { reason }) if reason.contains("data_service_id")), "{result:?}");
    desk.settings.data_service_id = Some("service".to_owned());
    let profiles = desk.client().profiles();
    for value in [7.0, 8.0] {
        let seen = deliver(&desk, &profiles, &update(&desk, "CUST-12345", value)).await;
        assert_eq!(seen, Ok(SeenProfile::NotRead));
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
    deliver(&desk, &client.profiles(), &update).await.expect("written");
    assert_eq!(desk.simulator.profiles().len(), 1);
}
