//! The attempts that this agent answers for: from their assignment until the controller has stored their ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use haul_proto::v1;
use haul_types::{AttemptId, JobId, TaskState};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How soon news must travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// At once: somebody waits for it.
    Now,
    /// Within milliseconds: others may travel with it.
    Soon,
    /// With the next that is said of the attempt: most are over before anybody could have made use of it, and their
    /// steps are then stored all at once.
    Withheld,
}

/// What was said about an attempt, and when.
#[derive(Clone, Debug)]
struct Said {
    update: v1::TaskUpdate,
    at: Instant,
}

#[derive(Debug, Default)]
struct Attempt {
    stop: CancellationToken,
    /// Steps not sent yet, and the end until it is acknowledged.
    unsent: Vec<Said>,
    /// Whether those are to be sent, and not only withheld.
    pressing: bool,
    end: Option<Said>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Held {
    attempts: Mutex<BTreeMap<AttemptId, Attempt>>,
    /// Told when there is something to send at once.
    pub(crate) now: Notify,
    /// Told when there is something to send soon.
    pub(crate) soon: Notify,
    /// Told when nothing is held any more.
    pub(crate) emptied: Notify,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an attempt up; `None` if it is held already. The token tells when it is to stop.
    pub(crate) fn take(&self, attempt: AttemptId) -> Option<CancellationToken> {
        let mut attempts = self.lock();
        if attempts.contains_key(&attempt) {
            return None;
        }
        Some(attempts.entry(attempt).or_default().stop.clone())
    }

    /// Stops an attempt, if it is held.
    pub(crate) fn stop(&self, attempt: AttemptId) {
        if let Some(held) = self.lock().get(&attempt) {
            held.stop.cancel();
        }
    }

    /// Stops all that is held.
    pub(crate) fn stop_all(&self) {
        self.lock().values().for_each(|held| held.stop.cancel());
    }

    /// Says how an attempt stands, and since when. An end is said again after each reconnection, until it is
    /// acknowledged.
    pub(crate) fn say(&self, attempt: AttemptId, update: v1::TaskUpdate, at: Instant, urgency: Urgency) {
        if let Some(held) = self.lock().get_mut(&attempt) {
            let said = Said { update, at };
            if haul_proto::task_state(said.update.state).is_ok_and(TaskState::is_terminal) {
                held.end = Some(said.clone());
            }
            held.unsent.push(said);
        }
        self.press(attempt, urgency);
    }

    /// Has what was withheld of an attempt sent.
    pub(crate) fn press(&self, attempt: AttemptId, urgency: Urgency) {
        if urgency != Urgency::Withheld
            && let Some(held) = self.lock().get_mut(&attempt)
        {
            held.pressing = true;
        }
        match urgency {
            Urgency::Now => self.now.notify_one(),
            Urgency::Soon => self.soon.notify_one(),
            Urgency::Withheld => {}
        }
    }

    /// Takes what is to be sent, in order of time for each attempt.
    pub(crate) fn unsent(&self) -> Vec<v1::TaskUpdate> {
        let mut attempts = self.lock();
        let said: Vec<Said> = attempts
            .values_mut()
            .flat_map(|held| {
                let pressing = std::mem::take(&mut held.pressing);
                let many = if pressing { held.unsent.len() } else { 0 };
                held.unsent.drain(..many)
            })
            .collect();
        drop(attempts);
        said.into_iter()
            .map(|said| v1::TaskUpdate {
                ago_us: u64::try_from(said.at.elapsed().as_micros()).unwrap_or(u64::MAX),
                ..said.update
            })
            .collect()
    }

    /// After a reconnection: every end that is not acknowledged is to be sent again. What is held.
    pub(crate) fn again(&self) -> Vec<AttemptId> {
        let mut attempts = self.lock();
        for held in attempts.values_mut() {
            if let Some(end) = &held.end
                && !held
                    .unsent
                    .iter()
                    .any(|said| said.update.state == end.update.state)
            {
                held.unsent.push(end.clone());
                held.pressing = true;
            }
        }
        attempts.keys().copied().collect()
    }

    /// The end is stored, or nobody wants it: whether the attempt was held, and had ended.
    pub(crate) fn forget(&self, attempt: AttemptId) -> Forgotten {
        let mut attempts = self.lock();
        let forgotten = match attempts.remove(&attempt) {
            None => Forgotten::NotHeld,
            Some(held) if held.end.is_some() => Forgotten::Ended,
            Some(held) => {
                held.stop.cancel();
                Forgotten::InProgress
            }
        };
        if attempts.is_empty() {
            self.emptied.notify_waiters();
        }
        forgotten
    }

    /// Whether any attempt at the job is held.
    pub(crate) fn holds_job(&self, job: JobId) -> bool {
        let first = AttemptId::new(job, 0, 0);
        self.lock()
            .range(first..)
            .next()
            .is_some_and(|(attempt, _)| attempt.task.job == job)
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// What came of forgetting an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// It was not held.
    NotHeld,
    /// It had ended: all it left can go.
    Ended,
    /// It had not: it is being stopped, and tidies up itself.
    InProgress,
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul_types::Reason;

    fn update(state: TaskState) -> v1::TaskUpdate {
        v1::TaskUpdate {
            state: state as i32,
            reason: Reason::Started as i32,
            ..v1::TaskUpdate::default()
        }
    }

    fn states(updates: &[v1::TaskUpdate]) -> Vec<i32> {
        updates.iter().map(|update| update.state).collect()
    }

    #[test]
    fn what_is_withheld_travels_with_what_follows_it_and_with_nothing_else() {
        let held = Held::default();
        let [short, other] = [1, 2].map(|index| AttemptId::new(JobId::random(), index, 1));
        held.take(short).unwrap();
        held.take(other).unwrap();
        let say = |attempt, state, urgency| held.say(attempt, update(state), Instant::now(), urgency);
        say(short, TaskState::Running, Urgency::Withheld);
        say(other, TaskState::Running, Urgency::Soon);
        assert_eq!(states(&held.unsent()), [TaskState::Running as i32]);
        assert_eq!(held.unsent(), []);
        say(short, TaskState::Succeeded, Urgency::Now);
        let both = [TaskState::Running as i32, TaskState::Succeeded as i32];
        assert_eq!(states(&held.unsent()), both);
        // After a reconnection the end alone is said again, and once.
        assert_eq!(held.again().len(), 2);
        assert_eq!(states(&held.unsent()), [TaskState::Succeeded as i32]);
        assert_eq!(held.unsent(), []);
    }

    #[test]
    fn what_is_withheld_can_be_pressed() {
        let held = Held::default();
        let attempt = AttemptId::new(JobId::random(), 0, 1);
        held.take(attempt).unwrap();
        held.say(
            attempt,
            update(TaskState::Running),
            Instant::now(),
            Urgency::Withheld,
        );
        assert_eq!(held.unsent(), []);
        held.press(attempt, Urgency::Soon);
        assert_eq!(states(&held.unsent()), [TaskState::Running as i32]);
    }
}
