//! TLS and client certificates over real sockets, with certificates made for each test.

mod accepted;
pub mod authority;
mod client;
mod files;
mod openssl;
mod process;
mod refused;
mod reloading;
mod server;
