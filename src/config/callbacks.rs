//! `[write_back.callbacks]`: who may be told the answers of questions that are answered later, and what that is signed with.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;
use toml::Value;

use super::layers::Reader;
use super::secret_file;
use super::value::{Setting, quoted};
use crate::sinks::{CallbackHosts, CallbackSettings};
use scoreline_domain::privacy::signature::Secret;

/// As many as a change needs, and a few more.
const MOST_SECRETS: usize = 8;

/// Hosts, as a TOML list or, in the environment, with commas between them.
impl Setting for CallbackHosts {
    const ALLOWED: &'static str = "a list of hosts with the port where it is not the scheme's own, such as \
                                   `[\"hooks.example.com\", \"*.corp.example\", \"127.0.0.1:9000\"]`";

    fn read(value: &Value) -> Option<Self> {
        if let Some(list) = value.as_array() {
            let entries: Vec<&str> = list.iter().map(Value::as_str).collect::<Option<_>>()?;
            return Self::parse(entries).ok();
        }
        let text = value.as_str()?;
        Self::parse(text.split(',').map(str::trim).filter(|entry| !entry.is_empty())).ok()
    }

    fn render(&self) -> String {
        let entries: Vec<_> = self.entries().map(|entry| quoted(&entry)).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// `None` without a file of secrets: then nobody is told.
pub(super) fn read(read: &mut Reader) -> Option<CallbackSettings> {
    let file: Option<PathBuf> = read.optional("write_back.callbacks.secret_file");
    let hosts = read.get("write_back.callbacks.hosts");
    let secrets = file.as_deref().map(secrets)?;
    secrets
        .map_err(|problem| read.problem("write_back.callbacks.secret_file", problem))
        .ok()
        .map(|secrets| CallbackSettings { hosts, secrets })
}

/// The secrets in a file, one a line, the newest first.
pub(super) fn secrets(path: &Path) -> Result<Vec<Secret>, String> {
    let text = secret_file::read(path)?;
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Result<Vec<_>, _> = lines.map(Secret::parse).collect();
    match secrets {
        Ok(secrets) if (1..=MOST_SECRETS).contains(&secrets.len()) => Ok(secrets),
        Ok(_) => Err(format!("must hold 1 to {MOST_SECRETS} secrets, one a line: `{}`", path.display())),
        Err(fault) => Err(format!(
            "`{}`: each line {fault}; make one with `echo whsec_$(openssl rand -base64 32)`",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    fn load(given: &[(&str, &str)]) -> Result<crate::config::Settings, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::load(None, given).map_err(|problems| problems.to_string())
    }

    #[test]
    fn callbacks_are_off_without_secrets_and_secrets_are_read_from_a_private_file() {
        assert!(load(&[]).expect("defaults").callbacks.is_none());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("callbacks");
        let file = ("SCORELINE__WRITE_BACK__CALLBACKS__SECRET_FILE", path.to_str().expect("text"));
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (text, mode, problem) in [
            ("", 0o600, Some("must hold 1 to 8 secrets")),
            ("whsec_short\n", 0o600, Some("each line must be `whsec_`")),
            (secret, 0o644, Some("can be read by every user")),
            (secret, 0o600, None),
            (&*format!("{secret}\n\n{secret}\n"), 0o600, None),
        ] {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            match (load(&[file]), problem) {
                (Ok(settings), None) => assert!(settings.callbacks.is_some(), "{text}"),
                (Err(told), Some(problem)) => {
                    assert!(told.contains("`write_back.callbacks.secret_file`") && told.contains(problem), "{told}");
                    assert!(!told.contains("MfKQ9r8G"), "{told}");
                }
                (loaded, _) => panic!("{text} with {mode:o}: {loaded:?}"),
            }
        }
        assert!(load(&[("SCORELINE__WRITE_BACK__CALLBACKS__HOSTS", "hooks.example.com, 127.0.0.1:9000")]).is_ok());
        let told =
            load(&[("SCORELINE__WRITE_BACK__CALLBACKS__HOSTS", "https://hooks.example.com/x")]).expect_err("no host");
        assert!(told.contains("`write_back.callbacks.hosts` must be a list of hosts"), "{told}");
    }
}
