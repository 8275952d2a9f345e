//! What the tests with real processes share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use haul_launcher::{
    AttemptOrder, ExitRecord, Found, Launcher, LauncherConfig, Limits, Outcome, SupervisorProgram,
};
use haul_types::{AttemptId, ExitStatus, JobId};

pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_haul-launcher-probe");

/// A state directory of its own, and a job of its own: its processes are recognised by it.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) job: JobId,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            job: JobId::random(),
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn open(&self) -> (Launcher, Vec<Found>) {
        Launcher::open(&self.state(), LauncherConfig::new(SupervisorProgram::at(PROBE))).unwrap()
    }

    pub(crate) fn launcher(&self) -> Launcher {
        let (launcher, found) = self.open();
        assert!(found.is_empty(), "{found:?}");
        launcher
    }

    pub(crate) fn attempt(&self, index: u32) -> AttemptId {
        AttemptId::new(self.job, index, 1)
    }

    pub(crate) fn order(&self, index: u32, program: impl Into<OsString>, args: &[&str]) -> AttemptOrder {
        AttemptOrder {
            attempt: self.attempt(index),
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            cwd: self.directory.path().to_owned(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            stdout: self.directory.path().join(format!("{index}.out")),
            stderr: self.directory.path().join(format!("{index}.err")),
            timeout: None,
            grace: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }

    pub(crate) fn shell(&self, index: u32, script: &str) -> AttemptOrder {
        self.order(index, "sh", &["-c", script])
    }

    pub(crate) fn stdout(&self, index: u32) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("{index}.out"))).unwrap()
    }

    /// Living processes of this job, by their marks.
    pub(crate) fn processes(&self) -> Vec<i32> {
        marked(&self.job.to_string())
    }
}

pub(crate) fn marked(job: &str) -> Vec<i32> {
    let mark = format!("HAUL_JOB_ID={job}");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            alive(pid)
                && environment
                    .split(|&b| b == 0)
                    .any(|variable| variable == mark.as_bytes())
        })
        .collect()
}

/// Whether the process runs still; one that only waits for its parent's notice does not.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn exited(record: &ExitRecord) -> ExitStatus {
    match record.outcome {
        Outcome::Exited(status) => status,
        ref other => panic!("did not exit: {other:?}"),
    }
}

/// The parent of a process: a job's supervisor.
pub(crate) fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(crate) fn kill(pid: i32) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success() && status.signal().is_none());
}

/// Waits until `path` has appeared and is not empty; tells its content.
pub(crate) async fn content_of(path: &Path) -> String {
    for _ in 0..2000 {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    panic!("{} never appeared", path.display());
}
