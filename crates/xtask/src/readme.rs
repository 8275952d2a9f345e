//! README's commands: each block of them that is marked `checked` is run, as a reader would, and what README says
//! that they print is compared with what they print.
//!
//! Haul's own state lies in a directory of its own meanwhile, and what was started in the background is stopped at
//! the end. `HOME` stays: the settings of the tools that README presumes (Rust, Python) are below it.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use haul_page::Command as Checked;
use serde::Deserialize;

use crate::command::output;
use crate::repository::Repository;
use crate::setup;
use crate::step::Skipped;

/// The first command builds everything, optimised, perhaps on one core.
const LIMIT_SECONDS: u32 = 45 * 60;

/// Stops what runs in the background, and waits for it: it holds these locks as long as it lives.
const STOP: &str = "haul local stop && cd \"$XDG_STATE_HOME/haul\" \
    && timeout 60 flock controller.lock true && timeout 60 flock agent/agent.lock true";

/// Runs the commands in order.
pub(crate) fn check(repository: &Repository) -> Result<Skipped> {
    setup::ensure()?;
    let commands = haul_page::commands(&repository.read("README.md")?).context("README.md")?;
    if commands.is_empty() {
        bail!("README.md has no block that is marked `checked`");
    }
    // The path of a socket is below it, and may not be long.
    let scratch = tempfile::Builder::new()
        .prefix("haul-readme-")
        .tempdir()
        .context("cannot make a directory")?;
    let reader = Reader {
        repository,
        scratch: scratch.path(),
        target: target_directory(repository)?,
    };
    reader.settle()?;
    let outcome = commands.iter().try_for_each(|command| reader.follow(command));
    // Whatever has become of them: nothing is left running.
    let stopped = output(reader.shell(STOP));
    outcome?;
    let stopped = stopped?;
    if !stopped.status.success() {
        bail!(
            "what was started in the background does not go: {}",
            String::from_utf8_lossy(&stopped.stdout).trim()
        );
    }
    Ok(Skipped::new())
}

/// Somebody who does what README says.
struct Reader<'a> {
    repository: &'a Repository,
    scratch: &'a Path,
    target: PathBuf,
}

impl Reader<'_> {
    fn settle(&self) -> Result<()> {
        for name in ["state", "cache", "config", "run"] {
            let path = self.scratch.join(name);
            // Nobody trusts a runtime directory that others may enter.
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(())
    }

    fn shell(&self, line: &str) -> Command {
        // As on a terminal, both streams in one, in order.
        let line = &format!("exec 2>&1\n{line}");
        let mut command = self.repository.command("timeout");
        command.args([
            "--kill-after=10",
            &LIMIT_SECONDS.to_string(),
            "bash",
            "-o",
            "pipefail",
            "-c",
            line,
        ]);
        let mut path = self.target.join("release").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
        for (variable, name) in [
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            command.env(variable, self.scratch.join(name));
        }
        command
    }

    fn follow(&self, command: &Checked) -> Result<()> {
        eprintln!("    README.md:{}: {}", command.line, command.text);
        let ended = output(self.shell(&command.text))?;
        let said = String::from_utf8_lossy(&ended.stdout);
        let place = format!("README.md:{}: `{}`", command.line, command.text);
        if !ended.status.success() {
            bail!("{place} failed ({}); it said:\n{said}", ended.status);
        }
        if let Some(line) = command.first_unmet(&said) {
            bail!("{place} should have printed {line:?}; it said:\n{said}");
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

fn target_directory(repository: &Repository) -> Result<PathBuf> {
    let told = output(repository.cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: Metadata =
        serde_json::from_slice(&told.stdout).context("what cargo metadata says is not understood")?;
    Ok(metadata.target_directory)
}
