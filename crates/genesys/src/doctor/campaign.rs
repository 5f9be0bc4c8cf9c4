//! Whether a campaign calls the best lead first, and its rules ask for the right people.

use serde::Deserialize;

use super::{Doctor, Finding, Verdict};
use crate::transport::ApiOperation;

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CampaignShape {
    #[serde(default)]
    campaign_status: Option<String>,
    #[serde(default)]
    contact_list: Option<Named>,
    #[serde(default)]
    contact_sorts: Vec<Sort>,
    #[serde(default)]
    dynamic_contact_queueing_settings: Option<Dynamic>,
    #[serde(default)]
    rule_sets: Vec<Named>,
    #[serde(default)]
    contact_list_filters: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sort {
    #[serde(default)]
    field_name: String,
    #[serde(default)]
    direction: Option<String>,
    #[serde(default)]
    numeric: bool,
}

#[derive(Default, Deserialize)]
struct Dynamic {
    #[serde(default)]
    sort: bool,
}

#[derive(Deserialize)]
struct RuleSetShape {
    #[serde(default)]
    rules: Vec<RuleShape>,
}

#[derive(Deserialize)]
struct RuleShape {
    #[serde(default)]
    name: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    conditions: Vec<ConditionShape>,
    #[serde(default)]
    actions: Vec<ActionShape>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionShape {
    #[serde(default)]
    attribute_name: Option<String>,
    #[serde(default)]
    operator: Option<String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    value_type: Option<String>,
    #[serde(default)]
    inverted: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionShape {
    #[serde(default)]
    action_type_name: String,
    #[serde(default)]
    properties: std::collections::HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterShape {
    #[serde(default)]
    filter_type: Option<String>,
    #[serde(default)]
    clauses: Vec<ClauseShape>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClauseShape {
    #[serde(default)]
    filter_type: Option<String>,
    #[serde(default)]
    predicates: Vec<PredicateShape>,
}

#[derive(Deserialize)]
struct PredicateShape {
    #[serde(default)]
    column: String,
    #[serde(default)]
    operator: String,
}

impl Doctor {
    pub(super) async fn campaign(&mut self, campaign: &str) {
        let about = format!("campaign {campaign}");
        let path = ["outbound", "campaigns", campaign];
        let shape: CampaignShape = match self.get(ApiOperation::CampaignRead, &path, &[]).await {
            Ok(shape) => shape,
            Err(err) => return self.missed(&about, "the campaign", &err),
        };
        self.state(&about, &shape);
        self.sorts(&about, &shape);
        self.dynamic(&about, &shape);
        for filter in shape.contact_list_filters.iter().filter_map(|filter| filter.id.as_deref()) {
            self.filter(&about, filter).await;
        }
        let mut rules = Vec::new();
        let mut is_complete = true;
        for rule_set in shape.rule_sets.iter().filter_map(|rule_set| rule_set.id.as_deref()) {
            let path = ["outbound", "rulesets", rule_set];
            match self.get::<RuleSetShape>(ApiOperation::RuleSetRead, &path, &[]).await {
                Ok(found) => rules.extend(found.rules),
                Err(err) => {
                    is_complete = false;
                    self.missed(&about, "a rule set", &err);
                }
            }
        }
        if is_complete {
            self.rules(&about, &rules);
        }
        self.skills(&about, &rules).await;
    }

    fn state(&mut self, about: &str, shape: &CampaignShape) {
        let lists = &self.settings.outbound.contact_lists;
        let list = shape.contact_list.as_ref().and_then(|list| list.id.clone());
        if list.as_ref().is_some_and(|list| lists.contains(list)) {
            self.found(Finding::fine(about, "it dials a list that scores are written to"));
        } else {
            let list = list.unwrap_or_else(|| "none".to_owned());
            let says =
                format!("it dials the list {list}, which is not in `genesys.outbound.contact_lists`: it gets no score");
            self.found(
                Finding::new(about, Verdict::Wrong, says).fix("name that list there, or give the campaign one that is"),
            );
        }
        let status = shape.campaign_status.as_deref().unwrap_or("unknown");
        if status != "on" {
            let says = format!("its status is `{status}`, so nobody is called");
            self.found(Finding::new(about, Verdict::Warning, says).fix("switch it on when it is to dial"));
        }
    }

    fn sorts(&mut self, about: &str, shape: &CampaignShape) {
        let columns = self.settings.outbound.clone();
        let score = &columns.score_column;
        let is_down = |sort: &Sort| sort.direction.as_deref() == Some("DESC");
        let verdict = |says: String, fix: &str| Finding::new(about, Verdict::Wrong, says).fix(fix);
        let finding = match shape.contact_sorts.first() {
            None => verdict("it does not sort its contacts".to_owned(), "sort by the score, descending and numeric"),
            Some(first) if first.field_name != *score => verdict(
                format!("it sorts by `{}` first, the score is in `{score}`", first.field_name),
                "let the score come first: the other column decides alone otherwise",
            ),
            Some(first) if !is_down(first) => {
                verdict(format!("it sorts `{score}` ascending: the worst lead is called first"), "sort it descending")
            }
            Some(first) if !first.numeric => verdict(
                format!("it sorts `{score}` as text, where \"9\" comes before \"87\""),
                "set `numeric` of that sort",
            ),
            Some(_) => Finding::fine(about, format!("it sorts by `{score}`, descending, as a number")),
        };
        let is_sorted = finding.verdict == Verdict::Fine;
        self.found(finding);
        let second = shape.contact_sorts.get(1);
        if is_sorted && !second.is_some_and(|second| second.field_name == columns.time_column && is_down(second)) {
            let says = "leads of the same score have no order: a hundred scores hold all leads";
            let fix =
                format!("sort by `{}` descending after the score, so that the newer one is first", columns.time_column);
            self.found(Finding::new(about, Verdict::Warning, says).fix(fix));
        }
    }

    fn dynamic(&mut self, about: &str, shape: &CampaignShape) {
        let dynamic = shape.dynamic_contact_queueing_settings.as_ref();
        if dynamic.is_some_and(|dynamic| dynamic.sort) {
            self.found(Finding::fine(about, "it sorts anew while it runs"));
            return;
        }
        let says = "it does not sort anew while it runs: a new score counts only after the campaign is recycled";
        let fix = "this is switched on when a campaign is made and cannot be later: make a new one with `scoreline genesys \
                   export campaign`";
        self.found(Finding::new(about, Verdict::Wrong, says).fix(fix));
    }

    /// A filter that lets fresh scores through alone empties the campaign when scoring stops for a day.
    async fn filter(&mut self, about: &str, filter: &str) {
        let path = ["outbound", "contactlistfilters", filter];
        let shape: FilterShape = match self.get(ApiOperation::FilterRead, &path, &[]).await {
            Ok(shape) => shape,
            Err(err) => return self.missed(about, "a contact list filter", &err),
        };
        let time = self.settings.outbound.time_column.clone();
        let is_fresh = |predicate: &&PredicateShape| predicate.column == time && predicate.operator == "AFTER";
        let clauses = &shape.clauses;
        let asks_for_fresh = clauses.iter().flat_map(|clause| &clause.predicates).any(|predicate| is_fresh(&predicate));
        if !asks_for_fresh {
            return;
        }
        let is_or = |text: Option<&str>| text == Some("OR");
        let has_way_out =
            clauses.iter().any(|clause| is_or(clause.filter_type.as_deref()) && clause.predicates.len() > 1)
                || is_or(shape.filter_type.as_deref()) && clauses.len() > 1;
        let says = if has_way_out {
            "its filter calls fresh scores only: when scoring stops for a day, hardly anybody is called"
        } else {
            "its filter calls fresh scores only: contacts never scored are never called, and when scoring stops for a day nobody is"
        };
        let fix = "leave the filter out: stale scores are 0 and sort last; or let contacts without a time through too";
        self.found(Finding::new(about, Verdict::Warning, says).fix(fix));
    }

    fn rules(&mut self, about: &str, rules: &[RuleShape]) {
        let score = self.settings.outbound.score_column.clone();
        let is_of_score = |rule: &&RuleShape| {
            rule.conditions.iter().any(|condition| condition.attribute_name.as_deref() == Some(score.as_str()))
        };
        let ours: Vec<&RuleShape> = rules.iter().filter(is_of_score).collect();
        if ours.is_empty() {
            let says = format!("no rule looks at `{score}`: every lead goes to the same people");
            let fix = "add rules for senior agents if they are wanted: `scoreline genesys export campaign`";
            self.found(Finding::new(about, Verdict::Warning, says).fix(fix));
            return;
        }
        let mut is_fine = true;
        for rule in &ours {
            let of_score = rule.conditions.iter().filter(|one| one.attribute_name.as_deref() == Some(score.as_str()));
            if of_score.clone().any(|one| one.value_type.as_deref() != Some("NUMERIC")) {
                is_fine = false;
                let says =
                    format!("the rule \"{}\" compares the score as text, where \"9\" is above \"80\"", rule.name);
                self.found(Finding::new(about, Verdict::Wrong, says).fix("set its value type to NUMERIC"));
            }
            if rule.category != "DIALER_PRECALL" {
                is_fine = false;
                let says =
                    format!("the rule \"{}\" is looked at after the call: it cannot choose who talks", rule.name);
                self.found(
                    Finding::new(about, Verdict::Wrong, says).fix("make it a rule before the call (DIALER_PRECALL)"),
                );
            }
        }
        let shared = (0..=100_u8).find_map(|value| {
            let mut holding = ours.iter().filter(|rule| rule.holds(&score, value));
            Some((value, holding.next()?, holding.next()?))
        });
        if let Some((value, one, other)) = shared {
            is_fine = false;
            let says = format!(
                "a score of {value} fits two rules, \"{}\" and \"{}\": which skill is asked for is not said",
                one.name, other.name
            );
            self.found(
                Finding::new(about, Verdict::Warning, says)
                    .fix("let them exclude each other: above 70 and below 80, and from 80"),
            );
        }
        if is_fine {
            self.found(Finding::fine(
                about,
                format!("{} rules look at the score, none fits together with another", ours.len()),
            ));
        }
    }

    async fn skills(&mut self, about: &str, rules: &[RuleShape]) {
        let actions = rules.iter().flat_map(|rule| rule.actions.iter().map(move |action| (rule, action)));
        for (rule, action) in actions.filter(|(_, action)| action.action_type_name == "SET_SKILLS") {
            let ids = action.properties.get("skills").and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
            let Some(ids) = ids else {
                let says = format!("the rule \"{}\" names its skills in a form that is no list", rule.name);
                self.found(Finding::new(about, Verdict::Wrong, says).fix("write `[\"skill id\"]` as a text"));
                continue;
            };
            for id in ids {
                let path = ["routing", "skills", &id];
                match self.get::<SkillShape>(ApiOperation::SkillRead, &path, &[]).await {
                    Ok(skill) if skill.state.as_deref().is_none_or(|state| state == "active") => {
                        self.found(Finding::fine(about, format!("the skill of \"{}\" is there", rule.name)));
                    }
                    Ok(skill) => {
                        let state = skill.state.unwrap_or_default();
                        let says = format!("the skill {id} of the rule \"{}\" is {state}", rule.name);
                        self.found(Finding::new(about, Verdict::Wrong, says).fix("name another skill"));
                    }
                    Err(err) => {
                        let what = format!("the skill {id} of the rule \"{}\"", rule.name);
                        self.missed(about, &what, &err);
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct SkillShape {
    #[serde(default)]
    state: Option<String>,
}

impl RuleShape {
    /// Whether all that a rule asks of a score holds; what it asks besides may hold too.
    fn holds(&self, score: &str, value: u8) -> bool {
        let of_score = self.conditions.iter().filter(|one| one.attribute_name.as_deref() == Some(score));
        of_score.clone().next().is_some() && of_score.into_iter().all(|condition| condition.holds(value))
    }
}

impl ConditionShape {
    fn holds(&self, score: u8) -> bool {
        let Some(value) = self.value.as_deref().and_then(|value| value.trim().parse::<f64>().ok()) else {
            return false;
        };
        let score = f64::from(score);
        let holds = match self.operator.as_deref() {
            Some("EQUALS") => score == value,
            Some("LESS_THAN") => score < value,
            Some("LESS_THAN_EQUALS") => score <= value,
            Some("GREATER_THAN") => score > value,
            Some("GREATER_THAN_EQUALS") => score >= value,
            Some(_) | None => return false,
        };
        holds != self.inverted
    }
}
