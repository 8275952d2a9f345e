//! `--fetch-outputs`: whether outputs can be brought where they are wanted, asked before there is a job.

use std::path::Path;

use rustix::fs::{Access, access};

use crate::failure::Failure;

/// Refuses a place where no directory can be, or none that can be written. It is made only once there is something to
/// put there, so a disk that fills up meanwhile is found out then.
pub(super) fn refuse_unusable(to: &Path) -> Result<(), Failure> {
    let refused = |why: String| {
        Failure::usage(format!(
            "--fetch-outputs: cannot bring outputs to {}",
            to.display()
        ))
        .at(why)
        .help("name a directory that you can write to: --fetch-outputs=DIR")
    };
    let there = to.ancestors().find(|path| path.symlink_metadata().is_ok());
    let Some(there) = there else {
        return Err(refused("nothing of that path is there".to_owned()));
    };
    if !there.is_dir() {
        return Err(refused(format!("{} is not a directory", there.display())));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| refused(format!("{}: {}", there.display(), std::io::Error::from(error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_become_a_directory_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(refuse_unusable(dir.path()).is_ok());
        assert!(refuse_unusable(&dir.path().join("a/b/c")).is_ok());
        assert!(refuse_unusable(&file).is_err());
        assert!(refuse_unusable(&file.join("below")).is_err());
    }
}
