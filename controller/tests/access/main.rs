//! Who may do what, tried on a real controller over TLS with real tokens and certificates.

#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

mod attempts;
mod calls;
mod joins;
mod matrix;
mod revocation;
mod session;
mod users;
mod world;
