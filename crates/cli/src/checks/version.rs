//! `haul version`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::VersionReport;

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What tells this build from another, as the build script has it.
pub const BUILD: &str = env!("HAUL_BUILD");

pub(crate) fn version(context: &mut Context) -> Result<Exit, Failure> {
    context.output.report(&VersionReport {
        version: VERSION,
        build: BUILD,
    });
    Ok(Exit::SUCCESS)
}
