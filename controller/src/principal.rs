//! Who makes a call. A layer in front of the services finds it out and puts it among the request's extensions; the
//! services take it from there and never look at certificates or tokens.

use haul_types::{Digest, NodeId, NodeName, Role, TargetName};
use tonic::{Request, Status};

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// A process of the controller's own user, through the Unix socket.
    Local,
    /// An enrolled node, by a certificate that is valid.
    Node {
        /// Its name.
        name: NodeName,
        /// Its id.
        id: NodeId,
    },
    /// An enrolled node whose certificate expired a short while ago: it may renew it, and nothing else.
    ExpiredNode {
        /// Its name.
        name: NodeName,
        /// Its id.
        id: NodeId,
    },
    /// A user, by a token that is valid.
    User {
        /// The hash of the token's secret, as it is stored.
        hash: Digest,
        /// What the user is called.
        name: String,
        /// What the user may do.
        role: Role,
        /// The only target that the user may submit to; all when absent.
        target: Option<String>,
    },
    /// Nobody has said who calls.
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

    /// Whether it may submit a job that asks for `target`.
    pub(crate) fn may_submit_to(&self, target: Option<&TargetName>) -> Result<(), Status> {
        let Self::User {
            name,
            target: Some(only),
            ..
        } = self
        else {
            return Ok(());
        };
        if target.is_some_and(|target| target.as_str() == only) {
            return Ok(());
        }
        let asked = target.map_or_else(
            || "names no target".to_owned(),
            |target| format!("names target {target}"),
        );
        Err(Status::permission_denied(format!(
            "the token of {name} is for target {only} alone, and this job {asked}: submit it with `--target {only}`"
        )))
    }

    /// Whether it may change a job that `owner` submitted.
    pub(crate) fn may_change(&self, owner: Option<&str>) -> Result<(), Status> {
        let allowed = match self {
            Self::Local => true,
            Self::User { name, role, .. } => role.covers(Role::Admin) || owner == Some(name),
            Self::Node { .. } | Self::ExpiredNode { .. } | Self::Anonymous => false,
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
