//! The model: a map of byte strings. Whatever is done to a spool, crashes included, it holds a beginning of each of them,
//! at least as long as what was synced.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use haul_types::StreamKey;
use proptest::prelude::*;

use super::{contents, flip, key, noise, tiny};
use crate::error::AppendError;
use crate::spool::JobSpool;
use crate::{check, segment};

#[derive(Clone, Debug)]
enum Step {
    /// Append to a stream, beginning so many bytes before its end.
    Append {
        stream: u32,
        length: usize,
        back: u64,
    },
    /// Offer bytes so far past its end.
    Gap {
        stream: u32,
        by: u64,
    },
    Sync,
    Seal,
    /// The process dies.
    Kill,
    /// The machine dies: what was not synced is cut short, has a byte turned, or is followed by zeros.
    Crash {
        at: prop::sample::Index,
        how: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (
        0..4_u32,
        prop_oneof![4 => 0..60_usize, 1 => 60..2_000_usize],
        0..80_u64,
    )
        .prop_map(|(stream, length, back)| Step::Append { stream, length, back });
    let step = prop_oneof![
        12 => append,
        1 => (0..4_u32, 1..50_u64).prop_map(|(stream, by)| Step::Gap { stream, by }),
        4 => Just(Step::Sync),
        1 => Just(Step::Seal),
        1 => Just(Step::Kill),
        2 => (any::<prop::sample::Index>(), 0..3_u8).prop_map(|(at, how)| Step::Crash { at, how }),
    ];
    prop::collection::vec(step, 1..60)
}

/// Damages what no sync or seal made durable of the last segment.
fn crash(dir: &Path, durable: (u32, u64), at: prop::sample::Index, how: u8) {
    let (numbers, _) = segment::list(dir).unwrap();
    let Some(&last) = numbers.last() else { return };
    let path = segment::path(dir, last);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    if segment::read_footer(&file, last).unwrap().is_some() {
        return;
    }
    let length = file.metadata().unwrap().len();
    let safe = if last == durable.0 { durable.1 } else { 0 };
    if safe >= length {
        return;
    }
    let at = safe + at.index((length - safe) as usize) as u64;
    match how {
        0 => file.set_len(at).unwrap(),
        1 => flip(&path, at),
        _ => {
            file.set_len(at).unwrap();
            file.set_len(length).unwrap();
        }
    }
}

/// Where the last segment ends now.
fn last_segment(dir: &Path) -> (u32, u64) {
    let (numbers, _) = segment::list(dir).unwrap();
    numbers.last().map_or((0, 0), |&last| {
        (last, segment::path(dir, last).metadata().unwrap().len())
    })
}

fn run(steps: Vec<Step>, segment_bytes: u32, block_bytes: u32) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("job");
    let options = tiny(segment_bytes, block_bytes);
    let mut spool = JobSpool::open(&dir, &options).unwrap();
    let mut model: HashMap<StreamKey, Vec<u8>> = HashMap::new();
    let mut synced: HashMap<StreamKey, u64> = HashMap::new();
    let mut durable = (0, 0);
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append { stream, length, back } => {
                let held = model.entry(key(stream)).or_default();
                let offset = (held.len() as u64).saturating_sub(back);
                let mut data = held[offset as usize..].to_vec();
                data.truncate(length);
                data.extend(noise(number as u64, length - data.len()));
                if offset as usize + data.len() > held.len() {
                    held.truncate(offset as usize);
                    held.extend_from_slice(&data);
                }
                let length = spool.append(key(stream), offset, &data).unwrap();
                assert_eq!(length, held.len() as u64);
            }
            Step::Gap { stream, by } => {
                let held = model.get(&key(stream)).map_or(0, Vec::len) as u64;
                let error = spool.append(key(stream), held + by, b"x").unwrap_err();
                assert!(matches!(error, AppendError::Gap { held: told, .. } if told == held));
            }
            Step::Sync | Step::Seal => {
                if matches!(step, Step::Sync) {
                    spool.sync().unwrap();
                } else {
                    spool.seal().unwrap();
                }
                synced = model
                    .iter()
                    .map(|(&key, held)| (key, held.len() as u64))
                    .collect();
                durable = last_segment(&dir);
            }
            Step::Kill | Step::Crash { .. } => {
                drop(spool);
                if let Step::Crash { at, how } = step {
                    crash(&dir, durable, at, how);
                }
                spool = JobSpool::open(&dir, &options).unwrap();
                for (&key, held) in &mut model {
                    let length = spool.length(key);
                    assert!(
                        length >= synced.get(&key).copied().unwrap_or(0),
                        "synced bytes are gone"
                    );
                    assert!(length <= held.len() as u64);
                    held.truncate(length as usize);
                }
                assert!(check(&dir).unwrap().damage.is_empty());
            }
        }
        for (&key, held) in &model {
            assert!(contents(&spool, key) == *held, "step {number}");
        }
    }
    let streams = model.iter().filter(|(_, held)| !held.is_empty());
    let mut streams: Vec<_> = streams.map(|(&key, held)| (key, held.len() as u64)).collect();
    streams.sort_unstable();
    assert_eq!(spool.streams(), streams);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spool_is_a_map_of_byte_strings(steps in steps(), segment in 200..4_000_u32, block in 1..500_u32) {
        run(steps, segment, block);
    }
}
