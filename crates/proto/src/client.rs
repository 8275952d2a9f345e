//! Clients, made with Haul's limits.

use haul_types::AttemptId;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub use crate::v1::agent_service_client::AgentServiceClient;
pub use crate::v1::identity_service_client::IdentityServiceClient;
pub use crate::v1::job_service_client::JobServiceClient;
pub use crate::v1::node_service_client::NodeServiceClient;
pub use crate::v1::snapshot_service_client::SnapshotServiceClient;
use crate::{ATTEMPT_METADATA, MAX_MESSAGE_BYTES};

/// Who makes calls and for what: sent as metadata with each call.
#[derive(Clone, Default)]
pub struct Caller {
    authorization: Option<MetadataValue<Ascii>>,
    attempt: Option<MetadataValue<Ascii>>,
}

/// A channel whose calls say who makes them.
pub type Calls = InterceptedService<Channel, Caller>;

/// A token that no header can carry, and so none of ours.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the token holds characters that no token has")]
pub struct NotAToken;

impl Caller {
    /// With a user's token.
    pub fn with_token(mut self, token: &str) -> Result<Self, NotAToken> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| NotAToken)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// For an attempt: what an agent reads and sends on behalf of it.
    #[must_use]
    pub fn for_attempt(mut self, attempt: AttemptId) -> Self {
        self.attempt = attempt.to_string().parse().ok();
        self
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("has_token", &self.authorization.is_some())
            .field("attempt", &self.attempt)
            .finish()
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        if let Some(attempt) = &self.attempt {
            request.metadata_mut().insert(ATTEMPT_METADATA, attempt.clone());
        }
        Ok(request)
    }
}

/// A client of jobs.
#[must_use]
pub fn jobs(calls: Calls) -> JobServiceClient<Calls> {
    JobServiceClient::new(calls).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of snapshots.
#[must_use]
pub fn snapshots(calls: Calls) -> SnapshotServiceClient<Calls> {
    SnapshotServiceClient::new(calls).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of nodes.
#[must_use]
pub fn nodes(calls: Calls) -> NodeServiceClient<Calls> {
    NodeServiceClient::new(calls).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// An agent's client.
#[must_use]
pub fn agent(calls: Calls) -> AgentServiceClient<Calls> {
    AgentServiceClient::new(calls).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of identity.
#[must_use]
pub fn identity(calls: Calls) -> IdentityServiceClient<Calls> {
    IdentityServiceClient::new(calls).max_decoding_message_size(MAX_MESSAGE_BYTES)
}
