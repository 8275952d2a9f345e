//! Append-only streams by offset: what scripts write, kept and followed.
//!
//! Two halves that share nothing but the idea that a byte has a place in its stream for ever:
//!
//! - [`JobSpool`] is the controller's: all streams of one job in a handful of compressed segment files, appended by
//!   offset (so that sending twice does no harm), durable after [`JobSpool::sync`], read at any offset.
//! - [`Follower`] and [`StreamFile`] are the agent's: the plain files that scripts write, read as they grow, woken by
//!   the kernel instead of by a clock.
//!
//! Everything here is synchronous. Whoever runs an async runtime waits on the [`Follower`]'s descriptor and does the
//! disk's work where blocking is allowed.

pub mod block;
pub mod check;
pub mod error;
pub mod file;
pub mod follow;
mod index;
mod scan;
pub mod segment;
pub mod spool;
pub mod sweep;

pub use check::{CheckReport, Damage, DamageKind, check};
pub use error::{AppendError, CheckError, ReadError, SpoolError, SweepError, SyncError};
pub use file::{StreamFile, StreamFileError};
pub use follow::{Follower, WatchError};
pub use spool::{JobSpool, SpoolOptions};
pub use sweep::{remove, sweep};
