//! Removing spools: one job's, or all that belong to no known job.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use haul_types::JobId;

use crate::error::SweepError;

/// Added to the name of a spool that is being removed, so that a crash half-way leaves nothing that looks like one.
const REMOVED: &str = "removed";

/// Removes the spool in `dir`; one that was never written is removed already.
///
/// # Errors
///
/// When the directory cannot be renamed or removed.
pub fn remove(dir: &Path) -> Result<(), SweepError> {
    let doomed = dir.with_extension(REMOVED);
    let outcome = match fs::rename(dir, &doomed) {
        // What an earlier removal left lies in the way.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            fs::remove_dir_all(&doomed).and_then(|()| fs::rename(dir, &doomed))
        }
        outcome => outcome,
    };
    match outcome.and_then(|()| fs::remove_dir_all(&doomed)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SweepError::Remove {
            path: dir.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Removes from `root` the spools, named by their job's id, of jobs that are not to be kept, and what half-done removals
/// left. Other names are not touched. Returns the jobs.
///
/// # Errors
///
/// When `root` cannot be listed or a spool cannot be removed; others may be removed by then.
pub fn sweep(root: &Path, keep: impl Fn(JobId) -> bool) -> Result<Vec<JobId>, SweepError> {
    let list_error = |source| SweepError::List {
        path: root.to_owned(),
        source,
    };
    let mut swept = Vec::new();
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
        entries => entries.map_err(list_error)?,
    };
    for entry in entries {
        let path: PathBuf = entry.map_err(list_error)?.path();
        let Some(job) = path
            .file_stem()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<JobId>().ok())
        else {
            continue;
        };
        match path.extension() {
            None if !keep(job) => {
                remove(&path)?;
                swept.push(job);
            }
            Some(extension) if extension == REMOVED => {
                fs::remove_dir_all(&path).map_err(|source| SweepError::Remove { path, source })?;
            }
            _ => {}
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeping_takes_unknown_jobs_and_leftovers_alone() {
        let root = tempfile::tempdir().unwrap();
        let (kept, unknown, half) = (JobId::random(), JobId::random(), JobId::random());
        for name in [
            kept.to_string(),
            unknown.to_string(),
            format!("{half}.removed"),
            "lost+found".to_owned(),
        ] {
            fs::create_dir_all(root.path().join(name).join("inner")).unwrap();
        }
        assert_eq!(sweep(root.path(), |job| job == kept).unwrap(), [unknown]);
        let mut left: Vec<_> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = vec![kept.to_string(), "lost+found".to_owned()];
        expected.sort();
        assert_eq!(left, expected);
        remove(&root.path().join(kept.to_string())).unwrap();
        remove(&root.path().join(kept.to_string())).unwrap();
        assert!(sweep(&root.path().join("none"), |_| false).unwrap().is_empty());
    }
}
