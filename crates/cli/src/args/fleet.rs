//! The commands about nodes and targets, as they were said.

use clap::{Args, Subcommand, ValueEnum};
use haul_types::node::parse_label;
use haul_types::{NodeName, Placement, TargetName};

/// Look at the machines that run jobs, and say which of them take work
#[derive(Debug, Args)]
#[command(after_help = "\
A node is ready, draining (runs what it has, takes nothing new, and is cordoned then), cordoned (takes
nothing new) or unreachable (its agent is not connected; what it runs goes on).

Examples:
  haul node ls
  haul node drain box1         before the machine is serviced
  haul node uncordon box1      afterwards
  haul node rm box1            it is gone for good, and so is what it ran")]
pub struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List them
    Ls,
    /// Show what one has and what it runs
    Show {
        /// The node
        #[arg(value_name = "NODE", value_parser = node_name)]
        node: NodeName,
    },
    /// Let one run what it has, and give it nothing new
    Drain {
        /// The nodes
        #[arg(value_name = "NODE", required = true, value_parser = node_name)]
        nodes: Vec<NodeName>,
    },
    /// Give one nothing new
    Cordon {
        /// The nodes
        #[arg(value_name = "NODE", required = true, value_parser = node_name)]
        nodes: Vec<NodeName>,
    },
    /// Give one work again
    Uncordon {
        /// The nodes
        #[arg(value_name = "NODE", required = true, value_parser = node_name)]
        nodes: Vec<NodeName>,
    },
    /// Shut one out at once: its certificate is worth nothing from now on, and what it ran is lost
    Revoke {
        /// The nodes
        #[arg(value_name = "NODE", required = true, value_parser = node_name)]
        nodes: Vec<NodeName>,
    },
    /// Forget one that is gone for good: what it ran is lost
    Rm {
        /// The nodes
        #[arg(value_name = "NODE", required = true, value_parser = node_name)]
        nodes: Vec<NodeName>,
    },
}

fn node_name(text: &str) -> Result<NodeName, haul_types::id::NotANodeName> {
    NodeName::try_from(text.to_owned())
}

/// Give machines a name together, to run jobs on any of them
#[derive(Debug, Args)]
#[command(after_help = "\
A node's own name is a target already. A node belongs to a target that names it, or whose labels it all has;
nodes get their labels when they are enrolled.

Examples:
  haul target ls
  haul target create lab --node box1 --node box2
  haul target create gpu --label gpu=a100 --placement pack
  haul run --target gpu train.py")]
pub struct TargetArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TargetCommand,
}

/// What to do with targets.
#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// List them
    Ls,
    /// Show one, and the nodes that belong to it now
    Show {
        /// The target
        #[arg(value_name = "TARGET")]
        target: TargetName,
    },
    /// Declare one
    Create {
        /// Its name
        #[arg(value_name = "TARGET")]
        target: TargetName,
        /// A node that belongs to it; may be repeated
        #[arg(long = "node", value_name = "NODE", value_parser = node_name)]
        nodes: Vec<NodeName>,
        /// Nodes that have this label, and all others given here, belong to it; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
        labels: Vec<(String, String)>,
        /// Which of its nodes to take when several could
        #[arg(long, value_enum, default_value_t, value_name = "HOW")]
        placement: PlacementName,
    },
    /// Take one back; jobs that name it wait
    Rm {
        /// The targets
        #[arg(value_name = "TARGET", required = true)]
        targets: Vec<TargetName>,
    },
}

/// How to choose among nodes, as users type it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlacementName {
    /// The one with the most room
    #[default]
    Spread,
    /// The one with the least room, so that others stay free for large tasks
    Pack,
}

impl From<PlacementName> for Placement {
    fn from(name: PlacementName) -> Self {
        match name {
            PlacementName::Spread => Self::Spread,
            PlacementName::Pack => Self::Pack,
        }
    }
}
