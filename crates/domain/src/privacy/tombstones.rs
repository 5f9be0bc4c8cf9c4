//! Customers who were erased, as keyed hashes: nothing about them is kept again.
//!
//! A file of one line each, only ever appended to. An erasure is answered when its line is synced; what was being written
//! at a kill is passed over at the next start. Nothing is created before the first erasure.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use crate::CustomerKey;
use crate::time::Timestamp;

/// First word of every line: the version of the format.
const VERSION: &str = "t1";
/// Hexadecimal digits of a line's checksum.
const CHECK_DIGITS: usize = 8;

/// The set of erased customers. Cheap to clone; looking into it takes no lock.
#[derive(Clone, Default)]
pub struct Tombstones {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Whether there is any: all that a prediction looks at as long as nobody was erased.
    any: AtomicBool,
    erased: ArcSwap<HashSet<CustomerKey>>,
    /// Carried over to another pepper and not written yet. Locked for a moment.
    waiting: Mutex<Vec<CustomerKey>>,
    /// Locked while the disk is waited for.
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    path: Option<PathBuf>,
    file: Option<File>,
}

#[derive(Debug, thiserror::Error)]
#[error("tombstones of erased customers cannot be {what}: `{}`", path.display())]
pub struct TombstoneError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Tombstones {
    /// Reads the tombstones kept in a file; one that is not there yet has none.
    ///
    /// # Errors
    /// When there is a file that cannot be read: going on without it would bring erased customers back.
    pub fn open(path: &Path) -> Result<Self, TombstoneError> {
        let (mut erased, mut damaged) = (HashSet::new(), 0_u64);
        match fs::read(path) {
            Ok(bytes) => {
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    match parse(line) {
                        Some(key) => drop(erased.insert(key)),
                        None => damaged += 1,
                    }
                }
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(TombstoneError { what: "read", path: path.to_owned(), source }),
        }
        if damaged > 0 {
            let path = path.display();
            tracing::error!(%path, lines = damaged, "tombstones with damaged lines; a cut last line was never confirmed");
        }
        let book = Book { path: Some(path.to_owned()), ..Book::default() };
        let any = AtomicBool::new(!erased.is_empty());
        let erased = ArcSwap::from_pointee(erased);
        Ok(Self { inner: Arc::new(Inner { any, erased, waiting: Mutex::default(), book: Mutex::new(book) }) })
    }

    /// Whether this customer was erased.
    pub fn contains(&self, customer: &CustomerKey) -> bool {
        // Sequentially consistent: whoever stores something and then looks here, and whoever lays a tombstone and then
        // looks for what is stored, cannot both miss the other.
        self.inner.any.load(Ordering::SeqCst) && self.inner.erased.load().contains(customer)
    }

    pub fn is_empty(&self) -> bool {
        !self.inner.any.load(Ordering::SeqCst)
    }

    pub fn len(&self) -> usize {
        self.inner.erased.load().len()
    }

    /// Whether tombstones outlast the process.
    pub fn lasts(&self) -> bool {
        self.book().path.is_some()
    }

    /// Everybody who was erased.
    pub fn all(&self) -> Arc<HashSet<CustomerKey>> {
        self.inner.erased.load_full()
    }

    /// Lays tombstones. They hold from before this returns, and on disk when it has returned. Blocks for a sync.
    ///
    /// # Errors
    /// When they are not known to be on disk; they hold in this process all the same.
    pub fn lay(&self, customers: &[CustomerKey], at: Timestamp) -> Result<(), TombstoneError> {
        let mut book = self.book();
        let mut new: Vec<_> = customers.iter().filter(|key| !self.contains(key)).copied().collect();
        self.hold(&new);
        new.append(&mut self.waiting());
        let written = book.write(&new, at);
        if written.is_err() {
            self.waiting().append(&mut new);
        }
        written
    }

    /// Lets a tombstone of an earlier pepper hold under the customer's current key. Never waits for the disk: it is
    /// written by the next `flush` or `lay`.
    pub fn carry_over(&self, customer: CustomerKey) {
        self.hold(&[customer]);
        self.waiting().push(customer);
    }

    /// Writes what was carried over, if anything was. Blocks for a sync.
    ///
    /// # Errors
    /// As `lay`; it is tried again by the next call.
    pub fn flush(&self, at: Timestamp) -> Result<(), TombstoneError> {
        self.lay(&[], at)
    }

    /// Whether `flush` has something to do.
    pub fn has_waiting(&self) -> bool {
        !self.is_empty() && !self.waiting().is_empty()
    }

    fn hold(&self, customers: &[CustomerKey]) {
        if customers.is_empty() {
            return;
        }
        self.inner.erased.rcu(|erased| {
            let mut erased = HashSet::clone(erased);
            erased.extend(customers);
            erased
        });
        self.inner.any.store(true, Ordering::SeqCst);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<CustomerKey>> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn write(&mut self, customers: &[CustomerKey], at: Timestamp) -> Result<(), TombstoneError> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        if customers.is_empty() {
            return Ok(());
        }
        let lines: String = customers.iter().map(|customer| line(customer, at)).collect();
        // Dropped on an error: the next attempt opens the file anew and ends what was left half written.
        let file = self.file.take();
        let written = file.map_or_else(|| open(&path), Ok).and_then(|mut file| {
            file.write_all(lines.as_bytes())?;
            file.sync_data()?;
            Ok(file)
        });
        let file = written.map_err(|source| TombstoneError { what: "written", path, source })?;
        self.file = Some(file);
        Ok(())
    }
}

/// Opens or creates the file for appending, readable by its owner only. A line that was cut is ended.
fn open(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.sync_all()?;
    // A new name in a folder is kept once the folder is synced.
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn line(customer: &CustomerKey, at: Timestamp) -> String {
    let mut text = format!("{VERSION} {} {at:.0} ", hex(customer.as_bytes()));
    let check = check(&text);
    let _ = writeln!(text, "{check}");
    text
}

fn parse(line: &[u8]) -> Option<CustomerKey> {
    let line = std::str::from_utf8(line).ok()?;
    let (text, sum) = line.split_at_checked(line.len().checked_sub(CHECK_DIGITS)?)?;
    if check(text) != sum {
        return None;
    }
    let key = text.strip_prefix(VERSION)?.trim_start().split(' ').next()?;
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(key.get(at..at + 2)?, 16).ok()?;
    }
    (key.len() == 64).then(|| CustomerKey::from_digest(digest))
}

fn check(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..CHECK_DIGITS / 2])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn key(byte: u8) -> CustomerKey {
        CustomerKey::from_digest([byte; 32])
    }

    fn at() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().expect("a time")
    }

    #[test]
    fn tombstones_hold_after_a_restart_and_are_laid_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("below/tombstones");
        let tombstones = Tombstones::open(&path).expect("none yet");
        assert!(tombstones.is_empty() && !path.exists());
        for _ in 0..2 {
            tombstones.lay(&[key(1), key(2)], at()).expect("laid");
        }
        assert_eq!(fs::read_to_string(&path).expect("there").lines().count(), 2);
        let again = Tombstones::open(&path).expect("opens");
        assert!(again.contains(&key(1)) && again.contains(&key(2)) && !again.contains(&key(3)));
        assert_eq!(again.len(), 2);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o077, 0, "its owner's only");
    }

    #[test]
    fn every_cut_line_is_passed_over_and_the_file_goes_on() {
        let whole = [line(&key(1), at()), line(&key(2), at())];
        for cut in 0..whole[1].len() {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("tombstones");
            fs::write(&path, [whole[0].as_str(), &whole[1][..cut]].concat()).expect("written");
            let tombstones = Tombstones::open(&path).expect("opens");
            // Only the line end may be missing.
            assert_eq!(tombstones.contains(&key(2)), cut + 1 == whole[1].len(), "cut at {cut}");
            tombstones.lay(&[key(3)], at()).expect("laid");
            let again = Tombstones::open(&path).expect("opens");
            assert!(again.contains(&key(1)) && again.contains(&key(3)), "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_line_is_no_tombstone() {
        let line = line(&key(0xab), at());
        assert_eq!(parse(line.trim_end().as_bytes()), Some(key(0xab)));
        for at in 0..line.len() - 1 {
            let mut bytes = line.trim_end().as_bytes().to_vec();
            bytes[at] ^= 1;
            assert_eq!(parse(&bytes), None, "byte {at}");
        }
    }

    #[test]
    fn what_is_carried_over_holds_at_once_and_is_written_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tombstones");
        let tombstones = Tombstones::open(&path).expect("none yet");
        tombstones.lay(&[key(1)], at()).expect("laid");
        tombstones.carry_over(key(2));
        assert!(tombstones.contains(&key(2)) && tombstones.has_waiting());
        assert!(!Tombstones::open(&path).expect("opens").contains(&key(2)));
        tombstones.flush(at()).expect("written");
        assert!(!tombstones.has_waiting());
        assert!(Tombstones::open(&path).expect("opens").contains(&key(2)));
    }

    #[test]
    fn a_file_that_can_not_be_written_is_said_and_the_tombstone_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a-file");
        fs::write(&file, "").expect("written");
        let tombstones = Tombstones::open(&folder.path().join("none")).expect("none yet");
        tombstones.book().path = Some(file.join("tombstones"));
        let refused = tombstones.lay(&[key(1)], at()).expect_err("below a file").to_string();
        assert!(refused.contains("cannot be written"), "{refused}");
        assert!(tombstones.contains(&key(1)) && tombstones.has_waiting(), "tried again later");
        assert!(Tombstones::open(folder.path()).is_err(), "a folder");
    }
}
