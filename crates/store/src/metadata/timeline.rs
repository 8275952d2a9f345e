//! A task's timeline as one blob: tasks are many and their timelines short, and they are only ever read whole.
//!
//! One byte of format, then a postcard sequence. States and reasons are stored as the numbers that `haul-types` fixes,
//! not by their place in the enum, and a time as its distance from the line before, which is one to four bytes.

use haul_types::{Reason, TaskState, Transition};
use serde::{Deserialize, Serialize, Serializer};

/// The format written; the first byte of a blob.
const FORMAT: u8 = 1;

/// A stored transition.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    state: u8,
    reason: u8,
    attempt: u32,
    /// Milliseconds since the line before, since 1970 for the first. The clock may have been set back.
    since_last_ms: i64,
    detail: &'a str,
}

/// The lines of a timeline, written without copying them first.
struct Lines<'a>(&'a [Transition]);

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut last = 0;
        serializer.collect_seq(self.0.iter().map(|transition| {
            let since_last_ms = transition.at_unix_ms.wrapping_sub(last).cast_signed();
            last = transition.at_unix_ms;
            Line {
                state: transition.state as u8,
                reason: transition.reason as u8,
                attempt: transition.attempt,
                since_last_ms,
                detail: &transition.detail,
            }
        }))
    }
}

/// Appends the stored form to `blob`, which is cleared first.
pub(super) fn encode(timeline: &[Transition], blob: &mut Vec<u8>) {
    blob.clear();
    blob.push(FORMAT);
    *blob = postcard::to_extend(&Lines(timeline), std::mem::take(blob))
        .expect("numbers and text in a growing buffer have a stored form");
}

/// Reads the stored form; the error says what is wrong with it.
pub(super) fn decode(blob: &[u8]) -> Result<Vec<Transition>, String> {
    let lines = match blob.split_first() {
        Some((&FORMAT, lines)) => lines,
        Some((other, _)) => return Err(format!("its timeline has the unknown format {other}")),
        None => return Err("its timeline is empty".to_owned()),
    };
    let lines: Vec<Line<'_>> =
        postcard::from_bytes(lines).map_err(|error| format!("its timeline: {error}"))?;
    let mut last = 0u64;
    lines
        .into_iter()
        .map(|line| {
            last = last.wrapping_add(line.since_last_ms.cast_unsigned());
            Ok(Transition {
                state: state(line.state.into())?,
                reason: reason(line.reason)?,
                detail: line.detail.to_owned(),
                attempt: line.attempt,
                at_unix_ms: last,
            })
        })
        .collect()
}

/// The state of a number.
pub(super) fn state(number: i64) -> Result<TaskState, String> {
    TaskState::ALL
        .into_iter()
        .find(|&state| state as i64 == number)
        .ok_or_else(|| format!("unknown state {number}"))
}

/// The reason of a number.
pub(super) fn reason(number: u8) -> Result<Reason, String> {
    Reason::ALL
        .into_iter()
        .find(|&reason| reason as u8 == number)
        .ok_or_else(|| format!("unknown reason {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transition() -> impl Strategy<Value = Transition> {
        (
            0..7usize,
            0..Reason::ALL.len(),
            ".{0,20}",
            any::<u32>(),
            any::<u64>(),
        )
            .prop_map(|(state, reason, detail, attempt, at_unix_ms)| Transition {
                state: TaskState::ALL[state],
                reason: Reason::ALL[reason],
                detail,
                attempt,
                at_unix_ms,
            })
    }

    proptest! {
        #[test]
        fn timelines_survive_storing(timeline in proptest::collection::vec(transition(), 0..8)) {
            let mut blob = b"rest of the row before".to_vec();
            encode(&timeline, &mut blob);
            prop_assert_eq!(decode(&blob).unwrap(), timeline);
        }

        #[test]
        fn any_bytes_are_read_or_refused(blob in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&blob);
        }
    }

    #[test]
    fn an_ordinary_line_takes_ten_bytes() {
        let line = |state, at_unix_ms| Transition {
            state,
            reason: Reason::Started,
            detail: String::new(),
            attempt: 1,
            at_unix_ms,
        };
        let start = 1_790_000_000_000;
        let timeline: Vec<_> = (0..4)
            .map(|n| line(TaskState::Running, start + n * 60_000))
            .collect();
        let mut blob = Vec::new();
        encode(&timeline, &mut blob);
        assert!(blob.len() <= 40, "{} bytes", blob.len());
    }
}
