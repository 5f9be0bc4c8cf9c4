//! The files behind one TLS listener: read into memory as a set, and told apart by what the file system says of them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::TlsError;
use super::material::Loaded;
use super::settings::TlsSettings;
use scoreline_domain::time::Clock;

/// Largest file: revocation lists of public CAs reach some megabytes.
const LARGEST: u64 = 64 << 20;

/// The contents of a set of files, not yet looked at.
pub struct TlsFiles {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) client_ca: Option<Vec<u8>>,
    pub(super) crl: Vec<Vec<u8>>,
}

impl TlsFiles {
    /// Reads and checks everything that `settings` name.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and file.
    pub fn load(settings: &TlsSettings, clock: &Arc<dyn Clock>) -> Result<Loaded, TlsError> {
        Loaded::new(settings, &Self::read(settings)?, clock)
    }

    /// Reads the files. The key is refused when others may read it.
    ///
    /// # Errors
    /// When a file is missing, too large, or exposed.
    pub(super) fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let key = |name| settings.listener.key(name);
        let clients = settings.clients.as_ref();
        let crl = clients.map(|clients| clients.crl.as_slice()).unwrap_or_default();
        Ok(Self {
            certificate: read(&key("certificate"), &settings.certificate, |_| Ok(()))?,
            key: Zeroizing::new(read(&key("key"), &settings.key, |file| guarded(&key("key"), &settings.key, file))?),
            client_ca: clients.map(|clients| read(&key("client_ca"), &clients.ca, |_| Ok(()))).transpose()?,
            crl: crl.iter().map(|path| read(&key("crl"), path, |_| Ok(()))).collect::<Result<_, _>>()?,
        })
    }

    /// Equal for equal contents.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let parts = [self.certificate.as_slice(), self.key.as_slice(), self.client_ca.as_deref().unwrap_or_default()];
        for part in parts.into_iter().chain(self.crl.iter().map(Vec::as_slice)) {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// What the file system says of the files: differs after a copy over, a rename, an edit, a change of mode, and when a
/// link on the way was turned to another folder, as Kubernetes does with `..data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look(Vec<Option<Stat>>);

type Stat = [i64; 8];

impl Look {
    pub(super) fn at(settings: &TlsSettings) -> Self {
        let clients = settings.clients.iter().flat_map(|clients| clients.crl.iter().chain([&clients.ca]));
        Self([&settings.certificate, &settings.key].into_iter().chain(clients).map(|path| stat(path)).collect())
    }
}

fn stat(path: &Path) -> Option<Stat> {
    let file = fs::metadata(path).ok()?;
    Some([
        file.dev().cast_signed(),
        file.ino().cast_signed(),
        file.size().cast_signed(),
        i64::from(file.mode()),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ])
}

fn read(key: &str, path: &Path, check: impl Fn(&fs::Metadata) -> Result<(), TlsError>) -> Result<Vec<u8>, TlsError> {
    let unreadable = |err| TlsError::Unreadable { key: key.to_owned(), path: path.to_owned(), err };
    let not_a_file = || TlsError::NotAFile { key: key.to_owned(), path: path.to_owned(), limit: LARGEST };
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(not_a_file());
    }
    let file = File::open(path).map_err(unreadable)?;
    // Of what was opened, not of what the path may lead to by now.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(not_a_file());
    }
    check(&metadata)?;
    let mut contents = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(LARGEST + 1).read_to_end(&mut contents).map_err(unreadable)?;
    if contents.len() as u64 > LARGEST { Err(not_a_file()) } else { Ok(contents) }
}

/// A key is for this process alone. A group may read it when root owns it and this process is not root: that is how a
/// secret reaches a process without privileges (`fsGroup` in Kubernetes, `root:ssl-cert` on Debian).
fn guarded(key: &str, path: &Path, file: &fs::Metadata) -> Result<(), TlsError> {
    const OTHERS: u32 = 0o077;
    const OTHERS_BUT_GROUP_READS: u32 = 0o037;
    let user = rustix::process::geteuid().as_raw();
    let forbidden = match file.uid() {
        owner if owner == user => OTHERS,
        0 => OTHERS_BUT_GROUP_READS,
        owner => return Err(TlsError::KeyOwner { key: key.to_owned(), path: path.to_owned(), owner }),
    };
    let mode = file.mode() & 0o7777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    Err(TlsError::KeyExposed { key: key.to_owned(), path: path.to_owned(), mode })
}
