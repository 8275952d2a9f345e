//! Who goes first, and where: the rules. They are pure functions of what waits and of what is free.
//!
//! **Order.** A job of a higher priority goes before one of a lower. Among equals jobs take turns: the job with the
//! fewest tasks on nodes goes first, the older of two. So a new job gets the next free place although an array of
//! thousands waits, and a job that has nothing on any node is overtaken by none that is younger.
//!
//! **Fit.** A task is placed only where all that it asks for is free: what is placed on a node never asks for more
//! than the node has. Among several nodes its target says which: the one with the most room (spread) or with the
//! least (pack).
//!
//! **No starvation.** The first job in line of each target that fits nowhere now, but would fit an empty node, has a
//! node *kept* for it: the one where it lacks least. Nobody behind it is placed there, so the node empties until the
//! job fits. Nobody knows how long a task will run; so nothing is slipped in on that node, while every other node goes
//! on taking whoever fits. A job that fits no node, however empty, keeps none and holds nobody up.
//!
//! **Ahead.** A node holds as many attempts as it has room for. Only of an array whose tasks are over in a blink does
//! it hold some more, so that no place stands empty for the time that an answer takes to travel. They wait on the node
//! and take the places of their own job as those become free; nothing is sent ahead past a job for which the node is
//! kept.

pub(crate) mod fleet;
pub(crate) mod line;

use std::time::Duration;

/// Tasks shorter than this are sent ahead.
const SHORT_TASK: Duration = Duration::from_millis(50);
/// Work sent ahead covers about so much time of each place.
const AHEAD: Duration = Duration::from_millis(40);
/// At most so many tasks are sent ahead for each place.
const MAX_AHEAD: u32 = 32;

/// How many tasks may wait on a node for each place that their job has there, if they take `task_time`.
#[must_use]
pub fn ahead(task_time: Option<Duration>) -> u32 {
    match task_time {
        Some(time) if time < SHORT_TASK => {
            let each = AHEAD.as_micros() / time.as_micros().max(1);
            u32::try_from(each).unwrap_or(u32::MAX).clamp(1, MAX_AHEAD)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_tasks_are_sent_ahead() {
        assert_eq!(ahead(None), 0);
        assert_eq!(ahead(Some(Duration::from_secs(5))), 0);
        assert_eq!(ahead(Some(Duration::from_millis(20))), 2);
        assert_eq!(ahead(Some(Duration::ZERO)), 32);
    }
}
