//! The credentials file: who may call. Records are only ever added, so that comments stay and history can be read;
//! a credential is taken back by a `[[revoked]]` record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::secret::Hashed;
use scoreline_domain::durable;
use scoreline_domain::text::in_plain_words;

/// The version of the format.
pub(super) const VERSION: u32 = 1;
/// Largest file, in bytes.
const LARGEST: u64 = 4 << 20;
const HEADING: &str = "# Who may call scoreline. Secrets are kept as salted SHA-256. Changes take effect within two seconds.\n\
                       # Written by `scoreline auth`; certificates and issuers are added by hand.\n";

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub version: u32,
    #[serde(default, rename = "key")]
    pub keys: Vec<SecretRecord>,
    #[serde(default, rename = "client")]
    pub clients: Vec<SecretRecord>,
    #[serde(default, rename = "certificate")]
    pub certificates: Vec<CertificateRecord>,
    #[serde(default, rename = "issuer")]
    pub issuers: Vec<IssuerRecord>,
    #[serde(default, rename = "revoked")]
    pub revoked: Vec<RevokedRecord>,
}

/// An API key, or an OAuth client with its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRecord {
    pub id: String,
    /// For people: shown in lists and logs.
    pub name: String,
    pub secret: Hashed,
    pub scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(flatten)]
    pub rates: RateRecord,
}

/// Rates other than those in `[limits]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predict_per_second: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predict_burst: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_per_second: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_burst: Option<u32>,
}

/// A client certificate that the TLS layer has accepted, by its subject or by one of its alternative names; exactly.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRecord {
    pub name: String,
    pub subject: Option<String>,
    pub san: Option<String>,
    pub scopes: Vec<String>,
    #[serde(flatten)]
    pub rates: RateRecord,
}

/// An external issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerRecord {
    pub name: String,
    /// Exactly the `iss` of its tokens.
    pub issuer: String,
    /// The `aud` of tokens that are for this server.
    pub audience: Names,
    pub algorithms: Vec<String>,
    pub jwks_url: Option<String>,
    pub jwks_file: Option<PathBuf>,
    /// What its tokens may claim at most.
    pub scopes: Vec<String>,
    /// The claims of its tokens that say what their bearer may do.
    #[serde(default = "scope_claims")]
    pub scope_claims: Vec<String>,
    /// Which of our scopes a name in these claims stands for; our own names without it.
    #[serde(default)]
    pub scope_names: BTreeMap<String, Names>,
    /// The scopes of a token that has none of these claims.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Of earlier files: as `scope_names` with this in front of our own names.
    #[serde(default)]
    pub scope_prefix: String,
    #[serde(flatten)]
    pub rates: RateRecord,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "must be a text or a list of texts")]
pub enum Names {
    One(String),
    More(Vec<String>),
}

impl Names {
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

/// Where RFC 8693 and RFC 9068 have them, and where older providers put them.
fn scope_claims() -> Vec<String> {
    ["scope", "scp"].map(str::to_owned).to_vec()
}

/// A credential that is not accepted any more.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedRecord {
    pub id: String,
    #[serde(default)]
    pub at: Option<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("`{}` cannot be written", path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("`{}` can be read by others than its owner (mode {mode:03o}): run `chmod 600 {}`", path.display(), path.display())]
    NotPrivate { path: PathBuf, mode: u32 },
    #[error("`{}` must be a regular file of at most {LARGEST} bytes", path.display())]
    NotAFile { path: PathBuf },
    #[error("`{}`: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
}

/// Reads a file that holds secrets, and says which state of the file that was.
///
/// # Errors
/// When it cannot be read, is not a regular file, or others than its owner, or the group that root gave it to, may read it.
pub fn read_private(path: &Path) -> Result<(Zeroizing<Vec<u8>>, FileState), FileFault> {
    let unreadable = |err| FileFault::Unreadable { path: path.to_owned(), err };
    let file = File::open(path).map_err(unreadable)?;
    // Of the open file: its name may mean another one by now.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(FileFault::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o777;
    // A group may read root's file: that is how a secret reaches a process without privileges (`fsGroup` in Kubernetes).
    let is_handed_over = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
    if mode & if is_handed_over { 0o037 } else { 0o077 } != 0 {
        return Err(FileFault::NotPrivate { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize));
    file.take(LARGEST).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes, FileState::of(&metadata)))
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileState {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl FileState {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// The state of the file now; `None` when it cannot be looked at.
    pub fn now(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::of)
    }
}

impl Credentials {
    /// # Errors
    /// As `read_private`, and when it is not what a credentials file is.
    pub fn read(path: &Path) -> Result<(Self, FileState), FileFault> {
        let (bytes, state) = read_private(path)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| FileFault::Invalid { path: path.to_owned(), reason: "must be UTF-8".to_owned() })?;
        let credentials = Self::parse(text).map_err(|reason| FileFault::Invalid { path: path.to_owned(), reason })?;
        Ok((credentials, state))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let credentials: Self = toml::from_str(text).map_err(|err| told(text, &err))?;
        if credentials.version == VERSION {
            Ok(credentials)
        } else {
            Err(format!("`version` must be {VERSION}, got {}", credentials.version))
        }
    }

    pub fn is_revoked(&self, id: &str) -> bool {
        self.revoked.iter().any(|revoked| revoked.id == id)
    }

    /// Whether a key or client has this id, revoked or not.
    pub fn knows(&self, id: &str) -> bool {
        self.keys.iter().chain(&self.clients).any(|record| record.id == id)
    }
}

/// Without the line itself, which toml's own message would repeat: it may hold a hash.
fn told(text: &str, err: &toml::de::Error) -> String {
    let line = err.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = in_plain_words(err.message());
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}

/// Adds a record: `kind` is the name of its list. The file is made when there is none.
///
/// # Errors
/// When it cannot be read or written, or would not be valid any more.
pub(super) fn append<T: Serialize>(path: &Path, kind: &str, record: &T) -> Result<(), FileFault> {
    let unwritable = |err| FileFault::Unwritable { path: path.to_owned(), err };
    let invalid = |reason: String| FileFault::Invalid { path: path.to_owned(), reason };
    // One writer at a time; the lock goes with the handle, however this ends.
    let folder = File::open(durable::folder_of(path)).map_err(unwritable)?;
    folder.lock().map_err(unwritable)?;

    let mut text = match read_private(path) {
        Ok((bytes, _)) => String::from_utf8(bytes.to_vec()).map_err(|_| invalid("must be UTF-8".to_owned()))?,
        Err(FileFault::Unreadable { err, .. }) if err.kind() == io::ErrorKind::NotFound => {
            format!("{HEADING}version = {VERSION}\n")
        }
        Err(fault) => return Err(fault),
    };
    Credentials::parse(&text).map_err(invalid)?;
    let record = toml::to_string(record).map_err(|err| invalid(err.to_string()))?;
    let gap = if text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(text, "{gap}\n[[{kind}]]\n{record}");
    Credentials::parse(&text).map_err(invalid)?;

    durable::write_whole(path, text.as_bytes(), durable::PRIVATE).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record(id: &str) -> SecretRecord {
        SecretRecord {
            id: id.to_owned(),
            name: "one".to_owned(),
            secret: Hashed::of("secret"),
            scopes: vec!["predict".to_owned()],
            created_at: None,
            rates: RateRecord { predict_per_second: Some(5), ..RateRecord::default() },
        }
    }

    #[test]
    fn records_are_added_and_what_was_there_stays() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("credentials.toml");
        append(&path, "key", &record("a")).expect("made");
        let mut text = std::fs::read_to_string(&path).expect("text");
        text += "# a comment\n";
        std::fs::write(&path, &text).expect("written");
        append(&path, "client", &record("b")).expect("added");
        let after = std::fs::read_to_string(&path).expect("text");
        assert!(after.starts_with(&text), "{after}");
        let (credentials, state) = Credentials::read(&path).expect("valid");
        assert!(credentials.knows("a") && credentials.knows("b") && !credentials.knows("c"));
        assert_eq!(credentials.keys[0].rates.predict_per_second, Some(5));
        assert_eq!(FileState::now(&path), Some(state));
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("credentials.toml");
        append(&path, "key", &record("a")).expect("made");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
            let fault = Credentials::read(&path).expect_err("refused");
            assert!(fault.to_string().contains("chmod 600"), "{fault}");
            assert!(append(&path, "key", &record("b")).is_err());
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).expect("set");
        assert!(Credentials::read(&path).is_ok());
        assert!(matches!(read_private(folder.path()), Err(FileFault::NotAFile { .. })));
    }

    #[test]
    fn mistakes_are_named_without_repeating_the_line() {
        let told = |text: &str| Credentials::parse(text).expect_err("refused");
        assert!(told("version = 2\n").contains("`version` must be 1"));
        assert!(told("version = 1\n[[kye]]\nid = \"x\"\n").contains("unknown field `kye`"));
        let text = "version = 1\n[[key]]\nid = \"a\"\nname = \"n\"\nscopes = []\nsecret = \"plaintext-secret\"\n";
        let told = told(text);
        assert!(told.contains("sha256:") && !told.contains("plaintext-secret"), "{told}");
    }
}
