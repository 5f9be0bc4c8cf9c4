//! `scoreline genesys doctor`: what will not work on the organisation, in plain sentences with a fix each.

use std::fmt::Write as _;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::{Failure, print};
use crate::app::examine;
use crate::config::Settings;
use scoreline_genesys::doctor::{Examination, Finding, Verdict};
use scoreline_genesys::settings::Api;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct DoctorArgs {
    /// Look at this campaign too: what it sorts by, its filters, rules and skills
    #[arg(long, value_name = "ID")]
    campaign: Option<String>,
    /// Try what the platform does with a contact: one is made in each list, closed to calls, and taken out again
    #[arg(long)]
    probe: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  scoreline genesys doctor
  scoreline genesys doctor --campaign 6a1f0d2e-0000-4000-8000-000000000071
  scoreline genesys doctor --probe --json

It reads the lists of `genesys.outbound.contact_lists` and changes nothing, but for the contact of --probe. \
It needs some ten requests, which count beside those of a running server.

Exit codes: 0 nothing is wrong, 1 something will not work, 64 wrong usage or settings";

/// From the worst on.
const VERDICTS: [Verdict; 4] = [Verdict::Wrong, Verdict::Warning, Verdict::Unknown, Verdict::Fine];

impl DoctorArgs {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        match &settings.genesys {
            None => {
                let message = "there is no organisation to look at: set `genesys.region` (or `genesys.api_url` and \
                               `genesys.login_url`), `genesys.client_id` and `genesys.client_secret_file`";
                return Err(Failure::Usage(message.to_owned()));
            }
            Some(genesys) if genesys.api == Api::Documented => {
                let message =
                    "`genesys.api` must be `platform`: the documented endpoints say nothing of lists and campaigns";
                return Err(Failure::Usage(message.to_owned()));
            }
            Some(_) => {}
        }
        let findings = examine::examine(settings, &Examination { campaign: self.campaign, probe: self.probe })?;
        print(&if self.json { format!("{:#}\n", as_json(&findings)) } else { as_text(&findings) })?;
        match count(&findings, Verdict::Wrong) {
            0 => Ok(()),
            1 => Err(anyhow!("one thing will not work").into()),
            wrong => Err(anyhow!("{wrong} things will not work").into()),
        }
    }
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut about = "";
    for finding in findings {
        if finding.about != about {
            about = &finding.about;
            let _ = writeln!(text, "{}", plain(about));
        }
        let _ = writeln!(text, "  {:<8} {}", finding.verdict.as_str(), plain(&finding.says));
        if let Some(fix) = &finding.fix {
            let _ = writeln!(text, "           fix: {}", plain(fix));
        }
    }
    let counts = VERDICTS.map(|verdict| format!("{} {}", count(findings, verdict), verdict.as_str()));
    let _ = writeln!(text, "{}", counts.join(", "));
    text
}

/// Names are the platform's: none of them moves the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn as_json(findings: &[Finding]) -> Value {
    let shown = |finding: &Finding| {
        let mut shown = json!({ "about": finding.about, "verdict": finding.verdict.as_str(), "says": finding.says });
        if let Some(fix) = &finding.fix {
            shown["fix"] = json!(fix);
        }
        shown
    };
    let worst = VERDICTS.into_iter().find(|verdict| count(findings, *verdict) > 0).unwrap_or(Verdict::Fine);
    json!({ "verdict": worst.as_str(), "findings": findings.iter().map(shown).collect::<Vec<_>>() })
}
