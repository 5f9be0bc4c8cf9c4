//! `scoreline genesys export campaign`: a contact list, rules and a campaign for scores of leads, as bodies of the platform's API
//! and as Terraform. Sends nothing.

use clap::Args;
use serde_json::{Value, json};

use super::{ExportFormat, Exported, Failure, Target, pretty};
use crate::config::Settings;
use scoreline_genesys::outbound::campaign::CampaignPlan;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct Campaign {
    /// Bodies for the platform's API, a file for Terraform, or both
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ExportFormat::Json)]
    format: ExportFormat,
    #[command(flatten)]
    target: Target,
    /// Name of the list; campaign, rules and filter are called after it
    #[arg(long, value_name = "N", default_value = "Leads by priority", value_parser = name)]
    list_name: String,
    /// Skills that the rules ask for: `senior=ID,high_value=ID`; places are left for those that are not given
    #[arg(long, value_name = "SKILLS", default_value = "", hide_default_value = true, value_parser = skills)]
    skills: Skills,
    /// Do not call leads whose score is older than a day; those never scored are called
    #[arg(long)]
    skip_stale: bool,
}

const HELP: &str = "\
Examples:
  scoreline genesys export campaign
  scoreline genesys export campaign --format terraform --out leads
  scoreline genesys export campaign --skills senior=6a1f,high_value=7b20

What it writes:
  list      columns of [genesys.outbound]; NUMERIC and TIMESTAMP, or nothing
            sorts anew while a campaign runs
  campaign  sorts by the score, descending and as a number, where text would
            put \"9\" before \"87\"; then the newer score; anew while it runs
  rules     above 70 and below 80 the senior skill, from 80 on high value:
            no score fits both

Types and sorting are given when list and campaign are made, and cannot be changed later. API bodies are \
sent in their order; what stands in braces, such as {queueId}, is yours to fill in. Contacts are imported \
with the lead's id as theirs.

A stale score becomes 0 and is called last, so no filter is needed. With --skip-stale nobody with a score \
is called when scoring stops for a day. `scoreline genesys doctor` looks at what you made.";

#[derive(Clone, Debug, Default)]
struct Skills {
    senior: Option<String>,
    high_value: Option<String>,
}

fn name(text: &str) -> Result<String, String> {
    let is_good = !text.trim().is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
    is_good
        .then(|| text.to_owned())
        .ok_or_else(|| "must be 1 to 200 characters, none of them a control character".to_owned())
}

fn skills(text: &str) -> Result<Skills, String> {
    const ALLOWED: &str =
        "must be `senior=ID`, `high_value=ID` or both, separated by a comma; an ID is letters, digits and `-`";
    let mut skills = Skills::default();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (name, id) = part.split_once('=').ok_or(ALLOWED)?;
        let place = match name.trim() {
            "senior" => &mut skills.senior,
            "high_value" => &mut skills.high_value,
            _ => return Err(ALLOWED.to_owned()),
        };
        let id = id.trim();
        let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_id || place.replace(id.to_owned()).is_some() {
            return Err(ALLOWED.to_owned());
        }
    }
    Ok(skills)
}

impl Campaign {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let plan = CampaignPlan {
            name: self.list_name,
            phone_column: "Cell".to_owned(),
            columns: settings.outbound.clone(),
            senior_skill: self.skills.senior,
            high_value_skill: self.skills.high_value,
            skip_stale: self.skip_stale,
        };
        let whole = (self.format == ExportFormat::Json).then(|| requests(&plan));
        self.target.put(&files(&plan, self.format), whole.as_ref())
    }
}

/// The requests as one document, in the order in which they are sent.
fn requests(plan: &CampaignPlan) -> Value {
    let request = |(_, path, body): (&str, &str, Value)| json!({ "request": format!("POST {path}"), "body": body });
    plan.bodies().into_iter().map(request).collect()
}

fn files(plan: &CampaignPlan, format: ExportFormat) -> Vec<Exported> {
    let body = |(name, path, body): (&str, &str, Value)| Exported {
        name: format!("{name}.json"),
        purpose: Some(format!("POST {path}")),
        text: pretty(&body),
    };
    let terraform = || Exported::new("campaign.tf", plan.terraform());
    let bodies = plan.bodies().into_iter().map(body);
    match format {
        ExportFormat::Json => bodies.collect(),
        ExportFormat::Terraform => vec![terraform()],
        ExportFormat::All => bodies.chain([terraform()]).collect(),
    }
}
