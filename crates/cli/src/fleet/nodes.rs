//! `haul node`.

use haul_client::Client;
use haul_types::{Admission, NodeName};

use super::{named, unknown};
use crate::args::{NodeArgs, NodeCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{NodeReport, NodesReport};

pub(crate) async fn node(args: NodeArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    match args.command {
        NodeCommand::Ls => context.output.report(&NodesReport(&client.nodes().await?)),
        NodeCommand::Show { node } => match client.node(node.as_str()).await? {
            Some(node) => context.output.report(&NodeReport(&node)),
            None => {
                let nodes = client.nodes().await?.into_iter();
                let known: Vec<String> = nodes.map(|node| node.name).collect();
                return Err(unknown("node", node.as_str(), &known));
            }
        },
        NodeCommand::Drain { nodes } => admit(&client, &nodes, Admission::Draining).await?,
        NodeCommand::Cordon { nodes } => admit(&client, &nodes, Admission::Cordoned).await?,
        NodeCommand::Uncordon { nodes } => admit(&client, &nodes, Admission::Open).await?,
        NodeCommand::Revoke { nodes } => {
            for node in nodes {
                let revoked = client.revoke_node(node.as_str()).await;
                revoked.map_err(|error| named(error, "`haul node ls` lists the nodes"))?;
                context.output.hint(&format!(
                    "{node} is shut out; what it ran is lost. Its machine can join again by a new token"
                ));
            }
        }
        NodeCommand::Rm { nodes } => {
            for node in nodes {
                let removed = client.remove_node(node.as_str()).await;
                removed.map_err(|error| named(error, "`haul node ls` lists the nodes"))?;
            }
        }
    }
    Ok(Exit::SUCCESS)
}

async fn admit(client: &Client, nodes: &[NodeName], admission: Admission) -> Result<(), Failure> {
    for node in nodes {
        let admitted = client.admit_node(node.as_str(), admission).await;
        admitted.map_err(|error| named(error, "`haul node ls` lists the nodes"))?;
    }
    Ok(())
}
