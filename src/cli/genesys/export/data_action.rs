//! `scoreline genesys export data-action`: actions that ask for scores, and how the platform gets its token. Sends nothing.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{ExportFormat, Exported, Failure, Target, pretty};
use crate::app;
use crate::cli::models::read_manifest;
use crate::config::Settings;
use scoreline_engine::features::FeatureRule;
use scoreline_engine::inference::manifest::{Manifest, Task};
use scoreline_engine::inference::registry::Patience;
use scoreline_genesys::data_action::{AUTH_FILE, ActionInput, CallerAuth, DataActionPlan};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct DataAction {
    /// Where the platform reaches the server: https://, a host, a port and a path if need be
    #[arg(long, value_name = "URL", value_parser = url)]
    url: String,
    /// How the platform says who it is
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Auth::Oauth)]
    auth: Auth,
    /// Name each input in the template, for platforms that do not pass the inputs on as they are
    #[arg(long)]
    explicit: bool,
    /// Files to import, a file for Terraform, or both
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ExportFormat::Json)]
    format: ExportFormat,
    #[command(flatten)]
    target: Target,
}

const HELP: &str = "\
Examples:
  scoreline genesys export data-action --url https://score.example.com \\
    --out actions
  scoreline genesys export data-action --url https://score.example.com \\
    --auth key --format terraform

What it writes:
  scoreline-clv    what a customer is worth, from the features that are sent
  scoreline-route  where a customer goes: by a recent score if there is one
  scoreline-lead   when a lead is to be called
  scoreline-auth   with --auth oauth: what to enter as the configuration of the
                   integration's own action for tokens; no import takes it

Then:
  1 add an integration \"Web Services Data Actions\" with credentials:
      oauth  User Defined (OAuth): loginUrl, which is URL/oauth/token,
             clientId and clientSecret, of `scoreline auth new-client`
      key    User Defined: apiKey, of `scoreline auth new-key`
      mtls   none: `server.tls` and [[certificate]] records know the platform
  2 import the files under Integrations, Actions, and publish them
  3 call them in the flow, with Call.ExternalContactId as customer_id and never
    with the number of the caller
  4 when use_default_routing is false, go on with skill_id and priority; when it
    is true, on failure and on time-out, go on as without a score

A contract that is published cannot be changed. So inputs are every feature of the catalogue and of all bundles in \
`models.dir`, none of them required: another model needs no other action, and an input that it does not know is \
left out and named in `warnings`. The platform waits 2 s, the server answers within 1.2 s with the best it has. \
What a data action cannot spell is sent with `_`: `nr.employed` as `nr_employed`.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Auth {
    Oauth,
    Key,
    Mtls,
}

/// Only what needs no escaping in a template, and no credentials.
fn url(text: &str) -> Result<String, String> {
    const ALLOWED: &str = "must be https:// with the name of a host, a port and a path if need be, such as \
                           https://score.example.com: letters, digits, `-`, `.`, `_`, `~`, `:` and `/`, at most 200 of them";
    let bare = text.strip_suffix('/').unwrap_or(text);
    let rest = bare.strip_prefix("https://").filter(|_| text.len() <= 200).ok_or(ALLOWED)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let is_label = |label: &str| {
        let is_plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_path = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_good = host.split('.').all(is_label) && is_port && path.bytes().all(is_path) && !bare.ends_with('/');
    is_good.then(|| bare.to_owned()).ok_or_else(|| ALLOWED.to_owned())
}

impl DataAction {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let manifests = manifests(settings)?;
        let plan = DataActionPlan {
            url: self.url,
            auth: match self.auth {
                Auth::Oauth => CallerAuth::OAuth,
                Auth::Key => CallerAuth::Key,
                Auth::Mtls => CallerAuth::Mtls,
            },
            explicit: self.explicit,
            of_customers: inputs(&manifests, Task::Clv),
            of_leads: inputs(&manifests, Task::Lead),
        };
        let whole = (self.format == ExportFormat::Json).then(|| {
            let file = |(name, body): (String, Value)| json!({ "file": name, "body": body });
            plan.files().into_iter().map(file).collect()
        });
        self.target.put(&files(&plan, self.format), whole.as_ref())
    }
}

/// Of every version in the folder, also of those that do not serve now: any of them may tomorrow.
fn manifests(settings: &Settings) -> Result<Vec<Manifest>, Failure> {
    let dir = &settings.models.dir;
    if !dir.is_dir() {
        let problem = "is not a folder; its bundles say what an action must be able to send";
        return Err(Failure::Usage(format!("`models.dir` = `{}` {problem}", dir.display())));
    }
    let registry = app::registry(settings);
    registry.scan(Patience::Now);
    Ok(registry.status().iter().filter_map(|status| read_manifest(settings, status)).collect())
}

/// What models of a task read; each comes once in the end, and as the newest version has it. What is said of it is the same
/// for all versions: a contract with other words is another contract.
fn inputs(manifests: &[Manifest], task: Task) -> Vec<ActionInput> {
    let whose = match task {
        Task::Clv => "customers",
        Task::Lead => "leads",
    };
    let input = |rule: &FeatureRule| {
        let is_text = !rule.categories.is_empty();
        let what = if is_text { "text" } else { "number" };
        ActionInput::feature(&rule.name, is_text, format!("a {what} that models of {whose} read"))
    };
    let of_task = manifests.iter().rev().filter(|manifest| manifest.task == task);
    of_task.flat_map(|manifest| &manifest.features).map(input).collect()
}

fn files(plan: &DataActionPlan, format: ExportFormat) -> Vec<Exported> {
    let file = |(name, body): (String, Value)| {
        let purpose = if name == AUTH_FILE {
            "enter it as the configuration of the credentials' own action"
        } else {
            "import it"
        };
        Exported { name, purpose: Some(purpose.to_owned()), text: pretty(&body) }
    };
    let terraform = || Exported::new("data-actions.tf", plan.terraform());
    let bodies = plan.files().into_iter().map(file);
    match format {
        ExportFormat::Json => bodies.collect(),
        ExportFormat::Terraform => vec![terraform()],
        ExportFormat::All => bodies.chain([terraform()]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_no_escaping_is_a_url() {
        for (text, taken) in [
            ("https://score.example.com", "https://score.example.com"),
            ("https://score.example.com:8443/", "https://score.example.com:8443"),
            ("https://gw.example.com/scoreline/v-1", "https://gw.example.com/scoreline/v-1"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(taken));
        }
        for text in [
            "",
            "score.example.com",
            "http://score.example.com",
            "https://",
            "https://:8443",
            "https://a.example.com:0",
            "https://a.example.com:+1",
            "https://a.example.com:65536",
            "https://user:password@a.example.com",
            "https://a..example.com",
            "https://-a.example.com",
            "https://a.example.com//",
            "https://a.example.com/?x=1",
            "https://a.example.com/#x",
            "https://a.example.com/${input.x}",
            "https://a.example.com/ x",
            "https://é.example.com",
        ] {
            assert!(url(text).is_err_and(|said| said.contains("https://score.example.com")), "{text}");
        }
        assert!(url(&format!("https://a.example.com/{}", "x".repeat(200))).is_err());
    }
}
