//! What makes a dialer call the best lead first: a contact list with typed columns, a campaign that sorts while it runs, and
//! rules that ask for skills. As bodies for the API and as Terraform; pure, nothing is sent.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::settings::OutboundSettings;
use crate::terraform::{PROVIDER, quoted};

/// Scores above this one ask for senior agents.
pub const SENIOR_ABOVE: u8 = 70;
/// And from this one on for the skill of high-value sales instead: no lead fits both rules.
pub const HIGH_VALUE_FROM: u8 = 80;

/// Calls that may be given up because no agent is free, in percent: the platform asks for it of predictive campaigns.
const ABANDON_RATE: f64 = 3.0;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct CampaignPlan {
    pub name: String,
    /// The column with the number to call.
    pub phone_column: String,
    pub columns: OutboundSettings,
    /// Ids of the skills; without them a place is left for each.
    pub senior_skill: Option<String>,
    pub high_value_skill: Option<String>,
    /// Whether contacts with a stale score are not called at all. Contacts that were never scored are.
    pub skip_stale: bool,
}

/// A place that is left to be filled in.
const LIST_ID: &str = "{contactListId}";
const QUEUE_ID: &str = "{queueId}";
const SITE_ID: &str = "{siteId}";
const SCRIPT_ID: &str = "{scriptId}";
const RESPONSE_SET_ID: &str = "{callAnalysisResponseSetId}";
const RULE_SET_ID: &str = "{ruleSetId}";
const FILTER_ID: &str = "{contactListFilterId}";
const SENIOR_ID: &str = "{seniorSkillId}";
const HIGH_VALUE_ID: &str = "{highValueSkillId}";
const CALLER: &str = "{callerAddress}";

/// One of the two rules: its name, its conditions on the score, its skill.
struct SkillRule<'a> {
    name: &'static str,
    conditions: Vec<(&'static str, u8)>,
    skill: &'a str,
    variable: &'static str,
}

impl CampaignPlan {
    fn column_names(&self) -> Vec<&str> {
        let OutboundSettings { lead_column, score_column, time_column, band_column, reason_column, .. } = &self.columns;
        let ours = [lead_column, &self.phone_column, score_column, time_column];
        ours.into_iter().chain(band_column).chain(reason_column).map(String::as_str).collect()
    }

    fn rules(&self) -> [SkillRule<'_>; 2] {
        let high = self.high_value_skill.as_deref().unwrap_or(HIGH_VALUE_ID);
        let senior = self.senior_skill.as_deref().unwrap_or(SENIOR_ID);
        [
            SkillRule {
                name: "High Value Sales",
                conditions: vec![("GREATER_THAN_EQUALS", HIGH_VALUE_FROM)],
                skill: high,
                variable: "high_value_skill_id",
            },
            SkillRule {
                name: "Senior Agents",
                conditions: vec![("GREATER_THAN", SENIOR_ABOVE), ("LESS_THAN", HIGH_VALUE_FROM)],
                skill: senior,
                variable: "senior_skill_id",
            },
        ]
    }

    /// `POST /api/v2/outbound/contactlists`.
    pub fn contact_list(&self) -> Value {
        let typed = |column: &str, kind: &str| json!({ "columnName": column, "columnDataType": kind });
        json!({
            "name": self.name,
            "columnNames": self.column_names(),
            "phoneColumns": [{ "columnName": self.phone_column, "type": "cell" }],
            "columnDataTypeSpecifications": [
                typed(&self.columns.score_column, "NUMERIC"),
                typed(&self.columns.time_column, "TIMESTAMP"),
            ],
        })
    }

    /// `POST /api/v2/outbound/rulesets`.
    pub fn rule_set(&self) -> Value {
        let rules: Vec<Value> = self.rules().iter().enumerate().map(|(order, rule)| {
            let condition = |(operator, value): &(&str, u8)| json!({
                "type": "contactAttributeCondition",
                "attributeName": self.columns.score_column,
                "operator": operator,
                "value": value.to_string(),
                "valueType": "NUMERIC",
            });
            let skills = json!([rule.skill]).to_string();
            json!({
                "name": rule.name,
                "order": order,
                "category": "DIALER_PRECALL",
                "conditions": rule.conditions.iter().map(condition).collect::<Vec<_>>(),
                "actions": [{ "type": "Action", "actionTypeName": "SET_SKILLS", "properties": { "skills": skills } }],
            })
        }).collect();
        json!({ "name": format!("{} rules", self.name), "contactList": { "id": LIST_ID }, "rules": rules })
    }

    /// `POST /api/v2/outbound/contactlistfilters`: fresh scores, and contacts without one. `None` unless stale ones are skipped.
    pub fn contact_list_filter(&self) -> Option<Value> {
        self.skip_stale.then(|| {
            let predicate = |operator: &str, value: &str| json!({
                "column": self.columns.time_column,
                "columnType": "alphabetic",
                "operator": operator,
                "value": value,
            });
            json!({
                "name": format!("{} fresh or never scored", self.name),
                "contactList": { "id": LIST_ID },
                "filterType": "OR",
                "clauses": [{ "filterType": "OR", "predicates": [predicate("AFTER", "P-01DT00H00M"), predicate("EQUALS", "")] }],
            })
        })
    }

    /// `POST /api/v2/outbound/campaigns`.
    pub fn campaign(&self) -> Value {
        let sort =
            |column: &str, numeric: bool| json!({ "fieldName": column, "direction": "DESC", "numeric": numeric });
        let mut campaign = json!({
            "name": self.name,
            "contactList": { "id": LIST_ID },
            "queue": { "id": QUEUE_ID },
            "site": { "id": SITE_ID },
            "script": { "id": SCRIPT_ID },
            "callAnalysisResponseSet": { "id": RESPONSE_SET_ID },
            "dialingMode": "predictive",
            "abandonRate": ABANDON_RATE,
            "campaignStatus": "off",
            "callerName": self.name,
            "callerAddress": CALLER,
            "phoneColumns": [{ "columnName": self.phone_column }],
            "ruleSets": [{ "id": RULE_SET_ID }],
            // Of equal scores the newer one first: there are more leads than scores.
            "contactSorts": [sort(&self.columns.score_column, true), sort(&self.columns.time_column, false)],
            "dynamicContactQueueingSettings": { "sort": true, "filter": self.skip_stale },
        });
        if self.skip_stale {
            campaign["contactListFilters"] = json!([{ "id": FILTER_ID }]);
        }
        campaign
    }

    /// Every body by the name of its file, in the order in which they are sent: later ones name ids that earlier ones got.
    pub fn bodies(&self) -> Vec<(&'static str, &'static str, Value)> {
        let filter = self.contact_list_filter();
        let filter = filter.map(|body| ("contact-list-filter", "/api/v2/outbound/contactlistfilters", body));
        let list = ("contact-list", "/api/v2/outbound/contactlists", self.contact_list());
        let rules = ("rule-set", "/api/v2/outbound/rulesets", self.rule_set());
        let campaign = ("campaign", "/api/v2/outbound/campaigns", self.campaign());
        [Some(list), Some(rules), filter, Some(campaign)].into_iter().flatten().collect()
    }

    /// The same for the platform's Terraform provider.
    pub fn terraform(&self) -> String {
        let mut text = format!("{HEAD}{PROVIDER}");
        self.variables(&mut text);
        self.list_resource(&mut text);
        self.rules_resource(&mut text);
        self.filter_resource(&mut text);
        self.campaign_resource(&mut text);
        text
    }

    fn variables(&self, text: &mut String) {
        let places = [SENIOR_ID, HIGH_VALUE_ID];
        for rule in self.rules().iter().rev() {
            let (gap, default) = if places.contains(&rule.skill) {
                ("", String::new())
            } else {
                ("   ", format!("\n  default = {}", quoted(rule.skill)))
            };
            let _ = writeln!(text, "variable \"{}\" {{\n  type{gap} = string{default}\n}}\n", rule.variable);
        }
        for name in ["queue_id", "caller_address", "site_id", "script_id", "call_analysis_response_set_id"] {
            let _ = writeln!(text, "variable \"{name}\" {{\n  type = string\n}}\n");
        }
    }

    fn list_resource(&self, text: &mut String) {
        let names: Vec<String> = self.column_names().into_iter().map(quoted).collect();
        let (score, time) = (quoted(&self.columns.score_column), quoted(&self.columns.time_column));
        let _ = writeln!(
            text,
            "# Columns and their types are given once: a change makes another list.\n\
             resource \"genesyscloud_outbound_contact_list\" \"leads\" {{\n  name         = {}\n  column_names = [{}]\n\n  phone_columns {{\n    column_name = {}\n    type        = \"cell\"\n  }}\n  \
             column_data_type_specifications {{\n    column_name      = {score}\n    column_data_type = \"NUMERIC\"\n  }}\n  \
             column_data_type_specifications {{\n    column_name      = {time}\n    column_data_type = \"TIMESTAMP\"\n  }}\n}}\n",
            quoted(&self.name),
            names.join(", "),
            quoted(&self.phone_column),
        );
    }

    fn rules_resource(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "resource \"genesyscloud_outbound_ruleset\" \"skills\" {{\n  name            = {}\n  \
             contact_list_id = genesyscloud_outbound_contact_list.leads.id",
            quoted(&format!("{} rules", self.name))
        );
        for (order, rule) in self.rules().iter().enumerate() {
            let _ = write!(
                text,
                "\n  rules {{\n    name     = {}\n    order    = {order}\n    category = \"DIALER_PRECALL\"\n",
                quoted(rule.name)
            );
            for (operator, value) in &rule.conditions {
                let _ = write!(
                    text,
                    "    conditions {{\n      type           = \"contactAttributeCondition\"\n      attribute_name = {}\n      \
                     operator       = \"{operator}\"\n      value          = \"{value}\"\n      value_type     = \"NUMERIC\"\n    }}\n",
                    quoted(&self.columns.score_column)
                );
            }
            let _ = write!(
                text,
                "    actions {{\n      type             = \"Action\"\n      action_type_name = \"SET_SKILLS\"\n      \
                 properties       = {{ skills = jsonencode([var.{}]) }}\n    }}\n  }}\n",
                rule.variable
            );
        }
        text.push_str("}\n\n");
    }

    fn filter_resource(&self, text: &mut String) {
        if !self.skip_stale {
            return;
        }
        let _ = write!(
            text,
            "resource \"genesyscloud_outbound_contactlistfilter\" \"fresh\" {{\n  name            = {}\n  \
             contact_list_id = genesyscloud_outbound_contact_list.leads.id\n  filter_type     = \"OR\"\n  clauses {{\n    \
             filter_type = \"OR\"\n",
            quoted(&format!("{} fresh or never scored", self.name))
        );
        for (operator, value) in [("AFTER", "P-01DT00H00M"), ("EQUALS", "")] {
            let _ = write!(
                text,
                "    predicates {{\n      column      = {}\n      column_type = \"alphabetic\"\n      \
                 operator    = \"{operator}\"\n      value       = \"{value}\"\n    }}\n",
                quoted(&self.columns.time_column)
            );
        }
        text.push_str("  }\n}\n\n");
    }

    fn campaign_resource(&self, text: &mut String) {
        let name = quoted(&self.name);
        let filter = if self.skip_stale {
            "  contact_list_filter_ids       = [genesyscloud_outbound_contactlistfilter.fresh.id]\n"
        } else {
            ""
        };
        let _ = write!(
            text,
            "# Sorting while the campaign runs is switched on once: a change makes another campaign.\n\
             resource \"genesyscloud_outbound_campaign\" \"leads\" {{\n  name                          = {name}\n  \
             dialing_mode                  = \"predictive\"\n  abandon_rate                  = {ABANDON_RATE:.1}\n  \
             campaign_status               = \"off\"\n  caller_name                   = {name}\n  \
             caller_address                = var.caller_address\n  \
             contact_list_id               = genesyscloud_outbound_contact_list.leads.id\n  \
             queue_id                      = var.queue_id\n  site_id                       = var.site_id\n  \
             script_id                     = var.script_id\n  \
             call_analysis_response_set_id = var.call_analysis_response_set_id\n  \
             rule_set_ids                  = [genesyscloud_outbound_ruleset.skills.id]\n{filter}\n  \
             phone_columns {{\n    column_name = {}\n  }}\n",
            quoted(&self.phone_column)
        );
        for (column, numeric) in [(&self.columns.score_column, true), (&self.columns.time_column, false)] {
            let _ = write!(
                text,
                "  contact_sorts {{\n    field_name = {}\n    direction  = \"DESC\"\n    numeric    = {numeric}\n  }}\n",
                quoted(column)
            );
        }
        let _ = write!(
            text,
            "  dynamic_contact_queueing_settings {{\n    sort   = true\n    filter = {}\n  }}\n}}\n",
            self.skip_stale
        );
    }
}

const HEAD: &str = "\
# Leads by priority: a contact list for scores, rules that ask for skills, and a campaign that sorts while it runs.
# A contact's id must be the lead's id: scoreline writes scores by it. In a file of contacts that is the column
# `inin-outbound-id`; with `contacts_filepath` it is the column that `contacts_id_name` names.

";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> CampaignPlan {
        CampaignPlan {
            name: "Leads by priority".to_owned(),
            phone_column: "Cell".to_owned(),
            columns: OutboundSettings::default(),
            senior_skill: None,
            high_value_skill: Some("6a1f0d2e-0000-4000-8000-000000000052".to_owned()),
            skip_stale: false,
        }
    }

    /// How many of the rules hold for a score.
    fn holding(plan: &CampaignPlan, score: u8) -> Vec<String> {
        let rules = plan.rule_set();
        let holds = |condition: &Value| {
            let value: u8 = condition["value"].as_str().and_then(|value| value.parse().ok()).expect("a number");
            match condition["operator"].as_str() {
                Some("GREATER_THAN") => score > value,
                Some("GREATER_THAN_EQUALS") => score >= value,
                Some("LESS_THAN") => score < value,
                other => panic!("{other:?}"),
            }
        };
        let rules = rules["rules"].as_array().expect("rules").iter();
        let held = rules.filter(|rule| rule["conditions"].as_array().expect("conditions").iter().all(holds));
        held.map(|rule| rule["name"].as_str().expect("a name").to_owned()).collect()
    }

    #[test]
    fn no_score_fits_two_rules() {
        let plan = plan();
        for score in 0..=100 {
            let wanted: &[&str] = match score {
                0..=70 => &[],
                71..=79 => &["Senior Agents"],
                _ => &["High Value Sales"],
            };
            assert_eq!(holding(&plan, score), wanted, "{score}");
        }
    }

    #[test]
    fn scores_sort_as_numbers_while_the_campaign_runs() {
        let campaign = plan().campaign();
        assert_eq!(
            campaign["contactSorts"][0],
            json!({ "fieldName": "ml_score", "direction": "DESC", "numeric": true })
        );
        assert_eq!(campaign["contactSorts"][1]["fieldName"], "ml_last_calculated_at");
        assert_eq!(campaign["dynamicContactQueueingSettings"], json!({ "sort": true, "filter": false }));
        assert!(plan().contact_list_filter().is_none(), "only whoever asks for it starves in an outage");
        let skipping = CampaignPlan { skip_stale: true, ..plan() };
        assert_eq!(skipping.campaign()["dynamicContactQueueingSettings"]["filter"], true);
        assert_eq!(skipping.bodies().len(), 4);
        let text = skipping.terraform();
        assert_eq!(text.matches("predicates {").count(), 2, "never scored contacts are called too");
    }

    #[test]
    fn names_cannot_leave_their_place_in_terraform() {
        let plan = CampaignPlan { name: "a\"\n${file(\"/etc/passwd\")} %{ if true }".to_owned(), ..plan() };
        let text = plan.terraform();
        assert!(text.contains(r#"name         = "a\"\n$${file(\"/etc/passwd\")} %%{ if true }""#), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
