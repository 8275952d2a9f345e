//! Joining a controller, once: by a token, which becomes a certificate for a key that stays here.
//!
//! ```text
//!   key made and kept ──► Join(secret, request) ──► what came is checked ──► key, certificate, authorities kept
//!                                  │ the answer is lost: the same again, with the same key
//! ```
//!
//! The connection is the caller's, and has proved by the token's pin where it leads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use haul_client::Client;
use haul_identity::{HostError, HostRecord, NodeCertificate, Token, joining_key};
use haul_proto::v1;
use haul_types::{NodeName, Role};

/// What a machine says to join.
#[derive(Clone, Debug)]
pub struct JoinOrder {
    /// The token that it was given.
    pub token: Token,
    /// The name that the node is to have.
    pub node: NodeName,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// The agent's state directory.
    pub state_dir: PathBuf,
}

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is a user's.
    #[error(
        "this token is a user's, with the role {0}: `haul login` takes it; a machine joins by a token made with \
         `haul token create --role agent`"
    )]
    UserToken(Role),
    /// What a machine keeps cannot be read or kept here, or what the controller gave cannot be used.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The controller refused, and says why; or it could not be reached.
    #[error("{}", .0.message())]
    Controller(Box<tonic::Status>),
    /// The controller answered without what was asked for.
    #[error("the controller's answer has no certificate")]
    Empty,
    /// A task of ours died.
    #[error("an internal task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Where an agent keeps who it is, within its state directory.
#[must_use]
pub fn identity_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

/// Joins over the connection of `client`, and keeps what it becomes. After an error it may be tried again with the same token: if the
/// token was used up by this machine, the controller knows it again.
pub async fn join(order: JoinOrder, client: &Client) -> Result<NodeCertificate, JoinError> {
    if order.token.role() != Role::Agent {
        return Err(JoinError::UserToken(order.token.role()));
    }
    let directory = identity_dir(&order.state_dir);
    let token = order.token.secret().id();
    let place = directory.clone();
    let key = tokio::task::spawn_blocking(move || joining_key(&place, token)).await??;
    let request = v1::JoinRequest {
        secret: order.token.secret().reveal(),
        request: key.request().map_err(HostError::from)?,
        node: order.node.into(),
        labels: order.labels.into_iter().collect(),
    };
    let answer = haul_proto::client::identity(client.calls())
        .join(request)
        .await
        .map_err(|status| JoinError::Controller(Box::new(status)))?;
    let given = answer.into_inner().credentials.ok_or(JoinError::Empty)?;
    let addresses = order.token.addresses().to_vec();
    let record = HostRecord::new(addresses, &key, given.chain, given.authorities)?;
    if !record.trusts(order.token.pin()) {
        return Err(HostError::OtherAuthority(order.token.pin()).into());
    }
    let certificate = record.identity()?.certificate().clone();
    tokio::task::spawn_blocking(move || record.write(&directory)).await??;
    Ok(certificate)
}
