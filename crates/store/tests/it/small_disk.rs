//! A small disk that a test may fill.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, gone with the test.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Of two MiB.
    pub fn mounted(test: &str) -> Option<Self> {
        Self::of("2m", test)
    }

    /// `None`, with a word of it, where this user may not mount: the test has nothing to say there.
    pub fn of(size: &str, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|mount| mount.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("SKIPPED {test}: a tmpfs cannot be mounted by this user");
        None
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves not a byte.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("made");
        while file.write_all(&[1; 4096]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }

    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("removed");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until then.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}
