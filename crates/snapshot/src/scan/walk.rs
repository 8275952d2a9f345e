//! Walks the tree: a few threads take directories from one stack.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::rules::{self, IgnoreRules, Level};
use super::{BadRule, Found, FoundKind, Refusal, ScanProgress};
use crate::beneath::{self, Beneath, LIST_BUFFER, Listed};
use crate::manifest::{MAX_DEPTH, MAX_PATH};
use crate::workers::work_off;

/// What the walk came across, in no order.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) found: Vec<Found>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) bad_rules: Vec<BadRule>,
}

/// A directory to be read.
struct Todo {
    path: Vec<u8>,
    depth: usize,
    level: Option<Arc<Level>>,
}

struct Walk<'a> {
    root: &'a Beneath,
    rules: IgnoreRules,
    nested: bool,
}

/// Walks everything beneath `root` that the rules let through; fails only if the root itself cannot be read.
pub(super) fn walk(
    root: &Beneath,
    rules: IgnoreRules,
    threads: usize,
    progress: &dyn ScanProgress,
) -> Result<Walked, Errno> {
    let mut walked = Walked::default();
    let mut first = Todo {
        path: Vec::new(),
        depth: 0,
        level: None,
    };
    let mut nested = false;
    if rules == IgnoreRules::FromTree {
        match rules::start(root) {
            Ok(start) => {
                first.level = start.level;
                nested = start.nested;
                walked.bad_rules = start.bad;
            }
            Err((path, source)) => walked.refusals.push(Refusal::Unreadable {
                path: path.into(),
                source,
            }),
        }
    }
    root.dir(b"")?;
    let walk = Walk { root, rules, nested };
    let parts = work_off(threads, first, |todo, own, walked: &mut Walked| {
        let buffer = &mut vec![MaybeUninit::uninit(); LIST_BUFFER];
        let before = walked.found.len();
        if let Err(errno) = walk.read_dir(&todo, buffer, own, walked) {
            walked.refusals.push(Refusal::Unreadable {
                path: todo.path.into(),
                source: errno.into(),
            });
        }
        progress.on_found((walked.found.len() - before) as u64);
    });
    for part in parts {
        walked.found.extend(part.found);
        walked.refusals.extend(part.refusals);
        walked.bad_rules.extend(part.bad_rules);
    }
    Ok(walked)
}

impl Walk<'_> {
    fn read_dir(
        &self,
        todo: &Todo,
        buffer: &mut [MaybeUninit<u8>],
        own: &mut Vec<Todo>,
        walked: &mut Walked,
    ) -> Result<(), Errno> {
        let dir = self.root.dir(&todo.path)?;
        let names = beneath::list(dir.as_fd(), buffer)?;
        let obeys = self.rules == IgnoreRules::FromTree;
        // An environment at the root is what the user asked for by name; below, it is a left-over.
        if obeys && todo.depth > 0 && names.iter().any(|name| rules::marks_environment(&name.name)) {
            return Ok(());
        }
        if todo.depth > 0 {
            walked.found.push(Found {
                path: todo.path.clone(),
                what: FoundKind::Dir(beneath::stamp_of(&dir)?.permissions()),
            });
        }
        let mut level = todo.level.clone();
        if self.nested && names.iter().any(|name| name.name == rules::NESTED) {
            match rules::read(
                self.root,
                &todo.path,
                rules::NESTED,
                level.as_ref(),
                &mut walked.bad_rules,
            ) {
                Ok(own) => level = own.or(level),
                Err(source) => walked.refusals.push(Refusal::Unreadable {
                    path: beneath::join(&todo.path, rules::NESTED).into(),
                    source,
                }),
            }
        }
        for listed in names {
            if obeys && rules::is_version_control(&listed.name) {
                continue;
            }
            let path = beneath::join(&todo.path, &listed.name);
            let is_dir = listed.kind.is_dir();
            if level.as_ref().is_some_and(|level| level.ignores(&path, is_dir)) {
                continue;
            }
            if path.len() > MAX_PATH || todo.depth >= MAX_DEPTH {
                walked.refusals.push(Refusal::TooDeep { path: path.into() });
            } else if is_dir {
                own.push(Todo {
                    path,
                    depth: todo.depth + 1,
                    level: level.clone(),
                });
            } else {
                take_entry(dir.as_fd(), &listed, path, walked);
            }
        }
        Ok(())
    }
}

/// Takes what is no directory.
fn take_entry(dir: std::os::fd::BorrowedFd<'_>, listed: &Listed, path: Vec<u8>, walked: &mut Walked) {
    let what = match listed.kind {
        FileType::RegularFile => match beneath::stamp_at(dir, &listed.name) {
            Ok(stamp) if stamp.kind().is_file() => Ok(FoundKind::File(stamp)),
            Ok(_) => return walked.refusals.push(Refusal::Changing { path: path.into() }),
            Err(errno) => Err(errno),
        },
        FileType::Symlink => rustix::fs::readlinkat(dir, listed.name.as_slice(), Vec::new())
            .map(|target| FoundKind::Link(target.into_bytes())),
        other => {
            return walked.refusals.push(Refusal::Special {
                path: path.into(),
                what: describe(other),
            });
        }
    };
    match what {
        Ok(what) => walked.found.push(Found { path, what }),
        // Gone since it was listed: as if it had gone before.
        Err(Errno::NOENT) => {}
        Err(errno) => walked.refusals.push(Refusal::Unreadable {
            path: path.into(),
            source: errno.into(),
        }),
    }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of an unknown kind",
    }
}
