//! The `haul` command: what users of Haul see.
//!
//! | part | what it is about |
//! |---|---|
//! | [`args`] | what was said: the command line, as clap reads it |
//! | [`run`] | `haul run`: what the words mean, sending the directory, following the job to its end |
//! | [`query`] | `jobs`, `show`, `logs`, `wait`: questions about jobs |
//! | [`fleet`] | `node`, `target`: the machines |
//! | [`change`] | `cancel`, `rerun`, `rm`, `outputs`, `env`: wishes |
//! | [`checks`] | `doctor`, `version`, `local`: the installation itself |
//! | [`local`] | the private controller: where it is, starting it |
//! | [`daemon`] | being the private controller or its agent |
//! | [`output`] | what is printed: for people, as JSON, or hardly anything |
//! | [`failure`], [`exit`] | errors as users see them; exit codes |
//!
//! Data goes to standard output and everything else to standard error. A reader of standard output that goes away is
//! no error. Every command ends through [`main`], which turns its outcome into an exit code.

pub mod args;
pub mod change;
pub mod checks;
mod context;
pub mod contexts;
pub mod daemon;
pub mod exit;
pub mod failure;
mod fleet;
mod interrupt;
pub mod local;
pub mod output;
pub mod query;
pub mod run;
pub mod text;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Mode, Style};

/// Reads the command line, does what it says, and tells how it went.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => {
            if !error.use_stderr() {
                // Help and the version. Printing can only fail when nobody reads.
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            if args::wants_json(&words) {
                output::new(Mode::Json, Style::default()).failure(&args::failure(&error));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(exit::USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::from(exit::INFRASTRUCTURE);
        }
    };
    let mut context = Context::new(&cli.global, words);
    let outcome = runtime.block_on(dispatch(cli.command, &mut context));
    // A thread that waits for somebody's keypress, or for a reader of a pipe, must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            context.output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn dispatch(command: Command, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::run(args, context).await,
        Command::Jobs(args) => query::jobs::list(args, context).await,
        Command::Show(args) => query::show::show(args, context).await,
        Command::Logs(args) => query::logs::logs(args, context).await,
        Command::Wait(args) => query::wait::wait(args, context).await,
        Command::Cancel(args) => change::cancel::cancel(args, context).await,
        Command::Outputs(args) => change::outputs::outputs(args, context).await,
        Command::Rerun(args) => change::rerun::rerun(args, context).await,
        Command::Rm(args) => change::remove::remove(args, context).await,
        Command::Env(args) => change::environments::environments(args, context).await,
        Command::Node(args) => fleet::nodes::node(args, context).await,
        Command::Target(args) => fleet::targets::target(args, context).await,
        Command::Login(args) => change::login::login(args, context).await,
        Command::Context(args) => change::contexts::contexts(args, context).await,
        Command::Token(args) => change::tokens::tokens(args, context).await,
        Command::Authority(args) => change::authority::authority(args, context).await,
        Command::Local(args) => checks::local::local(args, context).await,
        Command::Doctor => checks::doctor::doctor(context).await,
        Command::Version => checks::version::version(context),
        Command::Completions(args) => checks::completions::completions(&args),
    }
}
