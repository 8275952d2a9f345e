//! Who may make which call: one table, and the layer in front of every service that holds callers to it.
//!
//! ```text
//!   connection, metadata ──► Callers::principal ──► rule(rpc).admits(principal) ──► service
//!                                                          │ no
//!                                                          └──► UNAUTHENTICATED or PERMISSION_DENIED
//! ```
//!
//! What is under way ends when its caller is revoked ([`Revocable`]): the answer, and a request that is a stream.
//!
//! Invariant: [`rule`] is a `match` over every call of the contract, so a call without a line does not compile, and a
//! path that is no call is refused. What a caller may do *with* a call (an agent to its own attempts, a user to its own
//! jobs) is for the services, which find the [`Principal`] in the request.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use haul_proto::Rpc;
use haul_types::Role;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use crate::callers::Callers;
use crate::principal::Principal;
use crate::revocable::Revocable;

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Whoever is there: the call itself asks for a secret.
    Anybody,
    /// Enrolled nodes, also shortly after their certificate's end.
    Renewal,
    /// Users of this role or one above it.
    User(Role),
    /// Enrolled nodes.
    Node,
    /// Enrolled nodes, for what belongs to their own attempts, and users of this role or one above it.
    NodeOrUser(Role),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("nothing"),
            Self::Renewal => f.write_str("node, also shortly after its certificate's end"),
            Self::User(role) => write!(f, "{role}"),
            Self::Node => f.write_str("node"),
            Self::NodeOrUser(role) => write!(f, "{role}, or a node for its own attempts"),
        }
    }
}

/// The table.
pub(crate) const fn rule(rpc: Rpc) -> Rule {
    use Role::{Admin, Submitter, Viewer};
    use Rule::{Anybody, Node, NodeOrUser, Renewal, User};
    match rpc {
        Rpc::IdentityJoin => Anybody,
        Rpc::IdentityRenew => Renewal,
        Rpc::IdentityGetCaller => NodeOrUser(Viewer),
        Rpc::IdentityGetAuthorities => User(Viewer),
        Rpc::IdentityCreateToken
        | Rpc::IdentityListTokens
        | Rpc::IdentityRevokeToken
        | Rpc::IdentityRotateAuthority
        | Rpc::IdentityRevokeNode => User(Admin),
        Rpc::JobSubmitJob | Rpc::JobCancelJob | Rpc::JobRemoveJob => User(Submitter),
        Rpc::JobGetJob | Rpc::JobListJobs | Rpc::JobListTasks | Rpc::JobFollowJob | Rpc::JobReadLog => {
            User(Viewer)
        }
        Rpc::SnapshotFindMissing | Rpc::SnapshotUpload => NodeOrUser(Submitter),
        Rpc::SnapshotFetch => NodeOrUser(Viewer),
        Rpc::NodeListNodes | Rpc::NodeListTargets | Rpc::NodeListEnvironments | Rpc::NodeGetController => {
            User(Viewer)
        }
        Rpc::NodeAdmitNode
        | Rpc::NodeRemoveNode
        | Rpc::NodeCreateTarget
        | Rpc::NodeRemoveTarget
        | Rpc::NodeRemoveEnvironment
        | Rpc::NodePruneEnvironments
        | Rpc::NodeStopController => User(Admin),
        Rpc::AgentSession | Rpc::AgentShipLogs => Node,
    }
}

impl Rule {
    /// Whether `principal` may make the call.
    pub(crate) fn admits(self, principal: &Principal) -> Result<(), Status> {
        let admitted = match (self, principal) {
            (Self::Anybody, _)
            | (_, Principal::Local)
            | (Self::Node | Self::NodeOrUser(_) | Self::Renewal, Principal::Node { .. })
            | (Self::Renewal, Principal::ExpiredNode { .. }) => true,
            (Self::User(needed) | Self::NodeOrUser(needed), Principal::User { role, .. }) => {
                role.covers(needed)
            }
            (Self::User(_), Principal::Node { .. })
            | (Self::Node | Self::Renewal, Principal::User { .. }) => false,
            (_, Principal::ExpiredNode { name, .. }) => {
                return Err(Status::unauthenticated(format!(
                    "the certificate of node {name} has expired: its agent renews it first"
                )));
            }
            (_, Principal::Anonymous) => {
                return Err(Status::unauthenticated(
                    "this call needs a token: `haul login TOKEN` stores the one that an admin gave you",
                ));
            }
        };
        if admitted {
            return Ok(());
        }
        let who = match principal {
            Principal::User { name, role, .. } => format!("{name} is a {role}"),
            Principal::Node { name, .. } => format!("{name} is a node"),
            Principal::Local | Principal::ExpiredNode { .. } | Principal::Anonymous => {
                "the caller is unknown".to_owned()
            }
        };
        Err(Status::permission_denied(format!(
            "{who}, and this call needs: {self}"
        )))
    }
}

/// Puts the table in front of services.
#[derive(Clone)]
pub(crate) struct Authorize(pub(crate) Arc<Callers>);

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;

    fn layer(&self, service: S) -> Authorized<S> {
        Authorized {
            callers: Arc::clone(&self.0),
            service,
        }
    }
}

/// Services behind the table.
#[derive(Clone)]
pub(crate) struct Authorized<S> {
    callers: Arc<Callers>,
    service: S,
}

/// The answer of a service, or a refusal at once.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Authorized<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let revocations = self.callers.hear();
        let admitted = match Rpc::at(request.uri().path()) {
            Some(rpc) => self
                .callers
                .principal(&request)
                .and_then(|principal| rule(rpc).admits(&principal).map(|()| (rpc, principal))),
            None => Err(Status::unimplemented(format!(
                "{} is no call of this controller: it is of another version",
                request.uri().path()
            ))),
        };
        match admitted {
            Ok((rpc, principal)) => {
                // The controller's own user is nobody's to revoke, and a caller with nothing has nothing to lose.
                let revocation = match principal {
                    Principal::Local | Principal::Anonymous => None,
                    _ => {
                        let revocation = || self.callers.revocation(principal.clone(), revocations.clone());
                        if rpc.sends_stream() {
                            let revocation = revocation();
                            request = request.map(|body| Body::new(Revocable::request(body, revocation)));
                        }
                        Some(revocation())
                    }
                };
                request.extensions_mut().insert(principal);
                let answer = self.service.call(request);
                Box::pin(async move {
                    let answer = answer.await?;
                    Ok(match revocation {
                        Some(revocation) => answer.map(|body| Body::new(Revocable::answer(body, revocation))),
                        None => answer,
                    })
                })
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests;
