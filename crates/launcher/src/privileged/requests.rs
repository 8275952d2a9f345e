//! Doing what an agent asks for, after it was found to be its business.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use haul_types::AttemptId;

use super::check::{self, Refusal};
use super::ownership::{Change, change};
use super::service::Shared;
use super::{HANDED_OVER, STREAMS};
use crate::order::AttemptOrder;
use crate::protocol::FromLauncher;
use crate::user::JobUser;

impl Shared {
    /// Starts an attempt, and follows it to its end. Notes it before it returns, so that a stop finds it.
    pub(super) fn start(self: &Arc<Self>, order: AttemptOrder, workdir: PathBuf) {
        let attempt = order.attempt;
        if !self.state().table.enter(attempt, workdir.clone()) {
            // Said again after a lost connection; it was answered by the welcome, or will be by who is at it.
            tracing::debug!(%attempt, "ordered again");
            return;
        }
        let shared = Arc::clone(self);
        self.tasks
            .spawn(async move { shared.start_entered(order, workdir).await });
    }

    async fn start_entered(self: &Arc<Self>, order: AttemptOrder, workdir: PathBuf) {
        let attempt = order.attempt;
        let started = self.try_start(order, &workdir).await;
        let refused = started.err().map(|refusal| {
            tracing::warn!(%attempt, %refusal, "refused");
            self.state().table.remove(attempt);
            crate::words(&refusal)
        });
        self.state().peers.say(FromLauncher::Started { attempt, refused });
    }

    async fn try_start(self: &Arc<Self>, mut order: AttemptOrder, workdir: &Path) -> Result<(), Refusal> {
        let attempt = order.attempt;
        let most = self.config.pids_limit;
        order.limits.pids = Some(order.limits.pids.unwrap_or(most).min(most));
        let shared = Arc::clone(self);
        let path = workdir.to_owned();
        let checked = self.tasks.spawn_blocking(move || {
            let handle = check::workdir(&shared.config, &path)?;
            check::order(&shared.config, &order, &path, &handle)?;
            let uid = shared.hand_over(attempt, &path, &handle)?;
            Ok::<_, Refusal>((order, uid))
        });
        let (order, uid) = joined(checked.await)?;
        let user = JobUser {
            uid,
            gid: self.config.users.gid(),
            streams: self.config.agent_dir.join(STREAMS),
            owner: self.config.agent_uid,
        };
        let running = match self.launcher.start_as(order, user).await {
            Ok(running) => running,
            Err(error) => {
                self.take_back_blocking(workdir.to_owned()).await?;
                return Err(error.into());
            }
        };
        let stopper = running.stopper();
        let early = self.state().table.running(
            attempt,
            Some(workdir.to_owned()),
            Box::new(move |why| stopper.stop(why)),
        );
        if let Some(why) = early {
            running.stop(why);
        }
        let mut running = running;
        self.follow(async move { running.ended().await });
        Ok(())
    }

    /// Gives the directory to a user of jobs that has none.
    fn hand_over(&self, attempt: AttemptId, path: &Path, workdir: &OwnedFd) -> Result<u32, Refusal> {
        let users = &self.config.users;
        let uid = {
            let mut state = self.state();
            if state.in_use(path, Some(attempt)) {
                return Err(Refusal::InUse);
            }
            // A launcher that died in between has handed it over already.
            let before = state.taken.holder(path);
            let taken = before.or_else(|| state.taken.take(users, path));
            taken.ok_or(Refusal::NoUser(users.count()))?
        };
        let over = Change {
            from: self.config.agent_uid..=self.config.agent_uid,
            to: uid,
            group: users.gid(),
            several_names: false,
        };
        for name in HANDED_OVER {
            if let Err(error) = change(workdir.as_fd(), Path::new(name), &over) {
                let _ = self.take_back(path);
                return Err(error.into());
            }
        }
        Ok(uid)
    }

    /// Gives the directory back to the agent. What it asks for after each attempt, and of what it finds when it starts.
    fn take_back(&self, path: &Path) -> Result<(), Refusal> {
        let workdir = check::workdir(&self.config, path)?;
        let back = Change {
            from: self.config.users.uids(),
            to: self.config.agent_uid,
            group: self.config.agent_gid,
            several_names: true,
        };
        for name in HANDED_OVER {
            match change(workdir.as_fd(), Path::new(name), &back) {
                Err(error) if error.is_absence() => {}
                changed => changed?,
            }
        }
        self.state().taken.free(path);
        Ok(())
    }

    async fn take_back_blocking(self: &Arc<Self>, path: PathBuf) -> Result<(), Refusal> {
        let shared = Arc::clone(self);
        joined(self.tasks.spawn_blocking(move || shared.take_back(&path)).await)
    }

    /// Answers the request to take a directory back.
    pub(super) async fn answer_take_back(self: &Arc<Self>, request: u64, workdir: PathBuf) {
        let done = if self.state().in_use(&workdir, None) {
            Err(Refusal::InUse)
        } else {
            self.take_back_blocking(workdir.clone()).await
        };
        let refused = done.err().map(|refusal| {
            tracing::warn!(workdir = %workdir.display(), %refusal, "not taken back");
            crate::words(&refusal)
        });
        self.state()
            .peers
            .say(FromLauncher::TakenBack { request, refused });
    }

    /// Forgets an end, which is known durably elsewhere.
    pub(super) fn acknowledge(&self, attempt: AttemptId) {
        let mut state = self.state();
        if state.table.has_ended(attempt) {
            state.table.remove(attempt);
            drop(state);
            if let Err(error) = self.launcher.acknowledge(attempt) {
                tracing::warn!(%attempt, %error, "cannot give the exit record up");
            }
        }
    }
}

fn joined<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
