//! Which files stay behind.
//!
//! One of three sources, the first that exists: `.haulignore` at the root, `.amlignore` at the root, or the
//! `.gitignore` files of the tree, nested ones included. All use git's pattern syntax; what lies in an ignored directory
//! is ignored, whatever other patterns say. Besides, version control's own directories and virtual environments (a
//! directory that holds `pyvenv.cfg` or `conda-meta`) never travel: the former are large and private, the latter work at
//! one path of one machine only.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::io::Errno;

use super::BadRule;
use crate::beneath::{Beneath, join};
use crate::name::Name;

/// Files at the root that rule alone, the first one that exists.
const ALONE: [&[u8]; 2] = [b".haulignore", b".amlignore"];
/// The file that rules its own directory when none of those exists.
pub(super) const NESTED: &[u8] = b".gitignore";
/// Version control's directories (or, in a git worktree, file).
const VERSION_CONTROL: [&[u8]; 3] = [b".git", b".hg", b".svn"];
/// What marks a directory as a virtual environment.
const ENVIRONMENT_MARKS: [&[u8]; 2] = [b"pyvenv.cfg", b"conda-meta"];
/// An ignore file is read up to this length.
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// Which rules a scan obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoreRules {
    /// Those in the tree, and the fixed ones.
    FromTree,
    /// None: everything travels.
    None,
}

/// Why a path stays behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IgnoredBy {
    /// A pattern.
    Pattern {
        /// The ignore file, relative to the root.
        file: Name,
        /// The line in it, from 1.
        line: usize,
        /// The pattern.
        pattern: String,
    },
    /// It is version control's.
    VersionControl {
        /// The directory.
        path: Name,
    },
    /// It is in a virtual environment.
    VirtualEnvironment {
        /// The environment's directory.
        path: Name,
    },
}

impl fmt::Display for IgnoredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { file, line, pattern } => write!(f, "{file}:{line} ({pattern})"),
            Self::VersionControl { path } => write!(f, "{path}, which is version control's"),
            Self::VirtualEnvironment { path } => write!(f, "{path}, which is a virtual environment"),
        }
    }
}

/// The patterns that apply in one directory: its own, then those of the directories above.
#[derive(Debug)]
pub(super) struct Level {
    matcher: Gitignore,
    /// The ignore file.
    file: Vec<u8>,
    /// Bytes of a path before what its patterns look at: the directory and a slash.
    prefix: usize,
    above: Option<Arc<Self>>,
}

/// The patterns to begin with at the root, and whether `.gitignore` files count.
pub(super) struct Start {
    pub(super) level: Option<Arc<Level>>,
    pub(super) nested: bool,
    pub(super) bad: Vec<BadRule>,
}

/// Finds what rules at the root.
pub(super) fn start(root: &Beneath) -> Result<Start, (Vec<u8>, io::Error)> {
    let mut bad = Vec::new();
    for file in ALONE {
        if let Some(level) = read(root, b"", file, None, &mut bad).map_err(|error| (file.to_vec(), error))? {
            return Ok(Start {
                level: Some(level),
                nested: false,
                bad,
            });
        }
    }
    Ok(Start {
        level: None,
        nested: true,
        bad,
    })
}

/// Reads the ignore file `name` of directory `dir`; `None` if there is none. As in git, one that is a link is none.
pub(super) fn read(
    root: &Beneath,
    dir: &[u8],
    name: &[u8],
    above: Option<&Arc<Level>>,
    bad: &mut Vec<BadRule>,
) -> io::Result<Option<Arc<Level>>> {
    let path = join(dir, name);
    let file = match root.read(&path) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if file.take(MAX_IGNORE_FILE + 1).read_to_end(&mut bytes)? as u64 > MAX_IGNORE_FILE {
        return Err(io::Error::other("an ignore file of more than 1 MiB"));
    }
    let mut builder = GitignoreBuilder::new(".");
    for (index, line) in lines(&bytes).enumerate() {
        if let Err(error) = builder.add_line(None, &line) {
            bad.push(BadRule {
                file: path.clone().into(),
                line: index + 1,
                problem: error.to_string(),
            });
        }
    }
    let matcher = builder.build().map_err(io::Error::other)?;
    Ok(Some(Arc::new(Level {
        matcher,
        file: path,
        prefix: if dir.is_empty() { 0 } else { dir.len() + 1 },
        above: above.cloned(),
    })))
}

/// The lines of an ignore file as the matcher gets them.
fn lines(bytes: &[u8]) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .split(|&byte| byte == b'\n')
        .map(|line| String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)))
}

impl Level {
    /// The level and pattern that decide about `path`, if any: the last one of the nearest file wins.
    fn deciding(&self, path: &[u8], is_dir: bool) -> Option<(&Self, &ignore::gitignore::Glob, bool)> {
        let mut level = Some(self);
        while let Some(here) = level {
            let relative = Path::new(OsStr::from_bytes(&path[here.prefix..]));
            match here.matcher.matched(relative, is_dir) {
                ignore::Match::None => level = here.above.as_deref(),
                ignore::Match::Ignore(glob) => return Some((here, glob, true)),
                ignore::Match::Whitelist(glob) => return Some((here, glob, false)),
            }
        }
        None
    }

    /// Whether `path`, whose directory is not ignored, is.
    pub(super) fn ignores(&self, path: &[u8], is_dir: bool) -> bool {
        self.deciding(path, is_dir).is_some_and(|(_, _, ignored)| ignored)
    }
}

/// Whether `name` is version control's.
pub(super) fn is_version_control(name: &[u8]) -> bool {
    VERSION_CONTROL.contains(&name)
}

/// Whether a directory that holds `name` is a virtual environment.
pub(super) fn marks_environment(name: &[u8]) -> bool {
    ENVIRONMENT_MARKS.contains(&name)
}

/// Why `path` (relative to `root`, or within it) would be left out of a snapshot; `None` if it would travel, were it
/// there.
pub fn ignored_reason(root: &Path, path: &Path) -> io::Result<Option<IgnoredBy>> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let mut components = Vec::new();
    for component in relative.components() {
        match component {
            std::path::Component::Normal(name) => components.push(name.as_bytes()),
            std::path::Component::CurDir => {}
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the path is not within the root",
                ));
            }
        }
    }
    let beneath = Beneath::open(root)?;
    let start = start(&beneath).map_err(|(_, error)| error)?;
    let (mut level, mut at, mut bad) = (start.level, Vec::new(), Vec::new());
    for (index, name) in components.iter().enumerate() {
        if start.nested {
            level = read(&beneath, &at, NESTED, level.as_ref(), &mut bad)?.or(level);
        }
        at = join(&at, name);
        let is_dir = index + 1 < components.len() || beneath.dir(&at).is_ok();
        if is_version_control(name) {
            return Ok(Some(IgnoredBy::VersionControl { path: at.into() }));
        }
        let decided = level.as_ref().and_then(|level| level.deciding(&at, is_dir));
        if let Some((level, glob, true)) = decided {
            return Ok(Some(IgnoredBy::Pattern {
                file: level.file.clone().into(),
                line: line_of(&beneath, &level.file, glob.original())?,
                pattern: glob.original().to_owned(),
            }));
        }
        if is_dir
            && ENVIRONMENT_MARKS
                .iter()
                .any(|mark| exists(&beneath, &join(&at, mark)))
        {
            return Ok(Some(IgnoredBy::VirtualEnvironment { path: at.into() }));
        }
    }
    Ok(None)
}

/// The last line of the ignore file with this pattern: the last one is the one that counts.
fn line_of(root: &Beneath, file: &[u8], pattern: &str) -> io::Result<usize> {
    let mut bytes = Vec::new();
    root.read(file)?.take(MAX_IGNORE_FILE).read_to_end(&mut bytes)?;
    let mut found = 1;
    for (index, line) in lines(&bytes).enumerate() {
        if line.trim_end() == pattern.trim_end() {
            found = index + 1;
        }
    }
    Ok(found)
}

fn exists(root: &Beneath, path: &[u8]) -> bool {
    rustix::fs::statat(root.fd(), path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
