//! The simulated platform: its answers are what the platform's schemas say, and what it says is true.

mod contacts;
mod details;
mod documented;
mod faults;
mod outbound;
mod schema;
mod speed;
mod truth;
mod visitor;
