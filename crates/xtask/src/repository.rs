//! Where the repository is, and what lies in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The directories that hold the workspace's crates.
const CRATES: [&str; 4] = ["crates", "agent", "controller", "tests"];

/// The repository that this program was started in.
pub(crate) struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The repository that cargo runs this program for; a copy of the program may outlive the one that built it.
    pub(crate) fn find() -> Result<Self> {
        let here = std::env::var_os("CARGO_MANIFEST_DIR");
        let here = here.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = here
            .ancestors()
            .nth(2)
            .context("crates/xtask lies in no repository")?
            .to_owned();
        Ok(Self { root })
    }

    /// A path in it.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path as people write it, relative to the root.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// A cargo command, in the root.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(words);
        command
    }

    /// Any command, in the root.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// A file's text.
    pub(crate) fn read(&self, relative: &str) -> Result<String> {
        let path = self.path(relative);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Every Rust file of the workspace, sorted.
    pub(crate) fn rust_files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in CRATES {
            files_below(&self.path(directory), "rs", &mut found)?;
        }
        found.sort();
        Ok(found)
    }

    /// Every file below a directory whose name ends in `.extension`, sorted.
    pub(crate) fn files(&self, relative: &str, extension: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        files_below(&self.path(relative), extension, &mut found)?;
        found.sort();
        Ok(found)
    }
}

fn files_below(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot look at {}", path.display()))?;
        if kind.is_dir() {
            // A crate's own target directory, should somebody have built it alone.
            if path.file_name() != Some(OsStr::new("target")) {
                files_below(&path, extension, found)?;
            }
        } else if path.extension() == Some(OsStr::new(extension)) {
            found.push(path);
        }
    }
    Ok(())
}
