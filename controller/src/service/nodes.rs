//! Nodes, the environments that they keep, and the controller itself.

use std::path::PathBuf;
use std::sync::Arc;

use haul_lifecycle::Event;
use haul_proto::server::NodeService;
use haul_proto::v1;
use haul_types::{NodeName, NodeState, TargetName, TargetRecord};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use v1::environment_answer::Answer;
use v1::environment_query::Query;

use super::view;
use crate::engine::Engine;
use crate::status::IntoStatus;

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
            let nodes = self.engine.nodes().into_iter();
            let connected = nodes.filter(|node| node.state != NodeState::Unreachable);
            return Ok(connected.map(|node| node.record.name).collect());
        }
        let name = node_name(name)?;
        if self.engine.nodes().iter().any(|node| node.record.name == name) {
            return Ok(vec![name]);
        }
        Err(Status::not_found(format!("there is no node {name}")))
    }
}

impl Nodes {
    async fn take(&self, event: Event) -> Result<(), Status> {
        self.engine.step(event).await.map_err(IntoStatus::into_status)
    }
}

fn node_name(name: &str) -> Result<NodeName, Status> {
    NodeName::try_from(name.to_owned()).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// An agent that answers another question than it was asked is broken.
fn confused(node: &NodeName) -> Status {
    Status::internal(format!("node {node} answered something else than it was asked"))
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let _call = self.engine.call();
        let only = request.get_ref().name.as_str();
        let nodes = self.engine.nodes().into_iter();
        let asked_for = nodes.filter(|node| only.is_empty() || node.record.name.as_str() == only);
        let nodes = asked_for.map(|node| {
            let name = node.record.name.clone();
            let mut shown = view::node(node, self.engine.sessions.version(&name).unwrap_or_default());
            if !only.is_empty() {
                let attempts = self.engine.attempts_on(&name);
                shown.tasks = attempts.iter().map(|attempt| attempt.task.to_string()).collect();
            }
            shown
        });
        Ok(Response::new(v1::ListNodesResponse {
            nodes: nodes.collect(),
        }))
    }

    async fn admit_node(
        &self,
        request: Request<v1::AdmitNodeRequest>,
    ) -> Result<Response<v1::AdmitNodeResponse>, Status> {
        let _call = self.engine.call();
        let node = node_name(&request.get_ref().node)?;
        let admission = request.get_ref().wanted().map_err(IntoStatus::into_status)?;
        self.take(Event::Admit { node, admission }).await?;
        Ok(Response::new(v1::AdmitNodeResponse {}))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let _call = self.engine.call();
        let node = node_name(&request.get_ref().node)?;
        let connected = false;
        self.take(Event::RemoveNode { node, connected }).await?;
        Ok(Response::new(v1::RemoveNodeResponse {}))
    }

    async fn list_targets(
        &self,
        _: Request<v1::ListTargetsRequest>,
    ) -> Result<Response<v1::ListTargetsResponse>, Status> {
        let _call = self.engine.call();
        let targets = self.engine.targets().into_iter();
        let targets = targets.map(|(target, members)| v1::Target {
            members: members.into_iter().map(Into::into).collect(),
            ..v1::Target::from(&target)
        });
        Ok(Response::new(v1::ListTargetsResponse {
            targets: targets.collect(),
        }))
    }

    async fn create_target(
        &self,
        request: Request<v1::CreateTargetRequest>,
    ) -> Result<Response<v1::CreateTargetResponse>, Status> {
        let _call = self.engine.call();
        let target = request.get_ref().target.as_ref();
        let target = target.ok_or_else(|| Status::invalid_argument("target: is missing"))?;
        let target = TargetRecord::try_from(target).map_err(IntoStatus::into_status)?;
        self.take(Event::PutTarget(target)).await?;
        Ok(Response::new(v1::CreateTargetResponse {}))
    }

    async fn remove_target(
        &self,
        request: Request<v1::RemoveTargetRequest>,
    ) -> Result<Response<v1::RemoveTargetResponse>, Status> {
        let _call = self.engine.call();
        let name: TargetName = request
            .get_ref()
            .name
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{error}")))?;
        self.take(Event::RemoveTarget(name)).await?;
        Ok(Response::new(v1::RemoveTargetResponse {}))
    }

    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Result<Response<v1::ListEnvironmentsResponse>, Status> {
        let _call = self.engine.call();
        let (mut environments, mut caches) = (Vec::new(), Vec::new());
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
            caches.extend(list.caches.into_iter().map(|it| v1::EnvironmentCache {
                node: node.to_string(),
                ..it
            }));
        }
        environments.sort_by_key(|environment| std::cmp::Reverse(environment.last_used_unix_ms));
        Ok(Response::new(v1::ListEnvironmentsResponse {
            environments,
            caches,
        }))
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
            sum.cache_bytes += pruned.cache_bytes;
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
