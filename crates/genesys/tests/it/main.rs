//! The platform client against the simulated platform: whatever goes wrong, it ends with exactly what is there.

#![expect(unreachable_pub, reason = "nothing is outside of a test")]

mod desk;
mod doctor;
mod documented;
mod extraction;
mod faults;
mod kept;
mod leads;
mod limits;
mod profiles;
mod resume;
mod silence;
mod tokens;
