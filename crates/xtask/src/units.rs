//! How exposed the services of `deploy/systemd` are, by systemd's own measure, and that each may be no more.

use anyhow::{Context as _, Result, bail};

use crate::command::output;
use crate::repository::Repository;
use crate::setup;
use crate::step::Skipped;

/// Each unit, and its limit in tenths of a point: those that talk to the network have no rights at all, the one that
/// has rights talks to nobody but the agent.
const LIMITS: [(&str, u32); 3] = [
    ("haul-agent.service", 15),
    ("haul-controller.service", 15),
    ("haul-launcher.service", 45),
];

/// Measures every service that is there, so that a new one without a limit fails.
pub(crate) fn check(repository: &Repository) -> Result<Skipped> {
    setup::ensure()?;
    let directory = repository.path("deploy/systemd");
    let mut services: Vec<String> = std::fs::read_dir(&directory)
        .with_context(|| format!("reading {}", directory.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".service"))
        .collect();
    services.sort();
    let limited: Vec<&str> = LIMITS.iter().map(|(name, _)| *name).collect();
    if services != limited {
        bail!("deploy/systemd holds {services:?}, and there are limits for {limited:?}");
    }
    for (name, limit) in LIMITS {
        let mut analyze = repository.command("systemd-analyze");
        analyze
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={limit}"))
            .arg(directory.join(name));
        let measured = output(analyze)?;
        let text = String::from_utf8_lossy(&measured.stdout);
        let verdict = text.lines().last().unwrap_or_default();
        eprintln!("  {}", verdict.trim_start_matches(['→', ' ']));
        if !measured.status.success() {
            bail!(
                "{name} is more exposed than {}.{}:\n{text}{}",
                limit / 10,
                limit % 10,
                String::from_utf8_lossy(&measured.stderr)
            );
        }
    }
    Ok(Skipped::new())
}
