//! The groups of one attempt.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::site::Part;
use super::{LimitError, set};
use crate::order::Limits;
use crate::process_tree::signal;

/// The time over which a share of processors is counted, in microseconds: the kernel's own choice.
const CPU_PERIOD_US: u64 = 100_000;
/// The least share of it that the kernel takes.
const CPU_QUOTA_AT_LEAST_US: u64 = 1_000;

/// One group in each hierarchy.
#[derive(Debug)]
pub(crate) struct AttemptGroup {
    groups: Vec<(Part, PathBuf)>,
}

impl AttemptGroup {
    pub(super) fn make(groups: Vec<(Part, PathBuf)>, limits: &Limits) -> Result<Self, LimitError> {
        let group = Self { groups };
        group.set_up(limits).inspect_err(|_| group.remove())?;
        Ok(group)
    }

    fn set_up(&self, limits: &Limits) -> Result<(), LimitError> {
        for (part, dir) in &self.groups {
            match fs::create_dir(dir) {
                // Of a supervisor that was killed; its processes were ended when that was found.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(LimitError::at(dir))?,
            }
            let [cpu, memory, pids] = part.controls;
            if let Some(share) = limits.cpus.filter(|_| cpu) {
                let quota = (u64::from(share.0) * CPU_PERIOD_US / 1000).max(CPU_QUOTA_AT_LEAST_US);
                if part.version2 {
                    set(&dir.join("cpu.max"), &format!("{quota} {CPU_PERIOD_US}"))?;
                } else {
                    set(&dir.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
                    set(&dir.join("cpu.cfs_quota_us"), &quota.to_string())?;
                }
            }
            if let Some(most) = limits.memory.filter(|_| memory) {
                limit_memory(part.version2, dir, most.0)?;
            }
            if let Some(most) = limits.pids.filter(|_| pids) {
                set(&dir.join("pids.max"), &most.to_string())?;
            }
        }
        Ok(())
    }

    /// Moves this process in. To be left again whatever happens.
    pub(crate) fn enter(&self) -> Result<(), LimitError> {
        for (_, dir) in &self.groups {
            set(&dir.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Moves this process back to where it was.
    pub(crate) fn leave(&self) -> Result<(), LimitError> {
        for (part, _) in &self.groups {
            set(&part.home.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Kills all members, and says which there were; from now on none can be made.
    pub(crate) fn kill(&self) -> BTreeSet<i32> {
        let mut members = BTreeSet::new();
        for (_, dir) in &self.groups {
            members.extend(kill_group(dir));
        }
        members
    }

    /// How many processes of it the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u32 {
        let memory = self.groups.iter().find(|(part, _)| part.controls[1]);
        memory.map_or(0, |(part, dir)| {
            let file = if part.version2 {
                "memory.events"
            } else {
                "memory.oom_control"
            };
            let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
            field(&text, "oom_kill")
        })
    }

    /// Removes the groups, which have no members any more.
    pub(crate) fn remove(&self) {
        for (_, dir) in &self.groups {
            remove(dir);
        }
    }
}

/// Kills what a supervisor that was killed has left in these groups, and says which processes those were.
pub(crate) fn kill_left(dirs: &[PathBuf]) -> BTreeSet<i32> {
    dirs.iter().flat_map(|dir| kill_group(dir)).collect()
}

/// Removes the groups of a supervisor that was killed.
pub(crate) fn remove_left(dirs: &[PathBuf]) {
    for dir in dirs {
        remove(dir);
    }
}

fn limit_memory(version2: bool, dir: &Path, bytes: u64) -> Result<(), LimitError> {
    let bytes = bytes.to_string();
    // A limit that swap goes around is none. Not every kernel counts swap; then there is nothing to limit.
    let also = |file: &str, value: &str| {
        let path = dir.join(file);
        if path.exists() { set(&path, value) } else { Ok(()) }
    };
    if version2 {
        set(&dir.join("memory.max"), &bytes)?;
        also("memory.swap.max", "0")
    } else {
        set(&dir.join("memory.limit_in_bytes"), &bytes)?;
        also("memory.memsw.limit_in_bytes", &bytes)
    }
}

/// Kills the members of one group and says which they were.
fn kill_group(dir: &Path) -> BTreeSet<i32> {
    let members = members(dir);
    if fs::write(dir.join("cgroup.kill"), "1").is_err() {
        // Version 1, or a kernel before 5.14. Where processes are counted, none can be made from here on, so the walk
        // that follows comes to an end whatever they do.
        let _ = fs::write(dir.join("pids.max"), "0");
        for &pid in &members {
            signal(pid, Signal::KILL);
        }
    }
    members
}

fn members(dir: &Path) -> BTreeSet<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0: a process outside of this one's namespace.
    let mut members: BTreeSet<i32> = text
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .filter(|&pid| pid > 0)
        .collect();
    for inner in inner(dir) {
        members.extend(self::members(&inner));
    }
    members
}

/// Groups within, which a job may have made.
fn inner(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove(dir: &Path) {
    for inner in inner(dir) {
        remove(&inner);
    }
    // What has members still waits for a disk; it is an empty shell once they are gone, and harms nobody.
    let _ = fs::remove_dir(dir);
}

fn field(text: &str, name: &str) -> u32 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_is_not_taken_for_another() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), 3);
        assert_eq!(field("low 0\noom 2\n", "oom_kill"), 0);
    }
}
