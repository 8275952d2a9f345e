//! What a submission can do.

use haul_types::{Digest, JobId, JobRecord, NodeName, NodeRecord, TargetName, TargetRecord, TaskRecord};

use super::identity::IdentityOp;

/// One change. What each does when it is applied a second time is said there: a caller that does not know whether a
/// commit took place can submit it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds a job; refused if there is one of that id.
    InsertJob(JobRecord),
    /// Adds a task's row or replaces it; refused if its job is unknown.
    PutTask(TaskRecord),
    /// Sets what changes of a job (its state, its counts, its end, the wish that it stop, that it is given up); refused if it is unknown.
    PutJob(JobRecord),
    /// Removes a job and its tasks; nothing if it is unknown. Of many tasks, the rows are deleted after the commit, a batch
    /// at a time, and until then what they name stays among the live snapshots.
    RemoveJob(JobId),
    /// Adds a node or replaces it.
    PutNode(NodeRecord),
    /// Removes a node; nothing if it is unknown.
    RemoveNode(NodeName),
    /// Adds a target or replaces it.
    PutTarget(TargetRecord),
    /// Removes a target; nothing if it is unknown.
    RemoveTarget(TargetName),
    /// Keeps a snapshot alive until a time, whether or not a job names it: between its upload and the submission.
    /// Replaces an earlier time.
    PutSnapshotRef {
        /// The snapshot.
        root: Digest,
        /// Until when, in milliseconds since 1970.
        until_unix_ms: u64,
    },
    /// Removes the references that ran out before a time.
    RemoveSnapshotRefs {
        /// In milliseconds since 1970.
        before_unix_ms: u64,
    },
    /// Changes tokens and enrolled nodes.
    Identity(IdentityOp),
}
