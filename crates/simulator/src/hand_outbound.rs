//! What tests do to contact lists and campaigns by hand: contacts, columns, a rogue writer, what a campaign is set to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::outbound::{AwkwardContacts, ContactTally};
use super::running::Simulator;

impl Simulator {
    /// Contacts of a list: columns by contact id.
    pub fn contacts(&self, list: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let now = self.world.clock.now_ms();
        self.world.outbound.locked().contacts(list, now)
    }

    /// Writes columns of a contact as somebody else would: an import, an agent's script. It is made when there is none.
    pub fn put_contact<'a>(&self, list: &str, id: &str, data: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let data = data.into_iter().map(|(column, value)| (column.to_owned(), value.to_owned())).collect();
        let now = self.world.clock.now_ms();
        self.world.outbound.locked().put_by_hand(list, id, data, now);
    }

    /// Takes a contact out of its list. `false` when there is none.
    pub fn remove_contact(&self, list: &str, id: &str) -> bool {
        self.world.outbound.locked().delete_by_hand(list, id)
    }

    /// Closes a contact as a wrap-up does, or opens it.
    pub fn set_callable(&self, list: &str, id: &str, callable: bool) {
        self.world.outbound.locked().callable(list, id, Some(callable));
    }

    /// Whether a contact may be called; `None` when there is none.
    pub fn callable(&self, list: &str, id: &str) -> Option<bool> {
        self.world.outbound.locked().callable(list, id, None)
    }

    /// Makes a list, or gives one other columns: names and types (`NUMERIC`, `TEXT`, `TIMESTAMP`, `DATETIME`).
    pub fn set_list(&self, list: &str, columns: &[(&str, &str)]) {
        self.world.outbound.locked().set_list(list, columns);
    }

    pub fn remove_list(&self, list: &str) {
        self.world.outbound.locked().remove_list(list);
    }

    /// Lets an import or a clear run on a list, during which no write is taken, or ends it.
    pub fn set_importing(&self, list: &str, is_importing: bool) {
        self.world.outbound.locked().import(list, is_importing);
    }

    /// Fields of a campaign: over those of the campaign that is there from the start, all of any other.
    pub fn set_campaign(&self, campaign: &str, fields: Value) {
        self.world.outbound.locked().configure("campaign", campaign, fields);
    }

    pub fn set_rule_set(&self, id: &str, value: Value) {
        self.world.outbound.locked().configure("rule set", id, value);
    }

    pub fn set_contact_list_filter(&self, id: &str, value: Value) {
        self.world.outbound.locked().configure("contact list filter", id, value);
    }

    pub fn set_skill(&self, id: &str, value: Value) {
        self.world.outbound.locked().configure("skill", id, value);
    }

    /// Contacts that no write gets past.
    pub fn set_awkward_contacts(&self, awkward: AwkwardContacts) {
        self.world.outbound.locked().set_awkward(awkward);
    }

    /// What writes did that they should not.
    pub fn contact_tally(&self) -> ContactTally {
        self.world.outbound.locked().tally()
    }
}
