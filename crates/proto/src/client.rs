//! Clients, made with Haul's limits.

use tonic::transport::Channel;

use crate::MAX_MESSAGE_BYTES;
pub use crate::v1::agent_service_client::AgentServiceClient;
pub use crate::v1::job_service_client::JobServiceClient;
pub use crate::v1::node_service_client::NodeServiceClient;
pub use crate::v1::snapshot_service_client::SnapshotServiceClient;

/// A client of jobs.
#[must_use]
pub fn jobs(channel: Channel) -> JobServiceClient<Channel> {
    JobServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of snapshots.
#[must_use]
pub fn snapshots(channel: Channel) -> SnapshotServiceClient<Channel> {
    SnapshotServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of nodes.
#[must_use]
pub fn nodes(channel: Channel) -> NodeServiceClient<Channel> {
    NodeServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// An agent's client.
#[must_use]
pub fn agent(channel: Channel) -> AgentServiceClient<Channel> {
    AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}
