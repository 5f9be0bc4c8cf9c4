//! What earlier versions kept in files of their own beside the store: the journal of outcomes, tombstones, promoted
//! versions. They are taken in once, in one transaction, and then renamed and left.
//!
//! A kill in between changes nothing: what is in the store already is not taken in again. Lines that are damaged are
//! passed over, as they always were.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Store;
use super::erase::erase;
use super::error::StoreError;
use super::outcomes::{KeptPrediction, ToldOutcome, WaitingPrediction, keep, tell};
use super::promotions;
use scoreline_domain::durable::rename;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};

const JOURNAL: &str = "monitoring/outcomes.journal";
/// Held by an earlier version for as long as it appends to the journal.
const JOURNAL_LOCK: &str = "monitoring/lock";
const TOMBSTONES: &str = "tombstones";
const PROMOTED: &str = "models.toml";
/// What a file's name ends in once it was taken in.
const DONE: &str = ".imported";
/// Hexadecimal digits of a line's checksum, in both formats.
const CHECK_DIGITS: usize = 8;
/// Rows that one statement takes.
const ROWS: usize = 5000;
/// Numbers of damaged lines that are told.
const LINES_TOLD: usize = 20;
const SECONDS_PER_DAY: i64 = 86_400;
/// Peppers that one customer may have been carried over between.
const MOST_MOVES: usize = 16;

/// What was found in the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    pub files: usize,
    pub predictions: usize,
    pub outcomes: usize,
    pub tombstones: usize,
    pub promotions: usize,
    /// Passed over, in all files.
    pub damaged_lines: usize,
}

/// The content of all files.
#[derive(Default)]
struct Files {
    read: Vec<PathBuf>,
    predictions: Vec<WaitingPrediction>,
    outcomes: Vec<ToldOutcome>,
    moved: HashMap<CustomerKey, CustomerKey>,
    erased: Vec<CustomerKey>,
    promoted: BTreeMap<ModelName, ModelVersion>,
    damaged: usize,
}

/// Whether files of earlier versions are in a folder.
pub fn has_old_files(folder: &Path) -> bool {
    [JOURNAL, TOMBSTONES, PROMOTED].iter().any(|name| folder.join(name).is_file())
}

/// Whether files of earlier versions in a folder tell of customers, who are known by keys under a pepper.
pub fn has_old_customers(folder: &Path) -> bool {
    let is_filled = |name| fs::metadata(folder.join(name)).is_ok_and(|file| file.is_file() && file.len() > 0);
    [JOURNAL, TOMBSTONES].into_iter().any(is_filled)
}

impl Store {
    /// Takes in the files of earlier versions in a folder; `None` when there are none. Without a store that lasts they are
    /// read and left as they are.
    ///
    /// # Errors
    /// When a file is there and cannot be read, or nothing was taken in.
    pub async fn take_over(&self, folder: &Path) -> Result<Option<TakenOver>, StoreError> {
        let mut files = Files::read(folder)?;
        if files.read.is_empty() {
            return Ok(None);
        }
        files.move_customers();
        let found = TakenOver {
            files: files.read.len(),
            predictions: files.predictions.len(),
            outcomes: files.outcomes.len(),
            tombstones: files.erased.len(),
            promotions: files.promoted.len(),
            damaged_lines: files.damaged,
        };
        let mut tx = self.write("given what was kept in files").await?;
        if !files.erased.is_empty() {
            erase(&mut tx, &files.erased).await?;
        }
        for predictions in files.predictions.chunks(ROWS) {
            keep(&mut tx, predictions).await?;
        }
        for outcomes in files.outcomes.chunks(ROWS) {
            tell(&mut tx, outcomes).await?;
        }
        for (model, version) in &files.promoted {
            promotions::keep(&mut tx, model, version, false).await?;
        }
        if !files.promoted.is_empty() {
            tx.take("promotion", 1).await?;
        }
        tx.commit().await?;
        if self.inner.db.lasts() {
            for path in &files.read {
                set_aside(path).map_err(|err| refused(path, &err))?;
            }
        }
        Ok(Some(found))
    }
}

impl Files {
    fn read(folder: &Path) -> Result<Self, StoreError> {
        let mut files = Self::default();
        let journal = folder.join(JOURNAL);
        if let Some(bytes) = content(&journal)? {
            if let Ok(lock) = File::open(folder.join(JOURNAL_LOCK))
                && let Err(TryLockError::WouldBlock) = lock.try_lock()
            {
                return Err(refused(&journal, &"another process appends to it: end that one first"));
            }
            // The end of a write that a crash cut short is no line; nobody was told that it is kept.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let damaged = lines(&bytes[..whole]).filter(|(_, line)| files.take_entry(line).is_none());
            let damaged: Vec<usize> = damaged.map(|(number, _)| number).collect();
            files.pass_over(&journal, &damaged);
            files.read.push(journal);
        }
        let tombstones = folder.join(TOMBSTONES);
        if let Some(bytes) = content(&tombstones)? {
            let mut damaged = Vec::new();
            for (number, line) in lines(&bytes) {
                match tombstone(line) {
                    Some(customer) => files.erased.push(customer),
                    None => damaged.push(number),
                }
            }
            files.pass_over(&tombstones, &damaged);
            files.read.push(tombstones);
        }
        let promoted = folder.join(PROMOTED);
        if let Some(bytes) = content(&promoted)? {
            match serde_utf8(&bytes) {
                Ok(Promoted { promoted: versions }) => {
                    files.promoted = versions;
                    files.read.push(promoted);
                }
                Err(reason) => {
                    let path = promoted.display();
                    tracing::error!(%path, reason, "promoted versions cannot be read; the file is left as it is");
                }
            }
        }
        Ok(files)
    }

    fn pass_over(&mut self, path: &Path, damaged: &[usize]) {
        self.damaged += damaged.len();
        if damaged.is_empty() {
            return;
        }
        let numbers: Vec<_> = damaged.iter().take(LINES_TOLD).map(ToString::to_string).collect();
        let (path, count, lines) = (path.display(), damaged.len(), numbers.join(", "));
        tracing::warn!(%path, count, lines, "damaged lines were passed over; the file is left as it is under another name");
    }

    /// Reads a line of the journal: checksum, space, JSON.
    fn take_entry(&mut self, line: &[u8]) -> Option<()> {
        let (sum, rest) = line.split_at_checked(CHECK_DIGITS)?;
        let text = str::from_utf8(rest.strip_prefix(b" ")?).ok()?;
        if check(text).as_bytes() != sum {
            return None;
        }
        match serde_json::from_str(text).ok()? {
            Entry::Prediction { customer: Hex(customer), model, prediction } => {
                self.predictions.push(WaitingPrediction { customer, model, prediction: kept(&prediction)? });
            }
            Entry::Outcome { customer: Hex(customer), model, spend_usd, observed_at, prediction } => {
                let prediction = Some(kept(&prediction)?);
                self.outcomes.push(ToldOutcome { customer, model, spend_usd, observed_at, prediction });
            }
            Entry::Moved { from: Hex(from), to: Hex(to) } => drop(self.moved.insert(from, to)),
        }
        Some(())
    }

    /// Puts everything under the last key that its customer was given.
    fn move_customers(&mut self) {
        let last = |customer: CustomerKey| {
            let moves = std::iter::successors(Some(customer), |key| self.moved.get(key).copied());
            moves.take(MOST_MOVES).last().unwrap_or(customer)
        };
        self.predictions.iter_mut().for_each(|one| one.customer = last(one.customer));
        self.outcomes.iter_mut().for_each(|one| one.customer = last(one.customer));
    }
}

/// Lines that hold something, with their numbers from 1.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..).zip(bytes.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty())
}

#[derive(Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Entry {
    Prediction { customer: Hex, model: ModelName, prediction: serde_json::Value },
    Outcome { customer: Hex, model: ModelName, spend_usd: f64, observed_at: Timestamp, prediction: serde_json::Value },
    Moved { from: Hex, to: Hex },
}

#[derive(Deserialize)]
struct Promoted {
    #[serde(default)]
    promoted: BTreeMap<ModelName, ModelVersion>,
}

fn serde_utf8(bytes: &[u8]) -> Result<Promoted, String> {
    let text = str::from_utf8(bytes).map_err(|err| err.to_string())?;
    toml::from_str(text).map_err(|err: toml::de::Error| err.message().to_owned())
}

fn kept(prediction: &serde_json::Value) -> Option<KeptPrediction> {
    #[derive(Deserialize)]
    struct Named {
        version: ModelVersion,
        scored_at: Timestamp,
        horizon_days: u32,
    }
    let Named { version, scored_at, horizon_days } = Named::deserialize(prediction).ok()?;
    let scored_s = scored_at.as_second();
    let matures_s = scored_s.saturating_add(i64::from(horizon_days) * SECONDS_PER_DAY);
    Some(KeptPrediction { version, scored_s, matures_s, text: prediction.to_string() })
}

/// A customer's key as 64 hexadecimal digits.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Hex(CustomerKey);

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        key(&text).map(Self).ok_or("a customer key has 64 hexadecimal digits")
    }
}

fn key(text: &str) -> Option<CustomerKey> {
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    (text.len() == 64).then(|| CustomerKey::from_digest(digest))
}

/// The customer of a line `t1 <key> <time> <checksum>`.
fn tombstone(line: &[u8]) -> Option<CustomerKey> {
    let line = str::from_utf8(line).ok()?;
    let (text, sum) = line.split_at_checked(line.len().checked_sub(CHECK_DIGITS)?)?;
    let (key_text, _) = text.strip_prefix("t1 ")?.split_once(' ')?;
    key(key_text).filter(|_| check(text) == sum)
}

/// The first digits of a text's SHA-256.
fn check(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
    format!("{first:0CHECK_DIGITS$x}")
}

fn content(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(err) => Err(refused(path, &err)),
    }
}

fn set_aside(path: &Path) -> io::Result<()> {
    let mut done = path.as_os_str().to_owned();
    done.push(DONE);
    rename(path, Path::new(&done))
}

fn refused(path: &Path, problem: &dyn std::fmt::Display) -> StoreError {
    StoreError::TakeOver { path: path.to_owned(), problem: problem.to_string() }
}
