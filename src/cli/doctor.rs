//! `scoreline doctor`: one line for each thing that a start or a day of work needs, and what to do where it is not right.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::colours::{Colours, Tone};
use super::models::faults;
use super::{Failure, print};
use crate::app;
use crate::app::checkup::{self, Checked, Health};
use crate::config::{self, ConfigProblems, Problem, Settings, SettingsSource, ValueOrigin};
use scoreline_domain::text::with_causes;
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::inference::bundle::lone_version;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DoctorArgs {
    /// Ask the platform too: clock, permissions, limits, contact lists
    #[arg(long)]
    genesys: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  scoreline doctor
  scoreline doctor --genesys --json

Run it as the server's user in the server's folder. It changes nothing, also beside a running server; --genesys \
sends the platform some ten requests.

Exit codes: 0 nothing fails, 1 something will not work, 64 wrong usage or settings";

impl DoctorArgs {
    pub(super) fn run(self, source: &SettingsSource) -> Result<(), Failure> {
        let settings = match source.read() {
            Ok(effective) => effective.settings,
            Err(ConfigProblems(problems)) => {
                self.show(&problems.iter().map(of_settings).collect::<Vec<_>>())?;
                return Err(Failure::Usage("the settings cannot be used; nothing else was looked at".to_owned()));
            }
        };
        if self.genesys && settings.genesys.is_none() {
            let message = "there is no organisation to ask: set `genesys.region`, `genesys.client_id` and \
                           `genesys.client_secret_file`";
            return Err(Failure::Usage(message.to_owned()));
        }
        let mut checks = checkup::checkup(&settings, &config::stray_variables());
        checks.extend(models(&settings));
        match (&settings.genesys, self.genesys) {
            (None, _) => {}
            (Some(_), true) => checks.extend(checkup::platform(&settings)),
            (Some(_), false) => checks.push(Checked::ok("genesys", "was not asked: `scoreline doctor --genesys` does")),
        }
        self.show(&checks)?;
        match checks.iter().filter(|check| check.health == Health::Fail).count() {
            0 => Ok(()),
            1 => Err(anyhow!("one thing will not work").into()),
            failed => Err(anyhow!("{failed} things will not work").into()),
        }
    }

    fn show(&self, checks: &[Checked]) -> Result<(), Failure> {
        print(&if self.json { format!("{:#}\n", as_json(checks)) } else { as_text(checks, Colours::of_output()) })
    }
}

fn of_settings(problem: &Problem) -> Checked {
    let fix = match &problem.origin {
        ValueOrigin::NotSet | ValueOrigin::Default => "set it in the settings file, or by its variable".to_owned(),
        ValueOrigin::File(path) => format!("change it in `{path}`"),
        ValueOrigin::Environment(name) => format!("change the environment variable `{name}`"),
    };
    Checked::fail("settings", problem.to_string(), fix)
}

/// Every version in the models folder, as a load would find it.
fn models(settings: &Settings) -> Vec<Checked> {
    let dir = settings.models.dir.display();
    let bundles = match faults(&settings.models.dir, &app::load_settings(settings)) {
        Ok(bundles) => bundles,
        Err(Failure::Usage(says)) => {
            let fix = format!("put a model into `{dir}`, or name the folder in `models.dir`");
            return vec![Checked::fail("models", says, fix)];
        }
        Err(Failure::Runtime(err)) => {
            return vec![Checked::fail("models", with_causes(&*err), format!("let this user read `{dir}`"))];
        }
    };
    let good: Vec<_> =
        bundles.iter().filter(|(_, problems)| problems.is_empty()).map(|(path, _)| path.clone()).collect();
    let mut checks: Vec<_> = bundles
        .into_iter()
        .map(|(path, problems)| {
            let shown = path.display();
            let Some((step, problem)) = problems.into_iter().next() else {
                return Checked::ok("models", format!("`{shown}` would be loaded"));
            };
            let fix = format!("`scoreline models verify {shown}` says all; put a good version there, or take it away");
            Checked::fail("models", format!("`{shown}` would be refused, {step}: {problem}"), fix)
        })
        .collect();
    checks.extend(named(settings, &good));
    checks
}

/// Models and versions that the settings name and that cannot be loaded.
fn named(settings: &Settings, good: &[PathBuf]) -> Vec<Checked> {
    let models = &settings.models;
    let is_there = |model: &ModelName, version: Option<&ModelVersion>| {
        good.iter().any(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let found = if path.is_dir() { ModelVersion::parse(&file).ok() } else { lone_version(&file) };
            path.parent().is_some_and(|parent| parent.ends_with(model.as_str()))
                && version.is_none_or(|version| found.as_ref() == Some(version))
        })
    };
    let mut checks = Vec::new();
    let clv = &models.clv_model;
    if !is_there(clv, None) {
        let says =
            format!("no version of `models.clv_model` = `{clv}` can be loaded: nothing predicts a customer's value");
        checks.push(Checked::fail("models", says, "put one there, or name the model that is"));
    }
    for (model, version) in models.pins.iter().filter(|(model, version)| !is_there(model, Some(version))) {
        let says = format!("`models.pins.{model}` = `{version}` cannot be loaded, and nothing serves in its place");
        checks.push(Checked::fail("models", says, "put that version there, or take the pin out"));
    }
    for (model, candidate) in models.candidates.iter().filter(|(model, it)| !is_there(model, Some(&it.version))) {
        let version = &candidate.version;
        let says = format!("`models.candidates.{model}` names `{version}`, which cannot be loaded: it is not tried");
        checks.push(Checked::warn("models", says, "put that version there, or take the candidate out"));
    }
    checks
}

fn as_text(checks: &[Checked], colours: Colours) -> String {
    let mut text = String::new();
    for Checked { about, health, says, fix } in checks {
        let tone = match health {
            Health::Ok => Tone::Good,
            Health::Warn => Tone::Caution,
            Health::Fail => Tone::Bad,
        };
        let word = colours.paint(tone, &format!("{:<5}", health.as_str()));
        let _ = writeln!(text, "{word} {}", plain(&format!("{about}: {says}")));
        if let Some(fix) = fix {
            let _ = writeln!(text, "      {}", colours.paint(Tone::Aside, &plain(&format!("fix: {fix}"))));
        }
    }
    let count = |wanted: Health| checks.iter().filter(|check| check.health == wanted).count();
    let (ok, warn, fail) = (count(Health::Ok), count(Health::Warn), count(Health::Fail));
    let _ = writeln!(text, "{ok} ok, {warn} warn, {fail} fail");
    text
}

/// What comes from files and the platform moves no cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn as_json(checks: &[Checked]) -> Value {
    let shown = |check: &Checked| {
        let mut shown = json!({ "about": check.about, "health": check.health.as_str(), "says": check.says });
        if let Some(fix) = &check.fix {
            shown["fix"] = json!(fix);
        }
        shown
    };
    let worst = checks.iter().map(|check| check.health).max().unwrap_or(Health::Ok);
    json!({ "health": worst.as_str(), "checks": checks.iter().map(shown).collect::<Vec<_>>() })
}
