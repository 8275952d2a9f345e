//! Environments by content: an existing Python, or a virtual environment built by uv.
//!
//! # What it promises
//!
//! * The same content is built once. [`Environments::ensure`] turns a spec and a directory into a *plan* (data, see
//!   [`plan`]), the plan into a key, and only when nothing is there under that key runs the plan's commands. However
//!   many ask at once, in this process or in another, one builds and the others are told the same.
//! * What is there is whole. A directory without its `ready` record is a build that never ended and is removed before
//!   the next; a build that failed or was canceled leaves nothing.
//! * What is in use stays. A [`Lease`] is a shared lock while its holder lives and a record on disk when the holder
//!   was named, so that neither `prune` nor another process takes an environment from under a job, not even in the
//!   time between an agent's death and its next start.
//! * No credential is written or shown: indexes are keyed and described without their user and password, and every
//!   line a tool prints passes through [`redact`].
//!
//! # On disk
//!
//! ```text
//! <cache>/envs/<key>/ready.json   written last, synced; its absence means "half made"
//! <cache>/envs/<key>/building     there while it is built
//! <cache>/envs/<key>/inputs/      the files of the job that were read for the key, so that no build needs the job
//! <cache>/envs/<key>/venv/        built in place, because virtual environments cannot be moved
//! <cache>/envs/<key>/used         its time of modification is the last use
//! <cache>/leases/<key>/           one record per named holder
//! <cache>/locks/<key>             flock: exclusive to build and to remove, shared to use
//! <cache>/locks/uv-cache          flock: shared to run uv, exclusive to trim its cache
//! <cache>/tools/uv-<version>/     uv, when it had to be fetched
//! <cache>/uv/                     uv's own cache, unless the node has set one
//! ```
//!
//! # What it does not do
//!
//! It knows no job, no snapshot and no wire. It makes no conda environment and no image. It does not update an
//! environment: an unpinned requirement means what it meant on the day that its environment was built.

mod base;
mod build;
mod cache;
mod check;
mod config;
pub mod detect;
mod doctor;
mod entry;
mod environments;
mod error;
mod flight;
mod index;
mod inputs;
mod interpreter;
mod lease;
mod lock;
pub mod plan;
mod process;
mod project;
mod prune;
pub mod redact;
mod requirements;
mod uv;

pub use check::check;
pub use config::{EnvironmentsConfig, OpenError};
pub use detect::detect;
pub use doctor::Doctor;
pub use entry::EnvironmentInfo;
pub use environments::{Environments, Ready};
pub use error::{EnvironmentError, InterpreterError, RequirementsError, UvError};
pub use flight::SetupSink;
pub use interpreter::Interpreter;
pub use lease::{Lease, LeaseError};
pub use prune::{PruneError, PrunePolicy, Pruned, RemoveError, Removed};
pub use uv::{Uv, UvOrigin};
