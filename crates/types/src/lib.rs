//! The words every part of Haul shares: ids, job specifications, states, sizes and durations.
//!
//! Plain data with parsing and printing, no I/O, no async runtime and no generated code. The JSON that `haul --json`
//! prints and the rows that the controller stores are the serde forms of these types, so a change of a name here
//! is a change of a public format.

pub mod digest;
pub mod id;
pub mod node;
pub mod quantity;
pub mod record;
pub mod resources;
pub mod role;
pub mod scheduling;
pub mod spec;
pub mod state;
pub mod stream;

pub use digest::Digest;
pub use id::{
    Attempt, AttemptId, JobId, NodeId, NodeName, NotAnAttemptId, TargetName, TaskId, TaskIndex, TokenId,
};
pub use node::{
    Admission, Enforcement, Gpu, Inventory, Labels, NodeRecord, NodeState, Placement, TargetRecord,
};
pub use quantity::{ByteSize, deserialize_duration, deserialize_size, parse_duration};
pub use record::{JobRecord, TaskCounts, TaskRecord};
pub use resources::{Cpus, Resources};
pub use role::Role;
pub use scheduling::{Loss, OnDisconnect, Priority, RetryOn, RetryPolicy, Scheduling};
pub use spec::{ArraySpec, EnvironmentSpec, JobSpec, Requirements};
pub use state::{ExitStatus, Reason, TaskState, Transition};
pub use stream::{StreamKey, StreamKind};
