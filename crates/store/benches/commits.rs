//! How long a commit takes: alone, in a crowd, and against what the disk itself needs for an overwrite;
//! and what of a million tasks is read or removed at once.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haul_store::{Metadata, Op};
use haul_types::{
    Digest, EnvironmentSpec, JobId, JobRecord, JobSpec, Reason, TaskCounts, TaskId, TaskRecord, TaskState,
    Transition,
};

/// Tasks put by one round of the crowd.
const CROWD: u32 = 20_000;
/// Tasks of a job as large as they get.
const MILLION: u32 = 1_000_000;

fn job() -> JobRecord {
    JobRecord {
        id: JobId::random(),
        spec: JobSpec {
            name: "bench".to_owned(),
            command: vec!["true".to_owned()],
            snapshot: Digest::of(b""),
            working_dir: String::new(),
            env: Default::default(),
            environment: EnvironmentSpec::Node,
            array: Some("0-999999".parse().expect("an array")),
            timeout: None,
            grace: Duration::from_secs(10),
            scheduling: Default::default(),
        }
        .into(),
        created_unix_ms: 1_790_000_000_000,
        state: TaskState::Running,
        counts: TaskCounts([1_000_000, 0, 0, 0, 0, 0, 0]),
        ended_unix_ms: None,
        cancel_requested: false,
        given_up: None,
        owner: None,
    }
}

fn task(job: JobId, index: u32, state: TaskState) -> TaskRecord {
    let line = |state| Transition {
        state,
        reason: Reason::Assigned,
        detail: String::new(),
        attempt: 1,
        at_unix_ms: 1_790_000_000_000 + u64::from(index),
    };
    TaskRecord {
        id: TaskId { job, index },
        state,
        attempt: 1,
        node: Some("gpu-box-17".to_owned()),
        exit: None,
        timeline: vec![line(TaskState::Preparing), line(TaskState::Running), line(state)],
        outputs: None,
        logs: None,
        stream_lengths: [100, 2000, 0],
        cancel_requested: false,
    }
}

fn commit(store: &Metadata, ops: Vec<Op>) {
    let (told, result) = mpsc::sync_channel(1);
    store.commit(ops, move |result| told.send(result).expect("somebody waits"));
    result.recv().expect("told").expect("stored");
}

fn commits(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = Metadata::open(directory.path()).expect("a store");
    let job = job();
    let id = job.id;
    commit(&store, vec![Op::InsertJob(job)]);

    let mut group = criterion.benchmark_group("commit");
    group.bench_function("floor: overwrite 8 KiB and fdatasync", |bencher| {
        let file = File::create(directory.path().join("floor")).expect("a file");
        let block = [7; 8192];
        for place in 0..512 {
            file.write_all_at(&block, place * 8192).expect("room");
        }
        file.sync_all().expect("synced");
        let mut place = 0;
        bencher.iter(|| {
            place = (place + 1) % 512;
            file.write_all_at(&block, place * 8192).expect("room");
            file.sync_data().expect("synced");
        });
    });
    group.bench_function("one task alone", |bencher| {
        let mut index = 0;
        bencher.iter(|| {
            index += 1;
            commit(&store, vec![Op::PutTask(task(id, index, TaskState::Running))]);
        });
    });
    group
        .sample_size(10)
        .throughput(Throughput::Elements(CROWD.into()));
    group.bench_function("tasks in a crowd", |bencher| {
        let mut first = 0;
        bencher.iter_custom(|rounds| {
            let start = Instant::now();
            for _ in 0..rounds {
                // Never more under way than the queue takes, as a controller that waits for its acknowledgements.
                let (told, results) = mpsc::channel();
                let mut under_way = 0;
                for index in first..first + CROWD {
                    if under_way == 4096 {
                        let stored: bool = results.recv().expect("told");
                        assert!(stored);
                        under_way -= 1;
                    }
                    let told = told.clone();
                    let row = task(id, index % 1_000_000, TaskState::Finalizing);
                    store.commit(vec![Op::PutTask(row)], move |result| {
                        told.send(result.is_ok()).expect("somebody waits");
                    });
                    under_way += 1;
                }
                assert!(results.iter().take(under_way).all(|stored| stored));
                first += CROWD;
            }
            start.elapsed()
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("read");
    group.bench_function("one task", |bencher| {
        bencher.iter(|| black_box(store.task(TaskId { job: id, index: 1 }).expect("read")));
    });
    group.finish();
}

/// What a collection of garbage asks for first, of a million tasks that have all left something else.
fn live_snapshots(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = Metadata::open(directory.path()).expect("a store");
    let job = job();
    let id = job.id;
    commit(&store, vec![Op::InsertJob(job)]);
    for first in (0..MILLION).step_by(CROWD as usize) {
        let rows = (first..first + CROWD).map(|index| {
            let mut row = task(id, index, TaskState::Succeeded);
            row.outputs = Some(Digest::of(&index.to_le_bytes()));
            row.logs = Some(Digest::of(&(index + MILLION).to_le_bytes()));
            Op::PutTask(row)
        });
        commit(&store, rows.collect());
    }
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10);
    group.bench_function("live snapshots of a million tasks", |bencher| {
        bencher.iter(|| black_box(store.live_snapshots(0).expect("read")));
    });
    group.finish();
    // And how long another commit takes, at worst, while those tasks are deleted.
    let start = Instant::now();
    commit(&store, vec![Op::RemoveJob(id)]);
    let told = start.elapsed();
    let mut worst = Duration::ZERO;
    for _ in 0..MILLION / CROWD {
        let start = Instant::now();
        commit(&store, vec![Op::RemoveSnapshotRefs { before_unix_ms: 0 }]);
        worst = worst.max(start.elapsed());
    }
    println!(
        "remove/a job of a million tasks: told after {told:?}, the slowest other commit meanwhile {worst:?}"
    );
}

criterion_group!(benches, commits, live_snapshots);
criterion_main!(benches);
