//! `scoreline init`: the files that a server of one's own begins with. Nothing that is there is written over.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use secrecy::ExposeSecret as _;

use super::{Failure, print};
use crate::auth::{self, RateRecord, Scopes};
use scoreline_domain::durable::{PRIVATE, SHARED, write_whole};
use scoreline_domain::privacy::draw_pepper;
use scoreline_domain::time::{Clock as _, SystemClock};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  scoreline init\n  scoreline init /srv/scoreline\n\n\
    It writes scoreline.toml, a pepper, credentials.toml with one API key, a copy of the shipped models and a .gitignore. \
    What is there already stays as it is, so that it can be run again.")]
pub(super) struct InitArgs {
    /// The folder, which is made when it is not there
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
}

const SETTINGS: &str = "scoreline.toml";
const PEPPER: &str = "pepper";
const CREDENTIALS: &str = "credentials.toml";
const MODELS: &str = "models";
const IGNORED: &str = ".gitignore";
/// The pepper that a start draws where the settings name none.
const DRAWN_PEPPER: &str = "state/pepper";
/// Where packages put the shipped models.
const PACKAGED_MODELS: &str = "/usr/share/scoreline/models";

impl InitArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let dir = &self.dir;
        if dir.exists() && !dir.is_dir() {
            return Err(Failure::Usage(format!("`{}` is not a folder", dir.display())));
        }
        fs::create_dir_all(dir).with_context(|| format!("folder `{}` cannot be made", dir.display()))?;
        let mut text = String::new();
        // A store that is there belongs to the pepper beside it.
        let pepper = if dir.join(DRAWN_PEPPER).exists() { DRAWN_PEPPER } else { PEPPER };
        let is_new = make(dir, PEPPER, pepper == DRAWN_PEPPER, |path| {
            write_whole(path, format!("{}\n", draw_pepper().expose_secret()).as_bytes(), PRIVATE)
        })?;
        let about = "keep a copy apart from back-ups: without it nobody in the store is found again";
        say(&mut text, pepper, is_new, about);
        let settings = settings(pepper);
        let is_new = make(dir, SETTINGS, false, |path| write_whole(path, settings.as_bytes(), SHARED))?;
        say(&mut text, SETTINGS, is_new, "what differs from the defaults, each with its reason");
        let key = credentials(&dir.join(CREDENTIALS))?;
        say(&mut text, CREDENTIALS, key.is_some(), "one API key, `first`, which may ask for predictions");
        models(dir, &mut text)?;
        let ignored = format!("state/\n{PEPPER}\n{CREDENTIALS}\n");
        let is_new = make(dir, IGNORED, false, |path| write_whole(path, ignored.as_bytes(), SHARED))?;
        say(&mut text, IGNORED, is_new, "secrets and the store stay out of version control");
        next(dir, key.as_deref(), &mut text);
        print(&text)
    }
}

fn say(text: &mut String, name: &str, is_new: bool, about: &str) {
    let _ = if is_new {
        writeln!(text, "made   {name:<17} {about}")
    } else {
        writeln!(text, "there  {name:<17} left as it is")
    };
}

/// Makes a file that is not there; whether it was made.
fn make(
    dir: &Path,
    name: &str,
    is_needless: bool,
    write: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<bool, Failure> {
    let path = dir.join(name);
    // A link that leads nowhere is there, too.
    if is_needless || fs::symlink_metadata(&path).is_ok() {
        return Ok(false);
    }
    write(&path).with_context(|| format!("`{}` cannot be written", path.display()))?;
    Ok(true)
}

fn settings(pepper: &str) -> String {
    format!(
        r#"# What differs from the defaults. Everything that can be set, and what it does: `scoreline config show --sources`.
# Paths are below the folder that the server is started in.

[server]
# Where predictions are answered. For other machines: an address of this one, and [server.tls].
listen = "127.0.0.1:8080"
# Health, metrics and promotion of models, for this machine alone.
admin_listen = "127.0.0.1:8081"

[models]
# A version is a folder in here; a new one is dropped in while the server runs.
dir = "{MODELS}"

[privacy]
# Turns the ids of customers into keyed hashes, so it must last as long as the store.
pepper_file = "{pepper}"

[auth]
# Who may call: `scoreline auth new-key` and `scoreline auth revoke` change it while the server runs.
credentials_file = "{CREDENTIALS}"

[store]
# What must outlast the process: history, scores, outcomes, erased customers.
path = "state/scoreline.db"
"#
    )
}

/// Makes the first key where there are no credentials; the key.
fn credentials(path: &Path) -> Result<Option<String>, Failure> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(None);
    }
    let scopes = Scopes::parse(["predict"]).context("a scope that there is")?;
    let made = auth::add_key(path, "first", scopes, RateRecord::default(), SystemClock.now())?;
    Ok(Some(made.secret.as_str().to_owned()))
}

/// Copies the shipped models to where there are none.
fn models(dir: &Path, text: &mut String) -> Result<(), Failure> {
    let target = dir.join(MODELS);
    if fs::symlink_metadata(&target).is_ok() {
        say(text, MODELS, false, "");
        return Ok(());
    }
    let partial = dir.join(".models.new");
    let copied = match shipped_models() {
        Some(shipped) => copy(&shipped, &partial).map(|()| format!("a copy of {}", shipped.display())),
        None => fs::create_dir_all(&partial)
            .map(|()| "empty: no shipped models were found, so put <model>/<version>/bundle.toml here".to_owned()),
    };
    // A copy that was broken off is begun again.
    let about = copied.and_then(|about| fs::rename(&partial, &target).map(|()| about));
    let about = about.with_context(|| format!("models cannot be copied to `{}`", target.display()))?;
    say(text, MODELS, true, &about);
    Ok(())
}

/// The models of a clone, of a package, or beside the program.
fn shipped_models() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|program| Some(program.parent()?.parent()?.join("share/scoreline/models")));
    let places = [Some(PathBuf::from(MODELS)), beside, Some(PathBuf::from(PACKAGED_MODELS))];
    places.into_iter().flatten().find(|place| place.is_dir())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // What a server, an editor or version control keeps there is no model.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            // Without the permissions: those of a package are root's.
            write_whole(&target, &fs::read(&path)?, SHARED)?;
        }
    }
    Ok(())
}

fn next(dir: &Path, key: Option<&str>, text: &mut String) {
    if let Some(key) = key {
        let _ = writeln!(text, "\nThe API key, shown this once:\n  {key}");
    }
    let enter = if dir == Path::new(".") { String::new() } else { format!("cd {} && ", dir.display()) };
    let _ = writeln!(
        text,
        "\nNext:\n  {enter}scoreline doctor\n  {enter}scoreline serve\n  curl -s 127.0.0.1:8080/v1/predict/clv -H \
         \"authorization: Bearer {}\" \\\n    -d '{{\"features\":{{\"recency_days\":12,\"frequency_count\":48}}}}'",
        key.unwrap_or("$KEY")
    );
}
