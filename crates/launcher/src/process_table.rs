//! What `/proc` says about processes.
//!
//! Every answer may be out of date when it is returned; callers ask again until nothing changes.

use std::fs;
use std::io;
use std::path::Path;

use haul_types::AttemptId;

/// The variables that mark the processes of an attempt, in the order of [`marks`].
pub(crate) const MARK_NAMES: [&str; 3] = ["HAUL_JOB_ID", "HAUL_TASK_INDEX", "HAUL_ATTEMPT"];

/// Their values for `attempt`.
pub(crate) fn marks(attempt: AttemptId) -> [String; 3] {
    [
        attempt.task.job.to_string(),
        attempt.task.index.to_string(),
        attempt.attempt.to_string(),
    ]
}

/// The parts of `/proc/<pid>/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// When it was started, in ticks since boot. With its id it names a process for good.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Whether it still runs, as opposed to waiting for its parent to take notice of its end.
    pub(crate) const fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The name in parentheses may hold anything, also `)`; what follows the last one are fields 3 and up.
        let after_name = text.iter().rposition(|&byte| byte == b')')? + 1;
        let rest = std::str::from_utf8(text.get(after_name..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            state: *fields.next()?.as_bytes().first()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
            start_ticks: fields.nth(15)?.parse().ok()?,
        })
    }
}

/// The process `pid`, if there is one.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Which boot of the machine this is: the kernel's, and when its first process was started. In a container that is the
/// container's, which is started again without the kernel.
pub(crate) fn boot_id() -> io::Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let first = stat(1).map_or(0, |first| first.start_ticks);
    Ok(format!("{}.{first}", kernel.trim_end()))
}

/// Every process there is.
pub(crate) fn all() -> Vec<i32> {
    numbers_in(Path::new("/proc"))
}

fn numbers_in(directory: &Path) -> Vec<i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The children of every thread of `pid`.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    for thread in numbers_in(Path::new(&format!("/proc/{pid}/task"))) {
        match fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")) {
            Ok(list) => children.extend(
                list.split_ascii_whitespace()
                    .filter_map(|child| child.parse::<i32>().ok()),
            ),
            // A kernel without CONFIG_PROC_CHILDREN; otherwise the thread has ended since, and its children belong
            // to another one.
            Err(_) if !Path::new("/proc/thread-self/children").exists() => {
                return all()
                    .into_iter()
                    .filter(|&child| stat(child).is_some_and(|s| s.parent == pid))
                    .collect();
            }
            Err(_) => {}
        }
    }
    children
}

/// Whether the environment that `pid` was started with bears the marks of `attempt`.
pub(crate) fn bears_marks(pid: i32, attempt: AttemptId) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let values = marks(attempt);
    MARK_NAMES.iter().zip(&values).all(|(name, value)| {
        environment.split(|&byte| byte == 0).any(|variable| {
            variable
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
                == Some(value.as_bytes())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_fields_after_it() {
        let text = b"42 (a) S 1 2 (b) R 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: b'R',
                parent: 7,
                group: 8,
                session: 9,
                start_ticks: 987_654
            }
        );
        assert_eq!(Stat::parse(b"42 (a"), None);
    }

    #[test]
    fn this_process_is_found_by_its_parent() {
        let own = std::process::id().cast_signed();
        let parent = stat(own).unwrap().parent;
        assert!(children(parent).contains(&own));
    }
}
