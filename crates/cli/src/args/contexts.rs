//! The commands about shared controllers, as they were said.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use haul_types::parse_duration;

/// Log in to a shared controller by a token that an admin gave you
#[derive(Debug, Args)]
#[command(after_help = "\
The token is read from standard input, or asked for on a terminal; not from the command line, where others could see it.
It says where the controller is and how to know it, so nothing else is needed. Later commands go to that controller;
`haul context use local` goes back to this machine.

Examples:
  haul login                               asks for the token
  haul login --name lab < token.txt
  HAUL_TOKEN=… haul run train.py           for CI: by the token alone, nothing is kept")]
pub struct LoginArgs {
    /// What to call the controller here; its host's name without this
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Read the token from this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
}

/// The controllers that commands can go to
#[derive(Debug, Args)]
#[command(after_help = "\
`local` is the private controller of this machine; it is always there, and the default.

Examples:
  haul context ls
  haul context use lab
  haul context use local
  haul --context lab jobs                  for one command; HAUL_CONTEXT=lab for a shell")]
pub struct ContextArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ContextCommand,
}

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List them
    Ls,
    /// Let later commands go to one of them
    Use {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Add one by a token, as `haul login` does, and stay where you are
    Add {
        /// What to call it
        #[arg(value_name = "NAME")]
        name: String,
        /// Read the token from this file rather than from standard input
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        token_file: Option<PathBuf>,
    },
    /// Forget one, with its token; jobs there are not touched
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Tokens, by which users log in and machines join
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make one, and print it: it is shown this once
    #[command(after_help = "\
A join token (--role agent) lets one machine in, once, within ten minutes: `haul-agent join TOKEN` there is all it takes.
A user's token is for `haul login`.

Examples:
  haul token create --role agent
  haul token create --role agent --target gpu-box --label gpu=a100
  haul token create --role submitter --name ada --expires 30d
  haul token create --role viewer --name dashboard --expires never")]
    Create(CreateTokenArgs),
    /// List them; their texts are kept nowhere
    Ls {
        /// Those too that are used, revoked or have expired
        #[arg(long)]
        all: bool,
    },
    /// End some: whoever holds them is let in no more
    Revoke {
        /// Their ids, as `haul token ls` prints them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

/// What a new token is to be.
#[derive(Debug, Args)]
pub struct CreateTokenArgs {
    /// What it is for
    #[arg(long, value_enum, value_name = "ROLE")]
    pub role: RoleName,
    /// What it is called: for a user's token, the user
    #[arg(long, value_name = "NAME", default_value = "")]
    pub name: String,
    /// How long it is good for, as in 30d, or `never`; 10m for a join token, 90d for a user's without this
    #[arg(long, value_name = "DURATION", value_parser = parse_expiry)]
    pub expires: Option<Expiry>,
    /// The only target that its user may submit to; for a join token the target that the machine becomes part of
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// A label that the machine gets (only for a join token)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Let the machine take the place of the node of this name (only for a join token)
    #[arg(long, value_name = "NODE")]
    pub replace: Option<String>,
}

/// A role, as users type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Let one machine join
    Agent,
    /// See jobs, logs, outputs and nodes
    Viewer,
    /// Submit jobs as well, and cancel and remove one's own
    Submitter,
    /// Do everything
    Admin,
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// After so long.
    After(Duration),
    /// Never.
    Never,
}

fn parse_expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("a token that is good for no time is of no use".to_owned()),
        Ok(life) => Ok(Expiry::After(life)),
        Err(error) => Err(format!("{error}, or `never`")),
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// The authority that nodes and users know a shared controller by
#[derive(Debug, Args)]
#[command(after_help = "\
It is changed in three steps, each of which can be taken back but the last; nothing is interrupted:
  haul authority begin         make the next one; nodes and users learn of it as they connect
  haul authority activate      let it sign, once all have learned of it
  haul authority finish        drop the one before
  haul authority roll-back     take the last step back")]
pub struct AuthorityArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuthorityCommand,
}

/// What to do with the authority.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Show who is trusted, and where a change stands
    Show,
    /// Make the next one, and trust it
    Begin,
    /// Let the next one sign
    Activate,
    /// Drop the one before
    Finish {
        /// Though nodes may know the one before alone: these must join again
        #[arg(long)]
        force: bool,
    },
    /// Take the last step back
    RollBack,
}
