//! `scoreline auth`: makes and takes back credentials. A secret is printed once, on standard output, and is kept nowhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, print};
use crate::auth::{self, Credentials, NewSecret, RateRecord, Scopes, SecretRecord};
use crate::config::Settings;
use scoreline_domain::time::{Clock as _, SystemClock};

#[derive(Debug, Args)]
pub(super) struct Auth {
    /// The credentials file; `auth.credentials_file` when left out
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: AuthCommand,
}

#[derive(Debug, Subcommand)]
enum AuthCommand {
    /// Make an API key, sent as `authorization: Bearer sk_...`
    #[command(after_help = "Example:\n  scoreline auth new-key --name genesys --scope predict,leads > key.txt")]
    NewKey(New),
    /// Make an OAuth client for POST /oauth/token (client credentials)
    #[command(after_help = "Example:\n  scoreline auth new-client --name genesys --scope predict")]
    NewClient(New),
    /// Show keys, clients, certificates and issuers; never a secret
    List,
    /// Take back a key or a client, by its id. Running servers follow within two seconds
    Revoke { id: String },
}

#[derive(Debug, Args)]
struct New {
    /// For people: shown in lists and logs
    #[arg(long)]
    name: String,
    /// What it may do, separated by commas: predict, leads, events, admin
    #[arg(long, value_delimiter = ',', required = true, num_args = 1)]
    scope: Vec<String>,
    /// Predictions a second, when `[limits]` is not right for it; 0 for no limit
    #[arg(long, value_name = "N")]
    predict_per_second: Option<u32>,
    /// Predictions at once above that
    #[arg(long, value_name = "N")]
    predict_burst: Option<u32>,
    /// Lead priorities and events a second; 0 for no limit
    #[arg(long, value_name = "N")]
    leads_per_second: Option<u32>,
    /// Lead priorities and events at once above that
    #[arg(long, value_name = "N")]
    leads_burst: Option<u32>,
}

impl Auth {
    /// Whether the settings are not needed: so a first key can be made before they are valid.
    pub(super) fn stands_alone(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn run(self, settings: Option<&Settings>) -> Result<(), Failure> {
        let configured = || settings.and_then(|settings| settings.auth.credentials_file.clone());
        let path = self.file.or_else(configured).ok_or_else(|| {
            Failure::Usage("set `auth.credentials_file` or give `--file FILE`: there is nowhere to keep it".to_owned())
        })?;
        match self.command {
            AuthCommand::NewKey(new) => {
                let (made, about) = new.make(&path, auth::add_key)?;
                eprintln!("API key {} {about}; kept as a hash in {}.", made.id, path.display());
                eprintln!("It is shown this once:");
                print(&format!("{}\n", made.secret.as_str()))
            }
            AuthCommand::NewClient(new) => {
                let (made, about) = new.make(&path, auth::add_client)?;
                eprintln!("OAuth client {} {about}; its secret is kept as a hash in {}.", made.id, path.display());
                eprintln!("It is shown this once:");
                print(&format!("client_id={}\nclient_secret={}\n", made.id, made.secret.as_str()))
            }
            AuthCommand::List => print(&list(&Credentials::read(&path)?.0)),
            AuthCommand::Revoke { id } => {
                if !auth::revoke(&path, &id, SystemClock.now())? {
                    return Err(Failure::Usage(format!(
                        "`{id}` is not a key or client in use in `{}`",
                        path.display()
                    )));
                }
                eprintln!("{id} is taken back; running servers follow within two seconds.");
                Ok(())
            }
        }
    }
}

type Add = fn(&Path, &str, Scopes, RateRecord, scoreline_domain::time::Timestamp) -> Result<NewSecret, auth::FileFault>;

impl New {
    fn make(self, path: &Path, add: Add) -> Result<(NewSecret, String), Failure> {
        let name = self.name.trim();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(Failure::Usage("`--name` must be 1 to 64 characters".to_owned()));
        }
        let scopes = Scopes::parse(self.scope.iter().map(|scope| scope.trim()));
        let scopes = scopes.map_err(|err| Failure::Usage(format!("`--scope`: {err}")))?;
        if self.predict_burst == Some(0) || self.leads_burst == Some(0) {
            return Err(Failure::Usage("a burst must be at least 1".to_owned()));
        }
        let rates = RateRecord {
            predict_per_second: self.predict_per_second,
            predict_burst: self.predict_burst,
            leads_per_second: self.leads_per_second,
            leads_burst: self.leads_burst,
        };
        let made = add(path, name, scopes, rates, SystemClock.now())?;
        Ok((made, format!("`{name}` with scope {scopes}")))
    }
}

fn list(credentials: &Credentials) -> String {
    let mut text = String::new();
    let mut row = |kind: &str, id: &str, name: &str, scopes: &[String], state: &str, made: &str| {
        let _ = writeln!(text, "{kind:<11} {id:<12} {name:<24} {:<28} {state:<8} {made}", scopes.join(" "));
    };
    row("KIND", "ID", "NAME", &["SCOPES".to_owned()], "STATE", "MADE");
    let mut secrets = |kind: &str, records: &[SecretRecord]| {
        for record in records {
            let state = if credentials.is_revoked(&record.id) { "revoked" } else { "in use" };
            let made = record.created_at.as_deref().unwrap_or("-");
            row(kind, &record.id, &record.name, &record.scopes, state, made);
        }
    };
    secrets("key", &credentials.keys);
    secrets("client", &credentials.clients);
    for record in &credentials.certificates {
        row("certificate", "-", &record.name, &record.scopes, "in use", "-");
    }
    for record in &credentials.issuers {
        row("issuer", "-", &record.name, &record.scopes, "in use", "-");
    }
    text
}
