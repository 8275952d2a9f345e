//! What the controller keeps on its own disk: metadata of jobs in SQLite, chunks of snapshots in packs.
//!
//! Two stores that know nothing of each other, each in a directory of its own that it locks:
//!
//! - [`Metadata`]: jobs and the tasks that have left the queue. One writer thread commits in groups; readers see the
//!   last commit. A submission's callback is called when its rows are on the disk, not before.
//! - [`Packs`]: chunks by content. Uploaded frames are kept exactly as they came, one after the other, in pack files;
//!   an index says which chunk lies where.
//!
//! Everything here blocks. An asynchronous caller uses a blocking thread for reads and a oneshot in the callback of
//! [`Metadata::commit`] for writes. SQLite's types do not leave this crate, and no other crate knows it.

mod database;
mod lock;
pub mod metadata;
pub mod packs;

pub use database::{DatabaseError, OpenError};
pub use metadata::{
    ActiveJob, CertificateRow, CommitError, EnrolledNode, IdentityOp, IdentityRefusal, JobCursor, JobFilter,
    JobSummary, Metadata, Op, ReadError, TaskFilter, TokenRecord, TokenUse,
};
pub use packs::{
    AppendError, CheckReport, CollectError, CollectStats, Extras, FinishError, LoadError, PackStats,
    PackWriter, Packs, Usage, VerifiedFrame,
};
