//! From a connection and a call's metadata to a [`Principal`].
//!
//! What is stored is looked at for each call: a token or a node that is revoked is worth nothing from the next call on.
//! Calls that are under way end too: each waits for [`Callers::revocation`], beside what it does.

use std::sync::Arc;
use std::time::SystemTime;

use haul_identity::{NodeCertificate, Secret};
use haul_store::Metadata;
use haul_types::{Digest, NodeId, NodeName};
use tokio::sync::watch;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Request, header};

use crate::engine::now_unix_ms;
use crate::listen::Peer;
use crate::principal::Principal;
use crate::status::IntoStatus;

/// Knows who calls.
pub(crate) struct Callers {
    metadata: Metadata,
    /// Grows with each revocation.
    revocations: watch::Sender<u64>,
}

/// Revocations since somebody began to listen.
#[derive(Clone)]
pub(crate) struct Revocations(watch::Receiver<u64>);

impl Callers {
    pub(crate) fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            revocations: watch::Sender::new(0),
        }
    }

    /// Something was revoked, and that is stored.
    pub(crate) fn on_revoked(&self) {
        self.revocations.send_modify(|version| *version += 1);
    }

    /// Hears of revocations from now on. Whoever is about to ask who calls begins with this, so that no revocation falls
    /// between the two.
    pub(crate) fn hear(&self) -> Revocations {
        Revocations(self.revocations.subscribe())
    }

    /// Waits until `principal` is worth nothing any more, and says so.
    pub(crate) fn revocation(
        self: &Arc<Self>,
        principal: Principal,
        Revocations(mut revocations): Revocations,
    ) -> impl Future<Output = Status> + Send + use<> {
        let callers = Arc::clone(self);
        async move {
            loop {
                if revocations.changed().await.is_err() {
                    return std::future::pending().await;
                }
                if let Err(status) = callers.standing(&principal) {
                    return status;
                }
            }
        }
    }

    /// Whether somebody who was let in would be let in again.
    fn standing(&self, principal: &Principal) -> Result<(), Status> {
        match principal {
            Principal::Local | Principal::Anonymous => Ok(()),
            Principal::Node { name, id } | Principal::ExpiredNode { name, id } => self.enrolment(name, *id),
            Principal::User { hash, .. } => self.user(hash).map(drop),
        }
    }

    /// Who makes this call.
    pub(crate) fn principal<B>(&self, request: &Request<B>) -> Result<Principal, Status> {
        // Who is on the Unix socket was let in as the controller's own user: see `listen`.
        let certificates = match request.extensions().get::<Peer>() {
            Some(Peer::Local { .. }) => return Ok(Principal::Local),
            Some(Peer::Remote(peer)) => &*peer.certificates,
            None => &[],
        };
        if let Some(certificate) = certificates.first() {
            return self.node(certificate);
        }
        match bearer(request.headers())? {
            Some(secret) => self.user(&secret.hash()),
            None => Ok(Principal::Anonymous),
        }
    }

    /// The node of a certificate that TLS has found to be ours.
    pub(crate) fn node(&self, der: &[u8]) -> Result<Principal, Status> {
        let certificate = NodeCertificate::read(der)
            .map_err(|error| Status::unauthenticated(format!("the certificate is no node's: {error}")))?;
        let (name, id) = (certificate.name, certificate.id);
        self.enrolment(&name, id)?;
        if certificate.validity.has_expired(SystemTime::now()) {
            return Ok(Principal::ExpiredNode { name, id });
        }
        Ok(Principal::Node { name, id })
    }

    /// Whether a node is enrolled, and was not shut out since.
    fn enrolment(&self, name: &NodeName, id: NodeId) -> Result<(), Status> {
        let node = self.metadata.enrolled_node(id).map_err(IntoStatus::into_status)?;
        if node.is_some_and(|node| node.revoked_unix_ms.is_none()) {
            Ok(())
        } else {
            Err(revoked(name, id))
        }
    }

    /// The user of the token whose secret has this hash.
    pub(crate) fn user(&self, hash: &Digest) -> Result<Principal, Status> {
        let token = self
            .metadata
            .token(hash)
            .map_err(IntoStatus::into_status)?
            .ok_or_else(|| Status::unauthenticated("this token is not known here"))?;
        token
            .standing(now_unix_ms())
            .map_err(|refusal| Status::unauthenticated(format!("{refusal}: ask an admin for another one")))?;
        Ok(Principal::User {
            hash: token.hash,
            name: token.name,
            role: token.role,
            target: token.target,
        })
    }
}

/// What is said to a node that was shut out.
pub(crate) fn revoked(name: &NodeName, id: NodeId) -> Status {
    Status::permission_denied(format!(
        "node {name} ({id}) was revoked here: an admin can let this machine in again by a new token (haul token create \
         --role agent), with `haul-agent join`"
    ))
}

/// The secret that a call shows, if it shows any.
fn bearer(headers: &HeaderMap) -> Result<Option<Secret>, Status> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let malformed = || Status::unauthenticated("authorization: expected `Bearer` and a token's secret");
    value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer "))
        .ok_or_else(malformed)?
        .parse()
        .map(Some)
        .map_err(|_| malformed())
}
