//! `scoreline genesys export routing-rules`: the rules of the guides, a file for each tier of the settings. Sends nothing.

use clap::Args;

use super::{Exported, Failure, Target};
use crate::config::Settings;
use crate::routing::{RoutingSettings, TierRoute};
use scoreline_domain::Tier;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct RoutingRules {
    #[command(flatten)]
    target: Target,
}

const HELP: &str = "\
Examples:
  scoreline genesys export routing-rules
  scoreline genesys export routing-rules --out rules

A rule for each tier, with skill and priority of [routing.high_value], [routing.medium_value] and \
[routing.low_value]: it looks at `clv_tier` of the profile entity `customer_profile_enrichment`, which \
`genesys.api = \"documented\"` writes. The rules of the guides have no place for a queue.

Genesys Cloud itself imports no such rules: there, a flow goes on with the answer of a data action, see \
`scoreline genesys export data-action --help`.";

impl RoutingRules {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        self.target.put(&files(&settings.routing), None)
    }
}

/// The most valuable customers first.
fn files(routing: &RoutingSettings) -> Vec<Exported> {
    let RoutingSettings { high, medium, low, .. } = routing;
    [(Tier::High, high), (Tier::Medium, medium), (Tier::Low, low)]
        .map(|(tier, route)| {
            let name = tier.as_str().to_ascii_lowercase().replace('_', "-");
            Exported::new(format!("routing-rule-{name}.xml"), rule(tier, route))
        })
        .into()
}

fn rule(tier: Tier, TierRoute { skill_id, priority, .. }: &TierRoute) -> String {
    let skill = escaped(skill_id);
    format!(
        r#"<routing-rule>
  <condition type="DATA_ENTITY">
    <field name="customer_profile_enrichment.clv_tier"/>
    <operator value="EQ"/>
    <value>{tier}</value>
  </condition>
  <action type="ASSIGN_SKILL">
    <skill_id>{skill}</skill_id>
    <priority>{priority}</priority>
  </action>
  <fallback-action type="QUEUE_DEFAULT"/>
</routing-rule>
"#
    )
}

/// A text between the tags of XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_cannot_leave_its_place() {
        let route = TierRoute { skill_id: "a&b</skill_id><x>".to_owned(), priority: 7, queue: None };
        let rule = rule(Tier::High, &route);
        assert!(
            rule.contains("<skill_id>a&amp;b&lt;/skill_id&gt;&lt;x&gt;</skill_id>\n    <priority>7</priority>"),
            "{rule}"
        );
    }
}
