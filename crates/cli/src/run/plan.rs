//! What was meant: from words, the current directory and the files there to everything that a job needs. Nothing is
//! sent or started here, and whatever is wrong is found here, before there is a job.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use haul_snapshot::scan::ignored_reason;
use haul_types::{ArraySpec, ByteSize, EnvironmentSpec, JobSpec, Resources, RetryPolicy, Scheduling};

use super::program::{self, Program};
use super::{choice, variables};
use crate::args::RunArgs;
use crate::failure::Failure;

/// The longest name that the contract allows, in bytes.
const MAX_NAME: usize = 255;

/// What `haul run` will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The directory to send.
    pub(super) dir: PathBuf,
    /// Where in it the command starts.
    pub(super) working_dir: String,
    /// The command.
    pub(super) command: Vec<String>,
    /// The name.
    pub(super) name: String,
    /// Variables to set.
    pub(super) env: BTreeMap<String, String>,
    /// What to run in.
    pub(super) environment: EnvironmentSpec,
    /// More than one task.
    pub(super) array: Option<ArraySpec>,
    /// The time limit.
    pub(super) timeout: Option<Duration>,
    /// From TERM to KILL.
    pub(super) grace: Duration,
    /// Where and when to run.
    pub(super) scheduling: Scheduling,
    /// The most to send.
    pub(super) max_snapshot: Option<ByteSize>,
}

impl Plan {
    /// The job, once the snapshot is known.
    pub(super) fn spec(&self, snapshot: haul_types::Digest) -> JobSpec {
        JobSpec {
            name: self.name.clone(),
            command: self.command.clone(),
            snapshot,
            working_dir: self.working_dir.clone(),
            env: self.env.clone(),
            environment: self.environment.clone(),
            array: self.array,
            timeout: self.timeout,
            grace: self.grace,
            scheduling: self.scheduling.clone(),
        }
    }
}

/// Whether the last `count` words stand after `--`, and so name a program rather than a script.
pub(super) fn stands_after_dashes(words: &[OsString], count: usize) -> bool {
    words
        .len()
        .checked_sub(count + 1)
        .and_then(|before| words.get(before))
        .is_some_and(|word| word == "--")
}

/// Finds out what was meant.
pub(super) fn plan(args: &RunArgs, after_dashes: bool, cwd: &Path) -> Result<Plan, Failure> {
    let words: Vec<String> = args.command.iter().map(text).collect::<Result<_, _>>()?;
    let (first, arguments) = words
        .split_first()
        .ok_or_else(|| Failure::usage("there is nothing to run"))?;
    if first.is_empty() {
        return Err(Failure::usage("the name of what is to run is empty")
            .help("haul run SCRIPT [ARGS]..., or haul run -- PROGRAM [ARGS]..."));
    }
    let asked = args
        .dir
        .as_ref()
        .map(|dir| directory(&cwd.join(dir)))
        .transpose()?;
    let program = if after_dashes {
        program::named(first, asked.as_deref(), cwd)?
    } else {
        program::script(first, asked.as_deref(), cwd)?
    };
    let dir = match (asked, program.home()) {
        (Some(dir), _) => dir,
        (None, Some(home)) => directory(home)?,
        (None, None) => directory(cwd)?,
    };
    let (working_dir, mut command) = place(&program, &dir, cwd)?;
    command.extend(arguments.iter().cloned());
    let environment = choice::environment(args, &dir, &working_dir, cwd, &command)?;
    let name = match &args.name {
        Some(name) => checked_name(name)?,
        None => program.name(),
    };
    Ok(Plan {
        working_dir: inner_text(&working_dir)?,
        dir,
        command,
        name,
        env: variables::read(&args.env, |name| std::env::var_os(name))?,
        environment,
        array: args.array,
        timeout: nonzero_timeout(args.timeout)?,
        grace: args.grace,
        scheduling: scheduling(args)?,
        max_snapshot: args.max_snapshot,
    })
}

/// Where the command starts in the directory, and its first words.
fn place(program: &Program, dir: &Path, cwd: &Path) -> Result<(PathBuf, Vec<String>), Failure> {
    match program {
        Program::Script { path, start } => {
            let inner = path.strip_prefix(dir).map_err(|_| {
                Failure::usage(format!("{} is not in the directory that is sent", path.display()))
                    .at(format!("the directory is {}", dir.display()))
                    .help("name a directory that holds it, by --dir")
            })?;
            refuse_ignored(dir, inner)?;
            let working_dir = inner.parent().unwrap_or(Path::new("")).to_owned();
            let file = inner_text(Path::new(inner.file_name().unwrap_or_default()))?;
            Ok((working_dir, start.words(&file)))
        }
        Program::Inside { path } => {
            let inner = path.strip_prefix(dir).unwrap_or(path);
            refuse_ignored(dir, inner)?;
            let working_dir = cwd.strip_prefix(dir).unwrap_or(Path::new("")).to_owned();
            let command = program::from_within(&working_dir, inner);
            Ok((working_dir, vec![inner_text(&command)?]))
        }
        Program::Elsewhere { word } => {
            let working_dir = cwd.strip_prefix(dir).unwrap_or(Path::new("")).to_owned();
            Ok((working_dir, vec![word.clone()]))
        }
    }
}

fn refuse_ignored(dir: &Path, inner: &Path) -> Result<(), Failure> {
    match ignored_reason(dir, inner) {
        Ok(None) => Ok(()),
        Ok(Some(rule)) => Err(
            Failure::usage(format!("{} is not sent, so it cannot run", inner.display()))
                .at(format!("it is left out by {rule}"))
                .help("change that rule, or choose another directory by --dir"),
        ),
        Err(error) => {
            Err(Failure::usage(format!("cannot read the ignore rules of {}", dir.display())).because(&error))
        }
    }
}

/// A directory by its real path.
fn directory(path: &Path) -> Result<PathBuf, Failure> {
    let real = path.canonicalize().map_err(|error| {
        Failure::usage(format!("cannot open the directory {}", path.display())).because(&error)
    })?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(Failure::usage(format!("{} is not a directory", path.display())))
    }
}

fn checked_name(name: &str) -> Result<String, Failure> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Failure::usage(format!(
            "--name takes 1 to {MAX_NAME} bytes, not {}",
            name.len()
        )));
    }
    Ok(name.to_owned())
}

fn scheduling(args: &RunArgs) -> Result<Scheduling, Failure> {
    if args.queue_timeout == Some(Duration::ZERO) {
        return Err(
            Failure::usage("--queue-timeout 0 would end the job before it begins")
                .help("leave it out for no limit"),
        );
    }
    Ok(Scheduling {
        target: args.target.clone(),
        resources: Resources {
            cpus: args.cpus,
            memory: args.memory.unwrap_or_default(),
        },
        priority: args.priority,
        retries: RetryPolicy {
            limit: args.retries,
            on: args.retry_on.into(),
        },
        queue_timeout: args.queue_timeout,
        on_disconnect: args.on_disconnect,
    })
}

fn nonzero_timeout(timeout: Option<Duration>) -> Result<Option<Duration>, Failure> {
    match timeout {
        Some(Duration::ZERO) => Err(Failure::usage("--timeout 0 would end the job before it begins")
            .help("leave it out for no limit")),
        other => Ok(other),
    }
}

fn text(word: &OsString) -> Result<String, Failure> {
    word.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("the argument {word:?} is not UTF-8"))
            .help("put such words into a file of the directory")
    })
}

/// A path inside the directory as the contract takes it.
pub(super) fn inner_text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("the path {path:?} is not UTF-8"))
            .help("files of any name are sent, but what runs needs a plain one")
    })
}
