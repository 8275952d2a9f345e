//! Who is who, as the controller keeps it: its authority, the tokens and the enrolled nodes.
//!
//! ```text
//!   Join, CreateToken, Revoke… ──► store (one writer: the compare-and-swap) ──► callers: end what is under way
//! ```
//!
//! Who calls, and what a role may do, is for the layer in front of the services: it looks into the store for each call.

mod config;
mod error;
mod init;
mod tokens;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use haul_identity::{
    Authorities, AuthorityInfo, Bundle, Current, NodeCredentials, Phase, ServerIdentity, Step,
    VerifiedRequest,
};
use haul_store::{CertificateRow, EnrolledNode, IdentityOp, IdentityRefusal, Metadata, Op, TokenRecord};
use haul_types::{Digest, NodeId, NodeName};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::IdentityConfig;
pub(crate) use error::IdentityError;
pub use init::{InitError, init};
pub(crate) use tokens::{Life, TokenOrder};

use crate::callers::Callers;
use crate::engine::lock;

/// How often the time is looked at, to see whether the controller's certificate wants renewing. A timer would stand
/// still while the machine sleeps.
const ROUND: Duration = Duration::from_secs(60);
/// Tokens that have been worth nothing for so long are forgotten.
const KEEP_TOKENS: Duration = Duration::from_secs(30 * 24 * 3600);

/// Authority, tokens and nodes of one controller.
pub(crate) struct Identity {
    config: IdentityConfig,
    metadata: Metadata,
    authorities: Mutex<Authorities>,
    server: Arc<Current<ServerIdentity>>,
    callers: Arc<Callers>,
}

/// What a machine says of itself when it joins.
pub(crate) struct JoinOrder {
    pub(crate) token: Digest,
    pub(crate) request: VerifiedRequest,
    pub(crate) name: NodeName,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
}

/// What a node is given, with whom to trust.
pub(crate) struct Granted {
    pub(crate) credentials: NodeCredentials,
    pub(crate) bundle: Bundle,
    /// When it has just joined: the target that its token puts it into.
    pub(crate) target: Option<String>,
    /// Whether it has just taken the place of another machine, which is shut out.
    pub(crate) replaced: bool,
}

/// Where a rotation of the authority stands.
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    pub(crate) authorities: Vec<AuthorityInfo>,
    pub(crate) bundle: Bundle,
}

impl Identity {
    /// Opens the authority. Blocks.
    pub(crate) fn open(
        config: IdentityConfig,
        metadata: Metadata,
        callers: Arc<Callers>,
    ) -> Result<Arc<Self>, IdentityError> {
        let authorities = Authorities::open(&config.directory)?;
        let server = server_identity(&authorities, &config, SystemTime::now())?;
        Ok(Arc::new(Self {
            config,
            metadata,
            authorities: Mutex::new(authorities),
            server: Current::new(server),
            callers,
        }))
    }

    /// What TLS connections are served with; renewed and rotated in place.
    pub(crate) fn server(&self) -> Arc<Current<ServerIdentity>> {
        Arc::clone(&self.server)
    }

    /// Renews the controller's own certificate at half life, and forgets old tokens, until `shutdown`.
    pub(crate) fn keep_fresh(self: &Arc<Self>, tasks: &TaskTracker, shutdown: CancellationToken) {
        let identity = Arc::clone(self);
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(ROUND) => {}
                    () = shutdown.cancelled() => return,
                }
                if let Err(error) = identity.renew_own(SystemTime::now()) {
                    tracing::error!(%error, "cannot renew the controller's own certificate");
                }
                if let Err(error) = identity.forget_old_tokens(SystemTime::now()).await {
                    tracing::warn!(%error, "cannot forget old tokens");
                }
            }
        });
    }

    /// Makes another certificate for the controller if half of its own one's life is over.
    fn renew_own(&self, now: SystemTime) -> Result<(), IdentityError> {
        if self.server.get().validity().is_renewal_due(now) {
            let authorities = lock(&self.authorities);
            self.server.set(server_identity(&authorities, &self.config, now)?);
            tracing::info!("renewed the controller's own certificate");
        }
        Ok(())
    }

    async fn forget_old_tokens(&self, now: SystemTime) -> Result<(), IdentityError> {
        let before_unix_ms = unix_ms(now - KEEP_TOKENS);
        let ended = |token: &TokenRecord| {
            let used_unix_ms = token.used.map(|used| used.at_unix_ms);
            let ends = [token.expires_unix_ms, token.revoked_unix_ms, used_unix_ms];
            ends.into_iter().flatten().any(|at| at < before_unix_ms)
        };
        if self.metadata.tokens()?.iter().any(ended) {
            self.apply(IdentityOp::RemoveTokens { before_unix_ms }).await?;
        }
        Ok(())
    }

    /// Enrols a machine by its token. The token and the node are on the disk when this returns, and all three or none:
    /// a machine that did not hear the answer may ask again with the same key.
    pub(crate) async fn join(&self, order: JoinOrder, now: SystemTime) -> Result<Granted, IdentityError> {
        let key = order.request.key_digest();
        let known = self
            .metadata
            .token(&order.token)?
            .ok_or(IdentityRefusal::UnknownToken)?;
        // Said again, it takes nobody's place: the machine that it would drive out is itself.
        let replaced = known.replaces.is_some() && known.used.is_none();
        let (target, mut labels) = (known.target, known.labels);
        // What the token's maker said counts more than what the machine says.
        for (label, value) in order.labels {
            labels.entry(label).or_insert(value);
        }
        let node = EnrolledNode {
            id: NodeId::random(),
            name: order.name.clone(),
            target: target.clone(),
            labels,
            key,
            enrolled_unix_ms: unix_ms(now),
            revoked_unix_ms: None,
            certificate: None,
        };
        let token = order.token;
        self.apply(IdentityOp::Enrol { token, node }).await?;
        if replaced {
            self.callers.on_revoked();
        }
        // Its own id, or the one of an earlier time that this machine said the same.
        let used = self.metadata.token(&token)?.and_then(|token| token.used);
        let id = used.ok_or(IdentityRefusal::UnknownToken)?.by;
        tracing::info!(node = %order.name, %id, "a node joined");
        let granted = self.grant(&order.request, &order.name, id, now).await?;
        Ok(Granted {
            target,
            replaced,
            ..granted
        })
    }

    /// Another certificate for a node, which has proved who it is.
    pub(crate) async fn renew(
        &self,
        name: &NodeName,
        id: NodeId,
        request: &VerifiedRequest,
        now: SystemTime,
    ) -> Result<Granted, IdentityError> {
        self.grant(request, name, id, now).await
    }

    async fn grant(
        &self,
        request: &VerifiedRequest,
        name: &NodeName,
        id: NodeId,
        now: SystemTime,
    ) -> Result<Granted, IdentityError> {
        let granted = {
            let authorities = lock(&self.authorities);
            Granted {
                credentials: authorities.issue_node(request, name, id, self.config.certificate_life, now)?,
                bundle: authorities.bundle(),
                target: None,
                replaced: false,
            }
        };
        let certificate = CertificateRow {
            serial: granted.credentials.certificate.serial.clone(),
            expires_unix_ms: unix_ms(granted.credentials.certificate.validity.not_after),
        };
        // It is noted before it is given: a node that was revoked meanwhile gets none.
        self.apply(IdentityOp::PutCertificate {
            node: id,
            certificate,
        })
        .await
        .map_err(|error| match error {
            IdentityError::Refused(IdentityRefusal::UnknownNode(_)) => IdentityError::Revoked(name.clone()),
            other => other,
        })?;
        Ok(granted)
    }

    /// Shuts the node of this name out; the id that it had.
    pub(crate) async fn revoke_node(
        &self,
        name: &NodeName,
        now: SystemTime,
    ) -> Result<NodeId, IdentityError> {
        let mut nodes = self.metadata.enrolled_nodes()?.into_iter();
        let enrolled = nodes.find(|node| node.name == *name && node.revoked_unix_ms.is_none());
        let id = enrolled
            .ok_or_else(|| IdentityRefusal::UnknownNode(name.to_string()))?
            .id;
        let op = IdentityOp::RevokeNode {
            name: name.clone(),
            at_unix_ms: unix_ms(now),
        };
        self.apply(op).await?;
        self.callers.on_revoked();
        tracing::info!(node = %name, %id, "a node was revoked");
        Ok(id)
    }

    /// Where a rotation stands.
    pub(crate) fn authorities(&self) -> Standing {
        standing(&lock(&self.authorities))
    }

    /// Takes a step of a rotation, which holds from the next handshake on. Blocks.
    pub(crate) fn rotate(&self, step: Step, force: bool, now: SystemTime) -> Result<Standing, IdentityError> {
        let mut authorities = lock(&self.authorities);
        // A node may renew up to the end of the grace with what it has.
        let life = self.config.certificate_life + self.config.renew_expired_for;
        authorities.step(step, force, life, now)?;
        self.server.set(server_identity(&authorities, &self.config, now)?);
        tracing::info!(%step, phase = ?authorities.phase(), "the authority was rotated");
        Ok(standing(&authorities))
    }

    /// Stores a change.
    async fn apply(&self, op: IdentityOp) -> Result<(), IdentityError> {
        let (told, outcome) = oneshot::channel();
        self.metadata
            .commit(vec![Op::Identity(op)], move |outcome| drop(told.send(outcome)));
        Ok(outcome.await.unwrap_or(Err(haul_store::CommitError::Closed))?)
    }

    /// Every token, newest first.
    pub(crate) fn tokens(&self) -> Result<Vec<TokenRecord>, IdentityError> {
        Ok(self.metadata.tokens()?)
    }

    /// The name of a node that is or was enrolled.
    pub(crate) fn node_name(&self, id: NodeId) -> Result<Option<NodeName>, IdentityError> {
        Ok(self.metadata.enrolled_node(id)?.map(|node| node.name))
    }
}

fn standing(authorities: &Authorities) -> Standing {
    Standing {
        phase: authorities.phase(),
        authorities: authorities.list(),
        bundle: authorities.bundle(),
    }
}

fn server_identity(
    authorities: &Authorities,
    config: &IdentityConfig,
    now: SystemTime,
) -> Result<ServerIdentity, IdentityError> {
    let hosts: Vec<_> = config
        .addresses
        .iter()
        .map(|address| address.host().clone())
        .collect();
    let credentials = authorities.issue_server(&hosts, config.certificate_life, now)?;
    Ok(ServerIdentity::new(
        &credentials,
        &authorities.bundle(),
        config.renew_expired_for,
    )?)
}

/// Milliseconds since 1970, as rows and messages have it.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
