//! Carries out a plan, under the environment's exclusive lock.
//!
//! ```text
//!  lock ─▶ is it ready by now? ─yes─▶ done
//!             │ no
//!             ▼
//!  remove what a dead build left ─▶ mark `building` ─▶ inputs ─▶ steps ─▶ measure ─▶ sync, `ready.json`
//!                                        │                        │
//!                                        └── failed or canceled ──┴─▶ remove all ─▶ the error
//! ```

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use crate::cache;
use crate::config::EnvironmentsConfig;
use crate::entry::{Entry, Layout, ReadyRecord, disk_usage};
use crate::environments::blocking;
use crate::error::EnvironmentError;
use crate::inputs::Inputs;
use crate::lease::Lease;
use crate::lock;
use crate::plan::{Plan, Planned, Step};
use crate::process::{self, Ended, Tool};
use crate::redact::Redactor;
use crate::uv::{Said, Uv};

/// Variables that would turn uv away from the environment that it is told to build.
const MISLEADING: [&str; 10] = [
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "UV_WORKING_DIR",
    "UV_WORKING_DIRECTORY",
];

/// Something to build, and with what.
pub(crate) struct Build {
    pub(crate) config: Arc<EnvironmentsConfig>,
    pub(crate) layout: Layout,
    pub(crate) entry: Entry,
    pub(crate) planned: Planned,
    pub(crate) uv: Uv,
}

/// An environment that is there, held.
pub(crate) struct Built {
    pub(crate) lease: Lease,
    /// Whether somebody else had built it by then.
    pub(crate) reused: bool,
}

/// What a lock was had for.
enum Locked {
    /// It is ready; the lock is shared.
    Ready(File),
    /// It is to be built; the lock is exclusive.
    Free(File),
}

impl Build {
    /// Builds it, unless it is there. On failure and cancellation nothing of it is left.
    pub(crate) async fn run(
        self,
        said: Said<'_>,
        cancel: &CancellationToken,
    ) -> Result<Built, EnvironmentError> {
        let Self {
            config,
            layout,
            entry,
            planned,
            uv,
        } = self;
        let locking = cancel.run_until_cancelled(lock_for_build(&entry, said));
        let lock = match locking.await.unwrap_or(Err(EnvironmentError::Canceled))? {
            Locked::Free(lock) => lock,
            Locked::Ready(lock) => {
                let lease = Lease::new(entry.key, entry.leases.clone(), lock);
                return Ok(Built { lease, reused: true });
            }
        };
        let Planned {
            plan,
            inputs,
            redactor,
        } = planned;
        prepare(&entry, inputs).await?;
        let executor = Executor {
            config: &config,
            layout: &layout,
            entry: &entry,
            plan: &plan,
            uv: &uv,
            redactor: &redactor,
            lock: &lock,
        };
        let mut result = executor.steps(said, cancel).await;
        if result.is_ok() {
            result = finish(&entry, &plan, &redactor).await;
        }
        if let Err(error) = result {
            let (doomed, path) = (entry.clone(), entry.dir.clone());
            if let Err(error) = blocking(move || doomed.delete()).await {
                // Without its record it is not taken for whole, and the next build clears it away.
                tracing::warn!(path = %path.display(), %error, "a failed build could not be removed");
            }
            return Err(error);
        }
        hold(&entry, lock).map(|lease| Built { lease, reused: false })
    }
}

/// Makes the builder's lock a lease.
fn hold(entry: &Entry, lock: File) -> Result<Lease, EnvironmentError> {
    let held =
        lock::downgrade(&lock, &entry.lock).map_err(EnvironmentError::disk("cannot lock", &entry.lock))?;
    if held && entry.is_ready() {
        return Ok(Lease::new(entry.key, entry.leases.clone(), lock));
    }
    Err(EnvironmentError::Vanished {
        key: entry.key,
        attempts: 1,
    })
}

/// The lock that is needed. Nobody waits for an exclusive one on an environment that is ready, since jobs hold that
/// for as long as they run: while another builds, a shared lock is what is waited for, and then one looks again.
async fn lock_for_build(entry: &Entry, said: Said<'_>) -> Result<Locked, EnvironmentError> {
    let failed = || EnvironmentError::disk("cannot lock", &entry.lock);
    let mut told = false;
    loop {
        if let Some(lock) = lock::try_exclusive(&entry.lock).map_err(failed())? {
            if !entry.is_ready() {
                return Ok(Locked::Free(lock));
            }
            if lock::downgrade(&lock, &entry.lock).map_err(failed())? && entry.is_ready() {
                return Ok(Locked::Ready(lock));
            }
            continue;
        }
        if !told {
            said(b"waiting for another process that builds or uses this environment\n");
            told = true;
        }
        if entry.is_damaged() {
            // Its holders can only be waited for.
            drop(lock::exclusive(&entry.lock).await.map_err(failed())?);
            continue;
        }
        let lock = lock::shared(&entry.lock).await.map_err(failed())?;
        if entry.is_ready() {
            return Ok(Locked::Ready(lock));
        }
        // Before the next turn, in which everyone who waited tries for the exclusive lock.
        lock.unlock().map_err(failed())?;
        tokio::task::yield_now().await;
    }
}

async fn prepare(entry: &Entry, inputs: Inputs) -> Result<(), EnvironmentError> {
    let failed = EnvironmentError::disk("cannot prepare", &entry.dir);
    let entry = entry.clone();
    blocking(move || {
        entry.start()?;
        inputs.write(&entry.inputs())
    })
    .await
    .map_err(failed)
}

async fn finish(entry: &Entry, plan: &Plan, redactor: &Redactor) -> Result<(), EnvironmentError> {
    let failed = EnvironmentError::disk("cannot finish", &entry.dir);
    let entry = entry.clone();
    let redact = |text: &str| redactor.redact(text).into_owned();
    let description = redact(&plan.description);
    let inputs = plan
        .shown_inputs()
        .into_iter()
        .map(|(name, shown)| (name, redact(&shown)))
        .collect();
    blocking(move || {
        let record = ReadyRecord {
            kind: "venv".to_owned(),
            description,
            bytes: disk_usage(&entry.dir)?,
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            inputs,
        };
        entry.touch()?;
        entry.write_ready(&record)
    })
    .await
    .map_err(failed)
}

struct Executor<'a> {
    config: &'a EnvironmentsConfig,
    layout: &'a Layout,
    entry: &'a Entry,
    plan: &'a Plan,
    uv: &'a Uv,
    redactor: &'a Redactor,
    lock: &'a File,
}

impl Executor<'_> {
    async fn steps(&self, said: Said<'_>, cancel: &CancellationToken) -> Result<(), EnvironmentError> {
        let hello = format!(
            "building an environment: {} (uv {})\n",
            self.plan.description, self.uv.version
        );
        said(self.redactor.redact(&hello).as_bytes());
        let path = self.layout.cache_lock();
        let holding = cancel.run_until_cancelled(cache::hold(self.layout)).await;
        let _cache = holding
            .ok_or(EnvironmentError::Canceled)?
            .map_err(EnvironmentError::disk("cannot lock", &path))?;
        for step in &self.plan.steps {
            self.step(step, said, cancel).await?;
        }
        Ok(())
    }

    async fn step(
        &self,
        step: &Step,
        said: Said<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), EnvironmentError> {
        let prefix = self.entry.venv();
        let args: Vec<_> = step.args.iter().map(|word| word.fill(&prefix)).collect();
        let mut env = process::changed(&self.config.node_env, MISLEADING.map(|name| (name, None)));
        env.extend(self.plan.index_env.iter().cloned());
        let own_cache = self.config.var("UV_CACHE_DIR").is_none();
        let own_cache = own_cache.then(|| ("UV_CACHE_DIR", Some(self.layout.uv_cache().into_os_string())));
        let always = [
            ("NO_COLOR", Some("1".into())),
            // An interpreter was chosen; another one, fetched from elsewhere, would not be what the key says.
            ("UV_PYTHON_DOWNLOADS", Some("never".into())),
        ];
        let of_step = step
            .env
            .iter()
            .map(|(name, word)| (*name, Some(word.fill(&prefix))));
        let env = process::changed(&env, always.into_iter().chain(own_cache).chain(of_step));
        let cwd = self.entry.inputs().join(&step.dir);
        let tool = Tool {
            program: &self.uv.path,
            args: &args,
            env: &env,
            cwd: &cwd,
            hold: Some(self.lock),
        };
        let redacted = |line: &[u8]| said(self.redactor.redact(&String::from_utf8_lossy(line)).as_bytes());
        match process::run(&tool, &redacted, cancel).await {
            Ok(Ended::Exit { code: Some(0), .. }) => Ok(()),
            Ok(Ended::Exit { code, tail }) => Err(EnvironmentError::BuildFailed {
                description: self.plan.description.clone(),
                step: step.name.to_owned(),
                exit_code: code,
                said: self.redactor.redact(&tail).into_owned(),
            }),
            Ok(Ended::Canceled) => Err(EnvironmentError::Canceled),
            Err(source) => Err(EnvironmentError::Run {
                program: program_name(&self.uv.path),
                source: Arc::new(source),
            }),
        }
    }
}

fn program_name(path: &Path) -> String {
    path.display().to_string()
}
