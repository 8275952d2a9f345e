//! What end-to-end tests and benchmarks stand on: the real `haul` binary in a home of its own.
//!
//! | part | what it is about |
//! |---|---|
//! | [`Home`] | a temporary home with its own private controller, and a project directory |
//! | [`Command`] | `haul` with arguments, about to start |
//! | [`Running`], [`Ended`] | a `haul` that runs, and what it said and how it ended |
//! | [`Network`], [`Machine`] | several machines with addresses of their own, on this one |
//! | [`Process`] | any process that lives in the home: controller, agent, supervisors, jobs |
//!
//! Invariants: no test sees another's state; nothing waits without a limit; nothing is polled where the kernel or a
//! pipe can tell; a home that is dropped leaves no process and no file.

mod home;
mod machines;
mod process;
mod running;

pub use home::{Command, Home, haul_binary};
pub use machines::{Machine, Network, Side};
pub use process::{Process, Role};
pub use running::{Ended, Running};
pub use rustix::process::Signal;
