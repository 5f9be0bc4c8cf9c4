//! What was asked and what was answered: in memory for tests, as NDJSON for people.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Logged {
    /// When its answer was ready, on the platform's clock.
    pub time: Timestamp,
    /// The same on the monotonic clock, for windows and pauses; when the limiter was asked.
    #[serde(skip)]
    pub at: Duration,
    pub method: String,
    /// The endpoint, such as `/api/v2/analytics/conversations/details/jobs/{jobId}`; `-` for a path that is none.
    pub template: &'static str,
    pub status: u16,
    /// Which of the tokens issued so far, from 1; 0 without a valid one.
    pub token: u32,
    /// The scripted fault that struck, by its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<&'static str>,
    /// Whether the request counted against the token's limit.
    pub counted: bool,
    pub request_bytes: usize,
    pub bytes: usize,
}

/// Entries kept in memory; the oldest go first.
const KEPT: usize = 1_000_000;

/// The log. Locked for a moment, never across an await.
#[derive(Default)]
pub(super) struct Log {
    inner: Mutex<LogState>,
}

#[derive(Default)]
struct LogState {
    entries: VecDeque<Logged>,
    total: u64,
    refused: u64,
    file: Option<BufWriter<File>>,
    failure: Option<std::io::Error>,
}

impl Log {
    pub(super) fn to_file(file: Option<File>) -> Self {
        Self { inner: Mutex::new(LogState { file: file.map(BufWriter::new), ..LogState::default() }) }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, LogState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, entry: Logged) {
        let mut inner = self.locked();
        inner.total += 1;
        inner.refused += u64::from(entry.status == 429);
        if let Some(file) = &mut inner.file {
            let line = serde_json::to_vec(&entry).unwrap_or_default();
            let written = file.write_all(&line).and_then(|()| file.write_all(b"\n")).and_then(|()| file.flush());
            if let Err(err) = written {
                // The rest is not written: a log with a hole would say that there were fewer requests.
                (inner.file, inner.failure) = (None, Some(err));
            }
        }
        if inner.entries.len() == KEPT {
            inner.entries.pop_front();
        }
        inner.entries.push_back(entry);
    }

    pub(super) fn entries(&self) -> Vec<Logged> {
        self.locked().entries.iter().cloned().collect()
    }

    /// Requests, and those answered with 429.
    pub(super) fn counts(&self) -> (u64, u64) {
        let inner = self.locked();
        (inner.total, inner.refused)
    }

    /// Why the log file stopped being written, once.
    pub(super) fn failure(&self) -> Option<std::io::Error> {
        self.locked().failure.take()
    }
}

/// The most requests that counted for one token within any window of `period`.
pub fn busiest_window(log: &[Logged], period: Duration) -> usize {
    let tokens: std::collections::BTreeSet<u32> = log.iter().map(|entry| entry.token).collect();
    let busiest = tokens.into_iter().map(|token| {
        let mut times: Vec<Duration> =
            log.iter().filter(|entry| entry.counted && entry.token == token).map(|entry| entry.at).collect();
        times.sort_unstable();
        let mut first = 0;
        let lengths = times.iter().enumerate().map(|(last, &at)| {
            while times[first] + period <= at {
                first += 1;
            }
            last + 1 - first
        });
        lengths.max().unwrap_or(0)
    });
    busiest.max().unwrap_or(0)
}
