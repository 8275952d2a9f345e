//! What a spool promises, one test for each promise; the model of all of them together is in `model`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use haul_types::{StreamKey, StreamKind};

use super::{JobSpool, SpoolOptions};
use crate::block::HEADER_BYTES;
use crate::error::{AppendError, ReadError, SyncError};
use crate::{DamageKind, check, segment};

mod disk_full;
mod model;

fn key(task: u32) -> StreamKey {
    StreamKey {
        task,
        attempt: 1,
        kind: StreamKind::Stdout,
    }
}

fn tiny(segment_bytes: u32, block_bytes: u32) -> SpoolOptions {
    SpoolOptions {
        segment_bytes,
        block_bytes,
        ..SpoolOptions::default()
    }
}

fn open(dir: &Path) -> JobSpool {
    JobSpool::open(dir, &SpoolOptions::default()).unwrap()
}

/// All that can be read of a stream.
fn contents(spool: &JobSpool, key: StreamKey) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = spool.read(key, all.len() as u64, 10_000).unwrap();
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&bytes);
    }
}

/// Bytes without order, NUL and invalid UTF-8 among them.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    let mut bytes: Vec<u8> = words
        .take(length.div_ceil(8))
        .flat_map(u64::to_le_bytes)
        .collect();
    bytes.truncate(length);
    bytes
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[test]
fn a_job_that_wrote_nothing_has_no_directory() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("job");
    let spool = open(&dir);
    assert_eq!(spool.append(key(0), 0, b"").unwrap(), 0);
    spool.sync().unwrap();
    spool.seal().unwrap();
    assert!(spool.streams().is_empty());
    assert!(!dir.exists());
}

#[test]
fn a_resend_is_skipped_and_a_gap_refused() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    assert_eq!(spool.append(key(0), 0, b"hello").unwrap(), 5);
    assert_eq!(spool.append(key(0), 0, b"hello").unwrap(), 5);
    assert_eq!(spool.append(key(0), 3, b"lo world").unwrap(), 11);
    let error = spool.append(key(0), 12, b"!").unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::Gap {
                held: 11,
                offset: 12,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        spool.append(key(0), u64::MAX, b"!!").unwrap_err(),
        AppendError::TooLong { .. }
    ));
    assert_eq!(contents(&spool, key(0)), b"hello world");
}

#[test]
fn small_blocks_are_merged_when_their_segment_is_sealed() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let mut expected = vec![Vec::new(); 3];
    for line in 0..6_000_u32 {
        let stream = line % 3;
        let text = format!("{line}: a line like any other\n");
        let at = expected[stream as usize].len() as u64;
        spool.append(key(stream), at, text.as_bytes()).unwrap();
        expected[stream as usize].extend_from_slice(text.as_bytes());
        // What a sync does, without the thousands of waits for the disk.
        spool.flush(&mut spool.writer()).unwrap();
    }
    assert_eq!(check(root.path()).unwrap().blocks, 6_000);
    let before = spool.disk_bytes();
    // Half-read when the file is replaced.
    let early = spool.read(key(1), 0, 100).unwrap();
    spool.seal().unwrap();
    assert!(
        spool.disk_bytes() < before / 8,
        "{} of {before}",
        spool.disk_bytes()
    );
    assert_eq!(early, expected[1][..early.len()]);
    for spool in [spool, open(root.path())] {
        for stream in 0..3 {
            assert!(contents(&spool, key(stream)) == expected[stream as usize]);
        }
    }
    let report = check(root.path()).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(report.blocks, 3);
}

#[test]
fn an_array_of_ten_thousand_tasks_is_a_few_files() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    let keys: Vec<_> = (0..10_000)
        .flat_map(|task| [StreamKind::Stdout, StreamKind::Stderr].map(|kind| StreamKey { kind, ..key(task) }))
        .collect();
    for key in &keys {
        spool
            .append(*key, 0, format!("{} of task {}", key.kind, key.task).as_bytes())
            .unwrap();
    }
    spool.seal().unwrap();
    drop(spool);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    let spool = open(root.path());
    assert_eq!(spool.streams().len(), 20_000);
    assert_eq!(contents(&spool, keys[12_345]), b"stderr of task 6172");
}

#[test]
fn damage_in_a_sealed_segment_is_named_and_costs_one_block() {
    let root = tempfile::tempdir().unwrap();
    let spool = JobSpool::open(root.path(), &tiny(1 << 20, 1_000)).unwrap();
    let (text, other) = (noise(1, 5_000), noise(2, 1_000));
    spool.append(key(0), 0, &text).unwrap();
    spool.append(key(1), 0, &other).unwrap();
    spool.seal().unwrap();
    drop(spool);
    let path = segment::path(root.path(), 1);
    let second_block = (HEADER_BYTES + 1_000) as u64;
    flip(&path, second_block + 500);

    let report = check(root.path()).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].path, path);
    assert_eq!(report.damage[0].position, second_block);
    let kind = DamageKind::Payload {
        key: key(0),
        offset: 1_000,
        bytes: 1_000,
    };
    assert_eq!(report.damage[0].kind, kind);

    let spool = open(root.path());
    assert_eq!(spool.read(key(0), 0, 5_000).unwrap(), text[..1_000]);
    let error = spool.read(key(0), 1_500, 10).unwrap_err();
    let ReadError::Damaged {
        position, resumes, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((position, resumes), (second_block, 2_000));
    assert_eq!(spool.read(key(0), resumes, 10).unwrap(), text[2_000..2_010]);
    assert_eq!(contents(&spool, key(1)), other);
    assert_eq!(spool.append(key(0), 5_000, b"more").unwrap(), 5_004);
}

#[test]
fn a_lost_index_and_a_lost_header_cost_no_other_block() {
    let root = tempfile::tempdir().unwrap();
    let spool = JobSpool::open(root.path(), &tiny(3_000, 1_000)).unwrap();
    let text = noise(3, 20_000);
    for (at, piece) in text.chunks(1_000).enumerate() {
        spool.append(key(0), at as u64 * 1_000, piece).unwrap();
    }
    spool.sync().unwrap();
    drop(spool);
    let path = segment::path(root.path(), 2);
    flip(&path, fs::metadata(&path).unwrap().len() - 3);
    flip(&path, 10);
    let report = check(root.path()).unwrap();
    let kinds: Vec<_> = report.damage.iter().map(|damage| &damage.kind).collect();
    assert!(kinds.contains(&&DamageKind::NoIndex), "{kinds:?}");
    let spool = open(root.path());
    assert_eq!(spool.length(key(0)), 20_000);
    let lost = (0..20).filter(|block| spool.read(key(0), block * 1_000, 1).is_err());
    assert_eq!(lost.collect::<Vec<_>>(), [3]);
    let error = spool.read(key(0), 3_000, 1).unwrap_err();
    assert!(matches!(error, ReadError::Lost { resumes: 4_000, .. }), "{error}");
}

#[test]
fn damage_before_the_durable_mark_is_not_mistaken_for_a_torn_tail() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    for block in 0..4 {
        spool.append(key(0), block * 100, &noise(block, 100)).unwrap();
        spool.sync().unwrap();
    }
    drop(spool);
    flip(&segment::path(root.path(), 1), (HEADER_BYTES + 50) as u64);
    let spool = open(root.path());
    assert_eq!(spool.length(key(0)), 400);
    assert!(spool.read(key(0), 0, 1).is_err());
    assert_eq!(spool.read(key(0), 100, 100).unwrap(), noise(1, 100));
}

#[test]
fn a_failed_sync_ends_the_use_of_the_spool() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path());
    spool.append(key(0), 0, b"kept").unwrap();
    spool.sync().unwrap();
    spool.writer().set_broken();
    let error = spool.append(key(0), 4, b"more").unwrap_err();
    assert!(matches!(error, AppendError::Broken { .. }), "{error}");
    assert!(matches!(spool.sync(), Ok(())), "everything accepted is durable");
    assert!(matches!(spool.seal().unwrap_err(), SyncError::Broken { .. }));
    drop(spool);
    assert_eq!(contents(&open(root.path()), key(0)), b"kept");
}

#[test]
fn a_long_stream_without_newlines_comes_back() {
    const PIECE: usize = 1 << 20;
    let root = tempfile::tempdir().unwrap();
    let options = SpoolOptions {
        segment_bytes: 16 << 20,
        ..SpoolOptions::default()
    };
    let spool = JobSpool::open(root.path(), &options).unwrap();
    // Half noise, half zeros; the piece's number makes each differ.
    let mut piece = noise(7, PIECE / 2);
    piece.resize(PIECE, 0);
    for number in 0..256_u64 {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        spool.append(key(0), number * PIECE as u64, &piece).unwrap();
    }
    spool.sync().unwrap();
    drop(spool);
    let spool = JobSpool::open(root.path(), &options).unwrap();
    assert_eq!(spool.length(key(0)), 256 << 20);
    let mut at = 0;
    while at < 256 << 20 {
        let bytes = spool.read(key(0), at, PIECE).unwrap();
        let (number, from) = (at / PIECE as u64, at as usize % PIECE);
        piece[..8].copy_from_slice(&number.to_le_bytes());
        assert!(bytes == piece[from..from + bytes.len()], "at {at}");
        at += bytes.len() as u64;
    }
}

#[test]
fn readers_and_syncs_run_beside_the_writer() {
    let root = tempfile::tempdir().unwrap();
    let spool = Arc::new(JobSpool::open(root.path(), &tiny(100_000, 4_000)).unwrap());
    let text = Arc::new(noise(9, 2_000_000));
    let done = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    spool.sync().unwrap();
                }
            });
        }
        scope.spawn(|| {
            let mut at = 0;
            while at < text.len() {
                let bytes = spool.read(key(0), at as u64, 3_000).unwrap();
                assert!(bytes == text[at..at + bytes.len()], "at {at}");
                at += bytes.len();
                if bytes.is_empty() {
                    thread::yield_now();
                }
            }
        });
        let mut at = 0;
        for piece in text.chunks(777) {
            at = spool.append(key(0), at, piece).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(check(root.path()).unwrap().damage, []);
}
