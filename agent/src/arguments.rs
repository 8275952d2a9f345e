//! The command line of `haul-agent`, as clap reads it.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use haul_types::{ByteSize, NodeName};

/// Runs jobs on this machine, for a controller.
#[derive(Debug, Parser)]
#[command(
    name = "haul-agent",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  haul-agent join haul1.…                  once: become a node of the controller that the token names
  haul-agent                               run jobs for it
  haul-agent check                         look whether all that it needs is there"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Become a node of a controller, by a token that an admin made with `haul token create --role agent`.
    Join(Join),
    /// Look whether all that the agent needs is there: its certificate, the controller, the launcher, room on the disk.
    /// Takes the flags that the agent is started with. An agent that runs notices nothing.
    Check(Serve),
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The token; `-` reads it from standard input. It is good once, and for minutes.
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
    /// The name that the node is to have [default: the host's].
    #[arg(long = "name", value_name = "NAME", value_parser = node_name)]
    pub(crate) node: Option<NodeName>,
    /// A word for choosing this node; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = haul_types::node::parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Where the agent keeps everything [default: /var/lib/haul-agent for root, else ~/.local/state/haul-agent].
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration file; flags go over what it says [default: agent.toml in the state directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where it keeps jobs in progress, and who it is; one agent at a time [default: as for `join`].
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Where it keeps environments [default: `cache` in the state directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// The Unix socket of a controller on this machine, instead of the controller that it joined.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// This node's name, with --socket [default: the host's].
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub(crate) node: Option<NodeName>,
    /// Processors that tasks may take together [default: all there are].
    #[arg(long)]
    pub(crate) slots: Option<NonZero<u32>>,
    /// Memory that tasks may take together, as in 64GB [default: the machine's].
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// A word for choosing this node; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = haul_types::node::parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// The most that environments may take, as in 20GB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) environment_budget: Option<ByteSize>,
    /// The uv to build environments with [default: the one found, or fetched].
    #[arg(long, value_name = "PATH")]
    pub(crate) uv: Option<PathBuf>,
    /// The socket of haul-launcher, which runs jobs as users that have no rights [default: jobs run as this user].
    #[arg(long, value_name = "PATH")]
    pub(crate) launcher: Option<PathBuf>,
}

fn node_name(text: &str) -> Result<NodeName, haul_types::id::NotANodeName> {
    NodeName::try_from(text.to_owned())
}
