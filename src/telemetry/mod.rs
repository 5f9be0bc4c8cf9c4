//! Logs, metrics and traces set-up.
//!
//! Logs go to standard error: human-readable on a terminal, one JSON object per line otherwise. A line is handed to a
//! writer thread through a bounded queue, so a slow or stuck log sink costs lines (counted, and said in the log), never
//! a prediction. (`tracing-appender` does the same; it would be one more dependency for these sixty lines, and it does
//! not say in the log that lines are missing.)
//!
//! Metrics are histograms with fixed buckets in the text format that every Prometheus scrapes. Native histograms of
//! the exporter replace the buckets of a metric instead of standing beside them and exist only in its protobuf
//! format, so they are not used; Prometheus itself can store these buckets as native histograms
//! (`convert_classic_histograms_to_nhcb`).

mod openmetrics;
mod traces;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use scoreline_domain::time::Rounds;

pub use openmetrics::{Exemplars, REQUEST_SECONDS};
pub use traces::{TraceEndpoint, TraceHeaders, TraceSettings, Traces};

/// Log lines lost because the log sink was too slow.
const LOG_LINES_DROPPED: &str = "scoreline_log_lines_dropped_total";

/// Upper edges of every `*_seconds` histogram, shaped by the objectives: a model answers in microseconds, a request in
/// less than a millisecond, a deadline is half a second, a caller gives up after two.
const SECONDS_BUCKETS: [f64; 18] = [
    5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 350e-6, 500e-6, 750e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 100e-3, 250e-3,
    500e-3, 2.0,
];
/// Upper edges of every `*_rows` histogram.
const ROWS_BUCKETS: [f64; 8] = [1.0, 2.0, 8.0, 16.0, 64.0, 128.0, 256.0, 1000.0];

/// How often recorded samples are folded into buckets when nobody scrapes; without it they pile up in memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// Target of audit lines; `privacy::audit` writes them, from a lower floor.
const AUDIT: &str = scoreline_domain::privacy::audit::TARGET;
/// What the targets of the database drivers begin with.
const DRIVERS: &str = "sqlx";
const QUEUED_LINES: usize = 8192;
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    pub filter: LogFilter,
    pub format: LogFormat,
    /// File for audit lines; they stand in the log without one.
    pub audit_path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    Human,
    Json,
}

/// What is logged: a level, or directives such as `info,scoreline::http=debug`.
#[derive(Clone, Debug)]
pub struct LogFilter {
    text: String,
    targets: Targets,
}

impl LogFilter {
    /// # Errors
    /// Says which directive cannot be read.
    pub fn parse(text: &str) -> Result<Self, LogFilterError> {
        for directive in text.split(',').map(str::trim) {
            // The library takes a lone word that is no level for a target, so that `inof` would silence the log.
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if level.is_empty() || LevelFilter::from_str(level).is_err() {
                return Err(LogFilterError { directive: directive.to_owned() });
            }
        }
        let targets = text.parse().map_err(|_| LogFilterError { directive: text.to_owned() })?;
        Ok(Self { text: text.to_owned(), targets })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The database drivers' own lines hold statements, and what they tell of is told by whoever asked; unless asked for.
    fn without_drivers(&self) -> Targets {
        let targets = self.targets.clone();
        if self.text.contains(DRIVERS) { targets } else { targets.with_target(DRIVERS, LevelFilter::OFF) }
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self { text: "info".to_owned(), targets: Targets::new().with_default(LevelFilter::INFO) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{directive}` does not end in a level")]
pub struct LogFilterError {
    directive: String,
}

/// Starts logging for the whole process. Keep the guard until the end: dropping it writes out what is queued.
///
/// # Errors
/// When logging was started before, or the writer thread cannot be started.
pub fn init(settings: &LogSettings) -> Result<LogGuard, TelemetryError> {
    let human = match settings.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let lost_lines = if human { lost_lines_for_people } else { lost_lines_as_json };
    let (writer, mut guard) =
        LineQueue::start(io::stderr(), QUEUED_LINES, lost_lines).map_err(TelemetryError::WriterThread)?;
    // No filter silences what administrators did.
    let audit = settings.audit_path.clone().map(AuditFile::open).transpose()?;
    guard.audit.clone_from(&audit);
    let level = if audit.is_some() { LevelFilter::OFF } else { LevelFilter::INFO };
    let targets = settings.filter.without_drivers().with_target(AUDIT, level);
    if let Some(file) = audit {
        return init_with_audit(human, writer, targets, file).map(|()| guard);
    }
    let registry = tracing_subscriber::registry().with(targets);
    let started = if human {
        let ansi = io::stderr().is_terminal();
        registry
            .with(tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi).with_target(false))
            .try_init()
    } else {
        let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true);
        registry.with(json.with_span_list(false).with_writer(writer)).try_init()
    };
    started.map_err(|_| TelemetryError::LoggingStartedTwice)?;
    Ok(guard)
}

/// As above, with a filter for each of the two: only this costs a look at both for every event that is logged.
fn init_with_audit(human: bool, writer: LineQueue, log: Targets, audit: AuditFile) -> Result<(), TelemetryError> {
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
    // Written by whoever acted, so that no queue can lose it.
    let lines = lines.with_target(false).with_level(false).with_writer(audit);
    let lines = lines.with_filter(Targets::new().with_target(AUDIT, LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(lines);
    let started = if human {
        let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
        registry.with(layer.with_target(false).with_filter(log)).try_init()
    } else {
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true);
        registry.with(layer.with_span_list(false).with_writer(writer).with_filter(log)).try_init()
    };
    started.map_err(|_| TelemetryError::LoggingStartedTwice)
}

/// The file of audit lines. Cheap to clone; all clones write to one file.
#[derive(Clone, Debug)]
pub struct AuditFile {
    path: Arc<Path>,
    file: Arc<ArcSwap<File>>,
}

impl AuditFile {
    fn open(path: PathBuf) -> Result<Self, TelemetryError> {
        let file = Self::append_to(&path)?;
        Ok(Self { path: path.into(), file: Arc::new(ArcSwap::from_pointee(file)) })
    }

    /// Goes on in the file that has the name now: the one before may have been moved away.
    ///
    /// # Errors
    /// When it cannot be opened. Lines go to the file before then.
    pub fn reopen(&self) -> Result<(), TelemetryError> {
        self.file.store(Arc::new(Self::append_to(&self.path)?));
        Ok(())
    }

    /// Opens the file for appending, readable by its owner and their group.
    fn append_to(path: &Path) -> Result<File, TelemetryError> {
        let unusable = |source| TelemetryError::AuditFile { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unusable)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o640).open(path).map_err(unusable)
    }
}

impl<'a> MakeWriter<'a> for AuditFile {
    type Writer = Arc<File>;

    fn make_writer(&'a self) -> Self::Writer {
        self.file.load_full()
    }
}

/// A recorder of its own with our buckets, not installed: for tests that must not share counters.
///
/// # Errors
/// When a bucket list is empty, which it is not.
fn metrics_recorder() -> Result<(PrometheusRecorder, MetricsHandle), TelemetryError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &ROWS_BUCKETS))
        .map_err(TelemetryError::Metrics)?
        .build_recorder();
    let handle = MetricsHandle { prometheus: recorder.handle(), exemplars: Exemplars::default() };
    Ok((recorder, handle))
}

/// Installs the process-wide recorder that the `metrics` macros write to. A second call gives the same handle, so that
/// several servers in one process (as in tests) can all be started.
///
/// # Errors
/// When another library installed a recorder of its own.
pub fn install_metrics() -> Result<MetricsHandle, TelemetryError> {
    static INSTALLED: OnceLock<Option<MetricsHandle>> = OnceLock::new();
    let (recorder, handle) = metrics_recorder()?;
    let install = || {
        metrics::set_global_recorder(recorder).ok()?;
        metrics::describe_counter!(LOG_LINES_DROPPED, "Log lines lost because the log sink was too slow.");
        // Shown before the first is lost, so that its increase is seen.
        metrics::counter!(LOG_LINES_DROPPED).increment(0);
        Some(handle)
    };
    INSTALLED.get_or_init(install).clone().ok_or(TelemetryError::ForeignRecorder)
}

/// Renders what was measured.
#[derive(Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
    exemplars: Exemplars,
}

impl MetricsHandle {
    /// The Prometheus text format. A gauge that is not a number says nothing, and is left out.
    pub fn render(&self) -> String {
        only_numbers(&self.prometheus.render())
    }

    /// The same as OpenMetrics, with the traces of followed requests.
    pub fn render_openmetrics(&self) -> String {
        openmetrics::openmetrics(&self.render(), &self.exemplars)
    }

    /// Where followed requests are noted for it.
    pub fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    /// Folds samples into buckets until `stop` is ready. A supervised task.
    pub async fn upkeep(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut rounds = Rounds::every(UPKEEP_EVERY);
        while rounds.next(stop.as_mut()).await {
            self.prometheus.run_upkeep();
        }
    }
}

/// The text without samples that are not a number, and without the families that only have such.
fn only_numbers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    // What stands above the samples of a family waits for the first of them.
    let mut head = String::new();
    for line in text.lines() {
        if line.is_empty() {
            head.clear();
        } else if line.starts_with('#') {
            head.extend([line, "\n"]);
        } else if !line.ends_with(" NaN") {
            kept += &std::mem::take(&mut head);
            kept.extend([line, "\n"]);
        }
    }
    kept
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("logging was started twice in this process")]
    LoggingStartedTwice,
    #[error("`log.audit_path`: `{}` cannot be opened", path.display())]
    AuditFile { path: PathBuf, source: io::Error },
    #[error("log writer thread cannot be started")]
    WriterThread(#[source] io::Error),
    #[error("metrics cannot be set up")]
    Metrics(#[source] BuildError),
    #[error("thread of traces cannot be started")]
    TraceThread(#[source] io::Error),
    #[error("`tracing.endpoint`: no client can be made")]
    TraceClient(#[source] reqwest::Error),
    #[error("another metrics recorder is already installed in this process")]
    ForeignRecorder,
}

enum LogEntry {
    Line(Vec<u8>),
    /// Answered when every line before it is written.
    Flush(SyncSender<()>),
}

/// The end of the queue that log events write to.
#[derive(Clone)]
struct LineQueue {
    sender: SyncSender<LogEntry>,
    /// Lines lost since the writer last said so.
    unreported: Arc<AtomicU64>,
}

/// Writes out what is queued when dropped, unless the sink is stuck.
pub struct LogGuard {
    sender: SyncSender<LogEntry>,
    audit: Option<AuditFile>,
}

impl LogGuard {
    /// The file of audit lines, where there is one.
    pub fn audit(&self) -> Option<AuditFile> {
        self.audit.clone()
    }
}

impl LineQueue {
    fn start(
        mut sink: impl Write + Send + 'static,
        lines: usize,
        notice: fn(u64) -> String,
    ) -> io::Result<(Self, LogGuard)> {
        let (sender, receiver) = mpsc::sync_channel(lines);
        let unreported = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&unreported);
        std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            for entry in receiver {
                // A sink that fails (a closed pipe) has nobody to tell; the lines are gone either way.
                match entry {
                    LogEntry::Line(line) => {
                        let _ = sink.write_all(&line);
                    }
                    LogEntry::Flush(done) => {
                        let _ = sink.flush();
                        let _ = done.try_send(());
                    }
                }
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = sink.write_all(notice(lost).as_bytes());
                }
            }
        })?;
        Ok((Self { sender: sender.clone(), unreported }, LogGuard { sender, audit: None }))
    }
}

fn lost_lines_as_json(lines: u64) -> String {
    format!("{{\"level\":\"WARN\",\"message\":\"log lines lost\",\"lines\":{lines}}}\n")
}

fn lost_lines_for_people(lines: u64) -> String {
    format!("WARN log lines lost lines={lines}\n")
}

/// The formatter hands over one whole line per call.
impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sender.try_send(LogEntry::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.unreported.fetch_add(1, Ordering::Relaxed);
                metrics::counter!(LOG_LINES_DROPPED).increment(1);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, flushed) = mpsc::sync_channel(1);
        if self.sender.try_send(LogEntry::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_WITHIN);
        }
    }
}

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsHandle")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A sink that stands still until the gate is opened.
    #[derive(Clone, Default)]
    struct GatedSink {
        written: Arc<Mutex<Vec<u8>>>,
        gate: Arc<Mutex<()>>,
    }

    impl Write for GatedSink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock().expect("gate");
            self.written.lock().expect("written").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_sink_costs_lines_and_never_waiting() {
        let sink = GatedSink::default();
        let (mut queue, guard) = LineQueue::start(sink.clone(), 4, lost_lines_as_json).expect("thread");
        let closed = sink.gate.lock().expect("gate");
        for line in 0..100 {
            queue.write_all(format!("line {line}\n").as_bytes()).expect("never fails");
        }
        drop(closed);
        // The guard can only queue its flush once the writer has made room.
        while queue.sender.try_send(LogEntry::Line(b"last\n".to_vec())).is_err() {
            std::thread::yield_now();
        }
        drop(queue);
        drop(guard);
        let written = String::from_utf8(sink.written.lock().expect("written").clone()).expect("text");
        assert!(written.starts_with("line 0\n") && written.contains("\nline 1\n"), "{written}");
        let lines: u64 = written.lines().filter(|line| line.starts_with("line ")).count() as u64;
        let lost = written.lines().find(|line| line.contains("log lines lost")).expect("said in the log");
        let lost: serde_json::Value = serde_json::from_str(lost).expect("JSON");
        assert_eq!(lost["lines"].as_u64(), Some(100 - lines), "every line is written or counted");
    }

    #[test]
    fn a_word_that_is_no_level_is_not_taken_for_a_target() {
        for good in ["info", "off", "INFO", "info,scoreline::http=debug", "warn, scoreline=trace"] {
            assert!(LogFilter::parse(good).is_ok(), "{good}");
        }
        for bad in ["inof", "info,scoreline::http", "scoreline=loud", ""] {
            assert!(LogFilter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_latency_is_rendered_in_buckets_and_not_as_quantiles() {
        let (recorder, handle) = metrics_recorder().expect("recorder");
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("test_duration_seconds").record(0.0003);
            let text = handle.render();
            assert!(text.contains("test_duration_seconds_bucket{le=\"0.0002\"} 0"), "{text}");
            assert!(text.contains("test_duration_seconds_bucket{le=\"0.00035\"} 1"), "{text}");
            assert!(!text.contains("quantile"), "{text}");
        });
    }

    #[test]
    fn what_is_not_a_number_is_left_out_with_its_family() {
        let (recorder, handle) = metrics_recorder().expect("recorder");
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_gauge!("test_partly", "Known of one model.");
            metrics::describe_gauge!("test_unknown", "Known of nobody.");
            metrics::gauge!("test_partly", "model" => "NaN").set(2.0);
            metrics::gauge!("test_partly", "model" => "b").set(f64::NAN);
            metrics::gauge!("test_unknown").set(f64::NAN);
            metrics::gauge!("test_infinite").set(f64::INFINITY);
            let text = handle.render();
            let mut lines: Vec<_> = text.lines().collect();
            lines.sort_unstable();
            let expected = [
                "# HELP test_partly Known of one model.",
                "# TYPE test_infinite gauge",
                "# TYPE test_partly gauge",
                "test_infinite inf",
                "test_partly{model=\"NaN\"} 2",
            ];
            assert_eq!(lines, expected);
        });
    }

    #[test]
    fn installing_twice_gives_the_same_metrics() {
        let first = install_metrics().expect("first");
        metrics::counter!("installed_twice_total").increment(1);
        let second = install_metrics().expect("second");
        assert!(first.render().contains("installed_twice_total 1"));
        assert!(second.render().contains("installed_twice_total 1"));
    }
}
