//! A contact-centre platform that does not exist: its endpoints over plain HTTP on a loopback port, generated or recorded
//! conversations, faults by script, and a log of every request. For tests, and for people who want to see the whole
//! pipeline run without an account.
//!
//! It knows nothing of the client it is asked by, and runs on threads of its own, so that neither waits for the other.
//!
//! Nothing of what is generated is stored: a conversation follows from seed, day, customer and number, and its UUID
//! carries these. Records, aggregates and the truth that tests compare with are told from the same facts.

mod answer;
mod book;
mod clock;
mod contacts;
mod damage;
mod details;
mod documented;
mod draw;
mod facts;
mod faults;
mod hand;
mod hand_outbound;
mod ids;
mod limiter;
mod limits;
mod log;
mod moment;
mod oauth;
mod outbound;
mod population;
mod recorded;
mod routes;
mod running;
mod server;
mod settings;
mod transcripts;
mod truth;
mod wire;
mod world;

use std::path::PathBuf;

pub use clock::PlatformClock;
pub use faults::{FaultKind, FaultPlan, FaultRule, PRESETS, PlanError, RetryAfter};
pub use hand::{NewConversation, PlatformWrite};
pub use log::{Logged, busiest_window};
pub use outbound::{AwkwardContacts, ContactTally};
pub use running::Simulator;
pub use settings::{JobSettings, PlatformLimits, SimulatorSettings};
pub use truth::{Expected, Party, Truth};

/// Why a simulator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    #[error("`customers` must be at most 268435455, got `{0}`")]
    TooManyCustomers(u32),
    #[error("recorded conversations `{path}` cannot be read")]
    RecordedUnreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("recorded conversations `{path}`: conversation {number} is not valid")]
    RecordedInvalid {
        path: PathBuf,
        number: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("log file `{path}` cannot be written")]
    LogFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{address}` cannot be listened on")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("its threads cannot be started")]
    Threads(#[source] std::io::Error),
}
