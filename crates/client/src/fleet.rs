//! Nodes and targets.

use haul_proto::{client, v1};
use haul_types::{
    Admission, ByteSize, Cpus, Enforcement, Gpu, Labels, NodeState, Resources, TargetName, TargetRecord,
};

use crate::call::repeated;
use crate::{CallError, Client};

/// A machine that runs an agent.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The version of its agent; empty while it is not connected.
    pub version: String,
    /// How it stands.
    pub state: NodeState,
    /// What its tasks may take together.
    pub capacity: Resources,
    /// What is placed on it.
    pub used: Resources,
    /// Attempts that it has now.
    pub attempts: u32,
    /// Words for choosing it.
    pub labels: Labels,
    /// Its GPUs.
    pub gpus: Vec<Gpu>,
    /// What it holds tasks to.
    pub enforces: Enforcement,
    /// When it was last connected, in milliseconds since 1970; none if it never was.
    pub last_seen_unix_ms: Option<u64>,
    /// The tasks that it has, as JOB.INDEX; only when it was asked for by name.
    pub tasks: Vec<String>,
}

/// A target, and the nodes that belong to it now.
#[derive(Clone, Debug)]
pub struct Target {
    /// As it was declared.
    pub record: TargetRecord,
    /// The names of its nodes.
    pub members: Vec<String>,
}

fn node_from(node: v1::Node) -> Result<Node, haul_proto::BadMessage> {
    Ok(Node {
        state: node.node_state()?,
        name: node.name,
        version: node.version,
        capacity: Resources {
            cpus: Cpus::whole(node.slots),
            memory: ByteSize(node.memory_bytes),
        },
        used: Resources {
            cpus: Cpus::from_millis(node.cpus_used_milli),
            memory: ByteSize(node.memory_used_bytes),
        },
        attempts: node.busy,
        labels: node.labels.into_iter().collect(),
        gpus: node.gpus.iter().map(Into::into).collect(),
        enforces: Enforcement {
            cpus: node.enforces_cpus,
            memory: node.enforces_memory,
        },
        last_seen_unix_ms: Some(node.last_seen_unix_ms).filter(|&ms| ms > 0),
        tasks: node.tasks,
    })
}

impl Client {
    /// The nodes that the controller knows, in order of name.
    pub async fn nodes(&self) -> Result<Vec<Node>, CallError> {
        self.nodes_named("").await
    }

    /// The node of this name, with its tasks.
    pub async fn node(&self, name: &str) -> Result<Option<Node>, CallError> {
        Ok(self.nodes_named(name).await?.pop())
    }

    async fn nodes_named(&self, name: &str) -> Result<Vec<Node>, CallError> {
        let request = v1::ListNodesRequest {
            name: name.to_owned(),
        };
        let call = async || client::nodes(self.calls()).list_nodes(request.clone()).await;
        let nodes = repeated(call).await?.into_inner().nodes;
        Ok(nodes.into_iter().map(node_from).collect::<Result<_, _>>()?)
    }

    /// Says whether a node is to be given work.
    pub async fn admit_node(&self, name: &str, admission: Admission) -> Result<(), CallError> {
        let request = v1::AdmitNodeRequest {
            node: name.to_owned(),
            admission: admission as i32,
        };
        let call = async || client::nodes(self.calls()).admit_node(request.clone()).await;
        repeated(call).await?;
        Ok(())
    }

    /// Forgets a node that is gone for good.
    pub async fn remove_node(&self, name: &str) -> Result<(), CallError> {
        let request = v1::RemoveNodeRequest {
            node: name.to_owned(),
        };
        let call = async || client::nodes(self.calls()).remove_node(request.clone()).await;
        repeated(call).await?;
        Ok(())
    }

    /// The declared targets, in order of name.
    pub async fn targets(&self) -> Result<Vec<Target>, CallError> {
        let call = async || {
            client::nodes(self.calls())
                .list_targets(v1::ListTargetsRequest {})
                .await
        };
        let targets = repeated(call).await?.into_inner().targets;
        let target = |message: v1::Target| {
            Ok(Target {
                record: TargetRecord::try_from(&message)?,
                members: message.members,
            })
        };
        let targets: Result<_, haul_proto::BadMessage> = targets.into_iter().map(target).collect();
        Ok(targets?)
    }

    /// Declares a target.
    pub async fn create_target(&self, target: &TargetRecord) -> Result<(), CallError> {
        let request = v1::CreateTargetRequest {
            target: Some(target.into()),
        };
        let call = async || client::nodes(self.calls()).create_target(request.clone()).await;
        repeated(call).await?;
        Ok(())
    }

    /// Takes a target back.
    pub async fn remove_target(&self, name: &TargetName) -> Result<(), CallError> {
        let request = v1::RemoveTargetRequest {
            name: name.to_string(),
        };
        let call = async || client::nodes(self.calls()).remove_target(request.clone()).await;
        repeated(call).await?;
        Ok(())
    }
}
