//! HTTP transport only: unpack, call one service, wrap.
