//! Which crate may know which, and how files are cut and named.
//!
//! [`table`] says who stands where; [`crates`] compares it with what the manifests say; [`sources`] looks at the files.

mod crates;
mod sources;
mod table;

use anyhow::{Result, bail};

use crate::repository::Repository;
use crate::step::Skipped;

/// Checks the manifests and the files.
pub(crate) fn check(repository: &Repository) -> Result<Skipped> {
    let members = crates::members(repository)?;
    let mut findings = crates::check(&members, &table::TABLE);
    findings.extend(crates::check_manifests(repository, &members)?);
    findings.extend(sources::check(repository)?);
    for finding in &findings {
        eprintln!("    {finding}");
    }
    if !findings.is_empty() {
        bail!(
            "{} findings; the table is crates/xtask/src/layers/table.rs",
            findings.len()
        );
    }
    Ok(Skipped::new())
}
