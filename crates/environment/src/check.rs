//! Whether the files that name packages can be used at all, found out where the job is submitted: a mistake in them is
//! better told before there is a job. Whether the packages exist is for the build to find out.

use std::path::Path;

use haul_types::Requirements;

use crate::error::RequirementsError;
use crate::inputs::Inputs;
use crate::redact::Redactor;
use crate::{project, requirements};

/// Reads what `wanted` names in `source_dir` as a build would. `var` gives the variables that a requirements file may
/// refer to.
pub fn check(
    wanted: &Requirements,
    source_dir: &Path,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<(), RequirementsError> {
    let mut inputs = Inputs::to_look_at(source_dir)?;
    let mut redactor = Redactor::default();
    match wanted {
        Requirements::RequirementsTxt { path } => {
            requirements::read(&mut inputs, Path::new(path), var, &mut redactor)?;
            project::read_settings(&mut inputs, &mut redactor)?;
        }
        Requirements::Project { path } => {
            project::read(&mut inputs, Path::new(path), &mut redactor)?;
        }
    }
    Ok(())
}
