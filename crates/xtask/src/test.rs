//! The tests.

use anyhow::Result;

use crate::command::{run, works};
use crate::repository::Repository;
use crate::setup;
use crate::step::Skipped;

/// Sets the machine up and runs every test: by nextest if it is there, and the examples in the documentation, which
/// nextest does not run, before that; else by cargo alone.
///
/// The end-to-end tests start the real binaries, which nobody builds for tests of another crate. They are built
/// together with the tests, so that both stand on one build of everything below.
pub(crate) fn check(repository: &Repository) -> Result<Skipped> {
    setup::ensure()?;
    run(repository.cargo(&["build", "--workspace", "--locked", "--bins", "--tests"]))?;
    if works(repository.cargo(&["nextest", "--version"])) {
        run(repository.cargo(&["test", "--workspace", "--locked", "--doc", "--quiet"]))?;
        run(repository.cargo(&["nextest", "run", "--workspace", "--locked"]))?;
    } else {
        run(repository.cargo(&["test", "--workspace", "--locked"]))?;
    }
    Ok(Skipped::new())
}
