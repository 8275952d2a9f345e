//! The supervisor: the parent of a job's process.
//!
//! A process of its own, started by the agent from its own binary, without threads and without an async runtime. It
//! serves one slot: attempts one after the other, so that a short attempt costs one spawn. It leaves the agent's
//! session and process group, and goes on when the agent dies.
//!
//! ```text
//!              order                      main process ended
//!   ┌──────┐ ────────▶ ┌─────────┐ ──────────────────────────────▶ ┌───────┐  none left
//!   │ idle │           │ running │  time limit, stop   ┌──────────┐│ ends  │ ──────────▶ record, idle
//!   └──────┘ ◀──────── └─────────┘ ──────────────────▶ │ stopping ├│ of    │
//!      │      start                    TERM to all     └──────────┘│ the   │
//!      │      failed                                   grace over: │ rest  │
//!      ▼                                               KILL        └───────┘
//!   agent gone, or Quit: exit
//! ```
//!
//! When the agent is gone, the attempt that runs is brought to its end and written down, nothing more is started, and
//! the next agent may listen and stop it through the `control` socket. Signals that would end the supervisor are
//! without effect, except those that cannot be: its end would leave a job without a parent.

mod attempt;
mod channel;
mod children;
mod confine;
mod spawn;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::{getpid, set_child_subreaper, setsid};

use self::attempt::AttemptError;
use self::channel::Channel;
use self::children::Children;
use self::confine::Confinement;
use crate::cgroup::{Ground, Site};
use crate::journal::{self, Journal};
use crate::message::{FromSupervisor, ToSupervisor};
use crate::{process_table, supervisors_dir};

/// The first argument that turns the program into a supervisor; the state directory and an id follow, and perhaps
/// where to make control groups.
pub const ARGUMENT: &str = "__supervise";

/// The first argument that makes the program say what can be limited where it is.
pub(crate) const PROBE_ARGUMENT: &str = "__probe-limits";

/// Why a supervisor gave up. Goes to its log.
#[derive(Debug, thiserror::Error)]
enum SupervisorError {
    #[error("usage: {ARGUMENT} <state directory> <id> [control groups]")]
    Usage,
    #[error("entering {}", .0.display())]
    Enter(PathBuf, #[source] io::Error),
    #[error("making the journal")]
    Journal(#[source] io::Error),
    #[error("binding the control socket")]
    Control(#[source] io::Error),
    #[error("taking over the channel on standard input")]
    Channel(#[source] io::Error),
    #[error("watching children")]
    Children(#[source] io::Error),
    #[error("reading the machine's boot id and the supervisor's own entry in /proc")]
    Identity(#[source] io::Error),
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    #[error("syncing the journal")]
    Sync(#[source] io::Error),
    #[error("removing {}", .0.display())]
    Remove(PathBuf, #[source] io::Error),
}

/// Turns this process into a supervisor if it was started as one; to be called first in `main`, before any thread is
/// started. `None`: it was not, go on.
#[must_use]
pub fn main_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let first = args.next()?;
    if first == PROBE_ARGUMENT {
        return Some(say_what_can_be_limited());
    }
    if first != ARGUMENT {
        return None;
    }
    close_what_was_inherited();
    Some(match supervise(args.next(), args.next(), args.next()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    })
}

fn say_what_can_be_limited() -> ExitCode {
    let said = postcard::to_stdvec(&Site::find(&Ground::Delegated).enforced())
        .ok()
        .map(|bytes| io::stdout().write_all(&bytes));
    if matches!(said, Some(Ok(()))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Closes what the agent inherited itself and may not know of: a pipe of the shell that it was started in would stay
/// open for as long as the job runs.
fn close_what_was_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > 2) {
        // EBADF for the one that the directory was read through.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Writes an error and its sources to standard error, which is the supervisor's log.
fn report(error: &dyn std::error::Error) {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    eprintln!("{line}");
}

/// What stays the same from attempt to attempt.
struct Supervisor {
    channel: Channel,
    control: UnixListener,
    journal: Journal,
    children: Children,
    identity: Identity,
    confinement: Confinement,
}

/// How others recognise this supervisor's session.
struct Identity {
    pid: i32,
    start_ticks: u64,
    boot_id: String,
}

fn supervise(
    state_dir: Option<OsString>,
    id: Option<OsString>,
    groups: Option<OsString>,
) -> Result<(), SupervisorError> {
    let (Some(state_dir), Some(id)) = (state_dir, id.and_then(|id| id.into_string().ok())) else {
        return Err(SupervisorError::Usage);
    };
    let directory = supervisors_dir::of(Path::new(&state_dir), &id);
    let mut supervisor = Supervisor::set_up(&directory, Ground::from_argument(groups))?;
    supervisor.serve()?;
    if supervisor.journal.is_settled() {
        std::fs::remove_dir_all(&directory).map_err(|error| SupervisorError::Remove(directory, error))
    } else {
        // It may be long before the next agent reads it.
        supervisor.journal.sync().map_err(SupervisorError::Sync)
    }
}

impl Supervisor {
    fn set_up(directory: &Path, ground: Ground) -> Result<Self, SupervisorError> {
        // Fails only for the leader of a group, which then has no terminal of the agent's either.
        let _ = setsid();
        std::env::set_current_dir(directory).map_err(|e| SupervisorError::Enter(directory.to_owned(), e))?;
        let children = Children::watch().map_err(SupervisorError::Children)?;
        set_child_subreaper(Some(getpid())).map_err(|e| SupervisorError::Children(e.into()))?;
        let channel = take_channel().map_err(SupervisorError::Channel)?;
        let control = UnixListener::bind(supervisors_dir::CONTROL).map_err(SupervisorError::Control)?;
        let journal = make_journal(Path::new(".")).map_err(SupervisorError::Journal)?;
        let pid = getpid().as_raw_nonzero().get();
        let start_ticks = process_table::stat(pid)
            .ok_or_else(|| SupervisorError::Identity(io::ErrorKind::NotFound.into()))?
            .start_ticks;
        Ok(Self {
            channel,
            control,
            journal,
            children,
            identity: Identity {
                pid,
                start_ticks,
                boot_id: process_table::boot_id().map_err(SupervisorError::Identity)?,
            },
            confinement: Confinement::new(ground),
        })
    }

    fn serve(&mut self) -> Result<(), SupervisorError> {
        self.channel.send(&[FromSupervisor::Ready]);
        while let Some(message) = self.channel.receive() {
            match message {
                ToSupervisor::Run {
                    acknowledged,
                    order,
                    user,
                } => {
                    self.journal.acknowledge(acknowledged);
                    // Whoever takes over from a dead agent starts nothing that he did not order.
                    if self.channel.is_cut() {
                        return Ok(());
                    }
                    self.run(*order, user.as_ref())?;
                    if self.channel.is_adopted() {
                        return Ok(());
                    }
                }
                // Its attempt has ended meanwhile.
                ToSupervisor::Stop { .. } => {}
                ToSupervisor::Quit { acknowledged } => {
                    self.journal.acknowledge(acknowledged);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Moves the channel from standard input, which becomes `/dev/null`, for the jobs to inherit.
fn take_channel() -> io::Result<Channel> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Channel::new(stream))
}

fn make_journal(directory: &Path) -> io::Result<Journal> {
    let path = directory.join(journal::FILE_NAME);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // Held by this open file until the process ends.
    file.lock()?;
    let journal = Journal::create(file)?;
    // The names on the way to it are as durable as its content.
    for parent in [".", "..", "../.."] {
        File::open(directory.join(parent))?.sync_all()?;
    }
    Ok(journal)
}
