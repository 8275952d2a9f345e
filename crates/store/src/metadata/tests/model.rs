//! The store against a model in memory: whatever is submitted and whenever it is reopened, both say the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Submit(Vec<Op>),
    Reopen,
}

/// Few jobs and few tasks, so that steps meet.
fn op() -> impl Strategy<Value = Op> {
    let state = (0..7usize).prop_map(|place| TaskState::ALL[place]);
    prop_oneof![
        2 => (0..4u64).prop_map(|bits| Op::InsertJob(job(bits))),
        6 => (0..4u64, 0..6u32, state.clone(), 1..4u32).prop_map(|(job, index, state, attempt)| {
            let mut row = task(job, index, state);
            row.attempt = attempt;
            Op::PutTask(row)
        }),
        2 => (0..4u64, state, any::<[u32; 7]>(), any::<Option<u64>>()).prop_map(|(bits, state, counts, ended)| {
            Op::PutJob(JobRecord { state, counts: TaskCounts(counts), ended_unix_ms: ended, ..job(bits) })
        }),
        1 => (0..4u64).prop_map(|bits| Op::RemoveJob(id(bits))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(op(), 1..4).prop_map(Step::Submit),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Default)]
struct Model {
    /// In the order of submission.
    jobs: Vec<JobRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
}

impl Model {
    /// Applies one operation; false if it is refused.
    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::InsertJob(row) => {
                let new = self.jobs.iter().all(|job| job.id != row.id);
                if new {
                    self.jobs.push(row.clone());
                }
                new
            }
            Op::PutTask(row) => {
                let known = self.jobs.iter().any(|job| job.id == row.id.job);
                if known {
                    self.tasks.insert(row.id, row.clone());
                }
                known
            }
            Op::PutJob(row) => {
                let job = self.jobs.iter_mut().find(|job| job.id == row.id);
                let known = job.is_some();
                if let Some(job) = job {
                    job.clone_from(row);
                }
                known
            }
            Op::RemoveJob(id) => {
                self.jobs.retain(|job| job.id != *id);
                self.tasks.retain(|task, _| task.job != *id);
                true
            }
            // Not among the steps.
            Op::PutNode(_) | Op::RemoveNode(_) | Op::PutTarget(_) | Op::RemoveTarget(_) => true,
            Op::PutSnapshotRef { .. } | Op::RemoveSnapshotRefs { .. } | Op::Identity(_) => true,
        }
    }

    /// Applies a submission whole or not at all; whether it was.
    fn submit(&mut self, ops: &[Op]) -> bool {
        let mut next = self.clone();
        let accepted = ops.iter().all(|op| next.apply(op));
        if accepted {
            *self = next;
        }
        accepted
    }

    fn assert_same(&self, store: &Metadata) {
        let listed: Vec<_> = store
            .jobs(&all_jobs())
            .unwrap()
            .iter()
            .map(|job| job.id)
            .collect();
        assert_eq!(
            listed,
            self.jobs.iter().rev().map(|job| job.id).collect::<Vec<_>>()
        );
        assert_eq!(store.last_job().unwrap(), self.jobs.last().map(|job| job.id));
        for job in &self.jobs {
            assert_eq!(store.job(job.id).unwrap().as_ref(), Some(job));
            let of_job = |state: &dyn Fn(TaskState) -> bool| -> Vec<TaskRecord> {
                self.tasks
                    .values()
                    .filter(|task| task.id.job == job.id && state(task.state))
                    .cloned()
                    .collect()
            };
            assert_eq!(
                store.tasks(job.id, &tasks_from(0, 100, &[])).unwrap(),
                of_job(&|_| true)
            );
            let few = [TaskState::Queued, TaskState::Failed];
            let expected: Vec<_> = of_job(&|state| few.contains(&state))
                .into_iter()
                .filter(|task| task.id.index >= 1)
                .take(2)
                .collect();
            assert_eq!(store.tasks(job.id, &tasks_from(1, 2, &few)).unwrap(), expected);
            let active = store
                .active()
                .unwrap()
                .into_iter()
                .find(|active| active.job.id == job.id);
            assert_eq!(active.is_none(), job.state.is_terminal());
            if let Some(active) = active {
                assert_eq!(active.open, of_job(&|state| !state.is_terminal()));
                let ended: Vec<u32> = active.ended.into_iter().flatten().collect();
                assert_eq!(
                    ended,
                    of_job(&TaskState::is_terminal)
                        .iter()
                        .map(|task| task.id.index)
                        .collect::<Vec<_>>()
                );
            }
        }
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Metadata::open(directory.path()).unwrap();
        let mut model = Model::default();
        // Submissions go in without waiting for each other, so that they share transactions.
        let (told, results) = mpsc::channel();
        let mut expected = Vec::new();
        for step in &steps {
            match step {
                Step::Submit(ops) => {
                    expected.push(model.submit(ops));
                    let told = told.clone();
                    store.commit(ops.clone(), move |result| told.send(result.is_ok()).unwrap());
                }
                Step::Reopen => {
                    drop(store);
                    store = Metadata::open(directory.path()).unwrap();
                    model.assert_same(&store);
                }
            }
        }
        let accepted: Vec<_> = results.iter().take(expected.len()).collect();
        prop_assert_eq!(accepted, expected);
        model.assert_same(&store);
    }
}
