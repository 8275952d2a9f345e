//! Builds with a real uv and real packages, from whatever index this machine is set up for.
//!
//! uv is fetched once by the crate itself (that is a test too) and shared by the rest, as is uv's cache.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes the functions that tests share for no tests"
)]

mod cache;
mod crash;
mod found;
mod support;
