//! What was said: the command line as clap reads it. What it means is for the commands to find out.

mod contexts;
mod fleet;
mod jobs;
mod run;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use contexts::{
    AuthorityArgs, AuthorityCommand, ContextArgs, ContextCommand, CreateTokenArgs, Expiry, LoginArgs,
    RoleName, TokenArgs, TokenCommand,
};
pub use fleet::{NodeArgs, NodeCommand, PlacementName, TargetArgs, TargetCommand};
pub use jobs::{
    CancelArgs, EnvArgs, EnvCommand, JobTask, JobsArgs, LogsArgs, NotAJobTask, OutputsArgs, OutputsCommand,
    RemoveArgs, RerunArgs, ShowArgs, WaitArgs,
};
pub use run::RunArgs;

use crate::failure::Failure;

/// Runs your script on any machine you can reach as if it ran on yours.
#[derive(Debug, Parser)]
#[command(
    name = "haul",
    version,
    about = "Runs your script on any machine you can reach as if it ran on yours",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    propagate_version = true,
    after_help = "\
Examples:
  haul run train.py --epochs 5       run a script; its output is yours, and so is its exit code
  haul run -d train.py               leave it running, and print the job's id
  haul logs -f last                  watch the newest job
  haul show last                     what happened to it, and when
  haul outputs get last              bring back what it left in ./outputs"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to say it.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// Print JSON: one document, or a line for each event where things go on
    #[arg(long, global = true, conflicts_with = "quiet", help_heading = "Output")]
    pub json: bool,
    /// Print data and errors only, no hints and no progress
    #[arg(long, short, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Talk to this controller: one of `haul context ls`
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "HAUL_CONTEXT",
        hide_env_values = true
    )]
    pub context: Option<String>,
    /// Whether to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Output"
    )]
    pub color: ColorChoice,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a script, or any program, in a copy of its directory
    Run(Box<RunArgs>),
    /// List jobs, newest first
    Jobs(JobsArgs),
    /// Show what happened to a job, and when
    Show(ShowArgs),
    /// Print what a job wrote
    Logs(LogsArgs),
    /// Wait for a job's end, and exit as it did
    Wait(WaitArgs),
    /// Stop a job
    Cancel(CancelArgs),
    /// List or bring back what a job left in ./outputs
    Outputs(OutputsArgs),
    /// Run a job again, exactly as it was submitted
    Rerun(RerunArgs),
    /// Forget jobs that have ended, with their logs and outputs
    Rm(RemoveArgs),
    /// List or remove the environments that were built for jobs
    Env(EnvArgs),
    /// Log in to a shared controller
    Login(LoginArgs),
    /// The controllers that commands can go to
    Context(ContextArgs),
    /// Tokens, by which users log in and machines join
    Token(TokenArgs),
    /// The authority that a shared controller is known by
    Authority(AuthorityArgs),
    /// Look at the machines that run jobs, and say which of them take work
    Node(NodeArgs),
    /// Give machines a name together, to run jobs on any of them
    Target(TargetArgs),
    /// The private controller that runs jobs on this machine
    Local(LocalArgs),
    /// Check that everything jobs need is there
    Doctor,
    /// Print the version
    Version,
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  haul completions bash > ~/.local/share/bash-completion/completions/haul
  haul completions zsh > ~/.zfunc/_haul
  haul completions fish > ~/.config/fish/completions/haul.fish")]
    Completions(CompletionsArgs),
}

/// After what a task is tried again, as users type it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RetryOnName {
    /// Only when a machine, an agent or a supervisor failed
    #[default]
    Infrastructure,
    /// After any failure
    Any,
}

impl From<RetryOnName> for haul_types::RetryOn {
    fn from(name: RetryOnName) -> Self {
        match name {
            RetryOnName::Infrastructure => Self::Infrastructure,
            RetryOnName::Any => Self::Any,
        }
    }
}

/// `haul local`.
#[derive(Debug, Args)]
#[command(after_help = "\
With nothing configured, jobs run on this machine: `haul` starts a controller and an agent
for you in the background. They go by themselves when nothing has needed them for a while
(HAUL_IDLE_TIMEOUT, 10m).

Examples:
  haul local status
  haul local stop              jobs that run are not harmed; the next command starts it again")]
pub struct LocalArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LocalCommand,
}

/// What to do with the private controller.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LocalCommand {
    /// Say whether it runs, and where it keeps its state
    Status,
    /// Stop it; jobs that run go on
    Stop,
}

/// `haul completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Whether JSON is wanted by a command line that could not be read. What stands after `--` is a program's.
#[must_use]
pub fn wants_json(words: &[OsString]) -> bool {
    words
        .iter()
        .take_while(|word| *word != "--")
        .any(|word| word == "--json")
}

/// What clap says of a command line, as a failure like any other.
#[must_use]
pub fn failure(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut parts = text.split("\n\n");
    let what = parts.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let mut lines = what.lines();
    let mut failure = Failure::usage(lines.next().unwrap_or_default());
    for line in lines {
        failure = failure.at(line.trim());
    }
    failure.help("`haul --help`, or --help after the command, says what can be said")
}
