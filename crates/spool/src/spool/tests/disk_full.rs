//! A full disk: a file system of 2 MiB in memory, which only root may mount.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{contents, key, noise, open};
use crate::check;
use crate::error::{AppendError, SyncError};

/// A mounted file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_survived() {
    let root = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(root.path()) else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, noise(1, 1 << 20)).unwrap();
    let spool = open(&disk.0.join("job"));
    let text = noise(2, 4 << 20);

    // Whole blocks meet the full disk in append.
    let mut held = 0;
    let error = loop {
        match spool.append(key(0), held, &text[held as usize..][..300_000]) {
            Ok(length) => held = length,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::NoSpace { .. }), "{error}");
    // A line meets it in sync.
    spool.append(key(1), 0, &text[..200_000]).unwrap();
    let error = spool.sync().unwrap_err();
    assert!(matches!(error, SyncError::NoSpace { .. }), "{error}");
    let error = spool.sync().unwrap_err();
    assert!(matches!(error, SyncError::NoSpace { .. }), "{error}");
    let held = spool.length(key(0));
    assert!(contents(&spool, key(0)) == text[..held as usize]);
    assert_eq!(check(spool.dir()).unwrap().damage, []);

    std::fs::remove_file(&ballast).unwrap();
    spool.sync().unwrap();
    let held = spool
        .append(key(0), held, &text[held as usize..][..100_000])
        .unwrap();
    spool.sync().unwrap();
    let dir = spool.dir().to_owned();
    drop(spool);
    let spool = open(&dir);
    assert!(contents(&spool, key(0)) == text[..held as usize]);
    assert!(contents(&spool, key(1)) == text[..200_000]);
    assert_eq!(check(&dir).unwrap().damage, []);
}
