//! `[privacy]`: peppers and their files, and what is refused.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use toml::Value;

use super::layers::Reader;
use super::secret_file;
use super::value::{Setting, quoted};
use scoreline_domain::privacy::{Identifiers, NumericIds, PrivacySettings, Screen};
use scoreline_domain::time::Timestamp;

const PEPPER_MIN_CHARACTERS: usize = 16;

/// Paths, as a TOML list or, in the environment, with commas between them.
struct Paths(Vec<PathBuf>);

impl Setting for Paths {
    const ALLOWED: &'static str = "a list of paths, such as `[\"/run/secrets/old-pepper\"]`";

    fn read(value: &Value) -> Option<Self> {
        if let Some(list) = value.as_array() {
            return list.iter().map(PathBuf::read).collect::<Option<_>>().map(Self);
        }
        let text = value.as_str()?.trim();
        // As it is written in TOML.
        let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let paths = text.split(',').map(|path| path.trim().trim_matches('"')).filter(|path| !path.is_empty());
        Some(Self(paths.map(PathBuf::from).collect()))
    }

    fn render(&self) -> String {
        let paths: Vec<_> = self.0.iter().map(|path| quoted(&path.display().to_string())).collect();
        format!("[{}]", paths.join(", "))
    }
}

impl Setting for Timestamp {
    const ALLOWED: &'static str = "an RFC 3339 time in quotes, such as \"2026-12-31T00:00:00Z\"";

    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.trim().parse().ok()
    }

    fn render(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Identifiers {
    const ALLOWED: &'static str = "`any` or `hashed`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "any" => Some(Self::Any),
            "hashed" => Some(Self::Hashed),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for NumericIds {
    const ALLOWED: &'static str = "`taken` or `screened`";

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "taken" => Some(Self::Taken),
            "screened" => Some(Self::Screened),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quoted(self.as_str())
    }
}

pub(super) fn read(read: &mut Reader) -> PrivacySettings {
    let pepper = pepper(read);
    let previous_files: Paths = read.get("privacy.previous_pepper_files");
    let previous_until: Option<Timestamp> = read.optional("privacy.previous_until");
    let previous: Vec<SecretString> = previous_files
        .0
        .iter()
        .filter_map(|path| match pepper_in(path) {
            Ok(secret) => Some(secret),
            Err(problem) => {
                read.problem("privacy.previous_pepper_files", problem);
                None
            }
        })
        .collect();
    if !previous_files.0.is_empty() && previous_until.is_none() {
        let problem = "needs `privacy.previous_until` beside it: the time from which they are no longer tried";
        read.problem("privacy.previous_pepper_files", problem);
    }
    let screen = Screen {
        identifiers: read.get("privacy.identifiers"),
        numeric_ids: read.get("privacy.numeric_ids"),
        refuse_pii: read.get("privacy.refuse_pii"),
    };
    PrivacySettings { pepper, layers: Vec::new(), previous, previous_until, screen }
}

fn pepper(read: &mut Reader) -> Option<SecretString> {
    let pepper: Option<SecretString> =
        read.optional_if("privacy.pepper", "a secret of 16 characters or more", is_long_enough);
    if pepper.is_some() {
        read.keep_private("privacy.pepper", "it in a file of its own as `privacy.pepper_file`");
    }
    let file: Option<PathBuf> = read.optional("privacy.pepper_file");
    let Some(path) = file else { return pepper };
    if pepper.is_some() {
        read.problem("privacy.pepper_file", "cannot be used together with `privacy.pepper`: keep one of them");
        return pepper;
    }
    match pepper_in(&path) {
        Ok(secret) => Some(secret),
        Err(problem) => {
            read.problem("privacy.pepper_file", problem);
            None
        }
    }
}

/// The pepper in a file.
///
/// # Errors
/// What is wrong with the file. The content is not repeated.
pub fn pepper_in(path: &std::path::Path) -> Result<SecretString, String> {
    let secret = secret_file::read(path)?;
    if is_long_enough(&secret) {
        Ok(secret)
    } else {
        Err(format!("must hold 16 characters or more, `{}` holds fewer", path.display()))
    }
}

fn is_long_enough(secret: &SecretString) -> bool {
    secret.expose_secret().chars().count() >= PEPPER_MIN_CHARACTERS
}
