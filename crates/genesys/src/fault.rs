//! What became of a request that changes something and is sent once: whoever keeps what it was about decides what follows.

use std::time::Duration;

use super::error::{AttemptFault, GenesysError};

/// Why what was to be said is not known to be said. Reasons name no customer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// Nothing has changed: it was not sent, or refused for the rate. Nothing is sent before `until` is over.
    #[error("{reason}")]
    NotSent { until: Option<Duration>, reason: String },
    /// It was sent, and nobody knows whether it arrived: out of time, cut off, answered 5xx.
    #[error("{reason}")]
    Unknown { reason: String },
    /// Refused as it is.
    #[error("{reason}")]
    Refused { status: u16, reason: String },
    /// The target itself cannot be used: somebody has to act first.
    #[error("{reason}")]
    Down { reason: String },
}

impl From<&GenesysError> for SendFault {
    fn from(err: &GenesysError) -> Self {
        let reason = err.to_string();
        match err {
            GenesysError::NotLetIn { .. } | GenesysError::Settings { .. } | GenesysError::ForeignPosition { .. } => {
                Self::Down { reason }
            }
            GenesysError::Unavailable { reason: AttemptFault::RateLimited | AttemptFault::Connect, .. } => {
                Self::NotSent { until: None, reason }
            }
            GenesysError::Unavailable { .. }
            | GenesysError::TooLarge { .. }
            | GenesysError::Unreadable { .. }
            | GenesysError::JobFailed { .. } => Self::Unknown { reason },
            GenesysError::Refused { status, .. } => Self::Refused { status: *status, reason },
        }
    }
}
