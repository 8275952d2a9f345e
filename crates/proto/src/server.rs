//! Servers, made with Haul's limits.

use crate::MAX_MESSAGE_BYTES;
pub use crate::v1::agent_service_server::{AgentService, AgentServiceServer};
pub use crate::v1::identity_service_server::{IdentityService, IdentityServiceServer};
pub use crate::v1::job_service_server::{JobService, JobServiceServer};
pub use crate::v1::node_service_server::{NodeService, NodeServiceServer};
pub use crate::v1::snapshot_service_server::{SnapshotService, SnapshotServiceServer};

/// Serves jobs.
pub fn jobs<S: JobService>(service: S) -> JobServiceServer<S> {
    JobServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Serves snapshots.
pub fn snapshots<S: SnapshotService>(service: S) -> SnapshotServiceServer<S> {
    SnapshotServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Serves nodes.
pub fn nodes<S: NodeService>(service: S) -> NodeServiceServer<S> {
    NodeServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Serves agents.
pub fn agent<S: AgentService>(service: S) -> AgentServiceServer<S> {
    AgentServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Serves identity.
pub fn identity<S: IdentityService>(service: S) -> IdentityServiceServer<S> {
    IdentityServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
}
