//! The life of one task: which step may follow which.
//!
//! Invariants, held by the property tests of [`crate::dispatch`]:
//! - a terminal state never changes;
//! - attempts only grow, and a step that names another attempt than the current one changes nothing;
//! - within an attempt the state only moves forward; a step said twice changes nothing.

use haul_types::{Attempt, AttemptId, Digest, ExitStatus, Reason, TaskId, TaskRecord, TaskState, Transition};

/// What a node says about one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Where it stands now.
    pub state: TaskState,
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub detail: String,
    /// How its process ended.
    pub exit: Option<ExitStatus>,
    /// The snapshot of its outputs.
    pub outputs: Option<Digest>,
    /// The snapshot of its logs directory.
    pub logs: Option<Digest>,
    /// The lengths of its streams.
    pub stream_lengths: [u64; 3],
    /// Milliseconds since it happened.
    pub ago_ms: u64,
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateEffect {
    /// The task is in another state now.
    Moved,
    /// It was known already.
    Repeated,
    /// The attempt is not the current one, or the step does not follow from the state.
    Stale,
}

/// A task that nothing has happened to but its submission.
#[must_use]
pub fn queued(id: TaskId, created_unix_ms: u64) -> TaskRecord {
    let submitted = Transition {
        state: TaskState::Queued,
        reason: Reason::Submitted,
        detail: String::new(),
        attempt: 0,
        at_unix_ms: created_unix_ms,
    };
    TaskRecord {
        id,
        state: TaskState::Queued,
        attempt: 0,
        node: None,
        exit: None,
        cancel_requested: false,
        timeline: vec![submitted],
        outputs: None,
        logs: None,
        stream_lengths: [0; 3],
    }
}

/// Enters `state`. Times never run backwards within a timeline, whatever the wall clock does.
fn enter(task: &mut TaskRecord, state: TaskState, reason: Reason, detail: String, at_unix_ms: u64) {
    let floor = task.timeline.last().map_or(0, |last| last.at_unix_ms);
    task.state = state;
    task.timeline.push(Transition {
        state,
        reason,
        detail,
        attempt: task.attempt,
        at_unix_ms: at_unix_ms.max(floor),
    });
}

/// A new attempt begins on `node`.
pub fn assign(task: &mut TaskRecord, node: &str, now_unix_ms: u64) -> Attempt {
    task.attempt += 1;
    task.node = Some(node.to_owned());
    enter(
        task,
        TaskState::Preparing,
        Reason::Assigned,
        format!("assigned to {node}"),
        now_unix_ms,
    );
    task.attempt
}

/// The current attempt came to nothing, or is given up; the task waits for another.
pub fn requeue(task: &mut TaskRecord, reason: Reason, detail: &str, now_unix_ms: u64) {
    enter(task, TaskState::Queued, reason, detail.to_owned(), now_unix_ms);
    task.node = None;
    task.exit = None;
}

/// How often the task was tried again because an attempt came to nothing.
#[must_use]
pub fn retries(task: &TaskRecord) -> u32 {
    let retried = task.timeline.iter().filter(|step| step.reason == Reason::Retried);
    u32::try_from(retried.count()).unwrap_or(u32::MAX)
}

/// How many attempts at the task were lost after their script had started.
#[must_use]
pub fn lost_runs(task: &TaskRecord) -> u32 {
    let lost = task
        .timeline
        .windows(2)
        .filter(|pair| pair[0].state > TaskState::Preparing && pair[1].reason == Reason::Retried);
    u32::try_from(lost.count()).unwrap_or(u32::MAX)
}

/// Ends the task without a word from a node.
pub fn end(task: &mut TaskRecord, state: TaskState, reason: Reason, detail: &str, now_unix_ms: u64) {
    debug_assert!(state.is_terminal() && !task.state.is_terminal());
    enter(task, state, reason, detail.to_owned(), now_unix_ms);
}

/// Takes what a node says.
pub fn apply(task: &mut TaskRecord, update: &Update, now_unix_ms: u64) -> UpdateEffect {
    if update.attempt.attempt != task.attempt || task.attempt == 0 {
        return UpdateEffect::Stale;
    }
    if task.state == update.state {
        return UpdateEffect::Repeated;
    }
    if task.state.is_terminal() || task.state == TaskState::Queued || update.state < task.state {
        return UpdateEffect::Stale;
    }
    if update.exit.is_some() {
        task.exit = update.exit;
    }
    if update.state.is_terminal() {
        task.outputs = update.outputs;
        task.logs = update.logs;
        task.stream_lengths = update.stream_lengths;
    }
    let at = now_unix_ms.saturating_sub(update.ago_ms);
    enter(task, update.state, update.reason, update.detail.clone(), at);
    UpdateEffect::Moved
}
