//! Reads a bundle's files: plain ones, whole, once, and from inside the models folder only.
//!
//! Links are followed as long as they end inside: Kubernetes mounts a `ConfigMap` as links through `..data`. What a path
//! leads to is opened without following another link, so that a name that is exchanged in between is refused rather than
//! followed. A file with a second name could be changed from outside through that name, so it is refused too.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::error::BundleError;

/// Reads the file at `path`, of at most `limit` bytes, into memory. `root` is an absolute path without links.
pub(super) fn read(root: &Path, path: &Path, limit: u64) -> Result<Vec<u8>, BundleError> {
    let failed = |err| BundleError::File { path: path.to_owned(), err };
    let target = path.canonicalize().map_err(failed)?;
    if !target.starts_with(root) {
        return Err(BundleError::Outside { path: path.to_owned(), target });
    }
    let file = open(&target).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(BundleError::NotAFile { path: path.to_owned() });
    }
    if metadata.nlink() > 1 {
        return Err(BundleError::HardLink { path: path.to_owned(), names: metadata.nlink() });
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(limit) as usize);
    // One byte beyond the limit tells a file that grew since its size was read.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(BundleError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Not through a link, and without waiting for the other end of a pipe.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}
