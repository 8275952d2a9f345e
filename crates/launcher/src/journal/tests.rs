use super::*;

use std::time::Duration;

use haul_types::{ExitStatus, JobId};
use proptest::prelude::*;

use crate::order::{Outcome, Usage};

fn attempt(index: u32) -> AttemptId {
    AttemptId::new(JobId::from_bits(77).unwrap(), index, 1)
}

fn end(index: u32) -> ExitRecord {
    ExitRecord {
        attempt: attempt(index),
        outcome: Outcome::Exited(ExitStatus::Code(index as u8)),
        stopped: None,
        killed_leftovers: 0,
        oom_kills: 0,
        started_unix_ms: 1,
        duration: Duration::from_millis(u64::from(index)),
        usage: Usage::default(),
    }
}

fn intent(index: u32, acknowledged: u64) -> Record {
    Record::Intent(Intent {
        attempt: attempt(index),
        acknowledged,
        supervisor_pid: 10,
        supervisor_start_ticks: 20,
        boot_id: "0e8a1f0a-0000-4000-8000-000000000000".to_owned(),
        started_unix_ms: 1,
    })
}

fn journal() -> (Journal, File) {
    let file = tempfile::tempfile().unwrap();
    (Journal::create(file.try_clone().unwrap()).unwrap(), file)
}

fn run(journal: &mut Journal, index: u32, last: u64) -> u64 {
    journal.acknowledge(last);
    journal.append(&intent(index, last)).unwrap();
    journal
        .append(&Record::Running {
            attempt: attempt(index),
            pid: 5,
            start_ticks: 6,
        })
        .unwrap();
    journal.append(&Record::Ended(end(index))).unwrap()
}

#[test]
fn a_new_journal_says_nothing_and_never_grows() {
    let (mut journal, file) = journal();
    assert_eq!(read(&file).unwrap(), Reading::default());
    let length = file.metadata().unwrap().len();
    let mut last = 0;
    for index in 0..500 {
        last = run(&mut journal, index, last);
    }
    assert_eq!(file.metadata().unwrap().len(), length);
    assert_eq!(read(&file).unwrap().ends, vec![(last, end(499))]);
}

#[test]
fn an_attempt_without_an_end_is_told_with_all_that_is_known() {
    let (mut journal, file) = journal();
    let last = run(&mut journal, 1, 0);
    journal.append(&intent(2, last)).unwrap();
    let reading = read(&file).unwrap();
    assert_eq!(reading.ends, vec![]);
    let unfinished = reading.unfinished.unwrap();
    assert_eq!((unfinished.attempt, unfinished.main), (attempt(2), None));
    journal
        .append(&Record::Running {
            attempt: attempt(2),
            pid: 5,
            start_ticks: 6,
        })
        .unwrap();
    let unfinished = read(&file).unwrap().unfinished.unwrap();
    assert_eq!(unfinished.main, Some((5, 6)));
    assert_eq!(unfinished.intent.unwrap().supervisor_pid, 10);
}

#[test]
fn ends_that_nobody_acknowledged_are_not_overwritten() {
    let (mut journal, file) = journal();
    for index in 0..MAX_UNACKNOWLEDGED as u32 {
        run(&mut journal, index, 0);
    }
    assert_eq!(read(&file).unwrap().ends.len(), MAX_UNACKNOWLEDGED);
    let full = std::iter::repeat_with(|| journal.append(&intent(99, 0)))
        .take(SLOTS as usize)
        .find_map(Result::err);
    assert!(matches!(full, Some(AppendError::Full)), "{full:?}");
    assert_eq!(read(&file).unwrap().ends.len(), MAX_UNACKNOWLEDGED);
}

proptest! {
    /// Whatever happens to the bytes, what is read was written: an end may be missing, never another.
    #[test]
    fn damage_never_makes_another_end(
        count in 1u32..60,
        damage in prop::collection::vec((0usize..SLOT_BYTES * SLOTS as usize, any::<u8>()), 1..200),
        torn in 0usize..SLOT_BYTES,
    ) {
        let (mut journal, file) = journal();
        let mut last = 0;
        for index in 0..count {
            // Every third stays unacknowledged for a while.
            last = run(&mut journal, index, if index % 3 == 0 { last } else { last.saturating_sub(20) });
        }
        let mut bytes = vec![0; SLOT_BYTES * SLOTS as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let whole = interpret(&bytes);
        prop_assert_eq!(whole.ends.last(), Some(&(last, end(count - 1))));
        // The newest record, torn at some byte.
        let start = (last % SLOTS) as usize * SLOT_BYTES;
        let mut torn_bytes = bytes.clone();
        torn_bytes[start + torn..start + SLOT_BYTES].fill(0xa5);
        let after = interpret(&torn_bytes);
        let lost = after.unfinished.map(|u| u.attempt) == Some(attempt(count - 1));
        prop_assert!(lost || after.ends.last() == Some(&(last, end(count - 1))));
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        for (_, found) in interpret(&bytes).ends {
            let index = found.attempt.task.index;
            prop_assert!(index < count);
            prop_assert_eq!(found, end(index));
        }
    }
}
