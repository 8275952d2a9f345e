//! Nodes, the environments that they keep, and the controller itself.

use std::path::PathBuf;
use std::sync::Arc;

use haul_proto::server::NodeService;
use haul_proto::v1;
use haul_types::NodeName;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use v1::environment_answer::Answer;
use v1::environment_query::Query;

use crate::engine::Engine;

pub(super) struct Nodes {
    pub(super) engine: Arc<Engine>,
    pub(super) state_dir: PathBuf,
    pub(super) private: bool,
    pub(super) build: String,
    pub(super) shutdown: CancellationToken,
}

impl Nodes {
    /// The node named, or all that are connected.
    fn chosen(&self, name: &str) -> Result<Vec<NodeName>, Status> {
        if name.is_empty() {
            let connected = self.engine.nodes().into_iter().filter(|node| node.connected);
            return Ok(connected.map(|node| node.name).collect());
        }
        let name = NodeName::try_from(name.to_owned())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if self.engine.nodes().iter().any(|node| node.name == name) {
            return Ok(vec![name]);
        }
        Err(Status::not_found(format!("there is no node {name}")))
    }
}

/// An agent that answers another question than it was asked is broken.
fn confused(node: &NodeName) -> Status {
    Status::internal(format!("node {node} answered something else than it was asked"))
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let _call = self.engine.call();
        let nodes = self.engine.nodes().into_iter().map(|node| v1::Node {
            version: self.engine.sessions.version(&node.name).unwrap_or_default(),
            name: node.name.into(),
            slots: node.slots,
            busy: node.busy,
            connected: node.connected,
        });
        Ok(Response::new(v1::ListNodesResponse {
            nodes: nodes.collect(),
        }))
    }

    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Result<Response<v1::ListEnvironmentsResponse>, Status> {
        let _call = self.engine.call();
        let mut environments = Vec::new();
        for node in self.chosen(&request.get_ref().node)? {
            let query = Query::List(request.get_ref().clone());
            let Answer::List(list) = self.engine.sessions.ask(&node, query).await? else {
                return Err(confused(&node));
            };
            let here = list.environments.into_iter().map(|it| v1::Environment {
                node: node.to_string(),
                ..it
            });
            environments.extend(here);
        }
        environments.sort_by_key(|environment| std::cmp::Reverse(environment.last_used_unix_ms));
        Ok(Response::new(v1::ListEnvironmentsResponse { environments }))
    }

    async fn remove_environment(
        &self,
        request: Request<v1::RemoveEnvironmentRequest>,
    ) -> Result<Response<v1::RemoveEnvironmentResponse>, Status> {
        let _call = self.engine.call();
        let mut sum = v1::RemoveEnvironmentResponse::default();
        for node in self.chosen(&request.get_ref().node)? {
            let query = Query::Remove(request.get_ref().clone());
            let Answer::Remove(removed) = self.engine.sessions.ask(&node, query).await? else {
                return Err(confused(&node));
            };
            sum.removed.extend(removed.removed);
            sum.bytes += removed.bytes;
        }
        Ok(Response::new(sum))
    }

    async fn prune_environments(
        &self,
        request: Request<v1::PruneEnvironmentsRequest>,
    ) -> Result<Response<v1::PruneEnvironmentsResponse>, Status> {
        let _call = self.engine.call();
        let mut sum = v1::PruneEnvironmentsResponse::default();
        for node in self.chosen(&request.get_ref().node)? {
            let query = Query::Prune(request.get_ref().clone());
            let Answer::Prune(pruned) = self.engine.sessions.ask(&node, query).await? else {
                return Err(confused(&node));
            };
            sum.removed.extend(pruned.removed);
            sum.bytes += pruned.bytes;
        }
        Ok(Response::new(sum))
    }

    async fn get_controller(
        &self,
        _: Request<v1::GetControllerRequest>,
    ) -> Result<Response<v1::GetControllerResponse>, Status> {
        let uptime = self.engine.started.elapsed();
        Ok(Response::new(v1::GetControllerResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: self.build.clone(),
            pid: std::process::id(),
            state_dir: self.state_dir.display().to_string(),
            private: self.private,
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            active_jobs: u32::try_from(self.engine.active_jobs()).unwrap_or(u32::MAX),
        }))
    }

    async fn stop_controller(
        &self,
        _: Request<v1::StopControllerRequest>,
    ) -> Result<Response<v1::StopControllerResponse>, Status> {
        if !self.private {
            return Err(Status::permission_denied(
                "a shared controller is stopped by who started it",
            ));
        }
        tracing::info!("asked to stop");
        self.shutdown.cancel();
        Ok(Response::new(v1::StopControllerResponse {}))
    }
}
