//! Scores appended to a CSV or NDJSON file. A line names its customer by the keyed hash, nothing else.
//!
//! What is acknowledged is synced. A line that a kill cut off was never acknowledged: it is cut away when the file is
//! opened again, and written anew. So a line may come twice, whole; for a customer the last one holds.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::{ProfileScores, ScoreSink, ScoreUpdate, SinkFault, WrittenOver};
use scoreline_domain::text::hex;
use scoreline_domain::{Tier, durable};

const HEADER: &str = "customer_key,predicted_clv_value,clv_tier,confidence_score,risk_score,last_calculated_at\n";

/// A disk that is full or gone is looked at again after that long.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// A sync costs about as much as writing so many lines.
const PORTION: usize = 1000;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    Ndjson,
}

impl FileFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    pub path: PathBuf,
    pub format: FileFormat,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileSinkError {
    #[error("score file `{}` cannot be {what}", path.display())]
    File { path: PathBuf, what: &'static str, source: io::Error },
    #[error("score file `{}` is being written by another process", path.display())]
    InUse { path: PathBuf },
}

/// Appends to one file. This process is its only writer.
#[derive(Debug)]
pub struct FileSink {
    open: Arc<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    settings: FileSettings,
    /// Locked while a batch is written and synced, on a thread that may block.
    file: Mutex<File>,
}

/// One line of NDJSON.
#[derive(Serialize)]
struct SinkLine<'a> {
    customer_key: &'a str,
    predicted_clv_value: f64,
    clv_tier: Tier,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk_score: Option<f64>,
    last_calculated_at: String,
}

impl FileSink {
    pub const TARGET: &str = "file";

    /// Opens or creates the file, readable to its owner alone, and cuts off an unfinished last line. Blocks.
    ///
    /// # Errors
    /// When it cannot be opened or read, or another process writes to it.
    pub fn open(settings: FileSettings) -> Result<Self, FileSinkError> {
        let path = &settings.path;
        let failed = |what| move |source| FileSinkError::File { path: path.clone(), what, source };
        std::fs::create_dir_all(durable::folder_of(path)).map_err(failed("created"))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(durable::PRIVATE);
        let opened = options.open(path);
        let mut file = opened.map_err(failed("opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileSinkError::InUse { path: path.clone() }),
            Err(TryLockError::Error(source)) => return Err(failed("locked")(source)),
        }
        let whole = end_of_last_line(&mut file).map_err(failed("read"))?;
        file.set_len(whole).map_err(failed("cut"))?;
        file.seek(SeekFrom::Start(whole)).map_err(failed("read"))?;
        durable::sync_name(path).map_err(failed("synced"))?;
        Ok(Self { open: Arc::new(OpenFile { settings, file: Mutex::new(file) }) })
    }
}

impl ScoreSink for FileSink {
    fn target(&self) -> &'static str {
        Self::TARGET
    }

    fn portion(&self) -> usize {
        PORTION
    }

    fn write<'a>(&'a self, updates: &'a [ScoreUpdate]) -> BoxFuture<'a, Vec<Result<WrittenOver, SinkFault>>> {
        let open = Arc::clone(&self.open);
        let text = open.settings.format.lines(updates);
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || open.append(&text)).await;
            let reason = match written {
                Ok(Ok(())) => return vec![Ok(WrittenOver::Own); updates.len()],
                Ok(Err(err)) => format!("the score file cannot be written: {err}"),
                Err(_) => "writing the score file panicked".to_owned(),
            };
            vec![Err(SinkFault::Retry { after: TRY_AGAIN, reason }); updates.len()]
        })
    }
}

impl OpenFile {
    /// All or nothing: what a failed write left behind is cut off.
    fn append(&self, text: &str) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let before = file.seek(SeekFrom::End(0))?;
        let header = if before == 0 { self.settings.format.header() } else { "" };
        let written = file
            .write_all(header.as_bytes())
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_data());
        written.inspect_err(|_| drop(file.set_len(before)))
    }
}

impl FileFormat {
    fn header(self) -> &'static str {
        match self {
            Self::Csv => HEADER,
            Self::Ndjson => "",
        }
    }

    fn lines(self, updates: &[ScoreUpdate]) -> String {
        let mut text = String::new();
        for update in updates {
            let key = hex(update.customer.as_bytes());
            let ProfileScores { predicted_clv_value, clv_tier, confidence_score, risk_score, last_calculated_at: at } =
                update.scores;
            match self {
                Self::Csv => {
                    let number = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
                    let (confidence, risk) = (number(confidence_score), number(risk_score));
                    let _ = writeln!(text, "{key},{predicted_clv_value},{clv_tier},{confidence},{risk},{at}");
                }
                Self::Ndjson => {
                    let line = SinkLine {
                        customer_key: &key,
                        predicted_clv_value,
                        clv_tier,
                        confidence_score,
                        risk_score,
                        last_calculated_at: at.to_string(),
                    };
                    // Numbers and plain text always are JSON.
                    text += &serde_json::to_string(&line).unwrap_or_default();
                    text.push('\n');
                }
            }
        }
        text
    }
}

/// Where the last whole line ends; 0 when there is none.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&*file).take(end - start).read_to_end(&mut block)?;
        if let Some(last) = memchr::memrchr(b'\n', &block) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoreline_domain::CustomerKey;

    fn update(byte: u8, confidence: Option<f64>) -> ScoreUpdate {
        let scores = ProfileScores {
            predicted_clv_value: 4500.1,
            clv_tier: Tier::High,
            confidence_score: confidence,
            risk_score: Some(0.12),
            last_calculated_at: "2026-11-21T10:00:00Z".parse().expect("a time"),
        };
        ScoreUpdate { customer: CustomerKey::from_digest([byte; 32]), contact: None, scores, last: None }
    }

    fn settings(folder: &tempfile::TempDir, format: FileFormat) -> FileSettings {
        FileSettings { path: folder.path().join("below/scores"), format }
    }

    #[tokio::test]
    async fn lines_are_appended_after_one_header() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(&folder, FileFormat::Csv);
        for _ in 0..2 {
            let sink = FileSink::open(settings.clone()).expect("opens");
            assert_eq!(
                sink.write(&[update(0xab, Some(0.83)), update(1, None)]).await,
                [Ok(WrittenOver::Own), Ok(WrittenOver::Own)]
            );
        }
        let text = std::fs::read_to_string(&settings.path).expect("readable");
        let key = "ab".repeat(32);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(lines[0], HEADER.trim_end());
        assert_eq!(lines[1], format!("{key},4500.1,High_Value,0.83,0.12,2026-11-21T10:00:00Z"));
        assert!(lines[2].contains(",High_Value,,0.12,"), "{}", lines[2]);
        assert_eq!((lines[3], lines[4]), (lines[1], lines[2]));
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_is_cut_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(&folder, FileFormat::Ndjson);
        drop(FileSink::open(settings.clone()).expect("opens"));
        std::fs::write(&settings.path, format!("{{\"a\":1}}\n{}", "x".repeat(200_000))).expect("written");
        let sink = FileSink::open(settings.clone()).expect("opens");
        assert_eq!(sink.write(&[update(2, None)]).await, [Ok(WrittenOver::Own)]);
        let text = std::fs::read_to_string(&settings.path).expect("readable");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("whole lines")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["customer_key"], "02".repeat(32));
        assert_eq!((&lines[1]["clv_tier"], lines[1].get("confidence_score")), (&"High_Value".into(), None));
    }

    #[test]
    fn one_process_writes_and_strangers_can_not_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(&folder, FileFormat::Csv);
        let _sink = FileSink::open(settings.clone()).expect("opens");
        let mode = std::fs::metadata(&settings.path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = FileSink::open(settings).expect_err("in use").to_string();
        assert!(second.contains("another process"), "{second}");
    }
}
