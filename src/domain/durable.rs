//! A file that is whole or not there, whenever the process or the machine stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a file in place of whatever has its name, with `mode` as its permissions. It is synced when this returns; before
/// that, what was there before is there whole. Its folder must exist.
///
/// # Errors
/// When it is not known to be on disk. A draft beside it may be left, which the next attempt takes over.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    // A draft that a kill left may have other permissions.
    match fs::remove_file(&draft) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(Path::new(&draft), path)
}

/// Gives a file another name, in the same folder, and syncs that.
///
/// # Errors
/// When the new name is not known to be on disk.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    // A new name in a folder is kept once the folder is synced.
    File::open(folder_of(to))?.sync_all()
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
            write_whole(&path, text.as_bytes(), 0o600).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft is left");
        assert!(write_whole(&folder.path().join("none/secret"), b"", 0o600).is_err());
    }
}
