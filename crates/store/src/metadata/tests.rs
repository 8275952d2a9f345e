//! The store as its callers see it.

mod crash;
mod faults;
mod identity;
mod model;
mod removal;
mod versions;

use std::sync::mpsc;

use haul_types::{
    Admission, ByteSize, Cpus, Digest, Enforcement, EnvironmentSpec, ExitStatus, Gpu, Inventory, JobId,
    JobSpec, NodeName, Placement, Reason, Resources, Scheduling, TaskCounts, TaskId, TaskState, Transition,
};

use super::*;

fn id(bits: u64) -> JobId {
    JobId::from_bits(bits).unwrap()
}

fn spec(name: &str) -> JobSpec {
    JobSpec {
        name: name.to_owned(),
        command: vec![JobSpec::PYTHON.to_owned(), "train.py".to_owned()],
        snapshot: Digest::of(name.as_bytes()),
        working_dir: String::new(),
        env: [("SEED".to_owned(), "1".to_owned())].into(),
        environment: EnvironmentSpec::Node,
        array: None,
        timeout: None,
        grace: std::time::Duration::from_secs(10),
        scheduling: Scheduling::default(),
    }
}

fn job(bits: u64) -> JobRecord {
    JobRecord {
        id: id(bits),
        spec: spec(&format!("job {bits}")).into(),
        created_unix_ms: 1_790_000_000_000 + bits % 1000,
        state: TaskState::Queued,
        counts: TaskCounts([1, 0, 0, 0, 0, 0, 0]),
        ended_unix_ms: None,
        cancel_requested: bits.is_multiple_of(2),
        given_up: None,
        owner: None,
    }
}

fn node(name: &str) -> NodeRecord {
    NodeRecord {
        name: NodeName::try_from(name.to_owned()).unwrap(),
        instance: "0123".to_owned(),
        inventory: Inventory {
            capacity: Resources {
                cpus: Cpus::whole(8),
                memory: ByteSize(64 << 30),
            },
            labels: [("gpu".to_owned(), "a100".to_owned())].into(),
            gpus: vec![Gpu {
                name: "A100".to_owned(),
                uuid: "GPU-1".to_owned(),
                memory: ByteSize(80 << 30),
            }],
            enforces: Enforcement::default(),
        },
        admission: Admission::Draining,
        last_seen_unix_ms: 1_790_000_000_000,
    }
}

fn target(name: &str) -> TargetRecord {
    TargetRecord {
        name: name.parse().unwrap(),
        nodes: [node("box1").name].into(),
        labels: node("box1").inventory.labels,
        placement: Placement::Pack,
    }
}

fn task(job: u64, index: u32, state: TaskState) -> TaskRecord {
    let ended = state.is_terminal();
    TaskRecord {
        id: TaskId { job: id(job), index },
        state,
        attempt: 1,
        node: Some("gpu-box".to_owned()),
        exit: ended.then_some(ExitStatus::Signal(9)),
        timeline: vec![Transition {
            state,
            reason: Reason::Assigned,
            detail: "a sentence".to_owned(),
            attempt: 1,
            at_unix_ms: 1_790_000_000_000 + u64::from(index),
        }],
        outputs: ended.then(|| Digest::of(b"outputs")),
        logs: None,
        stream_lengths: [0, u64::MAX, 7],
        cancel_requested: index % 2 == 1,
    }
}

/// Commits and waits.
fn commit(store: &Metadata, ops: Vec<Op>) -> Result<(), CommitError> {
    let (told, result) = mpsc::channel();
    store.commit(ops, move |result| told.send(result).unwrap());
    result.recv().expect("the callback is called")
}

fn all_jobs() -> JobFilter {
    JobFilter {
        states: Vec::new(),
        limit: usize::MAX,
        before: None,
    }
}

fn tasks_from(from_index: u32, limit: usize, states: &[TaskState]) -> TaskFilter {
    TaskFilter {
        states: states.to_vec(),
        from_index,
        limit,
    }
}

fn open() -> (tempfile::TempDir, Metadata) {
    let directory = tempfile::tempdir().unwrap();
    let store = Metadata::open(directory.path()).unwrap();
    (directory, store)
}

#[test]
fn what_was_put_is_read_back_and_after_reopening() {
    let (directory, store) = open();
    let mut ended = job(5);
    (ended.state, ended.ended_unix_ms, ended.counts) = (
        TaskState::Failed,
        Some(u64::MAX),
        TaskCounts([u32::MAX, 1, 2, 3, 4, 5, 6]),
    );
    let rows = [
        task(5, 0, TaskState::Failed),
        task(5, u32::MAX, TaskState::Running),
    ];
    let mut ops = vec![Op::InsertJob(ended.clone())];
    ops.extend(rows.iter().cloned().map(Op::PutTask));
    commit(&store, ops).unwrap();
    for _ in 0..2 {
        let store = store.clone();
        assert_eq!(store.job(id(5)).unwrap().unwrap(), ended);
        assert_eq!(store.job(id(6)).unwrap(), None);
        assert_eq!(store.task(rows[1].id).unwrap().unwrap(), rows[1]);
        assert_eq!(store.tasks(id(5), &tasks_from(0, 9, &[])).unwrap(), rows);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
    drop(store);
    let store = Metadata::open(directory.path()).unwrap();
    assert_eq!(store.job(id(5)).unwrap().unwrap(), ended);
    assert_eq!(store.tasks(id(5), &tasks_from(0, 9, &[])).unwrap(), rows);
}

#[test]
fn nodes_targets_and_why_a_job_was_given_up_are_read_back() {
    let (directory, store) = open();
    let mut given_up = job(4);
    commit(&store, vec![Op::InsertJob(given_up.clone())]).unwrap();
    given_up.given_up = Some(Reason::Quarantined);
    let other = NodeRecord {
        admission: Admission::Open,
        ..node("box2")
    };
    let ops = vec![
        Op::PutJob(given_up.clone()),
        Op::PutNode(other),
        Op::PutNode(node("box2")),
        Op::PutNode(node("box1")),
        Op::PutNode(node("box3")),
        Op::RemoveNode(node("box3").name),
        Op::PutTarget(target("gpu")),
        Op::PutTarget(target("old")),
        Op::RemoveTarget(target("old").name),
    ];
    commit(&store, ops).unwrap();
    drop(store);
    let store = Metadata::open(directory.path()).unwrap();
    assert_eq!(store.job(given_up.id).unwrap(), Some(given_up));
    assert_eq!(store.nodes().unwrap(), [node("box1"), node("box2")]);
    assert_eq!(store.targets().unwrap(), [target("gpu")]);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_refused_submission_is_undone_alone_and_says_why() {
    let (_directory, store) = open();
    let (told, results) = mpsc::channel();
    let submit = |name: &'static str, ops: Vec<Op>| {
        let told = told.clone();
        store.commit(ops, move |result| told.send((name, result)).unwrap());
    };
    // Queued at once, most of them end up in one transaction.
    submit("first", vec![Op::InsertJob(job(1))]);
    submit(
        "again",
        vec![Op::PutTask(task(1, 3, TaskState::Running)), Op::InsertJob(job(1))],
    );
    submit(
        "unknown",
        vec![Op::InsertJob(job(2)), Op::PutTask(task(9, 0, TaskState::Running))],
    );
    submit("lone", vec![Op::PutTask(task(9, 0, TaskState::Running))]);
    submit("state", vec![Op::PutJob(job(8))]);
    submit("last", vec![Op::InsertJob(job(3))]);
    let results: Vec<_> = results.iter().take(6).collect();
    let said: Vec<_> = results
        .iter()
        .map(|(name, result)| {
            format!(
                "{name}: {}",
                result
                    .as_ref()
                    .map_or_else(ToString::to_string, |()| "ok".to_owned())
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "first: ok",
            "again: job 000000000001 exists already",
            "unknown: there is no job 000000000009",
            "lone: there is no job 000000000009",
            "state: there is no job 000000000008",
            "last: ok",
        ]
    );
    let ids: Vec<_> = store
        .jobs(&all_jobs())
        .unwrap()
        .into_iter()
        .map(|job| job.id)
        .collect();
    assert_eq!(ids, [id(3), id(1)]);
    assert_eq!(store.task(TaskId { job: id(1), index: 3 }).unwrap(), None);
}

#[test]
fn jobs_are_listed_newest_first_page_by_page() {
    let (_directory, store) = open();
    // Ids in no order, times equal: the order is that of submission.
    for bits in [7, 3, 9, 1, 5] {
        let mut row = job(bits);
        row.created_unix_ms = 1;
        row.state = if bits == 9 {
            TaskState::Succeeded
        } else {
            TaskState::Queued
        };
        commit(&store, vec![Op::InsertJob(row)]).unwrap();
    }
    let ids = |filter: &JobFilter| -> Vec<u64> {
        store
            .jobs(filter)
            .unwrap()
            .iter()
            .map(|job| job.id.to_bits())
            .collect()
    };
    assert_eq!(ids(&all_jobs()), [5, 1, 9, 3, 7]);
    assert_eq!(store.last_job().unwrap(), Some(id(5)));
    let page = store
        .jobs(&JobFilter {
            limit: 2,
            ..all_jobs()
        })
        .unwrap();
    // A job removed meanwhile does not upset the place.
    commit(&store, vec![Op::RemoveJob(id(1))]).unwrap();
    let next = JobFilter {
        limit: 2,
        before: Some(page[1].cursor),
        ..all_jobs()
    };
    assert_eq!(ids(&next), [9, 3]);
    let open = JobFilter {
        states: vec![TaskState::Queued, TaskState::Running],
        ..all_jobs()
    };
    assert_eq!(ids(&open), [5, 3, 7]);
    let ended = JobFilter {
        states: vec![TaskState::Succeeded],
        ..all_jobs()
    };
    assert_eq!(ids(&ended), [9]);
}

#[test]
fn prefixes_find_the_first_and_the_last_id_of_their_range() {
    let (_directory, store) = open();
    let text = [
        "000000000000",
        "00000000000z",
        "ab0000000000",
        "abzzzzzzzzzz",
        "ac0000000000",
        "zzzzzzzzzzzz",
    ];
    for id in text {
        let mut row = job(1);
        row.id = id.parse().unwrap();
        commit(&store, vec![Op::InsertJob(row)]).unwrap();
    }
    let find = |prefix: &str| -> Vec<String> {
        store
            .find_by_prefix(prefix, 100)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(find("ab"), text[2..4]);
    assert_eq!(find("AB"), text[2..4]);
    assert_eq!(find("a"), text[2..5]);
    assert_eq!(find("z"), text[5..]);
    assert_eq!(find("00000000000"), text[..2]);
    assert_eq!(find("zzzzzzzzzzzz"), text[5..]);
    assert_eq!(find(""), text);
    assert_eq!(store.find_by_prefix("", 2).unwrap().len(), 2);
    for nothing in ["b", "ab1", "il", "zzzzzzzzzzzzz", "é"] {
        assert!(find(nothing).is_empty(), "{nothing}");
    }
}

#[test]
fn a_controller_starts_with_what_has_not_ended() {
    use TaskState::{Failed, Preparing, Queued, Running, Succeeded};
    let (_directory, store) = open();
    let mut done = job(2);
    done.state = Succeeded;
    let states = [
        (0, Succeeded),
        (1, Failed),
        (2, Running),
        (3, Succeeded),
        (5, Succeeded),
        (6, Queued),
        (9, Preparing),
    ];
    let mut ops = vec![Op::InsertJob(job(1)), Op::InsertJob(done), Op::InsertJob(job(3))];
    ops.extend(states.map(|(index, state)| Op::PutTask(task(1, index, state))));
    commit(&store, ops).unwrap();
    let active = store.active().unwrap();
    assert_eq!(
        active.iter().map(|active| &active.job).collect::<Vec<_>>(),
        [&job(1), &job(3)]
    );
    assert_eq!(active[0].ended, [0..=1, 3..=3, 5..=5]);
    assert_eq!(
        active[0].open,
        [task(1, 2, Running), task(1, 6, Queued), task(1, 9, Preparing)]
    );
    assert!(active[1].open.is_empty() && active[1].ended.is_empty());
}

#[test]
fn snapshots_live_while_something_names_them() {
    let (directory, store) = open();
    let (kept, expired) = (Digest::of(b"kept"), Digest::of(b"expired"));
    let mut with_logs = task(1, 0, TaskState::Succeeded);
    with_logs.logs = Some(Digest::of(b"logs"));
    let reference = |root, until_unix_ms| Op::PutSnapshotRef { root, until_unix_ms };
    commit(
        &store,
        vec![
            Op::InsertJob(job(1)),
            Op::PutTask(with_logs),
            Op::PutTask(task(1, 1, TaskState::Succeeded)),
            Op::PutTask(task(1, 2, TaskState::Running)),
            reference(kept, 10),
            reference(expired, 1000),
            reference(expired, 9),
        ],
    )
    .unwrap();
    let live = |now| {
        let mut live = store.live_snapshots(now).unwrap();
        live.sort();
        live
    };
    let sorted = |mut digests: Vec<Digest>| {
        digests.sort();
        digests
    };
    let of_job = vec![job(1).spec.snapshot, Digest::of(b"outputs"), Digest::of(b"logs")];
    assert_eq!(live(10), sorted([of_job, vec![kept]].concat()));
    commit(
        &store,
        vec![
            Op::RemoveSnapshotRefs { before_unix_ms: 10 },
            Op::RemoveJob(id(1)),
        ],
    )
    .unwrap();
    removal::settle(&store, directory.path());
    assert_eq!(live(0), [kept]);
}

#[test]
fn the_last_handle_may_be_dropped_in_a_callback() {
    let (directory, store) = open();
    let (told, result) = mpsc::channel();
    let handle = store.clone();
    store.commit(vec![Op::InsertJob(job(1))], move |result| {
        told.send(result.is_ok()).unwrap();
        drop(handle);
    });
    drop(store);
    assert!(result.recv().unwrap());
    // The thread ends by itself and frees the directory; until then this waits.
    let lock = std::fs::File::open(directory.path().join("lock")).unwrap();
    lock.lock().unwrap();
    drop(lock);
    let store = Metadata::open(directory.path()).unwrap();
    assert!(store.job(id(1)).unwrap().is_some());
}

#[test]
fn a_callback_that_panics_harms_only_itself() {
    let (_directory, store) = open();
    store.commit(vec![Op::InsertJob(job(1))], |_| panic!("a caller's mistake"));
    commit(&store, vec![Op::InsertJob(job(2))]).unwrap();
    assert!(store.job(id(1)).unwrap().is_some());
}
