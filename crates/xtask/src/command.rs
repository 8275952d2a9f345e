//! Running programs, and saying which.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command with this process's own output; anything but success is an error.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    eprintln!("    {shown}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs a command and gives back what it wrote, whatever came of it.
pub(crate) fn output(mut command: Command) -> Result<Output> {
    let shown = show(&command);
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))
}

/// Whether a command can be started and says that all is well.
pub(crate) fn works(command: Command) -> bool {
    output(command).is_ok_and(|output| output.status.success())
}

/// The command as one would type it.
fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut text = program.rsplit('/').next().unwrap_or_default().to_owned();
    for word in command.get_args() {
        text.push(' ');
        text += &word.to_string_lossy();
    }
    text
}
