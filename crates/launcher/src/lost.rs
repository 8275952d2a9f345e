//! Attempts whose supervisor is gone without having written down their end.
//!
//! Their processes have no parent that would end them, so they are looked for in the whole process table:
//!
//! * by the marks in the environment they were started with;
//! * by the session of the dead supervisor, where that session's number still means it;
//! * by the recorded main process, its id checked against the time it was started, and its group;
//! * by the control groups that its supervisor noted;
//! * and all that descend from those.
//!
//! What escapes where there was no control group: a process that put on another environment, made its own session and
//! lost its parent, all three. And processes of another user, when the launcher has no right to them.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::cgroup::{kill_left, remove_left};
use crate::journal::Unfinished;
use crate::order::Boot;
use crate::process_table::{all, bears_marks, boot_id, stat};
use crate::process_tree::{freeze, signal};
use crate::supervisors_dir::GROUPS;

/// How long processes may take to die. What takes longer waits for a disk that does not answer; the attempt is
/// reported nevertheless.
const DEATH_WITHIN: Duration = Duration::from_secs(5);

/// Ends every process of the attempt, and tells how many there were and whether the machine is the same since. `directory`
/// is its supervisor's.
pub(crate) fn end_processes(unfinished: &Unfinished, directory: &Path) -> (Boot, u32) {
    // A damaged intent: assume the worse, that something may be left.
    let boot = match (&unfinished.intent, boot_id()) {
        (Some(intent), Ok(now)) if intent.boot_id != now => return (Boot::Other, 0),
        _ => Boot::Same,
    };
    let give_up_at = Instant::now() + DEATH_WITHIN;
    let mut killed = BTreeSet::new();
    let groups = noted_groups(directory);
    loop {
        let mut found = find(unfinished);
        found.extend(kill_left(&groups));
        if found.is_empty() {
            break;
        }
        for &pid in &found.clone() {
            signal(pid, Signal::STOP);
            found.extend(freeze(pid));
        }
        let handles: Vec<OwnedFd> = found
            .iter()
            .filter_map(|&pid| pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok())
            .collect();
        for &pid in &found {
            signal(pid, Signal::KILL);
        }
        killed.append(&mut found);
        if !wait_for_deaths(handles, give_up_at) {
            break;
        }
    }
    remove_left(&groups);
    (boot, u32::try_from(killed.len()).unwrap_or(u32::MAX))
}

/// The groups of the last attempt that had any; one that was removed since has no members either.
fn noted_groups(directory: &Path) -> Vec<PathBuf> {
    let noted = std::fs::read_to_string(directory.join(GROUPS)).unwrap_or_default();
    noted.lines().map(PathBuf::from).collect()
}

/// Waits for the ends of these; `false` when the time is over.
fn wait_for_deaths(handles: Vec<OwnedFd>, give_up_at: Instant) -> bool {
    for handle in handles {
        let left = give_up_at.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::from_borrowed_fd(
            std::os::fd::AsFd::as_fd(&handle),
            PollFlags::IN,
        )];
        let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
    }
    Instant::now() < give_up_at
}

fn find(unfinished: &Unfinished) -> BTreeSet<i32> {
    let own = std::process::id().cast_signed();
    let main = unfinished
        .main
        .filter(|&(pid, start_ticks)| stat(pid).is_some_and(|s| s.start_ticks == start_ticks));
    // A session's number is not given to another process while the session has members. So if somebody bears it now,
    // the session has ended, and the members are another one's.
    let session = unfinished
        .intent
        .as_ref()
        .map(|intent| (intent.supervisor_pid, intent.supervisor_start_ticks))
        .filter(|&(leader, _)| stat(leader).is_none_or(|s| !s.is_alive()));
    all()
        .into_iter()
        .filter(|&pid| pid != own && pid > 1)
        .filter(|&pid| {
            let Some(stat) = stat(pid).filter(super::process_table::Stat::is_alive) else {
                return false;
            };
            let in_session =
                session.is_some_and(|(leader, start)| stat.session == leader && stat.start_ticks >= start);
            let with_main = main.is_some_and(|(main, _)| pid == main || stat.group == main);
            in_session || with_main || bears_marks(pid, unfinished.attempt)
        })
        .collect()
}
