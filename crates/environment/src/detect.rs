//! What environment a directory asks for, for a user who did not say.

use std::fs;
use std::path::Path;

use haul_types::Requirements;

use crate::project;

/// What is found in `dir`, beside the script:
///
/// 1. `uv.lock` with a `pyproject.toml`: somebody locked this; nothing is more exact.
/// 2. `requirements.txt`: somebody listed what a run needs; a `pyproject.toml` beside it often only sets up tools, or
///    describes the library and not the run.
/// 3. `pyproject.toml` with `dependencies` in its `[project]` table, be they none. Without that table it holds the
///    settings of tools and is no environment.
///
/// A file that cannot be read counts as absent here; `ensure` says what is wrong with it once it is asked for.
#[must_use]
pub fn detect(dir: &Path) -> Option<Requirements> {
    let pyproject = fs::read_to_string(dir.join("pyproject.toml")).ok();
    let project = || Requirements::Project {
        path: "pyproject.toml".to_owned(),
    };
    if pyproject.is_some() && dir.join("uv.lock").is_file() {
        return Some(project());
    }
    if dir.join("requirements.txt").is_file() {
        return Some(Requirements::RequirementsTxt {
            path: "requirements.txt".to_owned(),
        });
    }
    pyproject
        .filter(|text| project::names_packages(text))
        .map(|_| project())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_beats_a_list_beats_a_project() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(detect(dir.path()), None);
        write("pyproject.toml", "[tool.ruff]\nline-length = 80\n");
        assert_eq!(detect(dir.path()), None, "settings of tools are no environment");
        write(
            "pyproject.toml",
            "[project]\nname = 'x'\nversion = '1'\ndependencies = ['six']\n",
        );
        assert!(matches!(detect(dir.path()), Some(Requirements::Project { .. })));
        write("requirements.txt", "six\n");
        assert!(matches!(
            detect(dir.path()),
            Some(Requirements::RequirementsTxt { .. })
        ));
        write("uv.lock", "version = 1\n");
        assert!(matches!(detect(dir.path()), Some(Requirements::Project { .. })));
    }
}
