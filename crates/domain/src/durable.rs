//! A file that is whole or not there, whenever the process or the machine stops.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Permissions of a file that anybody may read, before the process's mask.
pub const SHARED: u32 = 0o666;
/// Permissions of a file for its owner alone.
pub const PRIVATE: u32 = 0o600;

/// Writes a file in place of whatever has its name, with `mode` as its permissions. It is synced when this returns; before
/// that, what was there before is there whole. Its folder must exist.
///
/// # Errors
/// When it is not known to be on disk.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let partial = path.with_file_name(name);
    // One that a kill left may have other permissions.
    match fs::remove_file(&partial) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => {}
    }
    let draft = Draft::at(partial, path, mode)?;
    (&draft.file).write_all(bytes)?;
    draft.complete()
}

/// A file that is written piece by piece beside the place it will take. Dropped before it is complete, it is removed.
#[derive(Debug)]
pub struct Draft {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    is_complete: bool,
}

impl Draft {
    /// Begins a file for `path`, whose folder must exist, under a hidden name that no other process uses.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        Self::at(path.with_file_name(format!(".{name}.{}.partial", std::process::id())), path, mode)
    }

    fn at(partial: PathBuf, path: &Path, mode: u32) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        Ok(Self { file, partial, path: path.to_owned(), is_complete: false })
    }

    /// A handle to write through.
    ///
    /// # Errors
    /// When the process has no handle left.
    pub fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives the file its name, once it is on disk.
    ///
    /// # Errors
    /// When it is not known to be there.
    pub fn complete(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.is_complete = true;
        sync_name(&self.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_complete {
            // Nothing more can be done about a file that cannot be removed.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Gives a file another name, in the same folder.
///
/// # Errors
/// When the new name is not known to be on disk.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_name(to)
}

/// The folder that a file stands in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs the folder of a file: only then does a new name outlast a power cut.
///
/// # Errors
/// When the folder cannot be synced.
pub fn sync_name(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_with_its_permissions() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs::write(folder.path().join("secret.new"), "half a dra").expect("what a kill left");
        for text in ["one", "another"] {
            write_whole(&path, text.as_bytes(), PRIVATE).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, PRIVATE);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft is left");
        assert!(write_whole(&folder.path().join("none/secret"), b"", PRIVATE).is_err());
        assert!(write_whole(Path::new("/"), b"", PRIVATE).is_err(), "a path without a name");
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scores");
        let draft = Draft::create(&path, SHARED).expect("created");
        draft.writer().expect("a handle").write_all(b"half").expect("written");
        assert!(!path.exists());
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);

        let draft = Draft::create(&path, SHARED).expect("created");
        draft.writer().expect("a handle").write_all(b"whole").expect("written");
        draft.complete().expect("complete");
        assert_eq!(fs::read_to_string(&path).expect("there"), "whole");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
