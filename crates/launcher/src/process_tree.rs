//! Signals to a process and all that descend from it.
//!
//! A walk that only looks loses a race against processes that fork; [`freeze`] stops each process before it reads
//! its children, so that what has been seen cannot grow. Ids are signalled right after they were read; that one was
//! given to a stranger in between would take a whole turn through the id space in those microseconds.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::process_table::{self, stat};

/// Sends a signal to one process; that it has ended already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // ESRCH: it is gone. EPERM: it runs as somebody else by now, and nothing can be done from here.
        let _ = kill_process(pid, signal);
    }
}

/// All that descend from `root`, without `root`.
pub(crate) fn descendants(root: i32) -> BTreeSet<i32> {
    let mut seen = BTreeSet::new();
    walk(root, &mut seen, |_| {});
    seen
}

/// Stops all that descend from `root`, and returns those. Repeats until a walk finds no new one: a process whose
/// parent ends during the walk turns up below another.
pub(crate) fn freeze(root: i32) -> BTreeSet<i32> {
    let mut seen = BTreeSet::new();
    let mut groups = BTreeSet::new();
    let own_group = stat(root).map_or(0, |s| s.group);
    loop {
        let before = seen.len();
        let mut round = BTreeSet::new();
        walk(root, &mut round, |pid| {
            signal(pid, Signal::STOP);
            // One call stops a whole group, those that are being forked included. A group of a descendant holds
            // descendants only, because groups do not span sessions and the supervisor made its own session; the
            // supervisor's own group is the one exception that a process can join.
            let group = stat(pid).map_or(0, |s| s.group);
            if group > 1
                && group != own_group
                && groups.insert(group)
                && let Some(group) = Pid::from_raw(group)
            {
                let _ = kill_process_group(group, Signal::STOP);
            }
        });
        seen.extend(round);
        if seen.len() == before {
            return seen;
        }
    }
}

fn walk(root: i32, seen: &mut BTreeSet<i32>, mut visit: impl FnMut(i32)) {
    let mut waiting = process_table::children(root);
    while let Some(pid) = waiting.pop() {
        if seen.insert(pid) {
            visit(pid);
            waiting.extend(process_table::children(pid));
        }
    }
}
