//! Dialling and listening over real sockets, through proxies that the tests are themselves.
#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

mod dead;
mod flood;
mod http1;
mod proxies;
mod support;
mod ways;
