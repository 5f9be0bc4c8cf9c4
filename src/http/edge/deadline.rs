//! `x-deadline-ms`: how long the caller waits for its answer, the time a batch as a whole may take, and how long a fact waits for
//! the store.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::{ApiError, Code};
use super::head::{Field, Head};
use super::headers::DEADLINE;
use crate::http::admission::Overloaded;
use crate::scoring::FallbackReason;
use scoreline_domain::time::Stopwatch;

/// How long a fact waits for the store, before its caller is told to come again.
const KEEPING: Duration = Duration::from_secs(10);

/// Waits for a fact to be kept.
///
/// # Errors
/// With this code, when the store takes too long. It may be kept all the same, and can be told again.
pub(crate) async fn kept_in_time<T>(code: Code, keeping: impl Future<Output = T>) -> Result<T, ApiError> {
    let late = |_| ApiError::new(code, format!("the store gave no answer within {} s", KEEPING.as_secs()));
    tokio::time::timeout(KEEPING, keeping).await.map_err(late)
}

/// What keeps a question from being asked at leisure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hurry {
    /// How long the caller waits; as long as the settings say when absent.
    pub deadline: Option<Duration>,
    /// There is no room: the model is not asked.
    pub shed: bool,
    /// A caller that there is no room for is refused. Everybody else gets an answer from the ladder.
    pub refuse: bool,
}

impl Hurry {
    /// Whether the caller takes an answer that the ladder gave for this reason.
    ///
    /// # Errors
    /// When there was no room, and the caller is to be refused then.
    pub(crate) fn takes(self, reason: Option<FallbackReason>) -> Result<(), Overloaded> {
        if self.refuse && reason == Some(FallbackReason::Overloaded) { Err(Overloaded) } else { Ok(()) }
    }
}

/// The caller's own deadline; `None` without the header.
///
/// # Errors
/// Names the header when it is not one whole number of milliseconds, or is there twice.
pub(crate) fn of(head: &Head<'_>) -> Result<Option<Duration>, ApiError> {
    let written = match head.deadline {
        Field::Absent => return Ok(None),
        Field::Once(written) => written,
        Field::Repeated(_) => b"",
    };
    let is_number = !written.is_empty() && written.iter().all(u8::is_ascii_digit);
    let millis = str::from_utf8(written).ok().filter(|_| is_number).and_then(|text| text.parse::<u32>().ok());
    let Some(millis) = millis.filter(|millis| *millis > 0) else {
        let problem = format!("header `{DEADLINE}` must be one whole number of milliseconds from 1 to {}", u32::MAX);
        return Err(ApiError::field(Code::InvalidField, DEADLINE.as_str(), problem));
    };
    Ok(Some(Duration::from_millis(millis.into())))
}

/// The caller's own deadline, for handlers that refuse a wrong one before they read anything.
pub(crate) struct OwnDeadline(pub Option<Duration>);

impl<S: Sync> FromRequestParts<S> for OwnDeadline {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        of(&Head::of_map(&parts.headers)).map(Self)
    }
}

/// The time of a batch, which its rows share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchTime {
    watch: Stopwatch,
    limit: Duration,
    row: Option<Duration>,
}

impl BatchTime {
    /// A batch that may take `limit` from now, each of its rows no longer than `row`.
    pub(crate) fn start(limit: Duration, row: Option<Duration>) -> Self {
        Self { watch: Stopwatch::start(), limit, row }
    }

    /// The deadline of a row that begins now. Zero once the time is over: the ladder answers without the model.
    pub(crate) fn next_row(&self) -> Hurry {
        let left = self.limit.saturating_sub(self.watch.elapsed());
        Hurry { deadline: Some(self.row.map_or(left, |row| row.min(left))), ..Hurry::default() }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::*;

    fn read(values: &[&'static str]) -> Result<Option<Duration>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&DEADLINE, HeaderValue::from_static(value));
        }
        of(&Head::of_map(&headers))
    }

    #[test]
    fn a_deadline_is_whole_milliseconds() {
        assert_eq!(read(&[]).expect("none"), None);
        assert_eq!(read(&["1"]).expect("least"), Some(Duration::from_millis(1)));
        assert_eq!(read(&["0250"]).expect("zeros in front"), Some(Duration::from_millis(250)));
        assert_eq!(read(&["4294967295"]).expect("most"), Some(Duration::from_millis(4_294_967_295)));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for bad in [&[""][..], &["0"], &["-5"], &["+5"], &["1.5"], &["100m"], &["4294967296"], &["5, 6"], &["5", "6"]] {
            let error = read(bad).expect_err("refused");
            assert_eq!((error.code, error.field.as_deref()), (Code::InvalidField, Some("x-deadline-ms")), "{bad:?}");
            assert!(error.message.contains("from 1 to 4294967295"), "{}", error.message);
        }
        let mut headers = HeaderMap::new();
        headers.insert(&DEADLINE, HeaderValue::from_bytes(b"\xff").expect("opaque"));
        assert!(of(&Head::of_map(&headers)).is_err());
    }

    #[test]
    fn rows_of_a_batch_share_its_time() {
        let row = Duration::from_millis(20);
        assert_eq!(BatchTime::start(Duration::from_mins(1), Some(row)).next_row().deadline.unwrap_or_default(), row);
        assert!(
            BatchTime::start(Duration::from_mins(1), None).next_row().deadline.unwrap_or_default()
                > Duration::from_secs(50)
        );
        assert_eq!(BatchTime::start(Duration::ZERO, Some(row)).next_row().deadline.unwrap_or_default(), Duration::ZERO);
    }
}
