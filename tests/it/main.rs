//! Tests through the public face of the program, one module per area.

mod http_api;
mod support;
