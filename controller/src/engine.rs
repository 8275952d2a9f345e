//! Where events meet the dispatcher and the store.
//!
//! ```text
//!   event ─► lock ─► Dispatch::step ─► records ─► Metadata::commit ─► unlock
//!                                                       │ durable
//!                       messages to agents, news to followers, the caller's answer
//! ```
//!
//! Invariants:
//! - steps and commits are in the same order, because both happen under one lock;
//! - nothing is sent, told or answered before the records it rests on are durable;
//! - records that could not be stored (the disk is full) are kept and tried again, with what waits for them; until
//!   then no new job is taken.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use haul_lifecycle::dispatch::NodeStatus;
use haul_lifecycle::{Dispatch, Effects, Event, FleetChange, Message, Now, Refused};
use haul_store::{CommitError, Metadata, Op, ReadError};
use haul_types::{
    AttemptId, JobId, JobRecord, JobSpec, NodeName, TargetRecord, TaskId, TaskRecord, TaskState,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::logs::Logs;
use crate::service::session::Sessions;

/// How long to wait before records that could not be stored are tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The controller's state, shared by all services.
pub(crate) struct Engine {
    metadata: Metadata,
    pub(crate) logs: Arc<Logs>,
    pub(crate) sessions: Sessions,
    state: Mutex<State>,
    followers: Mutex<HashMap<JobId, watch::Sender<u64>>>,
    tasks: TaskTracker,
    /// Where tasks run that the store's own thread starts.
    runtime: Handle,
    leaving: AtomicBool,
    /// Calls under way, and when the last one ended: what tells whether a private controller is idle.
    calls: Mutex<Calls>,
    /// Told when an agent's session begins or ends.
    pub(crate) nodes_changed: Notify,
    /// Told when something is due earlier than it was.
    due_earlier: Notify,
    next_session: AtomicU64,
    pub(crate) started: Instant,
}

#[derive(Default)]
struct State {
    dispatch: Dispatch,
    /// Steps whose records are not stored although they should be, oldest first.
    unstored: VecDeque<Effects>,
    retrying: bool,
}

struct Calls {
    under_way: u32,
    last: Instant,
}

/// A call under way; see [`Engine::call`].
pub(crate) struct CallGuard(Arc<Engine>);

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut calls = lock(&self.0.calls);
        calls.under_way -= 1;
        calls.last = Instant::now();
    }
}

/// Why a step did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the controller's disk took no more: nothing was changed")]
    Storage(#[source] Option<CommitError>),
    #[error("the controller is shutting down")]
    Leaving,
}

impl Engine {
    /// An engine that goes on with what the store holds.
    pub(crate) fn restore(
        metadata: Metadata,
        logs: Arc<Logs>,
        tasks: TaskTracker,
    ) -> Result<Arc<Self>, ReadError> {
        let started = Instant::now();
        let now = now_since(started);
        let mut dispatch = Dispatch::default();
        dispatch.restore_fleet(metadata.nodes()?, metadata.targets()?, now);
        for active in metadata.active()? {
            let (first, many) = active
                .job
                .spec
                .array
                .map_or((0, 1), |array| (array.first, array.len()));
            let mut taken: Vec<_> = active
                .ended
                .iter()
                .map(|range| *range.start()..*range.end() + 1)
                .collect();
            taken.extend(active.open.iter().map(|task| task.id.index..task.id.index + 1));
            taken.sort_by_key(|range| range.start);
            let mut untouched = Vec::new();
            let mut next = first;
            for range in taken {
                untouched.push(next..range.start);
                next = range.end;
            }
            untouched.push(next..first + many);
            if active.job.cancel_requested || active.job.given_up.is_some() {
                untouched.clear();
            }
            untouched.retain(|range| !range.is_empty());
            dispatch.restore(active.job, active.open, untouched, now);
        }
        Ok(Arc::new(Self {
            metadata,
            logs,
            sessions: Sessions::default(),
            state: Mutex::new(State {
                dispatch,
                ..State::default()
            }),
            followers: Mutex::default(),
            tasks,
            runtime: Handle::current(),
            leaving: AtomicBool::new(false),
            calls: Mutex::new(Calls {
                under_way: 0,
                last: Instant::now(),
            }),
            nodes_changed: Notify::new(),
            due_earlier: Notify::new(),
            next_session: AtomicU64::new(1),
            started,
        }))
    }

    /// Takes a job. Answers when it is durable.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        id: JobId,
        owner: Option<String>,
        spec: Arc<JobSpec>,
    ) -> Result<(), StepError> {
        if !lock(&self.state).unstored.is_empty() {
            return Err(StepError::Storage(None));
        }
        self.step(Event::Submit { id, owner, spec }).await
    }

    /// Takes an event. Answers when what came of it is durable.
    pub(crate) async fn step(self: &Arc<Self>, event: Event) -> Result<(), StepError> {
        let (answer, answered) = oneshot::channel();
        self.begin(event, move |outcome| drop(answer.send(outcome)))?;
        answered.await.unwrap_or(Err(StepError::Leaving))
    }

    /// Takes an event, and answers at once; what came of it is stored and carried out soon after.
    pub(crate) fn step_later(self: &Arc<Self>, event: Event) -> Result<(), StepError> {
        self.begin(event, |_| {})
    }

    fn begin(
        self: &Arc<Self>,
        event: Event,
        answer: impl FnOnce(Result<(), StepError>) + Send + 'static,
    ) -> Result<(), StepError> {
        let submitted = if let Event::Submit { id, .. } = &event {
            Some(*id)
        } else {
            None
        };
        let mut state = lock(&self.state);
        let due = state.dispatch.next_deadline();
        let effects = state.dispatch.step(event, self.now())?;
        if state
            .dispatch
            .next_deadline()
            .is_some_and(|next| due.is_none_or(|due| next < due))
        {
            self.due_earlier.notify_one();
        }
        let engine = Arc::clone(self);
        self.metadata
            .commit(ops(&effects, submitted), move |outcome| match outcome {
                Ok(()) => {
                    engine.release(effects);
                    answer(Ok(()));
                }
                Err(error) => {
                    tracing::error!(%error, "cannot store a step");
                    engine.on_unstored(effects, submitted);
                    answer(Err(StepError::Storage(Some(error))));
                }
            });
        drop(state);
        Ok(())
    }

    /// Carries out what waited for the records to be durable. Called in the order of the steps.
    fn release(&self, effects: Effects) {
        for message in effects.messages {
            self.sessions.send(message);
        }
        let followers = lock(&self.followers);
        for id in effects
            .jobs
            .iter()
            .map(|job| job.id)
            .chain(effects.tasks.iter().map(|task| task.id.job))
            .chain(effects.news.iter().copied())
        {
            if let Some(follower) = followers.get(&id) {
                follower.send_modify(|version| *version += 1);
            }
        }
        drop(followers);
        for job in effects.jobs.iter().filter(|job| job.state.is_terminal()) {
            self.logs.on_job_ended(job.id, &self.tasks, &self.runtime);
        }
    }

    /// A submission that cannot be stored is taken back; anything else is kept and tried again.
    fn on_unstored(self: &Arc<Self>, effects: Effects, submitted: Option<JobId>) {
        let mut state = lock(&self.state);
        if let Some(id) = submitted {
            state.dispatch.retract(id);
            return;
        }
        state.unstored.push_back(effects);
        if std::mem::replace(&mut state.retrying, true) {
            return;
        }
        let engine = Arc::clone(self);
        self.spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                if engine.retry_unstored().await {
                    break;
                }
            }
        });
    }

    /// Tries to store what could not be stored; whether nothing is left.
    async fn retry_unstored(self: &Arc<Self>) -> bool {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = lock(&self.state);
            let Some(mut effects) = state.unstored.pop_front() else {
                state.retrying = false;
                return true;
            };
            refresh(&mut effects, &state.dispatch);
            let engine = Arc::clone(self);
            self.metadata.commit(ops(&effects, None), move |outcome| {
                match outcome {
                    Ok(()) => engine.release(effects),
                    Err(_) => lock(&engine.state).unstored.push_front(effects),
                }
                let _ = answer.send(());
            });
        }
        let _ = answered.await;
        false
    }

    /// Tells of changes to a job from now on: its records, and what it writes.
    pub(crate) fn follow(&self, id: JobId) -> watch::Receiver<u64> {
        lock(&self.followers)
            .entry(id)
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    /// A follower of the job has gone.
    pub(crate) fn unfollow(&self, id: JobId) {
        let mut followers = lock(&self.followers);
        if followers
            .get(&id)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            followers.remove(&id);
        }
    }

    /// Tells the followers of a job that it wrote something.
    pub(crate) fn wrote(&self, id: JobId) {
        if let Some(follower) = lock(&self.followers).get(&id) {
            follower.send_modify(|version| *version += 1);
        }
    }

    /// The job, as stored.
    pub(crate) fn job(&self, id: JobId) -> Result<Option<JobRecord>, ReadError> {
        self.metadata.job(id)
    }

    /// The task, as stored.
    pub(crate) fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, ReadError> {
        self.metadata.task(id)
    }

    /// The store, for listing.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Why a job waits.
    pub(crate) fn waiting_for(&self, id: JobId) -> Option<String> {
        lock(&self.state).dispatch.waiting_for(id, self.now())
    }

    /// Why no node that is known could ever run a job, if that is so.
    pub(crate) fn why_never(&self, id: JobId) -> Option<String> {
        lock(&self.state).dispatch.why_never(id)
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> Vec<NodeStatus> {
        lock(&self.state).dispatch.nodes().collect()
    }

    /// The attempts that a node has.
    pub(crate) fn attempts_on(&self, node: &NodeName) -> Vec<AttemptId> {
        lock(&self.state).dispatch.attempts_on(node)
    }

    /// The declared targets, each with its nodes.
    pub(crate) fn targets(&self) -> Vec<(TargetRecord, Vec<NodeName>)> {
        lock(&self.state).dispatch.targets().collect()
    }

    /// Whether the task is on a node that cannot be reached.
    pub(crate) fn is_unreachable(&self, task: &TaskRecord) -> bool {
        !task.state.is_terminal()
            && task
                .node
                .as_ref()
                .is_some_and(|node| lock(&self.state).dispatch.is_unreachable(node))
    }

    /// The time by the clocks that the dispatcher goes by.
    fn now(&self) -> Now {
        now_since(self.started)
    }

    /// Tells the dispatcher of the time whenever something is due, until the controller goes.
    pub(crate) async fn keep_time(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let due = lock(&self.state).dispatch.next_deadline();
            let wait = due.map(|due| due.saturating_sub(self.now().monotonic));
            tokio::select! {
                () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
                () = self.due_earlier.notified() => continue,
                () = shutdown.cancelled() => return,
            }
            if let Err(error) = self.step(Event::Tick).await {
                tracing::warn!(%error, "what is due cannot be stored yet");
            }
        }
    }

    /// Whether the node may speak for the attempt.
    pub(crate) fn is_current(&self, node: &NodeName, attempt: AttemptId) -> bool {
        lock(&self.state).dispatch.is_current(node, attempt)
    }

    /// Whether the attempt is the current one of a task that has not ended.
    pub(crate) fn is_live(&self, attempt: AttemptId) -> bool {
        lock(&self.state)
            .dispatch
            .task(attempt.task)
            .is_some_and(|task| task.attempt == attempt.attempt && task.state != TaskState::Queued)
    }

    /// Starts a task that belongs to the controller: it is waited for when the controller goes.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tasks.spawn_on(task, &self.runtime)
    }

    /// Jobs that have not ended.
    pub(crate) fn active_jobs(&self) -> usize {
        lock(&self.state).dispatch.active_jobs()
    }

    /// A number for a new session.
    pub(crate) fn new_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// A client's call begins; it ends when the guard is dropped.
    pub(crate) fn call(self: &Arc<Self>) -> CallGuard {
        lock(&self.calls).under_way += 1;
        CallGuard(Arc::clone(self))
    }

    /// How long nothing has needed the controller; `None` while something does.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let calls = lock(&self.calls);
        (calls.under_way == 0 && self.active_jobs() == 0).then(|| calls.last.elapsed())
    }

    /// The controller goes: followers are let go, agents are told.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.sessions.farewell();
        for follower in lock(&self.followers).values() {
            follower.send_modify(|version| *version += 1);
        }
    }

    /// Whether the controller goes.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }
}

/// What is to be stored.
fn ops(effects: &Effects, submitted: Option<JobId>) -> Vec<Op> {
    let jobs = effects.jobs.iter().map(|job| {
        if submitted == Some(job.id) {
            Op::InsertJob(job.clone())
        } else {
            Op::PutJob(job.clone())
        }
    });
    let fleet = effects.fleet.iter().map(|change| match change.clone() {
        FleetChange::PutNode(node) => Op::PutNode(node),
        FleetChange::RemoveNode(name) => Op::RemoveNode(name),
        FleetChange::PutTarget(target) => Op::PutTarget(target),
        FleetChange::RemoveTarget(name) => Op::RemoveTarget(name),
    });
    jobs.chain(effects.tasks.iter().cloned().map(Op::PutTask))
        .chain(fleet)
        .collect()
}

/// Replaces records that were overtaken while they could not be stored. What has ended never changes, so a record in
/// progress whose task the dispatcher no longer has is older than one that is stored already or follows.
fn refresh(effects: &mut Effects, dispatch: &Dispatch) {
    let current = |task: TaskRecord| {
        if task.state.is_terminal() {
            Some(task)
        } else {
            dispatch.task(task.id).cloned()
        }
    };
    effects.tasks = std::mem::take(&mut effects.tasks)
        .into_iter()
        .filter_map(current)
        .collect();
    let current = |job: JobRecord| {
        if job.state.is_terminal() {
            Some(job)
        } else {
            dispatch.job(job.id).cloned()
        }
    };
    effects.jobs = std::mem::take(&mut effects.jobs)
        .into_iter()
        .filter_map(current)
        .collect();
    let current = |change: FleetChange| match change {
        FleetChange::PutNode(node) => dispatch
            .node_record(&node.name)
            .cloned()
            .map(FleetChange::PutNode),
        FleetChange::RemoveNode(name) if dispatch.node_record(&name).is_some() => None,
        FleetChange::PutTarget(target) if !dispatch.has_target(&target.name) => None,
        FleetChange::RemoveTarget(name) if dispatch.has_target(&name) => None,
        other => Some(other),
    };
    effects.fleet = std::mem::take(&mut effects.fleet)
        .into_iter()
        .filter_map(current)
        .collect();
}

fn now_since(started: Instant) -> Now {
    Now {
        unix_ms: now_unix_ms(),
        monotonic: started.elapsed(),
    }
}

/// The wall clock, for display.
pub(crate) fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// Locks. A panic elsewhere poisons nothing that matters: what the state rests on is in the store.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node that a message is for.
pub(crate) fn addressee(message: &Message) -> &NodeName {
    match message {
        Message::Assign { node, .. }
        | Message::Stop { node, .. }
        | Message::Acknowledge { node, .. }
        | Message::Welcome { node, .. } => node,
    }
}
