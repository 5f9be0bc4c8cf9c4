//! The simulated platform: its answers are what the platform's schemas say, and what it says is true.

#![expect(unreachable_pub, reason = "nothing is outside of a test")]

mod contacts;
mod details;
mod documented;
mod faults;
mod outbound;
mod schema;
mod speed;
mod truth;
mod visitor;
