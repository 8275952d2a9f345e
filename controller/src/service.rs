//! The gRPC services, each a thin layer over the engine, the logs and the snapshots.

mod agents;
mod follow;
mod identity;
mod jobs;
mod named;
mod nodes;
mod reach;
pub(crate) mod session;
mod snapshots;
mod view;

use std::sync::Arc;

use haul_transport::http2;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity as Unchanged, Stack};

use crate::ControllerConfig;
use crate::authorize::Authorize;
use crate::callers::Callers;
use crate::engine::Engine;
use crate::identity::Identity;
use crate::snapshots::Snapshots;

/// All services, with their limits.
pub(crate) fn router(
    config: &ControllerConfig,
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    identity: Option<Arc<Identity>>,
    callers: Arc<Callers>,
    shutdown: &CancellationToken,
) -> Router<Stack<Authorize, Unchanged>> {
    let (engine, snapshots) = (Arc::clone(engine), Arc::clone(snapshots));
    http2::server(Server::builder())
        .layer(Authorize(callers))
        .add_service(haul_proto::server::jobs(jobs::Jobs {
            engine: Arc::clone(&engine),
            snapshots: Arc::clone(&snapshots),
            // A build that cannot be a header's value says nothing, and is then nobody's.
            build: config
                .build
                .parse()
                .unwrap_or_else(|_| MetadataValue::from_static("unknown")),
        }))
        .add_service(haul_proto::server::snapshots(snapshots::SnapshotCalls {
            engine: Arc::clone(&engine),
            snapshots: Arc::clone(&snapshots),
        }))
        .add_service(haul_proto::server::nodes(nodes::Nodes {
            engine: Arc::clone(&engine),
            state_dir: config.state_dir.clone(),
            private: config.private.is_some(),
            build: config.build.clone(),
            shutdown: shutdown.clone(),
        }))
        .add_service(haul_proto::server::identity(identity::IdentityCalls {
            engine: Arc::clone(&engine),
            identity,
        }))
        .add_service(haul_proto::server::agent(agents::Agents { engine, snapshots }))
}
