//! The environments that nodes keep, and the controller itself.

use std::time::Duration;

use haul_proto::{client, v1};
use haul_types::ByteSize;

use crate::call::repeated;
use crate::{CallError, Client};

/// An environment that a node keeps.
#[derive(Clone, Debug)]
pub struct Environment {
    /// What it is known by, in hexadecimal.
    pub key: String,
    /// What kind.
    pub kind: String,
    /// What it was made from.
    pub description: String,
    /// Its size on disk.
    pub size: ByteSize,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it was last used, likewise.
    pub last_used_unix_ms: u64,
    /// Whether a job uses it now.
    pub in_use: bool,
    /// The node that keeps it.
    pub node: String,
}

/// What nodes keep to run jobs in.
#[derive(Clone, Debug, Default)]
pub struct Environments {
    /// The environments, the one used last first.
    pub environments: Vec<Environment>,
    /// The caches that more of them are built from.
    pub caches: Vec<EnvironmentCache>,
}

/// The cache of a node's builder.
#[derive(Clone, Debug)]
pub struct EnvironmentCache {
    /// The node that keeps it.
    pub node: String,
    /// Its size on disk, less that of files that an environment has too.
    pub size: ByteSize,
}

/// What removing environments came to.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Their keys.
    pub keys: Vec<String>,
    /// What that freed.
    pub freed: ByteSize,
    /// What was freed in the builders' caches.
    pub freed_in_caches: ByteSize,
}

/// What a controller says of itself.
#[derive(Clone, Debug)]
pub struct Controller {
    /// The version of its program.
    pub version: String,
    /// What tells one build from another.
    pub build: String,
    /// Its process.
    pub pid: u32,
    /// Where it keeps its state, on its machine.
    pub state_dir: String,
    /// Whether it is a user's private one.
    pub private: bool,
    /// How long it has run.
    pub uptime: Duration,
    /// Jobs that have not ended.
    pub active_jobs: u32,
}

impl Client {
    /// The environments that nodes keep, and the caches beside them.
    pub async fn environments(&self, node: Option<&str>) -> Result<Environments, CallError> {
        let request = v1::ListEnvironmentsRequest {
            node: node.unwrap_or_default().to_owned(),
        };
        let call = async || {
            client::nodes(self.calls())
                .list_environments(request.clone())
                .await
        };
        let answer = repeated(call).await?.into_inner();
        let caches = answer
            .caches
            .into_iter()
            .map(|cache| EnvironmentCache {
                node: cache.node,
                size: ByteSize(cache.bytes),
            })
            .collect();
        let environments = answer
            .environments
            .into_iter()
            .map(|environment| Environment {
                key: environment.key,
                kind: environment.kind,
                description: environment.description,
                size: ByteSize(environment.bytes),
                created_unix_ms: environment.created_unix_ms,
                last_used_unix_ms: environment.last_used_unix_ms,
                in_use: environment.in_use,
                node: environment.node,
            })
            .collect();
        Ok(Environments { environments, caches })
    }

    /// Removes the environment of this key, or of this unique prefix of one.
    pub async fn remove_environment(&self, key: &str) -> Result<Removed, CallError> {
        let request = v1::RemoveEnvironmentRequest {
            key: key.to_owned(),
            node: String::new(),
        };
        let call = async || {
            client::nodes(self.calls())
                .remove_environment(request.clone())
                .await
        };
        let answer = repeated(call).await?.into_inner();
        Ok(Removed {
            keys: answer.removed,
            freed: ByteSize(answer.bytes),
            freed_in_caches: ByteSize(0),
        })
    }

    /// Removes environments that no job uses, after what their builder keeps for others: those unused for so long, until what is left is at most `keep`.
    pub async fn prune_environments(
        &self,
        unused_for: Duration,
        keep: Option<ByteSize>,
    ) -> Result<Removed, CallError> {
        let request = v1::PruneEnvironmentsRequest {
            unused_for_ms: u64::try_from(unused_for.as_millis()).unwrap_or(u64::MAX),
            keep_bytes: keep.map_or(0, |size| size.0),
            node: String::new(),
        };
        let call = async || {
            client::nodes(self.calls())
                .prune_environments(request.clone())
                .await
        };
        let answer = repeated(call).await?.into_inner();
        Ok(Removed {
            keys: answer.removed,
            freed: ByteSize(answer.bytes),
            freed_in_caches: ByteSize(answer.cache_bytes),
        })
    }

    /// What the controller is and how it does.
    pub async fn controller(&self) -> Result<Controller, CallError> {
        let call = async || {
            client::nodes(self.calls())
                .get_controller(v1::GetControllerRequest {})
                .await
        };
        let answer = repeated(call).await?.into_inner();
        Ok(Controller {
            version: answer.version,
            build: answer.build,
            pid: answer.pid,
            state_dir: answer.state_dir,
            private: answer.private,
            uptime: Duration::from_millis(answer.uptime_ms),
            active_jobs: answer.active_jobs,
        })
    }

    /// Asks a private controller to end. Not repeated: the next connection might be to its successor.
    pub async fn stop_controller(&self) -> Result<(), CallError> {
        client::nodes(self.calls())
            .stop_controller(v1::StopControllerRequest {})
            .await?;
        Ok(())
    }
}
