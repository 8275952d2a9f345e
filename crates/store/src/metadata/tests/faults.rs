//! Full disks, damaged files, two controllers.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A file system of a few megabytes, unmounted when dropped.
struct SmallDisk {
    mount: PathBuf,
    _directory: tempfile::TempDir,
}

impl SmallDisk {
    /// None, and a line that says why, where this user cannot mount.
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path().join("disk");
        std::fs::create_dir(&mount).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&mount)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self {
                mount,
                _directory: directory,
            }),
            Ok(output) => {
                eprintln!(
                    "skipped: cannot mount a tmpfs: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                eprintln!("skipped: cannot run mount: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
    }
}

#[test]
fn a_full_disk_refuses_commits_and_nothing_else_and_recovers() {
    let Some(disk) = SmallDisk::mount("12m") else {
        return;
    };
    let store = Metadata::open(&disk.mount.join("state")).unwrap();
    commit(&store, vec![Op::InsertJob(job(1))]).unwrap();
    let ballast = disk.mount.join("ballast");
    let filled = std::io::copy(
        &mut std::io::repeat(1),
        &mut std::fs::File::create(&ballast).unwrap(),
    );
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);

    // The log has been grown ahead of use, so that the first commits still find room.
    let mut row = task(1, 0, TaskState::Running);
    row.timeline[0].detail = "x".repeat(100_000);
    let mut stored = 0;
    let refused = loop {
        row.id.index = stored;
        match commit(&store, vec![Op::PutTask(row.clone())]) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk is never full");
    };
    assert!(matches!(refused, CommitError::NoSpace(_)), "{refused:?}");
    assert_eq!(refused.to_string(), "the disk that holds the metadata is full");
    assert_eq!(store.job(id(1)).unwrap(), Some(job(1)));
    assert_eq!(
        store.tasks(id(1), &tasks_from(0, 1000, &[])).unwrap().len(),
        stored as usize
    );

    std::fs::remove_file(ballast).unwrap();
    row.id.index = stored;
    commit(&store, vec![Op::PutTask(row)]).unwrap();
    drop(store);
    let store = Metadata::open(&disk.mount.join("state")).unwrap();
    assert_eq!(
        store.tasks(id(1), &tasks_from(0, 1000, &[])).unwrap().len(),
        stored as usize + 1
    );
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn two_controllers_cannot_share_a_directory() {
    let (directory, store) = open();
    let error = Metadata::open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { holder: Some(pid), .. } if pid == std::process::id()));
    let text = error.to_string();
    assert!(
        text.contains(&format!("(process {})", std::process::id())),
        "{text}"
    );
    assert!(text.contains("give this one another state directory"), "{text}");
    drop(store);
    Metadata::open(directory.path()).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_told() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE_NAME), [b'x'; 8192]).unwrap();
    let error = Metadata::open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error:?}");
    // And the directory is not left locked.
    std::fs::remove_file(directory.path().join(FILE_NAME)).unwrap();
    Metadata::open(directory.path()).unwrap();
}

#[test]
fn damaged_rows_are_told_by_name() {
    let (directory, store) = open();
    commit(
        &store,
        vec![Op::InsertJob(job(1)), Op::PutTask(task(1, 4, TaskState::Running))],
    )
    .unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(directory.path().join(FILE_NAME)).unwrap();
    connection
        .execute_batch("UPDATE job_spec SET spec = '{'; UPDATE task SET state = 99")
        .unwrap();
    drop(connection);
    let store = Metadata::open(directory.path()).unwrap();
    let job_error = store.job(id(1)).unwrap_err().to_string();
    assert!(
        job_error.starts_with("the stored job 000000000001 is damaged: its specification"),
        "{job_error}"
    );
    let task_error = store.task(TaskId { job: id(1), index: 4 }).unwrap_err();
    assert_eq!(
        task_error.to_string(),
        "the stored task 000000000001.4 is damaged: unknown state 99"
    );
    assert_eq!(store.check().unwrap(), [job_error, task_error.to_string()]);
}

#[test]
fn a_job_without_its_specification_is_damage() {
    let (directory, store) = open();
    commit(&store, vec![Op::InsertJob(job(1))]).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(directory.path().join(FILE_NAME)).unwrap();
    connection.execute_batch("DELETE FROM job_spec").unwrap();
    drop(connection);
    let store = Metadata::open(directory.path()).unwrap();
    assert_eq!(
        store.check().unwrap(),
        ["the stored job 000000000001 is damaged: it has no specification"]
    );
}
