//! Licences, sources and known faults of dependencies, by cargo-deny and deny.toml.

use anyhow::Result;

use crate::command::{output, run, works};
use crate::repository::Repository;
use crate::step::Skipped;

/// The version that is installed when there is none; any other that is there will do.
const VERSION: &str = "0.20.2";

/// Checks all that needs no network, and the advisories where their database can be had.
pub(crate) fn check(repository: &Repository) -> Result<Skipped> {
    if !works(repository.cargo(&["deny", "--version"])) {
        run(repository.cargo(&["install", "--locked", "cargo-deny", "--version", VERSION]))?;
    }
    run(repository.cargo(&[
        "deny",
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))?;

    // The database is a repository of its own, on a host that not every machine reaches. A copy that cannot be renewed
    // is not looked at either: a check that passes must mean today's advisories.
    let fetched = output(repository.cargo(&["deny", "--locked", "fetch", "db"]))?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr);
        let why = said
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .unwrap_or("it did not say why");
        return Ok(vec![format!(
            "advisories: their database cannot be fetched: {why}"
        )]);
    }
    run(repository.cargo(&["deny", "--locked", "check", "--disable-fetch", "advisories"]))?;
    Ok(Skipped::new())
}
