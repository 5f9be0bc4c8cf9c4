//! An append-only file of checksummed lines: what is synced survives a kill, what was being written is cut off.
//!
//! One line an entry: eight hex digits of the SHA-256 of the text, a space, the text (JSON, without line ends). Only one
//! process at a time may hold it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use scoreline_engine::inference::bundle::sha256_hex;

const FILE: &str = "outcomes.journal";
const REWRITTEN: &str = "outcomes.journal.new";
const LOCK: &str = "lock";
/// Digits of the checksum, and the length of a line beside its text.
const DIGITS: usize = 8;

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// Held for as long as the journal is open.
    _lock: File,
}

/// What was found when a journal was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whole lines.
    pub lines: u64,
    /// Bytes of an unfinished last line that were cut off.
    pub cut_bytes: u64,
    /// Lines whose text does not match its checksum, passed over.
    pub damaged_lines: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("folder `{}` cannot be used", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("folder `{}` is in use by another process", folder.display())]
    InUse { folder: PathBuf },
    #[error("`{}` cannot be {what}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
}

impl Journal {
    /// Opens or creates the journal in `folder` and hands every whole line's text to `replay`, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be created, written or locked.
    pub fn open(folder: &Path, mut replay: impl FnMut(&str)) -> Result<(Self, Recovered), JournalError> {
        let unusable = |source| JournalError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(unusable)?;
        let lock = File::create(folder.join(LOCK)).map_err(unusable)?;
        lock.try_lock().map_err(|err| match err {
            fs::TryLockError::WouldBlock => JournalError::InUse { folder: folder.to_owned() },
            fs::TryLockError::Error(source) => unusable(source),
        })?;
        // Left by a rewrite that was interrupted before it took the journal's place.
        match fs::remove_file(folder.join(REWRITTEN)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(unusable(err)),
            Ok(()) | Err(_) => {}
        }
        let path = folder.join(FILE);
        let failed = |what| move |source| JournalError::File { what, path: folder.join(FILE), source };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed("opened"))?;
        let total = file.metadata().map_err(failed("read"))?.len();
        let mut reader = BufReader::new(&mut file);
        let mut recovered = Recovered::default();
        let (mut length, mut line) = (0, Vec::new());
        while reader.read_until(b'\n', &mut line).map_err(failed("read"))? > 0 {
            let end = length + line.len() as u64;
            match line.strip_suffix(b"\n").and_then(checked) {
                Some(text) => {
                    recovered.lines += 1;
                    replay(text);
                }
                // The end of a write that a crash cut short; nobody was told that it is kept.
                None if end >= total => {
                    recovered.cut_bytes = line.len() as u64;
                    break;
                }
                None => recovered.damaged_lines += 1,
            }
            length = end;
            line.clear();
        }
        let journal = Self { folder: folder.to_owned(), file, length, _lock: lock };
        if recovered.cut_bytes > 0 {
            journal.file.set_len(journal.length).map_err(failed("cut to its whole lines"))?;
        }
        journal.file.sync_all().map_err(failed("synced"))?;
        journal.sync_folder()?;
        Ok((journal, recovered))
    }

    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// Appends lines made by `line`. They are kept once `sync` has returned. After an error none of them is in the
    /// file, as far as the file could still be cut.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        match self.file.write_all(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(source) => {
                // A line that stays behind half written is passed over or cut when the journal is next opened.
                let _ = self.file.set_len(self.length);
                Err(self.failed("written", source))
            }
        }
    }

    /// Returns when everything appended is on disk.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| self.failed("synced", source))
    }

    /// Replaces the whole content at once: a crash leaves the old journal or the new one.
    pub fn rewrite(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        let path = self.folder.join(REWRITTEN);
        let write = || -> io::Result<File> {
            let mut file = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
            file.write_all(lines)?;
            file.sync_all()?;
            fs::rename(&path, self.folder.join(FILE))?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        match write() {
            Ok(file) => {
                self.file = file;
                self.length = lines.len() as u64;
                self.sync_folder()
            }
            Err(source) => {
                let _ = fs::remove_file(&path);
                Err(self.failed("rewritten", source))
            }
        }
    }

    /// A new name in a folder is kept once the folder is synced.
    fn sync_folder(&self) -> Result<(), JournalError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| JournalError::Folder { folder: self.folder.clone(), source })
    }

    fn failed(&self, what: &'static str, source: io::Error) -> JournalError {
        JournalError::File { what, path: self.folder.join(FILE), source }
    }
}

/// Adds a text as one line. It must not hold a line end: JSON does not.
pub fn line(lines: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains('\n'));
    lines.extend_from_slice(&sha256_hex(text.as_bytes()).as_bytes()[..DIGITS]);
    lines.push(b' ');
    lines.extend_from_slice(text.as_bytes());
    lines.push(b'\n');
}

/// The text of a line whose checksum fits.
fn checked(line: &[u8]) -> Option<&str> {
    let (sum, rest) = line.split_at_checked(DIGITS)?;
    let text = std::str::from_utf8(rest.strip_prefix(b" ")?).ok()?;
    (sha256_hex(text.as_bytes()).as_bytes()[..DIGITS] == *sum).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Journal, Vec<String>, Recovered) {
        let mut seen = Vec::new();
        let (journal, recovered) = Journal::open(folder, |text| seen.push(text.to_owned())).expect("opens");
        (journal, seen, recovered)
    }

    fn lines(texts: &[&str]) -> Vec<u8> {
        let mut all = Vec::new();
        for text in texts {
            line(&mut all, text);
        }
        all
    }

    #[test]
    fn what_was_appended_is_replayed_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut journal, seen, _) = open(folder.path());
        assert!(seen.is_empty());
        journal.append(&lines(&["one", "two"])).expect("appends");
        journal.append(&lines(&["three"])).expect("appends");
        journal.sync().expect("syncs");
        drop(journal);
        let (journal, seen, recovered) = open(folder.path());
        assert_eq!(seen, ["one", "two", "three"]);
        assert_eq!((recovered.lines, recovered.cut_bytes, recovered.damaged_lines), (3, 0, 0));
        assert_eq!(journal.bytes(), lines(&["one", "two", "three"]).len() as u64);
    }

    #[test]
    fn every_torn_tail_is_cut_and_the_journal_goes_on() {
        let (kept, torn) = (lines(&["one", "two"]), lines(&["three"]));
        for cut in 0..torn.len() {
            let folder = tempfile::tempdir().expect("a folder");
            fs::write(folder.path().join(FILE), [&kept[..], &torn[..cut]].concat()).expect("writes");
            let (mut journal, seen, recovered) = open(folder.path());
            assert_eq!((seen.len(), recovered.cut_bytes), (2, cut as u64));
            journal.append(&lines(&["four"])).expect("appends");
            drop(journal);
            assert_eq!(open(folder.path()).1, ["one", "two", "four"], "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_line_costs_itself_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = lines(&["one", "two", "three"]);
        let at = bytes.windows(3).position(|three| three == b"two").expect("there");
        bytes[at] = b'T';
        fs::write(folder.path().join(FILE), bytes).expect("writes");
        let (_journal, seen, recovered) = open(folder.path());
        assert_eq!((seen, recovered.damaged_lines), (vec!["one".to_owned(), "three".to_owned()], 1));
    }

    #[test]
    fn a_rewrite_replaces_everything_and_can_be_appended_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut journal, ..) = open(folder.path());
        journal.append(&lines(&["one", "two"])).expect("appends");
        journal.rewrite(&lines(&["two"])).expect("rewrites");
        journal.append(&lines(&["three"])).expect("appends");
        drop(journal);
        fs::write(folder.path().join(REWRITTEN), "half a rewri").expect("writes");
        assert_eq!(open(folder.path()).1, ["two", "three"]);
        assert!(!folder.path().join(REWRITTEN).exists());
    }

    #[test]
    fn a_second_holder_and_a_bad_folder_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_journal, ..) = open(folder.path());
        let refused = Journal::open(folder.path(), |_| {}).expect_err("held").to_string();
        assert!(refused.ends_with("is in use by another process"), "{refused}");
        let file = folder.path().join("a-file");
        fs::write(&file, "").expect("writes");
        let refused = Journal::open(&file, |_| {}).expect_err("a file").to_string();
        assert!(refused.contains("a-file` cannot be used"), "{refused}");
    }
}
