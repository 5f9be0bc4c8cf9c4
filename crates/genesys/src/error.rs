//! Why the platform did not give what was asked for. Texts name the operation and the platform's code, never what was
//! sent or answered: bodies hold people.

use std::fmt;

use super::transport::ApiOperation;

/// What went wrong with a request, after everything that was worth trying.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GenesysError {
    #[error("`{operation}` was refused with status {status}{code}{correlation}")]
    Refused { operation: ApiOperation, status: u16, code: PlatformCode, correlation: Correlation },
    #[error("`{operation}` was not answered in {attempts} attempt(s), at last: {reason}{correlation}")]
    Unavailable { operation: ApiOperation, attempts: u32, reason: AttemptFault, correlation: Correlation },
    #[error(
        "the client is not let in: `{operation}` was answered status {status}{code}{correlation}; check client id, secret and roles"
    )]
    NotLetIn { operation: ApiOperation, status: u16, code: PlatformCode, correlation: Correlation },
    #[error(
        "the answer to `{operation}` is larger than {limit} bytes: raise `genesys.max_response` or lower the page size"
    )]
    TooLarge { operation: ApiOperation, limit: usize },
    #[error("the answer to `{operation}` cannot be read at `{path}` (line {line}, column {column})")]
    Unreadable { operation: ApiOperation, path: String, line: usize, column: usize },
    #[error("jobs for {days} day(s) from `{from}` ended {times} time(s) without results, at last as `{state}`")]
    JobFailed { from: scoreline_domain::time::Timestamp, days: u32, times: u32, state: String },
    #[error("the position belongs to another history than `{source_name}`")]
    ForeignPosition { source_name: &'static str },
    #[error("the client cannot be built: {reason}")]
    Settings { reason: String },
}

impl GenesysError {
    /// Whether the same may succeed later without anybody changing anything.
    pub fn passes(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::JobFailed { .. } => true,
            Self::Refused { .. }
            | Self::NotLetIn { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable { .. }
            | Self::ForeignPosition { .. }
            | Self::Settings { .. } => false,
        }
    }

    /// The request that it is about, where it is about one.
    pub(super) fn operation(&self) -> Option<ApiOperation> {
        match self {
            Self::Refused { operation, .. }
            | Self::Unavailable { operation, .. }
            | Self::NotLetIn { operation, .. }
            | Self::TooLarge { operation, .. }
            | Self::Unreadable { operation, .. } => Some(*operation),
            Self::JobFailed { .. } | Self::ForeignPosition { .. } | Self::Settings { .. } => None,
        }
    }

    /// A label for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::NotLetIn { .. } => "not_let_in",
            Self::TooLarge { .. } => "too_large",
            Self::Unreadable { .. } => "unreadable",
            Self::JobFailed { .. } => "job_failed",
            Self::ForeignPosition { .. } => "foreign_position",
            Self::Settings { .. } => "settings",
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::NotLetIn { status, .. } => Some(*status),
            Self::Unavailable { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable { .. }
            | Self::JobFailed { .. }
            | Self::ForeignPosition { .. }
            | Self::Settings { .. } => None,
        }
    }

    /// Whether a smaller question may be answered: the platform said it was a bad one, or its answer was too large.
    pub(super) fn asks_for_less(&self) -> bool {
        matches!(self, Self::TooLarge { .. }) || matches!(self.status(), Some(400 | 413))
    }
}

/// Why an attempt did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFault {
    /// 429, or the token endpoint's 400 that says the same.
    RateLimited,
    /// A status that says: not now.
    Status(u16),
    /// No connection.
    Connect,
    /// The time for a request was over.
    Timeout,
    /// The connection ended inside the answer.
    Cut,
    /// An answer that is not JSON: of something in between.
    NotJson,
    TooLarge,
}

impl AttemptFault {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Status(_) => "server_error",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::NotJson => "not_json",
            Self::TooLarge => "too_large",
        }
    }
}

impl fmt::Display for AttemptFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateLimited => f.write_str("the rate limit"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Connect => f.write_str("no connection"),
            Self::Timeout => f.write_str("the time was over"),
            Self::Cut => f.write_str("the connection was cut"),
            Self::NotJson => f.write_str("an answer that is not JSON"),
            Self::TooLarge => f.write_str("an answer that is too large"),
        }
    }
}

/// The platform's stable name of an error, such as `not.found`. Anything that is not such a name is left out: it may
/// hold what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformCode(Option<Box<str>>);

impl PlatformCode {
    const LONGEST: usize = 80;

    pub(super) fn of(text: &str) -> Self {
        // Names have letters in all parts; ids and numbers do not pass as one.
        let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        Self((text.len() <= Self::LONGEST && text.split('.').all(part)).then(|| text.into()))
    }

    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for PlatformCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |code| write!(f, " `{code}`"))
    }
}

/// `ININ-Correlation-Id`: what the platform's support asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correlation(Option<Box<str>>);

impl Correlation {
    pub(super) fn of(text: &str) -> Self {
        let fits = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        Self(fits.then(|| text.into()))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |id| write!(f, ", correlation id `{id}`"))
    }
}
