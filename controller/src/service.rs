//! The gRPC services, each a thin layer over the engine, the logs and the snapshots.

mod agents;
mod follow;
mod identity;
mod jobs;
mod nodes;
mod reach;
pub(crate) mod session;
mod snapshots;
mod view;

use std::sync::Arc;
use std::time::Duration;

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

/// Bytes that a peer may send on one stream, and on all streams of one connection, before we have read them: enough
/// to keep a fast log or a snapshot flowing.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest HTTP/2 frame; fewer, larger ones cost less.
const FRAME_BYTES: u32 = 1 << 20;
/// Calls that one connection may have under way.
const MAX_STREAMS: u32 = 64;
/// The longest list of headers, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// A peer that does not answer a ping within so long is gone.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

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
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(PING.0))
        .http2_keepalive_timeout(Some(PING.1))
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
            snapshots,
        }))
        .add_service(haul_proto::server::nodes(nodes::Nodes {
            engine: Arc::clone(&engine),
            state_dir: config.state_dir.clone(),
            private: config.private.is_some(),
            build: config.build.clone(),
            shutdown: shutdown.clone(),
        }))
        .add_service(haul_proto::server::identity(identity::IdentityCalls { identity }))
        .add_service(haul_proto::server::agent(agents::Agents { engine }))
}
