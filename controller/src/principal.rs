//! Who makes a call. Found once for each call, before any service sees it; services read it from the request.

use haul_types::{NodeName, Role};
use tonic::{Request, Status};
use uuid::Uuid;

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// A process of the controller's own user, on its Unix socket: may do everything, for every node.
    Local,
    /// An enrolled node, by its certificate.
    Node {
        /// Its name.
        name: NodeName,
        /// Its identity: another one for each enrolment, so that a node that was revoked stays out when its name
        /// is enrolled again.
        id: Uuid,
    },
    /// A user, by a token.
    User {
        /// The token.
        token: Uuid,
        /// What the token is called; jobs are its.
        name: String,
        /// What it may do.
        role: Role,
        /// The only target that it may submit to.
        target: Option<String>,
    },
    /// Who has shown nothing.
    Anonymous,
}

impl Principal {
    /// Who makes this call. A request that did not come through the layer is nobody's.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or(Self::Anonymous)
    }

    /// Whether it may speak for `node`.
    pub(crate) fn speaks_for(&self, node: &NodeName) -> Result<(), Status> {
        match self {
            Self::Local => Ok(()),
            Self::Node { name, .. } if name == node => Ok(()),
            _ => Err(Status::permission_denied(format!(
                "this certificate does not speak for node {node}"
            ))),
        }
    }

    /// The name under which jobs are submitted; none for the controller's own user.
    pub(crate) fn owner(&self) -> Option<&str> {
        match self {
            Self::User { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether it may change a job that `owner` submitted.
    pub(crate) fn may_change(&self, owner: Option<&str>) -> Result<(), Status> {
        let allowed = match self {
            Self::Local => true,
            Self::User { name, role, .. } => role.covers(Role::Admin) || owner == Some(name),
            Self::Node { .. } | Self::Anonymous => false,
        };
        if allowed {
            return Ok(());
        }
        Err(Status::permission_denied(match owner {
            Some(owner) => format!("the job is {owner}'s: only {owner} or an admin may change it"),
            None => "the job is the operator's: only an admin may change it".to_owned(),
        }))
    }
}
