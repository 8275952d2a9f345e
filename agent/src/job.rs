//! What the attempts at one job share: its spec, its files, its environment.
//!
//! On disk, `jobs/<job id>/`: `spec.json`, and for each attempt `<task>.<attempt>.{setup,stdout,stderr}`. The directory
//! goes when no attempt of the job has been held for a while.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul_environment::Ready;
use haul_types::{AttemptId, JobId, JobSpec, StreamKind};
use tokio::sync::OnceCell;

use crate::Agent;
use crate::shipper::Files;

/// How long a job's directory stays without attempts: the next tasks of an array may be on their way.
const LINGER: Duration = Duration::from_secs(5);

/// A job with attempts here.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) spec: JobSpec,
    /// Made once for all attempts; the error is what the first one was told.
    pub(crate) environment: OnceCell<Result<Arc<Ready>, String>>,
    dir: PathBuf,
}

impl Job {
    /// The files of an attempt's streams.
    pub(crate) fn files(&self, attempt: AttemptId) -> Files {
        files(&self.dir, attempt)
    }
}

fn files(dir: &Path, attempt: AttemptId) -> Files {
    StreamKind::ALL.map(|kind| {
        (
            kind,
            dir.join(format!("{}.{}.{kind}", attempt.task.index, attempt.attempt)),
        )
    })
}

/// Emptied log files kept for later attempts.
const SPARE_FILES: usize = 64;
/// A log file larger than this is removed rather than emptied: its blocks go in the background either way, but a file
/// that was large is fragmented.
const MAX_RECYCLED_BYTES: u64 = 1 << 20;

/// All jobs with attempts here.
#[derive(Debug)]
pub(crate) struct Jobs {
    root: PathBuf,
    jobs: Mutex<HashMap<JobId, Arc<Job>>>,
    /// Empty files of attempts that were discarded. They are moved to where the next attempt writes: ext4 passes over
    /// every file that was removed in the last five seconds when it makes one, so an array of short tasks that made
    /// and removed its files would soon spend most of its time there.
    spare: Mutex<Vec<PathBuf>>,
}

impl Jobs {
    /// Jobs kept in `root`.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self {
            root,
            jobs: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, id: JobId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// The job, of which an attempt arrives. Its spec is written down for an agent that comes after this one.
    pub(crate) fn enter(&self, id: JobId, spec: JobSpec) -> Arc<Job> {
        let mut jobs = self.lock();
        if let Some(job) = jobs.get(&id) {
            return Arc::clone(job);
        }
        let dir = self.dir(id);
        let written = std::fs::create_dir_all(&dir)
            .and_then(|()| Ok(serde_json::to_vec(&spec)?))
            .and_then(|json| std::fs::write(dir.join("spec.json"), json));
        if let Err(error) = written {
            // The attempt itself will fail on this directory, and say so.
            tracing::error!(%id, %error, "cannot write a job's spec");
        }
        let job = Arc::new(Job {
            id,
            spec,
            environment: OnceCell::new(),
            dir,
        });
        jobs.insert(id, Arc::clone(&job));
        job
    }

    /// The job of an attempt that an earlier agent left.
    pub(crate) fn find(&self, id: JobId) -> io::Result<Arc<Job>> {
        let json = std::fs::read(self.dir(id).join("spec.json"))?;
        Ok(self.enter(id, serde_json::from_slice(&json)?))
    }

    /// Puts empty files where an attempt will write. They have to be there before it starts: whoever follows it may be
    /// sooner than its supervisor.
    pub(crate) fn provide_files(&self, files: &Files) {
        for (_, path) in files.iter().filter(|(kind, _)| *kind != StreamKind::Setup) {
            let spare = self.spare().pop();
            match spare.map(|spare| std::fs::rename(&spare, path).map_err(|error| (spare, error))) {
                Some(Ok(())) => continue,
                // Its directory is gone.
                Some(Err((spare, error))) => {
                    tracing::trace!(path = %spare.display(), %error, "a spare file is gone");
                }
                None => {}
            }
            let made = std::fs::File::options()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path);
            if let Err(error) = made {
                // The supervisor will fail on it, and the attempt will say so.
                tracing::warn!(path = %path.display(), %error, "cannot make a log file");
            }
        }
    }

    /// Frees what an attempt wrote.
    pub(crate) fn discard(&self, attempt: AttemptId) {
        for (_, path) in files(&self.dir(attempt.task.job), attempt) {
            let Ok(found) = path.metadata() else { continue };
            let freed = if found.len() == 0 {
                self.keep_spare(path.clone())
            } else if found.len() <= MAX_RECYCLED_BYTES && self.spare().len() < SPARE_FILES {
                let emptied = std::fs::File::options()
                    .write(true)
                    .open(&path)
                    .and_then(|file| file.set_len(0));
                emptied.and_then(|()| self.keep_spare(path.clone()))
            } else {
                std::fs::remove_file(&path)
            };
            if let Err(error) = freed {
                tracing::warn!(path = %path.display(), %error, "cannot free a log file");
            }
        }
    }

    fn keep_spare(&self, path: PathBuf) -> io::Result<()> {
        let mut spare = self.spare();
        if spare.len() < SPARE_FILES {
            spare.push(path);
            return Ok(());
        }
        drop(spare);
        std::fs::remove_file(path)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of jobs of which nothing is held, and so of their environments: they linger for attempts that may come,
    /// and those will find or make it again. Directories go when their time has come.
    pub(crate) fn let_go_of_idle(&self, holds: impl Fn(JobId) -> bool) {
        self.lock().retain(|id, _| holds(*id));
    }

    /// Removes the job's directory unless another attempt of it arrives soon.
    pub(crate) fn leave_later(&self, agent: &Arc<Agent>, id: JobId) {
        let owner = Arc::downgrade(agent);
        agent.tasks.spawn(async move {
            tokio::time::sleep(LINGER).await;
            let Some(agent) = owner.upgrade() else { return };
            if agent.held.holds_job(id) {
                return;
            }
            agent.jobs.lock().remove(&id);
            let dir = agent.jobs.dir(id);
            agent.jobs.spare().retain(|spare| !spare.starts_with(&dir));
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
            if let Ok(Err(error)) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%id, %error, "cannot remove a job's directory");
            }
        });
    }

    /// Removes directories of jobs of which nothing is held: left by an agent that was killed.
    pub(crate) fn sweep(&self, holds: impl Fn(JobId) -> bool) {
        let Ok(entries) = std::fs::read_dir(&self.root) else {
            return;
        };
        for entry in entries.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<JobId>().ok());
            if !id.is_some_and(&holds)
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove what an earlier agent left");
            }
        }
    }
}
