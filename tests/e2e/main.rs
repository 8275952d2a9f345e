//! The promises of `haul` on one machine, tried on the real binary: each test in a home of its own, with its own
//! private controller and agent.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod arrays;
mod bad_input;
mod bytes;
mod commands;
mod daemons;
mod directories;
mod environments;
mod faults;
mod outputs;
mod run;
mod scheduling;
mod shared;
mod stopping;
