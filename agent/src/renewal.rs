//! Renewing the node's certificate, at half of its life, for as long as the agent runs.
//!
//! Each renewal brings the authorities to trust, too: so a rotation reaches every agent within half a certificate's
//! life. The controller goes by the certificate that a connection began with, so calls that begin after a renewal go over
//! a connection of their own; the session and what else is under way stay on the one that they began on.
//!
//! A certificate that expired while the machine slept is still shown: the controller lets it renew for a while. If it
//! does not any more, it says so, and the machine has to join again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use haul_client::Client;
use haul_identity::{Current, HostError, HostIdentity, HostKey, HostRecord, Validity, date};
use haul_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// How often the time is looked at. A timer would stand still while the machine sleeps.
const ROUND: Duration = Duration::from_secs(30);
/// The longest pause between two tries that fail; each is twice as long as the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Renewals are put off by up to this part of a certificate's life, each node's by a part of its own, so
/// that nodes that joined together do not stay together.
const JITTER: f64 = 0.1;

/// Who this node is, as it is kept and as TLS uses it.
#[derive(Debug)]
pub struct NodeIdentity {
    directory: PathBuf,
    record: HostRecord,
    current: Arc<Current<HostIdentity>>,
    /// From 0 to 1: how far this node puts renewals off.
    delay: f64,
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The controller refuses for good.
    #[error("{}", .0.message())]
    Refused(Box<tonic::Status>),
    /// The controller could not be reached, or has trouble of its own.
    #[error("the controller did not renew this node's certificate")]
    Unavailable(#[source] Box<tonic::Status>),
    /// What came cannot be used or kept.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The controller answered without what was asked for.
    #[error("the controller's answer has no certificate")]
    Empty,
    /// A task of ours died.
    #[error("an internal task failed")]
    Task(#[from] tokio::task::JoinError),
}

impl NodeIdentity {
    /// Reads what joining left in the agent's state directory. Blocks.
    pub fn open(state_dir: &std::path::Path) -> Result<Self, HostError> {
        let directory = crate::join::identity_dir(state_dir);
        let record = HostRecord::read(&directory)?;
        let identity = record.identity()?;
        // An id is random, which is all that putting off needs.
        let spread = identity.certificate().id.as_bytes()[15];
        Ok(Self {
            directory,
            current: Current::new(identity),
            record,
            delay: f64::from(spread) / 255.0,
        })
    }

    /// For [`haul_identity::agent_config`]: what each handshake shows and trusts.
    #[must_use]
    pub fn current(&self) -> Arc<Current<HostIdentity>> {
        Arc::clone(&self.current)
    }

    /// Where the controller is, best first.
    #[must_use]
    pub fn addresses(&self) -> &[haul_identity::Address] {
        self.record.addresses()
    }

    /// When the certificate wants renewing.
    fn due_at(&self) -> SystemTime {
        let Validity {
            not_before,
            not_after,
        } = self.current.get().certificate().validity;
        let life = not_after.duration_since(not_before).unwrap_or_default();
        not_before + life.mul_f64(0.5 + JITTER * self.delay)
    }

    /// Renews the certificate now: another key, and what the controller gives for it.
    pub async fn renew(&mut self, client: &Client) -> Result<(), RenewError> {
        let key = HostKey::generate().map_err(HostError::from)?;
        let request = v1::RenewRequest {
            request: key.request().map_err(HostError::from)?,
        };
        let answer = haul_proto::client::identity(client.calls())
            .renew(request)
            .await
            .map_err(|status| {
                let status = Box::new(status);
                match status.code() {
                    Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => {
                        RenewError::Refused(status)
                    }
                    _ => RenewError::Unavailable(status),
                }
            })?;
        let given = answer.into_inner().credentials.ok_or(RenewError::Empty)?;
        let record = HostRecord::new(self.addresses().to_vec(), &key, given.chain, given.authorities)?;
        let identity = record.identity()?;
        let (directory, kept) = (self.directory.clone(), record.clone());
        // Kept first: what is shown to the controller must be there after a crash as well.
        tokio::task::spawn_blocking(move || kept.write(&directory)).await??;
        tracing::info!(
            until = date(identity.certificate().validity.not_after),
            "renewed this node's certificate"
        );
        self.current.set(identity);
        client.leave_connection();
        self.record = record;
        Ok(())
    }

    /// Renews whenever it is time, until `shutdown`. A failure is told and tried again: what is in use holds for as long
    /// again as it has.
    pub async fn keep_renewed(mut self, client: Client, shutdown: CancellationToken) {
        let mut pause = ROUND;
        loop {
            let now = SystemTime::now();
            let validity = self.current.get().certificate().validity;
            if now >= self.due_at() {
                if validity.has_expired(now) {
                    tracing::warn!(
                        "this node's certificate is good {validity}, and the clock of this machine says {}: asking the \
                         controller whether it may still be renewed",
                        date(now)
                    );
                }
                pause = match self.renew(&client).await {
                    Ok(()) => ROUND,
                    Err(error) => {
                        // HTTP/2 loses why TLS ended, so what the controller thinks of the certificate is not known.
                        let advice = if validity.has_expired(now) {
                            "; it has expired: if the clocks are right and the controller can be reached, the node was                              away for too long: join again, with `haul-agent join` and a new token"
                        } else {
                            ""
                        };
                        tracing::error!(
                            "cannot renew this node's certificate: {}{advice}",
                            haul_daemon::with_causes(&error)
                        );
                        (pause * 2).min(LONGEST_PAUSE)
                    }
                };
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}
