//! Which node gets how much: pure functions of what is free.
//!
//! Jobs take turns: the job with the fewest tasks on nodes goes first, the older of two. So a new job gets the next
//! free slot although an array of thousands waits, and no job waits for ever: one that has nothing on any node is
//! overtaken by none that is younger.
//!
//! A node holds as many attempts as it has slots. Only of an array whose tasks are over in a blink does it hold some
//! more, so that no slot stands empty for the time that an answer takes to travel.

use std::time::Duration;

/// Tasks shorter than this are sent ahead.
const SHORT_TASK: Duration = Duration::from_millis(50);
/// Work sent ahead covers about so much time of each slot.
const AHEAD: Duration = Duration::from_millis(40);
/// At most so many tasks are sent ahead for each slot.
const MAX_AHEAD_PER_SLOT: u32 = 32;

/// How many attempts a node of `slots` may hold, for a job whose tasks take `task_time`.
#[must_use]
pub fn capacity(slots: u32, task_time: Option<Duration>) -> u32 {
    let ahead = match task_time {
        Some(time) if time < SHORT_TASK => {
            let each = AHEAD.as_micros() / time.as_micros().max(1);
            u32::try_from(each)
                .unwrap_or(u32::MAX)
                .clamp(1, MAX_AHEAD_PER_SLOT)
        }
        _ => 0,
    };
    slots.saturating_mul(ahead + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_tasks_are_sent_ahead() {
        assert_eq!(capacity(2, None), 2);
        assert_eq!(capacity(2, Some(Duration::from_secs(5))), 2);
        assert_eq!(capacity(2, Some(Duration::from_millis(20))), 6);
        assert_eq!(capacity(2, Some(Duration::ZERO)), 66);
    }
}
