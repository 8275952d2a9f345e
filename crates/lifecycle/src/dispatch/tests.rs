//! Random histories against the invariants, and the stories that a history must not get wrong.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::placement;
use crate::task::Update;
use haul_types::{ArraySpec, EnvironmentSpec, ExitStatus};

fn spec(array: Option<&str>) -> Arc<JobSpec> {
    Arc::new(JobSpec {
        name: "t".into(),
        command: vec!["true".into()],
        snapshot: haul_types::Digest::of(b""),
        working_dir: String::new(),
        env: BTreeMap::new(),
        environment: EnvironmentSpec::Node,
        array: array.map(|text| text.parse::<ArraySpec>().unwrap()),
        timeout: None,
        grace: Duration::from_secs(1),
    })
}

fn node(number: u8) -> NodeName {
    NodeName::try_from(format!("n{number}")).unwrap()
}

fn id(number: u64) -> JobId {
    JobId::from_bits(number).unwrap()
}

fn update(attempt: AttemptId, state: TaskState) -> Update {
    let (reason, exit) = match state {
        TaskState::Succeeded => (Reason::Exited, Some(ExitStatus::Code(0))),
        TaskState::Failed => (Reason::Exited, Some(ExitStatus::Code(1))),
        TaskState::Canceled => (Reason::CanceledByUser, Some(ExitStatus::Signal(15))),
        TaskState::Running => (Reason::Started, None),
        _ => (Reason::Exited, None),
    };
    let detail = String::new();
    Update {
        attempt,
        state,
        reason,
        detail,
        exit,
        outputs: None,
        logs: None,
        stream_lengths: [0; 3],
        ago_ms: 0,
    }
}

/// A world around a [`Dispatch`]: what was stored, and agents that hold what they were told to run.
#[derive(Default)]
struct World {
    dispatch: Dispatch,
    jobs: BTreeMap<JobId, JobRecord>,
    order: Vec<JobId>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    held: BTreeMap<u8, BTreeSet<AttemptId>>,
    connected: BTreeSet<u8>,
    slots: BTreeMap<u8, u32>,
    ever_assigned: BTreeSet<AttemptId>,
    session: u64,
    now: u64,
}

impl World {
    fn step(&mut self, event: Event, deliver: bool) {
        self.now += 1;
        let Ok(effects) = self.dispatch.step(event, self.now) else {
            return;
        };
        for job in effects.jobs {
            if let Some(before) = self.jobs.get(&job.id) {
                assert!(
                    !before.state.is_terminal(),
                    "a job that ended changed: {before:?} -> {job:?}"
                );
                assert_eq!(before.counts.total(), job.counts.total());
            } else {
                self.order.push(job.id);
            }
            self.jobs.insert(job.id, job);
        }
        for task in effects.tasks {
            if let Some(before) = self.tasks.get(&task.id) {
                assert!(
                    !before.state.is_terminal(),
                    "a task that ended changed: {before:?} -> {task:?}"
                );
                assert!(task.attempt >= before.attempt && task.timeline.starts_with(&before.timeline));
            }
            assert!(task.timeline.is_sorted_by_key(|step| step.at_unix_ms));
            self.tasks.insert(task.id, task);
        }
        for message in effects.messages {
            match message {
                Message::Assign { node, job, tasks, .. } => {
                    for (index, attempt) in tasks {
                        let attempt = AttemptId::new(job, index, attempt);
                        assert!(self.ever_assigned.insert(attempt), "{attempt} was assigned twice");
                        assert_eq!(
                            self.tasks[&attempt.task].attempt, attempt.attempt,
                            "assigned before it was stored"
                        );
                        let live = self
                            .held
                            .values()
                            .flatten()
                            .filter(|held| held.task == attempt.task);
                        assert_eq!(live.count(), 0, "two live attempts at {}", attempt.task);
                        if deliver {
                            self.held.entry(number(&node)).or_default().insert(attempt);
                        }
                    }
                }
                Message::Acknowledge { node, attempts } => {
                    for attempt in attempts {
                        assert!(
                            self.tasks[&attempt.task].state.is_terminal()
                                || self.tasks[&attempt.task].attempt > attempt.attempt
                        );
                        self.held.entry(number(&node)).or_default().remove(&attempt);
                    }
                }
                Message::Welcome { node, unwanted } => {
                    for attempt in unwanted {
                        self.held.entry(number(&node)).or_default().remove(&attempt);
                    }
                }
                Message::Stop { .. } => {}
            }
        }
        self.check_counts();
    }

    fn check_counts(&self) {
        for (id, job) in &self.jobs {
            let mut counts = [0u32; 7];
            for task in self.tasks.values().filter(|task| task.id.job == *id) {
                counts[task.state as usize - 1] += 1;
            }
            let touched: u32 = counts.iter().sum();
            let rest = if job.cancel_requested {
                TaskState::Canceled
            } else {
                TaskState::Queued
            };
            counts[rest as usize - 1] += job.counts.total() - touched;
            assert_eq!(
                counts, job.counts.0,
                "the counts of {id} are not those of its tasks"
            );
            assert_eq!(job.state, job.counts.summary());
            if let Some(parallel) = job.spec.array.and_then(|array| array.parallel) {
                let running = counts[1] + counts[2] + counts[3];
                assert!(
                    running <= parallel,
                    "{running} tasks at a time, {parallel} are allowed"
                );
            }
        }
        for status in self.dispatch.nodes() {
            assert!(status.busy <= placement::capacity(status.slots.max(4), Some(Duration::ZERO)));
        }
    }

    fn connect(&mut self, number: u8, slots: u32) {
        self.session += 1;
        self.connected.insert(number);
        self.slots.insert(number, slots);
        let held = self.held.entry(number).or_default().iter().map(|&attempt| Held {
            attempt,
            stored_as_ended: self
                .tasks
                .get(&attempt.task)
                .is_some_and(|task| task.state.is_terminal() && task.attempt == attempt.attempt),
        });
        let held = held.collect();
        self.step(
            Event::Connected {
                node: node(number),
                session: self.session,
                slots,
                held,
            },
            true,
        );
    }

    fn restart(&mut self) {
        let mut dispatch = Dispatch::default();
        for id in self.order.iter().filter(|id| !self.jobs[id].state.is_terminal()) {
            let job = &self.jobs[id];
            let records: Vec<TaskRecord> = self
                .tasks
                .values()
                .filter(|task| task.id.job == *id)
                .cloned()
                .collect();
            let (first, many) = job.spec.array.map_or((0, 1), |array| (array.first, array.len()));
            let untouched = (first..first + many)
                .filter(|index| !job.cancel_requested && records.iter().all(|task| task.id.index != *index))
                .map(|index| index..index + 1);
            let untouched = untouched.collect();
            let active = records
                .into_iter()
                .filter(|task| !task.state.is_terminal())
                .collect();
            dispatch.restore(job.clone(), active, untouched);
        }
        self.dispatch = dispatch;
        for number in std::mem::take(&mut self.connected) {
            self.connect(number, self.slots[&number]);
        }
    }
}

fn number(node: &NodeName) -> u8 {
    node.as_str()[1..].parse().unwrap()
}

#[derive(Clone, Debug)]
enum Act {
    Submit(u8),
    Cancel(u8, Option<u32>),
    Connect(u8, u32),
    Disconnect(u8),
    Progress(u8, usize, u8),
    Forget(u8),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0u8..4).prop_map(Act::Submit),
        1 => (0u8..12, proptest::option::of(0u32..8)).prop_map(|(job, task)| Act::Cancel(job, task)),
        2 => (0u8..3, 1u32..4).prop_map(|(node, slots)| Act::Connect(node, slots)),
        1 => (0u8..3).prop_map(Act::Disconnect),
        12 => (0u8..3, any::<usize>(), 2u8..8).prop_map(|(node, which, state)| Act::Progress(node, which, state)),
        1 => (0u8..3).prop_map(Act::Forget),
        1 => Just(Act::Restart),
    ]
}

fn run(acts: Vec<Act>) -> World {
    let mut world = World::default();
    let mut submitted = 0;
    for act in acts {
        match act {
            Act::Submit(kind) => {
                let array = [None, Some("1-5"), Some("3-9%2"), Some("0-2%1")][kind as usize];
                world.step(
                    Event::Submit {
                        id: id(submitted),
                        spec: spec(array),
                    },
                    true,
                );
                submitted += 1;
            }
            Act::Cancel(job, task) => world.step(
                Event::Cancel {
                    job: id(job.into()),
                    task,
                },
                true,
            ),
            Act::Connect(number, slots) => world.connect(number, slots),
            Act::Disconnect(number) => {
                world.connected.remove(&number);
                // What is assigned at this very moment is lost with the connection.
                world.step(
                    Event::Disconnected {
                        node: node(number),
                        session: world.session,
                    },
                    false,
                );
            }
            Act::Progress(number, which, state) if world.connected.contains(&number) => {
                let held: Vec<AttemptId> = world.held.entry(number).or_default().iter().copied().collect();
                if !held.is_empty() {
                    let state = TaskState::ALL[state as usize - 1];
                    let updates = vec![update(held[which % held.len()], state)];
                    world.step(
                        Event::Updates {
                            node: node(number),
                            updates,
                        },
                        true,
                    );
                }
            }
            Act::Forget(number) => {
                // A machine whose disk was lost: it comes back with nothing.
                world.held.insert(number, BTreeSet::new());
                world.connect(number, 2);
            }
            Act::Restart => world.restart(),
            Act::Progress(..) => {}
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants_and_every_job_ends(acts in proptest::collection::vec(act(), 1..120)) {
        let mut world = run(acts);
        // Now the world turns kind: every node comes back, and every attempt succeeds.
        for number in 0..3 {
            world.connect(number, 2);
        }
        for _ in 0..2000 {
            let next = world.held.iter().find_map(|(&number, held)| held.first().map(|&attempt| (number, attempt)));
            let Some((number, attempt)) = next else { break };
            let updates = vec![update(attempt, TaskState::Running), update(attempt, TaskState::Succeeded)];
            world.step(Event::Updates { node: node(number), updates }, true);
        }
        for job in world.jobs.values() {
            prop_assert!(job.state.is_terminal(), "{:?} never ended", job);
        }
        prop_assert_eq!(world.dispatch.active_jobs(), 0);
    }
}

#[test]
fn a_new_job_gets_the_next_slot_although_an_array_waits() {
    let mut world = World::default();
    world.connect(0, 2);
    world.step(
        Event::Submit {
            id: id(1),
            spec: spec(Some("1-500")),
        },
        true,
    );
    // The array's tasks prove short, so some are sent ahead.
    for _ in 0..20 {
        let attempt = *world.held[&0].first().unwrap();
        let updates = vec![
            update(attempt, TaskState::Running),
            update(attempt, TaskState::Succeeded),
        ];
        world.step(
            Event::Updates {
                node: node(0),
                updates,
            },
            true,
        );
    }
    assert!(world.held[&0].len() > 2, "nothing was sent ahead");
    world.step(
        Event::Submit {
            id: id(2),
            spec: spec(None),
        },
        true,
    );
    for _ in 0..world.held[&0].len() {
        if world.held[&0].iter().any(|attempt| attempt.task.job == id(2)) {
            return;
        }
        let attempt = *world.held[&0].first().unwrap();
        world.step(
            Event::Updates {
                node: node(0),
                updates: vec![update(attempt, TaskState::Succeeded)],
            },
            true,
        );
    }
    panic!("the new job waits behind the array");
}

#[test]
fn a_lost_assignment_is_made_again_with_another_number_and_a_lost_run_is_said_to_be_lost() {
    let mut world = World::default();
    world.connect(0, 2);
    world.step(
        Event::Submit {
            id: id(1),
            spec: spec(None),
        },
        false,
    );
    world.connect(0, 2);
    let attempt = *world.held[&0].first().unwrap();
    assert_eq!(attempt.attempt, 2);
    world.step(
        Event::Updates {
            node: node(0),
            updates: vec![update(attempt, TaskState::Running)],
        },
        true,
    );
    world.held.clear();
    world.connect(0, 2);
    let task = &world.tasks[&attempt.task];
    assert_eq!(
        (task.state, task.timeline.last().unwrap().reason),
        (TaskState::Failed, Reason::Lost)
    );
}

#[test]
fn an_update_of_a_stale_attempt_changes_nothing_and_is_acknowledged() {
    let mut world = World::default();
    world.connect(0, 1);
    world.step(
        Event::Submit {
            id: id(1),
            spec: spec(None),
        },
        true,
    );
    let current = *world.held[&0].first().unwrap();
    let stale = AttemptId {
        attempt: current.attempt + 7,
        ..current
    };
    let event = Event::Updates {
        node: node(0),
        updates: vec![update(stale, TaskState::Succeeded)],
    };
    let effects = world.dispatch.step(event, 99).unwrap();
    assert!(effects.tasks.is_empty() && effects.jobs.is_empty());
    assert_eq!(
        effects.messages,
        [Message::Acknowledge {
            node: node(0),
            attempts: vec![stale]
        }]
    );
}

#[test]
fn a_waiting_job_says_what_would_have_to_change() {
    let mut world = World::default();
    world.step(
        Event::Submit {
            id: id(1),
            spec: spec(None),
        },
        true,
    );
    assert!(world.dispatch.waiting_for(id(1)).unwrap().contains("no agent"));
    world.connect(0, 1);
    world.step(
        Event::Submit {
            id: id(2),
            spec: spec(Some("1-3%1")),
        },
        true,
    );
    assert!(world.dispatch.waiting_for(id(2)).unwrap().contains("1 slots"));
    assert_eq!(world.dispatch.waiting_for(id(1)), None);
}
